//! What the parts of the system need of the configuration, each a small struct of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::BarrierAlignment;
use crate::resource::{ByteSize, ResourceProfile};

use super::checked::Config;
use super::options;
use super::value::{
    CheckpointRetention, CheckpointingMode, ClaimMode, ExecutionTarget, LoadBalanceMode, PortRange,
    RestartStrategyType, StateBackendType,
};

/// What follows the failure of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartConfig {
    /// The job fails.
    None,
    /// It restarts after the same delay each time.
    FixedDelay {
        /// How often at most.
        attempts: u32,
        /// Time between failure and restart.
        delay: Duration,
    },
    /// It restarts after delays that grow.
    ExponentialDelay {
        /// The first delay.
        initial_backoff: Duration,
        /// The longest.
        max_backoff: Duration,
        /// Growth from one to the next, at least 1.
        backoff_multiplier: f64,
        /// Running this long without a failure makes the next delay the first again.
        reset_backoff_threshold: Duration,
        /// How often at most between two resets; without a limit if absent.
        attempts: Option<u32>,
    },
    /// It restarts after the same delay each time, unless it fails too often.
    FailureRate {
        /// Failures within the interval at most.
        max_failures: u32,
        /// In which they are counted.
        interval: Duration,
        /// Time between failure and restart.
        delay: Duration,
    },
}

/// When checkpoints are taken, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Time between the begins of two; without it none is begun by itself.
    pub interval: Option<Duration>,
    /// Between the end of one and the begin of the next, at least.
    pub min_pause: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many may be under way, at least 1.
    pub max_concurrent: u32,
    /// What tasks do until all barriers are there.
    pub alignment: BarrierAlignment,
    /// How many may fail in a row before that is a failure of the job.
    pub tolerable_failures: u32,
    /// What becomes of the newest when the job is over.
    pub retention: CheckpointRetention,
    /// How many complete ones are kept, at least 1.
    pub num_retained: u32,
    /// Directory, as a URI, under which each job has its own; if it is set.
    pub directory: Option<String>,
    /// Where the state is that they are of.
    pub backend: StateBackendType,
}

/// What a job has to do with savepoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavepointConfig {
    /// Directory, as a URI, under which those are written whose request names none; if it is set.
    pub directory: Option<String>,
    /// What the job begins with, if it is not nothing.
    pub recovery: Option<RecoveryConfig>,
}

/// What a job begins with. Flink: `SavepointRestoreSettings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// Directory of a savepoint or checkpoint, as a URI.
    pub path: String,
    /// Whether state of operators that the job does not have is left behind.
    pub ignore_unclaimed_state: bool,
    /// Whose it is.
    pub claim: ClaimMode,
}

/// How the processes watch each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// How often a TaskExecutor reports.
    pub interval: Duration,
    /// Silence after which it counts as lost; longer than the interval.
    pub timeout: Duration,
}

/// How a job is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionConfig {
    /// Where.
    pub target: ExecutionTarget,
    /// Whether the client waits for the end.
    pub attached: bool,
    /// Whether the end of an attached client ends the cluster.
    pub shutdown_on_attached_exit: bool,
    /// Name of the job, if it is set.
    pub name: Option<String>,
    /// Parallelism of operators that do not say their own.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Longest wait of a batch; zero sends each record.
    pub buffer_timeout: Duration,
}

/// The JobManager's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobManagerConfig {
    /// Memory of its container.
    pub memory: ByteSize,
    /// Where it listens for TaskExecutors.
    pub rpc_ports: PortRange,
    /// Where it answers REST.
    pub rest_ports: PortRange,
    /// How long a TaskManager may take to register.
    pub registration_timeout: Duration,
    /// How many TaskManagers in a row may fail before they register.
    pub start_worker_max_failures: u32,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
}

/// What a cluster of several jobs may use, and how long it keeps what it has no use for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionConfig {
    /// After how long an idle TaskManager is given back.
    pub task_manager_timeout: Duration,
    /// TaskManagers beyond those that jobs need.
    pub redundant_task_managers: u32,
    /// Slots at most.
    pub max_slots: Option<u32>,
    /// Memory of all TaskManagers' containers together at most.
    pub max_memory: Option<ByteSize>,
    /// Virtual cores of all TaskManagers' containers together at most.
    pub max_cpu: Option<f64>,
    /// How load is balanced.
    pub load_balance: LoadBalanceMode,
    /// How many jobs that are over stay visible.
    pub job_store_capacity: u32,
    /// How long they do.
    pub job_store_expiration: Duration,
    /// TaskManagers that may fail to start within a minute before none is asked for during the retry interval.
    pub start_worker_max_failure_rate: f64,
    /// How long none is asked for then.
    pub start_worker_retry_interval: Duration,
}

/// A TaskManager's process and its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskManagerConfig {
    /// Memory of its container.
    pub memory: ByteSize,
    /// Number of slots.
    pub slots: u32,
    /// Buffers of a channel on their way.
    pub buffers_per_channel: u32,
    /// After how long a task that does not stop takes its worker along; never if absent.
    pub cancellation_timeout: Option<Duration>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
}

/// The application on YARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YarnConfig {
    /// Its name, if it is set.
    pub name: Option<String>,
    /// Its queue.
    pub queue: String,
    /// Its priority, if it is set.
    pub priority: Option<u32>,
    /// How often the ApplicationMaster is started at most.
    pub attempts: u32,
    /// Its type.
    pub application_type: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What the ApplicationMaster's container has.
    pub master: ResourceProfile,
    /// What a TaskManager's container has.
    pub container: ResourceProfile,
    /// Directory to stage under, if it is set.
    pub staging_directory: Option<String>,
    /// Time between heartbeats when calm.
    pub heartbeat_interval: Duration,
    /// Time between heartbeats while containers are awaited.
    pub request_interval: Duration,
}

impl Config {
    /// What follows the failure of a task.
    pub fn restart(&self) -> RestartConfig {
        let strategy =
            if self.checkpoints().interval.is_some() && !self.is_set(&options::RESTART_STRATEGY) {
                RestartStrategyType::ExponentialDelay
            } else {
                self.get(&options::RESTART_STRATEGY)
            };
        match strategy {
            RestartStrategyType::None => RestartConfig::None,
            RestartStrategyType::FixedDelay => RestartConfig::FixedDelay {
                attempts: self.get(&options::FIXED_DELAY_ATTEMPTS),
                delay: self.get(&options::FIXED_DELAY),
            },
            RestartStrategyType::ExponentialDelay => RestartConfig::ExponentialDelay {
                initial_backoff: self.get(&options::INITIAL_BACKOFF),
                max_backoff: self.get(&options::MAX_BACKOFF),
                backoff_multiplier: self.get(&options::BACKOFF_MULTIPLIER),
                reset_backoff_threshold: self.get(&options::RESET_BACKOFF_THRESHOLD),
                attempts: self.get(&options::ATTEMPTS_BEFORE_RESET_BACKOFF),
            },
            RestartStrategyType::FailureRate => RestartConfig::FailureRate {
                max_failures: self.get(&options::MAX_FAILURES_PER_INTERVAL),
                interval: self.get(&options::FAILURE_RATE_INTERVAL),
                delay: self.get(&options::FAILURE_RATE_DELAY),
            },
        }
    }

    /// When checkpoints are taken, and what becomes of them.
    pub fn checkpoints(&self) -> CheckpointConfig {
        let interval = self.get(&options::CHECKPOINT_INTERVAL);
        let timeout = self.get(&options::ALIGNED_CHECKPOINT_TIMEOUT);
        let unaligned = self.get(&options::UNALIGNED_CHECKPOINTS);
        let alignment = match self.get(&options::CHECKPOINTING_MODE) {
            CheckpointingMode::AtLeastOnce => BarrierAlignment::AtLeastOnce,
            CheckpointingMode::ExactlyOnce if unaligned => BarrierAlignment::Unaligned {
                timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            },
            CheckpointingMode::ExactlyOnce => BarrierAlignment::Aligned,
        };
        let max_concurrent = match alignment {
            BarrierAlignment::Aligned | BarrierAlignment::AtLeastOnce => {
                self.get(&options::MAX_CONCURRENT_CHECKPOINTS)
            }
            // A channel is recorded for one at a time. Flink refuses more.
            BarrierAlignment::Unaligned { .. } => 1,
        };
        CheckpointConfig {
            interval: interval.filter(|interval| !interval.is_zero()),
            min_pause: self.get(&options::CHECKPOINT_MIN_PAUSE),
            timeout: self.get(&options::CHECKPOINT_TIMEOUT),
            max_concurrent,
            alignment,
            tolerable_failures: self.get(&options::TOLERABLE_FAILED_CHECKPOINTS),
            retention: self.get(&options::CHECKPOINT_RETENTION),
            num_retained: (self.get(&options::NUM_RETAINED_CHECKPOINTS))
                .unwrap_or_else(|| self.get(&options::STATE_NUM_RETAINED)),
            directory: (self.get(&options::CHECKPOINT_DIRECTORY))
                .or_else(|| self.get(&options::STATE_CHECKPOINTS_DIRECTORY)),
            backend: self.get(&options::STATE_BACKEND),
        }
    }

    /// Whether a checkpoint writes only what the one before it does not have.
    pub fn incremental_checkpoints(&self) -> bool {
        (self.get(&options::CHECKPOINT_INCREMENTAL))
            .unwrap_or_else(|| self.get(&options::STATE_BACKEND_INCREMENTAL))
    }

    /// Where savepoints go, and what the job begins with.
    pub fn savepoints(&self) -> SavepointConfig {
        let path =
            (self.get(&options::RECOVERY_PATH)).or_else(|| self.get(&options::SAVEPOINT_PATH));
        SavepointConfig {
            directory: (self.get(&options::SAVEPOINT_DIRECTORY))
                .or_else(|| self.get(&options::STATE_SAVEPOINTS_DIRECTORY)),
            recovery: path.map(|path| RecoveryConfig {
                path,
                ignore_unclaimed_state: (self.get(&options::IGNORE_UNCLAIMED_STATE))
                    .unwrap_or_else(|| self.get(&options::SAVEPOINT_IGNORE_UNCLAIMED_STATE)),
                claim: (self.get(&options::CLAIM_MODE))
                    .unwrap_or_else(|| self.get(&options::SAVEPOINT_RESTORE_MODE)),
            }),
        }
    }

    /// How the processes watch each other.
    pub fn heartbeat(&self) -> HeartbeatConfig {
        HeartbeatConfig {
            interval: self.get(&options::HEARTBEAT_INTERVAL),
            timeout: self.get(&options::HEARTBEAT_TIMEOUT),
        }
    }

    /// How a job is run.
    pub fn execution(&self) -> ExecutionConfig {
        ExecutionConfig {
            target: self.get(&options::EXECUTION_TARGET),
            attached: self.get(&options::EXECUTION_ATTACHED),
            shutdown_on_attached_exit: self.get(&options::SHUTDOWN_ON_ATTACHED_EXIT),
            name: self.get(&options::PIPELINE_NAME),
            parallelism: self.get(&options::PARALLELISM),
            max_parallelism: self.get(&options::MAX_PARALLELISM),
            buffer_timeout: self.get(&options::BUFFER_TIMEOUT),
        }
    }

    /// The JobManager's process.
    pub fn job_manager(&self) -> JobManagerConfig {
        JobManagerConfig {
            memory: self.get(&options::JOBMANAGER_MEMORY),
            rpc_ports: self.get(&options::JOBMANAGER_RPC_PORT),
            rest_ports: self
                .get(&options::REST_BIND_PORT)
                .unwrap_or_else(|| self.get(&options::REST_PORT)),
            registration_timeout: self.get(&options::REGISTRATION_TIMEOUT),
            start_worker_max_failures: self.get(&options::START_WORKER_MAX_FAILURES),
            env: self.get(&options::MASTER_ENV),
        }
    }

    /// What a cluster of several jobs may use, and how long it keeps what it has no use for.
    pub fn session(&self) -> SessionConfig {
        SessionConfig {
            task_manager_timeout: self.get(&options::TASKMANAGER_TIMEOUT),
            redundant_task_managers: self.get(&options::REDUNDANT_TASKMANAGERS),
            max_slots: self.get(&options::MAX_SLOTS),
            max_memory: self.get(&options::MAX_TOTAL_MEMORY),
            max_cpu: self.get(&options::MAX_TOTAL_CPU),
            load_balance: self.get(&options::LOAD_BALANCE_MODE),
            job_store_capacity: self.get(&options::JOB_STORE_CAPACITY),
            job_store_expiration: self.get(&options::JOB_STORE_EXPIRATION),
            start_worker_max_failure_rate: self.get(&options::START_WORKER_MAX_FAILURE_RATE),
            start_worker_retry_interval: self.get(&options::START_WORKER_RETRY_INTERVAL),
        }
    }

    /// A TaskManager's process and its workers.
    pub fn task_manager(&self) -> TaskManagerConfig {
        let cancellation_timeout = self.get(&options::TASK_CANCELLATION_TIMEOUT);
        TaskManagerConfig {
            memory: self.get(&options::TASKMANAGER_MEMORY),
            slots: self.get(&options::TASK_SLOTS),
            buffers_per_channel: self.get(&options::BUFFERS_PER_CHANNEL),
            cancellation_timeout: Some(cancellation_timeout).filter(|timeout| !timeout.is_zero()),
            env: self.get(&options::TASKMANAGER_ENV),
        }
    }

    /// The application on YARN.
    pub fn yarn(&self) -> YarnConfig {
        YarnConfig {
            name: self.get(&options::YARN_NAME),
            queue: self.get(&options::YARN_QUEUE),
            priority: u32::try_from(self.get(&options::YARN_PRIORITY)).ok(),
            attempts: self.get(&options::YARN_ATTEMPTS),
            application_type: self.get(&options::YARN_TYPE),
            tags: self.get(&options::YARN_TAGS),
            master: ResourceProfile {
                memory: self.get(&options::JOBMANAGER_MEMORY),
                vcores: self.get(&options::YARN_MASTER_VCORES),
            },
            container: ResourceProfile {
                memory: self.get(&options::TASKMANAGER_MEMORY),
                vcores: self.get(&options::YARN_CONTAINER_VCORES),
            },
            staging_directory: self.get(&options::YARN_STAGING),
            heartbeat_interval: self.get(&options::YARN_HEARTBEAT_INTERVAL),
            request_interval: self.get(&options::YARN_REQUEST_INTERVAL),
        }
    }
}
