//! Files of stores in snapshots: which of them are written already, and how a task gets its own back.
//!
//! A checkpoint refers to the files of those before it, in their directories, instead of writing them again. The JobManager keeps a directory for
//! as long as something refers to it.
//!
//! **Invariant:** what a checkpoint refers to, each later one that may still become complete refers to, too, or not at all. So whichever of them is
//! the next, nothing is removed that one after it needs.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::Path;

use spindle_common::checkpoint::{
    CheckpointBarrier, CheckpointId, FileRange, OperatorSnapshot, StateChunk, StateHandle,
    StateSnapshot, SubtaskSnapshot, TaskRestore,
};
use spindle_dataflow::snapshot::{Content, STORE};
use spindle_dataflow::state::store::{EarlierFiles, Manifest};
use spindle_storage::{SnapshotStorage, StorageError};

/// A file of a store: the operator's uid, and what the store calls it.
type FileName = (String, String);
type Written = HashMap<FileName, FileRange>;

/// The files of a task's stores that are in snapshots.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Those of the newest checkpoint that is known to be complete.
    complete: Written,
    /// Those of checkpoints that may become complete.
    open: BTreeMap<CheckpointId, Written>,
}

/// What is written of a snapshot, and what is there.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By chunk.
    chunks: Vec<Planned>,
    is_of_files: bool,
}

#[derive(Debug)]
enum Planned {
    /// It is written.
    Write,
    /// The same, and it will be of use to the next checkpoints.
    Keep(FileName),
    /// It is there.
    Refer(FileRange),
}

impl Files {
    /// Decides what of a task's state has to be written for a checkpoint.
    pub(crate) fn plan(
        &mut self,
        barrier: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
    ) -> (SubtaskSnapshot<Content>, Plan) {
        // What another job has written may be gone tomorrow.
        let own = barrier.directory.rsplit_once('/');
        let own = own.map_or(String::new(), |(job, _)| format!("{job}/"));
        let mut plan = Plan::default();
        let mut written = Written::new();
        let state = state.map(|content| {
            let file = match &content {
                Content::File(file) => file,
                Content::Bytes(_) | Content::Later(_) => {
                    plan.chunks.push(Planned::Write);
                    return content;
                }
            };
            plan.is_of_files = true;
            if !file.file().immutable {
                plan.chunks.push(Planned::Write);
                return content;
            }
            let name = (file.uid().to_owned(), file.file().name.clone());
            match self
                .known(&name)
                .filter(|range| range.path.starts_with(&own))
            {
                Some(range) => {
                    plan.chunks.push(Planned::Refer(range.clone()));
                    written.insert(name, range.clone());
                    Content::Bytes(Vec::new())
                }
                None => {
                    plan.chunks.push(Planned::Keep(name));
                    content
                }
            }
        });
        if plan.is_of_files {
            self.open.insert(barrier.id, written);
        }
        (state, plan)
    }

    fn known(&self, name: &FileName) -> Option<&FileRange> {
        let known = self.complete.get(name)?;
        let everywhere = |written: &Written| written.get(name) == Some(known);
        self.open.values().all(everywhere).then_some(known)
    }

    /// A snapshot is written as planned; returns it with what it refers to, and how many bytes that are.
    pub(crate) fn written(
        &mut self,
        barrier: &CheckpointBarrier,
        plan: Plan,
        snapshot: SubtaskSnapshot,
    ) -> (SubtaskSnapshot, u64) {
        let mut referred = 0;
        let mut open = self.open.get_mut(&barrier.id);
        let mut chunks = plan.chunks.into_iter();
        let snapshot = snapshot.map(|handle| match chunks.next() {
            Some(Planned::Refer(range)) => {
                referred += range.length;
                StateHandle::File(range)
            }
            Some(Planned::Keep(name)) => {
                if let (Some(open), StateHandle::File(range)) = (&mut open, &handle) {
                    open.insert(name, absolute(range, &barrier.directory));
                }
                handle
            }
            Some(Planned::Write) | None => handle,
        });
        (snapshot, referred)
    }

    /// A checkpoint is complete.
    pub(crate) fn complete(&mut self, checkpoint: CheckpointId) {
        if let Some(written) = self.open.remove(&checkpoint) {
            self.complete = written;
            self.open.retain(|&open, _| open > checkpoint);
        }
    }

    /// A checkpoint will not be complete.
    pub(crate) fn abort(&mut self, checkpoint: CheckpointId) {
        self.open.remove(&checkpoint);
    }

    /// A task begins with these.
    fn begin(&mut self, operator: &str, manifest: &Manifest, files: &[FileRange]) {
        let names = manifest
            .files
            .iter()
            .map(|name| (operator.to_owned(), name.clone()));
        self.complete.extend(names.zip(files.iter().cloned()));
    }
}

fn absolute(range: &FileRange, directory: &str) -> FileRange {
    let path = if range.path.contains('/') {
        range.path.clone()
    } else {
        format!("{}/{}", directory.trim_end_matches('/'), range.path)
    };
    FileRange {
        path,
        ..range.clone()
    }
}

/// Why a task does not get its files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Unusable(String),
    #[error("failed to write `{path}`")]
    Local {
        path: String,
        #[source]
        cause: std::io::Error,
    },
}

/// What a task is, as far as that says which state it gets.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) groups: RangeInclusive<u32>,
    pub(crate) max_parallelism: u32,
}

/// Takes the states that are files of stores out of what a task begins with.
pub(crate) fn split(restore: &mut TaskRestore) -> Vec<(String, StateSnapshot)> {
    let mut stores = Vec::new();
    for operator in &mut restore.operators {
        let states = std::mem::take(&mut operator.states);
        for state in states {
            if state.name == STORE {
                stores.push((operator.uid.clone(), state));
            } else {
                operator.states.push(state);
            }
        }
    }
    stores
}

/// Fetches the files that have key groups of the task into directories below `into`, by operator.
pub(crate) async fn fetch(
    storage: &SnapshotStorage,
    restore: &TaskRestore,
    stores: Vec<(String, StateSnapshot)>,
    share: &Share,
    into: Option<&Path>,
) -> Result<(BTreeMap<String, Vec<EarlierFiles>>, Files), FetchError> {
    let mut fetched: BTreeMap<String, Vec<EarlierFiles>> = BTreeMap::new();
    let mut files = Files::default();
    for (uid, state) in stores {
        let mut of_operator = Vec::new();
        for chunks in state.chunks.chunk_by(|a, b| a.index >> 16 == b.index >> 16) {
            let reading = Reading {
                storage,
                restore,
                uid: &uid,
                state: &state,
            };
            let first = reading.chunk(&chunks[0]).await?;
            let manifest = Manifest::decode(&first).map_err(|why| {
                FetchError::Unusable(format!(
                    "what is written beside the files of operator `{uid}` makes no sense: {why}"
                ))
            })?;
            let (had, own) = (manifest.groups(), &share.groups);
            if had.end() < own.start() || own.end() < had.start() {
                continue;
            }
            if manifest.max_parallelism != share.max_parallelism {
                return Err(FetchError::Unusable(format!(
                    "operator `{uid}` was written in {} key groups and the job has {}: set pipeline.max-parallelism to {0}",
                    manifest.max_parallelism, share.max_parallelism
                )));
            }
            let Some(into) = into else {
                return Err(FetchError::Unusable(format!(
                    "the state of operator `{uid}` is in files of RocksDB: run the job with state.backend.type rocksdb, or begin with a savepoint, \
                     which any backend reads"
                )));
            };
            let number = fetched.values().map(Vec::len).sum::<usize>() + of_operator.len();
            let directory = into.join(format!("earlier-{number}"));
            let local = |cause| FetchError::Local {
                path: directory.display().to_string(),
                cause,
            };
            tokio::fs::create_dir_all(&directory).await.map_err(local)?;
            let mut ranges = Vec::new();
            for (name, chunk) in manifest.files.iter().zip(&chunks[1..]) {
                let bytes = reading.chunk(chunk).await?;
                // Names of files are what stores call them, never ways out of the directory.
                let plain = !name.contains(['/', '\\']) && name != "..";
                if !plain {
                    return Err(FetchError::Unusable(format!(
                        "`{name}` is no name of a file"
                    )));
                }
                let written = tokio::fs::write(directory.join(name), bytes).await;
                written.map_err(local)?;
                if let StateHandle::File(range) = &chunk.content {
                    ranges.push(absolute(range, &restore.directory));
                }
            }
            if manifest.files.len() + 1 != chunks.len() {
                return Err(FetchError::Unusable(format!(
                    "operator `{uid}` has {} files where {} should be",
                    chunks.len() - 1,
                    manifest.files.len()
                )));
            }
            of_operator.push((manifest, ranges, first, directory));
        }
        // Only a single store goes on as it is, with the names of its files.
        if let [(manifest, ranges, ..)] = &of_operator[..]
            && ranges.len() == manifest.files.len()
        {
            files.begin(&uid, manifest, ranges);
        }
        let earlier = of_operator
            .into_iter()
            .map(|(_, _, manifest, directory)| EarlierFiles {
                manifest,
                directory,
            });
        fetched.insert(uid, earlier.collect());
    }
    Ok((fetched, files))
}

/// One store of a snapshot.
struct Reading<'a> {
    storage: &'a SnapshotStorage,
    restore: &'a TaskRestore,
    uid: &'a str,
    state: &'a StateSnapshot,
}

impl Reading<'_> {
    /// The bytes of a chunk, verified: one at a time, as all of them need not fit into memory.
    async fn chunk(&self, chunk: &StateChunk) -> Result<Vec<u8>, StorageError> {
        let one = OperatorSnapshot {
            uid: self.uid.to_owned(),
            states: vec![StateSnapshot {
                name: self.state.name.clone(),
                distribution: self.state.distribution,
                schema: self.state.schema.clone(),
                chunks: vec![chunk.clone()],
            }],
        };
        let read = Box::pin(self.storage.read_states(&self.restore.directory, &[one])).await?;
        let states = read.into_iter().flat_map(|operator| operator.states);
        let chunks = states.flat_map(|state| state.chunks);
        Ok(chunks.map(|chunk| chunk.content).next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
