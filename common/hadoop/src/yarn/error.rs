//! Why a ResourceManager did not answer as it should.

use super::InvalidId;
use crate::ipc::{ExceptionClass, IpcError};

/// A call to the ResourceManager failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum YarnError {
    /// The call itself.
    #[error(transparent)]
    Ipc(#[from] IpcError),
    /// The answer has no such part.
    #[error("the answer to {method} has no {field}")]
    Incomplete {
        /// The method called.
        method: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// The answer names something by an impossible id.
    #[error("the answer to {method} has an invalid id")]
    Id {
        /// The method called.
        method: &'static str,
        /// The id.
        source: InvalidId,
    },
}

impl YarnError {
    /// The class of the server's exception, if there was one.
    pub fn class(&self) -> Option<&ExceptionClass> {
        match self {
            Self::Ipc(error) => error.class(),
            Self::Incomplete { .. } | Self::Id { .. } => None,
        }
    }

    /// The failed call, if it was that.
    pub const fn ipc(&self) -> Option<&IpcError> {
        match self {
            Self::Ipc(error) => Some(error),
            Self::Incomplete { .. } | Self::Id { .. } => None,
        }
    }
}
