//! One execution attempt, from its first state to its last: a turn at a time, on the thread that it was given.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use spindle_common::checkpoint::TaskRestore;
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{FromWorker, TaskReport, TaskStateUpdate};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::key_group::key_groups_of;
use spindle_dataflow::task::{
    Step, Task, TaskContext, TaskError, TaskFactory, TaskMail, TaskMetrics, Waiting,
};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::backend::{EarlierStores, StateBackend};
use crate::exchange::registry::Registry;
use crate::files::Share;
use crate::panics;
use crate::signal::Signal;
use crate::snapshot::{Beginning, Restored, Snapshots};

/// What a task that runs needs besides its context.
pub(crate) struct TaskParts {
    pub(crate) job: JobId,
    pub(crate) execution: ExecutionAttemptId,
    /// Its vertex's place in the graph: producers before their consumers.
    pub(crate) vertex: usize,
    pub(crate) factory: Arc<dyn TaskFactory>,
    pub(crate) metrics: Arc<TaskMetrics>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) out: mpsc::Sender<FromWorker>,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Whether it reads a source. A gate sees by itself that no output is full.
    pub(crate) is_source: bool,
    /// Whether others read what it makes.
    pub(crate) is_read: bool,
}

/// How a task ended.
enum Outcome {
    Finished(Vec<(String, Vec<u8>)>),
    Canceled,
    Failed(FailureCause),
}

/// A task that has yet to get to its thread.
pub(crate) struct NewTask {
    pub(crate) parts: TaskParts,
    pub(crate) beginnings: Beginnings,
    /// Called when it is over.
    pub(crate) on_end: Box<dyn FnOnce() + Send>,
}

/// A task that runs. It stays on the thread that it was made on.
pub(crate) struct TaskRun {
    parts: TaskParts,
    phase: Phase,
    task: Option<Box<dyn Task>>,
    /// Whether its last turn was one of rest.
    rested: bool,
    /// Called when it is over.
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

/// Where it is.
enum Phase {
    /// It has not had a turn.
    New(Box<Beginnings>),
    /// What it begins with is read.
    Restoring(Box<Beginnings>, Receiver<Restored>, AbortHandle),
    Running,
    /// All is written, and waits to be made visible.
    AwaitingCommit,
    /// All is done, and the checkpoints that it was part of are made durable.
    Settling,
    Over,
}

/// What a task is made of.
pub(crate) struct Beginnings {
    pub(crate) context: TaskContext,
    pub(crate) restore: Option<TaskRestore>,
    pub(crate) backend: Option<StateBackend>,
}

/// What comes of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do.
    Again,
    /// Nothing is to be done before it is woken, or until then.
    Rest(Option<Instant>),
    /// It has ended.
    Over,
}

impl TaskRun {
    /// On the thread that it is to run on.
    pub(crate) fn new(task: NewTask) -> Self {
        task.parts.signal.attach();
        Self {
            parts: task.parts,
            phase: Phase::New(Box::new(task.beginnings)),
            task: None,
            rested: false,
            on_end: Some(task.on_end),
        }
    }

    pub(crate) const fn execution(&self) -> ExecutionAttemptId {
        self.parts.execution
    }

    pub(crate) const fn vertex(&self) -> usize {
        self.parts.vertex
    }

    pub(crate) const fn signal(&self) -> &Arc<Signal> {
        &self.parts.signal
    }

    /// Others have their turns before its next one. If it is read, those are what it waits for; else for its input.
    pub(crate) fn stand_by(&mut self) {
        if !std::mem::replace(&mut self.rested, true) {
            let read = self.parts.is_read;
            let waiting = if read {
                Waiting::Output
            } else {
                Waiting::Input
            };
            self.parts.metrics.time.rest(waiting);
        }
    }

    /// Does a bounded amount of work.
    pub(crate) fn turn(&mut self) -> Turn {
        let parts = &self.parts;
        if std::mem::take(&mut self.rested) {
            parts.metrics.time.resume();
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        match parts.advance(phase, &mut self.task) {
            Ok((phase, turn)) => {
                self.phase = phase;
                self.rested = matches!(turn, Turn::Rest(_));
                turn
            }
            Err(outcome) => {
                self.parts.end(outcome, self.task.take());
                if let Some(on_end) = self.on_end.take() {
                    on_end();
                }
                Turn::Over
            }
        }
    }
}

impl TaskParts {
    /// Returns the next phase, or how it has ended.
    fn advance(
        &self,
        phase: Phase,
        task: &mut Option<Box<dyn Task>>,
    ) -> Result<(Phase, Turn), Outcome> {
        const REST: Turn = Turn::Rest(None);
        if self.signal.is_cancelled() {
            if let Phase::Restoring(_, _, reading) = &phase {
                reading.abort();
            }
            return Err(Outcome::Canceled);
        }
        match phase {
            Phase::New(beginnings) => self.begin(beginnings, task),
            Phase::Restoring(beginnings, answer, reading) => match answer.try_recv() {
                Ok(restored) => {
                    let restored = restored.map_err(Outcome::Failed)?;
                    self.start(*beginnings, restored, task)
                }
                Err(TryRecvError::Empty) => {
                    Ok((Phase::Restoring(beginnings, answer, reading), REST))
                }
                // The worker ends, and with it what runs beside its tasks.
                Err(TryRecvError::Disconnected) => Err(Outcome::Canceled),
            },
            Phase::Running => self.step(running(task)),
            Phase::AwaitingCommit if self.signal.is_committed() => {
                self.guard(|| running(task).commit())?;
                Ok((Phase::Settling, Turn::Again))
            }
            Phase::AwaitingCommit => {
                self.deliver(running(task))?;
                Ok((Phase::AwaitingCommit, REST))
            }
            // A checkpoint that it was part of counts, so that is told before its end.
            Phase::Settling if self.snapshots.is_under_way() => Ok((Phase::Settling, REST)),
            Phase::Settling => {
                let collected = self.guard(|| Ok(running(task).take_collected()))?;
                Err(Outcome::Finished(collected))
            }
            Phase::Over => unreachable!("a task that is over has no turn"),
        }
    }

    fn begin(
        &self,
        mut beginnings: Box<Beginnings>,
        task: &mut Option<Box<dyn Task>>,
    ) -> Result<(Phase, Turn), Outcome> {
        self.metrics.time.begin();
        self.report(ExecutionState::Initializing, None, Vec::new());
        let Some(restore) = beginnings.restore.take() else {
            return self.start(*beginnings, Beginning::default(), task);
        };
        let context = &beginnings.context;
        let share = Share {
            groups: key_groups_of(
                self.execution.subtask,
                context.parallelism,
                context.max_parallelism,
            ),
            max_parallelism: context.max_parallelism,
        };
        let directory = beginnings.backend.as_ref();
        let directory = directory.map(|backend| backend.directory(self.execution));
        let (answer, reading) = self.snapshots.read(restore, share, directory);
        Ok((
            Phase::Restoring(beginnings, answer, reading),
            Turn::Rest(None),
        ))
    }

    fn start(
        &self,
        beginnings: Beginnings,
        restored: Beginning,
        task: &mut Option<Box<dyn Task>>,
    ) -> Result<(Phase, Turn), Outcome> {
        let Beginnings {
            mut context,
            backend,
            ..
        } = beginnings;
        let backend = backend.map(|backend| (backend.directory(self.execution), backend));
        context.restored = restored.state;
        *task = Some(self.build(context, backend, restored.stores)?);
        self.report(ExecutionState::Running, None, Vec::new());
        Ok((Phase::Running, Turn::Again))
    }

    fn build(
        &self,
        mut context: TaskContext,
        backend: Option<(PathBuf, StateBackend)>,
        earlier: EarlierStores,
    ) -> Result<Box<dyn Task>, Outcome> {
        if let Some((directory, backend)) = backend {
            let stores = backend.stores(&directory, earlier);
            context.stores = Some(stores.map_err(Outcome::Failed)?);
        }
        self.guard(|| self.factory.build(context))
    }

    /// Hands the task what came for it.
    fn deliver(&self, task: &mut dyn Task) -> Result<(), Outcome> {
        for mail in self.signal.take_letters() {
            self.guard(|| task.handle(mail))?;
        }
        Ok(())
    }

    fn step(&self, task: &mut dyn Task) -> Result<(Phase, Turn), Outcome> {
        if self.signal.clear_mail() {
            self.deliver(task)?;
        }
        if self.is_source && !self.signal.has_room() {
            self.metrics.time.rest(Waiting::Output);
            return Ok((Phase::Running, Turn::Rest(None)));
        }
        Ok(match self.guard(|| task.step())? {
            Step::Continue => match self.signal.take_rest() {
                None => (Phase::Running, Turn::Again),
                Some(until) => (Phase::Running, Turn::Rest(until)),
            },
            Step::Held => (Phase::Running, Turn::Rest(None)),
            Step::Finished => {
                self.registry.finish(self.execution);
                (Phase::Settling, Turn::Again)
            }
            Step::AwaitingCommit => {
                self.registry.finish(self.execution);
                self.report(ExecutionState::AwaitingCommit, None, Vec::new());
                (Phase::AwaitingCommit, Turn::Again)
            }
        })
    }

    /// Runs code of the task, which may fail or panic.
    fn guard<R>(&self, code: impl FnOnce() -> Result<R, TaskError>) -> Result<R, Outcome> {
        match panics::catch(code) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(TaskError::Cancelled)) if self.signal.is_cancelled() => Err(Outcome::Canceled),
            Ok(Err(error)) => Err(Outcome::Failed(error.into_cause())),
            Err(message) => Err(Outcome::Failed(FailureCause {
                class: FailureClass::Restart,
                operator: spindle_dataflow::current_operator(),
                message,
            })),
        }
    }

    /// Tells the end. A failure is told before the neighbours can notice it, so that they do not tell theirs first; a task that was
    /// cancelled or finished has let go of everything when it says so.
    fn end(&self, outcome: Outcome, task: Option<Box<dyn Task>>) {
        self.snapshots.stop_all();
        // Who has finished is part of every checkpoint, as such.
        let finished = matches!(outcome, Outcome::Finished(_));
        for mail in self.signal.close_letters() {
            match mail {
                TaskMail::TriggerCheckpoint(_) if finished => {}
                TaskMail::TriggerCheckpoint(barrier) => {
                    self.snapshots
                        .decline(barrier.id, not_running(self.execution));
                }
                TaskMail::CheckpointComplete(_) | TaskMail::CheckpointAborted(_) => {}
            }
        }
        self.metrics.time.end();
        let counters = TaskReport {
            job: self.job,
            execution: self.execution,
            metrics: self.metrics.snapshot(),
        };
        let _ = self.out.blocking_send(FromWorker::Report(vec![counters]));
        match outcome {
            Outcome::Finished(collected) => {
                self.drop_task(task);
                self.report(ExecutionState::Finished, None, collected);
            }
            Outcome::Canceled => {
                self.drop_task(task);
                self.registry.lose(self.execution, "the task was cancelled");
                self.report(ExecutionState::Canceled, None, Vec::new());
            }
            Outcome::Failed(cause) => {
                tracing::warn!(execution = %self.execution, %cause, "task failed");
                self.report(ExecutionState::Failed, Some(cause), Vec::new());
                self.registry.lose(self.execution, "the task failed");
                self.drop_task(task);
            }
        }
    }

    fn drop_task(&self, task: Option<Box<dyn Task>>) {
        if let Err(message) = panics::catch(|| drop(task)) {
            tracing::warn!(execution = %self.execution, message, "task panicked when it was dropped");
        }
    }

    fn report(
        &self,
        state: ExecutionState,
        cause: Option<FailureCause>,
        collected: Vec<(String, Vec<u8>)>,
    ) {
        tracing::info!(execution = %self.execution, ?state, "task");
        // Nobody listens any more only when the worker ends.
        let _ = self
            .out
            .blocking_send(FromWorker::TaskState(TaskStateUpdate {
                job: self.job,
                execution: self.execution,
                state,
                cause,
                metrics: self.metrics.snapshot(),
                collected,
            }));
    }
}

/// The task, from when it was made.
fn running(task: &mut Option<Box<dyn Task>>) -> &mut dyn Task {
    &mut **task.as_mut().expect("it was made before it ran")
}

/// Why a task that has ended is part of no checkpoint.
pub(crate) fn not_running(execution: ExecutionAttemptId) -> String {
    format!("task {execution} does not run")
}
