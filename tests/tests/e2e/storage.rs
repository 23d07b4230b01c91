//! A snapshot on HDFS is complete before its files are closed: whoever wrote it may be killed at once, and all of it can be read.

use std::process::Command;

use serde_json::Value;
use spindle_tests::hadoop::{Hadoop, OwnHadoop, hadoop};
use spindle_tests::process::kill_9;
use spindle_tests::spindle::{Attached, binary, run};

use super::{LIMIT, fresh};

const FILES: u64 = 4;
/// Of one file: some packets, and no whole block.
const BYTES: u64 = 1_000_000;

fn snapshots(hadoop: &Hadoop, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("snapshots"));
    command
        .env("HADOOP_CONF_DIR", hadoop.conf_dir())
        .args(arguments);
    command
}

/// Kills the writer when it says that the snapshot is complete, after what else happens, and reads from another process.
fn written_and_killed(hadoop: &Hadoop, mode: &str, between: impl FnOnce()) {
    let directory = format!("hdfs://{}", fresh("snapshot"));
    let (files, bytes) = (FILES.to_string(), BYTES.to_string());
    let write = &mut snapshots(hadoop, &[mode, &directory, &files, &bytes]);
    let mut writer = Attached::start(write);
    writer.wait_for(LIMIT, "a complete snapshot", |told| {
        told["complete_ms"].is_u64()
    });
    between();
    kill_9(writer.pid());
    let read = run(&mut snapshots(hadoop, &["read", &directory]));
    assert_eq!(read.code, 0, "{read:?}");
    let read: Value = serde_json::from_str(&read.stdout).unwrap();
    assert_eq!(read["checkpoint"], 2, "{mode}: {read}");
    assert_eq!(read["snapshots"], 2, "{mode}: {read}");
    assert_eq!(read["bytes"], FILES * BYTES, "{mode}: {read}");
}

#[test]
fn a_complete_checkpoint_outlives_its_writer_whatever_was_closed() {
    for mode in ["write", "hold"] {
        written_and_killed(hadoop(), mode, || {});
    }
}

#[test]
fn a_complete_checkpoint_outlives_the_daemons_of_hdfs_before_it_is_closed() {
    let own = OwnHadoop::up(&[]);
    for daemon in ["datanode", "namenode"] {
        written_and_killed(&own, "hold", || own.kill_and_start(daemon));
    }
}
