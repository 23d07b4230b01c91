//! What the containers of a session have: slots as jobs want them, files that were shipped, logs and threads to look at.

use std::collections::BTreeSet;

use serde_json::Value;
use spindle_tests::hadoop::hadoop;
use spindle_tests::spindle::{Attached, spindle};

use super::sessions::{Session, job_id};
use super::{LIMIT, proxied, trial};

#[test]
fn task_managers_tell_of_their_logs_and_threads_and_slots_are_cut_as_groups_say() {
    let session = Session::start("groups", &["taskmanager.load-balance.mode=SLOTS"]);
    let trial = trial();
    let mut client = session.submit(&[
        "-p",
        "2",
        trial.to_str().unwrap(),
        "--records",
        "20000",
        "--rate",
        "1000",
        "--collect",
        "--group",
        "700",
    ]);
    let job = job_id(&mut client);
    client.wait_state("RUNNING", LIMIT);
    let get = |path: &str| -> Value {
        let (status, text) = proxied(&session.application, path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    // Two equal parts of 240 MiB in one TaskManager; slots of 700 MiB fit into none of 512 MiB, so each has one made to measure.
    let managers = get("/taskmanagers");
    let managers = managers["taskmanagers"].as_array().unwrap();
    let mut sizes: Vec<u64> = managers
        .iter()
        .map(|manager| manager["totalResource"]["taskHeapMemory"].as_u64().unwrap())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [480, 700, 700]);
    let nodes: BTreeSet<&str> = managers
        .iter()
        .filter(|manager| manager["totalResource"]["taskHeapMemory"] == 700)
        .map(|manager| manager["node"].as_str().unwrap())
        .collect();
    println!("the large ones are on {nodes:?}");

    let id = managers[0]["id"].as_str().unwrap();
    let logs = get(&format!("/taskmanagers/{id}/logs"));
    let names: Vec<&str> = logs["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| log["name"].as_str().unwrap())
        .collect();
    let worker = format!("worker-{job}.err");
    for name in ["taskexecutor.log", "taskexecutor.out", &worker] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let (status, log) = proxied(&session.application, &format!("/taskmanagers/{id}/log"));
    assert!(
        status == 200 && log.contains("worker said hello"),
        "{status} {log}"
    );
    let (status, _) = proxied(
        &session.application,
        &format!("/taskmanagers/{id}/logs/{worker}"),
    );
    assert_eq!(status, 200);
    for name in ["..%2Fcontainer_tokens", "nothing.log"] {
        let (status, text) = proxied(
            &session.application,
            &format!("/taskmanagers/{id}/logs/{name}"),
        );
        assert!((400..500).contains(&status), "{name}: {status} {text}");
    }
    let dump = get(&format!("/taskmanagers/{id}/thread-dump"));
    let threads = dump["threadInfos"].as_array().unwrap();
    let of_job = |thread: &&Value| {
        let text = thread["stringifiedThreadInfo"].as_str().unwrap();
        text.contains(&format!("of the worker of job {job}"))
    };
    assert!(threads.iter().any(|thread| of_job(&thread)), "{threads:#?}");

    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(session.stop().code, 0);
}

#[test]
fn files_are_shipped_into_the_working_directories_of_jobs_once() {
    let directory = tempfile::tempdir().unwrap();
    let lib = directory.path().join("lib");
    std::fs::create_dir_all(lib.join("deep")).unwrap();
    let text = format!("made by {}", std::process::id());
    std::fs::write(lib.join("deep/words.txt"), &text).unwrap();
    let ship = format!("yarn.ship-files={}", lib.display());
    let session = Session::start("shipping", &[&ship]);
    let wanted = format!("lib/deep/words.txt={text}");
    let run = |arguments: &[&str]| {
        let mut all = vec!["-p", "2"];
        let trial = trial();
        all.push(trial.to_str().unwrap());
        all.extend(["--records", "100", "--collect", "--shipped", &wanted]);
        all.extend(arguments);
        session.submit(&all).end(LIMIT)
    };
    let (code, events) = run(&[]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(session.stop().code, 0);

    // An application of its own has them too, and what is there is not uploaded again.
    let mut command = spindle(&hadoop().conf_dir());
    command.args(["run", "-t", "yarn-per-job", "--output", "json", "-D", &ship]);
    command.arg(trial());
    command.args(["--records", "100", "--collect", "--shipped", &wanted]);
    let (code, events) = Attached::start(&mut command).end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let uploaded = events
        .iter()
        .find(|event| event["event"] == "uploaded")
        .unwrap();
    assert_eq!(uploaded["files"], 0, "{uploaded}");

    std::fs::remove_dir_all(&lib).unwrap();
    let mut command = spindle(&hadoop().conf_dir());
    command.args(["session", "start", "-d", "-D", &ship]);
    let outcome = spindle_tests::spindle::run(&mut command);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("cannot ship"), "{}", outcome.stderr);
}
