//! A checkpoint that all tasks have acknowledged, and what it is once its metadata is durable. Flink: `CompletedCheckpoint`.

use std::collections::BTreeMap;
use std::sync::Arc;

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{
    CheckpointId, OperatorSnapshot, SnapshotKind, StateHandle, StateSnapshot,
};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::job_graph::{JobGraph, JobVertex};

use super::pending::{Acknowledgements, Head};

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
    ) -> Result<Self, String> {
        let mut operators: BTreeMap<&str, OperatorMetadata> = BTreeMap::new();
        for (task, done) in acknowledged {
            let (Some(done), Some(vertex)) = (done, graph.vertex(task.vertex)) else {
                return Err(format!("{task} is no task of the job"));
            };
            for written in &done.snapshot.operators {
                add(&mut operators, vertex, written)?;
            }
        }
        let mut operators: Vec<OperatorMetadata> = operators.into_values().collect();
        for operator in &mut operators {
            for state in &mut operator.states {
                order_chunks(&operator.name, state)?;
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
    let all = operators
        .entry(&operator.uid)
        .or_insert_with(|| OperatorMetadata {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            states: Vec::new(),
        });
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
