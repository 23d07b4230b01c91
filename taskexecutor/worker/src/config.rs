//! What a worker is set to.

use std::time::Duration;

use spindle_common::config::parse_duration;
use spindle_common::id::JobId;
use spindle_common::resource::ByteSize;
use spindle_rpc::Secret;
use spindle_storage::{DEFAULT_MEMORY_THRESHOLD, SnapshotStorage};

use crate::backend::StateBackend;

/// Buffers that a channel may hold between `emit` and the consumer's taking it. Flink's key, our default.
const CREDITS_KEY: &str = "taskmanager.network.memory.buffers-per-channel";
/// 32 KiB buffers need at least this many under way to keep a connection busy.
const DEFAULT_CREDITS: u32 = 8;
const BUFFER_TIMEOUT_KEY: &str = "execution.buffer-timeout.interval";
const MEMORY_THRESHOLD_KEY: &str = "execution.checkpointing.data-inline-threshold";
const FORMER_MEMORY_THRESHOLD_KEY: &str = "state.storage.fs.memory-threshold";
const DEFAULT_BUFFER_TIMEOUT: Duration = Duration::from_millis(100);
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
const PEER_LOSS_GRACE: Duration = Duration::from_secs(1);

/// How a worker runs the tasks of one job.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The job.
    pub job: JobId,
    /// Host name or address to bind the data plane to and to be reached at.
    pub host: String,
    /// The application's secret; only workers that have it may read from this one.
    pub secret: Secret,
    /// Buffers on their way in each channel before its producer waits, at least 1.
    pub credits: u32,
    /// The longest that a record waits in a buffer that is not full; zero hands on each record at once.
    pub buffer_timeout: Duration,
    /// How often the counters of running tasks are reported.
    pub report_interval: Duration,
    /// How long a task that lost a neighbour waits to be cancelled before it fails for it: so that the failure that is reported
    /// is the neighbour's own, if it has one to report.
    pub peer_loss_grace: Duration,
    /// Where snapshots are written and read. Without one all checkpoints are declined.
    pub storage: Option<SnapshotStorage>,
    /// A task with less state than this, in bytes, sends it along with its acknowledgement and writes no file.
    pub memory_threshold: u64,
    /// Where the state of keys is; none if in memory.
    pub backend: Option<StateBackend>,
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` cannot be `{value}`: expected {expected}")]
pub struct InvalidWorkerConfig {
    /// The setting.
    pub key: &'static str,
    /// What was given.
    pub value: String,
    /// What it takes.
    pub expected: &'static str,
}

impl WorkerConfig {
    /// The defaults.
    pub const fn new(job: JobId, host: String, secret: Secret) -> Self {
        Self {
            job,
            host,
            secret,
            credits: DEFAULT_CREDITS,
            buffer_timeout: DEFAULT_BUFFER_TIMEOUT,
            report_interval: REPORT_INTERVAL,
            peer_loss_grace: PEER_LOSS_GRACE,
            storage: None,
            memory_threshold: DEFAULT_MEMORY_THRESHOLD,
            backend: None,
        }
    }

    /// Takes over what the job's settings say of a worker; the last of equal keys holds, other keys are ignored.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn with_settings(
        mut self,
        settings: &[(String, String)],
    ) -> Result<Self, InvalidWorkerConfig> {
        for (key, value) in settings {
            if key == CREDITS_KEY {
                self.credits = value
                    .trim()
                    .parse()
                    .ok()
                    .filter(|credits| (1..=1024).contains(credits))
                    .ok_or_else(|| InvalidWorkerConfig {
                        key: CREDITS_KEY,
                        value: value.clone(),
                        expected: "a number from 1 to 1024",
                    })?;
            } else if key == BUFFER_TIMEOUT_KEY {
                self.buffer_timeout =
                    parse_duration(value, Duration::from_millis(1)).ok_or_else(|| {
                        InvalidWorkerConfig {
                            key: BUFFER_TIMEOUT_KEY,
                            value: value.clone(),
                            expected: "a duration such as `100 ms`",
                        }
                    })?;
            } else if key == MEMORY_THRESHOLD_KEY || key == FORMER_MEMORY_THRESHOLD_KEY {
                let is_former = key == FORMER_MEMORY_THRESHOLD_KEY;
                if is_former && settings.iter().any(|(key, _)| key == MEMORY_THRESHOLD_KEY) {
                    continue;
                }
                let size: ByteSize = value.parse().map_err(|_| InvalidWorkerConfig {
                    key: if is_former {
                        FORMER_MEMORY_THRESHOLD_KEY
                    } else {
                        MEMORY_THRESHOLD_KEY
                    },
                    value: value.clone(),
                    expected: "a size such as `20 kb`",
                })?;
                self.memory_threshold = size.as_bytes();
            }
        }
        Ok(self)
    }

    /// Takes over where snapshots are.
    #[must_use]
    pub fn with_storage(mut self, storage: SnapshotStorage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Takes over where the state of keys is.
    #[must_use]
    pub fn with_backend(mut self, backend: Option<StateBackend>) -> Self {
        self.backend = backend;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Result<WorkerConfig, InvalidWorkerConfig> {
        let config = WorkerConfig::new(
            JobId::from_bytes([1; 16]),
            "127.0.0.1".into(),
            Secret::from_bytes([1; 32]),
        );
        config.with_settings(&[(key.into(), value.into())])
    }

    #[test]
    fn settings_replace_the_defaults() {
        assert_eq!(with(CREDITS_KEY, "2").unwrap().credits, 2);
        assert_eq!(
            with(BUFFER_TIMEOUT_KEY, "5 ms").unwrap().buffer_timeout,
            Duration::from_millis(5)
        );
        assert_eq!(
            with(BUFFER_TIMEOUT_KEY, "0").unwrap().buffer_timeout,
            Duration::ZERO
        );
        assert_eq!(
            with(MEMORY_THRESHOLD_KEY, "1 kb").unwrap().memory_threshold,
            1024
        );
        let both = [
            (MEMORY_THRESHOLD_KEY.to_owned(), "2 kb".to_owned()),
            (FORMER_MEMORY_THRESHOLD_KEY.to_owned(), "1 kb".to_owned()),
        ];
        let config = with("other", "x").unwrap();
        let config = config.with_settings(&both).unwrap();
        assert_eq!(config.memory_threshold, 2048, "its present name goes first");
        assert_eq!(with("other", "x").unwrap().credits, DEFAULT_CREDITS);
    }

    #[test]
    fn a_setting_without_sense_is_refused_by_name() {
        for (key, value) in [
            (CREDITS_KEY, "0"),
            (CREDITS_KEY, "many"),
            (BUFFER_TIMEOUT_KEY, "soon"),
            (MEMORY_THRESHOLD_KEY, "little"),
        ] {
            let error = with(key, value).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }
}
