//! What a client hands to the containers of an application, inside the credentials of their launch context: nothing of it is
//! uploaded, and only the application's owner can read it.

use serde::{Deserialize, Serialize};

/// Secret of the credentials: the application's secret, 32 raw bytes.
pub const SECRET_ENTRY: &str = "spindle.secret";
/// Secret of the credentials: a [`ClusterSpec`] as JSON. For the ApplicationMaster.
pub const CLUSTER_ENTRY: &str = "spindle.cluster";
/// Secret of the credentials: a [`crate::job_graph::JobSubmission`] as protobuf. For the ApplicationMaster of a per-job cluster.
/// If it is larger than [`MAX_INLINE_SUBMISSION`] it is the file [`SUBMISSION_FILE`] in the working directory instead.
pub const SUBMISSION_ENTRY: &str = "spindle.submission";
/// Secret of the credentials: a [`TaskExecutorSpec`] as JSON. For a TaskExecutor.
pub const TASK_EXECUTOR_ENTRY: &str = "spindle.taskexecutor";
/// Name of the submission in the ApplicationMaster's working directory, if it is a file.
pub const SUBMISSION_FILE: &str = "submission.pb";
/// Largest submission, in bytes, that travels in the launch context: the ResourceManager keeps that in memory and in its state store.
pub const MAX_INLINE_SUBMISSION: usize = 64 * 1024;

/// Name of the ApplicationMaster's executable in its working directory.
pub const APPLICATION_MASTER_EXECUTABLE: &str = "spindle-yarn-am";
/// Name of the TaskExecutor's executable in its working directory.
pub const TASK_EXECUTOR_EXECUTABLE: &str = "spindle-taskexecutor";
/// Directory in the working directory of a TaskExecutor that programs are fetched into.
pub const PROGRAMS_DIRECTORY: &str = "programs";
/// Name of a job's executable in the working directory of a TaskExecutor.
pub const JOB_EXECUTABLE: &str = "job";

/// What an application is there for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeploymentMode {
    /// One job, planned at the client: [`SUBMISSION_ENTRY`].
    PerJob,
    /// Jobs that come and go.
    Session,
    /// The jobs that a program describes in the ApplicationMaster's container; its executable is [`JOB_EXECUTABLE`] there.
    Application {
        /// The program's arguments, as the user gave them.
        args: Vec<String>,
    },
}

/// Names what a TaskExecutor and its workers log, in the form of `env.log.level`. Without it each has a default of its own.
pub const LOG_VARIABLE: &str = "SPINDLE_LOG";

/// What an ApplicationMaster is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// What it is there for.
    pub mode: DeploymentMode,
    /// Name of the application, for people.
    pub name: String,
    /// Settings of the cluster: key and value as written.
    pub config: Vec<(String, String)>,
    /// Hadoop's site configuration: key and value.
    pub hadoop: Vec<(String, String)>,
    /// Hadoop user that the application belongs to.
    pub user: String,
    /// The application's staging directory, as a URI; removed at the end.
    pub staging: String,
    /// Whether the client stays and waits for the end.
    pub attached: bool,
    /// What each TaskExecutor's container gets in its working directory.
    pub task_executor_resources: Vec<ArtifactSpec>,
}

/// A file that YARN brings into a container's working directory. YARN: `LocalResource`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSpec {
    /// Name in the working directory.
    pub name: String,
    /// Where it is, as a full URI.
    pub uri: String,
    /// Length in bytes.
    pub size: u64,
    /// Modification time in milliseconds since the epoch, exactly as the file system gives it.
    pub mtime_ms: i64,
}

/// What a TaskExecutor is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskExecutorSpec {
    /// `host:port` at which the JobManager listens for TaskExecutors.
    pub job_manager: String,
    /// The JobManager's attempt.
    pub fencing: u64,
    /// Name of this TaskExecutor; on YARN the container id.
    pub resource: String,
    /// The machine, as the resource provider names it.
    pub node: String,
    /// Host name or address to bind to and to be reached at.
    pub host: String,
    /// Number of slots.
    pub slots: u32,
    /// Memory of the container, in bytes.
    pub memory_bytes: u64,
    /// Hadoop's site configuration, for the workers.
    pub hadoop: Vec<(String, String)>,
    /// Hadoop user, for the workers.
    pub user: String,
}
