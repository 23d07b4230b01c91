//! Snapshots that people ask for, and the end of a job that stops with one.

use std::sync::Arc;

use spindle_common::checkpoint::SnapshotKind;
use spindle_common::id::ExecutionAttemptId;

use super::{
    CheckpointCoordinator, CoordinatorEffect, Out, Pending, Persisting, Phase, Request, Stopping,
};
use crate::checkpoint::pending::Head;
use crate::checkpoint::stats::TriggerView;
use crate::message::{CheckpointEffect, SavepointRequest};

/// What a request asks for.
pub(super) fn savepoint_kind(savepoint: Option<&SavepointRequest>) -> SnapshotKind {
    savepoint.map_or(SnapshotKind::Checkpoint, |savepoint| savepoint.kind)
}

/// Whether the job is over once there is such a snapshot.
pub(super) const fn stops(kind: SnapshotKind) -> bool {
    match kind {
        SnapshotKind::Checkpoint | SnapshotKind::Savepoint => false,
        SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => true,
    }
}

impl Pending {
    pub(super) const fn head(&self) -> &Head {
        match self {
            Self::Preparing(preparing) => &preparing.head,
            Self::Collecting(pending) => &pending.head,
            Self::Ready(whole) => &whole.head,
            Self::Persisting(persisting) => &persisting.head,
        }
    }

    /// Whether a task is to acknowledge it and has not.
    pub(super) fn awaits(&self, task: ExecutionAttemptId) -> bool {
        match self {
            Self::Collecting(pending) => pending.misses(task),
            Self::Preparing(_) | Self::Ready(_) | Self::Persisting(_) => false,
        }
    }
}

impl CheckpointCoordinator {
    /// Whether tasks have been, or will be, told to stop behind a barrier: no other would come through behind that one.
    pub(super) fn stops(&self) -> bool {
        let mut pending = self.pending.values();
        self.stopping.is_some() || pending.any(|pending| stops(pending.head().kind))
    }

    /// Where a savepoint is written. Flink: `AbstractFsCheckpointStorageAccess.initializeLocationForSavepoint`.
    pub(super) fn savepoint_directory(&self, savepoint: &SavepointRequest) -> String {
        let base = savepoint.directory.as_ref();
        let base = base.or(self.settings.savepoints.directory.as_ref());
        let base = base.map_or("", |base| base.trim_end_matches('/'));
        let job = self.job.to_string();
        format!("{base}/savepoint-{}-{}", &job[..6], savepoint.suffix)
    }

    /// Somebody wants a checkpoint or savepoint.
    pub(super) fn requested(&mut self, number: u64, savepoint: Option<SavepointRequest>) {
        let unplaced = savepoint.as_ref().is_some_and(|savepoint| {
            savepoint.directory.is_none() && self.settings.savepoints.directory.is_none()
        });
        let refusal = match &self.phase {
            _ if unplaced => Some(
                "no directory is named for it: name one, or set execution.checkpointing.savepoint-dir",
            ),
            _ if self.stops() => Some("the job is stopping with a savepoint"),
            Phase::Triggering { .. } => None,
            Phase::Waiting => Some("not all tasks of the job run"),
            Phase::Ending { .. } => Some("the job is ending: all its sources are done"),
            Phase::Over => Some("the job is over"),
        };
        let request = Request { number, savepoint };
        match refusal {
            None => {
                self.stats.answer(number, TriggerView::Waiting);
                self.requests.push_back(request);
            }
            Some(why) => self.refuse(&request, why),
        }
    }

    pub(super) fn refuse_requests(&mut self, why: &str) {
        for request in std::mem::take(&mut self.requests) {
            self.refuse(&request, why);
        }
    }

    fn refuse(&mut self, request: &Request, why: &str) {
        let what = match savepoint_kind(request.savepoint.as_ref()) {
            SnapshotKind::Checkpoint => "no checkpoint can be taken",
            SnapshotKind::Savepoint => "no savepoint can be taken",
            SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => {
                "the job cannot be stopped with a savepoint"
            }
        };
        let why = format!("{what}: {why}");
        self.stats.answer(request.number, TriggerView::Failed(why));
    }

    /// The savepoint that the job stops with is durable. What it prepared is committed next, so whoever starts the job again has to
    /// find it: it gets a place among the job's own.
    pub(super) fn anchor(&mut self, mut persisting: Persisting, out: Out<'_, '_>) {
        let id = persisting.head.id;
        let directory = format!("{}/chk-{id}", self.settings.directory);
        let anchor = persisting.completed.anchor(directory);
        out.push(CoordinatorEffect::Storage(
            CheckpointEffect::PersistAnchor {
                id,
                directory: anchor.directory.clone(),
                metadata: Arc::clone(&anchor.metadata),
            },
        ));
        persisting.anchor = Some(anchor);
        self.pending.insert(id, Pending::Persisting(persisting));
    }

    /// The savepoint that the job stops with is complete: now its tasks end, and nothing else is begun.
    pub(super) fn stopping(&mut self, stopping: Stopping, out: Out<'_, '_>) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Triggering { tasks, .. } | Phase::Ending { tasks } => Phase::Ending { tasks },
            // Meanwhile the tasks have been stopped for something else.
            other @ (Phase::Waiting | Phase::Over) => {
                self.phase = other;
                self.not_stopped(&stopping, out);
                return;
            }
        };
        self.refuse_requests("the job is stopping with a savepoint");
        if let Some(request) = stopping.request {
            let (id, directory) = (stopping.id, stopping.directory.clone());
            self.stats
                .answer(request, TriggerView::Stopping { id, directory });
        }
        self.stopping = Some(stopping);
    }

    /// The job has ended as it was told to.
    pub(super) fn stopped(&mut self) {
        if let Some(Stopping {
            id,
            directory,
            request: Some(request),
        }) = self.stopping.take()
        {
            self.stats
                .answer(request, TriggerView::Completed { id, directory });
        }
    }

    /// Some task failed between the savepoint and its end.
    pub(super) fn not_stopped(&mut self, stopping: &Stopping, out: Out<'_, '_>) {
        let why = format!(
            "the savepoint in {} is complete, but the job failed before it had stopped; if it restarts, it goes on from there",
            stopping.directory
        );
        out.push(self.transition(Some(stopping.id), format!("the job did not stop: {why}")));
        if let Some(request) = stopping.request {
            self.stats.answer(request, TriggerView::Failed(why));
        }
    }
}
