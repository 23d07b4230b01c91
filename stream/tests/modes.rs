//! A job's executable in the ways it can be started. This file is one: it starts itself again.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test with a main of its own"
)]

use std::io::Write as _;
use std::process::{Command, ExitCode, Output, Stdio};

use spindle_common::program::{MODE_VARIABLE, PLAN_MODE, PlanInit};
use spindle_rpc::job_graph::decode_plan;
use spindle_stream::StreamEnvironment;

/// Makes this executable a job instead of a test.
const JOB_VARIABLE: &str = "SPINDLE_TEST_JOB";

fn main() -> ExitCode {
    let Ok(job) = std::env::var(JOB_VARIABLE) else {
        the_plan_is_in_its_file_whatever_the_program_prints();
        a_complaint_of_the_program_is_in_the_error_file();
        a_complaint_that_cannot_be_left_in_a_file_is_printed();
        input_of_another_form_is_refused();
        alone_the_program_runs_its_job_and_prints_what_it_collects();
        a_job_that_fails_names_the_operator_on_standard_error();
        return ExitCode::SUCCESS;
    };
    spindle_stream::main("test job", move |env: &mut StreamEnvironment| {
        println!("the program prints");
        if job == "complains" {
            return Err("--input is missing".into());
        }
        env.generate(1000, |n| n)
            .map(move |n| if job == "panics" { panic!("no") } else { n })
            .name("check")
            .key_by(|n| n % 2)
            .reduce(|a, b| a.max(b))
            .filter(|n| *n >= 998)
            .collect("largest");
        Ok(())
    })
}

fn start(job: &str, mode: Option<&str>, input: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(JOB_VARIABLE, job)
        .env_remove(MODE_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(mode) = mode {
        command.env(MODE_VARIABLE, mode);
    }
    let mut child = command.spawn().unwrap();
    // A program that runs alone reads no input and may be over already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn plan(job: &str) -> (Output, tempfile::TempDir) {
    plan_into(job, "plan")
}

fn plan_into(job: &str, file: &str) -> (Output, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let init = PlanInit {
        plan_file: dir.path().join(file).to_str().unwrap().to_owned(),
        config: vec![("parallelism.default".to_owned(), "2".to_owned())],
        hadoop: Vec::new(),
        user: "test".to_owned(),
    };
    let line = serde_json::to_string(&init).unwrap() + "\n";
    (start(job, Some(PLAN_MODE), &line), dir)
}

fn the_plan_is_in_its_file_whatever_the_program_prints() {
    let (output, dir) = plan("works");
    assert!(output.status.success(), "{output:?}");
    let graph = decode_plan(&std::fs::read(dir.path().join("plan")).unwrap()).unwrap();
    assert_eq!(graph.name, "test job");
    assert_eq!(graph.vertices[0].name(), "Generator -> check");
    assert_eq!(graph.vertices[0].splits.len(), 2);
    assert_eq!(graph.validate(), Ok(()));
}

fn a_complaint_of_the_program_is_in_the_error_file() {
    let (output, dir) = plan("complains");
    assert_eq!(output.status.code(), Some(2));
    let said = std::fs::read_to_string(dir.path().join("plan.error")).unwrap();
    assert_eq!(said, "--input is missing");
    assert!(!dir.path().join("plan").exists());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed, "", "the client prints it");
}

fn a_complaint_that_cannot_be_left_in_a_file_is_printed() {
    let (output, _) = plan_into("complains", "no such directory/plan");
    assert_eq!(output.status.code(), Some(2));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("--input is missing"), "{printed}");
    assert!(printed.contains("cannot write beside"), "{printed}");
}

fn input_of_another_form_is_refused() {
    let output = start("works", Some(PLAN_MODE), "{}\n");
    assert_eq!(output.status.code(), Some(2));
    let output = start("works", Some("dance"), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`dance`"));
}

fn alone_the_program_runs_its_job_and_prints_what_it_collects() {
    let output = start("works", None, "");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["998", "999", "the program prints"]);
}

fn a_job_that_fails_names_the_operator_on_standard_error() {
    let output = start("panics", None, "");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("check"), "{said}");
}
