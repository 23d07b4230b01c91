mod owned;

use std::fs;
use std::path::{Path, PathBuf};

use spindle_common::checkpoint::metadata::OperatorMetadata;
use spindle_common::checkpoint::{
    Distribution, FileRange, OperatorSnapshot, SnapshotKind, StateChunk, StateHandle,
    StateSnapshot, SubtaskSnapshot, TaskRestore, checksum,
};
use spindle_common::id::JobId;

use super::*;
use spindle_common::checkpoint::metadata::SnapshotMetadata;

struct Place {
    directory: tempfile::TempDir,
    storage: SnapshotStorage,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            storage: SnapshotStorage::of_hadoop(&[], "test").unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// A complete checkpoint of two subtasks, and what is in it.
    async fn checkpoint(&self, id: u64) -> (String, SnapshotMetadata) {
        let directory = self
            .storage
            .create(&self.uri(&format!("chk-{id}")))
            .await
            .unwrap();
        let mut written = Vec::new();
        for subtask in 0..2 {
            let options = WriteOptions {
                memory_threshold: 0,
                ..WriteOptions::default()
            };
            let name = format!("count-{subtask}-0");
            let state = self
                .storage
                .write_state(&directory, &name, state(subtask, 5), &options);
            written.push(state.await.unwrap().snapshot);
        }
        let metadata = metadata(id, written);
        let commit = self
            .storage
            .commit(&directory, &metadata, 1, Finish::Durable);
        commit.await.unwrap();
        (directory, metadata)
    }

    async fn read_all(&self, directory: &str) -> Result<SubtaskSnapshot<Vec<u8>>, StorageError> {
        let metadata = self.storage.read_metadata(directory).await?;
        let operators = metadata.operators.into_iter();
        let restore = TaskRestore {
            job: metadata.job,
            checkpoint: metadata.checkpoint,
            directory: directory.to_owned(),
            operators: operators
                .map(|operator| OperatorSnapshot {
                    uid: operator.uid,
                    states: operator.states,
                })
                .collect(),
            finished: false,
        };
        self.storage.restore(&restore).await
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

/// Two chunks of this many bytes, and an empty one.
fn state(subtask: u32, length: usize) -> SubtaskSnapshot<Vec<u8>> {
    let chunks = (0..3).map(|index| {
        let index = 3 * subtask + index;
        let length = if index % 3 == 2 { 0 } else { length };
        StateChunk {
            index,
            entries: length as u64,
            content: (0..length)
                .map(|at| (at * 7 + index as usize * 31) as u8)
                .collect(),
        }
    });
    SubtaskSnapshot {
        operators: vec![OperatorSnapshot {
            uid: "count".to_owned(),
            states: vec![one_state(chunks.collect())],
        }],
        finished: false,
    }
}

fn metadata(id: u64, subtasks: Vec<SubtaskSnapshot>) -> SnapshotMetadata {
    let states = subtasks.into_iter().flat_map(|subtask| subtask.operators);
    let chunks = states
        .flat_map(|operator| operator.states)
        .flat_map(|state| state.chunks);
    SnapshotMetadata {
        job: JobId::from_bytes([1; 16]),
        checkpoint: CheckpointId(id),
        kind: SnapshotKind::Checkpoint,
        timestamp_ms: 0,
        operators: vec![OperatorMetadata {
            uid: "count".to_owned(),
            name: "Count".to_owned(),
            parallelism: 2,
            max_parallelism: 6,
            states: vec![one_state(chunks.collect())],
            finished: Vec::new(),
        }],
    }
}

/// What [`Place::checkpoint`] has in it.
fn whole(length: usize) -> SubtaskSnapshot<Vec<u8>> {
    let mut all = state(0, length);
    let more = state(1, length).operators.remove(0).states.remove(0).chunks;
    all.operators[0].states[0].chunks.extend(more);
    all
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_checkpoint_is_read_as_it_was_written() {
    let place = Place::new();
    let (directory, metadata) = place.checkpoint(7).await;
    let names = ["_metadata", "count-0-0", "count-1-0"].map(|name| place.path("chk-7").join(name));
    assert_eq!(files(&place.path("chk-7")), names);
    for named in [directory.clone(), format!("{directory}/_metadata")] {
        assert_eq!(place.storage.read_metadata(&named).await.unwrap(), metadata);
    }
    assert_eq!(place.read_all(&directory).await.unwrap(), whole(5));
    place.storage.verify(&directory, &metadata).await.unwrap();
    place.storage.settle().await;
}

#[tokio::test]
async fn each_flipped_bit_of_each_file_is_found_with_the_file_s_name() {
    let place = Place::new();
    let (directory, _) = place.checkpoint(1).await;
    for file in files(&place.path("chk-1")) {
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            for change in [1, 0x10, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= change;
                fs::write(&file, &bad).unwrap();
                let error = place.read_all(&directory).await.unwrap_err();
                let told = error.report();
                assert!(error.is_damage(), "{told}");
                assert!(told.contains(&file.display().to_string()), "{told}");
                let is_metadata = file.ends_with(METADATA_FILE);
                let named = told.contains("state `value` of operator `count`");
                assert_eq!(named, !is_metadata, "{told}");
            }
        }
        fs::write(&file, &good).unwrap();
    }
    assert_eq!(place.read_all(&directory).await.unwrap(), whole(5));
}

#[tokio::test]
async fn each_truncation_and_each_missing_file_is_found_with_the_file_s_name() {
    let place = Place::new();
    let (directory, _) = place.checkpoint(1).await;
    for file in files(&place.path("chk-1")) {
        let good = fs::read(&file).unwrap();
        for length in 0..good.len() {
            fs::write(&file, &good[..length]).unwrap();
            let error = place.read_all(&directory).await.unwrap_err();
            let told = error.report();
            assert!(error.is_damage(), "{told}");
            assert!(told.contains(&file.display().to_string()), "{told}");
            assert!(told.contains(&format!("has {length} bytes")), "{told}");
        }
        fs::remove_file(&file).unwrap();
        let error = place.read_all(&directory).await.unwrap_err();
        let told = error.report();
        assert!(error.is_damage(), "{told}");
        assert!(told.contains(&file.display().to_string()), "{told}");
        fs::write(&file, &good).unwrap();
    }
}

#[tokio::test]
async fn an_exchanged_file_of_another_checkpoint_is_found() {
    let place = Place::new();
    let (directory, _) = place.checkpoint(1).await;
    fs::copy(place.path("chk-1/count-0-0"), place.path("chk-1/count-1-0")).unwrap();
    let told = place.read_all(&directory).await.unwrap_err().report();
    assert!(told.contains("chk-1/count-1-0` has other bytes"), "{told}");
}

#[tokio::test]
async fn little_state_makes_no_file() {
    let place = Place::new();
    let directory = place.storage.create(&place.uri("s")).await.unwrap();
    let options = WriteOptions {
        memory_threshold: 11,
        finish: Finish::Closed,
    };
    let write = |name, length| {
        place
            .storage
            .write_state(&directory, name, state(0, length), &options)
    };
    let little = write("little", 5).await.unwrap();
    assert_eq!(little.state_bytes, 10);
    let chunks = &little.snapshot.operators[0].states[0].chunks;
    assert!(
        chunks
            .iter()
            .all(|chunk| matches!(chunk.content, StateHandle::Inline(_)))
    );
    let more = write("more", 6).await.unwrap();
    assert_eq!(more.state_bytes, 12);
    assert_eq!(files(&place.path("s")), [place.path("s/more")]);
    assert!(matches!(
        &more.snapshot.operators[0].states[0].chunks[1].content,
        StateHandle::File(FileRange { offset: 6, length: 6, path, .. }) if path == "more"
    ));
}

#[tokio::test]
async fn large_chunks_and_parts_of_files_are_read_in_pieces() {
    let place = Place::new();
    let directory = place.storage.create(&place.uri("s")).await.unwrap();
    for length in [100_000, 3 << 20, 9 << 20] {
        let state = state(0, length);
        let options = WriteOptions::default();
        let written = place
            .storage
            .write_state(&directory, "big", state.clone(), &options);
        let mut written = written.await.unwrap().snapshot;
        let read = place
            .storage
            .read_states(&directory, &written.operators)
            .await;
        assert!(read.unwrap() == state.operators, "{length}");
        // As after rescaling: the second alone.
        written.operators[0].states[0].chunks.drain(..1);
        let read = place
            .storage
            .read_states(&directory, &written.operators)
            .await
            .unwrap();
        let expected = &state.operators[0].states[0].chunks[1..];
        assert!(read[0].states[0].chunks == expected, "{length}");
    }
}

#[tokio::test]
async fn chunks_are_made_when_those_before_them_are_written() {
    let place = Place::new();
    let directory = place.storage.create(&place.uri("s")).await.unwrap();
    let file = place.path("s/made");
    let mut seen = Vec::new();
    let make = |bytes: Vec<u8>| {
        seen.push(fs::metadata(&file).map_or(0, |file| file.len()));
        std::future::ready(Ok(bytes))
    };
    let (state, options) = (state(0, 2 << 20), WriteOptions::default());
    let write = place
        .storage
        .write_state_made(&directory, "made", state.clone(), make, &options);
    let written = Box::pin(write).await.unwrap();
    assert_eq!(seen, [0, 2 << 20, 4 << 20]);
    let read = place
        .storage
        .read_states(&directory, &written.snapshot.operators)
        .await;
    assert!(read.unwrap() == state.operators);
}

#[tokio::test]
async fn a_chunk_that_cannot_be_made_leaves_no_file() {
    let place = Place::new();
    let directory = place.storage.create(&place.uri("s")).await.unwrap();
    let mut left = 1;
    let make = |bytes: Vec<u8>| {
        let made = if left == 0 {
            Err("state `a` of operator `b`: it has no bytes".to_owned())
        } else {
            Ok(bytes)
        };
        left = 0;
        std::future::ready(made)
    };
    let options = WriteOptions::default();
    let state = state(0, 100_000);
    let write = place
        .storage
        .write_state_made(&directory, "half", state, make, &options);
    let error = Box::pin(write).await.unwrap_err();
    assert!(error.report().contains("operator `b`"), "{error}");
    assert!(!error.is_damage());
    assert_eq!(files(&place.path("s")), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_snapshot_can_be_moved() {
    let place = Place::new();
    place.checkpoint(1).await;
    fs::rename(place.path("chk-1"), place.path("elsewhere")).unwrap();
    let read = place.read_all(&place.uri("elsewhere")).await;
    assert_eq!(read.unwrap(), whole(5));
}

#[tokio::test]
async fn state_may_lie_in_another_directory() {
    let place = Place::new();
    fs::write(place.path("shared"), b"xyz").unwrap();
    let chunk = StateChunk {
        index: 0,
        entries: 1,
        content: StateHandle::File(FileRange {
            path: place.uri("shared"),
            offset: 1,
            length: 2,
            checksum: checksum(b"yz"),
        }),
    };
    let operator = OperatorSnapshot {
        uid: "a".to_owned(),
        states: vec![one_state(vec![chunk])],
    };
    let read = place
        .storage
        .read_states(&place.uri("nowhere"), &[operator])
        .await
        .unwrap();
    assert_eq!(read[0].states[0].chunks[0].content, b"yz");
}

#[tokio::test]
async fn a_snapshot_is_completed_once() {
    let place = Place::new();
    let (directory, metadata) = place.checkpoint(1).await;
    let commit = |metadata, attempt| {
        let storage = place.storage.clone();
        let directory = directory.clone();
        async move {
            let done = storage.commit(&directory, metadata, attempt, Finish::Closed);
            done.await
        }
    };
    let mut other = metadata.clone();
    other.timestamp_ms = 1;
    let error = commit(&other, 2).await.unwrap_err();
    assert!(matches!(error, StorageError::AlreadyComplete { .. }));
    assert_eq!(
        place.storage.read_metadata(&directory).await.unwrap(),
        metadata
    );
    assert_eq!(
        files(&place.path("chk-1")).len(),
        3,
        "no temporary file is left"
    );
    commit(&metadata, 1).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_gone_is_no_place_to_complete_a_snapshot() {
    let place = Place::new();
    fs::write(place.path("file"), b"").unwrap();
    let (file, options) = (place.uri("file"), WriteOptions::default());
    let metadata = metadata(1, Vec::new());
    let commit = place.storage.commit(&file, &metadata, 1, Finish::Durable);
    let told = commit.await.unwrap_err().report();
    assert!(told.contains("file/_metadata.tmp-1"), "{told}");
    let state = state(0, 30_000);
    let write = place.storage.write_state(&file, "state", state, &options);
    let told = write.await.unwrap_err().report();
    assert!(told.contains("file/state"), "{told}");
}

#[tokio::test]
async fn what_is_there_is_found_newest_first_and_damage_is_named() {
    let place = Place::new();
    let none = place.storage.discover(&place.uri("none")).await.unwrap();
    assert!(none.complete.is_empty());
    for id in [9, 10, 11, 100] {
        place.checkpoint(id).await;
    }
    fs::write(place.path("chk-11/_metadata"), b"SPDL").unwrap();
    fs::rename(
        place.path("chk-100/_metadata"),
        place.path("chk-100/_metadata.tmp-3"),
    )
    .unwrap();
    for other in ["chk-x", "chk-007", "chk-+5", "shared"] {
        fs::create_dir(place.path(other)).unwrap();
    }
    fs::write(place.path("chk-12"), b"").unwrap();
    let found = place.storage.discover(&place.uri("")).await.unwrap();
    let complete: Vec<_> = found
        .complete
        .iter()
        .map(|found| &*found.directory)
        .collect();
    assert_eq!(complete, [place.uri("chk-10"), place.uri("chk-9")]);
    assert_eq!(found.complete[0].metadata.checkpoint, CheckpointId(10));
    assert_eq!(found.incomplete, [place.uri("chk-100")]);
    let [(directory, error)] = &*found.damaged else {
        panic!("{found:?}");
    };
    assert_eq!(*directory, place.uri("chk-11"));
    let expected = format!(
        "cannot use the snapshot's metadata `{}`: it has 4 bytes where it should have 24",
        place.uri("chk-11/_metadata")
    );
    assert_eq!(error.report(), expected);
}

#[tokio::test]
async fn what_is_discarded_is_gone() {
    let place = Place::new();
    let (directory, _) = place.checkpoint(1).await;
    let file = place.storage.discard_file(&directory, "count-0-0").await;
    assert!(file.unwrap() && !place.path("chk-1/count-0-0").exists());
    assert!(place.storage.discard(&directory).await.unwrap());
    assert!(!place.path("chk-1").exists());
    assert!(!place.storage.discard(&directory).await.unwrap());
}

#[tokio::test]
async fn a_name_node_that_is_away_is_no_damage() {
    let place = Place::new();
    let there = "hdfs://127.0.0.1:1/checkpoints";
    let mut errors = vec![
        place.storage.read_metadata(there).await.unwrap_err(),
        place.storage.discover(there).await.unwrap_err(),
        place.storage.create(there).await.unwrap_err(),
    ];
    let (directory, metadata) = place.checkpoint(1).await;
    let mut operator = OperatorSnapshot {
        uid: "count".to_owned(),
        states: metadata.operators[0].states.clone(),
    };
    for chunk in &mut operator.states[0].chunks {
        if let StateHandle::File(range) = &mut chunk.content {
            range.path = format!("{there}/{}", range.path);
        }
    }
    let read = place.storage.read_states(&directory, &[operator]).await;
    errors.push(read.unwrap_err());
    for error in errors {
        let told = error.report();
        assert!(!error.is_damage(), "{told}");
        assert!(told.contains(there), "{told}");
    }
}

#[test]
fn all_of_it_can_go_on_beside_who_asks() {
    fn is_send(_: &(impl Send + 'static)) {}
    let storage = Place::new().storage;
    let metadata = metadata(1, Vec::new());
    is_send(&async move {
        drop(storage.discover("").await);
        drop(storage.read_states("", &[]).await);
        drop(storage.verify("", &metadata).await);
        drop(storage.commit("", &metadata, 1, Finish::Closed).await);
        let (state, options) = (state(0, 1), WriteOptions::default());
        drop(storage.write_state("", "", state, &options).await);
        drop(storage.discard("").await);
        storage.settle().await;
    });
}
