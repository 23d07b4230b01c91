//! A snapshot on HDFS is complete before its files are closed: whoever wrote it may be killed at once, and all of it can be read.

use std::process::Command;

use serde_json::Value;
use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{CheckpointId, SnapshotKind};
use spindle_common::id::JobId;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::FileSystem;
use spindle_storage::{Finish, SnapshotStorage, StorageError};
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

/// The NameNode itself refuses what an attempt of the JobManager does that was thought dead.
#[test]
fn who_was_thought_dead_completes_and_removes_no_checkpoint() {
    let directory = hadoop().conf_dir().display().to_string();
    let variable = |name: &str| (name == "HADOOP_CONF_DIR").then(|| directory.clone());
    let conf = Configuration::discover(&variable).unwrap();
    let user = spindle_hadoop::user::current().unwrap();
    let storage = SnapshotStorage::new(FileSystem::new(&conf, &user).unwrap());
    let base = format!("hdfs://{}", fresh("attempts"));
    let metadata = |id| SnapshotMetadata {
        job: JobId::from_bytes([1; 16]),
        checkpoint: CheckpointId(id),
        kind: SnapshotKind::Checkpoint,
        timestamp_ms: 0,
        operators: Vec::new(),
    };
    let commit = async |id: u64, attempt| {
        let directory = storage.create(&format!("{base}/chk-{id}")).await.unwrap();
        let metadata = metadata(id);
        let done = storage.commit_owned(&directory, &metadata, attempt, Finish::Durable);
        done.await
    };
    let is_superseded = |done: Result<(), StorageError>| {
        assert!(
            matches!(done, Err(StorageError::Superseded { attempt: 1, .. })),
            "{done:?}"
        );
    };
    let complete = async || -> Vec<u64> {
        let found = storage.discover(&base).await.unwrap().complete;
        found.iter().map(|one| one.metadata.checkpoint.0).collect()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        storage.take_over(&base, 1).await.unwrap();
        commit(1, 1).await.unwrap();
        commit(2, 1).await.unwrap();
        let first = format!("{base}/chk-1");
        assert!(storage.discard_owned(&first, 1).await.unwrap());
        assert!(!storage.discard_owned(&first, 1).await.unwrap());
        storage.take_over(&base, 2).await.unwrap();
        assert_eq!(complete().await, [2]);
        is_superseded(commit(3, 1).await);
        let second = format!("{base}/chk-2");
        is_superseded(storage.discard_owned(&second, 1).await.map(drop));
        is_superseded(storage.discard_all_owned(&base, 1).await);
        is_superseded(storage.check_owned(&base, 1).await);
        is_superseded(storage.take_over(&base, 1).await);
        assert_eq!(complete().await, [2]);
        commit(4, 2).await.unwrap();
        assert_eq!(complete().await, [4, 2]);
        storage.discard_all_owned(&base, 2).await.unwrap();
        assert!(complete().await.is_empty());
        storage.settle().await;
    });
    assert!(!hadoop().try_fs(&["-test", "-e", &base]).status.success());
}
