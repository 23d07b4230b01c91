//! The engine on real YARN: joins, sessions and late data over several containers, and a sink that stands still.

mod shop;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Role, with_role};
use spindle_tests::spindle::{Attached, binary};

use self::shop::{expected, order_row, payment_row, rows, shop};
use super::sessions::{Session, job_id};
use super::{LIMIT, fresh, proxied, run_json};

/// Puts a file with these rows into a directory of HDFS.
fn put(directory: &str, header: &str, rows: impl IntoIterator<Item = String>) {
    let mut text = format!("{header}\n");
    for row in rows {
        writeln!(text, "{row}").unwrap();
    }
    let local = tempfile::tempdir().unwrap();
    let file = local.path().join("1.csv");
    std::fs::write(&file, text).unwrap();
    hadoop().put(&file, &format!("{directory}/1.csv"));
}

/// What the application's REST API answers.
fn rest(application: &str, path: &str) -> Value {
    let (status, text) = proxied(application, path);
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Ids of a job's vertices, sources first.
fn vertices(application: &str, job: &str) -> Vec<String> {
    let job = rest(application, &format!("/jobs/{job}"));
    let vertices = job["vertices"].as_array().unwrap();
    let id = |vertex: &Value| vertex["id"].as_str().unwrap().to_owned();
    vertices.iter().map(id).collect()
}

/// The containers that a job's tasks run in, and the nodes of these.
fn places(application: &str, job: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut containers = BTreeSet::new();
    for vertex in vertices(application, job) {
        let vertex = rest(application, &format!("/jobs/{job}/vertices/{vertex}"));
        for subtask in vertex["subtasks"].as_array().unwrap() {
            assert_eq!(subtask["status"], "RUNNING", "{vertex:#}");
            containers.insert(subtask["taskmanager-id"].as_str().unwrap().to_owned());
        }
    }
    let managers = rest(application, "/taskmanagers");
    let managers = managers["taskmanagers"].as_array().unwrap();
    let nodes = managers
        .iter()
        .filter(|manager| containers.contains(manager["id"].as_str().unwrap()))
        .map(|manager| manager["node"].as_str().unwrap().to_owned());
    (containers.clone(), nodes.collect())
}

#[test]
fn joins_sessions_and_late_data_over_four_containers_equal_a_plain_model() {
    let (orders, payments) = shop();
    let expected = expected(&orders, &payments);
    for (name, rows) in &expected {
        println!("{name}: {} rows", rows.len());
        assert!(rows.len() > 50, "{name} has only {} rows", rows.len());
    }

    let (input, output) = (fresh("shop"), fresh("shop-out"));
    let (order_files, payment_files) = (format!("{input}/orders"), format!("{input}/payments"));
    put(
        &order_files,
        "order,customer,cents,at",
        orders.iter().map(order_row),
    );
    put(
        &payment_files,
        "payment,order,customer,cents,at",
        payments.iter().map(payment_row),
    );

    let mut command = run_json();
    // Three such containers fit into a node, so the fourth is on the other.
    command.args(["-p", "4", "-D", "taskmanager.numberOfTaskSlots=1"]);
    command.args(["-D", "taskmanager.memory.process.size=1280m"]);
    command.arg(binary("orders")).args(["--until", "_SUCCESS"]);
    for (option, path) in [
        ("--orders", &order_files),
        ("--payments", &payment_files),
        ("--output", &output),
    ] {
        command.args([option, &format!("hdfs://{path}")]);
    }
    let mut client = Attached::start(&mut command);
    let submitted = client.wait_for(LIMIT, "the submission", |event| {
        event["event"] == "submitted"
    });
    let application = submitted["application_id"].as_str().unwrap();
    client.wait_state("RUNNING", LIMIT);
    let jobs = rest(application, "/jobs");
    let job = jobs["jobs"][0]["id"].as_str().unwrap().to_owned();
    let read = |of: &str| -> u64 {
        let job = rest(application, &format!("/jobs/{job}"));
        let vertices = job["vertices"].as_array().unwrap();
        let source = vertices
            .iter()
            .find(|vertex| vertex["name"].as_str().unwrap().contains(of));
        source.unwrap()["metrics"]["read-records"].as_u64().unwrap()
    };
    wait(LIMIT, "all orders and payments to be read", || {
        let all = (read("read orders"), read("read payments"));
        (all == (orders.len() as u64, payments.len() as u64)).then_some(())
    });
    let (containers, nodes) = places(application, &job);
    println!("tasks run in {containers:?} on {nodes:?}");
    assert_eq!(containers.len(), 4, "{containers:?}");
    assert_eq!(nodes.len(), 2, "{nodes:?}");

    // There is no more: only now may the job end.
    for directory in [&order_files, &payment_files] {
        hadoop().fs(&["-touchz", &format!("{directory}/_SUCCESS")]);
    }
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    for (name, expected) in &expected {
        let text = hadoop().fs(&["-cat", &format!("{output}/{name}/part-*.csv")]);
        let written = text
            .lines()
            .filter(|line| line.as_bytes()[0].is_ascii_digit());
        let written = rows(written, str::to_owned);
        let differ: Vec<_> = written
            .iter()
            .filter(|row| !expected.contains(row))
            .chain(expected.iter().filter(|row| !written.contains(row)))
            .take(5)
            .collect();
        assert!(
            written == *expected,
            "{name}: {} rows, {} expected; {differ:?}",
            written.len(),
            expected.len()
        );
    }
}

/// Resident memory in MiB.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// A worker of two slots has 480 MiB. Seen: 31 in 5 s, 35 in 30 s, with buffers full.
const STANDING_MIB: u64 = 96;

#[test]
fn a_sink_that_stands_still_holds_the_source_back_and_nothing_is_lost() {
    const THOUSANDS: u64 = 5000;
    // What is made meanwhile, if nothing holds it back, is far more than a worker may have.
    let stands = if std::env::var_os("SPINDLE_LONG").is_some() {
        30
    } else {
        5
    };
    let session = Session::start("standstill", &[]);
    let application = &session.application;
    let directory = tempfile::tempdir().unwrap();
    let go_on = directory.path().join("go on");
    let mut client = session.submit(&[
        "-p",
        "4",
        binary("standstill").to_str().unwrap(),
        "--thousands",
        &THOUSANDS.to_string(),
        "--until",
        go_on.to_str().unwrap(),
    ]);
    let job = job_id(&mut client);
    client.wait_state("RUNNING", LIMIT);
    let source = vertices(application, &job).swap_remove(0);
    let base = format!("/jobs/{job}/vertices/{source}");
    let workers = with_role(application, Role::Worker);
    let containers: BTreeSet<&str> = workers
        .iter()
        .map(|worker| worker.container.as_str())
        .collect();
    assert_eq!(containers.len(), 2, "{workers:?}");

    wait(LIMIT, "the source to be held back", || {
        let pressure = rest(application, &format!("{base}/backpressure"));
        let subtasks = pressure["subtasks"].as_array().unwrap();
        let high = subtasks
            .iter()
            .filter(|subtask| subtask["backpressureLevel"] == "high");
        (subtasks.len() == 4 && high.count() == 4).then_some(())
    });
    let metrics = || rest(application, &base)["aggregated"]["metrics"].clone();
    let of = |metrics: &Value, name: &str| metrics[name].as_u64().unwrap();
    let before = metrics();
    let begin = Instant::now();
    let mut most = 0;
    while begin.elapsed() < Duration::from_secs(stands) {
        most = workers
            .iter()
            .map(|worker| resident_mib(worker.pid))
            .max()
            .max(Some(most))
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = metrics();
    let stood = begin.elapsed();
    println!("standing for {stood:?}: at most {most} MiB in a worker, {before} became {after}");
    assert!(most < STANDING_MIB, "{most} MiB in a worker");
    for name in ["read-records", "write-records"] {
        assert_eq!(
            of(&before, name),
            of(&after, name),
            "{name} of a source that is held back"
        );
    }
    // Four subtasks; reports are a second apart or so.
    let held = of(&after, "accumulated-backpressured-time")
        - of(&before, "accumulated-backpressured-time");
    let least = 4 * (u64::try_from(stood.as_millis()).unwrap() - 3000);
    assert!(held >= least, "held back for {held} ms of at least {least}");

    std::fs::write(&go_on, "").unwrap();
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let mut counted: Vec<(u64, u64)> = events
        .iter()
        .filter(|event| event["event"] == "collected")
        .flat_map(|event| event["rows"].as_array().unwrap())
        .map(|row| (row["key"].as_u64().unwrap(), row["count"].as_u64().unwrap()))
        .collect();
    counted.sort_unstable();
    let all: Vec<(u64, u64)> = (0..1000).map(|key| (key, THOUSANDS)).collect();
    assert!(counted == all, "{} keys: {counted:?}", counted.len());
    assert_eq!(session.stop().code, 0);
}
