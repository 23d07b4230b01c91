//! Threads and queues in the place of workers and connections.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Barrier, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::job_graph::JobEdge;
use spindle_common::time::{EventTime, MonoTime};
use spindle_dataflow::chain::Clock;
use spindle_dataflow::channel::{Buffer, ResultPartition};
use spindle_dataflow::current_operator;
use spindle_dataflow::mailbox::{Mailbox, Signals};
use spindle_dataflow::task::{
    Dataflow, NoSnapshots, Step, TaskContext, TaskError, TaskFactory, TaskMail, TaskMetrics,
};

use super::Finished;
use super::checkpoint::{Acknowledging, Coordination, JobSnapshot, Kill, Place};
use super::gate::QueueGate;

/// Buffers that wait for one consumer on one edge, for each producer.
pub(super) const CREDIT: usize = 8;

/// How long a task waits before it looks whether another task failed.
const LOOK: Duration = Duration::from_millis(20);

/// What the thread of one task waits on. Who changes its condition wakes it after that.
pub(super) struct Waker {
    thread: OnceLock<Thread>,
    pub(super) mail: AtomicBool,
    letters: Mutex<Vec<TaskMail>>,
    /// Whether any task failed, or all were killed.
    failed: Arc<AtomicBool>,
}

impl Waker {
    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Has the task handle this after its step.
    pub(super) fn send(&self, letter: TaskMail) {
        self.letters().push(letter);
        self.wake();
    }

    fn letters(&self) -> std::sync::MutexGuard<'_, Vec<TaskMail>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals for Waker {
    fn is_cancelled(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        self.mail.store(true, Ordering::SeqCst);
        self.unpark();
    }

    fn park(&self, limit: Option<Duration>) {
        thread::park_timeout(limit.map_or(LOOK, |limit| limit.min(LOOK)));
    }
}

/// The number of a channel at its consumer, the way there, and what wakes it.
type ToConsumer = (usize, SyncSender<(usize, Buffer)>, Arc<Waker>);

struct QueuePartition {
    consumers: Vec<ToConsumer>,
}

impl ResultPartition for QueuePartition {
    fn subpartitions(&self) -> usize {
        self.consumers.len()
    }

    fn emit(&mut self, subpartition: usize, buffer: Buffer) -> Result<(), TaskError> {
        let (channel, consumer, waker) = &self.consumers[subpartition];
        consumer
            .send((*channel, buffer))
            .map_err(|_| TaskError::Cancelled)?;
        waker.unpark();
        Ok(())
    }
}

impl Drop for QueuePartition {
    fn drop(&mut self) {
        // A consumer that has nothing more to expect is to see it.
        for (_, consumer, waker) in self.consumers.drain(..) {
            drop(consumer);
            waker.unpark();
        }
    }
}

struct Subtask {
    vertex: usize,
    factory: Arc<dyn TaskFactory>,
    context: TaskContext,
    waker: Arc<Waker>,
}

/// Runs a dataflow to its end: a thread for each subtask, and, when all have read and written all, the commits.
///
/// # Errors
/// The first failure of a task, other than that it was told to stop because another failed.
pub fn run(dataflow: &Dataflow) -> Result<Finished, FailureCause> {
    run_from(dataflow, &JobSnapshot::default(), None).map(|(finished, _)| finished)
}

/// Runs a dataflow from a snapshot on, to its end or until it is killed; then what it finished is void. With what is left for the next
/// run.
pub(super) fn run_from(
    dataflow: &Dataflow,
    from: &JobSnapshot,
    kill: Option<&Kill>,
) -> Result<(Finished, JobSnapshot), FailureCause> {
    let failed = Arc::new(AtomicBool::new(false));
    let mut subtasks = deploy(dataflow, from, &failed);
    let places = subtasks.iter().map(|subtask| {
        let operators = &dataflow.graph.vertices[subtask.vertex].operators;
        Place {
            waker: Arc::clone(&subtask.waker),
            reads_source: subtask.context.gate.is_none(),
            operators: operators.iter().map(|it| it.uid.clone()).collect(),
            subtask: subtask.context.execution.subtask,
            parallelism: subtask.context.parallelism,
        }
    });
    let coordination = Coordination::new(kill, from, places.collect(), Arc::clone(&failed));
    let coordination = Arc::new(coordination);
    for (task, subtask) in subtasks.iter_mut().enumerate() {
        subtask.context.snapshots = Box::new(Acknowledging {
            task,
            coordination: Arc::clone(&coordination),
        });
    }
    let all_read = Barrier::new(subtasks.len());
    let done: Vec<_> = std::thread::scope(|scope| {
        let (failed, all_read, coordination) = (&failed, &all_read, &coordination);
        let run = |(task, subtask)| {
            scope.spawn(move || execute(subtask, failed, all_read, coordination, task))
        };
        let threads: Vec<_> = subtasks.into_iter().enumerate().map(run).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("panics are caught in the thread"))
            .collect()
    });
    let mut finished = Finished::default();
    let mut failures = Vec::new();
    for result in done {
        match result {
            Ok(ran) => {
                finished.collected.extend(ran.collected);
                finished.metrics.push((ran.vertex, ran.metrics.snapshot()));
            }
            Err(failure) => failures.push(failure),
        }
    }
    // A task that was stopped by the failure of another is not the cause.
    failures.sort_by_key(|(cancelled, _)| *cancelled);
    match failures.into_iter().next() {
        Some((cancelled, cause)) if !cancelled || !coordination.kills() => Err(cause),
        Some(_) | None => {
            let coordination = Arc::into_inner(coordination);
            let left = coordination.expect("all tasks are gone").left();
            Ok((finished, left))
        }
    }
}

struct Ran {
    vertex: usize,
    metrics: Arc<TaskMetrics>,
    collected: Vec<(String, Vec<u8>)>,
}

/// The cause of a failure, behind whether it is only the echo of another.
type Failure = (bool, FailureCause);

/// Runs a task on the calling thread; it commits when all have read and written all, and none failed.
fn execute(
    subtask: Subtask,
    failed: &AtomicBool,
    all_read: &Barrier,
    coordination: &Coordination,
    at: usize,
) -> Result<Ran, Failure> {
    let metrics = Arc::clone(&subtask.context.metrics);
    let Subtask {
        vertex,
        factory,
        context,
        waker,
    } = subtask;
    let _ = waker.thread.set(thread::current());
    let reads_source = context.gate.is_none();
    let run = guard(|| {
        let mut task = factory.build(context)?;
        loop {
            let letters = std::mem::take(&mut *waker.letters());
            for letter in letters {
                task.handle(letter)?;
            }
            if reads_source && coordination.kills() {
                if waker.is_cancelled() {
                    return Err(TaskError::Cancelled);
                }
                if !coordination.may_step(at) {
                    waker.park(None);
                    continue;
                }
            }
            let step = task.step()?;
            coordination.stepped(at, step);
            match step {
                // No job is stopped with a savepoint here.
                Step::Continue | Step::Held => {}
                Step::AwaitingCommit if coordination.kills() => {
                    // Others go on, and their checkpoints hold what this task has to commit.
                    while !coordination.all_ended() && !waker.is_cancelled() {
                        let letters = std::mem::take(&mut *waker.letters());
                        for letter in letters {
                            task.handle(letter)?;
                        }
                        waker.park(None);
                    }
                    return Ok((task, step));
                }
                Step::AwaitingCommit | Step::Finished => return Ok((task, step)),
            }
        }
    });
    failed.fetch_or(run.is_err(), Ordering::SeqCst);
    all_read.wait();
    let (mut task, step) = run?;
    if failed.load(Ordering::SeqCst) || coordination.kills() {
        return Err((true, TaskError::Cancelled.into_cause()));
    }
    let collected = guard(move || {
        if step == Step::AwaitingCommit {
            task.commit()?;
        }
        Ok(task.take_collected())
    })?;
    Ok(Ran {
        vertex,
        metrics,
        collected,
    })
}

fn guard<R>(code: impl FnOnce() -> Result<R, TaskError>) -> Result<R, Failure> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err((matches!(error, TaskError::Cancelled), error.into_cause())),
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

/// The time of day, in milliseconds since the epoch.
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn deploy(dataflow: &Dataflow, from: &JobSnapshot, failed: &Arc<AtomicBool>) -> Vec<Subtask> {
    let graph = &dataflow.graph;
    let start = Instant::now();
    let mono = move || {
        MonoTime::from_micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
    };
    let clock = Clock::new(mono, || EventTime(wall_ms()));
    let mut subtasks: Vec<Vec<Subtask>> = Vec::new();
    // By edge and producer: the channels to its consumers, in their order.
    let mut senders: HashMap<(*const JobEdge, u32), Vec<ToConsumer>> = HashMap::new();
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let context = |subtask: u32, waker: &Arc<Waker>| TaskContext {
            job: JobId::from_bytes([0; 16]),
            execution: ExecutionAttemptId {
                vertex: vertex.id,
                subtask,
                attempt: from.attempt,
            },
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            splits: vertex
                .splits
                .get(subtask as usize)
                .cloned()
                .unwrap_or_default(),
            gate: None,
            channels: Vec::new(),
            partitions: Vec::new(),
            metrics: Arc::default(),
            buffer_timeout: Duration::from_millis(100),
            clock: clock.clone(),
            mailbox: Mailbox::new(Arc::clone(waker) as _),
            restored_from: from.checkpoint(),
            restored: from.of(vertex, subtask),
            stores: None,
            snapshots: Box::new(NoSnapshots),
        };
        let of = |subtask| {
            let waker = Arc::new(Waker {
                thread: OnceLock::new(),
                mail: AtomicBool::new(false),
                letters: Mutex::default(),
                failed: Arc::clone(failed),
            });
            Subtask {
                vertex: at,
                factory: Arc::clone(&dataflow.factories[at]),
                context: context(subtask, &waker),
                waker,
            }
        };
        subtasks.push((0..vertex.parallelism).map(of).collect());
    }
    for (target, vertex) in graph.vertices.iter().enumerate() {
        let inputs: Vec<_> = graph.inputs_of(vertex.id).map(|(_, edge)| edge).collect();
        if inputs.is_empty() {
            continue;
        }
        let consumers = vertex.parallelism;
        for consumer in 0..consumers {
            let sources: Vec<(usize, Vec<u32>)> = inputs
                .iter()
                .map(|edge| {
                    let found = graph.vertices.iter().position(|v| v.id == edge.source);
                    let source = found.expect("the graph is valid");
                    let producers = graph.vertices[source].parallelism;
                    let from = edge
                        .partitioning
                        .producers_of(consumer, producers, consumers);
                    (source, from.collect())
                })
                .collect();
            let channels: Vec<usize> = sources.iter().map(|(_, from)| from.len()).collect();
            let all = channels.iter().sum();
            let (sender, queue) = sync_channel(CREDIT * all);
            let Subtask { context, waker, .. } = &mut subtasks[target][consumer as usize];
            context.channels = channels;
            let gate = QueueGate::new(queue, all, clock.clone(), Arc::clone(waker));
            context.gate = Some(Box::new(gate));
            let mut channel = 0;
            for (edge, (_, from)) in inputs.iter().zip(sources) {
                for producer in from {
                    let at = (std::ptr::from_ref(*edge), producer);
                    senders.entry(at).or_default().push((
                        channel,
                        sender.clone(),
                        Arc::clone(waker),
                    ));
                    channel += 1;
                }
            }
        }
    }
    for (source, vertex) in graph.vertices.iter().enumerate() {
        for (_, edge) in graph.outputs_of(vertex.id) {
            for (producer, subtask) in (0..).zip(&mut subtasks[source]) {
                let consumers = senders
                    .remove(&(std::ptr::from_ref(edge), producer))
                    .unwrap_or_default();
                subtask
                    .context
                    .partitions
                    .push(Box::new(QueuePartition { consumers }));
            }
        }
    }
    subtasks.into_iter().flatten().collect()
}
