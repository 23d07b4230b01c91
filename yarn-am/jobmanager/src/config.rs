//! Settings of the JobManager, checked and typed.

use std::time::Duration;

use spindle_common::config::{Config, RestartConfig};
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
    pub restart: RestartConfig,
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
            restart: RestartConfig::FixedDelay {
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

/// Stands for a time-out that was switched off.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl JobManagerConfig {
    /// What a configuration says; mode and attempt are the process's own.
    pub fn of(config: &Config, mode: ClusterMode, fencing: FencingToken) -> Self {
        let heartbeat = config.heartbeat();
        let task_manager = config.task_manager();
        let job_manager = config.job_manager();
        Self {
            mode,
            fencing,
            profile: config.yarn().container,
            slots_per_task_manager: task_manager.slots,
            restart: config.restart(),
            heartbeat_interval: heartbeat.interval,
            heartbeat_timeout: heartbeat.timeout,
            registration_timeout: job_manager.registration_timeout,
            cancellation_timeout: task_manager.cancellation_timeout.unwrap_or(NEVER),
            max_start_failures: job_manager.start_worker_max_failures,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_manager_gets_what_was_configured() {
        let pairs = [
            ("taskmanager.memory.process.size", "300m"),
            ("taskmanager.numberOfTaskSlots", "3"),
            ("restart-strategy.type", "none"),
            ("heartbeat.interval", "200 ms"),
            ("task.cancellation.timeout", "0"),
        ];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::from_pairs(&pairs).unwrap();
        let mode = ClusterMode::PerJob { attached: true };
        let settings = JobManagerConfig::of(&config, mode, FencingToken(2));
        assert_eq!(settings.profile.memory.as_mib_ceil(), 300);
        assert_eq!(settings.slots_per_task_manager, 3);
        assert_eq!(settings.restart, RestartConfig::None);
        assert_eq!(settings.heartbeat_interval, Duration::from_millis(200));
        assert_eq!(settings.cancellation_timeout, NEVER);
        assert_eq!(settings.mode, mode);
    }
}
