//! Who begins with what of a complete snapshot, at this parallelism or another.

use std::collections::BTreeSet;

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{Distribution, OperatorSnapshot, StateSnapshot, TaskRestore};
use spindle_common::id::JobVertexId;
use spindle_common::job_graph::{JobGraph, JobVertex};
use spindle_common::key_group::key_groups_of;

use super::acknowledged::CompletedCheckpoint;

/// What the tasks of a job begin with.
#[derive(Debug, Clone)]
pub(crate) struct RestorePlan<'a> {
    from: &'a CompletedCheckpoint,
    /// The tasks that had finished.
    finished: BTreeSet<(JobVertexId, u32)>,
}

impl<'a> RestorePlan<'a> {
    /// The tasks of `graph` begin with a snapshot.
    ///
    /// # Errors
    /// If a state in it belongs to no operator, and that is not allowed, or cannot be split as the operator's key groups now are; if
    /// operators had finished that now have to go on.
    pub(crate) fn new(
        from: &'a CompletedCheckpoint,
        graph: &JobGraph,
        allow_non_restored: bool,
    ) -> Result<Self, String> {
        let misfit = |why: String| {
            format!(
                "snapshot {} in {} does not fit the job: {why}",
                from.id, from.directory
            )
        };
        let fits = from.metadata.fits(graph, allow_non_restored);
        fits.map_err(|why| misfit(format!("{why}; {}", why.remedy())))?;
        let finished = finished_tasks(&from.metadata, graph).map_err(misfit)?;
        Ok(Self { from, finished })
    }

    /// What one subtask begins with.
    pub(crate) fn of(&self, vertex: &JobVertex, subtask: u32) -> TaskRestore {
        let metadata = &self.from.metadata;
        let written = |uid: &str| find(metadata, uid);
        let operators = vertex.operators.iter();
        TaskRestore {
            job: metadata.job,
            checkpoint: self.from.id,
            directory: self.from.directory.clone(),
            finished: self.finished.contains(&(vertex.id, subtask)),
            operators: operators
                .filter_map(|operator| written(&operator.uid))
                .map(|operator| OperatorSnapshot {
                    uid: operator.uid.clone(),
                    states: operator
                        .states
                        .iter()
                        .map(|state| share(state, operator.parallelism, vertex, subtask))
                        .collect(),
                })
                .collect(),
        }
    }
}

fn find<'m>(metadata: &'m SnapshotMetadata, uid: &str) -> Option<&'m OperatorMetadata> {
    metadata.operators.iter().find(|o| o.uid == uid)
}

/// The tasks that had finished when a snapshot was taken, and have nothing to do now either. Flink: `VertexFinishedStateChecker`.
///
/// Where the parallelism has changed, a subtask has finished only if all had.
fn finished_tasks(
    metadata: &SnapshotMetadata,
    graph: &JobGraph,
) -> Result<BTreeSet<(JobVertexId, u32)>, String> {
    let mut finished = BTreeSet::new();
    for vertex in &graph.vertices {
        let operators: Vec<_> = (vertex.operators.iter())
            .map(|operator| find(metadata, &operator.uid))
            .collect();
        let fully = |it: &&Option<&OperatorMetadata>| it.is_some_and(|it| it.is_fully_finished());
        let wholly = !operators.is_empty() && operators.iter().all(|it| fully(&it));
        if !wholly && let Some(Some(one)) = operators.iter().find(fully) {
            return Err(format!(
                "operator `{}` had finished, and others that now run in the same task, `{}`, had not: build the job so that they are chained as \
                 they were",
                one.name,
                vertex.name()
            ));
        }
        let had = |it: &Option<&OperatorMetadata>, subtask| {
            it.is_some_and(|it| {
                let same = it.parallelism == vertex.parallelism;
                wholly || same && it.finished.binary_search(&subtask).is_ok()
            })
        };
        for subtask in 0..vertex.parallelism {
            if operators.is_empty() || !operators.iter().all(|it| had(it, subtask)) {
                continue;
            }
            let goes_on = graph.inputs_of(vertex.id).find(|(_, edge)| {
                let producers = graph.vertex(edge.source).map_or(0, |it| it.parallelism);
                let from = edge.partitioning;
                let mut from = from.producers_of(subtask, producers, vertex.parallelism);
                from.any(|producer| !finished.contains(&(edge.source, producer)))
            });
            match goes_on {
                None => drop(finished.insert((vertex.id, subtask))),
                // Its producers are others than they were: it gets nothing from those that have nothing left.
                Some(_) if !wholly => {}
                Some((_, edge)) => {
                    let producer = graph.vertex(edge.source);
                    return Err(format!(
                        "`{}` had finished, and its input, `{}`, had not: give the operators of one of them other uids",
                        vertex.name(),
                        producer.map(JobVertex::name).unwrap_or_default()
                    ));
                }
            }
        }
    }
    Ok(finished)
}

/// The chunks that a subtask needs of a state that so many subtasks wrote.
fn share(
    state: &StateSnapshot,
    parallelism: u32,
    vertex: &JobVertex,
    subtask: u32,
) -> StateSnapshot {
    let chunks = match state.distribution {
        Distribution::KeyGroup => {
            let own = key_groups_of(subtask, vertex.parallelism, vertex.max_parallelism);
            let chunks = state.chunks.iter();
            chunks
                .filter(|chunk| own.contains(&chunk.index))
                .cloned()
                .collect()
        }
        Distribution::InFlight if parallelism == vertex.parallelism => {
            let chunks = state.chunks.iter();
            chunks
                .filter(|chunk| chunk.index == subtask)
                .cloned()
                .collect()
        }
        // Each subtask takes its part of the entries itself: only it can tell them apart.
        Distribution::Split | Distribution::Union | Distribution::InFlight => state.chunks.clone(),
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

#[cfg(test)]
mod tests {
    use spindle_common::checkpoint::{StateChunk, StateHandle};
    use spindle_common::id::JobVertexId;

    use super::*;

    #[test]
    fn what_was_under_way_is_the_same_subtasks_or_at_another_parallelism_everybodys() {
        let chunk = |index| StateChunk {
            index,
            entries: 1,
            content: StateHandle::Inline(vec![7]),
        };
        let state = StateSnapshot {
            name: "in flight".to_owned(),
            distribution: Distribution::InFlight,
            schema: String::new(),
            chunks: vec![chunk(0), chunk(2)],
        };
        let shares = |written_by: u32, parallelism: u32| -> Vec<Vec<u32>> {
            let vertex = JobVertex {
                id: JobVertexId::of_uid("v"),
                parallelism,
                max_parallelism: 128,
                operators: Vec::new(),
                splits: Vec::new(),
                staging: Vec::new(),
                slot_sharing_group: String::new(),
            };
            let of = |subtask| share(&state, written_by, &vertex, subtask).chunks;
            let indices = |chunks: Vec<StateChunk>| chunks.iter().map(|it| it.index).collect();
            (0..parallelism).map(of).map(indices).collect()
        };
        assert_eq!(shares(3, 3), [vec![0], vec![], vec![2]]);
        assert_eq!(shares(3, 2), [[0, 2], [0, 2]]);
    }
}
