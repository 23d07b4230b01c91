//! One execution attempt on its own thread, from its first state to its last.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

use spindle_common::checkpoint::TaskRestore;
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{FromWorker, TaskReport, TaskStateUpdate};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::key_group::key_groups_of;
use spindle_dataflow::task::{
    Step, Task, TaskContext, TaskError, TaskFactory, TaskMail, TaskMetrics, Waiting,
};
use tokio::sync::mpsc;

use crate::backend::{EarlierStores, StateBackend};
use crate::exchange::registry::Registry;
use crate::files::Share;
use crate::panics;
use crate::signal::Signal;
use crate::snapshot::{Beginning, Snapshots};

/// What a task's thread needs.
pub(crate) struct TaskThread {
    pub(crate) job: JobId,
    pub(crate) execution: ExecutionAttemptId,
    pub(crate) factory: Arc<dyn TaskFactory>,
    pub(crate) metrics: Arc<TaskMetrics>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) out: mpsc::Sender<FromWorker>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) restore: Option<TaskRestore>,
    /// Whether it reads a source. A gate sees by itself that no output is full.
    pub(crate) is_source: bool,
    pub(crate) backend: Option<StateBackend>,
}

/// How a task ended.
enum Outcome {
    Finished(Vec<(String, Vec<u8>)>),
    Canceled,
    Failed(FailureCause),
}

impl TaskThread {
    /// Runs the task on the calling thread.
    pub(crate) fn run(mut self, mut context: TaskContext) {
        self.signal.attach();
        self.metrics.time.begin();
        self.report(ExecutionState::Initializing, None, Vec::new());
        let backend = self.backend.take();
        let backend = backend.map(|backend| (backend.directory(self.execution), backend));
        let share = Share {
            groups: key_groups_of(
                self.execution.subtask,
                context.parallelism,
                context.max_parallelism,
            ),
            max_parallelism: context.max_parallelism,
        };
        let restored = self.restore.take().map_or_else(
            || Ok(Beginning::default()),
            |restore| {
                let directory = backend.as_ref().map(|(directory, _)| directory.clone());
                self.restored(restore, share, directory)
            },
        );
        let built = match restored {
            Ok(_) if self.signal.is_cancelled() => {
                drop(context);
                Err(Outcome::Canceled)
            }
            Ok(restored) => {
                context.restored = restored.state;
                self.build(context, backend, restored.stores)
            }
            Err(outcome) => {
                drop(context);
                Err(outcome)
            }
        };
        match built {
            Err(outcome) => self.end(outcome, None),
            Ok(mut task) => {
                self.report(ExecutionState::Running, None, Vec::new());
                let outcome = self.steps(&mut *task).unwrap_or_else(|outcome| outcome);
                self.end(outcome, Some(task));
            }
        }
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

    /// Waits for what the task begins with.
    fn restored(
        &self,
        restore: TaskRestore,
        share: Share,
        directory: Option<PathBuf>,
    ) -> Result<Beginning, Outcome> {
        let (answer, reading) = self.snapshots.read(restore, share, directory);
        loop {
            if self.signal.is_cancelled() {
                reading.abort();
                return Err(Outcome::Canceled);
            }
            match answer.try_recv() {
                Ok(restored) => return restored.map_err(Outcome::Failed),
                Err(TryRecvError::Empty) => self.signal.park(None),
                // The worker ends, and with it what runs beside its tasks.
                Err(TryRecvError::Disconnected) => return Err(Outcome::Canceled),
            }
        }
    }

    /// Hands the task what came for it.
    fn deliver(&self, task: &mut dyn Task) -> Result<(), Outcome> {
        for mail in self.signal.take_letters() {
            self.guard(|| task.handle(mail))?;
        }
        Ok(())
    }

    fn steps(&self, task: &mut dyn Task) -> Result<Outcome, Outcome> {
        loop {
            let has_mail = self.signal.clear_mail();
            if self.signal.is_cancelled() {
                return Err(Outcome::Canceled);
            }
            if has_mail {
                self.deliver(task)?;
            }
            if self.is_source && !self.signal.has_room() {
                let time = &self.metrics.time;
                time.wait(Waiting::Output, || self.signal.park(None));
                continue;
            }
            match self.guard(|| task.step())? {
                Step::Continue => {}
                Step::Held => self.signal.park(None),
                Step::Finished => {
                    self.registry.finish(self.execution);
                    break;
                }
                Step::AwaitingCommit => {
                    self.registry.finish(self.execution);
                    self.report(ExecutionState::AwaitingCommit, None, Vec::new());
                    while !self.signal.is_committed() {
                        if self.signal.is_cancelled() {
                            return Err(Outcome::Canceled);
                        }
                        self.deliver(task)?;
                        self.signal.park(None);
                    }
                    self.guard(|| task.commit())?;
                    break;
                }
            }
        }
        // A checkpoint that it was part of counts, so that is told before its end.
        while self.snapshots.is_under_way() {
            if self.signal.is_cancelled() {
                return Err(Outcome::Canceled);
            }
            self.signal.park(None);
        }
        self.guard(|| Ok(task.take_collected()))
            .map(Outcome::Finished)
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
    fn end(self, outcome: Outcome, task: Option<Box<dyn Task>>) {
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

/// Why a task that has ended is part of no checkpoint.
pub(crate) fn not_running(execution: ExecutionAttemptId) -> String {
    format!("task {execution} does not run")
}
