//! Jobs on YARN, each as an application of its own or several on a session.

mod artifacts;
mod checks;
mod cluster;
mod follow;
mod jobs;
mod logs;
mod reports;
pub(crate) mod scheduler;
pub(crate) mod session;
mod ship;
mod snapshots;
mod submission;
mod user;
mod waiting;
mod watch;

use std::path::PathBuf;

use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::deployment;
use spindle_common::job_graph::{JobGraph, JobSubmission, ProgramSpec};
use spindle_hadoop::conf::Configuration;

use crate::error::CliError;
use crate::output::{Event, Reporter, new_job_id};
use crate::plan;
use crate::settings::Settings;
use artifacts::Artifact;
use cluster::Cluster;
use follow::Follower;
pub(crate) use jobs::{cancel, list, sessions};
pub(crate) use logs::{Whose, logs};
pub(crate) use snapshots::{Wanted, take_snapshot};
use submission::Purpose;
pub(crate) use user::{applications_of_user, base};

/// A job's executable, read, and its arguments.
pub(crate) struct Job {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) args: Vec<String>,
    /// What it begins with.
    pub(crate) origin: Option<Origin>,
}

/// The snapshot that a job begins with.
pub(crate) struct Origin {
    pub(crate) directory: String,
    pub(crate) metadata: SnapshotMetadata,
    /// Whether it may have state of operators that the job does not have.
    pub(crate) allow_unclaimed: bool,
}

impl Origin {
    fn fits(&self, graph: &JobGraph) -> Result<(), CliError> {
        let fits = self.metadata.fits(graph, self.allow_unclaimed);
        fits.map_err(|misfit| {
            let hint = misfit.remedy();
            CliError::usage(format!("the job cannot begin with `{}`", self.directory))
                .because(misfit)
                .hint(hint)
        })
    }
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
    let shipped = ship::read(&settings)?;
    let Job {
        path,
        bytes,
        args,
        origin,
    } = job;

    let cluster = Cluster::open(&hadoop, &settings.user)?;
    // The cluster answers while the program plans.
    let planned = planned(path, args.clone(), origin, &settings, &hadoop);
    let limited = async {
        let queue = &settings.yarn.queue;
        let (limits, ()) = tokio::try_join!(cluster.limits(queue), cluster.reach_fs())?;
        checks::check(&settings, &limits)?;
        Ok(limits)
    };
    let (limits, graph) = tokio::try_join!(limited, planned)?;

    let name = settings
        .yarn
        .name
        .clone()
        .unwrap_or_else(|| graph.name.clone());
    let job_id = new_job_id();
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
    let application = NewApplication {
        name: name.clone(),
        limits,
        purpose: Purpose::Job(Box::new(submission)),
        files: with_job(own, bytes, shipped),
        job: Some(Follower::new(job_id, name)),
    };
    application
        .run(&cluster, &settings, &hadoop, reporter)
        .await
}

/// Submits a program that is planned in its application's own container and, if attached, watches it to its end; the exit code.
pub(crate) async fn run_application(
    job: Job,
    settings: Settings,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let own = artifacts::own()?;
    let shipped = ship::read(&settings)?;
    // What it begins with is looked at where its program is planned.
    let Job {
        path, bytes, args, ..
    } = job;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let queue = &settings.yarn.queue;
    let (limits, ()) = tokio::try_join!(cluster.limits(queue), cluster.reach_fs())?;
    checks::check(&settings, &limits)?;
    let file = path.file_name().unwrap_or(path.as_os_str());
    let name = [&settings.yarn.name, &settings.execution.name]
        .into_iter()
        .find_map(Clone::clone)
        .unwrap_or_else(|| file.display().to_string());
    let application = NewApplication {
        name,
        limits,
        purpose: Purpose::Program(args),
        files: with_job(own, bytes, shipped),
        job: None,
    };
    application
        .run(&cluster, &settings, &hadoop, reporter)
        .await
}

fn with_job(mut files: Vec<Artifact>, bytes: Vec<u8>, shipped: Vec<Artifact>) -> Vec<Artifact> {
    files.push(Artifact {
        name: deployment::JOB_EXECUTABLE.to_owned(),
        bytes,
    });
    files.extend(shipped);
    files
}

/// The graph that a program builds, in a process of its own. It can begin with what it is to begin with.
async fn planned(
    path: PathBuf,
    args: Vec<String>,
    origin: Option<Origin>,
    settings: &Settings,
    hadoop: &Configuration,
) -> Result<JobGraph, CliError> {
    let (config, hadoop) = (settings.config.to_pairs(), hadoop.to_pairs());
    let user = settings.user.clone();
    let plan = move || plan::plan(&path, &args, config, hadoop, &user);
    let planned = tokio::task::spawn_blocking(plan).await;
    let graph = planned
        .map_err(|cause| CliError::usage("planning the job was interrupted").because(cause))??;
    if let Some(origin) = origin {
        origin.fits(&graph)?;
    }
    Ok(graph)
}

/// An application that nothing speaks against.
struct NewApplication {
    name: String,
    limits: checks::Limits,
    purpose: Purpose,
    files: Vec<Artifact>,
    /// Its job, if it is known before.
    job: Option<Follower>,
}

impl NewApplication {
    /// Uploads, submits, watches; the exit code.
    async fn run(
        self,
        cluster: &Cluster,
        settings: &Settings,
        hadoop: &Configuration,
        reporter: &mut Reporter,
    ) -> Result<u8, CliError> {
        reporter.set_name(&self.name);
        let uploaded = artifacts::upload(cluster, settings, self.files).await?;
        reporter.event(&Event::Uploaded {
            bytes: uploaded.bytes,
            files: uploaded.files,
        });
        let (name, limits, purpose) = (&self.name, &self.limits, &self.purpose);
        let mut application =
            submission::submit(cluster, settings, hadoop, name, limits, purpose, &uploaded).await?;
        reporter.event(&Event::Submitted {
            application_id: application.id.to_string(),
            job_id: self.job.as_ref().map(|job| job.job.to_string()),
            tracking_url: application.tracking_url.clone(),
            bytes_uploaded: uploaded.bytes + application.staged_bytes,
            to_session: false,
        });
        let ended = watch::watch(cluster, settings, &application, self.job, reporter).await;
        application.settle().await;
        ended
    }
}
