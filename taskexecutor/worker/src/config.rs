//! What a worker is set to.

use std::time::Duration;

use spindle_common::config::{Config, ConfigError};
use spindle_common::id::JobId;
use spindle_rpc::Secret;

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
}

impl WorkerConfig {
    /// What the job's settings say of a worker, key and value as written.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn new(
        job: JobId,
        host: String,
        secret: Secret,
        settings: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let config = Config::from_pairs(settings)?;
        Ok(Self {
            job,
            host,
            secret,
            credits: config.task_manager().buffers_per_channel,
            buffer_timeout: config.execution().buffer_timeout,
            report_interval: REPORT_INTERVAL,
            peer_loss_grace: PEER_LOSS_GRACE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Result<WorkerConfig, ConfigError> {
        let settings = [(key.to_owned(), value.to_owned())];
        let (job, secret) = (JobId::from_bytes([1; 16]), Secret::from_bytes([1; 32]));
        WorkerConfig::new(job, "127.0.0.1".to_owned(), secret, &settings)
    }

    #[test]
    fn what_the_client_accepts_the_worker_understands() {
        let timeout = |text| {
            with("execution.buffer-timeout.interval", text)
                .unwrap()
                .buffer_timeout
        };
        assert_eq!(timeout("5 ms"), Duration::from_millis(5));
        assert_eq!(timeout("1 min"), Duration::from_secs(60));
        assert_eq!(timeout("0"), Duration::ZERO);
        let credits = with("taskmanager.network.memory.buffers-per-channel", "2");
        assert_eq!(credits.unwrap().credits, 2);
    }

    #[test]
    fn a_setting_without_sense_is_refused_by_name() {
        let key = "execution.buffer-timeout.interval";
        let error = with(key, "soon").unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("soon"), "{error}");
    }
}
