//! How a job's own executable is started, and what it is told: in plan mode by the client, in worker mode by a TaskExecutor.
//!
//! Without [`MODE_VARIABLE`] in its environment a program runs on its embedded cluster. With it, the first line of its standard
//! input is one line of JSON, a [`PlanInit`] or a [`WorkerInit`]: so no secret stands in a command line or an environment. A
//! worker's standard input stays open as long as its TaskExecutor lives; its end ends the worker.

use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// Names the mode: [`PLAN_MODE`] or [`WORKER_MODE`].
pub const MODE_VARIABLE: &str = "SPINDLE_MODE";
/// Build the dataflow and write the job graph.
pub const PLAN_MODE: &str = "plan";
/// Build the dataflow and run tasks of it.
pub const WORKER_MODE: &str = "worker";
/// Settings of a program that runs on its embedded cluster: `key=value`, one a line.
pub const SETTINGS_VARIABLE: &str = "SPINDLE_SETTINGS";

/// Exit code of plan mode when the program, its arguments or its input are at fault.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of plan mode when a system that it needs does not answer.
pub const EXIT_UNREACHABLE: u8 = 3;

/// Every job executable holds these bytes, followed by the decimal [`crate::PROTOCOL_VERSION`] and a zero byte. In two parts, so
/// that only a job executable holds them joined.
pub const MARKER: [&str; 2] = ["\0spindle-job-executable", " protocol="];

/// What a program in plan mode is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanInit {
    /// File to write the plan (protobuf) to. If there is no plan, one sentence of why is written to this name with `.error`
    /// appended, and the exit code is [`EXIT_USAGE`] or [`EXIT_UNREACHABLE`].
    pub plan_file: String,
    /// Settings of the job: key and value as written.
    pub config: Vec<(String, String)>,
    /// Hadoop's site configuration: key and value.
    pub hadoop: Vec<(String, String)>,
    /// Hadoop user.
    pub user: String,
}

/// What a program in worker mode is told.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerInit {
    /// The application's secret, hexadecimal.
    pub secret: String,
    /// `host:port` at which the TaskExecutor listens for its workers.
    pub task_executor: String,
    /// The attempt of the JobManager that the TaskExecutor belongs to, as the TaskExecutor has to prove.
    pub fencing: u64,
    /// Host name or address for the worker's data plane to bind to and to be reached at.
    pub host: String,
    /// The job.
    pub job: JobId,
    /// Settings of the job: key and value as written.
    pub config: Vec<(String, String)>,
    /// Hadoop's site configuration: key and value.
    pub hadoop: Vec<(String, String)>,
    /// Hadoop user.
    pub user: String,
}

impl std::fmt::Debug for WorkerInit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerInit")
            .field("job", &self.job)
            .field("task_executor", &self.task_executor)
            .finish_non_exhaustive()
    }
}
