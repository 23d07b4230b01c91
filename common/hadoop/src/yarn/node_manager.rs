//! ContainerManagementProtocol: starting, stopping and asking after containers on their nodes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::failover::{FailoverClient, FailoverPolicy, ResourceManagers};
use super::{CONTAINER_MANAGEMENT, ContainerId, NmTokenCache, NodeId};
use crate::ipc::{Auth, ClientConfig, ExceptionClass, IpcError, Method, RemoteException};
use crate::proto::yarn as pb;

pub use crate::proto::yarn::SignalContainerCommand as SignalCommand;

/// A second start of the same container is refused by the NodeManager, which [`Started::already_running`] tells.
const START_CONTAINERS: Method = Method::idempotent("startContainers");
const STOP_CONTAINERS: Method = Method::idempotent("stopContainers");
const GET_CONTAINER_STATUSES: Method = Method::idempotent("getContainerStatuses");
const SIGNAL_TO_CONTAINER: Method = Method::once("signalToContainer");
const UPDATE_CONTAINER: Method = Method::idempotent("updateContainer");

/// What the NodeManager says of a container that was started before; YARN has no class of its own for it.
const RELAUNCH: &str = "Attempt to relaunch the same container";

/// A call to a NodeManager failed as a whole.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NmError {
    /// The ResourceManager has not sent a token for the node.
    #[error("there is no NMToken for {0}")]
    NoToken(NodeId),
    /// The call itself.
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

/// What went wrong with one container of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFailure {
    /// Which; `None` when the NodeManager named none.
    pub container: Option<ContainerId>,
    /// The exception.
    pub exception: RemoteException,
}

impl ContainerFailure {
    /// Class of the exception.
    pub const fn class(&self) -> &ExceptionClass {
        &self.exception.class
    }

    fn is_relaunch(&self) -> bool {
        self.exception.message.contains(RELAUNCH)
    }
}

impl From<&pb::ContainerExceptionMap> for ContainerFailure {
    fn from(entry: &pb::ContainerExceptionMap) -> Self {
        let exception = entry.exception.as_ref().map_or_else(
            || RemoteException::new("", ""),
            |e| RemoteException::new(e.class_name(), e.message()),
        );
        Self {
            container: ContainerId::try_from(entry.container_id.as_ref()).ok(),
            exception,
        }
    }
}

/// What became of a start. Success means "accepted": files are fetched and the process is launched afterwards.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Started {
    /// Accepted.
    pub started: Vec<ContainerId>,
    /// Were accepted earlier: the answer to the first try was lost.
    pub already_running: Vec<ContainerId>,
    /// Refused.
    pub failed: Vec<ContainerFailure>,
}

/// What became of a stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stopped {
    /// Will be stopped.
    pub stopped: Vec<ContainerId>,
    /// Could not, mostly because they are over.
    pub failed: Vec<ContainerFailure>,
}

/// States of containers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Statuses {
    /// As the NodeManager knows them; exit status -1000 while running.
    pub statuses: Vec<pb::ContainerStatus>,
    /// Unknown ones, mostly because they are long over.
    pub failed: Vec<ContainerFailure>,
}

/// Talks to the NodeManagers that an ApplicationMaster has containers on; one connection for each.
#[derive(Debug)]
pub struct NodeManagerClient {
    tokens: NmTokenCache,
    config: ClientConfig,
    policy: FailoverPolicy,
    nodes: Mutex<HashMap<NodeId, Arc<FailoverClient>>>,
}

impl NodeManagerClient {
    /// A client with the tokens that [`ApplicationMasterClient`](super::ApplicationMasterClient) collects. `policy` says
    /// how long a NodeManager that is away or recovering is tried.
    pub fn new(tokens: NmTokenCache, config: ClientConfig, policy: FailoverPolicy) -> Self {
        Self {
            tokens,
            config,
            policy,
            nodes: Mutex::default(),
        }
    }

    /// Starts containers on a node, each with the launch context and the container token from its grant.
    ///
    /// # Errors
    /// When the call fails as a whole, e.g. for one invalid container token; failures of single containers are in the
    /// result.
    pub async fn start_containers(
        &self,
        node: &NodeId,
        containers: Vec<pb::StartContainerRequest>,
    ) -> Result<Started, NmError> {
        let request = pb::StartContainersRequest {
            start_container_request: containers,
        };
        let answer: pb::StartContainersResponse =
            self.node(node)?.call(START_CONTAINERS, &request).await?;
        let (again, failed): (Vec<_>, Vec<_>) = failures(&answer.failed_requests)
            .into_iter()
            .partition(ContainerFailure::is_relaunch);
        Ok(Started {
            started: ids(&answer.succeeded_requests),
            already_running: again
                .into_iter()
                .filter_map(|failure| failure.container)
                .collect(),
            failed,
        })
    }

    /// Stops containers: TERM to the whole process group, KILL a quarter of a second later (by default).
    ///
    /// # Errors
    /// When the call fails as a whole.
    pub async fn stop_containers(
        &self,
        node: &NodeId,
        containers: &[ContainerId],
    ) -> Result<Stopped, NmError> {
        let request = pb::StopContainersRequest {
            container_id: messages(containers),
        };
        let answer: pb::StopContainersResponse =
            self.node(node)?.call(STOP_CONTAINERS, &request).await?;
        Ok(Stopped {
            stopped: ids(&answer.succeeded_requests),
            failed: failures(&answer.failed_requests),
        })
    }

    /// Asks how containers are.
    ///
    /// # Errors
    /// When the call fails as a whole.
    pub async fn container_statuses(
        &self,
        node: &NodeId,
        containers: &[ContainerId],
    ) -> Result<Statuses, NmError> {
        let request = pb::GetContainerStatusesRequest {
            container_id: messages(containers),
        };
        let answer: pb::GetContainerStatusesResponse = self
            .node(node)?
            .call(GET_CONTAINER_STATUSES, &request)
            .await?;
        Ok(Statuses {
            failed: failures(&answer.failed_requests),
            statuses: answer.status,
        })
    }

    /// Sends a signal to a container's process group.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn signal(
        &self,
        node: &NodeId,
        container: ContainerId,
        command: SignalCommand,
    ) -> Result<(), NmError> {
        let request = pb::SignalContainerRequest {
            container_id: container.into(),
            command: command.into(),
        };
        let _: pb::SignalContainerResponse =
            self.node(node)?.call(SIGNAL_TO_CONTAINER, &request).await?;
        Ok(())
    }

    /// Tells a node of granted changes of size, by the tokens of the changed containers.
    ///
    /// # Errors
    /// When the call fails as a whole.
    pub async fn update_containers(
        &self,
        node: &NodeId,
        tokens: Vec<crate::proto::common::Token>,
    ) -> Result<Vec<ContainerFailure>, NmError> {
        let request = pb::ContainerUpdateRequest {
            update_container_token: tokens,
        };
        let answer: pb::ContainerUpdateResponse =
            self.node(node)?.call(UPDATE_CONTAINER, &request).await?;
        Ok(failures(&answer.failed_requests))
    }

    /// Closes the connection to a node, if there is one.
    pub fn forget(&self, node: &NodeId) {
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
    }

    fn node(&self, node: &NodeId) -> Result<Arc<FailoverClient>, NmError> {
        let auth = Auth::Token(
            self.tokens
                .get(node)
                .ok_or_else(|| NmError::NoToken(node.clone()))?,
        );
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let client = nodes.entry(node.clone()).or_insert_with(|| {
            let member = ResourceManagers::new([(node.host.clone(), node.to_string())])
                .expect("one is given");
            Arc::new(FailoverClient::new(
                &member,
                CONTAINER_MANAGEMENT,
                &auth,
                &self.config,
                self.policy,
            ))
        });
        // The newest token: the key may have rolled since the last connection.
        client.set_auth(&auth);
        Ok(Arc::clone(client))
    }
}

fn ids(messages: &[pb::ContainerId]) -> Vec<ContainerId> {
    messages
        .iter()
        .filter_map(|message| ContainerId::try_from(message).ok())
        .collect()
}

fn messages(ids: &[ContainerId]) -> Vec<pb::ContainerId> {
    ids.iter().map(|&id| id.into()).collect()
}

fn failures(entries: &[pb::ContainerExceptionMap]) -> Vec<ContainerFailure> {
    entries.iter().map(ContainerFailure::from).collect()
}
