//! The table of options. Keys are Flink's wherever the meaning is that of Flink 1.20; the others say that they are ours.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::resource::ByteSize;

use super::kind::{ConfigOption, Kind, OptionSpec};
use super::value::{
    CheckpointRetention, CheckpointingMode, ClaimMode, ExecutionTarget, LoadBalanceMode, PortRange,
    RestartStrategyType, StateBackendType,
};

/// Options that belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Section {
    /// Its title.
    pub title: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
}

macro_rules! options {
    ($($title:literal { $($name:ident: $type:ty = $key:literal {
        kind: $kind:expr, default: $default:expr, unit: $unit:literal, flink: $flink:literal, doc: $doc:literal $(,)?
    })* })*) => {
        $($(
            #[doc = concat!("`", $key, "`: ", $doc)]
            pub const $name: ConfigOption<$type> = ConfigOption::new(OptionSpec {
                key: $key,
                kind: $kind,
                default: $default,
                unit: $unit,
                flink: $flink,
                since: "0.1",
                doc: $doc,
            });
        )*)*

        /// All options, by section, in the order of the documentation.
        pub const SECTIONS: &[Section] = &[
            $(Section { title: $title, options: &[$(*$name.spec()),*] }),*
        ];

        /// Reads a value of each option, so that table and types are proven to fit each other.
        #[cfg(test)]
        pub(super) fn read_each(config: &super::Config) -> usize {
            let mut read = 0;
            $($(
                let _: $type = config.get(&$name);
                read += 1;
            )*)*
            read
        }
    };
}

const COUNT: Kind = Kind::Int {
    min: 1,
    max: 32_768,
};

options! {
    "Jobs" {
        PARALLELISM: u32 = "parallelism.default" {
            kind: COUNT, default: Some("1"), unit: "subtasks", flink: true,
            doc: "Parallelism of operators that do not say their own.",
        }
        PIPELINE_NAME: Option<String> = "pipeline.name" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Name of the job. Without it the program's own choice, else the name of its executable.",
        }
        MAX_PARALLELISM: u32 = "pipeline.max-parallelism" {
            kind: COUNT, default: Some("128"), unit: "key groups", flink: true,
            doc: "Number of key groups, and so the limit to which a keyed operator can be scaled. State keeps it: do not change it for a job that is to be restored.",
        }
        OPERATOR_CHAINING: bool = "pipeline.operator-chaining.enabled" {
            kind: Kind::Bool, default: Some("true"), unit: "", flink: true,
            doc: "Whether operators that need no exchange between them share a thread.",
        }
        EXECUTION_TARGET: ExecutionTarget = "execution.target" {
            kind: Kind::Enum(ExecutionTarget::WORDS), default: Some("local"), unit: "", flink: true,
            doc: "Where the job runs.",
        }
        EXECUTION_ATTACHED: bool = "execution.attached" {
            kind: Kind::Bool, default: Some("true"), unit: "", flink: true,
            doc: "Whether the client waits for the end of the job. Flink's own default is false, which its command line overrides in the same way.",
        }
        SHUTDOWN_ON_ATTACHED_EXIT: bool = "execution.shutdown-on-attached-exit" {
            kind: Kind::Bool, default: Some("false"), unit: "", flink: true,
            doc: "Whether an attached client that is ended, such as by Ctrl-C, ends its cluster too.",
        }
        BUFFER_TIMEOUT: Duration = "execution.buffer-timeout.interval" {
            kind: Kind::Duration, default: Some("100 ms"), unit: "", flink: true,
            doc: "Longest time that a batch waits for more records before it is sent. 0 sends each record at once.",
        }
    }
    "Failures" {
        RESTART_STRATEGY: RestartStrategyType = "restart-strategy.type" {
            kind: Kind::Enum(RestartStrategyType::WORDS), default: Some("fixed-delay"), unit: "", flink: true,
            doc: "What follows the failure of a task: the job fails (none, disable, off), or restarts after a delay that stays the same or grows, or as long as failures are not too frequent. If it is not set, it is exponential-delay for a job with checkpoints.",
        }
        FIXED_DELAY_ATTEMPTS: u32 = "restart-strategy.fixed-delay.attempts" {
            kind: Kind::Int { min: 0, max: i32::MAX as i64 }, default: Some("3"), unit: "restarts", flink: true,
            doc: "How often the job is restarted before it fails. Flink's own default is 1.",
        }
        FIXED_DELAY: Duration = "restart-strategy.fixed-delay.delay" {
            kind: Kind::Duration, default: Some("1 s"), unit: "", flink: true,
            doc: "Time between a failure and the restart.",
        }
        INITIAL_BACKOFF: Duration = "restart-strategy.exponential-delay.initial-backoff" {
            kind: Kind::Duration, default: Some("1 s"), unit: "", flink: true,
            doc: "Time between the first failure and the restart.",
        }
        MAX_BACKOFF: Duration = "restart-strategy.exponential-delay.max-backoff" {
            kind: Kind::Duration, default: Some("1 min"), unit: "", flink: true,
            doc: "Longest time between a failure and the restart.",
        }
        BACKOFF_MULTIPLIER: f64 = "restart-strategy.exponential-delay.backoff-multiplier" {
            kind: Kind::Float { min: 1.0, max: f64::INFINITY }, default: Some("1.5"), unit: "", flink: true,
            doc: "By how much the delay grows with each failure.",
        }
        RESET_BACKOFF_THRESHOLD: Duration = "restart-strategy.exponential-delay.reset-backoff-threshold" {
            kind: Kind::Duration, default: Some("1 h"), unit: "", flink: true,
            doc: "How long a job has to run without a failure for its next delay to be the initial one again.",
        }
        ATTEMPTS_BEFORE_RESET_BACKOFF: Option<u32> = "restart-strategy.exponential-delay.attempts-before-reset-backoff" {
            kind: Kind::Int { min: 0, max: i32::MAX as i64 }, default: None, unit: "restarts", flink: true,
            doc: "How often the job is restarted before it fails, counted anew when the delay is reset. Without it there is no limit.",
        }
        FAILURE_RATE_DELAY: Duration = "restart-strategy.failure-rate.delay" {
            kind: Kind::Duration, default: Some("1 s"), unit: "", flink: true,
            doc: "Time between a failure and the restart.",
        }
        FAILURE_RATE_INTERVAL: Duration = "restart-strategy.failure-rate.failure-rate-interval" {
            kind: Kind::Duration, default: Some("1 min"), unit: "", flink: true,
            doc: "Time in which failures are counted.",
        }
        MAX_FAILURES_PER_INTERVAL: u32 = "restart-strategy.failure-rate.max-failures-per-interval" {
            kind: Kind::Int { min: 1, max: i32::MAX as i64 }, default: Some("1"), unit: "failures", flink: true,
            doc: "With more failures than this in the interval the job fails.",
        }
        HEARTBEAT_INTERVAL: Duration = "heartbeat.interval" {
            kind: Kind::Duration, default: Some("500 ms"), unit: "", flink: true,
            doc: "How often a TaskManager reports to its JobManager. A lost connection is seen at once; this is for silent hosts.",
        }
        HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout" {
            kind: Kind::Duration, default: Some("10 s"), unit: "", flink: true,
            doc: "After how long without a report a TaskManager counts as lost. Has to be longer than heartbeat.interval.",
        }
        TASK_CANCELLATION_TIMEOUT: Duration = "task.cancellation.timeout" {
            kind: Kind::Duration, default: Some("30 s"), unit: "", flink: true,
            doc: "After how long a task that does not stop when told to takes its whole worker with it. 0 waits for ever.",
        }
        REGISTRATION_TIMEOUT: Duration = "resourcemanager.taskmanager-registration.timeout" {
            kind: Kind::Duration, default: Some("5 min"), unit: "", flink: true,
            doc: "How long a started TaskManager may take to register before it is replaced.",
        }
        START_WORKER_MAX_FAILURES: u32 = "resourcemanager.start-worker.max-failures" {
            kind: Kind::Int { min: 0, max: i32::MAX as i64 }, default: Some("5"), unit: "failures", flink: false,
            doc: "How many TaskManagers in a row may fail before they have registered, until the jobs that wait for them fail. Ours: Flink has only a rate.",
        }
        START_WORKER_MAX_FAILURE_RATE: f64 = "resourcemanager.start-worker.max-failure-rate" {
            kind: Kind::Float { min: 0.0, max: f64::INFINITY }, default: Some("10"), unit: "failures a minute", flink: true,
            doc: "When more TaskManagers than this fail to start within a minute, no other is asked for during the retry interval.",
        }
        START_WORKER_RETRY_INTERVAL: Duration = "resourcemanager.start-worker.retry-interval" {
            kind: Kind::Duration, default: Some("3 s"), unit: "", flink: true,
            doc: "How long no TaskManager is asked for when too many failed to start.",
        }
    }
    "Checkpoints" {
        CHECKPOINT_INTERVAL: Option<Duration> = "execution.checkpointing.interval" {
            kind: Kind::Duration, default: None, unit: "", flink: true,
            doc: "How often a checkpoint is begun. Without it, or with 0, none is, and a job that fails starts again from its beginning.",
        }
        CHECKPOINTING_MODE: CheckpointingMode = "execution.checkpointing.mode" {
            kind: Kind::Enum(CheckpointingMode::WORDS), default: Some("EXACTLY_ONCE"), unit: "", flink: true,
            doc: "How often a record counts in state after a restart. With AT_LEAST_ONCE a task never waits for barriers, and what it worked on before the last of them came may count twice.",
        }
        UNALIGNED_CHECKPOINTS: bool = "execution.checkpointing.unaligned.enabled" {
            kind: Kind::Bool, default: Some("false"), unit: "", flink: true,
            doc: "Whether checkpoints hold what is under way between tasks, so that they are complete however slow a task is. One checkpoint is under way at a time then. Without effect on savepoints, and with AT_LEAST_ONCE.",
        }
        ALIGNED_CHECKPOINT_TIMEOUT: Duration = "execution.checkpointing.aligned-checkpoint-timeout" {
            kind: Kind::Duration, default: Some("0 ms"), unit: "", flink: true,
            doc: "How long after its trigger an unaligned checkpoint is still an aligned one, which is smaller. A task whose barriers are all there by then writes nothing of what is under way.",
        }
        CHECKPOINT_MIN_PAUSE: Duration = "execution.checkpointing.min-pause" {
            kind: Kind::Duration, default: Some("0 ms"), unit: "", flink: true,
            doc: "Shortest time between the end of a checkpoint and the begin of the next.",
        }
        CHECKPOINT_TIMEOUT: Duration = "execution.checkpointing.timeout" {
            kind: Kind::Duration, default: Some("10 min"), unit: "", flink: true,
            doc: "How long a checkpoint may take before it is given up.",
        }
        MAX_CONCURRENT_CHECKPOINTS: u32 = "execution.checkpointing.max-concurrent-checkpoints" {
            kind: Kind::Int { min: 1, max: 32_768 }, default: Some("1"), unit: "checkpoints", flink: true,
            doc: "How many checkpoints may be under way at the same time.",
        }
        TOLERABLE_FAILED_CHECKPOINTS: u32 = "execution.checkpointing.tolerable-failed-checkpoints" {
            kind: Kind::Int { min: 0, max: i32::MAX as i64 }, default: Some("0"), unit: "checkpoints", flink: true,
            doc: "How many checkpoints in a row may fail before that counts as a failure of the job, which then restarts.",
        }
        CHECKPOINT_RETENTION: CheckpointRetention = "execution.checkpointing.externalized-checkpoint-retention" {
            kind: Kind::Enum(CheckpointRetention::WORDS), default: Some("NO_EXTERNALIZED_CHECKPOINTS"), unit: "", flink: true,
            doc: "What becomes of the newest checkpoints when the job is over. Those of a job that has finished are removed. RETAIN_ON_CANCELLATION keeps them if it failed or was cancelled, DELETE_ON_CANCELLATION only if it failed.",
        }
        NUM_RETAINED_CHECKPOINTS: Option<u32> = "execution.checkpointing.num-retained" {
            kind: Kind::Int { min: 1, max: 32_768 }, default: None, unit: "checkpoints", flink: true,
            doc: "How many complete checkpoints are kept while the job runs. Without it state.checkpoints.num-retained.",
        }
        STATE_NUM_RETAINED: u32 = "state.checkpoints.num-retained" {
            kind: Kind::Int { min: 1, max: 32_768 }, default: Some("1"), unit: "checkpoints", flink: true,
            doc: "Former name of execution.checkpointing.num-retained.",
        }
        CHECKPOINT_DIRECTORY: Option<String> = "execution.checkpointing.dir" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Directory, as a URI, under which each job has one for its checkpoints. Without it state.checkpoints.dir, else .spindle/checkpoints in the user's home on the default file system, or with yarn.staging-directory under that; for an embedded cluster a temporary directory.",
        }
        STATE_CHECKPOINTS_DIRECTORY: Option<String> = "state.checkpoints.dir" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Former name of execution.checkpointing.dir.",
        }
        DATA_INLINE_THRESHOLD: Option<ByteSize> = "execution.checkpointing.data-inline-threshold" {
            kind: Kind::Memory, default: None, unit: "", flink: true,
            doc: "A subtask with less state than this writes no file for it: it is part of the metadata. Without it state.storage.fs.memory-threshold.",
        }
        STATE_MEMORY_THRESHOLD: ByteSize = "state.storage.fs.memory-threshold" {
            kind: Kind::Memory, default: Some("20k"), unit: "", flink: true,
            doc: "Former name of execution.checkpointing.data-inline-threshold.",
        }
    }
    "State" {
        STATE_BACKEND: StateBackendType = "state.backend.type" {
            kind: Kind::Enum(StateBackendType::WORDS), default: Some("hashmap"), unit: "", flink: true,
            doc: "Where the state of keys is while a job runs. hashmap: in memory. rocksdb: on the disks of the TaskManagers, as far as it does not fit into memory; the job's program has to be built with the feature rocksdb of spindle-stream.",
        }
        CHECKPOINT_INCREMENTAL: Option<bool> = "execution.checkpointing.incremental" {
            kind: Kind::Bool, default: None, unit: "", flink: true,
            doc: "Whether a checkpoint writes only those files of RocksDB that the one before it does not have. Savepoints are always whole. Without it state.backend.incremental.",
        }
        STATE_BACKEND_INCREMENTAL: bool = "state.backend.incremental" {
            kind: Kind::Bool, default: Some("false"), unit: "", flink: true,
            doc: "Former name of execution.checkpointing.incremental.",
        }
        ROCKSDB_LOCAL_DIR: Option<String> = "state.backend.rocksdb.localdir" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Local directory for the files of RocksDB. Without it the container's own on YARN, else the system's directory for temporary files.",
        }
        ROCKSDB_TABLE: ByteSize = "state.backend.rocksdb.table.size" {
            kind: Kind::Memory, default: Some("64m"), unit: "", flink: false,
            doc: "Memory of each subtask of an operator for the keys that it works on, which RocksDB hears of at checkpoints and when there are too many. Ours: Flink asks RocksDB for each record.",
        }
        ROCKSDB_WRITE_BUFFER: ByteSize = "state.backend.rocksdb.writebuffer.size" {
            kind: Kind::Memory, default: Some("64m"), unit: "", flink: true,
            doc: "What RocksDB gathers in memory before it writes a file; there may be two of them for each subtask of an operator.",
        }
        ROCKSDB_BLOCK_CACHE: ByteSize = "state.backend.rocksdb.block.cache-size" {
            kind: Kind::Memory, default: Some("32m"), unit: "", flink: true,
            doc: "Memory of each task for what RocksDB has read, index and filters included. Flink's own default is 8 MB.",
        }
    }
    "Savepoints" {
        SAVEPOINT_DIRECTORY: Option<String> = "execution.checkpointing.savepoint-dir" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Directory, as a URI, under which savepoints are written whose request names none. Without it state.savepoints.dir.",
        }
        STATE_SAVEPOINTS_DIRECTORY: Option<String> = "state.savepoints.dir" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Former name of execution.checkpointing.savepoint-dir.",
        }
        RECOVERY_PATH: Option<String> = "execution.state-recovery.path" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Directory of the savepoint or checkpoint that the job begins with, as a URI; that of spindle run -s.",
        }
        SAVEPOINT_PATH: Option<String> = "execution.savepoint.path" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Former name of execution.state-recovery.path.",
        }
        IGNORE_UNCLAIMED_STATE: Option<bool> = "execution.state-recovery.ignore-unclaimed-state" {
            kind: Kind::Bool, default: None, unit: "", flink: true,
            doc: "Whether the job may begin with a snapshot that has state of operators which the job does not have; that state is left behind. Without it execution.savepoint.ignore-unclaimed-state.",
        }
        SAVEPOINT_IGNORE_UNCLAIMED_STATE: bool = "execution.savepoint.ignore-unclaimed-state" {
            kind: Kind::Bool, default: Some("false"), unit: "", flink: true,
            doc: "Former name of execution.state-recovery.ignore-unclaimed-state.",
        }
        CLAIM_MODE: Option<ClaimMode> = "execution.state-recovery.claim-mode" {
            kind: Kind::Enum(ClaimMode::WORDS), default: None, unit: "", flink: true,
            doc: "Whose the snapshot is that the job begins with. NO_CLAIM: yours; the job never removes it. CLAIM: the job's, which removes it as it does with its own checkpoints, once it has enough of them. Without it execution.savepoint-restore-mode.",
        }
        SAVEPOINT_RESTORE_MODE: ClaimMode = "execution.savepoint-restore-mode" {
            kind: Kind::Enum(ClaimMode::WORDS), default: Some("NO_CLAIM"), unit: "", flink: true,
            doc: "Former name of execution.state-recovery.claim-mode.",
        }
    }
    "JobManager" {
        JOBMANAGER_MEMORY: ByteSize = "jobmanager.memory.process.size" {
            kind: Kind::Memory, default: Some("256m"), unit: "", flink: true,
            doc: "Memory of the JobManager's container.",
        }
        JOBMANAGER_RPC_PORT: PortRange = "jobmanager.rpc.port" {
            kind: Kind::Ports, default: Some("0"), unit: "", flink: true,
            doc: "Port at which the JobManager listens for its TaskManagers. Flink takes one port; a range is ours.",
        }
        REST_PORT: PortRange = "rest.port" {
            kind: Kind::Ports, default: Some("0"), unit: "", flink: true,
            doc: "Port at which the JobManager answers REST, unless rest.bind-port is set.",
        }
        REST_BIND_PORT: Option<PortRange> = "rest.bind-port" {
            kind: Kind::Ports, default: None, unit: "", flink: true,
            doc: "Ports for REST, tried in order. Without it rest.port.",
        }
        MASTER_ENV: BTreeMap<String, String> = "containerized.master.env." {
            kind: Kind::Prefix, default: None, unit: "", flink: true,
            doc: "Environment variables of the JobManager's process: the rest of the key is the variable's name.",
        }
    }
    "TaskManager" {
        TASKMANAGER_MEMORY: ByteSize = "taskmanager.memory.process.size" {
            kind: Kind::Memory, default: Some("1g"), unit: "", flink: true,
            doc: "Memory of a TaskManager's container, its workers included.",
        }
        TASK_SLOTS: u32 = "taskmanager.numberOfTaskSlots" {
            kind: COUNT, default: Some("1"), unit: "slots", flink: true,
            doc: "Slots of a TaskManager, which are its equal parts. A slot holds one subtask of each operator of a slot sharing group. Groups that say what their slots have get just that, of whichever TaskManager has room for it.",
        }
        LOAD_BALANCE_MODE: LoadBalanceMode = "taskmanager.load-balance.mode" {
            kind: Kind::Enum(LoadBalanceMode::WORDS), default: Some("NONE"), unit: "", flink: true,
            doc: "How load is balanced. NONE: slots are taken of the TaskManager that has the fewest in use. SLOTS: TaskManagers are spread evenly over the nodes too, as far as those have room, and slots are taken on the node that has the fewest in use.",
        }
        BUFFERS_PER_CHANNEL: u32 = "taskmanager.network.memory.buffers-per-channel" {
            kind: Kind::Int { min: 1, max: 1024 }, default: Some("8"), unit: "buffers", flink: true,
            doc: "Buffers that a channel may have on its way before its producer waits. Flink's own default is 2.",
        }
        TASKMANAGER_ENV: BTreeMap<String, String> = "containerized.taskmanager.env." {
            kind: Kind::Prefix, default: None, unit: "", flink: true,
            doc: "Environment variables of a TaskManager's process and of its workers: the rest of the key is the variable's name.",
        }
    }
    "Sessions" {
        TASKMANAGER_TIMEOUT: Duration = "resourcemanager.taskmanager-timeout" {
            kind: Kind::Duration, default: Some("30 s"), unit: "", flink: true,
            doc: "After how long a TaskManager that no job has a slot of is given back.",
        }
        REDUNDANT_TASKMANAGERS: u32 = "slotmanager.redundant-taskmanager-num" {
            kind: Kind::Int { min: 0, max: i32::MAX as i64 }, default: Some("0"), unit: "TaskManagers", flink: true,
            doc: "How many TaskManagers more than their jobs need clusters have, as far as the limits allow, so that a job that loses one starts again without waiting for a container. None while there is no job.",
        }
        MAX_SLOTS: Option<u32> = "slotmanager.number-of-slots.max" {
            kind: Kind::Int { min: 1, max: i32::MAX as i64 }, default: None, unit: "slots", flink: true,
            doc: "Slots that the cluster has at most. A job that needs more fails; one that has to wait for other jobs' slots waits. Without it there is no limit.",
        }
        MAX_TOTAL_MEMORY: Option<ByteSize> = "slotmanager.max-total-resource.memory" {
            kind: Kind::Memory, default: None, unit: "", flink: true,
            doc: "Memory that the containers of all TaskManagers have together at most, each counted as asked for. Without it there is no limit.",
        }
        MAX_TOTAL_CPU: Option<f64> = "slotmanager.max-total-resource.cpu" {
            kind: Kind::Float { min: 0.0, max: f64::INFINITY }, default: None, unit: "virtual cores", flink: true,
            doc: "Virtual cores that the containers of all TaskManagers have together at most. Without it there is no limit.",
        }
        JOB_STORE_CAPACITY: u32 = "jobstore.max-capacity" {
            kind: Kind::Int { min: 1, max: i32::MAX as i64 }, default: Some("100"), unit: "jobs", flink: true,
            doc: "How many jobs that are over stay visible; the oldest goes first. Flink's own default is without a limit.",
        }
        JOB_STORE_EXPIRATION: Duration = "jobstore.expiration-time" {
            kind: Kind::DurationInSeconds, default: Some("1 h"), unit: "", flink: true,
            doc: "How long a job that is over stays visible. A number without a unit is in seconds.",
        }
    }
    "YARN" {
        YARN_NAME: Option<String> = "yarn.application.name" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Name of the application. Without it the name of the job.",
        }
        YARN_QUEUE: String = "yarn.application.queue" {
            kind: Kind::Text, default: Some("default"), unit: "", flink: true,
            doc: "Queue that the application is submitted to.",
        }
        YARN_PRIORITY: i32 = "yarn.application.priority" {
            kind: Kind::Int { min: -1, max: i32::MAX as i64 }, default: Some("-1"), unit: "", flink: true,
            doc: "Priority of the application; a higher one goes first. -1 leaves it to the queue.",
        }
        YARN_ATTEMPTS: u32 = "yarn.application-attempts" {
            kind: COUNT, default: Some("2"), unit: "attempts", flink: true,
            doc: "How often YARN starts the ApplicationMaster, at most. The cluster's own limit holds too.",
        }
        YARN_TYPE: String = "yarn.application.type" {
            kind: Kind::Text, default: Some("Spindle"), unit: "", flink: true,
            doc: "Type of the application, by which it is listed.",
        }
        YARN_TAGS: Vec<String> = "yarn.tags" {
            kind: Kind::List, default: None, unit: "", flink: true,
            doc: "Tags of the application.",
        }
        YARN_NODE_LABEL: Option<String> = "yarn.application.node-label" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Label of the nodes that the application runs on. Without it the queue's own choice.",
        }
        YARN_TASKMANAGER_NODE_LABEL: Option<String> = "yarn.taskmanager.node-label" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Label of the nodes that TaskManagers run on. Without it that of the application.",
        }
        YARN_VIEW_ACLS: Option<String> = "yarn.view.acls" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Users and groups, besides the owner, who may look at the application: user,user group,group, or * for all. It holds where the cluster has yarn.acl.enable.",
        }
        YARN_MODIFY_ACLS: Option<String> = "yarn.modify.acls" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Users and groups, besides the owner, who may change the application, in the same form.",
        }
        YARN_MASTER_VCORES: u32 = "yarn.appmaster.vcores" {
            kind: COUNT, default: Some("1"), unit: "virtual cores", flink: true,
            doc: "Virtual cores of the ApplicationMaster's container.",
        }
        YARN_CONTAINER_VCORES: u32 = "yarn.containers.vcores" {
            kind: COUNT, default: Some("1"), unit: "virtual cores", flink: true,
            doc: "Virtual cores of a TaskManager's container. Flink's own default is the number of its slots.",
        }
        YARN_STAGING: Option<String> = "yarn.staging-directory" {
            kind: Kind::Text, default: None, unit: "", flink: true,
            doc: "Directory, as a URI, under which the folder .spindle is made. Without it the user's home on the default file system.",
        }
        YARN_SHIP_FILES: Vec<String> = "yarn.ship-files" {
            kind: Kind::List, default: None, unit: "", flink: true,
            doc: "Files and directories of the client's machine that every container of an application gets into its working directory, directories under their own name. Job programs find them there.",
        }
        YARN_HEARTBEAT_INTERVAL: Duration = "yarn.heartbeat.interval" {
            kind: Kind::DurationInSeconds, default: Some("1"), unit: "", flink: true,
            doc: "How often the ApplicationMaster speaks with the ResourceManager while it has all the containers it wants. A number without a unit is in seconds.",
        }
        YARN_REQUEST_INTERVAL: Duration = "yarn.heartbeat.container-request-interval" {
            kind: Kind::Duration, default: Some("200 ms"), unit: "", flink: true,
            doc: "How often it speaks with the ResourceManager while it waits for containers.",
        }
    }
    "Logs" {
        LOG_LEVEL: String = "env.log.level" {
            kind: Kind::LogFilter, default: Some("info"), unit: "", flink: true,
            doc: "What JobManager and TaskManagers log: off, error, warn, info, debug or trace, optionally for single modules, such as info,spindle_rpc=debug. If it is set, it holds for the workers of jobs too, which else log from warn on.",
        }
    }
}

/// The option of a key.
pub fn find(key: &str) -> Option<&'static OptionSpec> {
    all().find(|option| option.matches(key))
}

/// All options, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static OptionSpec> {
    SECTIONS.iter().flat_map(|section| section.options)
}

/// The known key that looks most like an unknown one.
pub fn nearest(key: &str) -> &'static str {
    let key = key.to_ascii_lowercase();
    all()
        .map(|option| option.key)
        .min_by_key(|known| strsim::damerau_levenshtein(&key, &known.to_ascii_lowercase()))
        .expect("the table is not empty")
}
