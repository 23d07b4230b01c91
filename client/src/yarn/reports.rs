//! What YARN says of one application, told when it is new, up to how it ended.

use std::time::{Duration, Instant};

use spindle_hadoop::fs::FsPath;
use spindle_hadoop::proto::yarn::{
    ApplicationReport, FinalApplicationStatus, YarnApplicationState,
};
use spindle_hadoop::yarn::ApplicationId;

use super::cluster::Cluster;
use super::waiting;
use crate::error::{CliError, Exit};
use crate::output::{Event, Reporter};

/// Between two looks while something is expected to happen.
pub(crate) const SHORT: Duration = Duration::from_millis(100);
/// Between two looks when nothing has happened for a while.
pub(crate) const LONG: Duration = Duration::from_millis(500);
/// How long an application may wait before the reason is worth a line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// An application in YARN's eyes, and what of it has been told.
pub(crate) struct Reports<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) id: ApplicationId,
    /// What YARN said last.
    state: Option<YarnApplicationState>,
    /// What YARN said last that the application waits for.
    waiting: String,
}

impl<'a> Reports<'a> {
    pub(crate) const fn new(cluster: &'a Cluster, id: ApplicationId) -> Self {
        Self {
            cluster,
            id,
            state: None,
            waiting: String::new(),
        }
    }

    /// Takes what has been seen already for told.
    pub(crate) fn after(mut self, report: &ApplicationReport) -> Self {
        self.state = Some(report.yarn_application_state());
        self
    }

    /// Asks YARN, and tells what is new.
    pub(crate) async fn ask(
        &mut self,
        reporter: &mut Reporter,
    ) -> Result<ApplicationReport, CliError> {
        let report = self.cluster.report(self.id).await?;
        let state = report.yarn_application_state();
        let before = self.state.replace(state);
        if before != Some(state) {
            let application_id = self.id.to_string();
            let was_accepted =
                before.is_some_and(|before| before >= YarnApplicationState::Accepted);
            if state == YarnApplicationState::Accepted
                || (state == YarnApplicationState::Running && !was_accepted)
            {
                let (application_id, reason) = (application_id.clone(), String::new());
                reporter.event(&Event::Accepted {
                    application_id,
                    reason,
                });
            }
            if state == YarnApplicationState::Running {
                let (host, tracking_url) =
                    (report.host().to_owned(), report.tracking_url().to_owned());
                reporter.event(&Event::Registered {
                    application_id,
                    host,
                    tracking_url,
                });
            }
        }
        Ok(report)
    }

    /// Tells why the application still waits, if YARN gives a reason that is new.
    pub(crate) async fn waits_for(&mut self, report: &ApplicationReport, reporter: &mut Reporter) {
        let words = waiting_for(report.diagnostics());
        if words != self.waiting && !words.is_empty() {
            let reason = waiting::reason(self.cluster.rest.as_ref(), report, &words).await;
            self.waiting = words;
            let application_id = self.id.to_string();
            reporter.event(&Event::Accepted {
                application_id,
                reason,
            });
        }
    }

    /// Like [`Self::until_over`], without telling what comes before the end.
    pub(crate) async fn until_end_quietly(
        &mut self,
        limit: Duration,
        what: &str,
    ) -> Result<ApplicationReport, CliError> {
        let start = Instant::now();
        loop {
            let report = self.cluster.report(self.id).await?;
            if is_over(report.yarn_application_state()) {
                return Ok(report);
            }
            self.check_limit(start, limit, what)?;
            tokio::time::sleep(SHORT).await;
        }
    }

    fn check_limit(&self, start: Instant, limit: Duration, what: &str) -> Result<(), CliError> {
        if start.elapsed() <= limit {
            return Ok(());
        }
        Err(CliError::cluster(format!(
            "{what}, but YARN does not show the end of {} after {} s",
            self.id,
            limit.as_secs()
        )))
    }

    /// Waits for YARN to show the end that was announced, in `what`'s words.
    pub(crate) async fn until_over(
        &mut self,
        limit: Duration,
        what: &str,
        reporter: &mut Reporter,
    ) -> Result<ApplicationReport, CliError> {
        let start = Instant::now();
        loop {
            let report = self.ask(reporter).await?;
            if is_over(report.yarn_application_state()) {
                return Ok(report);
            }
            self.check_limit(start, limit, what)?;
            tokio::time::sleep(SHORT).await;
        }
    }
}

/// Tells how an application ended and removes what it may have left; the exit code.
pub(crate) async fn conclude(
    cluster: &Cluster,
    staging: &FsPath,
    id: ApplicationId,
    report: &ApplicationReport,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    // An ApplicationMaster that was killed could not do it.
    if let Err(error) = crate::gc::clear(&cluster.fs, staging).await {
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
    let application_id = id.to_string();
    reporter.event(&Event::Finished {
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

/// Whether an application in this state stays in it.
pub(crate) const fn is_over(state: YarnApplicationState) -> bool {
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
