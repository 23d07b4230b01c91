//! Removes what lies on a file system only for the time of the application.

use std::time::Duration;

use spindle_common::id::JobId;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{FileSystem, FsError};
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::proto::yarn as pb;
use spindle_hadoop::yarn::{
    ApplicationId, FailoverPolicy, ResourceManagerClient, ResourceManagers,
};

use crate::process::report;

/// Longer than this a removal is not waited for: it is named in the log and stays behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where checkpoints go that nobody has named a directory for: beside the staging directories of the user's applications, so that
/// those that are kept outlive their application.
pub(crate) fn checkpoints_beside(staging: &str) -> String {
    let staging = staging.trim_end_matches('/');
    let home = staging.rsplit_once('/').map_or(staging, |(home, _)| home);
    format!("{home}/checkpoints")
}

/// Something that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// A directory with all that is in it.
    Whole(String),
    /// The job's part of a directory that jobs share; the directory itself goes with its last part.
    Part { directory: String, job: JobId },
}

impl Leftover {
    /// What a job leaves in the directories of its sinks.
    pub(crate) fn of_job(job: JobId, directories: impl IntoIterator<Item = String>) -> Vec<Self> {
        let directories = directories.into_iter();
        directories
            .map(|directory| Self::Part { directory, job })
            .collect()
    }

    /// Whose it is, if it is one job's.
    pub(crate) const fn job(&self) -> Option<JobId> {
        match self {
            Self::Whole(_) => None,
            Self::Part { job, .. } => Some(*job),
        }
    }

    fn directory(&self) -> &str {
        match self {
            Self::Whole(directory) | Self::Part { directory, .. } => directory,
        }
    }
}

/// Removes what is left over, side by side; what cannot be removed is said in the log.
pub(crate) async fn remove(fs: FileSystem, leftovers: Vec<Leftover>) {
    let mut removals = tokio::task::JoinSet::new();
    for leftover in leftovers {
        let fs = fs.clone();
        removals.spawn(async move {
            let directory = leftover.directory();
            match tokio::time::timeout(PATIENCE, remove_one(&fs, &leftover)).await {
                Ok(Ok(existed)) => tracing::info!(directory, existed, "removed staging"),
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(directory, error, "staging stays behind");
                }
                Err(_) => tracing::warn!(directory, "staging stays behind: no answer in time"),
            }
        });
    }
    while removals.join_next().await.is_some() {}
}

async fn remove_one(fs: &FileSystem, leftover: &Leftover) -> Result<bool, FsError> {
    let directory = fs.resolve(leftover.directory())?;
    match leftover {
        Leftover::Whole(_) => fs.delete(&directory, true).await,
        Leftover::Part { job, .. } => {
            let existed = fs.delete(&directory.join(&job.to_string())?, true).await?;
            if let Err(error) = fs.delete(&directory, false).await {
                tracing::debug!(%directory, error = report(&error), "others are at work there");
            }
            Ok(existed)
        }
    }
}

/// Whether the ResourceManager says that the application is over: then nobody needs its staging any more. A new attempt would.
pub(crate) async fn application_is_over(
    hadoop: &Configuration,
    user: &str,
    application: ApplicationId,
) -> bool {
    let Ok(managers) = hadoop.resource_managers() else {
        return false;
    };
    let (Ok(members), Ok(config)) = (
        ResourceManagers::clients(&managers),
        ClientConfig::from_configuration(hadoop),
    ) else {
        return false;
    };
    let client = ResourceManagerClient::new(members, user, config, FailoverPolicy::ONCE);
    let report = client.application_report(application).await;
    report.is_ok_and(|report| {
        matches!(
            report.yarn_application_state(),
            pb::YarnApplicationState::Killed
                | pb::YarnApplicationState::Failed
                | pb::YarnApplicationState::Finished
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_jobs_part_goes_and_with_the_last_part_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path().join("shared");
        let jobs = [JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16])];
        for job in jobs {
            std::fs::create_dir_all(shared.join(job.to_string()).join("0-0")).unwrap();
        }
        let conf = Configuration::from_pairs([("fs.defaultFS", "file:///")]);
        let fs = FileSystem::new(&conf, "alice").unwrap();
        let uri = format!("file://{}", shared.display());
        remove(fs.clone(), Leftover::of_job(jobs[0], [uri.clone()])).await;
        let left = std::fs::read_dir(&shared).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [jobs[1].to_string().as_str()]);
        remove(fs, Leftover::of_job(jobs[1], [uri])).await;
        assert!(!shared.exists() && directory.path().exists());
    }
}
