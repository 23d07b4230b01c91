//! Threads and queues in the place of workers and connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::job_graph::Partitioning;
use spindle_common::time::MonoTime;
use spindle_dataflow::chain::Clock;
use spindle_dataflow::channel::{Buffer, GateEvent, InputGate, ResultPartition};
use spindle_dataflow::current_operator;
use spindle_dataflow::task::{
    Dataflow, Step, Task, TaskContext, TaskError, TaskFactory, TaskMetrics,
};

use super::Finished;

/// Buffers that wait for one consumer on one edge, for each producer.
const CREDIT: usize = 8;

/// How long a consumer waits before it looks whether another task failed.
const LOOK: Duration = Duration::from_millis(20);

struct QueueGate {
    channels: usize,
    queue: Receiver<(usize, Buffer)>,
    clock: Clock,
    failed: Arc<AtomicBool>,
}

impl InputGate for QueueGate {
    fn channels(&self) -> usize {
        self.channels
    }

    fn next(&mut self, until: Option<MonoTime>) -> Result<GateEvent, TaskError> {
        loop {
            let left = until.map(|until| until.since((self.clock)()));
            match self
                .queue
                .recv_timeout(left.map_or(LOOK, |left| left.min(LOOK)))
            {
                Ok((channel, buffer)) => return Ok(GateEvent::Buffer(channel, buffer)),
                Err(RecvTimeoutError::Disconnected) => return Err(TaskError::Cancelled),
                Err(RecvTimeoutError::Timeout) if self.failed.load(Ordering::Relaxed) => {
                    return Err(TaskError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if left.is_some_and(|left| left <= LOOK) {
                return Ok(GateEvent::Woken);
            }
        }
    }
}

struct QueuePartition {
    channel: usize,
    consumers: Vec<SyncSender<(usize, Buffer)>>,
}

impl ResultPartition for QueuePartition {
    fn subpartitions(&self) -> usize {
        self.consumers.len()
    }

    fn emit(&mut self, subpartition: usize, buffer: Buffer) -> Result<(), TaskError> {
        self.consumers[subpartition]
            .send((self.channel, buffer))
            .map_err(|_| TaskError::Cancelled)
    }
}

struct Subtask {
    vertex: usize,
    factory: Arc<dyn TaskFactory>,
    context: TaskContext,
}

/// Runs a dataflow to its end: a thread for each subtask, and, when all have read and written all, the commits.
///
/// # Errors
/// The first failure of a task, other than that it was told to stop because another failed.
pub fn run(dataflow: &Dataflow) -> Result<Finished, FailureCause> {
    let failed = Arc::new(AtomicBool::new(false));
    let subtasks = deploy(dataflow, &failed);
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = subtasks
            .into_iter()
            .map(|subtask| {
                let failed = Arc::clone(&failed);
                scope.spawn(move || {
                    let result = execute(subtask);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("panics are caught in the thread"))
            .collect()
    });
    let mut finished = Finished::default();
    let mut tasks = Vec::new();
    let mut failures = Vec::new();
    for result in done {
        match result {
            Ok(task) => tasks.push(task),
            Err(failure) => failures.push(failure),
        }
    }
    // A task that was stopped by the failure of another is not the cause.
    failures.sort_by_key(|(cancelled, _)| *cancelled);
    if let Some((_, cause)) = failures.into_iter().next() {
        return Err(cause);
    }
    for (vertex, metrics, mut task, step) in tasks {
        if step == Step::AwaitingCommit {
            task.commit().map_err(TaskError::into_cause)?;
        }
        finished.collected.extend(task.take_collected());
        finished.metrics.push((vertex, metrics.snapshot()));
    }
    Ok(finished)
}

type Ran = (usize, Arc<TaskMetrics>, Box<dyn Task>, Step);

/// The cause of a failure, behind whether it is only the echo of another.
type Failure = (bool, FailureCause);

fn execute(subtask: Subtask) -> Result<Ran, Failure> {
    let metrics = Arc::clone(&subtask.context.metrics);
    let Subtask {
        vertex,
        factory,
        context,
    } = subtask;
    let run = AssertUnwindSafe(move || {
        let mut task = factory.build(context)?;
        loop {
            match task.step()? {
                Step::Continue => {}
                step @ (Step::AwaitingCommit | Step::Finished) => return Ok((task, step)),
            }
        }
    });
    match catch_unwind(run) {
        Ok(Ok((task, step))) => Ok((vertex, metrics, task, step)),
        Ok(Err(error)) => {
            let error: TaskError = error;
            Err((matches!(error, TaskError::Cancelled), error.into_cause()))
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("with a value that is no text");
            let cause = FailureCause {
                class: FailureClass::Restart,
                operator: current_operator(),
                message: format!("panicked: {text}"),
            };
            Err((false, cause))
        }
    }
}

fn deploy(dataflow: &Dataflow, failed: &Arc<AtomicBool>) -> Vec<Subtask> {
    let graph = &dataflow.graph;
    let start = Instant::now();
    let clock: Clock = Arc::new(move || {
        MonoTime::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
    });
    let mut subtasks: Vec<Vec<Subtask>> = Vec::new();
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let context = |subtask: u32| TaskContext {
            job: JobId::from_bytes([0; 16]),
            execution: ExecutionAttemptId {
                vertex: vertex.id,
                subtask,
                attempt: 0,
            },
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            splits: vertex
                .splits
                .get(subtask as usize)
                .cloned()
                .unwrap_or_default(),
            gates: Vec::new(),
            partitions: Vec::new(),
            metrics: Arc::default(),
            buffer_timeout: Duration::from_millis(100),
            clock: Arc::clone(&clock),
        };
        let of = |subtask| Subtask {
            vertex: at,
            factory: Arc::clone(&dataflow.factories[at]),
            context: context(subtask),
        };
        subtasks.push((0..vertex.parallelism).map(of).collect());
    }
    for edge in &graph.edges {
        let place = |id| {
            let found = graph.vertices.iter().position(|vertex| vertex.id == id);
            found.expect("the graph is valid")
        };
        let (source, target) = (place(edge.source), place(edge.target));
        let producers = subtasks[source].len();
        let forward = edge.partitioning == Partitioning::Forward;
        let channels = if forward { 1 } else { producers };
        let mut senders = Vec::new();
        for consumer in &mut subtasks[target] {
            let (sender, queue) = sync_channel(CREDIT * channels);
            senders.push(sender);
            consumer.context.gates.push(Box::new(QueueGate {
                channels,
                queue,
                clock: Arc::clone(&clock),
                failed: Arc::clone(failed),
            }));
        }
        for (at, producer) in subtasks[source].iter_mut().enumerate() {
            let (channel, consumers) = if forward {
                (0, vec![senders[at].clone()])
            } else {
                (at, senders.clone())
            };
            producer
                .context
                .partitions
                .push(Box::new(QueuePartition { channel, consumers }));
        }
    }
    subtasks.into_iter().flatten().collect()
}
