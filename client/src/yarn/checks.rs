//! What the cluster would refuse, refused here, before anything is uploaded.

use spindle_common::resource::ResourceProfile;

use crate::error::CliError;
use crate::settings::Settings;

/// What the cluster allows, as its ResourceManager says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limits {
    /// The application's id, given by the ResourceManager.
    pub(crate) application: spindle_hadoop::yarn::ApplicationId,
    /// The largest container.
    pub(crate) largest: ResourceProfile,
    /// Leaf queues, by full path; empty when the ResourceManager does not tell.
    pub(crate) queues: Vec<String>,
    /// Nodes that can run containers.
    pub(crate) nodes: u32,
}

/// Compares what is wanted with what the cluster allows.
pub(crate) fn check(settings: &Settings, limits: &Limits) -> Result<(), CliError> {
    fits(
        "the ApplicationMaster",
        "jobmanager.memory.process.size",
        settings.yarn.master,
        limits.largest,
    )?;
    fits(
        "a TaskManager",
        "taskmanager.memory.process.size",
        settings.yarn.container,
        limits.largest,
    )?;
    queue_exists(&settings.yarn.queue, &limits.queues)
}

fn fits(
    who: &str,
    key: &str,
    wanted: ResourceProfile,
    largest: ResourceProfile,
) -> Result<(), CliError> {
    if wanted.memory > largest.memory {
        let most = largest.memory;
        return Err(CliError::usage(format!(
            "{who} needs a container of {} MiB, the largest that this cluster gives is {} MiB",
            wanted.memory.as_mib_ceil(),
            most.as_mib_ceil()
        ))
        .hint(format!("set {key} to {most} or less, or ask an admin to raise yarn.scheduler.maximum-allocation-mb")));
    }
    if wanted.vcores > largest.vcores {
        return Err(CliError::usage(format!(
            "{who} needs a container of {} vcores, the largest that this cluster gives has {}",
            wanted.vcores, largest.vcores
        ))
        .hint(format!(
            "set yarn.containers.vcores or yarn.appmaster.vcores to {} or less",
            largest.vcores
        )));
    }
    Ok(())
}

/// A queue may be named by its last part or its full path, with or without `root.`.
fn queue_exists(wanted: &str, queues: &[String]) -> Result<(), CliError> {
    let short = |queue: &str| queue.rsplit('.').next().unwrap_or_default().to_owned();
    let known = |queue: &String| {
        queue == wanted
            || queue.strip_prefix("root.") == Some(wanted)
            || (!wanted.contains('.') && short(queue) == wanted)
    };
    if queues.is_empty() || queues.iter().any(known) {
        return Ok(());
    }
    Err(
        CliError::usage(format!("the queue `{wanted}` does not exist")).hint(format!(
            "queues of this cluster: {} (yarn.application.queue, --queue)",
            queues.join(", ")
        )),
    )
}

#[cfg(test)]
mod tests {
    use spindle_common::resource::ByteSize;

    use super::*;

    #[test]
    fn a_queue_is_known_by_its_leaf_or_its_path() {
        let queues = ["root.default".to_owned(), "root.etl.night".to_owned()];
        for known in [
            "default",
            "root.default",
            "night",
            "etl.night",
            "root.etl.night",
        ] {
            assert!(queue_exists(known, &queues).is_ok(), "{known}");
        }
        for unknown in ["defualt", "root.night", "etl"] {
            let error = queue_exists(unknown, &queues).unwrap_err();
            assert!(
                error
                    .hint_text()
                    .unwrap()
                    .contains("root.default, root.etl.night"),
                "{unknown}"
            );
        }
        assert!(
            queue_exists("anything", &[]).is_ok(),
            "a ResourceManager that tells no queues decides itself"
        );
    }

    #[test]
    fn a_container_beyond_the_largest_names_the_setting() {
        let profile = |mib, vcores| ResourceProfile {
            memory: ByteSize::from_mib(mib),
            vcores,
        };
        assert!(fits("x", "k", profile(1024, 1), profile(1024, 1)).is_ok());
        let error = fits(
            "a TaskManager",
            "taskmanager.memory.process.size",
            profile(4096, 1),
            profile(1024, 1),
        )
        .unwrap_err();
        assert!(
            error.message().contains("4096 MiB") && error.message().contains("1024 MiB"),
            "{}",
            error.message()
        );
        assert!(
            error
                .hint_text()
                .unwrap()
                .contains("taskmanager.memory.process.size to 1g")
        );
        assert!(
            fits("x", "k", profile(1, 9), profile(1024, 4))
                .unwrap_err()
                .message()
                .contains("9 vcores")
        );
    }
}
