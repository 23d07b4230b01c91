//! What is wrong is said before anything is uploaded: exit code 2; what cannot be reached: exit code 3.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use spindle_tests::hadoop::hadoop;
use spindle_tests::spindle::{Outcome, binary, run, spindle};

use super::trial;

/// A small job, refused for what `arguments` or `job` have wrong.
fn submit(conf: &Path, arguments: &[&str], job: &Path, job_arguments: &[&str]) -> Outcome {
    let mut command = spindle(conf);
    command
        .env("HADOOP_USER_NAME", USER)
        .args(["run", "-t", "yarn-per-job"])
        .args(arguments)
        .arg(job)
        .args(job_arguments);
    run(&mut command)
}

/// A user of these tests alone, whose home nobody else writes to.
const USER: &str = "refused";

fn home() -> String {
    static MADE: std::sync::Once = std::sync::Once::new();
    let home = format!("/user/{USER}");
    MADE.call_once(|| {
        hadoop().fs(&["-mkdir", "-p", &home]);
        hadoop().fs(&["-chown", USER, &home]);
    });
    home
}

/// Runs a submission that has to be refused, and checks that it left nothing in the user's home: no file, no directory.
fn refused(code: i32, parts: &[&str], arguments: &[&str], job: &Path, job_arguments: &[&str]) {
    let home = home();
    let outcome = submit(&hadoop().conf_dir(), arguments, job, job_arguments);
    let left = hadoop().fs(&["-ls", &home]);
    assert_eq!(left.trim(), "", "something was uploaded");
    assert_eq!(outcome.code, code, "{}", outcome.stderr);
    assert!(
        !outcome.stdout.contains("application_"),
        "nothing was submitted: {}",
        outcome.stdout
    );
    let said = outcome
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace("│ ", "");
    for part in parts {
        assert!(
            said.contains(part),
            "`{part}` is not in: {}",
            outcome.stderr
        );
    }
}

const SMALL: [&str; 3] = ["--records", "10", "--collect"];

#[test]
fn an_unknown_flag() {
    refused(
        2,
        &["--paralelism"],
        &["--paralelism", "2"],
        &trial(),
        &SMALL,
    );
}

#[test]
fn an_unknown_configuration_key_with_the_nearest_one() {
    refused(
        2,
        &[
            "taskmanager.numberOfTaskSlot",
            "taskmanager.numberOfTaskSlots",
        ],
        &["-D", "taskmanager.numberOfTaskSlot=2"],
        &trial(),
        &SMALL,
    );
}

#[test]
fn a_configuration_value_of_the_wrong_type() {
    refused(
        2,
        &["taskmanager.memory.process.size", "lots"],
        &["-D", "taskmanager.memory.process.size=lots"],
        &trial(),
        &SMALL,
    );
}

#[test]
fn an_input_path_that_does_not_exist() {
    let arguments = [
        "--input",
        "hdfs:///data/no-such-file.csv",
        "--output",
        "hdfs:///tests/never",
    ];
    refused(
        2,
        &["no-such-file.csv"],
        &[],
        &binary("flights"),
        &arguments,
    );
}

#[test]
fn arguments_that_the_job_does_not_know() {
    refused(
        2,
        &["--no-such-argument"],
        &[],
        &trial(),
        &["--no-such-argument"],
    );
}

#[test]
fn an_output_that_is_there_already() {
    let output = super::fresh("there");
    hadoop().fs(&["-mkdir", "-p", &output]);
    hadoop().fs(&["-touchz", &format!("{output}/part-00000.csv")]);
    refused(
        2,
        &[&output, "exists"],
        &[],
        &trial(),
        &["--records", "10", "--output", &format!("hdfs://{output}")],
    );
}

#[test]
fn a_queue_that_does_not_exist() {
    refused(
        2,
        &["nosuchqueue", "default"],
        &["--queue", "nosuchqueue"],
        &trial(),
        &SMALL,
    );
}

#[test]
fn a_container_larger_than_the_clusters_maximum() {
    refused(
        2,
        &["65536 MiB", "taskmanager.memory.process.size"],
        &["-D", "taskmanager.memory.process.size=64g"],
        &trial(),
        &SMALL,
    );
    refused(
        2,
        &["65536 MiB", "jobmanager.memory.process.size"],
        &["-D", "jobmanager.memory.process.size=64g"],
        &trial(),
        &SMALL,
    );
}

#[test]
fn a_job_file_that_is_missing_or_no_executable_of_a_job() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8], mode: u32| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let job = fs::read(trial()).unwrap();
    let mut other = job.clone();
    other[18] = if cfg!(target_arch = "x86_64") {
        183
    } else {
        62
    };
    refused(2, &["missing"], &[], &directory.path().join("missing"), &[]);
    refused(
        2,
        &["not an executable"],
        &[],
        &file("script", b"#!/bin/sh\necho hello\n", 0o755),
        &[],
    );
    refused(
        2,
        &["not executable"],
        &[],
        &file("unmarked", &job, 0o644),
        &[],
    );
    refused(
        2,
        &["was built for"],
        &[],
        &file("other", &other, 0o755),
        &[],
    );
    refused(2, &["no Spindle job"], &[], Path::new("/bin/true"), &[]);
    refused(2, &["not a file"], &[], directory.path(), &[]);
}

/// A copy of the cluster's site files with one changed.
fn changed(file: &str, change: impl Fn(String) -> String) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["core-site.xml", "hdfs-site.xml", "yarn-site.xml"] {
        let text = fs::read_to_string(hadoop().conf_dir().join(name)).unwrap();
        let text = if name == file { change(text) } else { text };
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn a_broken_site_file_with_file_and_line() {
    let conf = changed("yarn-site.xml", |text| {
        text.replacen("</property>", "</propety>", 1)
    });
    let outcome = submit(conf.path(), &[], &trial(), &SMALL);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    let said = outcome.stderr.split_whitespace().collect::<String>();
    assert!(
        said.replace('│', "").contains("yarn-site.xml:"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_configuration_directory_that_does_not_exist() {
    let outcome = submit(Path::new("/no/such/directory"), &[], &trial(), &SMALL);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("HADOOP_CONF_DIR"),
        "{}",
        outcome.stderr
    );
}

/// A port of this machine where nobody listens.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn a_resource_manager_that_is_down_is_named_with_the_key_it_came_from() {
    let port = dead_port();
    let conf = changed("yarn-site.xml", |text| {
        set(
            &text,
            "yarn.resourcemanager.address",
            &format!("127.0.0.1:{port}"),
        )
    });
    let outcome = submit(conf.path(), &[], &trial(), &SMALL);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    for part in [
        format!("127.0.0.1:{port}"),
        "yarn.resourcemanager.address".to_owned(),
    ] {
        assert!(
            unwrapped(&outcome).contains(&part),
            "`{part}` is not in: {}",
            outcome.stderr
        );
    }
}

#[test]
fn a_name_node_that_is_down_is_named_with_the_key_it_came_from() {
    let port = dead_port();
    let conf = changed("core-site.xml", |text| {
        set(&text, "fs.defaultFS", &format!("hdfs://127.0.0.1:{port}"))
    });
    let outcome = submit(conf.path(), &[], &trial(), &SMALL);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    for part in [format!("127.0.0.1:{port}"), "fs.defaultFS".to_owned()] {
        assert!(
            unwrapped(&outcome).contains(&part),
            "`{part}` is not in: {}",
            outcome.stderr
        );
    }
}

/// Sets a property of a site file, whatever it was before.
fn set(text: &str, key: &str, value: &str) -> String {
    let property =
        format!("<property><name>{key}</name><value>{value}</value></property></configuration>");
    text.replacen("</configuration>", &property, 1)
}

/// Standard error without the line breaks and margins that the terminal's width made.
fn unwrapped(outcome: &Outcome) -> String {
    outcome
        .stderr
        .replace('│', " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn info_draws_the_plan_without_a_cluster() {
    let mut command = Command::new(binary("spindle"));
    command
        .env_remove("HADOOP_CONF_DIR")
        .arg("info")
        .args(["-p", "2"])
        .arg(trial())
        .args(SMALL);
    let outcome = run(&mut command);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("HASH") && outcome.stdout.contains("count upwards"),
        "{}",
        outcome.stdout
    );
}
