//! Watches an application of its own from ACCEPTED to its end: YARN's report until the ApplicationMaster runs, then its REST API.

use std::time::{Duration, Instant};

use spindle_common::id::JobId;
use spindle_hadoop::proto::yarn::{ApplicationReport, YarnApplicationState};

use super::cluster::Cluster;
use super::follow::Follower;
use super::reports::{LONG, PATIENCE, Reports, SHORT, conclude, is_over};
use super::submission::Application;
use crate::error::CliError;
use crate::output::{Event, Reporter};
use crate::rest::{RestClient, RestError};
use crate::settings::Settings;

/// How long YARN may take to show an end that the ApplicationMaster has announced.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Exit code after Ctrl-C: 128 + SIGINT, as shells have it. The job goes on.
pub(crate) const INTERRUPTED: u8 = 130;

/// Watches until the end, or until the user leaves; the exit code.
///
/// Without a job, those that the application describes itself are looked for.
pub(crate) async fn watch(
    cluster: &Cluster,
    settings: &Settings,
    application: &Application,
    job: Option<Follower>,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let mut watch = Watch {
        reports: Reports::new(cluster, application.id),
        application,
        discovers: job.is_none(),
        jobs: job.into_iter().collect(),
        reporter,
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
            let application_id = application.id.to_string();
            watch.reporter.event(&Event::Detached {
                to_stop: format!("yarn application -kill {application_id}"),
                application_id,
                job_id: watch.jobs.first().map(|job| job.job.to_string()),
                reason: "this client leaves; the job goes on".to_owned(),
            });
            Ok(INTERRUPTED)
        }
    }
}

/// Until somebody wants this client to end.
pub(crate) async fn left() {
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
    reports: Reports<'a>,
    application: &'a Application,
    jobs: Vec<Follower>,
    /// Whether jobs are learned from the JobManager.
    discovers: bool,
    reporter: &'a mut Reporter,
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

    /// Follows the jobs; YARN's report of the application when it is over.
    ///
    /// They are followed at their JobManager. YARN is asked while that one does not answer: before it runs, when it has ended, and
    /// when another attempt takes its place.
    async fn until_end(&mut self) -> Result<ApplicationReport, CliError> {
        let mut since = Instant::now();
        loop {
            match self.ask_job_manager().await {
                Some(changed) => {
                    if changed {
                        since = Instant::now();
                    }
                    if !self.jobs.is_empty() && self.jobs.iter().all(Follower::is_over) {
                        self.fetch_collected().await;
                        let what = match self.jobs.as_slice() {
                            [job] => format!("the job is {}", job.state()),
                            _ => "all jobs are over".to_owned(),
                        };
                        return self
                            .reports
                            .until_over(END_LIMIT, &what, self.reporter)
                            .await;
                    }
                }
                None => {
                    let report = self.report().await?;
                    if is_over(report.yarn_application_state()) {
                        return Ok(report);
                    }
                    if report.yarn_application_state() == YarnApplicationState::Accepted
                        && since.elapsed() > PATIENCE
                    {
                        self.reports.waits_for(&report, self.reporter).await;
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

    /// Asks the JobManager, if there is one and it answers; whether anything has changed.
    async fn ask_job_manager(&mut self) -> Option<bool> {
        let rest = self.rest.clone()?;
        match self.look(&rest).await {
            Ok(changed) => Some(changed),
            Err(error) => {
                tracing::debug!(%error, "the JobManager does not answer");
                // Another attempt has another address.
                self.rest = None;
                None
            }
        }
    }

    async fn look(&mut self, rest: &RestClient) -> Result<bool, RestError> {
        let mut changed = false;
        if self.discovers {
            let all = rest.overview().await?;
            let there = |job: &Follower| all.iter().any(|other| other.jid == job.job.to_string());
            // Another attempt gives its jobs other ids.
            self.jobs.retain(there);
            for job in all {
                let Ok(id) = job.jid.parse::<JobId>() else {
                    continue;
                };
                if self.jobs.iter().all(|known| known.job != id) {
                    self.reporter.event(&Event::Job {
                        job_id: id.to_string(),
                        name: job.name.clone(),
                    });
                    self.jobs.push(Follower::new(id, job.name));
                    changed = true;
                }
            }
        }
        for job in &mut self.jobs {
            changed |= job.look(rest, self.reporter).await?;
        }
        Ok(changed)
    }

    /// Brings the rows of collecting sinks, and lets the JobManager go.
    async fn fetch_collected(&mut self) {
        let Some(rest) = &self.rest else { return };
        for job in &self.jobs {
            job.fetch_collected(rest, self.reporter).await;
        }
        if let Some(job) = self.jobs.last() {
            // If this is lost the JobManager ends after a while by itself.
            drop(rest.result(job.job, true).await);
        }
    }

    /// Asks YARN, and finds the JobManager in what it says.
    async fn report(&mut self) -> Result<ApplicationReport, CliError> {
        let report = self.reports.ask(self.reporter).await?;
        if report.yarn_application_state() == YarnApplicationState::Running && self.rest.is_none() {
            match RestClient::new(report.original_tracking_url(), &self.application.secret) {
                Ok(rest) => self.rest = Some(rest),
                Err(error) => tracing::debug!(%error, "no REST client"),
            }
        }
        Ok(report)
    }

    /// Stops the jobs, by way of their JobManager if that answers, else through YARN.
    async fn cancel(&mut self) -> Result<(), CliError> {
        if let Some(rest) = &self.rest {
            let mut taken = !self.jobs.is_empty();
            for job in self.jobs.iter().filter(|job| !job.is_over()) {
                if let Err(error) = rest.cancel(job.job).await {
                    tracing::debug!(%error, "the JobManager does not take the cancellation");
                    taken = false;
                }
            }
            if taken {
                return Ok(());
            }
        }
        self.reports
            .cluster
            .kill(self.application.id, "the client was stopped")
            .await
    }

    async fn conclude(self, report: &ApplicationReport) -> Result<u8, CliError> {
        let application = self.application;
        conclude(
            self.reports.cluster,
            &application.staging,
            application.id,
            report,
            self.reporter,
        )
        .await
    }
}
