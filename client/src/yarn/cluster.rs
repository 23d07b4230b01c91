//! The cluster as the client sees it: its ResourceManager and its file system.

use std::time::Duration;

use spindle_common::resource::{ByteSize, ResourceProfile};
use spindle_hadoop::conf::{Configuration, RmAddress};
use spindle_hadoop::fs::{FileSystem, FsPath};
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::proto::yarn::{ApplicationReport, QueueInfo};
use spindle_hadoop::yarn::{
    ApplicationId, FailoverPolicy, ResourceManagerClient, ResourceManagers, YarnError,
};

use super::checks::Limits;
use super::scheduler::RmRest;
use crate::error::CliError;
use crate::settings::Settings;

/// How long a ResourceManager may take to answer the first question.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// How long a ResourceManager may be away while an application is watched.
const RESTART_WAIT: Duration = Duration::from_secs(60);

/// Connections to one cluster.
pub(crate) struct Cluster {
    pub(crate) fs: FileSystem,
    /// For the first question: a ResourceManager that is down is said soon.
    first: ResourceManagerClient,
    /// For an application that is under way: outlasts a restart of the ResourceManager.
    rm: ResourceManagerClient,
    /// For what only the ResourceManager's web address tells; absent if it has none.
    pub(crate) rest: Option<RmRest>,
    addresses: Vec<RmAddress>,
    home: FsPath,
}

impl Cluster {
    /// Makes sure that the NameNode is there.
    pub(crate) async fn connect(hadoop: &Configuration, user: &str) -> Result<Self, CliError> {
        let cluster = Self::open(hadoop, user)?;
        cluster.reach_fs().await?;
        Ok(cluster)
    }

    /// Opens no connection.
    pub(crate) fn open(hadoop: &Configuration, user: &str) -> Result<Self, CliError> {
        let broken =
            |cause| CliError::usage("the Hadoop configuration cannot be used").because(cause);
        let addresses = hadoop
            .resource_managers()
            .map_err(|cause| broken(Box::new(cause) as Box<dyn std::error::Error + Send + Sync>))?;
        let named = addresses.iter().map(|rm| {
            (
                rm.id.clone().unwrap_or_else(|| "rm".to_owned()),
                format!("{}:{}", rm.client.connect_host(), rm.client.port),
            )
        });
        let rms = ResourceManagers::new(named).map_err(|cause| broken(Box::new(cause)))?;
        let hasty = FailoverPolicy {
            max_wait: FIRST_WAIT,
            ..FailoverPolicy::default()
        };
        let patient = FailoverPolicy {
            max_wait: RESTART_WAIT,
            ..FailoverPolicy::default()
        };
        let first = ResourceManagerClient::new(rms.clone(), user, ClientConfig::default(), hasty);
        let rm = ResourceManagerClient::new(rms, user, ClientConfig::default(), patient);
        let fs = FileSystem::new(hadoop, user).map_err(|cause| broken(Box::new(cause)))?;
        let home = fs.home_dir().map_err(|cause| broken(Box::new(cause)))?;
        Ok(Self {
            fs,
            first,
            rm,
            rest: RmRest::new(hadoop, user).ok(),
            addresses,
            home,
        })
    }

    /// Makes sure that the NameNode is there.
    pub(crate) async fn reach_fs(&self) -> Result<(), CliError> {
        // A home that is missing is made with the first upload; a NameNode that is missing is said now.
        match self.fs.stat(&self.home).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(CliError::cluster("HDFS cannot be used").because(error)),
        }
    }

    /// Directory of all that Spindle keeps for the user: `.spindle` in the home directory, or in `yarn.staging-directory`.
    pub(crate) fn base(&self, settings: &Settings) -> Result<FsPath, CliError> {
        super::user::base(&self.fs, &self.home, settings)
    }

    /// A new application's id, and what the cluster allows it.
    pub(crate) async fn limits(&self, queue: &str) -> Result<Limits, CliError> {
        let new = self
            .first
            .new_application()
            .await
            .map_err(|error| self.rm_failed("asking for an application id", error))?;
        let metrics = self
            .rm
            .cluster_metrics()
            .await
            .map_err(|error| self.rm_failed("asking for the cluster's nodes", error))?;
        // A ResourceManager that does not tell its queues decides on them itself at submission.
        let root = self.rm.queue_tree("root").await.ok().flatten();
        tracing::debug!(queue, found = root.is_some(), "queues");
        let mut queues = Vec::new();
        if let Some(root) = &root {
            leaves(root, &mut queues);
        }
        Ok(Limits {
            application: new.id,
            largest: ResourceProfile {
                memory: ByteSize::from_mib(
                    u64::try_from(new.maximum_capability.memory()).unwrap_or(0),
                ),
                vcores: u32::try_from(new.maximum_capability.virtual_cores()).unwrap_or(0),
            },
            queues,
            nodes: u32::try_from(metrics.num_active_nms()).unwrap_or(0),
        })
    }

    /// What the ResourceManager knows of an application.
    pub(crate) async fn report(&self, id: ApplicationId) -> Result<ApplicationReport, CliError> {
        self.rm
            .application_report(id)
            .await
            .map_err(|error| self.rm_failed("asking for the application's report", error))
    }

    /// Ends an application through YARN; `why` is kept there.
    pub(crate) async fn kill(&self, id: ApplicationId, why: &str) -> Result<(), CliError> {
        let killed = self.rm.kill_application(id, why).await;
        killed
            .map(drop)
            .map_err(|error| self.rm_failed("killing the application", error))
    }

    /// The ResourceManager's client for the first question of a command: one that is down is said soon.
    pub(crate) const fn first(&self) -> &ResourceManagerClient {
        &self.first
    }

    /// The ResourceManager's client, for what only one place asks.
    pub(crate) const fn rm(&self) -> &ResourceManagerClient {
        &self.rm
    }

    /// `host:port` of each ResourceManager.
    pub(crate) fn resource_managers(&self) -> Vec<String> {
        self.addresses
            .iter()
            .map(|rm| rm.client.to_string())
            .collect()
    }

    /// An error of the ResourceManager: where it is, and which key says so.
    pub(crate) fn rm_failed(&self, what: &str, error: YarnError) -> CliError {
        let places: Vec<String> = self
            .addresses
            .iter()
            .map(|rm| {
                format!(
                    "{} (from {}, {})",
                    rm.client, rm.client.key, rm.client.origin
                )
            })
            .collect();
        CliError::cluster(format!(
            "{what} failed: ResourceManager at {}",
            places.join(" or ")
        ))
        .because(error)
    }
}

fn leaves(queue: &QueueInfo, found: &mut Vec<String>) {
    if queue.child_queues.is_empty() {
        found.push(
            if queue.queue_path().is_empty() {
                queue.queue_name()
            } else {
                queue.queue_path()
            }
            .to_owned(),
        );
    }
    for child in &queue.child_queues {
        leaves(child, found);
    }
}
