//! What YARN and its admins see of an application, and what is left of it.

use std::time::{Duration, Instant};

use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Role, of_application, with_role};
use spindle_tests::spindle::{Attached, run};

use super::{LIMIT, fresh, run_json, trial, user};

fn staging(application: &str) -> String {
    format!("/user/{}/.spindle/{application}", user())
}

fn staging_is_gone(application: &str) {
    wait(
        Duration::from_secs(10),
        "the staging directory to be gone",
        || {
            let there = hadoop()
                .try_fs(&["-test", "-e", &staging(application)])
                .status
                .success();
            (!there).then_some(())
        },
    );
}

fn no_process_is_left(application: &str, limit: Duration) {
    wait(limit, "the processes of the application to be gone", || {
        of_application(application).is_empty().then_some(())
    });
}

#[test]
fn the_resource_manager_shows_type_name_progress_and_success() {
    let output = fresh("shown");
    let mut command = run_json();
    command
        .args(["-p", "2", "--name", "shown in the list"])
        .arg(trial());
    command.args([
        "--records",
        "40000",
        "--rate",
        "8000",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    client.wait_state("RUNNING", LIMIT);

    let app = hadoop().app(&application);
    assert_eq!(app["applicationType"], "Spindle");
    assert_eq!(app["name"], "shown in the list");
    assert_eq!(app["user"], user());
    assert!(
        app["trackingUrl"]
            .as_str()
            .unwrap()
            .contains(&format!("/proxy/{application}")),
        "{}",
        app["trackingUrl"]
    );

    // The status page, through YARN's proxy, as an admin opens it.
    let page = ureq::get(app["trackingUrl"].as_str().unwrap()).call();
    let page = page
        .expect("the proxy answers")
        .body_mut()
        .read_to_string()
        .unwrap();
    for part in ["<html", "shown in the list", "count upwards", "RUNNING"] {
        assert!(page.contains(part), "`{part}` is not in: {page}");
    }

    let progress = |app: &serde_json::Value| app["progress"].as_f64().unwrap_or(0.0);
    let first = hadoop().wait_app(&application, LIMIT, |app| {
        progress(app) > 0.0 && progress(app) < 100.0
    });
    hadoop().wait_app(&application, LIMIT, |app| progress(app) > progress(&first));

    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let app = hadoop().app(&application);
    assert_eq!(
        (app["state"].as_str(), app["finalStatus"].as_str()),
        (Some("FINISHED"), Some("SUCCEEDED"))
    );
    assert_eq!(hadoop().rows(&output).len(), trial_keys());
    staging_is_gone(&application);
    no_process_is_left(&application, Duration::from_secs(10));
}

/// Number of keys that the trial job counts.
fn trial_keys() -> usize {
    100
}

#[test]
fn a_panic_of_user_code_fails_the_application_with_the_cause_in_one_sentence() {
    let output = fresh("panic");
    let mut command = run_json();
    command
        .args(["-D", "restart-strategy.type=none"])
        .arg(trial());
    command.args([
        "--records",
        "1000",
        "--panic-at",
        "500",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 1, "{events:#?}");

    let app = hadoop().app(&application);
    assert_eq!(
        (app["state"].as_str(), app["finalStatus"].as_str()),
        (Some("FINISHED"), Some("FAILED"))
    );
    let diagnostics = app["diagnostics"].as_str().unwrap();
    for part in [
        "trial",
        "operator `count upwards`",
        "record 500 is one too many",
    ] {
        assert!(
            diagnostics.contains(part),
            "`{part}` is not in: {diagnostics}"
        );
    }
    assert_eq!(diagnostics.trim().lines().count(), 1, "{diagnostics}");
    let error = events
        .iter()
        .find(|event| event["event"] == "error")
        .expect("the client tells the error");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("record 500 is one too many"),
        "{error}"
    );
    assert_eq!(
        hadoop().part_files(&output),
        Vec::<String>::new(),
        "nothing half-done is visible"
    );
    staging_is_gone(&application);
    no_process_is_left(&application, Duration::from_secs(10));
}

#[test]
fn an_application_killed_by_the_resource_manager_leaves_nothing() {
    let output = fresh("killed");
    let mut command = run_json();
    command.args(["-p", "2"]).arg(trial());
    command.args([
        "--records",
        "10000000",
        "--rate",
        "1000",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    client.wait_state("RUNNING", LIMIT);
    wait(LIMIT, "two workers", || {
        (with_role(&application, Role::Worker).len() == 2).then_some(())
    });

    hadoop().kill(&application);
    let killed = Instant::now();
    no_process_is_left(&application, Duration::from_secs(10));
    println!("no process left {:?} after the kill", killed.elapsed());
    let app = hadoop().wait_app(&application, LIMIT, |app| app["state"] == "KILLED");
    assert_eq!(app["finalStatus"], "KILLED");
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 4, "{events:#?}");
    staging_is_gone(&application);
}

#[test]
fn a_detached_client_leaves_at_once_and_the_job_goes_on() {
    let output = fresh("detached");
    let mut command = run_json();
    command.arg("-d").arg(trial()).args([
        "--records",
        "1000",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let outcome = run(&mut command);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let submitted: serde_json::Value = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|event| event["event"] == "submitted")
        .expect("the submission is told");
    let application = submitted["application_id"].as_str().unwrap();
    let app = hadoop().wait_app(application, LIMIT, |app| app["state"] == "FINISHED");
    assert_eq!(app["finalStatus"], "SUCCEEDED");
    assert_eq!(hadoop().rows(&output).len(), trial_keys());
    staging_is_gone(application);
}

#[test]
fn ctrl_c_leaves_the_job_running_and_says_so() {
    let output = fresh("interrupted");
    let mut command = run_json();
    command.arg(trial()).args([
        "--records",
        "20000",
        "--rate",
        "4000",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    client.wait_state("RUNNING", LIMIT);
    interrupt(client.pid());
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 130, "{events:#?}");
    assert!(
        events.iter().any(|event| event["event"] == "detached"),
        "{events:#?}"
    );
    let app = hadoop().wait_app(&application, LIMIT, |app| app["state"] == "FINISHED");
    assert_eq!(app["finalStatus"], "SUCCEEDED");
    assert_eq!(hadoop().rows(&output).len(), trial_keys());
}

#[test]
fn ctrl_c_with_shutdown_on_exit_cancels_the_job() {
    let output = fresh("cancelled");
    let mut command = run_json();
    command.arg("--shutdown-on-exit").arg(trial()).args([
        "--records",
        "10000000",
        "--rate",
        "1000",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    client.wait_state("RUNNING", LIMIT);
    interrupt(client.pid());
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 4, "{events:#?}");
    assert_eq!(hadoop().app(&application)["finalStatus"], "KILLED");
    assert_eq!(hadoop().part_files(&output), Vec::<String>::new());
    staging_is_gone(&application);
    no_process_is_left(&application, Duration::from_secs(10));
}

fn interrupt(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-INT", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn collected_rows_reach_the_client() {
    let mut command = run_json();
    command
        .args(["-p", "2"])
        .arg(trial())
        .args(["--records", "1000", "--collect"]);
    let (code, events) = Attached::start(&mut command).end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let rows: usize = events
        .iter()
        .filter(|event| event["event"] == "collected")
        .map(|event| event["rows"].as_array().unwrap().len())
        .sum();
    assert_eq!(rows, trial_keys());
}

#[test]
fn a_second_submission_uploads_nothing_but_a_plan() {
    let bytes = |events: &[serde_json::Value]| {
        events
            .iter()
            .find(|event| event["event"] == "submitted")
            .expect("the submission is told")["bytes_uploaded"]
            .as_u64()
            .unwrap()
    };
    let submit = || {
        let mut command = run_json();
        command.arg(trial()).args(["--records", "10", "--collect"]);
        let (code, events) = Attached::start(&mut command).end(LIMIT);
        assert_eq!(code, 0, "{events:#?}");
        bytes(&events)
    };
    submit();
    assert!(submit() <= 100_000);
}
