//! Settings of the JobManager, checked and typed.

use std::time::Duration;

use spindle_common::checkpoint::BarrierAlignment;
use spindle_common::config::{
    CheckpointConfig, CheckpointRetention, Config, ConfigError, LoadBalanceMode, RestartConfig,
    SavepointConfig, StateBackendType,
};
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
    /// For the jobs of one program, with whose outcomes it ends.
    Application {
        /// Whether a client waits for the outcome and is given some time to fetch it.
        attached: bool,
    },
}

/// What the TaskManagers of a cluster may be together; absent is without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ResourceLimits {
    /// Slots.
    pub slots: Option<u32>,
    /// Memory of the containers, each counted as asked for.
    pub memory: Option<ByteSize>,
    /// Virtual cores of the containers, each counted as asked for.
    pub cpu: Option<f64>,
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
    /// When checkpoints are taken. Without a directory there are none.
    pub checkpoints: CheckpointConfig,
    /// What the calendar said when the driver's clock began, in milliseconds since the epoch.
    pub epoch_ms: u64,
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
    /// TaskManagers that may fail to start within a minute before none is asked for during the interval.
    pub start_failure_rate: f64,
    /// How long none is asked for then.
    pub start_retry_interval: Duration,
    /// How long an attached cluster outlives its last job, for its client to fetch the outcome.
    pub client_linger: Duration,
    /// After how long a TaskManager without jobs is given back; not in per-job mode, which keeps them to its end.
    pub idle_timeout: Duration,
    /// How many TaskManagers more there are to be than jobs need.
    pub redundant_task_managers: u32,
    /// What the TaskManagers may be together.
    pub limits: ResourceLimits,
    /// Whether TaskManagers, and the slots in use, are spread over the nodes.
    pub spread: bool,
    /// How many jobs that are over stay visible.
    pub job_store_capacity: u32,
    /// How long they do.
    pub job_store_expiration: Duration,
    /// How long a TaskManager whose stream broke is left alone, for the resource provider to say what became of it.
    pub loss_naming: Duration,
    /// The cluster's settings as written, which those of a job are laid over.
    pub settings: Vec<(String, String)>,
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
            checkpoints: CheckpointConfig {
                interval: None,
                min_pause: Duration::ZERO,
                timeout: Duration::from_secs(600),
                max_concurrent: 1,
                alignment: BarrierAlignment::Aligned,
                tolerable_failures: 0,
                retention: CheckpointRetention::None,
                num_retained: 1,
                directory: None,
                backend: StateBackendType::HashMap,
            },
            epoch_ms: 0,
            heartbeat_interval: Duration::from_millis(500),
            heartbeat_timeout: Duration::from_secs(10),
            registration_timeout: Duration::from_secs(60),
            cancellation_timeout: Duration::from_secs(30),
            max_start_failures: 5,
            node_avoidance: Duration::from_secs(60),
            start_failure_rate: 10.0,
            start_retry_interval: Duration::from_secs(3),
            client_linger: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(30),
            redundant_task_managers: 0,
            limits: ResourceLimits::default(),
            spread: false,
            job_store_capacity: 100,
            job_store_expiration: Duration::from_secs(3600),
            loss_naming: Duration::from_secs(2),
            settings: Vec::new(),
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
        let session = config.session();
        Self {
            mode,
            fencing,
            profile: config.yarn().container,
            slots_per_task_manager: task_manager.slots,
            restart: config.restart(),
            checkpoints: config.checkpoints(),
            heartbeat_interval: heartbeat.interval,
            heartbeat_timeout: heartbeat.timeout,
            registration_timeout: job_manager.registration_timeout,
            cancellation_timeout: task_manager.cancellation_timeout.unwrap_or(NEVER),
            max_start_failures: job_manager.start_worker_max_failures,
            start_failure_rate: session.start_worker_max_failure_rate,
            start_retry_interval: session.start_worker_retry_interval,
            idle_timeout: session.task_manager_timeout,
            redundant_task_managers: session.redundant_task_managers,
            limits: ResourceLimits {
                slots: session.max_slots,
                memory: session.max_memory,
                cpu: session.max_cpu,
            },
            spread: match session.load_balance {
                LoadBalanceMode::None => false,
                LoadBalanceMode::Slots => true,
            },
            job_store_capacity: session.job_store_capacity,
            job_store_expiration: session.job_store_expiration,
            settings: config.to_pairs(),
            ..Self::default()
        }
    }

    /// What follows on a failed task of a job with these settings of its own.
    ///
    /// # Errors
    /// If the job's settings, laid over the cluster's, are no configuration.
    pub(crate) fn restart_of(
        &self,
        job: &[(String, String)],
    ) -> Result<RestartConfig, ConfigError> {
        let config = self.overlaid(job)?;
        // Whether it has checkpoints is a reason for another strategy.
        let own = sets(job, "restart-strategy.") || sets(job, "execution.checkpointing.interval");
        Ok(if own { config.restart() } else { self.restart })
    }

    /// When checkpoints of a job with these settings of its own are taken.
    ///
    /// # Errors
    /// If the job's settings, laid over the cluster's, are no configuration.
    pub(crate) fn checkpoints_of(
        &self,
        job: &[(String, String)],
    ) -> Result<CheckpointConfig, ConfigError> {
        let config = self.overlaid(job)?.checkpoints();
        let prefixes = [
            "execution.checkpointing.",
            "state.checkpoints.",
            "state.backend.",
        ];
        let own = prefixes.iter().any(|prefix| sets(job, prefix));
        if !own {
            return Ok(self.checkpoints.clone());
        }
        let directory = config.directory.clone();
        Ok(CheckpointConfig {
            directory: directory.or_else(|| self.checkpoints.directory.clone()),
            ..config
        })
    }

    /// Where savepoints of a job go, and what it begins with.
    ///
    /// # Errors
    /// If the job's settings, laid over the cluster's, are no configuration.
    pub(crate) fn savepoints_of(
        &self,
        job: &[(String, String)],
    ) -> Result<SavepointConfig, ConfigError> {
        let SavepointConfig { directory, .. } = self.overlaid(job)?.savepoints();
        // What one job begins with is no matter of the others of its cluster.
        let SavepointConfig { recovery, .. } = Config::from_pairs(job)?.savepoints();
        Ok(SavepointConfig {
            directory,
            recovery,
        })
    }

    fn overlaid(&self, job: &[(String, String)]) -> Result<Config, ConfigError> {
        let pairs: Vec<_> = self.settings.iter().chain(job).cloned().collect();
        Config::from_pairs(&pairs)
    }

    /// Whether TaskManagers without jobs are given back.
    pub(crate) const fn releases_idle(&self) -> bool {
        match self.mode {
            ClusterMode::PerJob { .. } => false,
            ClusterMode::Session | ClusterMode::Application { .. } => true,
        }
    }
}

/// Whether a job has a setting of its own that begins so.
fn sets(job: &[(String, String)], prefix: &str) -> bool {
    job.iter().any(|(key, _)| key.starts_with(prefix))
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
            ("resourcemanager.taskmanager-timeout", "5 s"),
            ("slotmanager.number-of-slots.max", "6"),
            ("slotmanager.redundant-taskmanager-num", "2"),
            ("jobstore.expiration-time", "90"),
            ("taskmanager.load-balance.mode", "SLOTS"),
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
        assert_eq!(settings.idle_timeout, Duration::from_secs(5));
        assert_eq!(settings.limits.slots, Some(6));
        assert_eq!(settings.limits.memory, None);
        assert_eq!(settings.redundant_task_managers, 2);
        assert!(settings.spread);
        assert_eq!(settings.job_store_expiration, Duration::from_secs(90));
    }

    #[test]
    fn a_job_lays_its_settings_over_those_of_the_cluster() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let cluster = [
            pair("restart-strategy.type", "fixed-delay"),
            pair("restart-strategy.fixed-delay.attempts", "7"),
        ];
        let config = Config::from_pairs(&cluster).unwrap();
        let settings = JobManagerConfig::of(&config, ClusterMode::Session, FencingToken(1));
        let delay = Duration::from_secs(5);
        let own = [pair("restart-strategy.fixed-delay.delay", "5 s")];
        let attempts = 7;
        let restart = RestartConfig::FixedDelay { attempts, delay };
        assert_eq!(settings.restart_of(&own).unwrap(), restart);
        let other = [pair("parallelism.default", "2")];
        assert_eq!(settings.restart_of(&other).unwrap(), settings.restart);
        let on_disk = [pair("state.backend.type", "rocksdb")];
        let checkpoints = settings.checkpoints_of(&on_disk).unwrap();
        assert_eq!(checkpoints.backend, StateBackendType::RocksDb);
        let wrong = [pair("restart-strategy.type", "sometimes")];
        assert!(settings.restart_of(&wrong).is_err());
    }
}
