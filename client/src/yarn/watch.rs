//! Watches an application from ACCEPTED to its end: YARN's report until the ApplicationMaster runs, then the job's own REST API.

use std::time::{Duration, Instant};

use spindle_common::id::JobId;
use spindle_hadoop::proto::yarn::{
    ApplicationReport, FinalApplicationStatus, YarnApplicationState,
};

use super::cluster::Cluster;
use super::submission::Application;
use super::waiting;
use crate::error::{CliError, Exit};
use crate::output::{Event, Reporter};
use crate::rest::{JobDetails, JobResult, RestClient};
use crate::settings::Settings;

/// Between two looks while something is expected to happen.
const SHORT: Duration = Duration::from_millis(100);
/// Between two looks when nothing has happened for a while.
const LONG: Duration = Duration::from_millis(500);
/// How long an application may wait before the reason is worth a line.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long YARN may take to show an end that the ApplicationMaster has announced.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Exit code after Ctrl-C: 128 + SIGINT, as shells have it. The job goes on.
const INTERRUPTED: u8 = 130;

/// Watches until the end, or until the user leaves; the exit code.
pub(crate) async fn watch(
    cluster: &Cluster,
    settings: &Settings,
    application: &Application,
    job: JobId,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let mut watch = Watch {
        cluster,
        application,
        job,
        reporter,
        state: None,
        job_state: String::new(),
        seen: None,
        waiting: String::new(),
        rest: None,
    };
    if !settings.execution.attached {
        return watch.until_accepted().await;
    }
    let ended = {
        let end = watch.until_end();
        tokio::pin!(end);
        tokio::select! {
            report = &mut end => Some(report),
            () = left() => None,
        }
    };
    match ended {
        Some(report) => watch.conclude(&report?).await,
        None if settings.execution.shutdown_on_attached_exit => {
            watch.cancel().await?;
            let report = watch.until_end().await?;
            watch.conclude(&report).await
        }
        None => {
            let (application_id, job_id) = (application.id.to_string(), job.to_string());
            reporter.event(&Event::Detached {
                application_id,
                job_id,
                reason: "this client leaves".to_owned(),
            });
            Ok(INTERRUPTED)
        }
    }
}

/// Until somebody wants this client to end.
async fn left() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut stream) => {
            stream.recv().await;
        }
        // Without a handler the signal ends the process by itself.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

struct Watch<'a> {
    cluster: &'a Cluster,
    application: &'a Application,
    job: JobId,
    reporter: &'a mut Reporter,
    /// What YARN said last.
    state: Option<YarnApplicationState>,
    /// What the JobManager said last.
    job_state: String,
    /// When the job entered that state, in milliseconds since the epoch by the JobManager's clock.
    seen: Option<u64>,
    /// What YARN said last that the application waits for.
    waiting: String,
    rest: Option<RestClient>,
}

impl Watch<'_> {
    /// For a client that leaves once YARN has taken the application.
    async fn until_accepted(mut self) -> Result<u8, CliError> {
        loop {
            let report = self.report().await?;
            if is_over(report.yarn_application_state()) {
                return self.conclude(&report).await;
            }
            if report.yarn_application_state() >= YarnApplicationState::Accepted {
                return Ok(0);
            }
            tokio::time::sleep(SHORT).await;
        }
    }

    /// Follows the job; YARN's report of the application when it is over.
    ///
    /// The job is followed at its JobManager. YARN is asked while that one does not answer: before it runs, when it has ended, and
    /// when another attempt takes its place.
    async fn until_end(&mut self) -> Result<ApplicationReport, CliError> {
        let mut since = Instant::now();
        let mut last = JobDetails::default();
        loop {
            match self.ask_job_manager().await {
                Some((details, result)) => {
                    if details != last {
                        since = Instant::now();
                        self.progress(&details, &result);
                    }
                    self.job_is(&details, result.cause.as_deref());
                    if is_job_over(&details.state) {
                        self.fetch_collected().await;
                        return self.until_over().await;
                    }
                    last = details;
                }
                None => {
                    let report = self.report().await?;
                    if is_over(report.yarn_application_state()) {
                        return Ok(report);
                    }
                    if report.yarn_application_state() == YarnApplicationState::Accepted
                        && since.elapsed() > PATIENCE
                    {
                        self.waits_for(&report).await;
                    }
                }
            }
            tokio::time::sleep(if since.elapsed() > PATIENCE {
                LONG
            } else {
                SHORT
            })
            .await;
        }
    }

    /// What the JobManager says of the job, if there is one and it answers.
    async fn ask_job_manager(&mut self) -> Option<(JobDetails, JobResult)> {
        let rest = self.rest.as_ref()?;
        let answer = match rest.job(self.job).await {
            Ok(details) => rest
                .result(self.job, false)
                .await
                .map(|result| (details, result)),
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(error, "the JobManager does not answer");
                // Another attempt has another address.
                self.rest = None;
                None
            }
        }
    }

    async fn waits_for(&mut self, report: &ApplicationReport) {
        let words = waiting_for(report.diagnostics());
        if words != self.waiting && !words.is_empty() {
            let reason = waiting::reason(self.cluster.rest.as_ref(), report, &words).await;
            self.waiting = words;
            let application_id = self.application.id.to_string();
            self.reporter.event(&Event::Accepted {
                application_id,
                reason,
            });
        }
    }

    fn progress(&mut self, details: &JobDetails, result: &JobResult) {
        self.reporter.event(&Event::Progress {
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
    fn job_is(&mut self, details: &JobDetails, cause: Option<&str>) {
        let Some(&now) = details.entered.get(&details.state) else {
            return;
        };
        let seen = self.seen;
        let mut entered: Vec<_> = details
            .entered
            .iter()
            .filter(|&(state, &at)| {
                seen.is_none_or(|seen| at > seen)
                    || (*state == details.state && *state != self.job_state)
            })
            .collect();
        entered.sort_by_key(|&(state, &at)| (at, *state == details.state));
        for (state, &at_ms) in entered {
            let cause = cause
                .filter(|_| *state == details.state && state != "FINISHED")
                .map(str::to_owned);
            self.reporter.event(&Event::JobState {
                job_id: self.job.to_string(),
                state: state.clone(),
                at_ms,
                cause,
            });
        }
        self.seen = Some(seen.unwrap_or(0).max(now));
        self.job_state.clone_from(&details.state);
    }

    /// Brings the rows of collecting sinks, and lets the JobManager go.
    async fn fetch_collected(&mut self) {
        let Some(rest) = &self.rest else { return };
        match rest.collected(self.job).await {
            Ok(sinks) => {
                for (name, rows) in sinks {
                    self.reporter.event(&Event::Collected { name, rows });
                }
            }
            Err(error) => tracing::warn!(error, "collected rows could not be fetched"),
        }
        // If this is lost the JobManager ends after a while by itself.
        drop(rest.result(self.job, true).await);
    }

    /// Waits for YARN to show the end that the JobManager has announced.
    async fn until_over(&mut self) -> Result<ApplicationReport, CliError> {
        let start = Instant::now();
        loop {
            let report = self.report().await?;
            if is_over(report.yarn_application_state()) {
                return Ok(report);
            }
            if start.elapsed() > END_LIMIT {
                return Err(CliError::cluster(format!(
                    "the job is {}, but YARN does not show the end of {} after {} s",
                    self.job_state,
                    self.application.id,
                    END_LIMIT.as_secs()
                )));
            }
            tokio::time::sleep(SHORT).await;
        }
    }

    /// Asks YARN, and tells what is new.
    async fn report(&mut self) -> Result<ApplicationReport, CliError> {
        let report = self.cluster.report(self.application.id).await?;
        let state = report.yarn_application_state();
        let before = self.state.replace(state);
        if before != Some(state) {
            let application_id = self.application.id.to_string();
            let was_accepted =
                before.is_some_and(|before| before >= YarnApplicationState::Accepted);
            if state == YarnApplicationState::Accepted
                || (state == YarnApplicationState::Running && !was_accepted)
            {
                let (application_id, reason) = (application_id.clone(), String::new());
                self.reporter.event(&Event::Accepted {
                    application_id,
                    reason,
                });
            }
            if state == YarnApplicationState::Running {
                let (host, tracking_url) =
                    (report.host().to_owned(), report.tracking_url().to_owned());
                self.reporter.event(&Event::Registered {
                    application_id,
                    host,
                    tracking_url,
                });
            }
        }
        if state == YarnApplicationState::Running && self.rest.is_none() {
            match RestClient::new(report.original_tracking_url(), &self.application.secret) {
                Ok(rest) => self.rest = Some(rest),
                Err(error) => tracing::debug!(error, "no REST client"),
            }
        }
        Ok(report)
    }

    /// Stops the job, by way of its JobManager if that answers, else through YARN.
    async fn cancel(&mut self) -> Result<(), CliError> {
        if let Some(rest) = &self.rest {
            match rest.cancel(self.job).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(error, "the JobManager does not take the cancellation")
                }
            }
        }
        let killed = self
            .cluster
            .rm()
            .kill_application(self.application.id, "the client was stopped")
            .await;
        killed
            .map(drop)
            .map_err(|error| self.cluster.rm_failed("killing the application", error))
    }

    /// Tells how it ended; the exit code.
    async fn conclude(self, report: &ApplicationReport) -> Result<u8, CliError> {
        // An ApplicationMaster that was killed could not do it.
        if let Err(error) = self
            .cluster
            .fs
            .delete(&self.application.staging, true)
            .await
        {
            tracing::warn!(%error, "the staging directory could not be removed");
        }
        let (status, exit) = match report.final_application_status() {
            FinalApplicationStatus::AppSucceeded => ("SUCCEEDED", None),
            FinalApplicationStatus::AppKilled => ("KILLED", Some(Exit::Cancelled)),
            FinalApplicationStatus::AppUndefined
            | FinalApplicationStatus::AppFailed
            | FinalApplicationStatus::AppEnded => ("FAILED", Some(Exit::JobFailed)),
        };
        let diagnostics = report
            .diagnostics()
            .trim()
            .trim_start_matches("N/A")
            .to_owned();
        let application_id = self.application.id.to_string();
        self.reporter.event(&Event::Finished {
            application_id: application_id.clone(),
            status: status.to_owned(),
            diagnostics: diagnostics.clone(),
        });
        match exit {
            None => Ok(0),
            Some(Exit::Cancelled) => Ok(Exit::Cancelled as u8),
            Some(exit) => Err(CliError::new(
                exit,
                if diagnostics.is_empty() {
                    format!("{application_id} failed")
                } else {
                    diagnostics
                },
            )
            .hint(format!(
                "the logs of its containers: {}",
                report.tracking_url()
            ))),
        }
    }
}

fn is_job_over(state: &str) -> bool {
    ["FINISHED", "FAILED", "CANCELED"].contains(&state)
}

const fn is_over(state: YarnApplicationState) -> bool {
    matches!(
        state,
        YarnApplicationState::Finished
            | YarnApplicationState::Failed
            | YarnApplicationState::Killed
    )
}

/// What a waiting application waits for, in YARN's words, without the time in front.
fn waiting_for(diagnostics: &str) -> String {
    let text = diagnostics.trim();
    let text = if text.starts_with('[') {
        text.split_once(']').map_or(text, |(_, rest)| rest.trim())
    } else {
        text
    };
    if text == "N/A" {
        String::new()
    } else {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_waiting_is_told_without_its_time() {
        let text = "[Sat Nov 21 02:00:00 +0000 2026] Application is added to the scheduler and is not yet activated.  Queue's AM resource limit exceeded.";
        assert_eq!(
            waiting_for(text),
            "Application is added to the scheduler and is not yet activated. Queue's AM resource limit exceeded."
        );
        assert_eq!(waiting_for("N/A"), "");
        assert_eq!(waiting_for("[unclosed"), "[unclosed");
    }
}
