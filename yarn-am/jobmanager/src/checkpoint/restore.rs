//! Who begins with what of a complete snapshot, at this parallelism or another.

use std::collections::BTreeSet;

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{Distribution, OperatorSnapshot, StateSnapshot, TaskRestore};
use spindle_common::job_graph::{JobGraph, JobVertex};
use spindle_common::key_group::key_groups_of;

use super::acknowledged::CompletedCheckpoint;

/// What the tasks of a job begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestorePlan<'a> {
    from: &'a CompletedCheckpoint,
}

impl<'a> RestorePlan<'a> {
    /// The tasks of `graph` begin with a snapshot.
    ///
    /// # Errors
    /// If a state in it belongs to no operator, and that is not allowed, or cannot be split as the operator's key groups now are.
    pub(crate) fn new(
        from: &'a CompletedCheckpoint,
        graph: &JobGraph,
        allow_non_restored: bool,
    ) -> Result<Self, String> {
        let of_graph = |uid: &str| {
            let mut vertices = graph.vertices.iter();
            vertices.find(|vertex| vertex.operators.iter().any(|o| o.uid == uid))
        };
        let mut gone = BTreeSet::new();
        for operator in &from.metadata.operators {
            match of_graph(&operator.uid) {
                Some(vertex) => check_key_groups(operator, vertex)?,
                None if allow_non_restored => {}
                None => {
                    gone.insert(format!("`{}` (uid `{}`)", operator.name, operator.uid));
                }
            }
        }
        if !gone.is_empty() {
            let names: Vec<String> = gone.into_iter().collect();
            return Err(format!(
                "snapshot {} in {} has state of operators that the job does not have: {}; allow state that is not restored, to \
                 leave it behind",
                from.id,
                from.directory,
                names.join(", ")
            ));
        }
        Ok(Self { from })
    }

    /// What one subtask begins with.
    pub(crate) fn of(&self, vertex: &JobVertex, subtask: u32) -> TaskRestore {
        let metadata = &self.from.metadata;
        let written = |uid: &str| find(metadata, uid);
        let operators = vertex.operators.iter();
        TaskRestore {
            checkpoint: self.from.id,
            directory: self.from.directory.clone(),
            operators: operators
                .filter_map(|operator| written(&operator.uid))
                .map(|operator| OperatorSnapshot {
                    uid: operator.uid.clone(),
                    states: operator
                        .states
                        .iter()
                        .map(|state| share(state, vertex, subtask))
                        .collect(),
                })
                .collect(),
        }
    }
}

fn find<'m>(metadata: &'m SnapshotMetadata, uid: &str) -> Option<&'m OperatorMetadata> {
    metadata.operators.iter().find(|o| o.uid == uid)
}

fn check_key_groups(operator: &OperatorMetadata, vertex: &JobVertex) -> Result<(), String> {
    let keyed = |state: &&StateSnapshot| state.distribution == Distribution::KeyGroup;
    match operator.states.iter().find(keyed) {
        Some(state) if operator.max_parallelism != vertex.max_parallelism => Err(format!(
            "state `{}` of operator `{}` was written in {} key groups and the job has {}: set pipeline.max-parallelism to {}",
            state.name,
            operator.name,
            operator.max_parallelism,
            vertex.max_parallelism,
            operator.max_parallelism
        )),
        Some(_) | None => Ok(()),
    }
}

/// The chunks of a state that a subtask needs.
fn share(state: &StateSnapshot, vertex: &JobVertex, subtask: u32) -> StateSnapshot {
    let chunks = match state.distribution {
        Distribution::KeyGroup => {
            let own = key_groups_of(subtask, vertex.parallelism, vertex.max_parallelism);
            let chunks = state.chunks.iter();
            chunks
                .filter(|chunk| own.contains(&chunk.index))
                .cloned()
                .collect()
        }
        // Each subtask takes its part of the entries itself: only it can tell them apart.
        Distribution::Split | Distribution::Union => state.chunks.clone(),
        // All are the same: they are read from different places.
        Distribution::Broadcast => {
            let at = subtask as usize % state.chunks.len().max(1);
            state.chunks.get(at).cloned().into_iter().collect()
        }
    };
    StateSnapshot {
        name: state.name.clone(),
        distribution: state.distribution,
        schema: state.schema.clone(),
        chunks,
    }
}
