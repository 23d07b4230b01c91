//! A snapshot on HDFS is complete before its files are closed: whoever wrote it may be killed at once, and all of it can be read.

use std::process::Command;

use serde_json::Value;
use spindle_tests::hadoop::hadoop;
use spindle_tests::process::kill_9;
use spindle_tests::spindle::{Attached, binary, run};

use super::{LIMIT, fresh};

const FILES: u64 = 4;
/// Of one file: some packets, and no whole block.
const BYTES: u64 = 1_000_000;

fn snapshots(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("snapshots"));
    command
        .env("HADOOP_CONF_DIR", hadoop().conf_dir())
        .args(arguments);
    command
}

/// Kills the writer when it says that the snapshot is complete, and reads from another process.
fn written_and_killed(mode: &str) -> Value {
    let directory = format!("hdfs://{}", fresh("snapshot"));
    let (files, bytes) = (FILES.to_string(), BYTES.to_string());
    let mut writer = Attached::start(&mut snapshots(&[mode, &directory, &files, &bytes]));
    writer.wait_for(LIMIT, "a complete snapshot", |told| {
        told["complete_ms"].is_u64()
    });
    kill_9(writer.pid());
    let read = run(&mut snapshots(&["read", &directory]));
    assert_eq!(read.code, 0, "{read:?}");
    serde_json::from_str(&read.stdout).unwrap()
}

#[test]
fn a_complete_checkpoint_outlives_its_writer_whatever_was_closed() {
    for mode in ["write", "hold"] {
        let read = written_and_killed(mode);
        assert_eq!(read["checkpoint"], 2, "{mode}: {read}");
        assert_eq!(read["snapshots"], 2, "{mode}: {read}");
        assert_eq!(read["bytes"], FILES * BYTES, "{mode}: {read}");
    }
}
