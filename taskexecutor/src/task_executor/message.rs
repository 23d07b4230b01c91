//! What goes into the machine and what comes out.

use serde::Serialize;
use spindle_common::execution::FailureCause;
use spindle_common::gateway::{FromWorker, TaskReport, ToJobManager, ToTaskExecutor, ToWorker};
use spindle_common::id::JobId;
use spindle_common::job_graph::{ProgramArtifact, ProgramSpec};

/// One worker process; a job may have one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkerId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Input {
    /// The JobManager says.
    JobManager(ToTaskExecutor),
    /// A worker says.
    Worker(WorkerId, FromWorker),
    /// A worker's stream broke; its process may end in a moment, if it has not.
    WorkerDisconnected(WorkerId, String),
    /// A worker's process ended, or could not be started: how, in words.
    WorkerEnded(WorkerId, String),
    /// A program is in the working directory now, or why not.
    ProgramFetched(ProgramArtifact, Result<(), FailureCause>),
    /// Resident memory of the workers' processes, in bytes.
    Memory(Vec<(WorkerId, u64)>),
    /// The deadline has come.
    Tick,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Effect {
    /// Tell the JobManager.
    Tell(ToJobManager),
    /// Tell it the memory of all processes, and these counters.
    Heartbeat(Vec<TaskReport>),
    /// Bring a program into the working directory; comes back as [`Input::ProgramFetched`].
    FetchProgram(ProgramArtifact),
    /// Start a worker's process.
    StartWorker {
        /// To be known by this.
        worker: WorkerId,
        /// For this job.
        job: JobId,
        /// What to run.
        program: ProgramSpec,
        /// Settings of the job.
        config: Vec<(String, String)>,
        /// What it may use at most; 0 sets no limit.
        memory_limit_bytes: u64,
    },
    /// A worker may use this much memory from now on.
    LimitWorker {
        /// Which.
        worker: WorkerId,
        /// What it may use at most.
        memory_limit_bytes: u64,
    },
    /// Tell a worker.
    TellWorker(WorkerId, ToWorker),
    /// Kill a worker's process; its end comes as an input.
    KillWorker(WorkerId),
    /// End this process.
    Exit {
        /// Why.
        reason: String,
    },
}
