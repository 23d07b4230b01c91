//! Writes and reads snapshots as a worker and a JobManager do, for the end-to-end suite, which kills it in between.
//!
//! `snapshots write DIRECTORY FILES BYTES` prints one line of JSON when the snapshot is complete, while its files are being closed, then
//! waits for its end. `snapshots hold ..` does the same, and never begins to close a state file. `snapshots read DIRECTORY` verifies
//! all of it, prints one line of JSON and ends.

use std::io::Write as _;
use std::time::{Duration, Instant};

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{
    CheckpointId, Distribution, FileRange, OperatorSnapshot, SnapshotKind, StateChunk, StateHandle,
    StateSnapshot, SubtaskSnapshot, checksum,
};
use spindle_common::id::JobId;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{CreateOptions, FileSystem};
use spindle_storage::{Finish, SnapshotStorage, StorageError, WriteOptions, WrittenState};

const KEY_GROUPS: u32 = 128;

type Outcome = Result<serde_json::Value, Box<dyn std::error::Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be had");
    let outcome = match *arguments {
        ["write", directory, files, bytes] => {
            runtime.block_on(write(directory, files, bytes, false))
        }
        ["hold", directory, files, bytes] => runtime.block_on(write(directory, files, bytes, true)),
        ["read", directory] => runtime.block_on(read(directory)),
        _ => Err(
            "usage: snapshots write|hold DIRECTORY FILES BYTES | snapshots read DIRECTORY".into(),
        ),
    };
    match outcome {
        Ok(told) => {
            let mut out = std::io::stdout();
            // Who asked for it is gone if it cannot be told.
            let _ = writeln!(out, "{told}").and_then(|()| out.flush());
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            std::process::exit(1);
        }
    }
    if arguments.first() != Some(&"read") {
        // The closing that goes on meanwhile is not waited for: whoever kills this decides how far it gets.
        runtime.block_on(std::future::pending::<()>());
    }
}

fn storage() -> Result<SnapshotStorage, Box<dyn std::error::Error>> {
    let conf = Configuration::discover(&|name| std::env::var(name).ok())?;
    let fs = FileSystem::new(&conf, &spindle_hadoop::user::current()?)?;
    Ok(SnapshotStorage::new(fs))
}

/// Writes one snapshot to get connections, which a running job has, then the one that counts.
async fn write(directory: &str, files: &str, bytes: &str, hold: bool) -> Outcome {
    let storage = storage()?;
    let (files, bytes) = (files.parse()?, bytes.parse()?);
    checkpoint(&storage, directory, 1, files, bytes, false).await?;
    storage.settle().await;
    checkpoint(&storage, directory, 2, files, bytes, hold).await
}

async fn checkpoint(
    storage: &SnapshotStorage,
    directory: &str,
    id: u64,
    files: u32,
    bytes: usize,
    hold: bool,
) -> Outcome {
    let started = Instant::now();
    let id = CheckpointId(id);
    let directory = spindle_storage::checkpoint_directory(directory, id);
    let directory = storage.create(&directory).await?;
    let mut writes = tokio::task::JoinSet::new();
    for subtask in 0..files {
        let state = state(id, subtask, files, bytes);
        let (storage, directory) = (storage.clone(), directory.clone());
        writes.spawn(async move {
            let (name, options) = (format!("count-{subtask}-0"), WriteOptions::default());
            if hold {
                return write_open(&storage, &directory, &name, state).await;
            }
            storage
                .write_state(&directory, &name, state, &options)
                .await
        });
    }
    let mut chunks = Vec::new();
    for written in writes.join_all().await {
        let operators = written?.snapshot.operators.into_iter();
        let states = operators.flat_map(|operator| operator.states);
        chunks.extend(states.flat_map(|state| state.chunks));
    }
    let durable = started.elapsed();
    let metadata = SnapshotMetadata {
        job: JobId::from_bytes([1; 16]),
        checkpoint: id,
        kind: SnapshotKind::Checkpoint,
        timestamp_ms: 0,
        operators: vec![OperatorMetadata {
            uid: "count".to_owned(),
            name: "Count".to_owned(),
            parallelism: files,
            max_parallelism: KEY_GROUPS,
            states: vec![one_state(chunks)],
            finished: Vec::new(),
        }],
    };
    storage
        .commit(&directory, &metadata, 1, Finish::Durable)
        .await?;
    let complete = started.elapsed();
    Ok(serde_json::json!({
        "directory": directory,
        "durable_ms": ms(durable),
        "complete_ms": ms(complete),
    }))
}

/// As [`SnapshotStorage::write_state`] does, up to where it closes the file.
async fn write_open(
    storage: &SnapshotStorage,
    directory: &str,
    name: &str,
    mut state: SubtaskSnapshot<Vec<u8>>,
) -> Result<WrittenState, StorageError> {
    let failed = |cause| StorageError::Write { cause };
    let fs = storage.file_system();
    let path = fs.resolve(&format!("{directory}/{name}")).map_err(failed)?;
    let options = CreateOptions::default();
    let mut writer = fs.create(&path, &options).await.map_err(failed)?;
    let mut operator = state.operators.remove(0);
    let mut chunks = Vec::new();
    for chunk in operator.states.remove(0).chunks {
        let range = FileRange {
            path: name.to_owned(),
            offset: writer.written(),
            length: chunk.content.len() as u64,
            checksum: checksum(&chunk.content),
        };
        writer.write(&chunk.content).await.map_err(failed)?;
        chunks.push(StateChunk {
            index: chunk.index,
            entries: chunk.entries,
            content: StateHandle::File(range),
        });
    }
    writer.hsync().await.map_err(failed)?;
    let state_bytes = writer.written();
    // Its drop would tell the library that the file is done with.
    std::mem::forget(writer);
    Ok(WrittenState {
        snapshot: SubtaskSnapshot {
            operators: vec![OperatorSnapshot {
                uid: operator.uid,
                states: vec![one_state(chunks)],
            }],
            finished: false,
        },
        state_bytes,
    })
}

/// The newest snapshot below a directory, each of its bytes compared with what was written.
async fn read(directory: &str) -> Outcome {
    let started = Instant::now();
    let storage = storage()?;
    let found = storage.discover(directory).await?;
    if !found.damaged.is_empty() || !found.incomplete.is_empty() {
        return Err(format!("not all snapshots are complete: {found:?}").into());
    }
    let newest = found.complete.first().ok_or("there is no snapshot")?;
    let discovered = started.elapsed();
    let (id, operator) = (newest.metadata.checkpoint, &newest.metadata.operators[0]);
    let wanted = OperatorSnapshot {
        uid: operator.uid.clone(),
        states: operator.states.clone(),
    };
    let read = storage.read_states(&newest.directory, &[wanted]).await?;
    let restored = started.elapsed();
    let mut bytes = 0;
    for chunk in &read[0].states[0].chunks {
        if chunk.content != content(id, chunk.index, chunk.content.len()) {
            return Err(format!("key group {} is not as it was written", chunk.index).into());
        }
        bytes += chunk.content.len();
    }
    Ok(serde_json::json!({
        "checkpoint": id.0,
        "snapshots": found.complete.len(),
        "bytes": bytes,
        "discovered_ms": ms(discovered),
        "restored_ms": ms(restored),
    }))
}

fn state(id: CheckpointId, subtask: u32, subtasks: u32, bytes: usize) -> SubtaskSnapshot<Vec<u8>> {
    let groups = KEY_GROUPS * subtask / subtasks..KEY_GROUPS * (subtask + 1) / subtasks;
    let each = bytes / groups.len();
    let chunks = groups.map(|group| StateChunk {
        index: group,
        entries: each as u64,
        content: content(id, group, each),
    });
    SubtaskSnapshot {
        operators: vec![OperatorSnapshot {
            uid: "count".to_owned(),
            states: vec![one_state(chunks.collect())],
        }],
        finished: false,
    }
}

fn one_state<B>(chunks: Vec<StateChunk<B>>) -> StateSnapshot<B> {
    StateSnapshot {
        name: "value".to_owned(),
        distribution: Distribution::KeyGroup,
        schema: "value<u64>".to_owned(),
        chunks,
    }
}

/// Bytes that tell where they belong.
fn content(id: CheckpointId, group: u32, length: usize) -> Vec<u8> {
    let start = id.0 * 1_000_003 + u64::from(group) * 7919;
    (start..)
        .take(length)
        .map(|n| ((n * n) >> 5) as u8)
        .collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
