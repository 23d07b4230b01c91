//! States of executions and jobs, and what is known of a failure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Life of one execution attempt, in order. Flink: `ExecutionState`; `AwaitingCommit` is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExecutionState {
    /// Not yet asked for a slot.
    Created,
    /// Waits for a slot.
    Scheduled,
    /// Sent to its worker.
    Deploying,
    /// The worker builds it and connects its channels.
    Initializing,
    /// Processes records.
    Running,
    /// Has read all its input and written all its output, and waits for word that the whole job has, to make its output visible.
    AwaitingCommit,
    /// Done, its output visible.
    Finished,
    /// Was told to stop.
    Canceling,
    /// Stopped as told.
    Canceled,
    /// Ended by itself, with a cause.
    Failed,
}

impl ExecutionState {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }

    /// The name in Flink's REST API, which does not know `AwaitingCommit`.
    pub const fn rest_name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Deploying => "DEPLOYING",
            Self::Initializing => "INITIALIZING",
            Self::Running | Self::AwaitingCommit => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Canceling => "CANCELING",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
        }
    }
}

/// Life of a job, in order. Flink: `JobStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Taken in; waits for its first slots.
    Created,
    /// Tasks are deployed or run.
    Running,
    /// A task failed; the others are being stopped, after which the job restarts or fails.
    Restarting,
    /// A task failed and no restart is left; the others are being stopped.
    Failing,
    /// Was told to stop; its tasks are being stopped.
    Cancelling,
    /// All tasks finished, output visible.
    Finished,
    /// Ended with a cause.
    Failed,
    /// Stopped as told.
    Canceled,
}

impl JobStatus {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Canceled)
    }

    /// The name in Flink's REST API.
    pub const fn rest_name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Failing => "FAILING",
            Self::Cancelling => "CANCELLING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }
}

/// What a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureClass {
    /// Trying the same again may help, and nothing was lost.
    Retry,
    /// The job has to restart.
    Restart,
    /// What the job was restored from is damaged: it has to restart from the snapshot before it, if there is one.
    Fallback,
    /// The job cannot succeed however often it is restarted.
    FailJob,
    /// The cluster cannot go on.
    FailCluster,
}

/// Why a task, and with it perhaps its job, failed. One sentence, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCause {
    /// What it calls for.
    pub class: FailureClass,
    /// Name of the operator at work, where one was.
    pub operator: Option<String>,
    /// What happened, such as `panicked at src/main.rs:12:5: index out of bounds`.
    pub message: String,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operator {
            Some(operator) => write!(f, "operator `{operator}` {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
