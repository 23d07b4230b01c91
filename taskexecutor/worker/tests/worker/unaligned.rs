//! Checkpoints of a task that reads slower than it is written to.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, Distribution, SnapshotKind, StateHandle,
    SubtaskCheckpointStats, SubtaskSnapshot, TaskRestore,
};
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    InputChannelDescriptor, InputGateDescriptor, TaskCheckpointOutcome, ToWorker,
};
use spindle_common::id::ExecutionAttemptId;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::chain::{GateTask, Inputs, SourceTask, TaskParts, TypedPort};
use spindle_dataflow::collector::{Collector, Control, SideOutputs};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};
use spindle_dataflow::exchange::{ExchangeWriter, Forward};
use spindle_dataflow::operator::OperatorContext;
use spindle_dataflow::record::Record;
use spindle_dataflow::snapshot::{Restored, Snapshot, StateOwner};
use spindle_dataflow::task::{Dataflow, Task, TaskContext, TaskError};
use tokio::time::timeout;

use crate::support::{Host, Make, consumer, dataflow, job, producer};

/// Records that the source reads at once.
const BATCH: u64 = 512;

/// Numbers without end, as records of a kind.
struct Endless<T> {
    next: u64,
    make: fn(u64) -> T,
}

impl<T> SourceReader<T> for Endless<T> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        for n in self.next..self.next + BATCH {
            out.push((self.make)(n), None);
        }
        self.next += BATCH;
        Ok(SourceStatus::More)
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        Ok(Some(vec![self.next.to_le_bytes().to_vec()]))
    }
}

/// What the consumer has worked on, all and until it wrote its state.
type Seen = Arc<Mutex<[Vec<u64>; 2]>>;

/// Takes a buffer's records whenever it is let.
struct Slow<T> {
    seen: Seen,
    number: fn(&T) -> u64,
    /// Absent: at any time.
    lets: Option<Arc<Mutex<Receiver<()>>>>,
}

impl<T> Control for Slow<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn snapshot(&mut self, _: &mut Snapshot) -> Result<(), TaskError> {
        let mut seen = self.seen.lock().unwrap();
        seen[1] = seen[0].clone();
        Ok(())
    }
}

impl<T> Collector<T> for Slow<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        if let Some(lets) = &self.lets {
            lets.lock()
                .unwrap()
                .recv()
                .map_err(|_| TaskError::Cancelled)?;
        }
        let numbers = batch.records.iter().map(self.number);
        self.seen.lock().unwrap()[0].extend(numbers);
        Ok(())
    }
}

/// A source and a slow task, whose records are of one kind.
struct Job<T> {
    make: fn(u64) -> T,
    number: fn(&T) -> u64,
    seen: Seen,
    lets: Option<Arc<Mutex<Receiver<()>>>>,
}

fn context(task: &TaskContext, uid: &str) -> OperatorContext {
    OperatorContext {
        uid: Arc::from(uid),
        name: Arc::from(uid),
        subtask: task.execution.subtask,
        parallelism: task.parallelism,
        max_parallelism: task.max_parallelism,
        metrics: Arc::clone(&task.metrics),
        clock: task.clock.clone(),
        mailbox: task.mailbox.clone(),
        sides: SideOutputs::default(),
        stores: None,
    }
}

impl<T: Record> Job<T> {
    fn dataflow(self) -> Dataflow {
        let make = self.make;
        let source = Make(move |mut task: TaskContext| {
            let owner = StateOwner::of(&context(&task, "source"));
            let writer = ExchangeWriter::<T>::new(
                Arc::from("source"),
                task.partitions.remove(0),
                Box::new(Forward),
                Arc::clone(&task.metrics),
            );
            let reader = Endless { next: 0, make };
            let (restored, parts) = parts(task);
            let task =
                SourceTask::new(owner, Box::new(reader), Box::new(writer), &restored, parts)?;
            Ok(Box::new(task) as Box<dyn Task>)
        });
        let slow = Make(move |mut task: TaskContext| {
            let first = Slow {
                seen: Arc::clone(&self.seen),
                number: self.number,
                lets: self.lets.clone(),
            };
            let inputs = Inputs {
                gate: task.gate.take().unwrap(),
                ports: vec![Box::new(TypedPort::<T>::new(Box::new(first)))],
                ports_of_edges: vec![0],
                edges: vec![0; task.channels[0]],
                owner: StateOwner::of(&context(&task, "sink")),
                unaligned: true,
            };
            let (restored, parts) = parts(task);
            Ok(Box::new(GateTask::new(inputs, &restored, parts)?) as Box<dyn Task>)
        });
        dataflow(Arc::new(source), Arc::new(slow))
    }
}

fn parts(task: TaskContext) -> (Restored, TaskParts) {
    let parts = TaskParts {
        metrics: task.metrics,
        clock: task.clock,
        buffer_timeout: task.buffer_timeout,
        snapshots: task.snapshots,
    };
    (Restored::new(task.restored), parts)
}

async fn acknowledged(
    host: &mut Host,
    task: ExecutionAttemptId,
) -> (SubtaskSnapshot, SubtaskCheckpointStats) {
    match host.checkpoint(task, 1).await {
        TaskCheckpointOutcome::Acknowledged { snapshot, stats } => (snapshot, stats),
        TaskCheckpointOutcome::Declined { reason } => panic!("{reason}"),
    }
}

fn content(snapshot: &SubtaskSnapshot, distribution: Distribution) -> &StateHandle {
    let states = snapshot.operators.iter().flat_map(|it| &it.states);
    let mut states = states.filter(|state| state.distribution == distribution);
    &states.next().unwrap().chunks[0].content
}

/// Two sources write to a task that has taken one buffer and stands still with all credits used up. Once it goes on, for a buffer
/// or two, the checkpoint is complete, and a task that begins with it works on exactly what the sources had read.
async fn a_slow_task_is_part_of_a_checkpoint<T: Record>(
    make: fn(u64) -> T,
    number: fn(&T) -> u64,
    remote: bool,
) {
    let kept = tempfile::tempdir().unwrap();
    let directory = format!("file://{}", kept.path().display());
    let seen = Seen::default();
    let (allow, lets): (Sender<()>, _) = channel();
    let flow = Job {
        make,
        number,
        seen: Arc::clone(&seen),
        lets: Some(Arc::new(Mutex::new(lets))),
    }
    .dataflow();
    let (mut a, mut b) = (Host::start(&flow), Host::start(&flow));
    let sources = if remote { &mut a } else { &mut b };
    sources.produce(0, 1);
    sources.produce(1, 1);
    let address = sources.worker.data_address().to_owned();
    b.consume_at(consumer(0), &[&address, &address]);
    let sources = if remote { &mut a } else { &mut b };
    let mut read = Vec::new();
    for source in [producer(0), producer(1)] {
        let waits = |counters: &spindle_common::gateway::TaskMetricsSnapshot| {
            counters.backpressured_ms > 40
        };
        sources.counted(source, waits).await;
        sources.worker.handle(ToWorker::TriggerCheckpoint {
            execution: source,
            barrier: CheckpointBarrier {
                id: CheckpointId(1),
                timestamp_ms: 0,
                kind: SnapshotKind::Checkpoint,
                directory: Arc::from(directory.as_str()),
                alignment: BarrierAlignment::Unaligned { timeout_ms: 0 },
            },
        });
        let (snapshot, stats) = acknowledged(sources, source).await;
        assert!(!stats.unaligned);
        let StateHandle::Inline(position) = content(&snapshot, Distribution::Split) else {
            panic!("{snapshot:?}");
        };
        read.extend(0..u64::from_le_bytes(position[4..].try_into().unwrap()));
    }
    // The barriers may still be on their way when it looks for the first time.
    let (snapshot, stats) = loop {
        allow.send(()).unwrap();
        let acknowledged = acknowledged(&mut b, consumer(0));
        if let Ok(done) = timeout(Duration::from_millis(200), acknowledged).await {
            break done;
        }
    };
    assert!(stats.unaligned && stats.persisted_bytes > 0, "{stats:?}");
    let in_flight = content(&snapshot, Distribution::InFlight).len();
    assert!(in_flight > stats.persisted_bytes, "{in_flight}, {stats:?}");
    let worked_on = seen.lock().unwrap()[1].clone();
    assert!(
        !worked_on.is_empty() && worked_on.len() * 2 < read.len(),
        "{} of {} were worked on: hardly more than a buffer of many was to be",
        worked_on.len(),
        read.len()
    );
    drop(allow);

    let replayed = Seen::default();
    let flow = Job {
        make,
        number,
        seen: Arc::clone(&replayed),
        lets: None,
    }
    .dataflow();
    let mut c = Host::start(&flow);
    let restore = TaskRestore {
        job: job(),
        finished: false,
        checkpoint: CheckpointId(1),
        directory,
        operators: snapshot.operators,
    };
    let channels = [0, 1].map(|subtask| InputChannelDescriptor {
        producer: producer(subtask),
        data_address: c.worker.data_address().to_owned(),
    });
    let inputs = vec![InputGateDescriptor {
        edge: 0,
        channels: channels.to_vec(),
    }];
    c.submit_restored(consumer(0), inputs, Vec::new(), Some(restore));
    c.state(consumer(0), ExecutionState::Running).await;
    let mut all = [worked_on, replayed.lock().unwrap()[0].clone()].concat();
    all.sort_unstable();
    read.sort_unstable();
    assert_eq!(all, read);
}

/// As objects within a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_waits_for_no_slow_task_in_the_same_worker() {
    a_slow_task_is_part_of_a_checkpoint(|n| n, |n| *n, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_waits_for_no_slow_task_in_another_worker() {
    a_slow_task_is_part_of_a_checkpoint(|n| n.to_string(), |n| n.parse().unwrap(), true).await;
}
