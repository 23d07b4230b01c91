//! Follows one job at its JobManager, and tells what is new of it.

use spindle_common::id::JobId;

use crate::output::{Event, Reporter};
use crate::rest::{JobDetails, JobResult, RestClient, RestError, is_job_over};

/// A job, and what of it has been told.
pub(crate) struct Follower {
    pub(crate) job: JobId,
    /// For sentences, if it is known before the JobManager says it.
    pub(crate) name: String,
    last: JobDetails,
    /// The cause that the JobManager gave last.
    pub(crate) cause: Option<String>,
    /// The state that was told last.
    state: String,
    /// When the job entered that state, in milliseconds since the epoch by the JobManager's clock.
    seen: Option<u64>,
}

impl Follower {
    pub(crate) fn new(job: JobId, name: String) -> Self {
        Self {
            job,
            name,
            last: JobDetails::default(),
            cause: None,
            state: String::new(),
            seen: None,
        }
    }

    /// Asks once; whether anything has changed.
    pub(crate) async fn look(
        &mut self,
        rest: &RestClient,
        reporter: &mut Reporter,
    ) -> Result<bool, RestError> {
        let details = rest.job(self.job).await?;
        if details == self.last {
            return Ok(false);
        }
        let result = rest.result(self.job, false).await?;
        reporter.set_name(&self.name);
        self.progress(&details, &result, reporter);
        self.cause.clone_from(&result.cause);
        self.tell_states(&details, result.cause.as_deref(), reporter);
        self.last = details;
        Ok(true)
    }

    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    pub(crate) fn is_over(&self) -> bool {
        is_job_over(&self.state)
    }

    fn progress(&self, details: &JobDetails, result: &JobResult, reporter: &mut Reporter) {
        reporter.event(&Event::Progress {
            running: details.running,
            finished: details.finished,
            tasks: details.tasks,
            records_in: details.records_in,
            records_out: details.records_out,
            late: result.late_records_dropped,
            progress: result.progress,
        });
    }

    /// Tells each state that the job has entered since it was looked at last, those that it has left again included.
    fn tell_states(&mut self, details: &JobDetails, cause: Option<&str>, reporter: &mut Reporter) {
        let Some(&now) = details.entered.get(&details.state) else {
            return;
        };
        let seen = self.seen;
        let mut entered: Vec<_> = details
            .entered
            .iter()
            .filter(|&(state, &at)| {
                seen.is_none_or(|seen| at > seen)
                    || (*state == details.state && *state != self.state)
            })
            .collect();
        entered.sort_by_key(|&(state, &at)| (at, *state == details.state));
        for (state, &at_ms) in entered {
            let cause = cause
                .filter(|_| *state == details.state && state != "FINISHED")
                .map(str::to_owned);
            reporter.event(&Event::JobState {
                job_id: self.job.to_string(),
                state: state.clone(),
                at_ms,
                cause,
            });
        }
        self.seen = Some(seen.unwrap_or(0).max(now));
        self.state.clone_from(&details.state);
    }

    /// Brings the rows of collecting sinks.
    pub(crate) async fn fetch_collected(&self, rest: &RestClient, reporter: &mut Reporter) {
        match rest.collected(self.job).await {
            Ok(sinks) => {
                for (name, rows) in sinks {
                    reporter.event(&Event::Collected { name, rows });
                }
            }
            Err(error) => tracing::warn!(%error, "collected rows could not be fetched"),
        }
    }
}
