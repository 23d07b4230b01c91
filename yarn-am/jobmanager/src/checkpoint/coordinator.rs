//! The machine: triggers, collects, persists, tells, discards.

mod ends;
mod origin;
mod savepoints;
mod storage;
mod trigger;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use spindle_common::checkpoint::{CheckpointId, SubtaskCheckpointStats, SubtaskSnapshot};
use spindle_common::config::{CheckpointConfig, SavepointConfig};
use spindle_common::execution::{FailureCause, JobStatus};
use spindle_common::gateway::{TaskCheckpoint, TaskCheckpointOutcome, ToTaskExecutor};
use spindle_common::id::{ExecutionAttemptId, JobId, ResourceId};
use spindle_common::job_graph::JobGraph;
use spindle_common::time::MonoTime;

use super::acknowledged::{AcknowledgedCheckpoint, CompletedCheckpoint, Misfit};
use super::pending::{Acknowledged, Acknowledgement, Head, PendingCheckpoint, Preparing};
use super::restore::RestorePlan;
use super::stats::{CheckpointStats, CheckpointsView};
use crate::machine::{Machine, Outbox};
use crate::message::{CheckpointEffect, CheckpointEvent, SavepointRequest, Transition};
pub(crate) use trigger::{Participant, Progress};

/// After how long the removal of what must not stay is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How checkpoints of one job are taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckpointSettings {
    pub(crate) config: CheckpointConfig,
    pub(crate) savepoints: SavepointConfig,
    /// The job's own directory, as a URI.
    pub(crate) directory: String,
    /// What the calendar said at [`MonoTime::ZERO`], in milliseconds since the epoch.
    pub(crate) epoch_ms: u64,
    /// The first number that nobody has used.
    pub(crate) first_id: CheckpointId,
    /// Whether an earlier attempt of the JobManager may have left some.
    pub(crate) discover: bool,
}

/// What can happen to it.
#[derive(Debug)]
pub(crate) enum CheckpointInput {
    /// The job begins.
    Start,
    /// All tasks have come to run: these.
    TasksRun(Vec<Participant>),
    /// A task is done, as far as it says.
    TaskDone {
        task: ExecutionAttemptId,
        progress: Progress,
    },
    /// All tasks are being stopped.
    TasksStop {
        why: String,
    },
    /// What a task of the current attempt says.
    Task(Box<TaskCheckpoint>),
    /// What the storage says, or somebody who wants a checkpoint.
    Event(CheckpointEvent),
    /// The job is over.
    JobOver(JobStatus),
    Tick,
}

/// What it wants done.
#[derive(Debug)]
pub(crate) enum CoordinatorEffect {
    Storage(CheckpointEffect),
    Send {
        to: ResourceId,
        message: Box<ToTaskExecutor>,
    },
    /// There is a savepoint, whose prepared output is not the job's alone.
    KeepStaging,
    /// Too many checkpoints failed.
    FailJob(FailureCause),
    Transition(Transition),
}

/// Whether checkpoints can be begun.
#[derive(Debug)]
enum Phase {
    /// Not all tasks have come to run.
    Waiting,
    Triggering {
        tasks: Vec<Participant>,
        /// When the next is due by the interval.
        next: Option<MonoTime>,
    },
    /// All sources are done: what is under way may still be complete.
    Ending { tasks: Vec<Participant> },
    /// The job is over.
    Over,
}

/// A checkpoint that is under way.
#[derive(Debug)]
enum Pending {
    Preparing(Preparing),
    Collecting(PendingCheckpoint),
    /// Waits until those before it are persisted.
    Ready(AcknowledgedCheckpoint),
    Persisting(Persisting),
}

/// Its metadata is being written: whether it is complete, only the storage knows.
#[derive(Debug)]
struct Persisting {
    head: Head,
    tasks: Vec<ExecutionAttemptId>,
    completed: CompletedCheckpoint,
    /// Of a savepoint that is durable and that the job stops with: the checkpoint by which the job itself finds it, being written.
    anchor: Option<CompletedCheckpoint>,
}

/// A checkpoint that may be complete for all that is known, and must not be.
#[derive(Debug)]
struct Condemned {
    directory: String,
    /// When its removal is asked for again; nothing while that is under way.
    retry: Option<MonoTime>,
}

/// Whether the job was this attempt's since its tasks have done all but commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    Assumed,
    /// That will be asked for at this time; nothing while the answer is awaited.
    Wanted(Option<MonoTime>),
    Known,
}

/// Whether it is known what the job begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Discovery {
    /// What an earlier attempt of the JobManager left will be asked for at this time; nothing while the answer is awaited.
    Wanted(Option<MonoTime>),
    /// The same of the snapshot that the job is to begin with if an attempt before left nothing.
    Loading(Option<MonoTime>),
    Done,
}

/// Takes checkpoints of one job.
#[derive(Debug)]
pub(crate) struct CheckpointCoordinator {
    job: JobId,
    graph: Arc<JobGraph>,
    settings: CheckpointSettings,
    discovery: Discovery,
    next_id: CheckpointId,
    phase: Phase,
    pending: BTreeMap<CheckpointId, Pending>,
    /// Those that are kept, the newest last.
    completed: VecDeque<CompletedCheckpoint>,
    /// Those that others still need files of.
    subsumed: Vec<CompletedCheckpoint>,
    condemned: BTreeMap<CheckpointId, Condemned>,
    /// The snapshot that the job was started with, until it has enough of its own.
    origin: Option<CompletedCheckpoint>,
    /// Directory of what the tasks began with at their newest start.
    restored: Option<String>,
    /// Those that failed while their directory was being made.
    abandoned: BTreeSet<CheckpointId>,
    /// Requests that wait for their turn.
    requests: VecDeque<Request>,
    /// The savepoint that tasks are ending with.
    stopping: Option<Stopping>,
    /// Whether something is left from which the job's output may be completed one day.
    leaves_snapshots: bool,
    failures_in_row: u32,
    last_end: Option<MonoTime>,
    /// Whether a later attempt of the JobManager has the job: then this one neither starts its tasks again nor brings it to an end.
    superseded: bool,
    ownership: Ownership,
    stats: CheckpointStats,
}

/// Somebody who waits for a checkpoint or savepoint.
#[derive(Debug)]
struct Request {
    number: u64,
    savepoint: Option<SavepointRequest>,
}

/// A complete savepoint with which the job is to be over.
#[derive(Debug)]
struct Stopping {
    id: CheckpointId,
    directory: String,
    request: Option<u64>,
}

type Out<'a, 'b> = &'a mut Outbox<'b, CoordinatorEffect>;

impl CheckpointCoordinator {
    pub(crate) fn new(job: JobId, graph: Arc<JobGraph>, settings: CheckpointSettings) -> Self {
        let stats = CheckpointStats::new(&settings.config, &settings.directory);
        Self {
            job,
            graph,
            discovery: Discovery::Done,
            next_id: settings.first_id,
            settings,
            phase: Phase::Waiting,
            pending: BTreeMap::new(),
            completed: VecDeque::new(),
            subsumed: Vec::new(),
            condemned: BTreeMap::new(),
            origin: None,
            restored: None,
            stopping: None,
            leaves_snapshots: false,
            abandoned: BTreeSet::new(),
            requests: VecDeque::new(),
            failures_in_row: 0,
            last_end: None,
            superseded: false,
            ownership: Ownership::Assumed,
            stats,
        }
    }

    /// Of a job that is over: whether something is left from which its output may be completed one day.
    pub(crate) const fn leaves_snapshots(&self) -> bool {
        self.leaves_snapshots
    }

    /// What can be seen of it.
    pub(crate) fn view(&self) -> Arc<CheckpointsView> {
        self.stats.view()
    }

    /// Whether a checkpoint may be complete for all that is known: until the storage answers, the job does not end. Nor does it if its end is
    /// another attempt's to tell.
    pub(crate) fn is_persisting(&self) -> bool {
        let persisting = |pending: &Pending| matches!(pending, Pending::Persisting(_));
        self.superseded || self.pending.values().any(persisting)
    }

    /// Whether it is certain which checkpoint is the newest: only then may the job start again.
    pub(crate) fn is_settled(&self) -> bool {
        self.discovery == Discovery::Done && self.condemned.is_empty() && !self.is_persisting()
    }

    /// What tasks are to begin with, if there is a complete checkpoint.
    ///
    /// # Errors
    /// If it does not fit the job.
    pub(crate) fn restore(&self) -> Result<Option<RestorePlan<'_>>, String> {
        match (self.completed.back(), &self.origin) {
            (Some(newest), _) => RestorePlan::new(newest, &self.graph, false).map(Some),
            (None, Some(origin)) => {
                let recovery = self.settings.savepoints.recovery.as_ref();
                let allowed = recovery.is_some_and(|recovery| recovery.ignore_unclaimed_state);
                RestorePlan::new(origin, &self.graph, allowed).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The tasks were sent with what [`Self::restore`] says.
    pub(crate) fn restored(&mut self, now: MonoTime) {
        let newest = self.completed.back().or(self.origin.as_ref());
        self.restored = newest.map(|newest| newest.directory.clone());
        if let Some(newest) = newest {
            self.stats.restored(now, newest);
        }
    }

    /// What the tasks began with is damaged. It is passed over from now on, and left where it is; answers whether there is one before
    /// it. That several tasks find it does no harm.
    pub(crate) fn fall_back(&mut self, why: &str, out: Out<'_, '_>) -> bool {
        let damaged = self.restored.take();
        let newest = self.completed.back().or(self.origin.as_ref());
        let damaged = newest.filter(|newest| Some(&newest.directory) == damaged.as_ref());
        if let Some(id) = damaged.map(|damaged| damaged.id) {
            if self.completed.pop_back().is_none() {
                self.origin = None;
            }
            let what = format!("is damaged and passed over: {why}");
            out.push(self.transition(Some(id), what));
        }
        !self.completed.is_empty() || self.origin.is_some()
    }

    fn pending_where(&self, wanted: impl Fn(&Pending) -> bool) -> Vec<CheckpointId> {
        let pending = self.pending.iter();
        pending
            .filter(|(_, pending)| wanted(pending))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What the calendar says at a time, in milliseconds since the epoch.
    fn calendar(&self, at: MonoTime) -> i64 {
        i64::try_from(self.settings.epoch_ms + at.as_millis()).unwrap_or(i64::MAX)
    }

    fn task(&mut self, now: MonoTime, done: TaskCheckpoint, out: Out<'_, '_>) {
        let TaskCheckpoint {
            execution: task,
            checkpoint: id,
            outcome,
            ..
        } = done;
        if !self.pending.get(&id).is_some_and(|one| one.awaits(task)) {
            let what = format!("what {task} says of checkpoint {id}");
            out.push(CoordinatorEffect::Transition(Transition::Stale { what }));
            return;
        }
        match outcome {
            TaskCheckpointOutcome::Acknowledged { snapshot, stats } => {
                self.acknowledged(now, id, task, snapshot, stats, out);
            }
            TaskCheckpointOutcome::Declined { reason } => {
                let why = format!("{} declined it: {reason}", self.name_of(task));
                self.fail(now, id, &why, true, out);
            }
        }
    }

    /// A task has written its part of a checkpoint that awaits it.
    fn acknowledged(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        task: ExecutionAttemptId,
        snapshot: SubtaskSnapshot,
        stats: SubtaskCheckpointStats,
        out: Out<'_, '_>,
    ) {
        let pending = match self.pending.remove(&id) {
            Some(Pending::Collecting(pending)) => pending,
            other => {
                self.pending.extend(other.map(|other| (id, other)));
                return;
            }
        };
        self.stats.acknowledged(now, id, stats);
        let acknowledgement = Acknowledgement {
            at: now,
            snapshot,
            stats,
        };
        match pending.acknowledge(&self.graph, task, acknowledgement) {
            Acknowledged::Waiting(pending) | Acknowledged::Stale(pending) => {
                self.pending.insert(id, Pending::Collecting(pending));
            }
            Acknowledged::Inconsistent(pending, misfit) => {
                self.pending.insert(id, Pending::Collecting(pending));
                match misfit {
                    Misfit::Wrong(why) => self.fail(now, id, &why, true, out),
                    Misfit::Unsupported(why) => self.fail(now, id, &why, false, out),
                }
            }
            Acknowledged::All(whole, acknowledgements) => {
                self.stats.subtasks(&self.graph, id, &acknowledgements);
                self.pending.insert(id, Pending::Ready(whole));
                self.persist_next(out);
            }
        }
    }

    /// A task's name and number, for people.
    fn name_of(&self, task: ExecutionAttemptId) -> String {
        match self.graph.vertex(task.vertex) {
            Some(vertex) => format!(
                "`{}` ({}/{})",
                vertex.name(),
                task.subtask + 1,
                vertex.parallelism
            ),
            None => task.to_string(),
        }
    }

    fn tick(&mut self, now: MonoTime, out: Out<'_, '_>) {
        let late = |head: &Head| head.deadline <= now;
        let expired = self.pending_where(|pending| match pending {
            Pending::Preparing(preparing) => late(&preparing.head),
            Pending::Collecting(pending) => late(&pending.head),
            Pending::Ready(whole) => late(&whole.head),
            Pending::Persisting(_) => false,
        });
        for id in expired {
            let why = self.why_late(id);
            self.fail(now, id, &why, true, out);
        }
        match self.discovery {
            Discovery::Wanted(Some(at)) if at <= now => self.discover(out),
            Discovery::Loading(Some(at)) if at <= now => self.load(out),
            Discovery::Wanted(_) | Discovery::Loading(_) | Discovery::Done => {}
        }
        match self.ownership {
            Ownership::Wanted(Some(at)) if at <= now => self.ask_for_ownership(out),
            Ownership::Assumed | Ownership::Wanted(_) | Ownership::Known => {}
        }
        for (&id, condemned) in &mut self.condemned {
            if condemned.retry.take_if(|at| *at <= now).is_some() {
                let directory = condemned.directory.clone();
                out.push(CoordinatorEffect::Storage(CheckpointEffect::Discard {
                    id,
                    directory,
                }));
            }
        }
    }

    fn why_late(&self, id: CheckpointId) -> String {
        let timeout = self.settings.config.timeout.as_secs_f64();
        let waited_for = match self.pending.get(&id) {
            Some(Pending::Preparing(_)) => "its directory was not made".to_owned(),
            Some(Pending::Collecting(pending)) => {
                let missing = pending.missing_tasks();
                let names: BTreeSet<String> = missing.map(|task| self.name_of(task)).collect();
                let first: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
                let more = match names.len().saturating_sub(first.len()) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{}{more} had not acknowledged it", first.join(", "))
            }
            Some(Pending::Ready(_) | Pending::Persisting(_)) | None => {
                "those before it were not written".to_owned()
            }
        };
        format!(
            "it was not complete after {timeout} s (execution.checkpointing.timeout): {waited_for}"
        )
    }

    fn transition(&self, checkpoint: Option<CheckpointId>, what: String) -> CoordinatorEffect {
        CoordinatorEffect::Transition(Transition::Checkpoint {
            job: self.job,
            checkpoint,
            what,
        })
    }
}

impl Machine for CheckpointCoordinator {
    type Input = CheckpointInput;
    type Effect = CoordinatorEffect;

    fn handle(
        &mut self,
        now: MonoTime,
        input: CheckpointInput,
        out: &mut Outbox<'_, CoordinatorEffect>,
    ) {
        match input {
            CheckpointInput::Start => {
                if self.settings.discover {
                    self.discover(out);
                } else {
                    self.load(out);
                }
            }
            CheckpointInput::TasksRun(tasks) => self.tasks_run(now, tasks, out),
            CheckpointInput::TaskDone { task, progress } => {
                self.task_done(now, task, progress, out);
            }
            CheckpointInput::TasksStop { why } => self.tasks_stop(now, &why, out),
            CheckpointInput::Task(done) => self.task(now, *done, out),
            CheckpointInput::Event(event) => self.event(now, event, out),
            CheckpointInput::JobOver(status) => self.job_over(now, status, out),
            CheckpointInput::Tick => self.tick(now, out),
        }
        self.begin_if_due(now, out);
    }

    fn deadline(&self) -> Option<MonoTime> {
        let pending = self.pending.values().filter_map(|pending| match pending {
            Pending::Preparing(preparing) => Some(preparing.head.deadline),
            Pending::Collecting(pending) => Some(pending.head.deadline),
            Pending::Ready(whole) => Some(whole.head.deadline),
            Pending::Persisting(_) => None,
        });
        let retries = self.condemned.values().filter_map(|c| c.retry);
        let discovery = match self.discovery {
            Discovery::Wanted(at) | Discovery::Loading(at) => at,
            Discovery::Done => None,
        };
        let ownership = match self.ownership {
            Ownership::Wanted(at) => at,
            Ownership::Assumed | Ownership::Known => None,
        };
        let due = self.due().into_iter().chain(discovery).chain(ownership);
        pending.chain(retries).chain(due).min()
    }
}
