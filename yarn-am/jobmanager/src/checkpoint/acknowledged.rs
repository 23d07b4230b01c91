//! A checkpoint that all tasks have acknowledged, and what it is once its metadata is durable. Flink: `CompletedCheckpoint`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{
    CheckpointId, Distribution, OperatorSnapshot, SnapshotKind, StateChunk, StateHandle,
    StateSnapshot,
};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::job_graph::{JobGraph, JobVertex, OperatorDescriptor};

use super::pending::{Acknowledgements, Head};

/// Why what the subtasks wrote is no checkpoint.
#[derive(Debug)]
pub(crate) enum Misfit {
    /// It contradicts itself.
    Wrong(String),
    /// Subtasks have finished whose state others need. Flink: `PartialFinishingNotSupportedByStateException`.
    Unsupported(String),
}

/// How the schema of a state begins that tells how far a subtask has come.
const PROGRESS: &str = "progress<";

/// All tasks have written what belongs to it, and that is durable; nothing says yet that it is one checkpoint.
#[derive(Debug)]
pub(crate) struct AcknowledgedCheckpoint {
    pub(crate) head: Head,
    pub(crate) directory: String,
    /// Those that wrote it.
    pub(crate) tasks: Vec<ExecutionAttemptId>,
    operators: Vec<OperatorMetadata>,
}

impl AcknowledgedCheckpoint {
    /// Puts together what the subtasks wrote.
    ///
    /// # Errors
    /// What of it does not fit together, with the operator and the state.
    pub(super) fn of(
        graph: &JobGraph,
        head: &Head,
        directory: &str,
        acknowledged: &Acknowledgements,
    ) -> Result<Self, Misfit> {
        let mut operators: BTreeMap<&str, OperatorMetadata> = BTreeMap::new();
        for (task, done) in acknowledged {
            let (Some(done), Some(vertex)) = (done, graph.vertex(task.vertex)) else {
                return Err(Misfit::Wrong(format!("{task} is no task of the job")));
            };
            for written in &done.snapshot.operators {
                add(&mut operators, vertex, written).map_err(Misfit::Wrong)?;
            }
            if done.snapshot.finished {
                for operator in &vertex.operators {
                    let all = entry(&mut operators, vertex, operator);
                    all.finished.push(task.subtask);
                }
            }
        }
        let mut operators: Vec<OperatorMetadata> = operators.into_values().collect();
        for operator in &mut operators {
            operator.finished.sort_unstable();
            for state in &mut operator.states {
                let silent = add_finished(&operator.finished, state);
                let ends = operator.finished.len() == operator.parallelism as usize;
                if silent && !ends && is_given_to_all(state) {
                    return Err(Misfit::Unsupported(format!(
                        "some subtasks of operator `{}` have finished, and what they had in state `{}` would be missed by the others, as all \
                         are given all of it",
                        operator.name, state.name
                    )));
                }
                order_chunks(&operator.name, state).map_err(Misfit::Wrong)?;
            }
        }
        Ok(Self {
            head: head.clone(),
            directory: directory.to_owned(),
            tasks: acknowledged.keys().copied().collect(),
            operators,
        })
    }

    /// Whether it refers to a file in the directory of another.
    pub(crate) fn refers_to(&self, directory: &str) -> bool {
        let mut states = self.operators.iter().flat_map(|o| &o.states);
        states.any(|state| is_in(state, directory))
    }

    /// What makes it complete once it is durable.
    pub(crate) fn metadata(&self, job: JobId, timestamp_ms: i64) -> Arc<SnapshotMetadata> {
        Arc::new(SnapshotMetadata {
            job,
            checkpoint: self.head.id,
            kind: self.head.kind,
            timestamp_ms,
            operators: self.operators.clone(),
        })
    }
}

/// Its metadata is durable: a job can start from it, whatever happens to this process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompletedCheckpoint {
    pub(crate) id: CheckpointId,
    pub(crate) directory: String,
    pub(crate) metadata: Arc<SnapshotMetadata>,
}

impl CompletedCheckpoint {
    /// A checkpoint in another directory that has the same state, in the same files.
    pub(crate) fn anchor(&self, directory: String) -> Self {
        let mut metadata = SnapshotMetadata::clone(&self.metadata);
        metadata.kind = SnapshotKind::Checkpoint;
        let operators = metadata.operators.iter_mut();
        let states = operators.flat_map(|operator| &mut operator.states);
        for chunk in states.flat_map(|state| &mut state.chunks) {
            if let StateHandle::File(range) = &mut chunk.content
                && !range.path.contains('/')
            {
                range.path = format!("{}/{}", self.directory, range.path);
            }
        }
        Self {
            id: self.id,
            directory,
            metadata: Arc::new(metadata),
        }
    }

    /// Whether it is the job's own, which removes it when it is not needed any more.
    pub(crate) fn is_own(&self) -> bool {
        self.metadata.kind == SnapshotKind::Checkpoint
    }

    /// Whether it refers to a file in the directory of another.
    pub(crate) fn refers_to(&self, directory: &str) -> bool {
        let operators = self.metadata.operators.iter();
        operators
            .flat_map(|operator| &operator.states)
            .any(|state| is_in(state, directory))
    }
}

/// Whether what was written at a barrier refers to a file in this directory.
pub(crate) fn refer_to(operators: &[OperatorSnapshot], directory: &str) -> bool {
    let mut states = operators.iter().flat_map(|operator| &operator.states);
    states.any(|state| is_in(state, directory))
}

fn is_in(state: &StateSnapshot, directory: &str) -> bool {
    state.chunks.iter().any(|chunk| match &chunk.content {
        StateHandle::Inline(_) => false,
        StateHandle::File(range) => {
            let inside = range.path.strip_prefix(directory);
            inside.is_some_and(|rest| rest.starts_with('/'))
        }
    })
}

/// Adds what one subtask wrote of an operator.
fn add<'a>(
    operators: &mut BTreeMap<&'a str, OperatorMetadata>,
    vertex: &'a JobVertex,
    written: &OperatorSnapshot,
) -> Result<(), String> {
    let Some(operator) = vertex.operators.iter().find(|o| o.uid == written.uid) else {
        let (name, uid) = (vertex.name(), &written.uid);
        return Err(format!("`{name}` has no operator with the uid `{uid}`"));
    };
    let all = entry(operators, vertex, operator);
    for state in &written.states {
        match all.states.iter_mut().find(|known| known.name == state.name) {
            None => all.states.push(state.clone()),
            Some(known)
                if known.schema == state.schema && known.distribution == state.distribution =>
            {
                known.chunks.extend(state.chunks.iter().cloned());
            }
            Some(known) => {
                return Err(format!(
                    "two subtasks of operator `{}` wrote state `{}` in different forms: `{}` and `{}`",
                    operator.name, state.name, known.schema, state.schema
                ));
            }
        }
    }
    Ok(())
}

fn entry<'a, 'o>(
    operators: &'o mut BTreeMap<&'a str, OperatorMetadata>,
    vertex: &JobVertex,
    operator: &'a OperatorDescriptor,
) -> &'o mut OperatorMetadata {
    operators
        .entry(&operator.uid)
        .or_insert_with(|| OperatorMetadata {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            states: Vec::new(),
            finished: Vec::new(),
        })
}

/// Of what is dealt out by subtask, those that had finished have nothing left. That is said, so that the others keep what is theirs.
/// Answers whether there are some.
fn add_finished(finished: &[u32], state: &mut StateSnapshot) -> bool {
    match state.distribution {
        Distribution::Split | Distribution::Union => {}
        Distribution::KeyGroup | Distribution::Broadcast | Distribution::InFlight => return false,
    }
    let wrote: BTreeSet<u32> = state.chunks.iter().map(|chunk| chunk.index).collect();
    let before = state.chunks.len();
    let silent = finished.iter().filter(|subtask| !wrote.contains(subtask));
    state.chunks.extend(silent.map(|&index| StateChunk {
        index,
        entries: 0,
        content: StateHandle::Inline(Vec::new()),
    }));
    state.chunks.len() > before
}

/// Whether each subtask uses what others wrote, and not only looks how far they have come. Flink: `OperatorStateHandle.Mode.UNION`.
fn is_given_to_all(state: &StateSnapshot) -> bool {
    state.distribution == Distribution::Union && !state.schema.starts_with(PROGRESS)
}

fn order_chunks(operator: &str, state: &mut StateSnapshot) -> Result<(), String> {
    state.chunks.sort_by_key(|chunk| chunk.index);
    match state.chunks.windows(2).find(|w| w[0].index == w[1].index) {
        None => Ok(()),
        Some(twice) => Err(format!(
            "part {} of state `{}` of operator `{operator}` was written twice",
            twice[0].index, state.name
        )),
    }
}
