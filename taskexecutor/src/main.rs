//! `spindle-taskexecutor`: the process that a JobManager starts in each of its containers.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context as _;
use spindle_common::deployment::LOG_VARIABLE;
use spindle_hadoop::token::Credentials;
use spindle_taskexecutor::boot;
use spindle_taskexecutor::shell::{self, End};
use tracing_subscriber::EnvFilter;

/// What a process that a signal ended exits with: 128 and the number of the signal.
const TERMINATED: u8 = 128 + 15;
/// What is logged if nobody asks for something else.
const DEFAULT_LOG: &str = "info";

fn main() -> ExitCode {
    match run() {
        Ok(End::ShutDown) => ExitCode::SUCCESS,
        Ok(End::Terminated) => ExitCode::from(TERMINATED),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ending");
            // The last words, for whoever reads the container's standard error.
            let _ = writeln!(std::io::stderr(), "spindle-taskexecutor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<End> {
    let log_dir = boot::log_dir(std::env::var(boot::LOG_DIRS_VARIABLE).ok().as_deref());
    start_log(&log_dir);
    let credentials = Credentials::from_environment().context("cannot start")?;
    let (spec, secret) = boot::read(&credentials).context("cannot start")?;
    tracing::info!(
        resource = spec.resource,
        job_manager = spec.job_manager,
        slots = spec.slots,
        "starting"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start its runtime")?;
    let end = runtime.block_on(shell::run(spec, secret, log_dir));
    runtime.shutdown_background();
    Ok(end?)
}

fn start_log(log_dir: &std::path::Path) {
    let filter =
        EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    match boot::open_log(log_dir) {
        Ok(file) => log.with_writer(Mutex::new(file)).init(),
        Err(_) => log.with_writer(std::io::stderr).init(),
    }
}
