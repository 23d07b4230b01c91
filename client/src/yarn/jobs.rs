//! The jobs of an application that runs: listed, found, cancelled.

use spindle_common::id::JobId;
use spindle_hadoop::proto::yarn::{
    ApplicationReport, GetApplicationsRequest, YarnApplicationState,
};
use spindle_hadoop::yarn::ApplicationId;

use super::cluster::Cluster;
use super::session::{self, Session, id_of, state_name};
use crate::error::CliError;
use crate::output::{self, Format, table, time};
use crate::rest::JobOverview;
use crate::settings::Settings;

/// Prints the jobs of a session or another application; only those that are not over unless `all`; the exit code.
pub(crate) async fn list(
    settings: &Settings,
    given: Option<ApplicationId>,
    all: bool,
    format: Format,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let session = session::find(&cluster, settings, given).await?;
    let mut jobs = session
        .rest()?
        .overview()
        .await
        .map_err(|cause| no_answer(&session, cause))?;
    jobs.retain(|job| all || !job.is_over());
    output::print(&match format {
        Format::Json => {
            serde_json::json!({"event": "jobs", "application_id": session.id.to_string(), "jobs": jobs})
                .to_string()
        }
        Format::Text => format!("jobs of {}\n{}", session.id, draw(&jobs)),
    });
    Ok(0)
}

/// Jobs for people.
pub(crate) fn draw(jobs: &[JobOverview]) -> String {
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|job| {
            vec![
                job.jid.clone(),
                job.state.clone(),
                time(job.start_time),
                format!("{:.1} s", job.duration as f64 / 1000.0),
                job.name.clone(),
            ]
        })
        .collect();
    table(
        &["JOB", "STATE", "STARTED (UTC)", "DURATION", "NAME"],
        &rows,
    )
}

/// Prints the sessions of this user; the exit code.
pub(crate) async fn sessions(settings: &Settings, format: Format) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let found = session::all(&cluster, settings).await?;
    let rows = found
        .iter()
        .map(session_row)
        .collect::<Result<Vec<_>, CliError>>()?;
    output::print(&match format {
        Format::Json => {
            let each = |row: &Vec<String>| serde_json::json!({"application_id": row[0], "state": row[1], "started": row[2], "queue": row[3], "name": row[4], "tracking_url": row[5]});
            serde_json::json!({"event": "sessions", "sessions": rows.iter().map(each).collect::<Vec<_>>()}).to_string()
        }
        Format::Text => table(
            &[
                "APPLICATION",
                "STATE",
                "STARTED (UTC)",
                "QUEUE",
                "NAME",
                "TRACKING URL",
            ],
            &rows,
        ),
    });
    Ok(0)
}

fn session_row(report: &ApplicationReport) -> Result<Vec<String>, CliError> {
    Ok(vec![
        id_of(report)?.to_string(),
        state_name(report.yarn_application_state()).to_owned(),
        time(report.start_time()),
        report.queue().to_owned(),
        report.name().to_owned(),
        report.tracking_url().to_owned(),
    ])
}

/// Cancels a job; the exit code.
pub(crate) async fn cancel(
    settings: &Settings,
    given: Option<ApplicationId>,
    job: JobId,
    format: Format,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let session = holder(&cluster, settings, given, job).await?;
    session.rest()?.cancel(job).await.map_err(|cause| {
        CliError::cluster(format!("job {job} was not cancelled")).because(cause)
    })?;
    output::print(&match format {
        Format::Json => {
            serde_json::json!({"event": "cancelling", "application_id": session.id.to_string(), "job_id": job.to_string()})
                .to_string()
        }
        Format::Text => format!("cancelling job {job} of {}", session.id),
    });
    Ok(0)
}

/// The application that knows a job: the one given, else the first of this user's that run.
pub(crate) async fn holder(
    cluster: &Cluster,
    settings: &Settings,
    given: Option<ApplicationId>,
    job: JobId,
) -> Result<Session, CliError> {
    if let Some(id) = given {
        return session::find(cluster, settings, Some(id)).await;
    }
    let filter = GetApplicationsRequest {
        application_states: vec![YarnApplicationState::Running.into()],
        users: vec![settings.user.clone()],
        ..Default::default()
    };
    let running = cluster
        .first()
        .applications(&filter)
        .await
        .map_err(|error| cluster.rm_failed("asking for applications", error))?;
    for report in &running {
        // Applications of other kinds have no secret of ours, and so no answer.
        let Ok(session) = session::find(cluster, settings, Some(id_of(report)?)).await else {
            continue;
        };
        let Ok(rest) = session.rest() else { continue };
        if rest.job(job).await.is_ok() {
            return Ok(session);
        }
    }
    Err(CliError::cluster(format!(
        "none of your applications that run knows job {job}"
    ))
    .hint("spindle list -a shows the jobs of a session; what an application of its own left is at YARN"))
}

fn no_answer(session: &Session, cause: crate::rest::RestError) -> CliError {
    CliError::cluster(format!("{} does not answer", session.id)).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_a_table() {
        let job = JobOverview {
            jid: "00000000000000000000000000000001".to_owned(),
            name: "word count".to_owned(),
            state: "RUNNING".to_owned(),
            start_time: 0,
            duration: 1540,
        };
        assert_eq!(
            draw(&[job]),
            "JOB                               STATE    STARTED (UTC)        DURATION  NAME\n\
             00000000000000000000000000000001  RUNNING  1970-01-01 00:00:00  1.5 s     word count"
        );
    }
}
