//! How checkpoints end: complete, failed, subsumed, or with the job.

use spindle_common::checkpoint::{CheckpointId, SnapshotKind};
use spindle_common::config::CheckpointRetention;
use spindle_common::execution::{FailureCause, FailureClass, JobStatus};
use spindle_common::gateway::ToTaskExecutor;
use spindle_common::id::ExecutionAttemptId;
use spindle_common::time::MonoTime;

use super::{
    CheckpointCoordinator, Condemned, CoordinatorEffect, Out, Ownership, Participant, Pending,
    Persisting, Phase, Progress, Stopping,
};
use crate::checkpoint::acknowledged::{CompletedCheckpoint, refer_to};
use crate::checkpoint::coordinator::savepoints::stops;
use crate::checkpoint::pending::Head;
use crate::message::{CheckpointEffect, Transition};

impl CheckpointCoordinator {
    /// Its metadata is durable: from now on it is a checkpoint.
    pub(super) fn persisted(&mut self, now: MonoTime, id: CheckpointId, out: Out<'_, '_>) {
        let persisting = match self.pending.remove(&id) {
            Some(Pending::Persisting(persisting)) => persisting,
            other => {
                self.pending.extend(other.map(|other| (id, other)));
                let what = format!("metadata of checkpoint {id}, which is not being written");
                out.push(CoordinatorEffect::Transition(Transition::Stale { what }));
                return;
            }
        };
        if stops(persisting.head.kind) && persisting.anchor.is_none() {
            self.anchor(persisting, out);
            return;
        }
        self.failures_in_row = 0;
        self.last_end = Some(now);
        let directory = &persisting.completed.directory;
        self.stats.completed(now, &persisting.head, directory);
        out.push(self.transition(Some(id), "complete".to_owned()));
        match persisting.head.kind {
            SnapshotKind::Checkpoint => self.completed.push_back(persisting.completed),
            // The job never goes back to it, so what it prepared waits for the next checkpoint. Flink: `CheckpointProperties.isSavepoint`.
            SnapshotKind::Savepoint => {
                self.leaves_snapshots = true;
                out.push(CoordinatorEffect::KeepStaging);
                self.persist_next(out);
                return;
            }
            // What it prepared is committed now: a task that fails yet has to begin with nothing older.
            SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => {
                let stopping = Stopping {
                    id,
                    directory: directory.clone(),
                    request: persisting.head.request,
                };
                self.leaves_snapshots = true;
                self.completed.extend(persisting.anchor);
                self.stopping(stopping, out);
            }
        }
        for task in self.tasks_of(&persisting.tasks) {
            let message = ToTaskExecutor::CheckpointComplete {
                job: self.job,
                execution: task.execution,
                checkpoint: id,
            };
            out.push(CoordinatorEffect::Send {
                to: task.resource.clone(),
                message: Box::new(message),
            });
        }
        for older in self.pending_where(|_| true) {
            if older < id {
                let why = format!("checkpoint {id}, which was begun later, was complete before it");
                self.give_up(now, older, &why, out);
            }
        }
        self.let_go_of_old(out);
        self.persist_next(out);
    }

    /// Keeps as many as are to be kept.
    pub(super) fn let_go_of_old(&mut self, out: Out<'_, '_>) {
        while self.completed.len() > self.settings.config.num_retained as usize {
            self.subsumed.extend(self.completed.pop_front());
        }
        self.discard_subsumed(out);
        self.let_go_of_origin(out);
    }

    /// It could not be made complete, or nobody knows.
    pub(super) fn not_persisted(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        reason: &str,
        out: Out<'_, '_>,
    ) {
        if let Some(Pending::Persisting(persisting)) = self.pending.get(&id) {
            // Of a savepoint nobody takes note, though it may be complete: unless the job itself could find it.
            let (own, why) = match &persisting.anchor {
                Some(anchor) => {
                    let savepoint = &persisting.completed.directory;
                    let why = format!(
                        "{savepoint} is complete, but could not be noted among the job's own checkpoints: {reason}"
                    );
                    (Some(anchor), why)
                }
                None => {
                    let why = format!("its metadata could not be written: {reason}");
                    (Some(&persisting.completed).filter(|it| it.is_own()), why)
                }
            };
            if let Some(own) = own {
                let directory = own.directory.clone();
                let retry = None;
                self.condemned.insert(id, Condemned { directory, retry });
            }
            self.fail(now, id, &why, true, out);
        }
    }

    /// A checkpoint will not be complete. `counts` if that is a sign of something wrong.
    pub(super) fn fail(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        why: &str,
        counts: bool,
        out: Out<'_, '_>,
    ) {
        let pending = self.pending.get(&id);
        let own = pending.is_some_and(|p| p.head().kind == SnapshotKind::Checkpoint);
        self.give_up(now, id, why, out);
        if counts && own {
            self.count_failure(id, why, out);
        }
        self.persist_next(out);
    }

    /// The same of several, of which none may be persisted on that occasion.
    fn give_up(&mut self, now: MonoTime, id: CheckpointId, why: &str, out: Out<'_, '_>) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let (head, directory): (Head, Option<String>) = match pending {
            // Its directory may come to be yet: that is told.
            Pending::Preparing(preparing) => {
                self.abandoned.insert(id);
                (preparing.head, None)
            }
            Pending::Collecting(pending) => {
                self.stats
                    .subtasks(&self.graph, id, pending.acknowledgements());
                (pending.head, Some(pending.directory))
            }
            Pending::Ready(whole) => (whole.head, Some(whole.directory)),
            Pending::Persisting(Persisting {
                head,
                completed,
                anchor,
                ..
            }) => (head, Some(anchor.unwrap_or(completed).directory)),
        };
        self.last_end = Some(now);
        self.stats.failed(now, &head, why);
        out.push(self.transition(Some(id), format!("failed: {why}")));
        if let Some(directory) = directory {
            self.tell_aborted(id, out);
            self.discard(id, directory, out);
        }
        self.discard_subsumed(out);
    }

    /// Barriers of it may be under way.
    fn tell_aborted(&self, checkpoint: CheckpointId, out: Out<'_, '_>) {
        let tasks = self.phase.tasks().iter();
        for task in tasks.filter(|task| task.progress != Progress::Finished) {
            let message = ToTaskExecutor::CheckpointAborted {
                job: self.job,
                execution: task.execution,
                checkpoint,
            };
            out.push(CoordinatorEffect::Send {
                to: task.resource.clone(),
                message: Box::new(message),
            });
        }
    }

    fn count_failure(&mut self, id: CheckpointId, why: &str, out: Out<'_, '_>) {
        match self.phase {
            Phase::Triggering { .. } => {}
            // Of a job that is nearly done nothing is mended by a restart.
            Phase::Waiting | Phase::Ending { .. } | Phase::Over => return,
        }
        self.failures_in_row += 1;
        let tolerable = self.settings.config.tolerable_failures;
        if self.failures_in_row <= tolerable {
            return;
        }
        // All tasks will be stopped: nothing is begun any more.
        self.phase = Phase::Waiting;
        let message = format!(
            "checkpoint {id} failed: {why} (execution.checkpointing.tolerable-failed-checkpoints is {tolerable})"
        );
        out.push(CoordinatorEffect::FailJob(FailureCause {
            class: FailureClass::Restart,
            operator: None,
            message,
        }));
    }

    /// Those of the tasks that run which are among these.
    fn tasks_of(&self, executions: &[ExecutionAttemptId]) -> Vec<Participant> {
        let among = |task: &&Participant| {
            task.progress != Progress::Finished && executions.contains(&task.execution)
        };
        self.phase.tasks().iter().filter(among).cloned().collect()
    }

    pub(super) fn discard(&self, id: CheckpointId, directory: String, out: Out<'_, '_>) {
        out.push(CoordinatorEffect::Storage(CheckpointEffect::Discard {
            id,
            directory,
        }));
    }

    /// Removes those that are not kept, unless something that is, or may be, refers to them.
    fn discard_subsumed(&mut self, out: Out<'_, '_>) {
        let (needed, free): (Vec<_>, Vec<_>) = std::mem::take(&mut self.subsumed)
            .into_iter()
            .partition(|one| self.is_needed(one));
        self.subsumed = needed;
        for one in free {
            self.discard(one.id, one.directory, out);
        }
    }

    pub(super) fn is_needed(&self, one: &CompletedCheckpoint) -> bool {
        let directory = &one.directory;
        let kept = self.completed.iter().any(|kept| kept.refers_to(directory));
        kept || self.pending.values().any(|pending| match pending {
            Pending::Preparing(_) => false,
            Pending::Collecting(pending) => {
                let done = pending.acknowledgements().values().flatten();
                done.into_iter()
                    .any(|done| refer_to(&done.snapshot.operators, directory))
            }
            Pending::Ready(whole) => whole.refers_to(directory),
            Pending::Persisting(persisting) => persisting.completed.refers_to(directory),
        })
    }

    pub(super) fn tasks_stop(&mut self, now: MonoTime, why: &str, out: Out<'_, '_>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.phase = Phase::Waiting;
        self.ownership = Ownership::Assumed;
        self.failures_in_row = 0;
        self.refuse_requests(why);
        if let Some(stopping) = self.stopping.take() {
            self.not_stopped(&stopping, out);
        }
        let unwritten = |pending: &Pending| !matches!(pending, Pending::Persisting(_));
        for id in self.pending_where(unwritten) {
            self.give_up(now, id, why, out);
        }
    }

    pub(super) fn job_over(&mut self, now: MonoTime, status: JobStatus, out: Out<'_, '_>) {
        if status == JobStatus::Finished {
            self.stopped();
        }
        self.tasks_stop(now, "the job is over", out);
        self.phase = Phase::Over;
        let kept = match self.settings.config.retention {
            CheckpointRetention::Retain => status != JobStatus::Finished,
            CheckpointRetention::DeleteOnCancellation => status == JobStatus::Failed,
            CheckpointRetention::None => false,
        };
        // What it was to begin with may have promised output that it has not committed.
        let untouched = self.settings.savepoints.recovery.is_some() && self.completed.is_empty();
        self.leaves_snapshots |= untouched || kept && !self.completed.is_empty();
        if !kept {
            self.remove_origin(out);
        }
        let used = self.next_id != self.settings.first_id || !self.completed.is_empty();
        if used && (!kept || self.completed.is_empty()) {
            let directory = self.settings.directory.clone();
            for one in self.completed.drain(..) {
                self.stats.discarded(one.id);
            }
            out.push(CoordinatorEffect::Storage(CheckpointEffect::RemoveAll {
                directory,
            }));
        }
        self.completed.clear();
        self.subsumed.clear();
    }
}
