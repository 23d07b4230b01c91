//! Why a call failed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::frame::FrameError;
use super::{ExceptionClass, Method, Protocol, RemoteException};
use crate::sasl::SaslError;

/// What was tried, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The server.
    pub address: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The method.
    pub method: Method,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{} at {}",
            self.protocol, self.method.name, self.address
        )
    }
}

/// Why a call failed; each says which method of which protocol was tried at which address.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IpcError {
    /// No connection: the call was not made.
    #[error("cannot connect to {} for {}.{}", tried.address, tried.protocol, tried.method.name)]
    Connect {
        /// What was tried.
        tried: Tried,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The server did not let us in: the call was not made.
    #[error("authentication failed for {tried}")]
    Auth {
        /// What was tried.
        tried: Tried,
        /// Why.
        source: Box<AuthError>,
    },
    /// The connection broke before the answer: whether the call was carried out is not known.
    #[error("the connection broke during {tried}")]
    Broken {
        /// What was tried.
        tried: Tried,
        /// Why.
        source: Arc<io::Error>,
    },
    /// No answer in time: whether the call was carried out is not known.
    #[error("no answer to {tried} within {after:?}")]
    Timeout {
        /// What was tried.
        tried: Tried,
        /// How long was waited.
        after: Duration,
    },
    /// The server answered with an exception.
    #[error("{tried} was refused")]
    Remote {
        /// What was tried.
        tried: Tried,
        /// The exception.
        source: Box<RemoteException>,
    },
    /// The server's bytes were not understood.
    #[error("the answer to {tried} was not understood")]
    Protocol {
        /// What was tried.
        tried: Tried,
        /// Why.
        source: FrameError,
    },
    /// A protected message of the server was not authentic.
    #[error("the connection for {tried} was tampered with")]
    Protection {
        /// What was tried.
        tried: Tried,
        /// Why.
        source: SaslError,
    },
}

impl IpcError {
    /// What was tried.
    pub const fn tried(&self) -> &Tried {
        match self {
            Self::Connect { tried, .. }
            | Self::Auth { tried, .. }
            | Self::Broken { tried, .. }
            | Self::Timeout { tried, .. }
            | Self::Remote { tried, .. }
            | Self::Protocol { tried, .. }
            | Self::Protection { tried, .. } => tried,
        }
    }

    /// The server's exception, also when it came during authentication.
    pub fn remote(&self) -> Option<&RemoteException> {
        match self {
            Self::Remote { source, .. } => Some(source),
            Self::Auth { source, .. } => match source.as_ref() {
                AuthError::Refused(remote) => Some(remote),
                AuthError::NotOffered { .. }
                | AuthError::Sasl(_)
                | AuthError::Unexpected(_)
                | AuthError::Frame(_)
                | AuthError::Io(_) => None,
            },
            Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. }
            | Self::Protocol { .. }
            | Self::Protection { .. } => None,
        }
    }

    /// The class of the server's exception.
    pub fn class(&self) -> Option<&ExceptionClass> {
        self.remote().map(|remote| &remote.class)
    }

    /// Whether the call surely was not carried out.
    pub fn was_not_made(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Auth { .. } => true,
            Self::Broken { .. } | Self::Timeout { .. } | Self::Remote { .. } => false,
            Self::Protocol { .. } | Self::Protection { .. } => false,
        }
    }

    /// Whether the answer was lost on its way, so that the call may or may not have been carried out.
    pub const fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::Timeout { .. }
                | Self::Protocol { .. }
                | Self::Protection { .. }
        )
    }

    /// Whether another server of an HA pair, or the same one later, may do better: it is away, silent, or not the
    /// active one.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. } => true,
            Self::Auth { source, .. } => match source.as_ref() {
                AuthError::Io(_) => true,
                AuthError::Refused(remote) => remote.class.is_passing(),
                AuthError::NotOffered { .. }
                | AuthError::Sasl(_)
                | AuthError::Unexpected(_)
                | AuthError::Frame(_) => false,
            },
            Self::Remote { source, .. } => source.class.is_passing(),
            Self::Protocol { .. } | Self::Protection { .. } => false,
        }
    }
}

/// Why the server did not let us in.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The server refused: unknown or expired token, wrong password, method not allowed.
    #[error("the server refused")]
    Refused(#[source] RemoteException),
    /// The server takes no tokens.
    #[error("the server takes no token, but {offered}")]
    NotOffered {
        /// What it takes.
        offered: String,
    },
    /// The exchange itself failed.
    #[error("DIGEST-MD5 failed")]
    Sasl(#[source] SaslError),
    /// The server's turn was out of order.
    #[error("unexpected SASL state {0}")]
    Unexpected(i32),
    /// The server's bytes were not understood.
    #[error("the server's answer was not understood")]
    Frame(#[source] FrameError),
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
}

impl From<SaslError> for AuthError {
    fn from(cause: SaslError) -> Self {
        Self::Sasl(cause)
    }
}

impl From<FrameError> for AuthError {
    fn from(cause: FrameError) -> Self {
        Self::Frame(cause)
    }
}

impl From<io::Error> for AuthError {
    fn from(cause: io::Error) -> Self {
        Self::Io(Arc::new(cause))
    }
}
