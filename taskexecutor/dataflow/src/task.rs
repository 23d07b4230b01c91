//! A task: one execution attempt of a vertex, run by one thread of a worker, step by step. Flink: `StreamTask`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use spindle_common::checkpoint::{
    CheckpointBarrier, CheckpointId, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::TaskMetricsSnapshot;
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_common::job_graph::{JobGraph, SourceSplit};

use crate::chain::Clock;
use crate::channel::{InputGate, ResultPartition};
use crate::mailbox::Mailbox;
use crate::snapshot::Content;
use crate::state::store::StateStores;

pub use crate::task_time::{TaskTime, TimeTotals, Waiting};

/// A program's dataflow: the graph as submitted, and for each of its vertices what makes a task of it.
#[derive(Clone)]
pub struct Dataflow {
    /// The graph.
    pub graph: JobGraph,
    /// One per vertex, in the order of the graph.
    pub factories: Vec<Arc<dyn TaskFactory>>,
}

/// Makes the tasks of one vertex.
pub trait TaskFactory: Send + Sync {
    /// Makes the task of one subtask. Runs on the task's own thread; may open files.
    ///
    /// # Errors
    /// What went wrong, with the operator's name.
    fn build(&self, context: TaskContext) -> Result<Box<dyn Task>, TaskError>;

    /// Whether its tasks may wait for the outside in the midst of a step, as for a file or an answer. Those that do not may take turns on one
    /// thread.
    fn waits(&self) -> bool {
        true
    }
}

/// What a task is made of besides its operators.
pub struct TaskContext {
    /// Its job.
    pub job: JobId,
    /// Which vertex, subtask and attempt.
    pub execution: ExecutionAttemptId,
    /// Number of subtasks of the vertex.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// What a source reads.
    pub splits: Vec<SourceSplit>,
    /// All edges that feed the vertex; none for a source.
    pub gate: Option<Box<dyn InputGate>>,
    /// The gate's channels of each edge that feeds the vertex, by ascending edge index.
    pub channels: Vec<usize>,
    /// One per edge that the vertex feeds, by ascending edge index.
    pub partitions: Vec<Box<dyn ResultPartition>>,
    /// Where the task counts.
    pub metrics: Arc<TaskMetrics>,
    /// The longest that a record waits in a buffer that is not full.
    pub buffer_timeout: Duration,
    /// The clocks.
    pub clock: Clock,
    /// How the task's thread is reached from outside.
    pub mailbox: Mailbox,
    /// The checkpoint of this job that it has gone back to; none if it begins from its beginning, or with what another job has left.
    pub restored_from: Option<CheckpointId>,
    /// What the operators of the chain begin with; empty if they begin with nothing.
    pub restored: SubtaskSnapshot<Vec<u8>>,
    /// What the task keeps the state of keys in; none if in memory.
    pub stores: Option<Arc<dyn StateStores>>,
    /// Where the task puts its state at a barrier.
    pub snapshots: Box<dyn SnapshotWriter>,
}

/// Takes what a task writes at a barrier, and writes it to where it is durable, beside the task. It tells the JobManager.
pub trait SnapshotWriter: Send {
    /// The state of all operators of the chain at a barrier. Returns at once. Those times in `stats` that the task knows are set.
    fn write(
        &mut self,
        barrier: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
        stats: SubtaskCheckpointStats,
    );

    /// The task cannot be part of a checkpoint.
    fn decline(&mut self, checkpoint: CheckpointId, reason: String);
}

/// Takes nothing: for tasks that nobody checkpoints.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSnapshots;

impl SnapshotWriter for NoSnapshots {
    fn write(
        &mut self,
        _: &CheckpointBarrier,
        _: SubtaskSnapshot<Content>,
        _: SubtaskCheckpointStats,
    ) {
    }

    fn decline(&mut self, _: CheckpointId, _: String) {}
}

/// What a task is told between two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskMail {
    /// To a source: send this barrier behind what was read so far.
    TriggerCheckpoint(CheckpointBarrier),
    /// A checkpoint that it has acknowledged is complete: what was held back for it may be made visible.
    CheckpointComplete(CheckpointId),
    /// A checkpoint will not be complete.
    CheckpointAborted(CheckpointId),
}

/// A task that runs. It is made and run by one thread.
pub trait Task {
    /// Does a bounded amount of work: takes a buffer or reads a batch, and runs the chain on it. Called again and again from the
    /// task's own thread until it says that it is done; between two calls the worker looks into the task's mailbox.
    ///
    /// # Errors
    /// What ends the task. A panic of user code is caught by the worker.
    fn step(&mut self) -> Result<Step, TaskError>;

    /// Takes a message that came since the last step, in the order in which they came.
    ///
    /// # Errors
    /// What ends the task.
    fn handle(&mut self, mail: TaskMail) -> Result<(), TaskError>;

    /// Makes the output visible, after [`Step::AwaitingCommit`]. May be repeated after a crash, by another attempt.
    ///
    /// # Errors
    /// What went wrong.
    fn commit(&mut self) -> Result<(), TaskError>;

    /// What the task collected for the client, by name of the sink, as JSON lines. Asked for once, after the last step.
    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)>;
}

/// What a task did in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do, or there may be later.
    Continue,
    /// There is nothing to do before mail comes.
    Held,
    /// Everything is read and written; output waits for [`Task::commit`].
    AwaitingCommit,
    /// Everything is read and written, and there is nothing to commit.
    Finished,
}

/// What ends a task before its time.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It was told to stop.
    #[error("the task was cancelled")]
    Cancelled,
    /// A neighbour in the dataflow is gone.
    #[error("lost the connection to task {peer} at {address}: {reason}")]
    PeerLost {
        /// The neighbour.
        peer: ExecutionAttemptId,
        /// Where its worker was.
        address: String,
        /// What the transport said.
        reason: String,
    },
    /// User code, a source or a sink failed.
    #[error("{message}")]
    Operator {
        /// Name of the operator.
        operator: String,
        /// What happened, with its causes.
        message: String,
        /// What it calls for.
        class: FailureClass,
    },
    /// It had fired all its windows and timers for a savepoint to stop with, which is not complete.
    #[error(
        "the job drained and did not stop: savepoint {checkpoint} failed, and windows that have fired cannot be taken back"
    )]
    NotStopped {
        /// The savepoint.
        checkpoint: CheckpointId,
    },
    /// Bytes from a neighbour make no sense: the two run different programs, or memory was damaged.
    #[error("cannot decode what another task sent: {reason}")]
    Codec {
        /// What is wrong.
        reason: String,
    },
}

impl TaskError {
    /// What it calls for.
    pub const fn failure_class(&self) -> FailureClass {
        match self {
            // Whoever is gone has a cause of its own, which counts for more than this one.
            Self::PeerLost { .. } => FailureClass::Retry,
            Self::Cancelled | Self::NotStopped { .. } => FailureClass::Restart,
            Self::Operator { class, .. } => *class,
            Self::Codec { .. } => FailureClass::FailJob,
        }
    }

    /// The failure as it is reported.
    pub fn into_cause(self) -> FailureCause {
        let class = self.failure_class();
        let message = self.to_string();
        let operator = match self {
            Self::Operator { operator, .. } => Some(operator),
            Self::Cancelled
            | Self::PeerLost { .. }
            | Self::NotStopped { .. }
            | Self::Codec { .. } => None,
        };
        FailureCause {
            class,
            operator,
            message,
        }
    }
}

/// The counters of a task, written by its thread and read by the worker's reporter.
pub struct TaskMetrics {
    /// Records taken from gates, or read by a source.
    pub records_in: AtomicU64,
    /// Records given to partitions, or written by a sink.
    pub records_out: AtomicU64,
    /// Bytes taken from gates, or read by a source.
    pub bytes_in: AtomicU64,
    /// Bytes given to partitions, or written by a sink.
    pub bytes_out: AtomicU64,
    /// Records dropped because their window was closed.
    pub late_records_dropped: AtomicU64,
    /// How it spends its time.
    pub time: TaskTime,
    /// Milliseconds since the epoch; `i64::MIN` before the first.
    pub watermark_ms: AtomicI64,
    /// Share of a bounded source's input that was read, in millionths; `u64::MAX` when there is no such thing.
    pub progress_millionths: AtomicU64,
}

impl Default for TaskMetrics {
    fn default() -> Self {
        Self {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            late_records_dropped: AtomicU64::new(0),
            time: TaskTime::new(None),
            watermark_ms: AtomicI64::new(i64::MIN),
            progress_millionths: AtomicU64::new(u64::MAX),
        }
    }
}

impl TaskMetrics {
    /// Counters that measure times by this clock.
    pub fn timed(clock: Clock) -> Self {
        Self {
            time: TaskTime::new(Some(clock)),
            ..Self::default()
        }
    }

    /// The counters at this moment.
    pub fn snapshot(&self) -> TaskMetricsSnapshot {
        let watermark = self.watermark_ms.load(Ordering::Relaxed);
        let progress = self.progress_millionths.load(Ordering::Relaxed);
        let time = self.time.totals();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        TaskMetricsSnapshot {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            late_records_dropped: self.late_records_dropped.load(Ordering::Relaxed),
            busy_ms: millis(time.busy),
            idle_ms: millis(time.idle),
            backpressured_ms: millis(time.backpressured),
            watermark_ms: (watermark != i64::MIN).then_some(watermark),
            progress: (progress != u64::MAX).then_some(progress as f64 / 1e6),
        }
    }
}
