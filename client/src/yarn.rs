//! Jobs on YARN, each as an application of its own.

mod artifacts;
mod checks;
mod cluster;
pub(crate) mod scheduler;
mod submission;
mod user;
mod waiting;
mod watch;

use std::path::PathBuf;

use spindle_common::job_graph::{JobSubmission, ProgramSpec};
use spindle_common::{deployment, id::JobId};

use crate::error::CliError;
use crate::output::{Event, Reporter, new_job_id};
use crate::plan;
use crate::settings::Settings;
use artifacts::Artifact;
use cluster::Cluster;
pub(crate) use user::{applications_of_user, base};

/// A job's executable, read, and its arguments.
pub(crate) struct Job {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) args: Vec<String>,
}

/// Submits a job as an application of its own and, if attached, watches it to its end; the exit code.
///
/// Everything that can be refused is refused before the first byte is uploaded.
pub(crate) async fn run_per_job(
    job: Job,
    settings: Settings,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let own = artifacts::own()?;
    let Job { path, bytes, args } = job;

    let planned = {
        let (path, args) = (path.clone(), args.clone());
        let (config, hadoop, user) = (
            settings.config.to_pairs(),
            hadoop.to_pairs(),
            settings.user.clone(),
        );
        tokio::task::spawn_blocking(move || plan::plan(&path, &args, config, hadoop, &user))
    };
    // The cluster answers while the program plans.
    let cluster = Cluster::connect(&hadoop, &settings.user).await?;
    let limits = cluster.limits(&settings.yarn.queue).await?;
    checks::check(&settings, &limits)?;
    let graph = planned
        .await
        .map_err(|cause| CliError::usage("planning the job was interrupted").because(cause))??;

    let name = settings
        .yarn
        .name
        .clone()
        .unwrap_or_else(|| graph.name.clone());
    reporter.set_name(&name);
    let job_id: JobId = new_job_id();
    let submission = JobSubmission {
        job: job_id,
        graph,
        program: ProgramSpec {
            executable: deployment::JOB_EXECUTABLE.to_owned(),
            args,
            artifact: None,
        },
        config: settings.config.to_pairs(),
    };

    let mut wanted = own;
    wanted.push(Artifact {
        name: deployment::JOB_EXECUTABLE.to_owned(),
        bytes,
    });
    let uploaded = artifacts::upload(&cluster, &settings, wanted).await?;
    reporter.event(&Event::Uploaded {
        bytes: uploaded.bytes,
        files: uploaded.files,
    });

    let mut application = submission::submit(
        &cluster,
        &settings,
        &hadoop,
        &name,
        &limits,
        &submission,
        &uploaded,
    )
    .await?;
    reporter.event(&Event::Submitted {
        application_id: application.id.to_string(),
        job_id: job_id.to_string(),
        tracking_url: application.tracking_url.clone(),
        bytes_uploaded: uploaded.bytes + application.staged_bytes,
    });
    let ended = watch::watch(&cluster, &settings, &application, job_id, reporter).await;
    application.settle().await;
    ended
}
