//! The main example against an independent computation.

use std::path::PathBuf;
use std::process::Command;

use spindle_tests::hadoop::{hadoop, repository};
use spindle_tests::spindle::{Attached, binary, run};

use super::{LIMIT, fresh, run_json};

const HEADER: &str = "window_start,origin,flights,cancelled,mean_dep_delay";

/// All flights that left New York in 2013.
fn data() -> PathBuf {
    let output = Command::new(repository().join("scripts/fetch-flights"))
        .output()
        .expect("scripts/fetch-flights can be started");
    assert!(
        output.status.success(),
        "fetch-flights failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The rows that Python finds, sorted.
fn expected() -> Vec<String> {
    let script = repository().join("tests/reference/flights.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(data())
        .output()
        .expect("python3 can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut rows: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    rows.sort();
    assert_eq!(rows.len(), 19_486, "the data are those of 2013");
    rows
}

fn on_yarn(parallelism: &str) {
    let (input, output) = ("/data/flights.csv", fresh("flights"));
    hadoop().put(&data(), input);
    let mut command = run_json();
    command.args(["-p", parallelism]).arg(binary("flights"));
    command.args([
        "--input",
        &format!("hdfs://{input}"),
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let client = Attached::start(&mut command);
    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let rows = hadoop().rows(&output);
    assert!(
        rows == expected(),
        "{} rows differ from the expected ones",
        rows.len()
    );
    let parts = hadoop().part_files(&output);
    assert_eq!(
        parts.len().to_string(),
        parallelism,
        "one part file a subtask and nothing else: {parts:?}"
    );
    for part in parts {
        assert_eq!(
            hadoop().fs(&["-head", &part]).lines().next(),
            Some(HEADER),
            "{part}"
        );
    }
    let late: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "progress" && event["late"] != 0)
        .collect();
    assert!(late.is_empty(), "no row comes late: {late:?}");
}

#[test]
fn flights_on_yarn_with_one_subtask_equal_the_independent_computation() {
    on_yarn("1");
}

#[test]
fn flights_on_yarn_with_three_subtasks_equal_the_independent_computation() {
    on_yarn("3");
}

#[test]
fn flights_embedded_equal_the_independent_computation() {
    for parallelism in ["1", "3"] {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        let mut command = Command::new(binary("flights"));
        command.env_remove("HADOOP_CONF_DIR").env(
            "SPINDLE_SETTINGS",
            format!("parallelism.default={parallelism}"),
        );
        command
            .arg("--input")
            .arg(data())
            .arg("--output")
            .arg(&output);
        let outcome = run(&mut command);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let mut rows = Vec::new();
        let mut parts = 0;
        for entry in std::fs::read_dir(&output).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert_eq!(text.lines().next(), Some(HEADER));
            rows.extend(text.lines().skip(1).map(str::to_owned));
            parts += 1;
        }
        rows.sort();
        assert!(
            rows == expected(),
            "{} rows differ from the expected ones",
            rows.len()
        );
        assert_eq!(parts.to_string(), parallelism);
    }
}
