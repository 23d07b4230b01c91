//! Removes what lies on a file system only for the time of the application.

use std::time::Duration;

use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{FileSystem, FsError};
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::proto::yarn as pb;
use spindle_hadoop::yarn::{
    ApplicationId, FailoverPolicy, ResourceManagerClient, ResourceManagers,
};

/// Longer than this a removal is not waited for: it is named in the log and stays behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes directories, side by side; what cannot be removed is said in the log.
pub(crate) async fn remove(fs: FileSystem, directories: Vec<String>) {
    let mut removals = tokio::task::JoinSet::new();
    for directory in directories {
        let fs = fs.clone();
        removals.spawn(async move {
            match tokio::time::timeout(PATIENCE, remove_one(&fs, &directory)).await {
                Ok(Ok(existed)) => tracing::info!(directory, existed, "removed staging"),
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(directory, error, "staging stays behind");
                }
                Err(_) => tracing::warn!(directory, "staging stays behind: no answer in time"),
            }
        });
    }
    while removals.join_next().await.is_some() {}
}

async fn remove_one(fs: &FileSystem, directory: &str) -> Result<bool, FsError> {
    let path = fs.resolve(directory)?;
    fs.delete(&path, true).await
}

/// Whether the ResourceManager says that the application is over: then nobody needs its staging any more. A new attempt would.
pub(crate) async fn application_is_over(
    hadoop: &Configuration,
    user: &str,
    application: ApplicationId,
) -> bool {
    let Ok(managers) = hadoop.resource_managers() else {
        return false;
    };
    let (Ok(members), Ok(config)) = (
        ResourceManagers::clients(&managers),
        ClientConfig::from_configuration(hadoop),
    ) else {
        return false;
    };
    let client = ResourceManagerClient::new(members, user, config, FailoverPolicy::ONCE);
    let report = client.application_report(application).await;
    report.is_ok_and(|report| {
        matches!(
            report.yarn_application_state(),
            pb::YarnApplicationState::Killed
                | pb::YarnApplicationState::Failed
                | pb::YarnApplicationState::Finished
        )
    })
}
