//! A program run by itself: its job on the cluster within.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use spindle_common::config::Config;
use spindle_common::id::FencingToken;
use spindle_common::job_graph::{JobSubmission, ProgramSpec};
use spindle_common::program::{EXIT_USAGE, SETTINGS_VARIABLE};
use spindle_hadoop::conf::{ConfError, Configuration};
use spindle_jobmanager::message::FinalStatus;
use spindle_jobmanager::{ClusterMode, JobManagerConfig};

use crate::context::IoContext;
use crate::environment::StreamEnvironment;
use crate::graph::Planning;
use crate::mini_cluster;
use crate::program::{NoDataflow, Result, complain, describe_job, report};

/// The exit codes of `spindle run`, for the job's outcome.
const EXIT_FAILED: u8 = 1;
const EXIT_KILLED: u8 = 4;

pub(crate) fn run(
    name: &str,
    describe: impl FnOnce(&mut StreamEnvironment) -> Result<()>,
) -> ExitCode {
    // Only if the program has not set up its own.
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .finish();
    let _ = tracing::subscriber::set_global_default(log);
    match try_run(name, describe) {
        Ok(exit) => exit,
        Err(error) => {
            complain(&error.message);
            ExitCode::from(error.exit)
        }
    }
}

fn try_run(
    name: &str,
    describe: impl FnOnce(&mut StreamEnvironment) -> Result<()>,
) -> Result<ExitCode, NoDataflow> {
    let pairs = settings(std::env::var(SETTINGS_VARIABLE).ok().as_deref())?;
    let config = Config::from_pairs(&pairs).map_err(|error| NoDataflow::usage(report(&error)))?;
    let hadoop = match Configuration::discover(&|variable| std::env::var(variable).ok()) {
        Ok(hadoop) => hadoop,
        // Without Hadoop's configuration paths are local.
        Err(ConfError::NotFound { .. }) => Configuration::new(),
        Err(error) => return Err(NoDataflow::usage(report(&error))),
    };
    let user =
        spindle_hadoop::user::current().map_err(|error| NoDataflow::usage(report(&error)))?;
    let io = IoContext::new(hadoop, user)
        .of_job(&pairs)
        .map_err(|error| NoDataflow::usage(report(&error)))?;
    let io = Arc::new(io);
    let dataflow = describe_job(name, &pairs, Arc::clone(&io), Planning::Plan, describe)?;
    let submission = JobSubmission {
        job: mini_cluster::JOB,
        graph: dataflow.graph.clone(),
        program: ProgramSpec {
            executable: String::new(),
            args: Vec::new(),
            artifact: None,
        },
        config: pairs,
    };
    let mode = ClusterMode::PerJob { attached: false };
    let settings = JobManagerConfig::of(&config, mode, FencingToken(1));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("spindle-cluster")
        .enable_all()
        .build()
        .map_err(|error| NoDataflow::usage(format!("cannot start threads: {error}")))?;
    let ended = runtime
        .block_on(mini_cluster::run(dataflow, submission, settings, io))
        .map_err(|error| NoDataflow::usage(format!("cannot run the embedded cluster: {error}")))?;
    match ended.outcome.status {
        FinalStatus::Succeeded => {
            let collected = ended.job.map(|job| job.collected).unwrap_or_default();
            print_collected(&collected)?;
            Ok(ExitCode::SUCCESS)
        }
        FinalStatus::Failed => {
            complain(&ended.outcome.diagnostics);
            Ok(ExitCode::from(EXIT_FAILED))
        }
        FinalStatus::Killed => {
            complain(&ended.outcome.diagnostics);
            Ok(ExitCode::from(EXIT_KILLED))
        }
    }
}

fn settings(text: Option<&str>) -> Result<Vec<(String, String)>, NoDataflow> {
    text.unwrap_or_default()
        .lines()
        .filter(|setting| !setting.trim().is_empty())
        .map(|setting| match setting.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(NoDataflow::usage(format!(
                "`{setting}` in {SETTINGS_VARIABLE} is no setting: expected key=value"
            ))),
        })
        .collect()
}

fn print_collected(
    collected: &std::collections::BTreeMap<String, Vec<u8>>,
) -> Result<(), NoDataflow> {
    let mut out = std::io::stdout().lock();
    for lines in collected.values() {
        out.write_all(lines).map_err(|error| NoDataflow {
            message: format!("cannot write to standard output: {error}"),
            exit: EXIT_USAGE,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_one_a_line() {
        let pairs = settings(Some("parallelism.default=3\n\npipeline.name = a=b\n")).unwrap();
        let expected = [("parallelism.default", "3"), ("pipeline.name", "a=b")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(settings(None).unwrap().is_empty());
        assert!(settings(Some("parallelism")).is_err());
    }
}
