//! Runs a job's executable in plan mode and takes its job graph.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use spindle_common::job_graph::JobGraph;
use spindle_common::program::{EXIT_UNREACHABLE, EXIT_USAGE, MODE_VARIABLE, PLAN_MODE, PlanInit};

use crate::error::{CliError, Exit};

/// Runs `executable` with the user's arguments and returns the graph that it builds. Blocks until it has ended.
///
/// What the program prints goes to this terminal's standard error, so that standard output stays ours.
pub(crate) fn plan(
    executable: &Path,
    args: &[String],
    config: Vec<(String, String)>,
    hadoop: Vec<(String, String)>,
    user: &str,
) -> Result<JobGraph, CliError> {
    let shown = executable.display().to_string();
    let directory = tempfile::tempdir().map_err(|cause| {
        CliError::usage("cannot make a temporary directory for the plan").because(cause)
    })?;
    let plan_file = directory.path().join("plan.pb");
    let init = PlanInit {
        plan_file: plan_file.display().to_string(),
        config,
        hadoop,
        user: user.to_owned(),
    };
    let line = serde_json::to_string(&init).expect("a plan request is plain data");

    let cannot_start = |cause: std::io::Error| {
        CliError::usage(format!("cannot start the job `{shown}` to plan it")).because(cause)
    };
    let mut child = Command::new(executable)
        .args(args)
        .env(MODE_VARIABLE, PLAN_MODE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot_start)?;
    // A program that never reads is reported by its exit, not by the broken pipe.
    if let Some(mut stdin) = child.stdin.take() {
        drop(writeln!(stdin, "{line}"));
    }
    let output = child.wait_with_output().map_err(cannot_start)?;
    drop(std::io::stderr().write_all(&output.stdout));

    if output.status.success() {
        let bytes = std::fs::read(&plan_file).map_err(|cause| {
            CliError::usage(format!("the job `{shown}` ended without a plan"))
                .because(cause)
                .hint("its `main` has to return what `spindle_stream::main` returns")
        })?;
        let graph = spindle_rpc::job_graph::decode_plan(&bytes).map_err(|cause| {
            CliError::usage(format!("the plan of the job `{shown}` cannot be used")).because(cause)
        })?;
        graph.validate().map_err(|cause| {
            CliError::usage(format!("the plan of the job `{shown}` cannot be run")).because(cause)
        })?;
        return Ok(graph);
    }
    let exit = if output.status.code() == Some(i32::from(EXIT_UNREACHABLE)) {
        Exit::Cluster
    } else {
        Exit::Usage
    };
    let reason = std::fs::read_to_string(plan_file.with_extension("pb.error")).unwrap_or_default();
    Err(match reason.trim() {
        // The program has said itself what is wrong with its arguments, on standard error.
        "" if output.status.code() == Some(i32::from(EXIT_USAGE)) => {
            CliError::new(exit, format!("the job `{shown}` refused its arguments"))
        }
        "" => CliError::new(
            exit,
            format!(
                "the job `{shown}` could not be planned: it ended with {}",
                output.status
            ),
        ),
        reason => CliError::new(exit, format!("the job `{shown}` cannot run: {reason}")),
    })
}
