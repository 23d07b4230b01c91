//! A client that is killed at any instant leaves nothing in HDFS that `spindle gc` does not remove.

use std::time::Duration;

use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::kill_9;
use spindle_tests::spindle::{Outcome, run, spindle};

use super::{LIMIT, fresh, trial};

/// A user of this test alone: what others do in their homes does not matter.
const USER: &str = "killed";

fn home() -> String {
    format!("/user/{USER}")
}

/// Every path below a directory, without the size and time of each.
fn tree(directory: &str) -> Vec<String> {
    let listing = hadoop().try_fs(&["-ls", "-R", directory]);
    let text = String::from_utf8_lossy(&listing.stdout).into_owned();
    let mut paths: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    paths.sort();
    paths
}

fn gc() -> Outcome {
    let mut command = spindle(&hadoop().conf_dir());
    command.env("HADOOP_USER_NAME", USER).args([
        "gc",
        "--older-than",
        "0s",
        "--cache-older-than",
        "0s",
    ]);
    run(&mut command)
}

#[test]
fn a_client_killed_at_any_step_leaves_nothing_that_gc_does_not_remove() {
    hadoop().fs(&["-mkdir", "-p", &home()]);
    hadoop().fs(&["-chown", USER, &home()]);
    let outputs = fresh("killed-clients");
    hadoop().fs(&["-mkdir", "-p", &outputs]);
    hadoop().fs(&["-chmod", "777", &outputs]);
    assert_eq!(gc().code, 0);
    let before = tree(&home());

    // Each run uploads everything anew, since the one before it was cleaned up: the steps are planning, uploading, submitting,
    // waiting, running, and the end. The times are the schedule of the fault, not a condition that is waited for.
    let mut submitted = 0;
    for step in 0..16 {
        let output = format!("{outputs}/{step}");
        let mut command = spindle(&hadoop().conf_dir());
        command
            .env("HADOOP_USER_NAME", USER)
            .args(["run", "-t", "yarn-per-job"])
            .arg(trial());
        command.args(["--records", "100", "--output", &format!("hdfs://{output}")]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut client = command.spawn().expect("the client can be started");
        std::thread::sleep(Duration::from_millis(20 + step * step * 12));
        kill_9(client.id());
        client.wait().unwrap();

        let ours = || {
            let apps = hadoop().rm(&format!("apps?user={USER}"));
            apps["apps"]["app"].as_array().cloned().unwrap_or_default()
        };
        // The client's last request may reach the ResourceManager after its end: an application that shows itself while gc runs
        // is waited for like the others, and gc is asked again.
        let cleaned = loop {
            let over = wait(
                LIMIT,
                "the applications of the killed client to be over",
                || {
                    let ours = ours();
                    let over = |app: &serde_json::Value| {
                        ["FINISHED", "FAILED", "KILLED"].contains(&app["state"].as_str().unwrap())
                    };
                    ours.iter().all(over).then_some(ours.len())
                },
            );
            let cleaned = gc();
            assert_eq!(cleaned.code, 0, "step {step}: {}", cleaned.stderr);
            if ours().len() == over {
                submitted = submitted.max(over);
                break cleaned;
            }
        };
        assert_eq!(tree(&home()), before, "step {step}: {}", cleaned.stdout);
        let hidden: Vec<_> = tree(&output)
            .into_iter()
            .filter(|path| path.contains("/."))
            .collect();
        assert_eq!(hidden, Vec::<String>::new(), "step {step}");
    }
    assert!(submitted > 0, "some clients lived long enough to submit");
    assert!(
        submitted < 16,
        "some clients died before they had submitted"
    );
}
