//! `spindle savepoint`, `spindle stop`, `spindle checkpoint`: snapshots of jobs that run.

use clap::Args;
use spindle_common::config::RecoveryConfig;
use spindle_common::id::JobId;
use spindle_storage::{SnapshotStorage, StorageError};

use super::{ApplicationArgs, OutputArgs, runtime};
use crate::error::{CliError, Exit};
use crate::output::{self, Format};
use crate::settings::Settings;
use crate::yarn::{self, Wanted};

/// Arguments of `spindle savepoint`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 the savepoint failed, 2 wrong usage, or there is no savepoint, 3 the cluster cannot be reached or refused."
)]
pub(super) struct SavepointArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Remove this savepoint instead of taking one.
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["job", "directory"])]
    dispose: Option<String>,
    /// The job's id, 32 hexadecimal digits.
    #[arg(value_name = "JOB_ID", required_unless_present = "dispose")]
    job: Option<JobId>,
    /// Directory to make the savepoint's own directory in [key: execution.checkpointing.savepoint-dir].
    #[arg(value_name = "DIR")]
    directory: Option<String>,
}

/// Arguments of `spindle stop`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the job has finished with a savepoint, 1 it has not, 2 wrong usage, 3 the cluster cannot be reached or refused."
)]
pub(super) struct StopArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Directory to make the savepoint's own directory in [key: execution.checkpointing.savepoint-dir].
    #[arg(short = 'p', long, visible_alias = "savepointPath", value_name = "DIR")]
    savepoint_path: Option<String>,
    /// Let all windows and timers fire before: for a job that will not be resumed.
    #[arg(short = 'd', long)]
    drain: bool,
    /// The job's id, 32 hexadecimal digits.
    #[arg(value_name = "JOB_ID")]
    job: JobId,
}

/// Arguments of `spindle checkpoint`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 the checkpoint failed, 2 wrong usage, 3 the cluster cannot be reached or refused."
)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The job's id, 32 hexadecimal digits.
    #[arg(value_name = "JOB_ID")]
    job: JobId,
}

impl SavepointArgs {
    pub(super) const fn format(&self) -> Format {
        self.output.output
    }
}

impl StopArgs {
    pub(super) const fn format(&self) -> Format {
        self.output.output
    }
}

impl CheckpointArgs {
    pub(super) const fn format(&self) -> Format {
        self.output.output
    }
}

/// Takes or removes a savepoint; the exit code.
pub(super) fn savepoint(args: &SavepointArgs) -> Result<u8, CliError> {
    if let Some(path) = &args.dispose {
        return dispose(path, args.format());
    }
    let job = args.job.ok_or_else(|| CliError::usage("no job is named"))?;
    let wanted = Wanted::Savepoint {
        directory: args.directory.clone(),
    };
    take(&args.application, job, wanted, args.format())
}

/// Stops a job with a savepoint; the exit code.
pub(super) fn stop(args: &StopArgs) -> Result<u8, CliError> {
    let wanted = Wanted::Stop {
        directory: args.savepoint_path.clone(),
        drain: args.drain,
    };
    take(&args.application, args.job, wanted, args.format())
}

/// Takes a checkpoint; the exit code.
pub(super) fn checkpoint(args: &CheckpointArgs) -> Result<u8, CliError> {
    take(
        &args.application,
        args.job,
        Wanted::Checkpoint,
        args.format(),
    )
}

fn take(
    application: &ApplicationArgs,
    job: JobId,
    mut wanted: Wanted,
    format: Format,
) -> Result<u8, CliError> {
    let settings = application.settings()?;
    let configured = settings.config.savepoints().directory;
    match &mut wanted {
        Wanted::Savepoint { directory } | Wanted::Stop { directory, .. } => {
            *directory = directory.take().or(configured);
        }
        Wanted::Checkpoint => {}
    }
    let taken = yarn::take_snapshot(&settings, application.application, job, &wanted, format);
    runtime()?.block_on(taken)
}

fn dispose(path: &str, format: Format) -> Result<u8, CliError> {
    let found = with_storage(path, async |storage| {
        let found = storage.dispose(path).await?;
        storage.settle().await;
        Ok(found)
    })?;
    output::print(&match format {
        Format::Json => {
            serde_json::json!({"event": "disposed", "path": found.directory}).to_string()
        }
        Format::Text => format!("savepoint {} is removed", found.directory),
    });
    Ok(0)
}

/// The whole snapshot that a job is to begin with.
pub(super) fn origin(recovery: &RecoveryConfig) -> Result<yarn::Origin, CliError> {
    let path = &recovery.path;
    let found = with_storage(path, async |storage| storage.load(path).await)?;
    Ok(yarn::Origin {
        directory: found.directory,
        metadata: found.metadata,
        allow_unclaimed: recovery.ignore_unclaimed_state,
    })
}

fn with_storage<T>(
    path: &str,
    work: impl AsyncFnOnce(&SnapshotStorage) -> Result<T, StorageError>,
) -> Result<T, CliError> {
    let hadoop = Settings::hadoop_if_there()?.unwrap_or_default();
    let user = spindle_hadoop::user::current().map_err(|cause| {
        CliError::usage("cannot tell who you are to Hadoop")
            .because(cause)
            .hint("set HADOOP_USER_NAME")
    })?;
    runtime()?.block_on(async {
        let storage = SnapshotStorage::of_hadoop(&hadoop.to_pairs(), &user);
        let storage = storage.map_err(|error| failed(path, error))?;
        work(&storage).await.map_err(|error| failed(path, error))
    })
}

fn failed(path: &str, error: StorageError) -> CliError {
    let is_usage = matches!(
        error,
        StorageError::Path { .. } | StorageError::Hadoop { .. } | StorageError::NoSavepoint { .. }
    );
    let exit = if is_usage || error.is_damage() {
        Exit::Usage
    } else {
        Exit::Cluster
    };
    CliError::new(exit, format!("cannot use the snapshot `{path}`"))
        .because(error)
        .hint("`spindle state DIR` lists the snapshots of a directory")
}
