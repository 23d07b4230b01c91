//! A checkpoint whose barriers are out. Flink: `PendingCheckpoint`.

use std::collections::BTreeMap;

use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointId, SnapshotKind, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::id::ExecutionAttemptId;
use spindle_common::job_graph::JobGraph;
use spindle_common::time::MonoTime;

use super::acknowledged::{AcknowledgedCheckpoint, Misfit};

/// What is known of a checkpoint from its begin to its end.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) id: CheckpointId,
    pub(crate) kind: SnapshotKind,
    pub(crate) triggered: MonoTime,
    /// When it has taken too long.
    pub(crate) deadline: MonoTime,
    /// Who asked for it, if it was not its time that came.
    pub(crate) request: Option<u64>,
}

impl Head {
    /// What its barriers have tasks do, where checkpoints have this. Savepoints outlive the graph, in which alone what is under way between tasks
    /// has its place, and of a task that stops nothing is under way.
    pub(crate) const fn alignment(&self, of_checkpoints: BarrierAlignment) -> BarrierAlignment {
        match (self.kind, of_checkpoints) {
            (
                SnapshotKind::Savepoint | SnapshotKind::StopWithSavepoint | SnapshotKind::Drain,
                BarrierAlignment::Unaligned { .. },
            ) => BarrierAlignment::Aligned,
            (_, alignment) => alignment,
        }
    }
}

/// A checkpoint whose directory is being made.
#[derive(Debug)]
pub(crate) struct Preparing {
    pub(crate) head: Head,
}

impl Preparing {
    /// Its directory is there: the barriers of these tasks are awaited.
    pub(crate) fn prepared(
        self,
        directory: String,
        tasks: impl Iterator<Item = ExecutionAttemptId>,
    ) -> PendingCheckpoint {
        let acknowledged: BTreeMap<_, _> = tasks.map(|task| (task, None)).collect();
        PendingCheckpoint {
            head: self.head,
            directory,
            missing: acknowledged.len(),
            acknowledged,
        }
    }
}

/// A checkpoint that tasks are to acknowledge.
#[derive(Debug)]
pub(crate) struct PendingCheckpoint {
    pub(crate) head: Head,
    pub(crate) directory: String,
    /// What each task wrote; nothing yet where it has not.
    acknowledged: Acknowledgements,
    missing: usize,
}

/// What each task wrote; nothing where it has not.
pub(crate) type Acknowledgements = BTreeMap<ExecutionAttemptId, Option<Acknowledgement>>;

/// What one task wrote at a barrier.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledgement {
    pub(crate) at: MonoTime,
    pub(crate) snapshot: SubtaskSnapshot,
    pub(crate) stats: SubtaskCheckpointStats,
}

/// What an acknowledgement makes of a checkpoint.
#[derive(Debug)]
pub(crate) enum Acknowledged {
    /// Others are missing.
    Waiting(PendingCheckpoint),
    /// It was the last. All acknowledgements, for people.
    All(AcknowledgedCheckpoint, Acknowledgements),
    /// It is none of this checkpoint, or came twice.
    Stale(PendingCheckpoint),
    /// It was the last, and they do not fit together: why.
    Inconsistent(PendingCheckpoint, Misfit),
}

impl PendingCheckpoint {
    /// Takes what a task wrote.
    pub(crate) fn acknowledge(
        mut self,
        graph: &JobGraph,
        task: ExecutionAttemptId,
        acknowledgement: Acknowledgement,
    ) -> Acknowledged {
        match self.acknowledged.get_mut(&task) {
            Some(slot @ None) => *slot = Some(acknowledgement),
            Some(Some(_)) | None => return Acknowledged::Stale(self),
        }
        self.missing -= 1;
        if self.missing > 0 {
            return Acknowledged::Waiting(self);
        }
        match AcknowledgedCheckpoint::of(graph, &self.head, &self.directory, &self.acknowledged) {
            Ok(whole) => Acknowledged::All(whole, self.acknowledged),
            Err(why) => Acknowledged::Inconsistent(self, why),
        }
    }

    /// Whether a task is to acknowledge it and has not.
    pub(crate) fn misses(&self, task: ExecutionAttemptId) -> bool {
        matches!(self.acknowledged.get(&task), Some(None))
    }

    /// The tasks that have not acknowledged it.
    pub(crate) fn missing_tasks(&self) -> impl Iterator<Item = ExecutionAttemptId> + '_ {
        let open = |(task, done): (&ExecutionAttemptId, &Option<Acknowledgement>)| {
            done.is_none().then_some(*task)
        };
        self.acknowledged.iter().filter_map(open)
    }

    pub(crate) const fn acknowledgements(&self) -> &Acknowledgements {
        &self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savepoints_are_never_unaligned() {
        let of = |kind, alignment| {
            let head = Head {
                id: CheckpointId(1),
                kind,
                triggered: MonoTime::ZERO,
                deadline: MonoTime::ZERO,
                request: None,
            };
            head.alignment(alignment)
        };
        let unaligned = BarrierAlignment::Unaligned { timeout_ms: 7 };
        assert_eq!(of(SnapshotKind::Checkpoint, unaligned), unaligned);
        for kind in [
            SnapshotKind::Savepoint,
            SnapshotKind::StopWithSavepoint,
            SnapshotKind::Drain,
        ] {
            assert_eq!(of(kind, unaligned), BarrierAlignment::Aligned);
            let at_least_once = BarrierAlignment::AtLeastOnce;
            assert_eq!(of(kind, at_least_once), at_least_once);
        }
    }
}
