//! When a checkpoint is begun, and who is asked for it. Flink: `DefaultCheckpointPlanCalculator`.
//!
//! Sources are told to send barriers behind what they have read. No barrier comes to a task that has read all its input and waits for its
//! commit: it is asked itself. Who has finished is part of every checkpoint, as such. All others are waited for: each gets its barriers, or
//! comes to the end of its input behind no barrier, and then that is its answer.

use spindle_common::checkpoint::{
    CheckpointBarrier, CheckpointId, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::gateway::ToTaskExecutor;
use spindle_common::id::{ExecutionAttemptId, ResourceId};
use spindle_common::time::MonoTime;

use super::savepoints::savepoint_kind;
use super::{CheckpointCoordinator, CoordinatorEffect, Out, Pending, Phase, Request};
use crate::checkpoint::pending::{Head, Preparing};
use crate::message::CheckpointEffect;

/// A task that takes part in checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct Participant {
    pub(crate) execution: ExecutionAttemptId,
    pub(crate) resource: ResourceId,
    pub(crate) is_source: bool,
    pub(crate) progress: Progress,
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Runs,
    /// It has read and written all, and has output to commit.
    Awaits,
    /// There is nothing more of it, and nothing left to do for what it wrote.
    Finished,
}

impl Phase {
    /// The tasks that take part; none if not all have come to run.
    pub(super) fn tasks(&self) -> &[Participant] {
        match self {
            Self::Triggering { tasks, .. } | Self::Ending { tasks } => tasks,
            Self::Waiting | Self::Over => &[],
        }
    }
}

impl CheckpointCoordinator {
    pub(super) fn tasks_run(&mut self, now: MonoTime, tasks: Vec<Participant>, out: Out<'_, '_>) {
        let next = self.settings.config.interval.map(|interval| now + interval);
        self.phase = Phase::Triggering { tasks, next };
        self.end_if_nothing_is_read(out);
    }

    /// A task has come to its end.
    pub(super) fn task_done(
        &mut self,
        now: MonoTime,
        task: ExecutionAttemptId,
        progress: Progress,
        out: Out<'_, '_>,
    ) {
        let (Phase::Triggering { tasks, .. } | Phase::Ending { tasks }) = &mut self.phase else {
            return;
        };
        let Some(done) = tasks.iter_mut().find(|one| one.execution == task) else {
            return;
        };
        done.progress = progress;
        let done = done.clone();
        for id in self.pending_where(|pending| pending.awaits(task)) {
            match progress {
                Progress::Runs => {}
                Progress::Awaits => self.ask(id, &done, out),
                Progress::Finished => self.finished(now, id, task, out),
            }
        }
        self.end_if_nothing_is_read(out);
        let tasks = self.phase.tasks();
        if tasks.iter().all(|one| one.progress != Progress::Runs) {
            let open = |pending: &Pending| match pending {
                Pending::Preparing(_) | Pending::Collecting(_) => true,
                Pending::Ready(_) | Pending::Persisting(_) => false,
            };
            for id in self.pending_where(open) {
                let why = "the job is ending: all its tasks are done";
                self.fail(now, id, why, false, out);
            }
        }
    }

    /// Once all sources are done, what is under way still comes to its end, and nothing else is begun.
    fn end_if_nothing_is_read(&mut self, out: Out<'_, '_>) {
        let Phase::Triggering { tasks, .. } = &mut self.phase else {
            return;
        };
        let reads = |one: &Participant| one.is_source && one.progress == Progress::Runs;
        if tasks.iter().any(reads) {
            return;
        }
        let tasks = std::mem::take(tasks);
        self.phase = Phase::Ending { tasks };
        let why = "the job is ending: all its sources are done".to_owned();
        self.refuse_requests(&why);
        if self.settings.config.interval.is_some() {
            out.push(self.transition(None, format!("none is begun any more: {why}")));
        }
    }

    /// When the next checkpoint may be begun, if one is wanted and there is room.
    pub(super) fn due(&self) -> Option<MonoTime> {
        let Phase::Triggering { next, .. } = &self.phase else {
            return None;
        };
        // Barriers leave in the order of their numbers, so directories are made one after the other.
        let preparing = |pending: &Pending| matches!(pending, Pending::Preparing(_));
        if self.stops()
            || self.superseded
            || self.pending.len() >= self.settings.config.max_concurrent as usize
            || self.pending.values().any(preparing)
        {
            return None;
        }
        if !self.requests.is_empty() {
            return Some(MonoTime::ZERO);
        }
        let pause = self
            .last_end
            .map(|end| end + self.settings.config.min_pause);
        next.map(|next| pause.map_or(next, |pause| next.max(pause)))
    }

    pub(super) fn begin_if_due(&mut self, now: MonoTime, out: Out<'_, '_>) {
        while self.due().is_some_and(|due| due <= now) {
            let Phase::Triggering { tasks, next } = &mut self.phase else {
                return;
            };
            let request = self.requests.pop_front();
            let (request, savepoint) = match request {
                Some(Request { number, savepoint }) => (Some(number), savepoint),
                None => (None, None),
            };
            let interval = self.settings.config.interval;
            *next = interval.map(|interval| now + interval);
            let id = self.next_id;
            self.next_id = CheckpointId(id.0 + 1);
            let head = Head {
                id,
                kind: savepoint_kind(savepoint.as_ref()),
                triggered: now,
                deadline: now + self.settings.config.timeout,
                request,
            };
            self.stats.begun(&head, tasks.len());
            let directory = match savepoint {
                Some(savepoint) => self.savepoint_directory(&savepoint),
                None => format!("{}/chk-{id}", self.settings.directory),
            };
            self.pending
                .insert(id, Pending::Preparing(Preparing { head }));
            out.push(CoordinatorEffect::Storage(CheckpointEffect::Prepare {
                id,
                directory,
            }));
        }
    }

    /// Its directory is there.
    pub(super) fn prepared(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        directory: String,
        out: Out<'_, '_>,
    ) {
        let preparing = match (&self.phase, self.pending.remove(&id)) {
            (
                Phase::Triggering { .. } | Phase::Ending { .. },
                Some(Pending::Preparing(preparing)),
            ) => preparing,
            (_, other) => {
                self.pending.extend(other.map(|other| (id, other)));
                if self.abandoned.remove(&id) {
                    self.discard(id, directory, out);
                }
                return;
            }
        };
        let tasks = self.phase.tasks().to_vec();
        self.stats.prepared(id, &directory);
        let pending = preparing.prepared(directory, tasks.iter().map(|task| task.execution));
        self.pending.insert(id, Pending::Collecting(pending));
        for task in &tasks {
            match task.progress {
                Progress::Runs if task.is_source => self.ask(id, task, out),
                Progress::Awaits => self.ask(id, task, out),
                Progress::Runs | Progress::Finished => {}
            }
        }
        out.push(self.transition(Some(id), "triggered".to_owned()));
        let finished = |task: &&Participant| task.progress == Progress::Finished;
        for task in tasks.iter().filter(finished) {
            self.finished(now, id, task.execution, out);
        }
    }

    /// Has a task send its barriers, or, when it has nobody to send any to, tell what it has to commit.
    fn ask(&self, id: CheckpointId, task: &Participant, out: Out<'_, '_>) {
        let Some(Pending::Collecting(pending)) = self.pending.get(&id) else {
            return;
        };
        let message = ToTaskExecutor::TriggerCheckpoint {
            job: self.job,
            execution: task.execution,
            barrier: CheckpointBarrier {
                id,
                timestamp_ms: self.calendar(pending.head.triggered),
                kind: pending.head.kind,
                directory: pending.directory.as_str().into(),
                alignment: pending.head.alignment(self.settings.config.alignment),
            },
        };
        out.push(CoordinatorEffect::Send {
            to: task.resource.clone(),
            message: Box::new(message),
        });
    }

    fn finished(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        task: ExecutionAttemptId,
        out: Out<'_, '_>,
    ) {
        let nothing = SubtaskCheckpointStats::default();
        self.acknowledged(now, id, task, SubtaskSnapshot::of_finished(), nothing, out);
    }
}
