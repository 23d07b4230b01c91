//! Settings of the JobManager, checked and typed.

use std::time::Duration;

use spindle_common::id::FencingToken;
use spindle_common::resource::{ByteSize, ResourceProfile};

/// What a cluster lives for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterMode {
    /// For one job, with whose outcome it ends.
    PerJob {
        /// Whether a client waits for the outcome and is given some time to fetch it.
        attached: bool,
    },
    /// For jobs that come and go, until it is told to end.
    Session,
}

/// When a job whose task failed is started again, and when it is given up. Flink: `restart-strategy`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartStrategy {
    /// Never again.
    None,
    /// A number of times, each after the same delay.
    FixedDelay {
        /// How many times in the life of the job.
        attempts: u32,
        /// From the end of the last task to the restart.
        delay: Duration,
    },
    /// After a delay that grows with each failure.
    ExponentialDelay {
        /// The first delay.
        initial_backoff: Duration,
        /// No delay is longer.
        max_backoff: Duration,
        /// How much longer each delay is than the one before.
        backoff_multiplier: f64,
        /// After this long without a failure the delay is the first one again.
        reset_backoff_threshold: Duration,
        /// How many failures in a row, without such a quiet time between them, are borne; no limit if absent.
        attempts_before_reset: Option<u32>,
    },
}

/// Settings of the JobManager.
#[derive(Debug, Clone, PartialEq)]
pub struct JobManagerConfig {
    /// What the cluster lives for.
    pub mode: ClusterMode,
    /// This attempt of the JobManager; TaskExecutors that were started by another are refused.
    pub fencing: FencingToken,
    /// Size of a TaskManager's container.
    pub profile: ResourceProfile,
    /// Slots that each TaskManager is expected to have, at least 1.
    pub slots_per_task_manager: u32,
    /// What follows on a failed task.
    pub restart: RestartStrategy,
    /// How often a TaskExecutor reports.
    pub heartbeat_interval: Duration,
    /// After how much silence a TaskExecutor is taken for lost.
    pub heartbeat_timeout: Duration,
    /// How long a launched container may take until its TaskExecutor registers.
    pub registration_timeout: Duration,
    /// How long a task may take to stop when told to; then its TaskManager is taken for lost.
    pub cancellation_timeout: Duration,
    /// How many TaskManagers may fail to start, with no job getting all its slots in between, before waiting jobs fail.
    pub max_start_failures: u32,
    /// How long a node is avoided on which a TaskManager failed to start.
    pub node_avoidance: Duration,
    /// How long an attached per-job cluster outlives its job, for its client to fetch the outcome.
    pub client_linger: Duration,
}

impl Default for JobManagerConfig {
    fn default() -> Self {
        Self {
            mode: ClusterMode::PerJob { attached: false },
            fencing: FencingToken(1),
            profile: ResourceProfile {
                memory: ByteSize::from_mib(1024),
                vcores: 1,
            },
            slots_per_task_manager: 1,
            restart: RestartStrategy::FixedDelay {
                attempts: 3,
                delay: Duration::from_secs(1),
            },
            heartbeat_interval: Duration::from_millis(500),
            heartbeat_timeout: Duration::from_secs(10),
            registration_timeout: Duration::from_secs(60),
            cancellation_timeout: Duration::from_secs(30),
            max_start_failures: 5,
            node_avoidance: Duration::from_secs(60),
            client_linger: Duration::from_secs(3),
        }
    }
}
