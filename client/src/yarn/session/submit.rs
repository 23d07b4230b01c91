//! Runs a job on a session: plans it here, brings its executable into the cache if it is not there, and hands over the plan.

use std::time::{Duration, Instant};

use spindle_common::deployment::{ArtifactSpec, JOB_EXECUTABLE};
use spindle_common::job_graph::{JobSubmission, ProgramArtifact, ProgramSpec};
use spindle_hadoop::proto::yarn::YarnApplicationState;
use spindle_hadoop::yarn::ApplicationId;

use super::{Session, find};
use crate::error::{CliError, Exit};
use crate::output::{Event, Reporter, new_job_id};
use crate::rest::{RestClient, RestError};
use crate::settings::Settings;
use crate::yarn::artifacts::{self, Artifact, Cached};
use crate::yarn::cluster::Cluster;
use crate::yarn::follow::Follower;
use crate::yarn::reports::{LONG, PATIENCE, Reports, SHORT, is_over};
use crate::yarn::watch::{INTERRUPTED, left};
use crate::yarn::{Job, planned};

/// Between two looks at a job that has just been submitted.
const EAGER: Duration = Duration::from_millis(15);
/// How long a job counts as just submitted.
const FRESH: Duration = Duration::from_secs(1);

/// Submits a job to a session and, if attached, watches it to its end; the exit code.
pub(crate) async fn run(
    job: Job,
    settings: Settings,
    given: Option<ApplicationId>,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let Job {
        path,
        bytes,
        args,
        origin,
    } = job;
    let artifact = Artifact {
        name: JOB_EXECUTABLE.to_owned(),
        bytes,
    };
    // The ResourceManager, HDFS and the program work side by side, and nothing is changed before all agree.
    let (session, cached, graph) = tokio::try_join!(
        find(&cluster, &settings, given),
        artifacts::find(&cluster, &settings, artifact),
        planned(path, args.clone(), origin, &settings, &hadoop),
    )?;
    if !session.is_session() {
        return Err(CliError::usage(format!("{} is not a session", session.id))
            .hint("spindle session list shows the sessions that run"));
    }
    let (artifact, uploaded) = match cached {
        Cached::There(spec) => (spec, 0),
        Cached::Missing(artifact) => {
            let uploaded = artifacts::upload(&cluster, &settings, vec![artifact]).await?;
            reporter.event(&Event::Uploaded {
                bytes: uploaded.bytes,
                files: uploaded.files,
            });
            let bytes = uploaded.bytes;
            let spec = uploaded.artifacts.into_iter().next();
            (spec.expect("one artifact was uploaded"), bytes)
        }
    };
    let session = until_running(&cluster, session, reporter).await?;
    let rest = session.rest()?;
    let job = new_job_id();
    reporter.set_name(&graph.name);
    let name = graph.name.clone();
    let submission = JobSubmission {
        job,
        graph,
        program: ProgramSpec {
            executable: JOB_EXECUTABLE.to_owned(),
            args,
            artifact: Some(program(&artifact)),
        },
        config: settings.config.to_pairs(),
    };
    let encoded = spindle_rpc::job_graph::encode_submission(&submission);
    rest.submit(&encoded)
        .await
        .map_err(|error| refused(&session, error))?;
    reporter.event(&Event::Submitted {
        application_id: session.id.to_string(),
        job_id: Some(job.to_string()),
        tracking_url: session.report.tracking_url().to_owned(),
        bytes_uploaded: uploaded + encoded.len() as u64,
        to_session: true,
    });
    if !settings.execution.attached {
        return Ok(0);
    }
    let mut watch = Watch {
        reports: Reports::new(&cluster, session.id),
        session: &session,
        rest,
        follower: Follower::new(job, name),
        reporter,
    };
    let over = {
        let end = watch.until_end();
        tokio::pin!(end);
        tokio::select! {
            over = &mut end => Some(over?),
            () = left() => None,
        }
    };
    if over.is_some() {
        return watch.conclude().await;
    }
    if settings.execution.shutdown_on_attached_exit {
        let cancelled = watch.rest.cancel(job).await;
        cancelled.map_err(|cause| CliError::cluster("cannot cancel the job").because(cause))?;
        watch.until_end().await?;
        return watch.conclude().await;
    }
    watch.reporter.event(&Event::Detached {
        application_id: session.id.to_string(),
        job_id: Some(job.to_string()),
        reason: "this client leaves; the job goes on".to_owned(),
        to_stop: format!("spindle cancel -yid {} {job}", session.id),
    });
    Ok(INTERRUPTED)
}

/// A file in the cache bears its hash as its name.
fn program(artifact: &ArtifactSpec) -> ProgramArtifact {
    let sha256 = artifact.uri.rsplit('/').next().unwrap_or_default();
    ProgramArtifact {
        uri: artifact.uri.clone(),
        size: artifact.size,
        sha256: sha256.to_owned(),
    }
}

fn refused(session: &Session, error: RestError) -> CliError {
    let exit = match &error {
        RestError::Refused { status: 400, .. } => Exit::Usage,
        RestError::Refused { .. } | RestError::Unreachable { .. } | RestError::Nonsense { .. } => {
            Exit::Cluster
        }
    };
    CliError::new(exit, format!("session {} did not take the job", session.id)).because(error)
}

/// A session that was started a moment ago may still wait for its container.
async fn until_running(
    cluster: &Cluster,
    mut session: Session,
    reporter: &mut Reporter,
) -> Result<Session, CliError> {
    let mut reports = Reports::new(cluster, session.id);
    let since = Instant::now();
    while session.report.yarn_application_state() != YarnApplicationState::Running {
        session.report = reports.ask(reporter).await?;
        let state = session.report.yarn_application_state();
        if is_over(state) {
            return Err(ended(&session, session.report.diagnostics()));
        }
        if state == YarnApplicationState::Accepted && since.elapsed() > PATIENCE {
            reports.waits_for(&session.report, reporter).await;
        }
        tokio::time::sleep(SHORT).await;
    }
    Ok(session)
}

fn ended(session: &Session, diagnostics: &str) -> CliError {
    let what = format!("session {} has ended", session.id);
    match diagnostics.trim().trim_start_matches("N/A") {
        "" => CliError::new(Exit::JobFailed, what),
        why => CliError::new(Exit::JobFailed, format!("{what}: {why}")),
    }
}

struct Watch<'a> {
    reports: Reports<'a>,
    session: &'a Session,
    rest: RestClient,
    follower: Follower,
    reporter: &'a mut Reporter,
}

impl Watch<'_> {
    async fn until_end(&mut self) -> Result<(), CliError> {
        let start = Instant::now();
        let mut since = start;
        loop {
            match self.follower.look(&self.rest, self.reporter).await {
                Ok(changed) => {
                    if self.follower.is_over() {
                        return Ok(());
                    }
                    if changed {
                        since = Instant::now();
                    }
                }
                Err(error) if error.is_not_found() => {
                    return Err(CliError::new(
                        Exit::JobFailed,
                        format!("session {} does not know the job any more", self.session.id),
                    )
                    .because(error)
                    .hint("it ended long ago, or it was cancelled; if neither, the record of the job was lost with an ApplicationMaster: submit it again"));
                }
                Err(error) => {
                    tracing::debug!(%error, "the JobManager does not answer");
                    self.find_job_manager().await?;
                }
            }
            tokio::time::sleep(if start.elapsed() < FRESH {
                EAGER
            } else if since.elapsed() < PATIENCE {
                SHORT
            } else {
                LONG
            })
            .await;
        }
    }

    /// Another attempt has another address, and a session that is over has none.
    async fn find_job_manager(&mut self) -> Result<(), CliError> {
        let report = self.reports.cluster.report(self.session.id).await?;
        let state = report.yarn_application_state();
        if is_over(state) {
            return Err(ended(self.session, report.diagnostics()));
        }
        if state == YarnApplicationState::Running
            && let Ok(rest) = RestClient::new(report.original_tracking_url(), &self.session.secret)
        {
            self.rest = rest;
        }
        Ok(())
    }

    async fn conclude(self) -> Result<u8, CliError> {
        self.follower
            .fetch_collected(&self.rest, self.reporter)
            .await;
        match self.follower.state() {
            "FINISHED" => Ok(0),
            "CANCELED" => Ok(Exit::Cancelled as u8),
            _ => Err(CliError::new(
                Exit::JobFailed,
                self.follower
                    .cause
                    .clone()
                    .unwrap_or_else(|| format!("job {} failed", self.follower.job)),
            )
            .hint(format!(
                "its logs: spindle logs -yid {} {}",
                self.session.id, self.follower.job
            ))),
        }
    }
}
