//! The command line: one file a verb.

mod argv;
mod doctor;
mod gc;
mod info;
mod jobs;
mod run;
mod savepoints;
mod session;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, CommandFactory, Parser, Subcommand};
use spindle_hadoop::yarn::ApplicationId;

use crate::error::{CliError, Exit};
use crate::output::{Format, Reporter};
use crate::settings::{Layers, Settings};

/// Runs streaming jobs on Hadoop YARN.
#[derive(Debug, Parser)]
#[command(
    name = "spindle",
    version,
    max_term_width = 120,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a job.
    Run(run::RunArgs),
    /// Prints the plan of a job without running it.
    Info(info::InfoArgs),
    /// Lists the jobs of a session or another application that run.
    List(jobs::ListArgs),
    /// Cancels a job.
    Cancel(jobs::CancelArgs),
    /// Takes a savepoint of a job, or disposes of one.
    Savepoint(savepoints::SavepointArgs),
    /// Stops a job with a savepoint.
    Stop(savepoints::StopArgs),
    /// Takes a checkpoint of a job.
    Checkpoint(savepoints::CheckpointArgs),
    /// Prints the logs of containers that run.
    Logs(jobs::LogsArgs),
    /// Starts, lists, stays with and stops sessions.
    Session(session::SessionArgs),
    /// Prints what is in a checkpoint or savepoint.
    State(state::StateArgs),
    /// Checks the cluster before you need it.
    Doctor(doctor::DoctorArgs),
    /// Removes from HDFS what applications have left behind.
    Gc(gc::GcArgs),
}

/// A job's executable and its arguments.
#[derive(Debug, Args)]
struct JobArgs {
    /// The job: an executable whose `main` is `spindle_stream::main`.
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// Arguments of the job.
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<String>,
}

/// Which application is meant.
#[derive(Debug, Args)]
struct ApplicationArgs {
    /// The application: -yid APPLICATION [default: the session started last, else the only one there is].
    #[arg(long = "yid", visible_aliases = ["id", "yarnapplicationId"], value_name = "APPLICATION")]
    application: Option<ApplicationId>,
    /// A setting, such as `-D yarn.staging-directory=hdfs:///staging`.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
    /// Directory of `spindle-conf.yaml` [default: $SPINDLE_CONF_DIR, else `conf` beside the installation].
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
}

impl ApplicationArgs {
    fn settings(&self) -> Result<Settings, CliError> {
        Settings::load(&Layers {
            conf_dir: self.conf_dir.clone(),
            define: self.define.clone(),
            flags: Vec::new(),
        })
    }
}

/// Settings over those of `spindle-conf.yaml`.
#[derive(Debug, Args)]
struct SettingArgs {
    /// A setting, such as `-D taskmanager.memory.process.size=2g` (docs/configuration.md lists all).
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
    /// Number of parallel subtasks of each operator that does not set its own [key: parallelism.default].
    #[arg(short, long, value_name = "N")]
    parallelism: Option<u32>,
    /// Directory of `spindle-conf.yaml` [default: $SPINDLE_CONF_DIR, else `conf` beside the installation].
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
}

impl SettingArgs {
    fn layers(&self) -> Layers {
        let parallelism = self
            .parallelism
            .map(|n| ("-p", "parallelism.default".to_owned(), n.to_string()));
        Layers {
            conf_dir: self.conf_dir.clone(),
            define: self.define.clone(),
            flags: parallelism.into_iter().collect(),
        }
    }
}

/// Form of what is printed.
#[derive(Debug, Args)]
struct OutputArgs {
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let start = Instant::now();
    // Clap ends the process itself for --help (0) and for wrong usage (2).
    let cli = Cli::parse_from(argv::rewrite(&Cli::command(), std::env::args_os()));
    log_to_stderr();
    let (format, outcome) = match cli.command {
        Verb::Run(args) => {
            let format = args.format();
            (format, run::run(args, &mut Reporter::new(format, start)))
        }
        Verb::Info(args) => (args.format(), info::info(args)),
        Verb::List(args) => (args.format(), jobs::list(&args)),
        Verb::Cancel(args) => (args.format(), jobs::cancel(&args)),
        Verb::Savepoint(args) => (args.format(), savepoints::savepoint(&args)),
        Verb::Stop(args) => (args.format(), savepoints::stop(&args)),
        Verb::Checkpoint(args) => (args.format(), savepoints::checkpoint(&args)),
        Verb::Logs(args) => (args.format(), jobs::logs(&args)),
        Verb::Session(args) => {
            let format = args.format();
            (
                format,
                session::session(args, &mut Reporter::new(format, start)),
            )
        }
        Verb::State(args) => (args.format(), state::state(&args)),
        Verb::Doctor(args) => (args.format(), doctor::doctor(args)),
        Verb::Gc(args) => (args.format(), gc::gc(args)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = error.exit as u8;
            Reporter::new(format, start).error(error);
            ExitCode::from(code)
        }
    }
}

/// Logging is for those who look for a fault: `SPINDLE_LOG=debug`.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SPINDLE_LOG")
        .unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// A runtime for a command.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| CliError::new(Exit::Usage, "cannot start the runtime").because(cause))
}
