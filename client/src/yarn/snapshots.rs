//! Checkpoints and savepoints of jobs that run, and the end of a job with one.

use std::time::Duration;

use spindle_common::id::JobId;
use spindle_hadoop::proto::yarn::FinalApplicationStatus;
use spindle_hadoop::yarn::ApplicationId;

use super::cluster::Cluster;
use super::jobs::holder;
use super::reports::{PATIENCE, Reports};
use super::session::Session;
use crate::error::{CliError, Exit};
use crate::output::{self, Format};
use crate::rest::{RestError, Snapshot};
use crate::settings::Settings;

/// Between two looks at what was asked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long YARN may take to hear of the end of an application.
const END: Duration = Duration::from_secs(30);

/// What is to be taken.
#[derive(Debug)]
pub(crate) enum Wanted {
    Checkpoint,
    Savepoint {
        directory: Option<String>,
    },
    /// A savepoint that the job ends with.
    Stop {
        directory: Option<String>,
        drain: bool,
    },
}

impl Wanted {
    const fn event(&self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Savepoint { .. } => "savepoint",
            Self::Stop { .. } => "stopped",
        }
    }

    /// The path to ask at below the job's, and the body.
    fn request(&self) -> (&'static str, serde_json::Value) {
        match self {
            Self::Checkpoint => ("checkpoints", serde_json::json!({})),
            Self::Savepoint { directory } => (
                "savepoints",
                serde_json::json!({"target-directory": directory}),
            ),
            Self::Stop { directory, drain } => (
                "stop",
                serde_json::json!({"targetDirectory": directory, "drain": drain}),
            ),
        }
    }

    /// The path at which its outcome is told.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoints",
            Self::Savepoint { .. } | Self::Stop { .. } => "savepoints",
        }
    }
}

/// Has a snapshot taken and waits for it; the exit code.
pub(crate) async fn take_snapshot(
    settings: &Settings,
    given: Option<ApplicationId>,
    job: JobId,
    wanted: &Wanted,
    format: Format,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let session = holder(&cluster, settings, given, job).await?;
    let rest = session.rest()?;
    let (path, body) = wanted.request();
    let refused = |cause| CliError::cluster(format!("{} refused", session.id)).because(cause);
    let request = rest.ask_for(job, path, &body).await.map_err(refused)?;
    let mut place = None;
    let location = loop {
        match rest.snapshot(job, wanted.outcome(), &request).await {
            Ok(Snapshot::InProgress { location }) => place = location.or(place),
            Ok(Snapshot::Completed { location }) => break location,
            Ok(Snapshot::Failed { why }) => return Err(CliError::new(Exit::JobFailed, why)),
            Err(cause) => match (wanted, place) {
                // The application has ended with its job, as was wanted.
                (Wanted::Stop { .. }, Some(place)) if is_gone(&cause) => {
                    has_succeeded(&cluster, &session, &place).await?;
                    break place;
                }
                (Wanted::Checkpoint | Wanted::Savepoint { .. } | Wanted::Stop { .. }, _) => {
                    return Err(CliError::cluster(format!(
                        "{} no longer answers: what became of the request is not known",
                        session.id
                    ))
                    .because(cause));
                }
            },
        }
        tokio::time::sleep(LOOK).await;
    };
    output::print(&match format {
        Format::Json => {
            let application = session.id.to_string();
            serde_json::json!({
                "event": wanted.event(),
                "application_id": application,
                "job_id": job.to_string(),
                "path": location,
            })
            .to_string()
        }
        Format::Text => match wanted {
            Wanted::Checkpoint => format!("checkpoint of job {job} completed: {location}"),
            Wanted::Savepoint { .. } => format!("savepoint of job {job} completed: {location}"),
            Wanted::Stop { .. } => format!("job {job} has finished with the savepoint {location}"),
        },
    });
    Ok(0)
}

const fn is_gone(error: &RestError) -> bool {
    match error {
        RestError::Unreachable { .. } => true,
        // As the cluster ends, and what a proxy says instead of it.
        RestError::Refused { status, .. } => *status >= 404,
        RestError::Nonsense { .. } => false,
    }
}

async fn has_succeeded(cluster: &Cluster, session: &Session, place: &str) -> Result<(), CliError> {
    let mut reports = Reports::new(cluster, session.id);
    let limit = END.max(PATIENCE);
    let report = reports.until_end_quietly(limit, "end").await?;
    match report.final_application_status() {
        FinalApplicationStatus::AppSucceeded => Ok(()),
        FinalApplicationStatus::AppUndefined
        | FinalApplicationStatus::AppFailed
        | FinalApplicationStatus::AppKilled
        | FinalApplicationStatus::AppEnded => Err(CliError::new(
            Exit::JobFailed,
            format!(
                "the job did not finish as it was told to, and the savepoint {place} may be incomplete: {}",
                report.diagnostics()
            ),
        )
        .hint(format!("spindle state --verify {place}"))),
    }
}
