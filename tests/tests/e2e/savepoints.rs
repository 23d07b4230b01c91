//! A job is stopped, upgraded in its parallelism, and resumed: its output is what it would have been.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use spindle_tests::durable::{counts, pairs};
use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::spindle::{Attached, Outcome, binary, run, spindle};

use super::sessions::Session;
use super::{LIMIT, fresh};

/// Numbers of each stream.
const RECORDS: u64 = 20_000;
/// Numbers of each stream a second.
const RATE: u64 = 2000;

/// The job whose output is known by arithmetic, attached; `interval` is that of its checkpoints.
fn durable(output: &str, parallelism: u32, interval: Option<&str>, more: &[&str]) -> Attached {
    let arguments = [&PER_JOB[..], more].concat();
    durable_on(&arguments, output, parallelism, interval, &[])
}

/// In an application of its own.
const PER_JOB: [&str; 4] = [
    "-t",
    "yarn-per-job",
    "-D",
    "taskmanager.numberOfTaskSlots=2",
];

/// The same where these arguments of `spindle` say, with these of its own.
fn durable_on(
    arguments: &[&str],
    output: &str,
    parallelism: u32,
    interval: Option<&str>,
    own: &[&str],
) -> Attached {
    durable_of(RECORDS, arguments, output, parallelism, interval, own)
}

/// The same with so many numbers.
fn durable_of(
    records: u64,
    arguments: &[&str],
    output: &str,
    parallelism: u32,
    interval: Option<&str>,
    own: &[&str],
) -> Attached {
    let mut command = spindle(&hadoop().conf_dir());
    command.args(["run", "--output", "json", "-p", &parallelism.to_string()]);
    command.args(arguments);
    if let Some(interval) = interval {
        command.args([
            "-D",
            &format!("execution.checkpointing.interval={interval}"),
        ]);
    }
    command.arg(binary("durable")).args([
        "--records",
        &records.to_string(),
        "--rate",
        &RATE.to_string(),
        "--output",
        &format!("hdfs://{output}"),
    ]);
    Attached::start(command.args(own))
}

/// The application and the job, once all tasks run.
fn running(client: &mut Attached) -> (String, String) {
    let submitted = client.wait_for(LIMIT, "the submission", |event| {
        event["event"] == "submitted"
    });
    client.wait_state("RUNNING", LIMIT);
    let text = |name: &str| submitted[name].as_str().unwrap().to_owned();
    (text("application_id"), text("job_id"))
}

/// Has it read something, that is, is there something for a snapshot to hold.
fn has_read(application: &str, job: &str) {
    wait(LIMIT, "the job reads", || {
        let (_, text) = super::proxied(application, &format!("/jobs/{job}"));
        let seen: Value = serde_json::from_str(&text).ok()?;
        let vertices = seen["vertices"].as_array()?;
        let read = |vertex: &Value| vertex["metrics"]["read-records"].as_u64().unwrap_or(0);
        vertices
            .iter()
            .any(|vertex| read(vertex) > 2000)
            .then_some(())
    });
}

fn verb(args: &[&str]) -> Outcome {
    let mut command: Command = spindle(&hadoop().conf_dir());
    run(command.args(args))
}

/// What a verb that takes a snapshot says it has taken.
fn taken(args: &[&str]) -> String {
    let outcome = verb(args);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let said: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
    said["path"].as_str().unwrap().to_owned()
}

fn rows(output: &str, name: &str, header: &str) -> Vec<String> {
    let text = hadoop().fs(&["-cat", &format!("{output}/{name}/part-*")]);
    let rows = text.lines().filter(|line| *line != header);
    let mut rows: Vec<String> = rows.map(str::to_owned).collect();
    rows.sort();
    rows
}

fn is_right(output: &str) {
    is_right_of(RECORDS, output);
}

fn is_right_of(records: u64, output: &str) {
    same(&rows(output, "counts", "key,start,count"), &counts(records));
    same(&rows(output, "pairs", "ask,bid"), &pairs(records));
}

fn same(found: &[String], expected: &[String]) {
    let without = |a: &[String], b: &[String]| {
        let b: BTreeSet<_> = b.iter().collect();
        let only: Vec<_> = a.iter().filter(|row| !b.contains(row)).cloned().collect();
        only
    };
    assert!(
        found == expected,
        "{} rows instead of {}; missing {:?}, wrong {:?}",
        found.len(),
        expected.len(),
        without(expected, found),
        without(found, expected)
    );
}
#[test]
fn a_job_that_was_stopped_with_a_savepoint_goes_on_at_another_parallelism() {
    let (output, savepoints) = (fresh("stopped"), fresh("savepoints"));
    let mut client = durable(&output, 4, Some("300 ms"), &[]);
    let (application, job) = running(&mut client);
    has_read(&application, &job);
    let path = taken(&[
        "stop",
        "--output",
        "json",
        "-yid",
        &application,
        "-p",
        &savepoints,
        &job,
    ]);
    assert!(
        path.contains(&format!("/savepoint-{}-", &job[..6])),
        "{path}"
    );
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let before = rows(&output, "pairs", "ask,bid").len();
    assert!(
        before < pairs(RECORDS).len(),
        "it was stopped in the middle"
    );

    let verified = verb(&["state", "--verify", &path]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let resumed = durable(&output, 2, Some("300 ms"), &["-s", &path]);
    let (code, events) = resumed.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    is_right(&output);
    // It is not the job's, and goes when it is told to.
    let disposed = verb(&["savepoint", "-d", &path]);
    assert_eq!(disposed.code, 0, "{disposed:?}");
    let gone = verb(&["savepoint", "-d", &path]);
    assert_eq!(gone.code, 2, "{gone:?}");
}

/// A savepoint says nothing of the backend: the job begins in memory, goes on with RocksDB, and ends in memory.
#[cfg(feature = "rocksdb")]
#[test]
fn a_job_goes_from_memory_to_disk_and_back_by_savepoints() {
    let (output, savepoints) = (fresh("moved"), fresh("savepoints"));
    let stop = |mut client: Attached| {
        let (application, job) = running(&mut client);
        has_read(&application, &job);
        let path = taken(&[
            "stop",
            "--output",
            "json",
            "-yid",
            &application,
            "-p",
            &savepoints,
            &job,
        ]);
        let (code, events) = client.end(LIMIT);
        assert_eq!(code, 0, "{events:#?}");
        path
    };
    // It is still reading when it is stopped for the second time.
    let records = 3 * RECORDS;
    let interval = Some("300 ms");
    let in_memory = stop(durable_of(records, &PER_JOB, &output, 4, interval, &[]));
    let rocksdb = [
        "-D",
        "state.backend.type=rocksdb",
        "-D",
        "execution.checkpointing.incremental=true",
        "-D",
        "state.backend.rocksdb.table.size=1k",
        "-s",
        &in_memory,
    ];
    let on_disk = stop(durable_of(
        records,
        &[&PER_JOB[..], &rocksdb].concat(),
        &output,
        2,
        interval,
        &[],
    ));
    let verified = verb(&["state", "--verify", &on_disk]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let resumed = durable_of(
        records,
        &[&PER_JOB[..], &["-s", &on_disk]].concat(),
        &output,
        1,
        interval,
        &[],
    );
    let (code, events) = resumed.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    is_right_of(records, &output);
}

#[test]
fn a_job_goes_on_from_a_savepoint_that_was_taken_before_it_was_cancelled() {
    let (output, savepoints) = (fresh("cancelled"), fresh("savepoints"));
    // Without checkpoints, so that nothing is committed between the savepoint and the end.
    let mut client = durable(&output, 4, None, &[]);
    let (application, job) = running(&mut client);
    has_read(&application, &job);
    let path = taken(&[
        "savepoint",
        "--output",
        "json",
        "-yid",
        &application,
        &job,
        &savepoints,
    ]);
    let cancelled = verb(&["cancel", "-yid", &application, &job]);
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 4, "{events:#?}");
    let there = hadoop().part_files(&format!("{output}/pairs"));
    let visible = there
        .iter()
        .filter(|name| !name.contains(".spindle-staging"));
    assert_eq!(visible.count(), 0, "{there:?}");

    let resumed = durable(
        &output,
        2,
        Some("300 ms"),
        &["-s", &format!("{path}/_metadata")],
    );
    let (code, events) = resumed.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    is_right(&output);
}

#[test]
fn a_job_that_is_drained_has_all_its_windows_out() {
    let (output, savepoints) = (fresh("drained"), fresh("savepoints"));
    let mut client = durable(&output, 2, Some("300 ms"), &[]);
    let (application, job) = running(&mut client);
    has_read(&application, &job);
    let savepoint = verb(&["checkpoint", "-yid", &application, &job]);
    assert_eq!(savepoint.code, 0, "{savepoint:?}");
    taken(&[
        "stop",
        "--drain",
        "--output",
        "json",
        "-yid",
        &application,
        "-p",
        &savepoints,
        &job,
    ]);
    let (code, events) = client.end(Duration::from_secs(60));
    assert_eq!(code, 0, "{events:#?}");
    // Each number that was read is counted in some window, also in those that were open.
    let counted: u64 = rows(&output, "counts", "key,start,count")
        .iter()
        .map(|row| row.rsplit(',').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(counted > 2000, "{counted}");
    assert!(counted < RECORDS, "it was stopped in the middle");
}

/// A savepoint that a job was stopped with, and the output until then.
fn stopped(name: &str) -> (String, String) {
    let (output, savepoints) = (fresh(name), fresh("savepoints"));
    let mut client = durable(&output, 2, Some("300 ms"), &[]);
    let (application, job) = running(&mut client);
    has_read(&application, &job);
    let stop = ["stop", "--output", "json", "-yid", &application];
    let path = taken(&[&stop[..], &["-p", &savepoints, &job]].concat());
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    (output, path)
}

/// Ends with exit code 2 and these words, before anything was uploaded.
fn is_refused(client: Attached, words: &[&str]) {
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 2, "{events:#?}");
    let uploaded = events.iter().any(|event| event["event"] == "uploaded");
    assert!(!uploaded, "{events:#?}");
    let said = events.iter().map(Value::to_string).collect::<String>();
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn a_job_without_an_operator_of_the_savepoint_leaves_its_state_behind_if_that_is_allowed() {
    let (output, path) = stopped("without");
    let target = ["-t", "yarn-per-job", "-s", &path];
    let own = ["--without-pairs"];
    let refused = durable_on(&target, &output, 2, None, &own);
    is_refused(refused, &["uid `join`", "uid `bids`", "-n"]);
    let groups = [
        "-t",
        "yarn-per-job",
        "-s",
        &path,
        "-D",
        "pipeline.max-parallelism=64",
    ];
    let refused = durable_on(&groups, &output, 2, None, &[]);
    is_refused(refused, &["128 key groups", "pipeline.max-parallelism"]);

    let allowed = [&target[..], &["-n"]].concat();
    let (code, events) = durable_on(&allowed, &output, 2, Some("300 ms"), &own).end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    same(
        &rows(&output, "counts", "key,start,count"),
        &counts(RECORDS),
    );
}

#[test]
fn a_savepoint_that_is_claimed_goes_when_the_job_has_checkpoints_enough() {
    let (output, path) = stopped("claimed");
    let is_there = || {
        let found = hadoop().try_fs(&["-test", "-e", &format!("{path}/_metadata")]);
        found.status.success()
    };
    assert!(is_there());
    let claim = ["-s", &path, "--claim-mode", "CLAIM"];
    let (code, events) = durable(&output, 4, Some("300 ms"), &claim).end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    is_right(&output);
    assert!(!is_there(), "{path}");
}

#[test]
fn a_job_of_a_session_is_stopped_and_goes_on_there() {
    let session = Session::start("savepoints", &[]);
    let (output, savepoints) = (fresh("in-session"), fresh("savepoints"));
    let target = ["-t", "yarn-session", "-yid", &session.application];
    let mut client = durable_on(&target, &output, 2, Some("300 ms"), &[]);
    let (application, job) = running(&mut client);
    assert_eq!(application, session.application);
    has_read(&application, &job);
    let json = ["--output", "json", "-yid", &application];
    let (savepoint, stop) = (["savepoint"], ["stop", "-p", &savepoints]);
    let first = taken(&[&savepoint[..], &json, &[&job, &savepoints]].concat());
    let path = taken(&[&stop[..], &json, &[&job]].concat());
    assert_ne!(first, path);
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");

    let from = [&target[..], &["-s", &path]].concat();
    let (code, events) = durable_on(&from, &output, 1, Some("300 ms"), &[]).end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    is_right(&output);
    assert_eq!(session.stop().code, 0);
    // What was in them is seen without the job's program.
    let entries = verb(&["state", &path, "--operator", "count", "--output", "json"]);
    assert_eq!(entries.code, 0, "{entries:?}");
    let first: Value = serde_json::from_str(entries.stdout.lines().next().unwrap()).unwrap();
    assert!(
        first["entry"]["key"].as_u64().is_some_and(|key| key < 50),
        "{first}"
    );
    let none = verb(&["state", &path, "--operator", "nobody"]);
    assert_eq!(none.code, 2, "{none:?}");
}

#[test]
fn a_snapshot_that_is_not_there_is_refused_before_anything_is_uploaded() {
    let output = fresh("refused");
    let client = durable(&output, 1, None, &["-s", "/tests/no-such-savepoint"]);
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 2, "{events:#?}");
    let uploaded = events.iter().any(|event| event["event"] == "uploaded");
    assert!(!uploaded, "{events:#?}");
}
