//! Inputs and effects of the [`crate::JobManager`], and what can be seen of it: plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{CheckpointId, SnapshotKind};
use spindle_common::execution::{ExecutionState, FailureCause, JobStatus};
use spindle_common::gateway::{TaskMetricsSnapshot, ToJobManager, ToTaskExecutor};
use spindle_common::id::{ExecutionAttemptId, JobId, NodeName, ResourceId};
use spindle_common::job_graph::{JobGraph, JobSubmission};
use spindle_common::resource::{ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;

use crate::checkpoint::{CheckpointsView, Observed};

/// One stream of one TaskExecutor; a TaskExecutor that comes back has a new one. Given by the driver, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// What can happen to the JobManager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A job is handed in. A job id that is known is ignored: the submission came twice.
    Submit(Box<JobSubmission>),
    /// An application's program has handed in all its jobs: with them the cluster ends. Without meaning in other modes.
    NoMoreJobs,
    /// Somebody wants a job stopped.
    CancelJob {
        /// The job.
        job: JobId,
        /// Who or what asked, for the log and the diagnostics.
        reason: String,
    },
    /// The cluster shall end: running jobs are cancelled first.
    ShutDown {
        /// Why.
        reason: String,
    },
    /// A message from a TaskExecutor. The first of a connection is its registration.
    TaskExecutor {
        /// The stream it came on.
        connection: ConnectionId,
        /// What it says.
        message: ToJobManager,
    },
    /// A TaskExecutor's stream ended.
    Disconnected {
        /// The stream.
        connection: ConnectionId,
        /// What the transport said.
        reason: String,
    },
    /// Something about containers.
    Resource(ResourceEvent),
    /// What became of a checkpoint's effect, or somebody wants a checkpoint.
    Checkpoint {
        /// The job.
        job: JobId,
        /// What happened.
        event: CheckpointEvent,
    },
    /// The attached client that waits for the end has been told of it, or has gone away.
    ClientReleased,
    /// The deadline has come.
    Tick,
}

/// What the resource provider (YARN, or the process itself) tells of containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ResourceEvent {
    /// Containers were granted; each is either launched or released.
    Allocated(Vec<Container>),
    /// A granted container could not be started.
    LaunchFailed {
        /// The container.
        resource: ResourceId,
        /// Why, in words.
        reason: String,
    },
    /// A container is over.
    Completed {
        /// The container.
        resource: ResourceId,
        /// How, in words: exit code with the tail of its log, killed for memory, pre-empted, node lost.
        reason: String,
        /// Whether the platform is at fault (released, pre-empted, node lost), so that it does not count against the job.
        platform: bool,
    },
    /// The provider cannot grant what is asked, ever: larger than its largest container, application unknown, …
    Refused {
        /// The size in question; without it, whatever is asked for.
        profile: Option<ResourceProfile>,
        /// Why, in words.
        reason: String,
    },
    /// The nodes that can be asked for changed.
    Nodes {
        /// How many there are.
        count: u32,
    },
}

/// What happens to checkpoints of a job. Each effect on the storage is answered once, however it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointEvent {
    /// Somebody wants a checkpoint or savepoint now; what becomes of it can be seen under this number.
    Trigger {
        /// Given by whoever asks, never used twice.
        request: u64,
        /// A savepoint; without it a checkpoint.
        savepoint: Option<SavepointRequest>,
    },
    /// What the snapshot says that the job is to begin with.
    Loaded {
        /// The directory as workers are to know it: an absolute URI.
        directory: String,
        /// What its metadata says.
        metadata: Arc<SnapshotMetadata>,
    },
    /// The snapshot that the job is to begin with could not be read.
    LoadFailed {
        /// Why, in words.
        reason: String,
        /// Whether it will not be there the next time either: there is none, or it is damaged.
        lost: bool,
    },
    /// The directory is there.
    Prepared {
        /// Of which checkpoint.
        id: CheckpointId,
        /// The directory as workers are to know it: an absolute URI.
        directory: String,
    },
    /// The directory could not be made.
    PrepareFailed {
        /// Of which checkpoint.
        id: CheckpointId,
        /// Why, in words.
        reason: String,
    },
    /// What there is in a job's directory.
    Discovered {
        /// All of it.
        observed: Box<Observed>,
    },
    /// It could not be looked at.
    DiscoverFailed {
        /// Why, in words.
        reason: String,
    },
    /// The metadata is durable.
    MetadataPersisted {
        /// Of which checkpoint.
        id: CheckpointId,
    },
    /// The metadata could not be written, or nobody knows whether it was.
    MetadataFailed {
        /// Of which checkpoint.
        id: CheckpointId,
        /// Why, in words.
        reason: String,
    },
    /// The job's directory was still this attempt's.
    Confirmed,
    /// Nobody knows whose the job's directory is.
    ConfirmFailed {
        /// Why, in words.
        reason: String,
    },
    /// A later attempt of the JobManager goes on with the job: what this one wanted was not done, and nothing of it will be.
    Superseded {
        /// How that is known, in words.
        reason: String,
    },
    /// A directory is gone for certain.
    Discarded {
        /// Of which checkpoint.
        id: CheckpointId,
    },
    /// A directory may still be there.
    DiscardFailed {
        /// Of which checkpoint.
        id: CheckpointId,
        /// Why, in words.
        reason: String,
    },
}

/// A savepoint that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointRequest {
    /// [`SnapshotKind::Savepoint`], or one of those that the job stops with.
    pub kind: SnapshotKind,
    /// Directory, as a URI, under which it gets one of its own; without it the configured one.
    pub directory: Option<String>,
    /// What tells its directory from others: twelve hexadecimal digits, by chance.
    pub suffix: String,
}

/// A granted container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub resource: ResourceId,
    /// Where it is.
    pub node: NodeName,
    /// What was granted, at least what was asked.
    pub profile: ResourceProfile,
    /// What was asked.
    pub asked: ResourceProfile,
}

/// What the JobManager wants done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Send a message on a TaskExecutor's stream; dropped if the stream is gone.
    Send {
        /// The stream.
        connection: ConnectionId,
        /// The message.
        message: ToTaskExecutor,
    },
    /// End a TaskExecutor's stream: it is stale, unknown or silent.
    Disconnect {
        /// The stream.
        connection: ConnectionId,
        /// Why, for the log.
        reason: String,
    },
    /// Something about containers.
    Resource(ResourceEffect),
    /// Something about the files of a job's checkpoints.
    Checkpoint {
        /// The job.
        job: JobId,
        /// What.
        effect: CheckpointEffect,
    },
    /// Remove directories that hold a job's unfinished output, recursively; they may not exist.
    RemoveStaging {
        /// The job, which is over.
        job: JobId,
        /// URIs.
        directories: Vec<String>,
    },
    /// What a job's sinks have staged belongs to a snapshot that outlives it: nobody else is to remove it, however the job ends. Should it
    /// not be needed in the end, [`Self::RemoveStaging`] follows.
    KeepStaging {
        /// The job.
        job: JobId,
    },
    /// A state changed: for the log, once.
    Transition(Transition),
    /// The cluster is over: report to the resource provider and end the process.
    Terminate {
        /// How.
        status: FinalStatus,
        /// One sentence an admin can act on.
        diagnostics: String,
    },
}

/// What the JobManager wants of the storage of checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CheckpointEffect {
    /// Make the directory of a checkpoint.
    Prepare {
        /// Which.
        id: CheckpointId,
        /// The directory, as a URI.
        directory: String,
    },
    /// Make a checkpoint complete: write its metadata so that it is durable, and only then visible.
    PersistMetadata {
        /// Which.
        id: CheckpointId,
        /// As [`CheckpointEvent::Prepared`] said.
        directory: String,
        /// What to write.
        metadata: Arc<SnapshotMetadata>,
    },
    /// Have the savepoint that the job stops with among the job's own checkpoints, so that the next attempt of the JobManager finds it:
    /// make a directory and write metadata there that refers to the savepoint's files. Answered like
    /// [`Self::PersistMetadata`].
    PersistAnchor {
        /// Which.
        id: CheckpointId,
        /// The directory, as a URI.
        directory: String,
        /// What to write.
        metadata: Arc<SnapshotMetadata>,
    },
    /// Read the metadata of the snapshot that the job is to begin with.
    Load {
        /// Its directory, or its metadata file, as a URI.
        path: String,
    },
    /// Shut earlier attempts of the JobManager out, which may still run though they were thought dead, and then look what checkpoints they
    /// left. Once that is answered, what they want of [`Self::PersistMetadata`] for a checkpoint, [`Self::PersistAnchor`], [`Self::Discard`]
    /// and [`Self::RemoveAll`] is not done any more.
    Discover {
        /// The job's directory.
        directory: String,
    },
    /// Look whether the job is still this attempt's, before its tasks are told to commit what no checkpoint holds.
    Confirm {
        /// The job's directory.
        directory: String,
    },
    /// Remove the directory of a checkpoint, its metadata first; it may not exist.
    Discard {
        /// Which.
        id: CheckpointId,
        /// The directory.
        directory: String,
    },
    /// Remove a directory that nobody will look into any more: that of all checkpoints of a job that is over, or of a snapshot that it
    /// began with and owns. Nobody waits for an answer.
    RemoveAll {
        /// The directory.
        directory: String,
    },
}

/// What the JobManager wants of the resource provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ResourceEffect {
    /// The whole of what is wanted from now on; replaces the plan before.
    Plan(ContainerPlan),
    /// Start a TaskExecutor in a granted container.
    Launch {
        /// The container.
        resource: ResourceId,
        /// Equal parts that it counts as.
        slots: u32,
    },
    /// Stop a container in which a TaskExecutor was started.
    Stop {
        /// The container.
        resource: ResourceId,
    },
    /// Give a granted container back that nothing was started in.
    Release {
        /// The container.
        resource: ResourceId,
    },
}

/// What is wanted of the resource provider. An ask on YARN replaces the one before: so does this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// One for each size that is wanted, the smallest first.
    pub asks: Vec<ContainerAsk>,
    /// Nodes to keep away from for now.
    pub avoid: BTreeSet<NodeName>,
    /// How many containers of the cluster one node shall have at most, as long as others have room.
    pub most_per_node: Option<u32>,
}

/// Containers of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerAsk {
    /// Size of each.
    pub profile: ResourceProfile,
    /// How many more are wanted, beyond those granted; at least one.
    pub pending: u32,
}

impl ContainerPlan {
    /// How many more containers are wanted, of all sizes.
    pub fn pending(&self) -> u32 {
        self.asks.iter().map(|ask| ask.pending).sum()
    }
}

/// How the cluster ended. YARN: `FinalApplicationStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalStatus {
    /// As wanted.
    Succeeded,
    /// With an error.
    Failed,
    /// Somebody stopped it.
    Killed,
}

/// A change of state worth a line in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Transition {
    /// Of a job.
    Job {
        /// The job.
        job: JobId,
        /// From.
        from: JobStatus,
        /// To.
        to: JobStatus,
        /// Why, where there is a reason.
        cause: Option<FailureCause>,
    },
    /// Of a task.
    Task {
        /// The job.
        job: JobId,
        /// The task.
        execution: ExecutionAttemptId,
        /// From.
        from: ExecutionState,
        /// To.
        to: ExecutionState,
        /// Why, where there is a reason.
        cause: Option<FailureCause>,
    },
    /// Of a checkpoint.
    Checkpoint {
        /// The job.
        job: JobId,
        /// Which; without it, of all.
        checkpoint: Option<CheckpointId>,
        /// What happened, in words.
        what: String,
    },
    /// A TaskManager came, with its slots, or went, with the reason.
    TaskManager {
        /// Its name.
        resource: ResourceId,
        /// What happened, in words.
        what: String,
    },
    /// A message was dropped because its sender or attempt is stale.
    Stale {
        /// What it was.
        what: String,
    },
}

/// All that the REST API, the UI, the client and the YARN heartbeat show. A copy, made by the driver after it has handled inputs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct View {
    /// The jobs, also those that are over and not yet forgotten: these are shared by all views.
    pub jobs: BTreeMap<JobId, Arc<JobView>>,
    /// The TaskManagers that are registered.
    pub task_managers: BTreeMap<ResourceId, TaskManagerView>,
    /// Containers that were asked for and not yet granted.
    pub containers_pending: u32,
    /// Containers granted whose TaskManager has not registered yet.
    pub containers_starting: u32,
    /// Share of the work that is done, 0 to 1, for YARN's progress bar.
    pub progress: f32,
    /// Stale messages dropped.
    pub stale_messages: u64,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its graph, with the splits removed. Shared by all views.
    pub graph: Arc<JobGraph>,
    /// Its state.
    pub status: JobStatus,
    /// When it entered each state it has been in, the latest time for each.
    pub timestamps: BTreeMap<JobStatus, MonoTime>,
    /// When it was handed in.
    pub started: MonoTime,
    /// When it was over.
    pub ended: Option<MonoTime>,
    /// Number of restarts so far.
    pub restarts: u32,
    /// Newest failure.
    pub cause: Option<FailureCause>,
    /// What it waits for before its tasks can be sent, in words.
    pub waiting_for: Option<String>,
    /// The current attempt of each subtask, by vertex in the order of the graph, then by subtask.
    pub tasks: Vec<TaskView>,
    /// Executions of earlier attempts, as far as they are kept, the newest attempt last.
    pub past: Arc<Vec<TaskView>>,
    /// What can be seen of its checkpoints, if it may have some.
    pub checkpoints: Option<Arc<CheckpointsView>>,
    /// What collecting sinks of the finished job hold: by name, JSON lines.
    pub collected: BTreeMap<String, Vec<u8>>,
}

/// One subtask's current attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Which.
    pub execution: ExecutionAttemptId,
    /// Its state.
    pub state: ExecutionState,
    /// Where it runs.
    pub resource: Option<ResourceId>,
    /// When it entered each state, the latest time for each.
    pub timestamps: BTreeMap<ExecutionState, MonoTime>,
    /// Its counters.
    pub metrics: TaskMetricsSnapshot,
    /// What it does with its time, once that is known.
    pub load: Option<TaskLoad>,
    /// What it collected for the client, once it has finished: names of the sinks, and bytes.
    pub collected: Vec<(String, u64)>,
}

/// What a task did with its time between two reports; together a second. Flink: `busyTimeMsPerSecond` and its sisters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLoad {
    /// Working.
    pub busy_ms_per_second: u32,
    /// Waiting for input.
    pub idle_ms_per_second: u32,
    /// Waiting for those that it gives records to.
    pub backpressured_ms_per_second: u32,
    /// When the second report came.
    pub until: MonoTime,
}

/// One TaskManager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskManagerView {
    /// Its stream.
    pub connection: ConnectionId,
    /// Where it runs.
    pub node: NodeName,
    /// Its host.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Slots it has.
    pub slots: u32,
    /// Slots that no job has, in equal parts.
    pub free_slots: u32,
    /// What all slots have together.
    pub total: SlotProfile,
    /// What of that no job has, parts of slots included.
    pub free: SlotProfile,
    /// Size of its container.
    pub profile: ResourceProfile,
    /// When it registered.
    pub since: MonoTime,
    /// When it was last heard of.
    pub last_heartbeat: MonoTime,
    /// Resident memory of the TaskExecutor, in bytes.
    pub resident_bytes: u64,
    /// Resident memory of its workers together, in bytes.
    pub worker_resident_bytes: u64,
}
