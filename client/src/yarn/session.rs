//! Finds sessions: applications that take jobs as long as they live.
//!
//! The ResourceManager is asked, by tag, owner and state; a file that remembers the session started last is only a hint and
//! is checked there before it is believed. Which of several is meant is never guessed.

mod attend;
mod start;
mod submit;

use std::path::{Path, PathBuf};

use futures::future::join;
use spindle_hadoop::fs::FsPath;
use spindle_hadoop::ipc::ExceptionClass;
use spindle_hadoop::proto::yarn::{
    ApplicationReport, GetApplicationsRequest, YarnApplicationState,
};
use spindle_hadoop::yarn::ApplicationId;
use spindle_rpc::Secret;

use super::cluster::Cluster;
use super::reports::is_over;
use crate::error::CliError;
use crate::rest::RestClient;
use crate::settings::Settings;

pub(crate) use attend::{attach, stop};
pub(crate) use start::{query, start};
pub(crate) use submit::run;

/// The tag of every session.
pub(crate) const SESSION_TAG: &str = "spindle-session";

const TO_START: &str = "start one: spindle session start, or scripts/yarn-session.sh";

/// An application of this user, and the key to its REST API.
pub(crate) struct Session {
    pub(crate) id: ApplicationId,
    pub(crate) report: ApplicationReport,
    pub(crate) secret: Secret,
    pub(crate) staging: FsPath,
}

impl Session {
    /// Its REST API, if it runs.
    pub(crate) fn rest(&self) -> Result<RestClient, CliError> {
        let report = &self.report;
        if report.yarn_application_state() != YarnApplicationState::Running {
            return Err(CliError::cluster(format!(
                "{} is not running yet, it is {}",
                self.id,
                state_name(report.yarn_application_state())
            )));
        }
        RestClient::new(report.original_tracking_url(), &self.secret)
            .map_err(|cause| CliError::cluster("the REST client cannot be made").because(cause))
    }

    pub(crate) fn is_session(&self) -> bool {
        is_session(&self.report)
    }
}

/// Finds the application that is meant: the one given, else the session started last, else the only one there is.
pub(crate) async fn find(
    cluster: &Cluster,
    settings: &Settings,
    given: Option<ApplicationId>,
) -> Result<Session, CliError> {
    if let Some(id) = given {
        let (report, secret) = look(cluster, settings, id).await;
        let report = report.map_err(|error| unknown(cluster, id, error))?;
        if is_over(report.yarn_application_state()) {
            return Err(CliError::cluster(format!(
                "{id} is over: {}",
                state_name(report.yarn_application_state())
            )));
        }
        let staging = staging(cluster, settings, id)?;
        let secret = secret.map_err(|error| not_ours(&report, &settings.user, error))?;
        return Ok(Session {
            id,
            report,
            secret,
            staging,
        });
    }
    if let Some(id) = hint_file().as_deref().and_then(read_hint) {
        let (report, secret) = look(cluster, settings, id).await;
        match report {
            Ok(report) if is_usable(&report, &settings.user) => {
                let staging = staging(cluster, settings, id)?;
                return Ok(Session {
                    id,
                    report,
                    secret: secret?,
                    staging,
                });
            }
            Ok(_) => tracing::debug!(%id, "the session started last is over"),
            Err(error) if error.class() == Some(&ExceptionClass::ApplicationNotFound) => {
                tracing::debug!(%id, "this cluster does not know the session started last");
            }
            Err(error) => return Err(unknown(cluster, id, error)),
        }
    }
    let report = choose(all(cluster, settings).await?)?;
    let id = id_of(&report)?;
    let staging = staging(cluster, settings, id)?;
    let secret = read_secret(cluster, &staging, id).await?;
    Ok(Session {
        id,
        report,
        secret,
        staging,
    })
}

/// All sessions of this user that run or wait to run, oldest first.
pub(crate) async fn all(
    cluster: &Cluster,
    settings: &Settings,
) -> Result<Vec<ApplicationReport>, CliError> {
    // The type is the user's to choose, the tag is not.
    let filter = GetApplicationsRequest {
        application_states: vec![
            YarnApplicationState::Running.into(),
            YarnApplicationState::Accepted.into(),
        ],
        users: vec![settings.user.clone()],
        application_tags: vec![SESSION_TAG.to_owned()],
        ..Default::default()
    };
    let mut found = cluster
        .first()
        .applications(&filter)
        .await
        .map_err(|error| cluster.rm_failed("asking for sessions", error))?;
    found.sort_by_key(ApplicationReport::start_time);
    Ok(found)
}

async fn look(
    cluster: &Cluster,
    settings: &Settings,
    id: ApplicationId,
) -> (
    Result<ApplicationReport, spindle_hadoop::yarn::YarnError>,
    Result<Secret, CliError>,
) {
    let secret = async {
        let staging = staging(cluster, settings, id)?;
        read_secret(cluster, &staging, id).await
    };
    join(cluster.first().application_report(id), secret).await
}

fn staging(cluster: &Cluster, settings: &Settings, id: ApplicationId) -> Result<FsPath, CliError> {
    cluster
        .base(settings)?
        .join(&id.to_string())
        .map_err(|cause| CliError::usage("the staging directory has no usable name").because(cause))
}

async fn read_secret(
    cluster: &Cluster,
    staging: &FsPath,
    id: ApplicationId,
) -> Result<Secret, CliError> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        CliError::cluster(format!("cannot read the secret of {id} in {staging}"))
            .because(cause)
            .hint("it is there as long as the application runs, for the user who started it, under the same yarn.staging-directory")
    };
    let file = staging.join("secret").map_err(|e| failed(e.into()))?;
    let bytes = cluster.fs.read(&file).await.map_err(|e| failed(e.into()))?;
    Secret::from_hex(String::from_utf8_lossy(&bytes).trim()).map_err(|e| failed(e.into()))
}

fn unknown(
    cluster: &Cluster,
    id: ApplicationId,
    error: spindle_hadoop::yarn::YarnError,
) -> CliError {
    if error.class() == Some(&ExceptionClass::ApplicationNotFound) {
        return CliError::cluster(format!("this cluster knows no {id}"))
            .hint("spindle session list shows the sessions that run");
    }
    cluster.rm_failed("asking for the application's report", error)
}

fn not_ours(report: &ApplicationReport, user: &str, error: CliError) -> CliError {
    if report.user() == user {
        return error;
    }
    CliError::cluster(format!(
        "the application belongs to user {}, you are {user}",
        report.user()
    ))
}

pub(crate) fn id_of(report: &ApplicationReport) -> Result<ApplicationId, CliError> {
    ApplicationId::try_from(report.application_id.as_ref()).map_err(|cause| {
        CliError::cluster("the ResourceManager told an application without an id").because(cause)
    })
}

/// The session that is meant when none is named.
fn choose(mut candidates: Vec<ApplicationReport>) -> Result<ApplicationReport, CliError> {
    match candidates.len() {
        0 => Err(CliError::cluster("you have no session on this cluster").hint(TO_START)),
        1 => Ok(candidates.remove(0)),
        n => {
            let named: Vec<String> = candidates
                .iter()
                .map(|report| {
                    let id = id_of(report).map_or_else(|_| "?".to_owned(), |id| id.to_string());
                    format!("{id} (`{}`)", report.name())
                })
                .collect();
            Err(CliError::usage(format!(
                "you have {n} sessions on this cluster: {}",
                named.join(", ")
            ))
            .hint("name one: -yid APPLICATION"))
        }
    }
}

fn is_session(report: &ApplicationReport) -> bool {
    report.application_tags.iter().any(|tag| tag == SESSION_TAG)
}

/// Whether the ResourceManager confirms what the hint says.
fn is_usable(report: &ApplicationReport, user: &str) -> bool {
    let state = report.yarn_application_state();
    is_session(report)
        && report.user() == user
        && [
            YarnApplicationState::Running,
            YarnApplicationState::Accepted,
        ]
        .contains(&state)
}

/// YARN's word for a state.
pub(crate) fn state_name(state: YarnApplicationState) -> &'static str {
    match state {
        YarnApplicationState::New => "NEW",
        YarnApplicationState::NewSaving => "NEW_SAVING",
        YarnApplicationState::Submitted => "SUBMITTED",
        YarnApplicationState::Accepted => "ACCEPTED",
        YarnApplicationState::Running => "RUNNING",
        YarnApplicationState::Finished => "FINISHED",
        YarnApplicationState::Failed => "FAILED",
        YarnApplicationState::Killed => "KILLED",
    }
}

/// The file that remembers the session started last.
fn hint_file() -> Option<PathBuf> {
    Some(std::env::home_dir()?.join(".spindle").join("session"))
}

fn read_hint(file: &Path) -> Option<ApplicationId> {
    parse_hint(&std::fs::read_to_string(file).ok()?)
}

fn parse_hint(text: &str) -> Option<ApplicationId> {
    text.lines().next()?.trim().parse().ok()
}

/// Remembers a session; whoever cannot is asked for its id later.
fn write_hint(file: &Path, id: ApplicationId) {
    let written = || {
        let directory = file.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(directory)?;
        let temporary = tempfile::NamedTempFile::new_in(directory)?;
        std::fs::write(temporary.path(), format!("{id}\n"))?;
        temporary.persist(file).map_err(|error| error.error)?;
        Ok::<(), std::io::Error>(())
    };
    if let Err(error) = written() {
        tracing::warn!(%error, "the session is not remembered in {}", file.display());
    }
}

/// Forgets a session that is over.
fn forget(file: &Path, id: ApplicationId) {
    if read_hint(file) == Some(id)
        && let Err(error) = std::fs::remove_file(file)
    {
        tracing::debug!(%error, "the hint stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u32, state: YarnApplicationState) -> ApplicationReport {
        let id = ApplicationId {
            cluster_timestamp: 1_700_000_000_000,
            id: number,
        };
        ApplicationReport {
            application_id: Some(id.into()),
            user: Some("ann".to_owned()),
            name: Some(format!("session {number}")),
            yarn_application_state: Some(state.into()),
            application_tags: vec!["mine".to_owned(), SESSION_TAG.to_owned()],
            ..Default::default()
        }
    }

    #[test]
    fn the_only_session_is_meant_and_of_several_none() {
        let running = |number| report(number, YarnApplicationState::Running);
        let none = choose(Vec::new()).unwrap_err();
        assert!(none.hint_text().unwrap().contains("spindle session start"));
        assert_eq!(choose(vec![running(1)]).unwrap(), running(1));
        let several = choose(vec![running(1), running(2)]).unwrap_err();
        assert_eq!(
            several.message(),
            "you have 2 sessions on this cluster: application_1700000000000_0001 (`session 1`), application_1700000000000_0002 (`session 2`)"
        );
    }

    #[test]
    fn a_hint_is_believed_when_the_resource_manager_confirms_it() {
        assert!(is_usable(&report(1, YarnApplicationState::Running), "ann"));
        assert!(is_usable(&report(1, YarnApplicationState::Accepted), "ann"));
        assert!(!is_usable(
            &report(1, YarnApplicationState::Finished),
            "ann"
        ));
        assert!(!is_usable(&report(1, YarnApplicationState::Running), "bob"));
        let per_job = ApplicationReport {
            application_tags: Vec::new(),
            ..report(1, YarnApplicationState::Running)
        };
        assert!(!is_usable(&per_job, "ann"));
    }

    #[test]
    fn a_hint_is_one_line_with_an_application_id() {
        let id = "application_1700000000000_0042".parse().unwrap();
        assert_eq!(parse_hint("application_1700000000000_0042\n"), Some(id));
        for text in ["", "\n", "container_1_0001_01_000001", "application_x_1"] {
            assert_eq!(parse_hint(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_session_that_is_over_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep").join("session");
        let id = |number: u32| ApplicationId {
            cluster_timestamp: 1_700_000_000_000,
            id: number,
        };
        write_hint(&file, id(1));
        write_hint(&file, id(2));
        forget(&file, id(1));
        assert_eq!(read_hint(&file), Some(id(2)));
        forget(&file, id(2));
        assert_eq!(read_hint(&file), None);
    }
}
