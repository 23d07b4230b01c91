//! A job of two vertices, and fake tasks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use spindle_common::checkpoint::{CheckpointId, TaskRestore};
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    FromWorker, InputChannelDescriptor, InputGateDescriptor, ResultPartitionDescriptor,
    TaskCheckpoint, TaskCheckpointOutcome, TaskDeployment, TaskMetricsSnapshot, TaskStateUpdate,
    ToWorker,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId};
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, JobEdge, JobGraph, JobVertex, OperatorDescriptor, OperatorKind,
    Partitioning,
};
use spindle_dataflow::channel::{Buffer, GateEvent};
use spindle_dataflow::task::{Dataflow, Step, Task, TaskContext, TaskError, TaskFactory, TaskMail};
use spindle_rpc::Secret;
use spindle_storage::SnapshotStorage;
use spindle_worker::{Worker, WorkerConfig};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const CREDITS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn job() -> JobId {
    JobId::from_bytes([7; 16])
}

pub(crate) fn secret() -> Secret {
    Secret::from_bytes([9; 32])
}

pub(crate) fn producer(subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        vertex: JobVertexId::of_uid("source"),
        subtask,
        attempt: 0,
    }
}

pub(crate) fn consumer(subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        vertex: JobVertexId::of_uid("sink"),
        subtask,
        attempt: 0,
    }
}

/// What makes a task of a closure.
pub(crate) struct Make<F>(pub(crate) F);

impl<F> TaskFactory for Make<F>
where
    F: Fn(TaskContext) -> Result<Box<dyn Task>, TaskError> + Send + Sync,
{
    fn build(&self, context: TaskContext) -> Result<Box<dyn Task>, TaskError> {
        (self.0)(context)
    }
}

/// Has tasks take turns with others of their slot.
pub(crate) struct InTurn(pub(crate) Arc<dyn TaskFactory>);

impl TaskFactory for InTurn {
    fn build(&self, context: TaskContext) -> Result<Box<dyn Task>, TaskError> {
        self.0.build(context)
    }

    fn waits(&self) -> bool {
        false
    }
}

/// Numbers from 0, each in a buffer of its own, dealt out to the consumers; then an end to each.
pub(crate) struct Numbers {
    pub(crate) context: TaskContext,
    pub(crate) count: u64,
    pub(crate) next: u64,
    /// Buffers that `emit` took, ends included.
    pub(crate) emitted: Arc<AtomicU64>,
}

impl Numbers {
    pub(crate) fn factory(count: u64, emitted: &Arc<AtomicU64>) -> Arc<dyn TaskFactory> {
        let emitted = Arc::clone(emitted);
        Arc::new(Make(move |context| {
            Ok(Box::new(Self {
                context,
                count,
                next: 0,
                emitted: Arc::clone(&emitted),
            }) as Box<dyn Task>)
        }))
    }
}

impl Task for Numbers {
    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn step(&mut self) -> Result<Step, TaskError> {
        let partition = &mut self.context.partitions[0];
        if self.next == self.count {
            for index in 0..partition.subpartitions() {
                partition.emit(index, Buffer::encoded(b"end".to_vec(), 0))?;
            }
            return Ok(Step::Finished);
        }
        let index = usize::try_from(self.next).unwrap() % partition.subpartitions();
        let bytes = self.next.to_be_bytes().to_vec();
        partition.emit(index, Buffer::encoded(bytes, 1))?;
        self.emitted.fetch_add(1, Ordering::SeqCst);
        self.context
            .metrics
            .records_out
            .fetch_add(1, Ordering::Relaxed);
        self.next += 1;
        Ok(Step::Continue)
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

/// Adds up the numbers until all channels ended; collects the sum and checks the order within each channel.
pub(crate) struct Sum {
    context: TaskContext,
    open: usize,
    last: BTreeMap<usize, u64>,
    sum: u64,
    watch: Arc<dyn Fn() + Send + Sync>,
}

impl Sum {
    /// `watch` is called before each buffer is taken.
    pub(crate) fn factory(watch: impl Fn() + Send + Sync + 'static) -> Arc<dyn TaskFactory> {
        let watch: Arc<dyn Fn() + Send + Sync> = Arc::new(watch);
        Arc::new(Make(move |context: TaskContext| {
            let open = context.channels.iter().sum();
            let watch = Arc::clone(&watch);
            Ok(Box::new(Self {
                context,
                open,
                last: BTreeMap::new(),
                sum: 0,
                watch,
            }) as Box<dyn Task>)
        }))
    }
}

impl Task for Sum {
    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn step(&mut self) -> Result<Step, TaskError> {
        (self.watch)();
        let gate = self.context.gate.as_mut().expect("a sum reads a gate");
        match gate.next(None)? {
            GateEvent::Woken | GateEvent::Arrived(..) => {}
            GateEvent::Buffer(_, buffer) if buffer.bytes == b"end" => self.open -= 1,
            GateEvent::Buffer(channel, buffer) => {
                let number = u64::from_be_bytes(buffer.bytes[..].try_into().unwrap());
                if let Some(last) = self.last.insert(channel, number) {
                    assert!(
                        last < number,
                        "{number} came after {last} on channel {channel}"
                    );
                }
                self.sum += number;
            }
        }
        Ok(if self.open == 0 {
            Step::Finished
        } else {
            Step::Continue
        })
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        vec![("sum".to_owned(), self.sum.to_string().into_bytes())]
    }
}

fn vertex(uid: &str, kind: OperatorKind, parallelism: u32) -> JobVertex {
    JobVertex {
        id: JobVertexId::of_uid(uid),
        parallelism,
        max_parallelism: 128,
        operators: vec![OperatorDescriptor {
            uid: uid.to_owned(),
            name: uid.to_owned(),
            kind,
        }],
        splits: Vec::new(),
        staging: Vec::new(),
        slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
    }
}

pub(crate) fn dataflow(source: Arc<dyn TaskFactory>, sink: Arc<dyn TaskFactory>) -> Dataflow {
    let graph = JobGraph {
        name: "test".to_owned(),
        vertices: vec![
            vertex("source", OperatorKind::Source, 2),
            vertex("sink", OperatorKind::Sink, 2),
        ],
        edges: vec![JobEdge {
            source: JobVertexId::of_uid("source"),
            target: JobVertexId::of_uid("sink"),
            partitioning: Partitioning::Hash,
        }],
        slot_profiles: BTreeMap::new(),
    };
    Dataflow {
        graph,
        factories: vec![source, sink],
    }
}

/// A worker, and what it reported and was not yet asked for.
pub(crate) struct Host {
    pub(crate) worker: Worker,
    reports: mpsc::Receiver<FromWorker>,
    updates: Vec<TaskStateUpdate>,
    checkpoints: Vec<TaskCheckpoint>,
}

impl Host {
    pub(crate) fn start(dataflow: &Dataflow) -> Self {
        Self::start_with(dataflow, secret(), Duration::ZERO)
    }

    pub(crate) fn start_with(
        dataflow: &Dataflow,
        secret: Secret,
        peer_loss_grace: Duration,
    ) -> Self {
        let config = WorkerConfig {
            credits: CREDITS,
            peer_loss_grace,
            report_interval: Duration::from_millis(20),
            ..WorkerConfig::new(job(), "127.0.0.1".to_owned(), secret)
        };
        let storage = SnapshotStorage::of_hadoop(&[], "test").unwrap();
        let config = config.with_storage(storage);
        let (worker, reports) =
            Worker::start(dataflow.clone(), config, &Handle::current()).unwrap();
        Self {
            worker,
            reports,
            updates: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    pub(crate) fn submit(
        &self,
        execution: ExecutionAttemptId,
        inputs: Vec<InputGateDescriptor>,
        outputs: Vec<ResultPartitionDescriptor>,
    ) {
        self.submit_restored(execution, inputs, outputs, None);
    }

    pub(crate) fn submit_restored(
        &self,
        execution: ExecutionAttemptId,
        inputs: Vec<InputGateDescriptor>,
        outputs: Vec<ResultPartitionDescriptor>,
        restore: Option<TaskRestore>,
    ) {
        self.worker
            .handle(ToWorker::SubmitTask(Box::new(TaskDeployment {
                job: job(),
                // A slot has one subtask of each vertex.
                allocation: AllocationId(1 + u64::from(execution.subtask)),
                execution,
                parallelism: 2,
                max_parallelism: 128,
                splits: Vec::new(),
                inputs,
                outputs,
                restore,
            })));
    }

    /// Runs a producer for the consumers 0 to `consumers`.
    pub(crate) fn produce(&self, subtask: u32, consumers: u32) {
        let outputs = vec![ResultPartitionDescriptor {
            edge: 0,
            consumers: (0..consumers).collect(),
        }];
        self.submit(producer(subtask), Vec::new(), outputs);
    }

    /// Runs a consumer of the producers 0, 1, …, which are at these workers.
    pub(crate) fn consume(&self, subtask: u32, producers: &[&Self]) {
        self.consume_at(
            consumer(subtask),
            &producers
                .iter()
                .map(|host| host.worker.data_address())
                .collect::<Vec<_>>(),
        );
    }

    pub(crate) fn consume_at(&self, execution: ExecutionAttemptId, addresses: &[&str]) {
        let channels = (0..)
            .zip(addresses)
            .map(|(subtask, address)| InputChannelDescriptor {
                producer: producer(subtask),
                data_address: (*address).to_owned(),
            });
        self.submit(
            execution,
            vec![InputGateDescriptor {
                edge: 0,
                channels: channels.collect(),
            }],
            Vec::new(),
        );
    }

    pub(crate) fn cancel(&self, execution: ExecutionAttemptId) {
        self.worker.handle(ToWorker::CancelTask { execution });
    }

    /// Waits for a state of a task.
    pub(crate) async fn state(
        &mut self,
        execution: ExecutionAttemptId,
        state: ExecutionState,
    ) -> TaskStateUpdate {
        loop {
            let is_it =
                |update: &&TaskStateUpdate| update.execution == execution && update.state == state;
            if let Some(update) = self.updates.iter().find(is_it) {
                return update.clone();
            }
            let ended = self
                .updates
                .iter()
                .find(|update| update.execution == execution && update.state.is_terminal());
            assert!(ended.is_none(), "waiting for {state:?}, got {ended:?}");
            match timeout(PATIENCE, self.reports.recv()).await {
                Ok(Some(FromWorker::TaskState(update))) => self.updates.push(update),
                Ok(Some(FromWorker::TaskCheckpoint(told))) => self.checkpoints.push(told),
                Ok(Some(_)) => {}
                other => panic!(
                    "waiting for {state:?} of {execution}, got {other:?}; before: {:?}",
                    self.updates
                ),
            }
        }
    }

    /// Waits for what a task did for a checkpoint, and forgets what it told before that.
    pub(crate) async fn checkpoint(
        &mut self,
        execution: ExecutionAttemptId,
        checkpoint: u64,
    ) -> TaskCheckpointOutcome {
        let id = CheckpointId(checkpoint);
        loop {
            let mut told = self.checkpoints.drain(..);
            if let Some(told) =
                told.find(|told| told.execution == execution && told.checkpoint == id)
            {
                return told.outcome;
            }
            drop(told);
            match timeout(PATIENCE, self.reports.recv()).await {
                Ok(Some(FromWorker::TaskCheckpoint(told))) => self.checkpoints.push(told),
                Ok(Some(FromWorker::TaskState(update))) => self.updates.push(update),
                Ok(Some(_)) => {}
                other => panic!(
                    "waiting for checkpoint {checkpoint} of {execution}, got {other:?}; before: {:?}",
                    self.updates
                ),
            }
        }
    }

    /// What was told of checkpoints, and nobody asked for.
    pub(crate) fn checkpoints(&self) -> &[TaskCheckpoint] {
        &self.checkpoints
    }

    /// Waits for the counters of a task to satisfy a condition.
    pub(crate) async fn counted(
        &mut self,
        execution: ExecutionAttemptId,
        condition: impl Fn(&TaskMetricsSnapshot) -> bool,
    ) {
        loop {
            match timeout(PATIENCE, self.reports.recv()).await {
                Ok(Some(FromWorker::TaskState(update))) => self.updates.push(update),
                Ok(Some(FromWorker::Report(tasks))) => {
                    let mut mine = tasks.iter().filter(|task| task.execution == execution);
                    if mine.any(|task| condition(&task.metrics)) {
                        return;
                    }
                }
                other => panic!("waiting for counters of {execution}, got {other:?}"),
            }
        }
    }

    /// All states of a task so far.
    pub(crate) fn states(&self, execution: ExecutionAttemptId) -> Vec<ExecutionState> {
        self.updates
            .iter()
            .filter(|update| update.execution == execution)
            .map(|update| update.state)
            .collect()
    }

    /// Waits for a task to finish, and reads its sum.
    pub(crate) async fn sum(&mut self, execution: ExecutionAttemptId) -> u64 {
        let update = self.state(execution, ExecutionState::Finished).await;
        String::from_utf8(update.collected[0].1.clone())
            .unwrap()
            .parse()
            .unwrap()
    }

    pub(crate) async fn failure(&mut self, execution: ExecutionAttemptId) -> String {
        self.state(execution, ExecutionState::Failed)
            .await
            .cause
            .unwrap()
            .to_string()
    }
}

/// Waits for a condition that other threads bring about.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}
