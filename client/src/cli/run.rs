//! `spindle run`: a job on a cluster, watched to its end.

use std::process::{Command, ExitStatus};

use clap::{Args, ValueEnum};
use spindle_common::config::{ExecutionTarget, options};
use spindle_common::program::SETTINGS_VARIABLE;
use spindle_hadoop::yarn::ApplicationId;

use super::{JobArgs, OutputArgs, SettingArgs, runtime, savepoints};
use crate::error::CliError;
use crate::output::{Format, Reporter};
use crate::settings::{Layers, Settings};
use crate::{job_file, yarn};

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// In this machine's memory, in one process.
    Local,
    /// On YARN, as an application of its own that ends with the job.
    YarnPerJob,
    /// On YARN, as an application of its own that plans the job itself.
    YarnApplication,
    /// On a session that runs on YARN.
    YarnSession,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::YarnPerJob => "yarn-per-job",
            Self::YarnApplication => "yarn-application",
            Self::YarnSession => "yarn-session",
        }
    }
}

/// Arguments of `spindle run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the job finished (detached: was accepted), 1 it failed, 2 wrong usage, configuration or input, \
                        3 the cluster cannot be reached or refused, 4 the job was cancelled, 130 Ctrl-C: the job goes on."
)]
pub(crate) struct RunArgs {
    /// Where to run the job [key: execution.target].
    #[arg(short, long, value_enum, value_name = "TARGET")]
    target: Option<Target>,
    /// The session to run the job on: -yid APPLICATION [default: the session started last, else the only one there is].
    #[arg(
        long = "yid",
        visible_alias = "yarnapplicationId",
        value_name = "APPLICATION"
    )]
    session: Option<ApplicationId>,
    /// Return as soon as YARN has accepted the application, or the session the job.
    #[arg(short, long)]
    detached: bool,
    /// Name of the application and the job [key: yarn.application.name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Queue to submit to [key: yarn.application.queue].
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Begin with this savepoint or checkpoint: its directory [key: execution.state-recovery.path].
    #[arg(
        short = 's',
        long = "from-savepoint",
        visible_alias = "fromSavepoint",
        value_name = "PATH"
    )]
    from_savepoint: Option<String>,
    /// Leave state behind whose operators the job does not have [key: execution.state-recovery.ignore-unclaimed-state].
    #[arg(
        short = 'n',
        long,
        visible_alias = "allowNonRestoredState",
        requires = "from_savepoint"
    )]
    allow_non_restored_state: bool,
    /// Whose the savepoint is from now on: NO_CLAIM (yours) or CLAIM (the job's) [key: execution.state-recovery.claim-mode].
    #[arg(
        long,
        visible_alias = "claimMode",
        value_name = "MODE",
        requires = "from_savepoint"
    )]
    claim_mode: Option<String>,
    /// Cancel the job when this client is stopped by Ctrl-C [key: execution.shutdown-on-attached-exit].
    #[arg(long, conflicts_with = "detached")]
    shutdown_on_exit: bool,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    job: JobArgs,
}

impl RunArgs {
    pub(crate) const fn format(&self) -> Format {
        self.output.output
    }

    /// The flags that stand for settings, over the `-D` ones.
    fn layers(&self) -> Layers {
        let mut layers = self.settings.layers();
        let mut flag = |flag: &'static str, key: &'static str, value: Option<String>| {
            if let Some(value) = value {
                layers.flags.push((flag, key.to_owned(), value));
            }
        };
        flag(
            "--target",
            "execution.target",
            self.target.map(|target| target.name().to_owned()),
        );
        flag("--name", "yarn.application.name", self.name.clone());
        flag("--name", "pipeline.name", self.name.clone());
        flag(
            "--from-savepoint",
            "execution.state-recovery.path",
            self.from_savepoint.clone(),
        );
        flag(
            "--allow-non-restored-state",
            "execution.state-recovery.ignore-unclaimed-state",
            self.allow_non_restored_state.then(|| "true".to_owned()),
        );
        flag(
            "--claim-mode",
            "execution.state-recovery.claim-mode",
            self.claim_mode.clone(),
        );
        flag("--queue", "yarn.application.queue", self.queue.clone());
        flag(
            "--detached",
            "execution.attached",
            self.detached.then(|| "false".to_owned()),
        );
        flag(
            "--shutdown-on-exit",
            "execution.shutdown-on-attached-exit",
            self.shutdown_on_exit.then(|| "true".to_owned()),
        );
        layers
    }
}

/// Runs the job where it is to run; the exit code.
pub(crate) fn run(args: RunArgs, reporter: &mut Reporter) -> Result<u8, CliError> {
    let job = job_file::read(&args.job.job)?;
    let settings = Settings::load(&args.layers())?;
    if args.session.is_some() && settings.execution.target != ExecutionTarget::YarnSession {
        return Err(
            CliError::usage("-yid names a session, but the job is to run elsewhere")
                .hint("say -t yarn-session"),
        );
    }
    let recovery = settings.config.savepoints().recovery;
    let origin = recovery.as_ref().map(savepoints::origin).transpose()?;
    match settings.execution.target {
        ExecutionTarget::Local => local(&args.job, &settings),
        ExecutionTarget::YarnPerJob => {
            let job = yarn_job(args.job, job, origin);
            runtime()?.block_on(yarn::run_per_job(job, settings, reporter))
        }
        ExecutionTarget::YarnApplication => {
            let job = yarn_job(args.job, job, origin);
            runtime()?.block_on(yarn::run_application(job, settings, reporter))
        }
        ExecutionTarget::YarnSession => {
            let job = yarn_job(args.job, job, origin);
            runtime()?.block_on(yarn::session::run(job, settings, args.session, reporter))
        }
        ExecutionTarget::Remote => {
            let origin = settings.config.origin(&options::EXECUTION_TARGET);
            Err(CliError::usage(format!(
                "this version does not run jobs on that target ({origin})"
            ))
            .hint("targets: local, yarn-per-job, yarn-application, yarn-session"))
        }
    }
}

fn yarn_job(job: JobArgs, bytes: Vec<u8>, origin: Option<yarn::Origin>) -> yarn::Job {
    yarn::Job {
        path: job.job,
        bytes,
        args: job.args,
        origin,
    }
}

/// Runs the executable as it is: it has a cluster of its own inside.
fn local(job: &JobArgs, settings: &Settings) -> Result<u8, CliError> {
    let definitions: Vec<_> = settings
        .config
        .to_pairs()
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let program = std::path::absolute(&job.job).unwrap_or_else(|_| job.job.clone());
    let status: ExitStatus = Command::new(&program)
        .args(&job.args)
        .env(SETTINGS_VARIABLE, definitions.join("\n"))
        .status()
        .map_err(|cause| {
            CliError::usage(format!("cannot start the job `{}`", job.job.display())).because(cause)
        })?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}
