//! `spindle list`, `spindle cancel`, `spindle logs`: jobs that are there already.

use clap::Args;
use spindle_common::id::JobId;

use super::{ApplicationArgs, OutputArgs, runtime};
use crate::error::CliError;
use crate::output::Format;
use crate::yarn::{self, Whose};

/// Arguments of `spindle list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Jobs that are over, too.
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `spindle cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The job's id, 32 hexadecimal digits.
    #[arg(value_name = "JOB_ID")]
    job: JobId,
}

/// Arguments of `spindle logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only the last lines of each file.
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// An application, or a job: then the logs of its workers.
    #[arg(value_name = "APPLICATION|JOB_ID")]
    whose: Whose,
}

impl ListArgs {
    pub(super) const fn format(&self) -> Format {
        self.output.output
    }
}

impl CancelArgs {
    pub(super) const fn format(&self) -> Format {
        self.output.output
    }
}

impl LogsArgs {
    pub(super) const fn format(&self) -> Format {
        self.output.output
    }
}

/// Lists jobs.
pub(super) fn list(args: &ListArgs) -> Result<u8, CliError> {
    let settings = args.application.settings()?;
    let listed = yarn::list(
        &settings,
        args.application.application,
        args.all,
        args.format(),
    );
    runtime()?.block_on(listed)
}

/// Cancels a job.
pub(super) fn cancel(args: &CancelArgs) -> Result<u8, CliError> {
    let settings = args.application.settings()?;
    let cancelled = yarn::cancel(
        &settings,
        args.application.application,
        args.job,
        args.format(),
    );
    runtime()?.block_on(cancelled)
}

/// Prints logs.
pub(super) fn logs(args: &LogsArgs) -> Result<u8, CliError> {
    let settings = args.application.settings()?;
    let printed = yarn::logs(
        &settings,
        args.whose,
        args.application.application,
        args.tail,
        args.format(),
    );
    runtime()?.block_on(printed)
}
