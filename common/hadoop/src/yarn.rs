//! YARN: ids, and clients for its three protocols.
//!
//! | client | protocol | who uses it |
//! | --- | --- | --- |
//! | [`ResourceManagerClient`] | ApplicationClientProtocol | whoever submits, watches or kills applications |
//! | [`ApplicationMasterClient`] | ApplicationMasterProtocol | an ApplicationMaster: register, allocate, finish |
//! | [`NodeManagerClient`] | ContainerManagementProtocol | an ApplicationMaster that starts and stops containers |
//!
//! Requests and records are the messages of [`crate::proto::yarn`]; [`launch`] helps to compose them.

mod application_master;
mod error;
mod failover;
mod id;
pub mod launch;
mod nm_token;
mod node_manager;
mod resource_manager;

pub use application_master::{AmError, ApplicationMasterClient, Registration};
pub use error::YarnError;
pub use failover::{FailoverPolicy, NoResourceManager, ResourceManagers};
pub use id::{ApplicationAttemptId, ApplicationId, ContainerId, InvalidId, NodeId};
pub use nm_token::NmTokenCache;
pub use node_manager::{
    ContainerFailure, NmError, NodeManagerClient, SignalCommand, Started, Statuses, Stopped,
};
pub use resource_manager::{NewApplication, ResourceManagerClient};

use crate::ipc::Protocol;

/// Client to ResourceManager, port 8032.
pub const APPLICATION_CLIENT: Protocol = Protocol {
    name: "org.apache.hadoop.yarn.api.ApplicationClientProtocolPB",
    version: 1,
};

/// ApplicationMaster to ResourceManager, port 8030.
pub const APPLICATION_MASTER: Protocol = Protocol {
    name: "org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB",
    version: 1,
};

/// ApplicationMaster to NodeManager.
pub const CONTAINER_MANAGEMENT: Protocol = Protocol {
    name: "org.apache.hadoop.yarn.api.ContainerManagementProtocolPB",
    version: 1,
};

#[cfg(test)]
mod tests;
