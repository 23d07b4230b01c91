//! Who has which slot, and which worker is in which state: a machine without I/O or a clock.
//!
//! A job has one worker here as long as it has a slot. A worker is `Fetching` until its program is there, `Starting` until it said
//! hello, `Ready` then; one that is no longer wanted is told to end, and killed if it takes too long. What a worker of a former
//! lease still says is dropped.
//!
//! A job may use as much memory as its slots here are worth, and a task has to stop in time when it is told to: who breaks either
//! rule is killed and reported as lost, so that it hurts no other job.

mod hello;
mod lease;
mod message;
mod programs;
mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{
    FromWorker, TaskCheckpoint, TaskDeployment, TaskReport, TaskStateUpdate, ToJobManager,
    ToTaskExecutor, ToWorker,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId};
use spindle_common::resource::{SlotProfile, TASK_EXECUTOR_MEMORY};
use spindle_common::time::MonoTime;

use self::hello::check_hello;
pub use self::message::{Effect, Input, WorkerId};
use self::programs::Programs;
use self::worker::{Worker, WorkerState};

/// How long a worker may take from its start to its hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker may take to end when it was told to.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// The machine.
#[derive(Debug)]
pub struct TaskExecutor {
    slots: u32,
    /// What all slots are worth together; 0 if nothing is known.
    memory_bytes: u64,
    allocations: BTreeMap<AllocationId, Allocation>,
    /// One for each job that has a slot.
    workers: BTreeMap<JobId, Worker>,
    programs: Programs,
    /// Those that are not wanted any more, and when they are killed if they have not been.
    stopping: BTreeMap<WorkerId, Option<MonoTime>>,
    last_worker: u64,
    /// The last counters of each task that runs or ended since the last heartbeat.
    reports: BTreeMap<(JobId, ExecutionAttemptId), TaskReport>,
    heartbeat: Option<Heartbeat>,
    shutting_down: Option<String>,
}

#[derive(Debug)]
struct Allocation {
    slot: u32,
    job: JobId,
    /// What the slot has; without it, it is an equal part.
    profile: Option<SlotProfile>,
}

#[derive(Debug)]
struct Heartbeat {
    interval: Duration,
    next: MonoTime,
}

impl TaskExecutor {
    /// With this many slots, all free, in a container of this much memory. One that is too small to divide limits nobody.
    pub const fn new(slots: u32, memory_bytes: u64) -> Self {
        Self {
            slots,
            memory_bytes: memory_bytes.saturating_sub(TASK_EXECUTOR_MEMORY.as_bytes()),
            allocations: BTreeMap::new(),
            workers: BTreeMap::new(),
            programs: Programs::new(),
            stopping: BTreeMap::new(),
            last_worker: 0,
            reports: BTreeMap::new(),
            heartbeat: None,
            shutting_down: None,
        }
    }

    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<MonoTime> {
        let workers = self.workers.values().filter_map(Worker::deadline);
        let stopping = self.stopping.values().filter_map(|until| *until);
        let heartbeat = self.heartbeat.as_ref().map(|heartbeat| heartbeat.next);
        workers.chain(stopping).chain(heartbeat).min()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: MonoTime, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::JobManager(message) => self.handle_job_manager(now, message, out),
            Input::Worker(id, message) => self.handle_worker(now, id, message, out),
            Input::WorkerDisconnected(id, reason) => {
                if let Some((_, worker)) = self.worker_mut(id)
                    && worker.is_running()
                {
                    let until = now + STOP_GRACE;
                    worker.state = WorkerState::Disconnected { reason, until };
                }
            }
            Input::WorkerEnded(id, how) => self.handle_worker_end(id, &how, out),
            Input::ProgramFetched(artifact, result) => {
                self.handle_program(now, &artifact, result, out);
            }
            Input::Memory(resident) => self.handle_memory(&resident, out),
            Input::Tick => self.handle_tick(now, out),
        }
    }

    fn handle_job_manager(
        &mut self,
        now: MonoTime,
        message: ToTaskExecutor,
        out: &mut Vec<Effect>,
    ) {
        match message {
            ToTaskExecutor::Registered {
                heartbeat_interval_ms,
            } => {
                let interval = Duration::from_millis(heartbeat_interval_ms.max(1));
                self.heartbeat = Some(Heartbeat {
                    interval,
                    next: now,
                });
            }
            ToTaskExecutor::RequestSlot(request) => self.handle_request(now, request, out),
            ToTaskExecutor::FreeSlot { allocation } => self.handle_free(now, allocation, out),
            ToTaskExecutor::SubmitTask(deployment) => self.handle_submit(deployment, out),
            ToTaskExecutor::CancelTask { job, execution } => {
                if let Some(worker) = self.workers.get_mut(&job) {
                    worker.cancel(now, execution);
                }
                self.tell_ready(job, ToWorker::CancelTask { execution }, out);
            }
            ToTaskExecutor::CommitTask { job, execution } => {
                self.tell_ready(job, ToWorker::CommitTask { execution }, out);
            }
            ToTaskExecutor::TriggerCheckpoint {
                job,
                execution,
                barrier,
            } => self.tell_ready(job, ToWorker::TriggerCheckpoint { execution, barrier }, out),
            ToTaskExecutor::CheckpointComplete {
                job,
                execution,
                checkpoint,
            } => {
                let message = ToWorker::CheckpointComplete {
                    execution,
                    checkpoint,
                };
                self.tell_ready(job, message, out);
            }
            ToTaskExecutor::CheckpointAborted {
                job,
                execution,
                checkpoint,
            } => {
                let message = ToWorker::CheckpointAborted {
                    execution,
                    checkpoint,
                };
                self.tell_ready(job, message, out);
            }
            // Its answer is nobody's decision: the shell gives it.
            ToTaskExecutor::Inquire { .. } => {}
            ToTaskExecutor::ShutDown { reason } => {
                self.allocations.clear();
                for (_, worker) in std::mem::take(&mut self.workers) {
                    self.stop(now, &worker, out);
                }
                self.shutting_down = Some(reason);
                self.exit_when_empty(out);
            }
        }
    }

    fn handle_submit(&mut self, deployment: Box<TaskDeployment>, out: &mut Vec<Effect>) {
        let leased = self
            .allocations
            .get(&deployment.allocation)
            .is_some_and(|held| held.job == deployment.job);
        if leased {
            if let Some(worker) = self.workers.get_mut(&deployment.job) {
                worker.tasks.insert(deployment.execution, None);
            }
            self.tell_ready(deployment.job, ToWorker::SubmitTask(deployment), out);
        } else {
            tracing::warn!(allocation = %deployment.allocation, execution = %deployment.execution, "dropped a task for an unknown lease");
        }
    }

    fn tell_ready(&self, job: JobId, message: ToWorker, out: &mut Vec<Effect>) {
        match self.workers.get(&job) {
            Some(Worker {
                id,
                state: WorkerState::Ready { .. },
                ..
            }) => out.push(Effect::TellWorker(*id, message)),
            Some(_) | None => {
                tracing::debug!(%job, ?message, "dropped a message for a job without a worker")
            }
        }
    }

    fn handle_worker(
        &mut self,
        now: MonoTime,
        id: WorkerId,
        message: FromWorker,
        out: &mut Vec<Effect>,
    ) {
        let Some((job, worker)) = self.worker_mut(id) else {
            return;
        };
        match message {
            FromWorker::Hello(hello) => match check_hello(job, worker.fingerprint, hello) {
                Ok(data_address) if matches!(worker.state, WorkerState::Starting { .. }) => {
                    worker.state = WorkerState::Ready {
                        data_address: data_address.clone(),
                    };
                    for allocation in self.allocations_of(job) {
                        let data_address = data_address.clone();
                        out.push(Effect::Tell(ToJobManager::OfferSlot {
                            allocation,
                            job,
                            data_address,
                        }));
                    }
                }
                Ok(_) => tracing::warn!(%job, "a worker said hello twice"),
                Err(cause) => {
                    self.refuse_slots(job, &cause, out);
                    if let Some(worker) = self.workers.remove(&job) {
                        self.stopping.insert(worker.id, Some(now + STOP_GRACE));
                        out.push(Effect::TellWorker(worker.id, ToWorker::ShutDown));
                    }
                }
            },
            FromWorker::TaskState(update) => self.handle_task_state(job, update, out),
            FromWorker::TaskCheckpoint(done) => {
                let done = TaskCheckpoint { job, ..done };
                out.push(Effect::Tell(ToJobManager::TaskCheckpoint(done)));
            }
            FromWorker::Report(reports) => {
                for report in reports {
                    self.reports
                        .insert((job, report.execution), TaskReport { job, ..report });
                }
            }
        }
    }

    fn handle_task_state(&mut self, job: JobId, update: TaskStateUpdate, out: &mut Vec<Effect>) {
        let ended = update.state.is_terminal();
        if ended && let Some(worker) = self.workers.get_mut(&job) {
            worker.tasks.remove(&update.execution);
        }
        let report = TaskReport {
            job,
            execution: update.execution,
            metrics: update.metrics,
        };
        self.reports.insert((job, update.execution), report);
        // Whatever a job's own program says of itself, it cannot speak for the cluster.
        let cause = update.cause.map(|cause| FailureCause {
            class: cause.class.min(FailureClass::FailJob),
            ..cause
        });
        out.push(Effect::Tell(ToJobManager::TaskState(TaskStateUpdate {
            job,
            cause,
            ..update
        })));
        if ended && self.heartbeat.is_some() {
            out.push(self.heartbeat());
        }
    }

    fn handle_worker_end(&mut self, id: WorkerId, how: &str, out: &mut Vec<Effect>) {
        if self.stopping.remove(&id).is_some() {
            self.exit_when_empty(out);
            return;
        }
        let Some((job, _)) = self.worker_mut(id) else {
            return;
        };
        let Some(worker) = self.workers.remove(&job) else {
            return;
        };
        self.reports.retain(|(owner, _), _| *owner != job);
        let message = match &worker.state {
            WorkerState::Fetching { .. } | WorkerState::Starting { .. } => {
                format!("the worker of job {job} did not start: it {how}")
            }
            WorkerState::Ready { .. } | WorkerState::Disconnected { .. } => {
                format!("the worker of job {job} {how}")
            }
            WorkerState::Killed { why } => format!("the worker of job {job} was killed: {why}"),
        };
        let cause = FailureCause {
            class: FailureClass::Restart,
            operator: None,
            message,
        };
        if matches!(worker.state, WorkerState::Starting { .. }) {
            self.refuse_slots(job, &cause, out);
        } else {
            self.allocations.retain(|_, held| held.job != job);
            out.push(Effect::Tell(ToJobManager::WorkerLost { job, cause }));
        }
    }

    fn handle_tick(&mut self, now: MonoTime, out: &mut Vec<Effect>) {
        for (&id, until) in &mut self.stopping {
            if until.take_if(|until| *until <= now).is_some() {
                out.push(Effect::KillWorker(id));
            }
        }
        let mut silent = Vec::new();
        for (&job, worker) in &mut self.workers {
            if matches!(worker.state, WorkerState::Starting { until } if until <= now) {
                silent.push(job);
            } else if let Some(why) = worker.overdue(now) {
                worker.state = WorkerState::Killed { why };
                out.push(Effect::KillWorker(worker.id));
            }
        }
        for job in silent {
            let message = format!(
                "the worker of job {job} did not say hello within {} s",
                HELLO_TIMEOUT.as_secs()
            );
            let cause = FailureCause {
                class: FailureClass::Restart,
                operator: None,
                message,
            };
            self.refuse_slots(job, &cause, out);
            if let Some(worker) = self.workers.remove(&job) {
                self.stopping.insert(worker.id, None);
                out.push(Effect::KillWorker(worker.id));
            }
        }
        if let Some(heartbeat) = &mut self.heartbeat
            && heartbeat.next <= now
        {
            heartbeat.next = now + heartbeat.interval;
            out.push(self.heartbeat());
        }
    }

    fn heartbeat(&mut self) -> Effect {
        Effect::Heartbeat(std::mem::take(&mut self.reports).into_values().collect())
    }

    /// Lets a worker go whose job has no slot here any more.
    fn stop(&mut self, now: MonoTime, worker: &Worker, out: &mut Vec<Effect>) {
        match worker.state {
            WorkerState::Ready { .. } => {
                self.stopping.insert(worker.id, Some(now + STOP_GRACE));
                out.push(Effect::TellWorker(worker.id, ToWorker::ShutDown));
            }
            WorkerState::Starting { .. } | WorkerState::Disconnected { .. } => {
                self.stopping.insert(worker.id, None);
                out.push(Effect::KillWorker(worker.id));
            }
            WorkerState::Killed { .. } => {
                self.stopping.insert(worker.id, None);
            }
            // There is no process to be stopped.
            WorkerState::Fetching { .. } => {}
        }
    }

    fn refuse_slots(&mut self, job: JobId, cause: &FailureCause, out: &mut Vec<Effect>) {
        for allocation in self.allocations_of(job) {
            self.allocations.remove(&allocation);
            out.push(Effect::Tell(ToJobManager::SlotUnavailable {
                allocation,
                job,
                cause: cause.clone(),
            }));
        }
    }

    fn exit_when_empty(&self, out: &mut Vec<Effect>) {
        if let Some(reason) = &self.shutting_down
            && self.stopping.is_empty()
        {
            out.push(Effect::Exit {
                reason: reason.clone(),
            });
        }
    }

    fn allocations_of(&self, job: JobId) -> Vec<AllocationId> {
        self.allocations
            .iter()
            .filter(|(_, held)| held.job == job)
            .map(|(&allocation, _)| allocation)
            .collect()
    }

    fn worker_mut(&mut self, id: WorkerId) -> Option<(JobId, &mut Worker)> {
        self.workers
            .iter_mut()
            .find(|(_, worker)| worker.id == id)
            .map(|(&job, worker)| (job, worker))
    }
}

#[cfg(test)]
mod tests;
