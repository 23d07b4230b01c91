//! A job's executable: alone it runs its job, at a client it writes its plan, in a TaskManager it is a worker.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use spindle_common::PROTOCOL_VERSION;
use spindle_common::config::{Config, options};
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::program::{
    EXIT_UNREACHABLE, EXIT_USAGE, MARKER, MODE_VARIABLE, PLAN_MODE, PlanInit, WORKER_MODE,
    WorkerInit,
};
use spindle_dataflow::task::Dataflow;
use spindle_hadoop::conf::Configuration;

use crate::backend;
use crate::context::{IoContext, PlanError};
use crate::embedded;
use crate::environment::StreamEnvironment;
use crate::graph::{BuildError, Planning};

/// What a program may fail with while it describes its job: any error, `anyhow`'s and `clap`'s included.
pub type ProgramError = Box<dyn Error + Send + Sync>;

/// What the description of a job returns.
pub type Result<T, E = ProgramError> = std::result::Result<T, E>;

/// A client looks for these bytes before it runs a file as a job.
static JOB_MARKER: [u8; MARKER_BYTES] = marker();

const VERSION_DIGITS: usize = PROTOCOL_VERSION.ilog10() as usize + 1;
const MARKER_BYTES: usize = MARKER[0].len() + MARKER[1].len() + VERSION_DIGITS + 1;

const fn marker() -> [u8; MARKER_BYTES] {
    let mut bytes = [0; MARKER_BYTES];
    let mut at = 0;
    let mut part = 0;
    while part < MARKER.len() {
        let text = MARKER[part].as_bytes();
        let mut from = 0;
        while from < text.len() {
            bytes[at] = text[from];
            at += 1;
            from += 1;
        }
        part += 1;
    }
    let mut digit = 0;
    let mut version = PROTOCOL_VERSION;
    while digit < VERSION_DIGITS {
        digit += 1;
        bytes[at + VERSION_DIGITS - digit] = b'0' + (version % 10) as u8;
        version /= 10;
    }
    bytes
}

/// Runs the program of a job, to be called from `main`. `describe` builds the dataflow; it is called in the client and again in
/// every worker, and has to build the same each time.
///
/// Alone, the job runs in this process: exit 0 if it finished, 1 if it failed, 2 if it cannot be run as described, 3 if a system
/// that it needs does not answer.
pub fn main(name: &str, describe: impl FnOnce(&mut StreamEnvironment) -> Result<()>) -> ExitCode {
    black_box(&JOB_MARKER);
    match std::env::var(MODE_VARIABLE) {
        Err(_) => embedded::run(name, describe),
        Ok(mode) if mode == PLAN_MODE => plan(name, describe),
        Ok(mode) if mode == WORKER_MODE => worker(name, describe),
        Ok(mode) => {
            complain(&format!(
                "{MODE_VARIABLE} is `{mode}`: expected `{PLAN_MODE}` or `{WORKER_MODE}`"
            ));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Why there is no dataflow.
#[derive(Debug)]
pub(crate) struct NoDataflow {
    /// One sentence.
    pub(crate) message: String,
    /// [`EXIT_USAGE`] or [`EXIT_UNREACHABLE`].
    pub(crate) exit: u8,
}

impl NoDataflow {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: EXIT_USAGE,
        }
    }
}

/// Has the program describe its job.
pub(crate) fn describe_job(
    name: &str,
    config: &[(String, String)],
    io: Arc<IoContext>,
    planning: Planning,
    describe: impl FnOnce(&mut StreamEnvironment) -> Result<()>,
) -> Result<Dataflow, NoDataflow> {
    let config = Config::from_pairs(config).map_err(|error| NoDataflow::usage(report(&error)))?;
    backend::check(&config).map_err(NoDataflow::usage)?;
    let mut env = StreamEnvironment::new(config.get(&options::PARALLELISM), io);
    env.set_max_parallelism(config.get(&options::MAX_PARALLELISM));
    if !config.get(&options::OPERATOR_CHAINING) {
        env.disable_operator_chaining();
    }
    describe(&mut env).map_err(|error| NoDataflow::usage(report(&*error)))?;
    let name = config
        .get(&options::PIPELINE_NAME)
        .unwrap_or_else(|| name.to_owned());
    env.build(&name, planning).map_err(|error| NoDataflow {
        exit: match &error {
            BuildError::Plan {
                error: PlanError::Unreachable(_),
                ..
            } => EXIT_UNREACHABLE,
            BuildError::Plan { .. } | BuildError::Invalid(_) => EXIT_USAGE,
        },
        message: match error {
            BuildError::Plan { operator, error } => format!("{operator}: {error}"),
            BuildError::Invalid(error) => error.to_string(),
        },
    })
}

fn plan(name: &str, describe: impl FnOnce(&mut StreamEnvironment) -> Result<()>) -> ExitCode {
    let init: PlanInit = match first_line() {
        Ok(init) => init,
        Err(message) => {
            complain(&message);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let io = IoContext::new(Configuration::from_pairs(init.hadoop), init.user);
    let written = of_job(io, &init.config)
        .and_then(|io| describe_job(name, &init.config, io, Planning::Plan, describe))
        .and_then(|dataflow| {
            let bytes = spindle_rpc::job_graph::encode_plan(&dataflow.graph);
            std::fs::write(&init.plan_file, bytes).map_err(|error| {
                NoDataflow::usage(format!(
                    "cannot write the plan to `{}`: {error}",
                    init.plan_file
                ))
            })
        });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The client prints what is in the file.
            if let Err(cause) = std::fs::write(format!("{}.error", init.plan_file), &error.message)
            {
                complain(&error.message);
                complain(&format!(
                    "cannot write beside `{}`: {cause}",
                    init.plan_file
                ));
            }
            ExitCode::from(error.exit)
        }
    }
}

fn worker(name: &str, describe: impl FnOnce(&mut StreamEnvironment) -> Result<()>) -> ExitCode {
    let init: WorkerInit = match first_line() {
        Ok(init) => init,
        Err(message) => {
            complain(&message);
            return ExitCode::FAILURE;
        }
    };
    let hadoop = Configuration::from_pairs(init.hadoop.iter().map(|(k, v)| (k, v.clone())));
    let io = IoContext::new(hadoop, init.user.clone());
    let dataflow = of_job(io, &init.config)
        .and_then(|io| describe_job(name, &init.config, io, Planning::Skip, describe));
    let dataflow = dataflow.map_err(|error| FailureCause {
        class: FailureClass::FailJob,
        operator: None,
        message: format!(
            "the program describes no job in its worker: {}",
            error.message
        ),
    });
    let dataflow = dataflow.and_then(|dataflow| {
        let backend = backend::of_job(&init.config).map_err(|message| FailureCause {
            class: FailureClass::FailJob,
            operator: None,
            message,
        })?;
        Ok((dataflow, backend))
    });
    match spindle_worker::process::run(dataflow, init) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&report(&error));
            ExitCode::FAILURE
        }
    }
}

fn of_job(io: IoContext, settings: &[(String, String)]) -> Result<Arc<IoContext>, NoDataflow> {
    let io = io.of_job(settings);
    io.map(Arc::new)
        .map_err(|error| NoDataflow::usage(report(&error)))
}

fn first_line<T: DeserializeOwned>() -> Result<T, String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    serde_json::from_str(&line).map_err(|error| {
        format!("the first line of standard input is not what {MODE_VARIABLE} announces: {error}")
    })
}

/// An error with its causes, in one line or as many as the program's own error has.
pub(crate) fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors repeat their cause in their own words.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

pub(crate) fn complain(message: &str) {
    // There is nobody left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_ends_with_the_version_and_a_zero_byte() {
        let text = format!("{}{}{PROTOCOL_VERSION}\0", MARKER[0], MARKER[1]);
        assert_eq!(JOB_MARKER, *text.as_bytes());
    }

    fn io() -> Arc<IoContext> {
        Arc::new(IoContext::new(Configuration::new(), "test".to_owned()))
    }

    fn describe(
        config: &[(&str, &str)],
        program: impl FnOnce(&mut StreamEnvironment) -> Result<()>,
    ) -> Result<Dataflow, NoDataflow> {
        let config: Vec<_> = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        describe_job("job", &config, io(), Planning::Plan, program)
    }

    #[test]
    fn settings_give_the_name_and_the_parallelism() {
        let config = [("parallelism.default", "3"), ("pipeline.name", "mine")];
        let dataflow = describe(&config, |env| {
            env.generate(1, |n| n).collect("all");
            Ok(())
        })
        .unwrap();
        assert_eq!(dataflow.graph.name, "mine");
        assert_eq!(dataflow.graph.vertices[0].parallelism, 3);
    }

    #[test]
    fn plan_and_worker_build_graphs_of_one_fingerprint() {
        let program = |env: &mut StreamEnvironment| {
            env.generate(100, |n| n)
                .key_by(|n| n % 3)
                .reduce(|a, b| a + b)
                .collect("sums");
            Ok(())
        };
        let planned = describe_job("job", &[], io(), Planning::Plan, program).unwrap();
        let built = describe_job("job", &[], io(), Planning::Skip, program).unwrap();
        assert_eq!(planned.graph.fingerprint(), built.graph.fingerprint());
        assert_eq!(planned.graph.first_difference(&built.graph), None);
        assert!(built.graph.vertices[0].splits.is_empty());
    }

    #[test]
    fn what_the_program_complains_of_is_usage() {
        let error = describe(&[], |_| Err("--input is missing".into()))
            .err()
            .unwrap();
        assert_eq!(
            (error.exit, error.message.as_str()),
            (EXIT_USAGE, "--input is missing")
        );
    }

    #[test]
    fn a_program_without_operators_is_told_what_it_lacks() {
        let error = describe(&[], |_| Ok(())).err().unwrap();
        assert_eq!(error.exit, EXIT_USAGE);
        assert!(error.message.contains("no operators"), "{}", error.message);
    }
}
