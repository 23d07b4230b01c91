//! YARN's ids, printed and read exactly as YARN prints them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::proto::yarn as pb;

/// Bits of a container's number below its epoch.
const EPOCH_SHIFT: u32 = 40;
const SEQUENCE_MASK: u64 = (1 << EPOCH_SHIFT) - 1;

/// Text or a message that is no such id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a YARN {what}: `{text}`")]
pub struct InvalidId {
    what: &'static str,
    text: String,
}

impl InvalidId {
    fn new(what: &'static str, text: impl fmt::Debug) -> Self {
        Self {
            what,
            text: format!("{text:?}"),
        }
    }

    fn text(what: &'static str, text: &str) -> Self {
        Self {
            what,
            text: text.to_owned(),
        }
    }
}

/// An application: the start time of the ResourceManager that named it, and a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ApplicationId {
    /// Start of the ResourceManager, ms since the epoch.
    pub cluster_timestamp: u64,
    /// Counts from 1.
    pub id: u32,
}

/// One attempt to run an application's ApplicationMaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ApplicationAttemptId {
    /// Whose attempt.
    pub application: ApplicationId,
    /// Counts from 1.
    pub attempt: u32,
}

/// A container, named by the attempt that it was first granted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContainerId {
    /// The attempt that asked for it.
    pub attempt: ApplicationAttemptId,
    /// Epoch (restarts of the ResourceManager) in the bits from 40 up, sequence number below.
    pub id: u64,
}

/// A NodeManager: host name and the port of its ContainerManagementProtocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeId {
    /// Host name, as the node registered it.
    pub host: String,
    /// Port; tells the NodeManagers of one host apart.
    pub port: u16,
}

impl ContainerId {
    /// How often the ResourceManager had restarted when it granted this container.
    pub const fn epoch(self) -> u64 {
        self.id >> EPOCH_SHIFT
    }

    /// The container's number in its attempt and epoch; the first ApplicationMaster's is 1.
    pub const fn sequence(self) -> u64 {
        self.id & SEQUENCE_MASK
    }

    /// The application that it belongs to.
    pub const fn application(self) -> ApplicationId {
        self.attempt.application
    }
}

impl NodeId {
    /// Names a node.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application_{}_{:04}", self.cluster_timestamp, self.id)
    }
}

impl fmt::Display for ApplicationAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApplicationId {
            cluster_timestamp,
            id,
        } = self.application;
        write!(
            f,
            "appattempt_{cluster_timestamp}_{id:04}_{:06}",
            self.attempt
        )
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("container_")?;
        if self.epoch() > 0 {
            write!(f, "e{:02}_", self.epoch())?;
        }
        let ApplicationId {
            cluster_timestamp,
            id,
        } = self.application();
        write!(
            f,
            "{cluster_timestamp}_{id:04}_{:02}_{:06}",
            self.attempt.attempt,
            self.sequence()
        )
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The parts of `prefix_a_b_c`; exactly N of them, decimal digits only.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let mut found = [0; N];
    let mut parts = text.split('_');
    for slot in &mut found {
        *slot = digits(parts.next()?)?;
    }
    parts.next().is_none().then_some(found)
}

/// A decimal number without sign; the largest value is that of Java's `long`.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&n| i64::try_from(n).is_ok())
}

/// YARN's small numbers are Java's `int`.
fn small(number: u64) -> Option<u32> {
    i32::try_from(number)
        .ok()
        .and_then(|n| u32::try_from(n).ok())
}

fn parse_application(text: &str) -> Option<ApplicationId> {
    let [cluster_timestamp, id] = numbers(text.strip_prefix("application_")?)?;
    Some(ApplicationId {
        cluster_timestamp,
        id: small(id)?,
    })
}

fn parse_attempt(text: &str) -> Option<ApplicationAttemptId> {
    let [cluster_timestamp, id, attempt] = numbers(text.strip_prefix("appattempt_")?)?;
    let application = ApplicationId {
        cluster_timestamp,
        id: small(id)?,
    };
    Some(ApplicationAttemptId {
        application,
        attempt: small(attempt)?,
    })
}

fn parse_container(text: &str) -> Option<ContainerId> {
    let rest = text.strip_prefix("container_")?;
    let (epoch, rest) = match rest.strip_prefix('e') {
        Some(with_epoch) => {
            let (epoch, rest) = with_epoch.split_once('_')?;
            (digits(epoch)?, rest)
        }
        None => (0, rest),
    };
    let [cluster_timestamp, id, attempt, sequence] = numbers(rest)?;
    if epoch >= 1 << (63 - EPOCH_SHIFT) || sequence > SEQUENCE_MASK {
        return None;
    }
    let application = ApplicationId {
        cluster_timestamp,
        id: small(id)?,
    };
    let attempt = ApplicationAttemptId {
        application,
        attempt: small(attempt)?,
    };
    Some(ContainerId {
        attempt,
        id: epoch << EPOCH_SHIFT | sequence,
    })
}

fn parse_node(text: &str) -> Option<NodeId> {
    let (host, port) = text.rsplit_once(':')?;
    let port = u16::try_from(digits(port)?).ok()?;
    (!host.is_empty()).then(|| NodeId::new(host, port))
}

macro_rules! as_text {
    ($type:ident, $what:literal, $parse:ident) => {
        impl FromStr for $type {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                $parse(text).ok_or_else(|| InvalidId::text($what, text))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<pb::$type> for $type {
            type Error = InvalidId;

            fn try_from(message: pb::$type) -> Result<Self, InvalidId> {
                Self::try_from(&message)
            }
        }

        impl TryFrom<Option<&pb::$type>> for $type {
            type Error = InvalidId;

            fn try_from(message: Option<&pb::$type>) -> Result<Self, InvalidId> {
                message.map_or_else(|| Err(InvalidId::text($what, "absent")), Self::try_from)
            }
        }

        impl From<&$type> for pb::$type {
            fn from(id: &$type) -> Self {
                Self::from(id.clone())
            }
        }
    };
}

as_text!(ApplicationId, "application id", parse_application);
as_text!(
    ApplicationAttemptId,
    "application attempt id",
    parse_attempt
);
as_text!(ContainerId, "container id", parse_container);
as_text!(NodeId, "node id", parse_node);

impl TryFrom<&pb::ApplicationId> for ApplicationId {
    type Error = InvalidId;

    fn try_from(message: &pb::ApplicationId) -> Result<Self, InvalidId> {
        match (
            u64::try_from(message.cluster_timestamp()),
            u32::try_from(message.id()),
        ) {
            (Ok(cluster_timestamp), Ok(id)) => Ok(Self {
                cluster_timestamp,
                id,
            }),
            (Err(_), _) | (_, Err(_)) => Err(InvalidId::new("application id", message)),
        }
    }
}

impl TryFrom<&pb::ApplicationAttemptId> for ApplicationAttemptId {
    type Error = InvalidId;

    fn try_from(message: &pb::ApplicationAttemptId) -> Result<Self, InvalidId> {
        let application = ApplicationId::try_from(message.application_id.as_ref())?;
        let attempt = u32::try_from(message.attempt_id())
            .map_err(|_| InvalidId::new("application attempt id", message))?;
        Ok(Self {
            application,
            attempt,
        })
    }
}

impl TryFrom<&pb::ContainerId> for ContainerId {
    type Error = InvalidId;

    fn try_from(message: &pb::ContainerId) -> Result<Self, InvalidId> {
        let attempt = ApplicationAttemptId::try_from(message.app_attempt_id.as_ref())?;
        let id =
            u64::try_from(message.id()).map_err(|_| InvalidId::new("container id", message))?;
        Ok(Self { attempt, id })
    }
}

impl TryFrom<&pb::NodeId> for NodeId {
    type Error = InvalidId;

    fn try_from(message: &pb::NodeId) -> Result<Self, InvalidId> {
        match u16::try_from(message.port()) {
            Ok(port) if !message.host().is_empty() => Ok(Self::new(message.host(), port)),
            Ok(_) | Err(_) => Err(InvalidId::new("node id", message)),
        }
    }
}

impl From<ApplicationId> for pb::ApplicationId {
    fn from(id: ApplicationId) -> Self {
        Self {
            id: Some(id.id.cast_signed()),
            cluster_timestamp: Some(id.cluster_timestamp.cast_signed()),
        }
    }
}

impl From<ApplicationAttemptId> for pb::ApplicationAttemptId {
    fn from(id: ApplicationAttemptId) -> Self {
        Self {
            application_id: Some(id.application.into()),
            attempt_id: Some(id.attempt.cast_signed()),
        }
    }
}

impl From<ContainerId> for pb::ContainerId {
    /// As the ResourceManager does, leaves `app_id` unset: the attempt says it.
    fn from(id: ContainerId) -> Self {
        Self {
            app_id: None,
            app_attempt_id: Some(id.attempt.into()),
            id: Some(id.id.cast_signed()),
        }
    }
}

impl From<NodeId> for pb::NodeId {
    fn from(id: NodeId) -> Self {
        Self {
            host: Some(id.host),
            port: Some(i32::from(id.port)),
        }
    }
}

#[cfg(test)]
mod tests;
