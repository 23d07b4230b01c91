//! What the cluster knows of this user's applications.

use std::collections::BTreeMap;

use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{FileSystem, FsPath};
use spindle_hadoop::proto::yarn::{
    ApplicationReport, GetApplicationsRequest, YarnApplicationState,
};
use spindle_hadoop::yarn::ApplicationId;

use super::cluster::Cluster;
use super::session::SESSION_TAG;
use crate::error::CliError;
use crate::gc::Life;
use crate::settings::Settings;

/// The file system, `.spindle` of the user in it, the user's applications, and the ResourceManagers that told of them.
///
/// # Errors
/// When NameNode or ResourceManager cannot be reached.
pub(crate) async fn applications_of_user(
    settings: &Settings,
    hadoop: &Configuration,
) -> Result<
    (
        FileSystem,
        FsPath,
        BTreeMap<ApplicationId, Life>,
        Vec<String>,
    ),
    CliError,
> {
    let cluster = Cluster::connect(hadoop, &settings.user).await?;
    let filter = GetApplicationsRequest {
        users: vec![settings.user.clone()],
        ..Default::default()
    };
    let reports = cluster.first().applications(&filter).await;
    let reports =
        reports.map_err(|error| cluster.rm_failed("asking for your applications", error))?;
    let applications = reports
        .iter()
        .filter_map(|report| {
            let id = report.application_id.as_ref()?.try_into().ok()?;
            Some((id, life(report, &settings.yarn.application_type)))
        })
        .collect();
    let managers = cluster.resource_managers();
    Ok((
        cluster.fs.clone(),
        cluster.base(settings)?,
        applications,
        managers,
    ))
}

/// Directory of all that Spindle keeps for the user: `.spindle` in `home`, or in `yarn.staging-directory`.
///
/// # Errors
/// When one of the two cannot be used as a path.
pub(crate) fn base(
    fs: &FileSystem,
    home: &FsPath,
    settings: &Settings,
) -> Result<FsPath, CliError> {
    if let Some(directory) = &settings.yarn.staging_directory {
        let parent = fs.resolve(directory);
        return parent
            .and_then(|parent| parent.join(&format!("{}/.spindle", settings.user)))
            .map_err(|cause| {
                CliError::usage("yarn.staging-directory cannot be used").because(cause)
            });
    }
    home.join(".spindle").map_err(|cause| {
        CliError::usage("the home directory in HDFS has no usable name").because(cause)
    })
}

fn life(report: &ApplicationReport, ours: &str) -> Life {
    match report.yarn_application_state() {
        YarnApplicationState::Finished
        | YarnApplicationState::Failed
        | YarnApplicationState::Killed => Life::Over,
        YarnApplicationState::New
        | YarnApplicationState::NewSaving
        | YarnApplicationState::Submitted
        | YarnApplicationState::Accepted
        | YarnApplicationState::Running => {
            // YARN cuts long names of types and may change their case.
            if report.application_tags.iter().any(|tag| tag == SESSION_TAG) {
                Life::Session
            } else if report.application_type().eq_ignore_ascii_case(ours) {
                Life::Alive
            } else {
                Life::Foreign
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_application_that_has_ended_is_over() {
        let of = |state: YarnApplicationState, kind: &str| {
            let report = ApplicationReport {
                yarn_application_state: Some(state.into()),
                application_type: Some(kind.to_owned()),
                ..Default::default()
            };
            life(&report, "Spindle")
        };
        assert_eq!(of(YarnApplicationState::Accepted, "SPINDLE"), Life::Alive);
        assert_eq!(of(YarnApplicationState::Running, "other"), Life::Foreign);
        assert_eq!(of(YarnApplicationState::Killed, "other"), Life::Over);
        let session = ApplicationReport {
            application_tags: vec![SESSION_TAG.to_owned()],
            ..Default::default()
        };
        assert_eq!(life(&session, "Spindle"), Life::Session);
        assert_eq!(
            life(&ApplicationReport::default(), "Spindle"),
            Life::Foreign,
            "a report without a state is not over"
        );
    }
}
