//! Snapshots of a job: what is written at a barrier, where it lies, and what a task is restored from.
//!
//! A snapshot is a tree: job, operators by uid, subtasks, states, chunks. A chunk is what is redistributed: the entries of one key
//! group, or those of one subtask for state without a key. What is in a chunk is the state's own business. The leaves of the tree are the
//! bytes themselves (`B = Vec<u8>`) in a task, and in all messages and metadata say where they are ([`StateHandle`]). Flink: `SubtaskState`, `OperatorState`, `StreamStateHandle`.

pub mod fit;
pub mod metadata;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// Number of a checkpoint or savepoint of a job: from 1, ascending, never used twice, whatever restarts in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What travels through all channels of a job between the records that a checkpoint holds and those that it does not. Flink:
/// `CheckpointBarrier`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointBarrier {
    /// Which checkpoint.
    pub id: CheckpointId,
    /// When it was triggered, in milliseconds since the epoch by the JobManager's clock.
    pub timestamp_ms: i64,
    /// What it is for.
    pub kind: SnapshotKind,
    /// Directory that the state's files are written into, as a URI. It exists.
    pub directory: Arc<str>,
    /// What a task does until the barriers of all its channels are there.
    pub alignment: BarrierAlignment,
}

/// What a task does between the first barrier of a checkpoint and the last. Flink: `CheckpointOptions.AlignmentType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum BarrierAlignment {
    /// It takes nothing from the channels whose barrier has come.
    #[default]
    Aligned,
    /// It goes on with all channels: its state then has records that come again after a restore.
    AtLeastOnce,
    /// It waits as when aligned, so long after the trigger; then it writes its state at once, and with it what is under way in the channels.
    Unaligned {
        /// How long, in milliseconds; with 0 it does not wait at all.
        timeout_ms: u64,
    },
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// To restart from after a failure. May refer to files of those before it.
    Checkpoint,
    /// Taken for people: holds all that it needs, and nothing else owns it.
    Savepoint,
    /// A savepoint after which no task works on: sources end behind the barrier, without a last watermark.
    StopWithSavepoint,
    /// The same, with the last watermark before the barrier, so that all windows and timers fire.
    Drain,
}

/// Who gets which chunks of a state when the parallelism changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Distribution {
    /// [`StateChunk::index`] is a key group: whoever owns it.
    KeyGroup,
    /// [`StateChunk::index`] is a subtask: its entries are dealt out among all.
    Split,
    /// [`StateChunk::index`] is a subtask: each subtask gets the entries of all.
    Union,
    /// All subtasks wrote the same, so that any one chunk is enough for each.
    Broadcast,
    /// [`StateChunk::index`] is a subtask: what was under way to it. Its own at the same parallelism; at another one each subtask gets all and
    /// keeps what would have come to it.
    InFlight,
}

/// What one subtask wrote at a barrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSnapshot<B = StateHandle> {
    /// The operators of its chain that have state, upstream first.
    pub operators: Vec<OperatorSnapshot<B>>,
    /// Whether it had read and handed on all that there was: all that is left of it is output to commit, and whoever begins with this has
    /// nothing else to do. Flink: `TaskStateSnapshot.isTaskFinished`.
    pub finished: bool,
}

impl<B> Default for SubtaskSnapshot<B> {
    fn default() -> Self {
        Self {
            operators: Vec::new(),
            finished: false,
        }
    }
}

impl<B> SubtaskSnapshot<B> {
    /// What is left of a subtask that has finished, and has nothing to commit.
    pub const fn of_finished() -> Self {
        Self {
            operators: Vec::new(),
            finished: true,
        }
    }

    /// The same tree with another leaf for each chunk, in order.
    pub fn map<C>(self, mut leaf: impl FnMut(B) -> C) -> SubtaskSnapshot<C> {
        let mut chunk = |chunk: StateChunk<B>| StateChunk {
            index: chunk.index,
            entries: chunk.entries,
            content: leaf(chunk.content),
        };
        let mut state = |state: StateSnapshot<B>| StateSnapshot {
            name: state.name,
            distribution: state.distribution,
            schema: state.schema,
            chunks: state.chunks.into_iter().map(&mut chunk).collect(),
        };
        let operator = |operator: OperatorSnapshot<B>| OperatorSnapshot {
            uid: operator.uid,
            states: operator.states.into_iter().map(&mut state).collect(),
        };
        SubtaskSnapshot {
            operators: self.operators.into_iter().map(operator).collect(),
            finished: self.finished,
        }
    }
}

/// The state of one operator: in a [`SubtaskSnapshot`] that of one subtask, in a [`TaskRestore`] all that a subtask needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSnapshot<B = StateHandle> {
    /// The operator's uid in the job graph.
    pub uid: String,
    /// By name.
    pub states: Vec<StateSnapshot<B>>,
}

/// One named state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSnapshot<B = StateHandle> {
    /// Unique for the operator.
    pub name: String,
    /// How it is redistributed.
    pub distribution: Distribution,
    /// What its bytes are: the kind of state and the types in it, as text that is equal exactly if they can be read as each other.
    pub schema: String,
    /// Ascending by index.
    pub chunks: Vec<StateChunk<B>>,
}

/// What is redistributed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChunk<B = StateHandle> {
    /// The key group, or the subtask that wrote it: as [`StateSnapshot::distribution`] says.
    pub index: u32,
    /// Entries in it: keys, or elements of a list.
    pub entries: u64,
    /// Its bytes, or where they are.
    pub content: B,
}

/// Bytes that a snapshot holds, and how to know that they are those. Flink: `StreamStateHandle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateHandle {
    /// The bytes themselves, as they are small. Flink: `ByteStreamStateHandle`.
    Inline(Vec<u8>),
    /// A part of a file.
    File(FileRange),
}

/// CRC-32C, by which the bytes of snapshots are known.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    /// A URI; or a name without a slash, which is a file in the directory of the snapshot's metadata.
    pub path: String,
    /// Where in the file the part begins, in bytes.
    pub offset: u64,
    /// Its length, in bytes.
    pub length: u64,
    /// CRC-32C of it.
    pub checksum: u32,
}

impl StateHandle {
    /// How many bytes it stands for.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File(range) => range.length,
        }
    }

    /// Whether it stands for none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a subtask got through a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubtaskCheckpointStats {
    /// From the trigger to the first barrier, in milliseconds by two machines' clocks.
    pub start_delay_ms: u64,
    /// From the first barrier to the last.
    pub alignment_us: u64,
    /// In which the task's thread did nothing else. Flink: `sync_duration`.
    pub sync_us: u64,
    /// In which the state was written beside it. Flink: `async_duration`.
    pub async_us: u64,
    /// All bytes that the snapshot refers to.
    pub state_bytes: u64,
    /// Those of them that were written for it.
    pub written_bytes: u64,
    /// Those of them that were under way to the task.
    pub persisted_bytes: u64,
    /// Bytes that the task worked on between the first barrier and the last.
    pub processed_bytes: u64,
    /// Whether the state was written before all barriers were there.
    pub unaligned: bool,
}

/// What a task begins with instead of nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRestore {
    /// The job that took the snapshot: another than the task's, where its job was begun with that.
    pub job: JobId,
    /// The snapshot that it is from.
    pub checkpoint: CheckpointId,
    /// Directory of its metadata, as a URI: relative paths of handles begin there.
    pub directory: String,
    /// One per operator of the chain that has state. Of keyed state only the subtask's key groups, of [`Distribution::Split`] and
    /// [`Distribution::Union`] the chunks of all subtasks, of [`Distribution::Broadcast`] one.
    pub operators: Vec<OperatorSnapshot>,
    /// Whether the subtask had finished: it reads nothing and ends at once. Flink: `TaskStateSnapshot.isTaskDeployedAsFinished`.
    pub finished: bool,
}
