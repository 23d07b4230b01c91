//! The messages between JobManager, TaskExecutor and worker, as plain data. `spindle-rpc` carries them.
//!
//! A TaskExecutor opens one stream to its JobManager, a worker one to its TaskExecutor; a message of either side travels in
//! order, and the end of the stream is the loss of the peer. So no message is acknowledged, and none comes twice.
//!
//! Slots: the JobManager asks a TaskExecutor for a slot ([`ToTaskExecutor::RequestSlot`]); the TaskExecutor starts the job's
//! worker if it does not run yet, and offers the slot when the worker is ready ([`ToJobManager::OfferSlot`]), with the address
//! at which that worker's subtasks can be read. Only then are tasks sent, so every [`TaskDeployment`] names all its peers.
//!
//! The end: a task with sinks that has read all its input reports [`ExecutionState::AwaitingCommit`]; when every task of the job
//! is there or finished, the JobManager sends [`ToTaskExecutor::CommitTask`] to those, which make their output visible and finish.
//!
//! A checkpoint: the JobManager has the sources send a barrier ([`ToTaskExecutor::TriggerCheckpoint`]); each task tells what it wrote
//! at it ([`TaskCheckpointOutcome::Acknowledged`]) or that it could not; when all have, and that is durable, each task is told
//! ([`ToTaskExecutor::CheckpointComplete`]), and commits what it held back until then.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    CheckpointBarrier, CheckpointId, SubtaskCheckpointStats, SubtaskSnapshot, TaskRestore,
};
use crate::execution::{ExecutionState, FailureCause};
use crate::id::{AllocationId, ExecutionAttemptId, FencingToken, JobId, NodeName, ResourceId};
use crate::job_graph::{ProgramSpec, SourceSplit};
use crate::resource::SlotProfile;

/// What a TaskExecutor tells its JobManager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToJobManager {
    /// First message of a stream.
    Register(TaskExecutorRegistration),
    /// Sent each heartbeat interval, and at once after a task ended.
    Heartbeat(TaskExecutorReport),
    /// The slot is the job's, its worker runs.
    OfferSlot {
        /// The lease, as requested.
        allocation: AllocationId,
        /// The job.
        job: JobId,
        /// `host:port` of the worker's data plane.
        data_address: String,
    },
    /// The slot cannot be had: the worker does not start, or refuses the program's graph.
    SlotUnavailable {
        /// The lease, as requested.
        allocation: AllocationId,
        /// The job.
        job: JobId,
        /// Why.
        cause: FailureCause,
    },
    /// A task changed its state.
    TaskState(TaskStateUpdate),
    /// What a task did for a checkpoint.
    TaskCheckpoint(TaskCheckpoint),
    /// What was asked by [`ToTaskExecutor::Inquire`].
    Inquired {
        /// As in the question.
        inquiry: u64,
        /// The answer.
        answer: InquiryAnswer,
    },
    /// The job's worker on this TaskExecutor ended without being told to. Its tasks and the job's slots here are gone.
    WorkerLost {
        /// The job.
        job: JobId,
        /// How it ended, with the tail of its error log.
        cause: FailureCause,
    },
}

/// What a JobManager tells a TaskExecutor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToTaskExecutor {
    /// The registration is accepted.
    Registered {
        /// How often to send [`ToJobManager::Heartbeat`], in milliseconds.
        heartbeat_interval_ms: u64,
    },
    /// Lease a slot to a job, starting the job's worker if there is none.
    RequestSlot(SlotRequest),
    /// The lease is over. With its last slot here the job's worker ends.
    FreeSlot {
        /// The lease.
        allocation: AllocationId,
    },
    /// Run a task.
    SubmitTask(Box<TaskDeployment>),
    /// Stop a task; answered by its terminal state.
    CancelTask {
        /// The job.
        job: JobId,
        /// The task.
        execution: ExecutionAttemptId,
    },
    /// Make the output of a task that awaits it visible.
    CommitTask {
        /// The job.
        job: JobId,
        /// The task.
        execution: ExecutionAttemptId,
    },
    /// To a source's task: send this barrier behind what was read so far.
    TriggerCheckpoint {
        /// The job.
        job: JobId,
        /// The task.
        execution: ExecutionAttemptId,
        /// The barrier.
        barrier: CheckpointBarrier,
    },
    /// A checkpoint that the task has acknowledged is complete and durable.
    CheckpointComplete {
        /// The job.
        job: JobId,
        /// The task.
        execution: ExecutionAttemptId,
        /// Which.
        checkpoint: CheckpointId,
    },
    /// A checkpoint will not be complete: what was begun for it is to be left.
    CheckpointAborted {
        /// The job.
        job: JobId,
        /// The task.
        execution: ExecutionAttemptId,
        /// Which.
        checkpoint: CheckpointId,
    },
    /// Tell of the process itself, for people: changes nothing.
    Inquire {
        /// For the answer to be known by.
        inquiry: u64,
        /// What is wanted.
        what: Inquiry,
    },
    /// End all workers, then the process.
    ShutDown {
        /// Why, for the log.
        reason: String,
    },
}

/// A TaskExecutor introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskExecutorRegistration {
    /// Its name; on YARN the container id.
    pub resource: ResourceId,
    /// The JobManager's attempt that it was started by.
    pub fencing: FencingToken,
    /// The machine it runs on.
    pub node: NodeName,
    /// Host name or address, for people and for the workers of others.
    pub host: String,
    /// Number of slots, at least 1.
    pub slots: u32,
    /// Process id.
    pub pid: u32,
}

/// What a TaskExecutor knows of itself and of the tasks that run on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskExecutorReport {
    /// Resident memory of the TaskExecutor's own process, in bytes.
    pub resident_bytes: u64,
    /// Resident memory of each worker, in bytes.
    pub workers: Vec<WorkerReport>,
    /// One entry per task that runs or ended since the last report.
    pub tasks: Vec<TaskReport>,
}

/// A question about a TaskExecutor's process and those of its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inquiry {
    /// Which log files there are.
    Logs,
    /// The end of one of them.
    LogFile {
        /// As the list has it.
        name: String,
    },
    /// What the threads do.
    Threads,
}

/// The answer to an [`Inquiry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InquiryAnswer {
    /// By name.
    Logs(Vec<LogFile>),
    /// The end of a file.
    LogFile {
        /// Where in the file it begins.
        from: u64,
        /// The bytes from there on; not more than [`MAX_SHOWN_LOG`].
        bytes: Vec<u8>,
    },
    /// Threads of the TaskExecutor and of its workers.
    Threads(Vec<ThreadDump>),
    /// Why there is none.
    Failed(String),
}

/// Of a longer log file the end is shown, in bytes.
pub const MAX_SHOWN_LOG: u64 = 4 << 20;

/// One log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Its name in the container's log directory.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// When it was last written to, in milliseconds since the epoch.
    pub mtime_ms: u64,
}

/// What a thread does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadDump {
    /// Its process and its own name.
    pub name: String,
    /// The rest, for people.
    pub text: String,
}

/// What is known of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its job.
    pub job: JobId,
    /// Process id.
    pub pid: u32,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// The counters of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its job.
    pub job: JobId,
    /// The task.
    pub execution: ExecutionAttemptId,
    /// Counters since it started.
    pub metrics: TaskMetricsSnapshot,
}

/// Counters of a task, since it started.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskMetricsSnapshot {
    /// Records taken from input gates, or read by a source.
    pub records_in: u64,
    /// Records given to result partitions, or written by a sink.
    pub records_out: u64,
    /// Bytes taken from input gates, or read by a source.
    pub bytes_in: u64,
    /// Bytes given to result partitions, or written by a sink.
    pub bytes_out: u64,
    /// Records dropped because they came after their window had been closed.
    pub late_records_dropped: u64,
    /// Milliseconds in which it worked. Flink derives `busyTimeMsPerSecond` from it; so does the JobManager, from two reports.
    pub busy_ms: u64,
    /// Milliseconds in which it waited for input. Flink: `idleTimeMsPerSecond`.
    pub idle_ms: u64,
    /// Milliseconds in which it waited for those that it gives records to. Flink: `backPressuredTimeMsPerSecond`.
    pub backpressured_ms: u64,
    /// The task's watermark, in milliseconds since the epoch, once it has one.
    pub watermark_ms: Option<i64>,
    /// Share of a bounded source's input that was read, 0 to 1; absent for tasks that are no bounded source.
    pub progress: Option<f64>,
}

/// A slot wanted for a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotRequest {
    /// The lease.
    pub allocation: AllocationId,
    /// Index of the slot, from 0. Slots that are smaller than an equal part may be more than the TaskExecutor registered.
    pub slot: u32,
    /// The job.
    pub job: JobId,
    /// The program to run as the job's worker.
    pub program: ProgramSpec,
    /// Fingerprint that the program's graph has to have.
    pub graph_fingerprint: u64,
    /// Settings of the job: key and value as written.
    pub config: Vec<(String, String)>,
    /// What the slot has. Without it, it is one of the TaskExecutor's equal parts.
    pub profile: Option<SlotProfile>,
}

/// A task for a worker: one execution attempt with all its peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDeployment {
    /// The job.
    pub job: JobId,
    /// The lease of the slot it runs in.
    pub allocation: AllocationId,
    /// Which vertex, subtask and attempt.
    pub execution: ExecutionAttemptId,
    /// Number of subtasks of the vertex.
    pub parallelism: u32,
    /// Number of key groups of the vertex.
    pub max_parallelism: u32,
    /// What a source subtask reads.
    pub splits: Vec<SourceSplit>,
    /// One per edge that feeds the vertex, by ascending edge index.
    pub inputs: Vec<InputGateDescriptor>,
    /// One per edge that the vertex feeds, by ascending edge index.
    pub outputs: Vec<ResultPartitionDescriptor>,
    /// What it begins with; nothing if absent.
    pub restore: Option<TaskRestore>,
}

/// Where a task finds the channels of one of its input edges. Flink: `InputGateDeploymentDescriptor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputGateDescriptor {
    /// Index of the edge in the job graph.
    pub edge: u32,
    /// The producers, by ascending subtask.
    pub channels: Vec<InputChannelDescriptor>,
}

/// One producer of an input gate. The channel is the producer's subpartition for this consumer's subtask index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChannelDescriptor {
    /// The producing task.
    pub producer: ExecutionAttemptId,
    /// `host:port` of the data plane of the producer's worker.
    pub data_address: String,
}

/// The consumers of one of a task's output edges. Flink: `ResultPartitionDeploymentDescriptor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultPartitionDescriptor {
    /// Index of the edge in the job graph.
    pub edge: u32,
    /// Subtask indices of the consumers, ascending: all of them, or for a forward edge the one with the producer's own index.
    pub consumers: Vec<u32>,
}

/// A task changed its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStateUpdate {
    /// The job.
    pub job: JobId,
    /// The task.
    pub execution: ExecutionAttemptId,
    /// The state it is in now.
    pub state: ExecutionState,
    /// Why, if it failed.
    pub cause: Option<FailureCause>,
    /// Its counters at this moment.
    pub metrics: TaskMetricsSnapshot,
    /// With [`ExecutionState::Finished`]: what the task collected for the client, by name of the collecting sink, as JSON lines.
    pub collected: Vec<(String, Vec<u8>)>,
}

/// What a task did for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCheckpoint {
    /// The job.
    pub job: JobId,
    /// The task.
    pub execution: ExecutionAttemptId,
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// How it went.
    pub outcome: TaskCheckpointOutcome,
}

/// How a task got through a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskCheckpointOutcome {
    /// Its state is written and durable.
    Acknowledged {
        /// Where.
        snapshot: SubtaskSnapshot,
        /// How long it took.
        stats: SubtaskCheckpointStats,
    },
    /// It cannot be part of this checkpoint; the task goes on.
    Declined {
        /// Why, in words.
        reason: String,
    },
}

/// What a worker tells its TaskExecutor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First message of a stream.
    Hello(WorkerHello),
    /// A task changed its state.
    TaskState(TaskStateUpdate),
    /// What a task did for a checkpoint.
    TaskCheckpoint(TaskCheckpoint),
    /// Counters of the tasks that run or ended since the last report.
    Report(Vec<TaskReport>),
}

/// A worker introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// [`crate::PROTOCOL_VERSION`] of the program.
    pub protocol_version: u32,
    /// The job it was started for.
    pub job: JobId,
    /// Process id.
    pub pid: u32,
    /// `host:port` of its data plane.
    pub data_address: String,
    /// [`crate::job_graph::JobGraph::fingerprint`] of the graph it built, or why it could not.
    pub graph: Result<u64, FailureCause>,
}

/// What a TaskExecutor tells a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Run a task.
    SubmitTask(Box<TaskDeployment>),
    /// Stop a task.
    CancelTask {
        /// The task.
        execution: ExecutionAttemptId,
    },
    /// Make the output of a task that awaits it visible.
    CommitTask {
        /// The task.
        execution: ExecutionAttemptId,
    },
    /// See [`ToTaskExecutor::TriggerCheckpoint`].
    TriggerCheckpoint {
        /// The task.
        execution: ExecutionAttemptId,
        /// The barrier.
        barrier: CheckpointBarrier,
    },
    /// See [`ToTaskExecutor::CheckpointComplete`].
    CheckpointComplete {
        /// The task.
        execution: ExecutionAttemptId,
        /// Which.
        checkpoint: CheckpointId,
    },
    /// See [`ToTaskExecutor::CheckpointAborted`].
    CheckpointAborted {
        /// The task.
        execution: ExecutionAttemptId,
        /// Which.
        checkpoint: CheckpointId,
    },
    /// End the process: no task is wanted any more.
    ShutDown,
}
