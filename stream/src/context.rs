//! What sources and sinks get to work with: the file systems, the runtime for waiting on them, and which subtask they are.

use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};

use spindle_common::checkpoint::CheckpointId;
use spindle_common::config::{Config, ConfigError};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{FileSystem, FsError};

/// Access to the outside for connectors: shared by all sources and sinks of a process.
///
/// Both the runtime and the file system are made when they are first asked for, so a job without files has neither.
#[derive(Debug)]
pub struct IoContext {
    hadoop: Configuration,
    user: String,
    resumes: bool,
    runtime: OnceLock<Runtime>,
    file_system: OnceLock<FileSystem>,
}

impl IoContext {
    /// One for this Hadoop configuration and user.
    pub const fn new(hadoop: Configuration, user: String) -> Self {
        Self {
            hadoop,
            user,
            resumes: false,
            runtime: OnceLock::new(),
            file_system: OnceLock::new(),
        }
    }

    /// The same for a job with these settings.
    ///
    /// # Errors
    /// If they are no configuration.
    pub(crate) fn of_job(mut self, settings: &[(String, String)]) -> Result<Self, ConfigError> {
        self.resumes = Config::from_pairs(settings)?
            .savepoints()
            .recovery
            .is_some();
        Ok(self)
    }

    /// Whether the job begins with a snapshot of another job, whose output it goes on with.
    pub const fn resumes(&self) -> bool {
        self.resumes
    }

    /// Hadoop's site configuration.
    pub const fn hadoop(&self) -> &Configuration {
        &self.hadoop
    }

    /// The Hadoop user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The runtime beside the task threads.
    pub fn handle(&self) -> &Handle {
        self.runtime
            .get_or_init(|| {
                Builder::new_multi_thread()
                    .worker_threads(1)
                    .thread_name("spindle-io")
                    .enable_all()
                    .build()
                    .expect(
                        "a thread and an epoll descriptor for the connectors' runtime can be had",
                    )
            })
            .handle()
    }

    /// Waits for a future on that runtime. Not to be called from within it.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle().block_on(future)
    }

    /// The file systems that the configuration names, and the local one.
    ///
    /// # Errors
    /// If the configuration does not make sense.
    pub fn file_system(&self) -> Result<FileSystem, FsError> {
        if let Some(file_system) = self.file_system.get() {
            return Ok(file_system.clone());
        }
        let _guard = self.handle().enter();
        let file_system = FileSystem::new(&self.hadoop, &self.user)?;
        Ok(self.file_system.get_or_init(|| file_system).clone())
    }
}

impl Drop for IoContext {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A drop may happen on a thread of another runtime, where waiting is forbidden.
            runtime.shutdown_background();
        }
    }
}

/// What planning a source or checking a sink may use.
#[derive(Debug, Clone)]
pub struct PlanContext {
    /// Access to the outside.
    pub io: Arc<IoContext>,
    /// Number of subtasks that the operator will have.
    pub parallelism: u32,
}

/// What a source's subtask is made with.
#[derive(Debug, Clone)]
pub struct SourceContext {
    /// Access to the outside.
    pub io: Arc<IoContext>,
    /// Index of the subtask.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
}

/// What a sink's subtask is made with.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// Access to the outside.
    pub io: Arc<IoContext>,
    /// The job.
    pub job: JobId,
    /// Which vertex, subtask and attempt: no two attempts may write into the same file.
    pub execution: ExecutionAttemptId,
    /// Number of subtasks.
    pub parallelism: u32,
    /// The checkpoint of this job that it has gone back to; none if it begins from its beginning, or with what another job has left. What a sink
    /// has shown for later ones, as where one is damaged, will be written again.
    pub restored_from: Option<CheckpointId>,
}

/// Why a program cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The program, its arguments or its input are at fault.
    #[error("{0}")]
    Input(String),
    /// A system that is needed does not answer.
    #[error("{0}")]
    Unreachable(String),
}
