//! Processes die in the middle of a bounded job: its result is what it would have been, or its end names the cause.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Process, Role, kill_9, with_role};
use spindle_tests::spindle::{Attached, binary};

use super::{LIMIT, fresh, run_json, trial};

const RECORDS: u64 = 60_000;
const KEYS: u64 = 100;

/// The rows of the undisturbed run: each key with its number of records and their sum, by arithmetic.
fn expected() -> Vec<String> {
    let mut rows: Vec<String> = (0..KEYS)
        .map(|key| {
            let count = RECORDS / KEYS;
            let sum: u64 = (0..count).map(|n| key + n * KEYS).sum();
            format!("{key},{count},{sum}")
        })
        .collect();
    rows.sort();
    rows
}

fn start(output: &str, settings: &[&str]) -> (Attached, String) {
    let mut command = run_json();
    command.args(["-p", "3"]).args(settings).arg(trial());
    command.args([
        "--records",
        &RECORDS.to_string(),
        "--rate",
        "12000",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    (client, application)
}

fn some(application: &str, role: Role) -> Process {
    wait(LIMIT, "a process to kill", || {
        with_role(application, role).into_iter().next()
    })
}

/// Kills one process of a role in the middle of the job.
fn killed_once(role: Role) {
    let output = fresh("killed-once");
    let (mut client, application) = start(&output, &[]);
    client.wait_for(LIMIT, "records", |event| {
        event["event"] == "progress" && event["records_in"].as_u64() > Some(3000)
    });
    kill_9(some(&application, role).pid);
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "job_state" && event["state"] == "RESTARTING"),
        "it restarted: {events:#?}"
    );
    assert_eq!(hadoop().rows(&output), expected());
    assert_eq!(hadoop().part_files(&output).len(), 3);
}

#[test]
fn a_job_whose_task_executor_is_killed_restarts_and_ends_right() {
    killed_once(Role::TaskExecutor);
}

#[test]
fn a_job_whose_worker_is_killed_restarts_and_ends_right() {
    killed_once(Role::Worker);
}

#[test]
fn a_job_whose_application_master_is_killed_starts_again_and_ends_right() {
    let output = fresh("master-killed");
    let (mut client, application) = start(&output, &[]);
    client.wait_for(LIMIT, "records", |event| {
        event["event"] == "progress" && event["records_in"].as_u64() > Some(3000)
    });
    kill_9(some(&application, Role::ApplicationMaster).pid);
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(hadoop().rows(&output), expected());
}

#[test]
fn a_job_whose_workers_are_killed_again_and_again_fails_with_the_cause() {
    let output = fresh("killed-again");
    // Long enough a delay for the client to see each restart.
    let settings = [
        "-D",
        "restart-strategy.type=fixed-delay",
        "-D",
        "restart-strategy.fixed-delay.attempts=2",
        "-D",
        "restart-strategy.fixed-delay.delay=1 s",
    ];
    let (mut client, application) = start(&output, &settings);
    for _ in 0..2 {
        client.wait_state("RUNNING", LIMIT);
        kill_9(some(&application, Role::Worker).pid);
        client.wait_state("RESTARTING", LIMIT);
    }
    client.wait_state("RUNNING", LIMIT);
    kill_9(some(&application, Role::Worker).pid);
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 1, "{events:#?}");
    let app = hadoop().app(&application);
    assert_eq!(app["finalStatus"], "FAILED");
    let diagnostics = app["diagnostics"].as_str().unwrap();
    assert!(
        diagnostics.contains("worker") && diagnostics.contains("signal 9"),
        "{diagnostics}"
    );
    assert_eq!(hadoop().part_files(&output), Vec::<String>::new());
}

/// Spindle's executables with a TaskExecutor that ends at once.
fn broken_installation() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["spindle", "spindle-yarn-am"] {
        fs::copy(binary(name), directory.path().join(name)).unwrap();
    }
    let executor = directory.path().join("spindle-taskexecutor");
    fs::write(
        &executor,
        "#!/bin/sh\necho 'broken on purpose' >&2\nexit 7\n",
    )
    .unwrap();
    fs::set_permissions(&executor, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[test]
fn task_managers_that_never_start_fail_the_job_with_the_cause() {
    let output = fresh("never-start");
    let installation = broken_installation();
    let mut command = Command::new(installation.path().join("spindle"));
    command
        .env("HADOOP_CONF_DIR", hadoop().conf_dir())
        .args(["run", "-t", "yarn-per-job", "--output", "json", "-p", "2"])
        .arg(trial())
        .args(["--records", "10", "--output", &format!("hdfs://{output}")]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 1, "{events:#?}");
    let app = hadoop().wait_app(&application, Duration::from_secs(10), |app| {
        app["state"] == "FINISHED"
    });
    assert_eq!(app["finalStatus"], "FAILED");
    let diagnostics = app["diagnostics"].as_str().unwrap();
    for part in ["exit code 7", "broken on purpose"] {
        assert!(
            diagnostics.contains(part),
            "`{part}` is not in: {diagnostics}"
        );
    }
}
