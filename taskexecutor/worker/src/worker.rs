//! The worker as its owner holds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use spindle_common::checkpoint::SubtaskSnapshot;
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{
    FromWorker, TaskCheckpoint, TaskCheckpointOutcome, TaskDeployment, TaskReport, TaskStateUpdate,
    ToWorker,
};
use spindle_common::id::ExecutionAttemptId;
use spindle_common::time::{EventTime, MonoTime};
use spindle_dataflow::chain::Clock;
use spindle_dataflow::channel::{InputGate, ResultPartition};
use spindle_dataflow::mailbox::Mailbox;
use spindle_dataflow::task::{Dataflow, TaskContext, TaskFactory, TaskMail, TaskMetrics};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::WorkerConfig;
use crate::exchange::queue::lock;
use crate::exchange::{Exchange, Limits};
use crate::net::{self, Identity};
use crate::signal::Signal;
use crate::slot::{Place, Slots};
use crate::snapshot::{Background, Shelf, Snapshots, Writer, tell};
use crate::task_run::{Beginnings, NewTask, TaskParts, not_running};

/// Messages that wait for the receiver before a task does.
const REPORTS: usize = 64;

/// Runs tasks of one job. Dropping the last handle cancels them and closes the connections.
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    dataflow: Dataflow,
    config: WorkerConfig,
    data_address: String,
    exchange: Exchange,
    epoch: Instant,
    out: mpsc::Sender<FromWorker>,
    tasks: Arc<Mutex<Tasks>>,
    slots: Slots,
    background: Arc<Background>,
}

type Tasks = HashMap<ExecutionAttemptId, Running>;

/// A task that has not ended.
struct Running {
    signal: Arc<Signal>,
    metrics: Arc<TaskMetrics>,
    snapshots: Arc<Snapshots>,
}

/// A worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerStartError {
    /// No socket for the data plane.
    #[error("failed to listen for other workers on `{host}`")]
    Bind {
        /// Where.
        host: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl Worker {
    /// Listens for other workers; tasks run when [`Self::handle`] says so. What they do comes out of the receiver, which has to be
    /// read: a task waits when it is full. It ends when the worker is dropped and its tasks have ended. There is no hello in it.
    ///
    /// # Errors
    /// If the data plane cannot be bound.
    pub fn start(
        dataflow: Dataflow,
        config: WorkerConfig,
        runtime: &Handle,
    ) -> Result<(Self, mpsc::Receiver<FromWorker>), WorkerStartError> {
        let (listener, data_address) =
            net::bind(&config.host, runtime).map_err(|cause| WorkerStartError::Bind {
                host: config.host.clone(),
                cause,
            })?;
        let identity = Identity {
            job: config.job,
            secret: config.secret.clone(),
            address: data_address.clone(),
        };
        let epoch = Instant::now();
        let limits = Limits {
            credits: config.credits.max(1),
            grace: config.peer_loss_grace,
            epoch,
        };
        let exchange = Exchange::start(listener, identity, limits, runtime);
        let (out, reports) = mpsc::channel(REPORTS);
        let tasks = Arc::new(Mutex::new(Tasks::new()));
        let background = Arc::new(Background::new(runtime.clone()));
        background.spawn(report_counters(
            Arc::downgrade(&tasks),
            config.clone(),
            out.clone(),
        ));
        let inner = Inner {
            dataflow,
            config,
            data_address,
            exchange,
            epoch,
            out,
            tasks,
            slots: Slots::default(),
            background,
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            reports,
        ))
    }

    /// `host:port` at which other workers read this worker's subtasks.
    pub fn data_address(&self) -> &str {
        &self.inner.data_address
    }

    /// Does what the TaskExecutor says; never blocks. What comes of it is reported.
    pub fn handle(&self, message: ToWorker) {
        match message {
            ToWorker::SubmitTask(deployment) => self.inner.submit(*deployment),
            ToWorker::CancelTask { execution } => self.inner.cancel(execution),
            ToWorker::CommitTask { execution } => {
                if let Some(task) = lock(&self.inner.tasks).get(&execution) {
                    task.signal.commit();
                }
            }
            ToWorker::TriggerCheckpoint { execution, barrier } => {
                let mail = TaskMail::TriggerCheckpoint(barrier);
                self.inner.post(execution, mail);
            }
            ToWorker::CheckpointComplete {
                execution,
                checkpoint,
            } => {
                if let Some(task) = lock(&self.inner.tasks).get(&execution) {
                    task.snapshots.complete(checkpoint);
                }
                let mail = TaskMail::CheckpointComplete(checkpoint);
                self.inner.post(execution, mail);
            }
            ToWorker::CheckpointAborted {
                execution,
                checkpoint,
            } => {
                if let Some(task) = lock(&self.inner.tasks).get(&execution) {
                    task.snapshots.stop(checkpoint);
                }
                let mail = TaskMail::CheckpointAborted(checkpoint);
                self.inner.post(execution, mail);
            }
            ToWorker::ShutDown => self.inner.cancel_all(),
        }
    }

    /// Returns once all files of snapshots are closed that are durable already.
    pub async fn settle(&self) {
        if let Some(storage) = &self.inner.config.storage {
            storage.settle().await;
        }
    }

    /// Number of tasks that have not ended.
    pub fn running_tasks(&self) -> usize {
        lock(&self.inner.tasks).len()
    }
}

impl Inner {
    fn submit(&self, deployment: TaskDeployment) {
        let execution = deployment.execution;
        let vertex = self
            .dataflow
            .graph
            .vertices
            .iter()
            .position(|vertex| vertex.id == execution.vertex);
        let found = vertex.and_then(|index| {
            let factory = self.dataflow.factories.get(index)?;
            Some((
                index,
                self.dataflow.graph.vertices[index].name(),
                Arc::clone(factory),
            ))
        });
        let Some((vertex, name, factory)) = found.filter(|_| deployment.job == self.config.job)
        else {
            let message = format!(
                "task {execution} of job {} is none of this program",
                deployment.job
            );
            return self.refuse(&deployment, FailureClass::FailJob, message);
        };
        let signal = Arc::new(Signal::default());
        let metrics = Arc::new(TaskMetrics::timed(clock(self.epoch)));
        let snapshots = Arc::new(Snapshots::new(
            self.config.job,
            execution,
            Shelf {
                storage: self.config.storage.clone(),
                memory_threshold: self.config.memory_threshold,
            },
            Arc::clone(&signal),
            self.out.clone(),
            Arc::clone(&self.background),
        ));
        {
            let mut tasks = lock(&self.tasks);
            if tasks.contains_key(&execution) {
                tracing::warn!(%execution, "task was submitted twice");
                return;
            }
            tasks.insert(
                execution,
                Running {
                    signal: Arc::clone(&signal),
                    metrics: Arc::clone(&metrics),
                    snapshots: Arc::clone(&snapshots),
                },
            );
        }
        let made = self.spawn(
            &deployment,
            (vertex, &name),
            factory,
            signal,
            metrics,
            snapshots,
        );
        if let Err(error) = made {
            lock(&self.tasks).remove(&execution);
            self.exchange.registry().lose(execution, "the task failed");
            // Short of memory or threads, as it need not be the next time.
            self.refuse(
                &deployment,
                FailureClass::Restart,
                format!("failed to start a thread for the task: {error}"),
            );
        }
    }

    fn spawn(
        &self,
        deployment: &TaskDeployment,
        (vertex, name): (usize, &str),
        factory: Arc<dyn TaskFactory>,
        signal: Arc<Signal>,
        metrics: Arc<TaskMetrics>,
        snapshots: Arc<Snapshots>,
    ) -> std::io::Result<()> {
        let (job, execution) = (self.config.job, deployment.execution);
        let epoch = self.epoch;
        let context = TaskContext {
            job,
            execution,
            parallelism: deployment.parallelism,
            max_parallelism: deployment.max_parallelism,
            splits: deployment.splits.clone(),
            gate: self
                .exchange
                .gate(execution, &deployment.inputs, &signal, &metrics)
                .map(|gate| Box::new(gate) as Box<dyn InputGate>),
            channels: deployment
                .inputs
                .iter()
                .map(|input| input.channels.len())
                .collect(),
            partitions: self
                .exchange
                .partitions(execution, &deployment.outputs, &signal, &metrics)
                .into_iter()
                .map(|partition| Box::new(partition) as Box<dyn ResultPartition>)
                .collect(),
            metrics: Arc::clone(&metrics),
            buffer_timeout: self.config.buffer_timeout,
            clock: clock(epoch),
            mailbox: Mailbox::new(Arc::clone(&signal) as _),
            restored_from: (deployment.restore.as_ref())
                .filter(|from| from.job == job)
                .map(|from| from.checkpoint),
            restored: SubtaskSnapshot::default(),
            stores: None,
            snapshots: Box::new(Writer(Arc::clone(&snapshots))),
        };
        let registry = Arc::clone(self.exchange.registry());
        let place = if factory.waits() {
            Place::Own(execution)
        } else {
            Place::Slot(deployment.allocation)
        };
        let parts = TaskParts {
            job,
            execution,
            vertex,
            factory,
            metrics,
            signal,
            registry,
            out: self.out.clone(),
            snapshots,
            is_source: deployment.inputs.is_empty(),
            is_read: !deployment.outputs.is_empty(),
        };
        let beginnings = Beginnings {
            context,
            restore: deployment.restore.clone(),
            backend: self.config.backend.clone(),
        };
        let tasks = Arc::clone(&self.tasks);
        let name = format!(
            "{name} ({}/{})#{}",
            execution.subtask + 1,
            deployment.parallelism,
            execution.attempt
        );
        let on_end = move || drop(lock(&tasks).remove(&execution));
        let task = NewTask {
            parts,
            beginnings,
            on_end: Box::new(on_end),
        };
        self.slots.run(place, name.replace('\0', " "), task)
    }

    /// Tells that a task failed that never had a thread.
    fn refuse(&self, deployment: &TaskDeployment, class: FailureClass, message: String) {
        let update = TaskStateUpdate {
            job: deployment.job,
            execution: deployment.execution,
            state: ExecutionState::Failed,
            cause: Some(FailureCause {
                class,
                operator: None,
                message,
            }),
            metrics: TaskMetrics::default().snapshot(),
            collected: Vec::new(),
        };
        let out = self.out.clone();
        let tell = async move {
            let _ = out.send(FromWorker::TaskState(update)).await;
        };
        self.background.spawn(tell);
    }

    /// Has the task's thread hand this to the task. One that does not run is part of no checkpoint.
    fn post(&self, execution: ExecutionAttemptId, mail: TaskMail) {
        let posted = match lock(&self.tasks).get(&execution) {
            Some(task) => task.signal.post(mail),
            None => Err(mail),
        };
        match posted {
            Ok(()) | Err(TaskMail::CheckpointComplete(_) | TaskMail::CheckpointAborted(_)) => {}
            Err(TaskMail::TriggerCheckpoint(barrier)) => {
                let told = TaskCheckpoint {
                    job: self.config.job,
                    execution,
                    checkpoint: barrier.id,
                    outcome: TaskCheckpointOutcome::Declined {
                        reason: not_running(execution),
                    },
                };
                self.background.spawn(tell(self.out.clone(), told));
            }
        }
    }

    fn cancel(&self, execution: ExecutionAttemptId) {
        if let Some(task) = lock(&self.tasks).get(&execution) {
            task.signal.cancel();
        } else {
            // It has finished before, and nobody wants what is left of its output.
            self.exchange
                .registry()
                .lose(execution, "the task was cancelled");
        }
    }

    fn cancel_all(&self) {
        for task in lock(&self.tasks).values() {
            task.signal.cancel();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel_all();
        self.background.end();
    }
}

/// Tells the counters of all tasks at each interval, as long as there are some.
async fn report_counters(
    tasks: Weak<Mutex<Tasks>>,
    config: WorkerConfig,
    out: mpsc::Sender<FromWorker>,
) {
    let mut ticks = tokio::time::interval(config.report_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(tasks) = tasks.upgrade() else {
            return;
        };
        let reports: Vec<TaskReport> = lock(&tasks)
            .iter()
            .map(|(&execution, task)| TaskReport {
                job: config.job,
                execution,
                metrics: task.metrics.snapshot(),
            })
            .collect();
        drop(tasks);
        if !reports.is_empty() && out.send(FromWorker::Report(reports)).await.is_err() {
            return;
        }
    }
}

/// The clocks of this process, which began at `epoch`.
fn clock(epoch: Instant) -> Clock {
    let mono = move || {
        MonoTime::from_micros(u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    };
    let wall = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is wrong by more than any answer could mend.
        let millis = since.map_or(0, |since| since.as_millis());
        EventTime(i64::try_from(millis).unwrap_or(i64::MAX))
    };
    Clock::new(mono, wall)
}
