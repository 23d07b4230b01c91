//! Hadoop IPC version 9: [`frame`]s without I/O, and a [`Client`] on tokio.
//!
//! A [`Client`] is a handle on one server, one protocol and one identity. It connects when the first call is made,
//! keeps many calls in flight on one connection, and connects anew after the connection broke.
//!
//! ```no_run
//! use spindle_hadoop::ipc::{Auth, Client, ClientConfig, Method, Protocol};
//! use spindle_hadoop::proto::common::{GetServiceStatusRequest, GetServiceStatusResponse};
//!
//! const HA: Protocol = Protocol { name: "org.apache.hadoop.ha.HAServiceProtocol", version: 1 };
//! const GET_SERVICE_STATUS: Method = Method::idempotent("getServiceStatus");
//!
//! # async fn run() -> Result<(), spindle_hadoop::ipc::IpcError> {
//! let rm = Client::new("127.0.0.1:8033", HA, Auth::Simple { user: "alice".into() }, ClientConfig::default());
//! let status: GetServiceStatusResponse = rm.call(GET_SERVICE_STATUS, &GetServiceStatusRequest {}).await?;
//! # let _ = status; Ok(())
//! # }
//! ```

mod client;
mod config;
mod connection;
mod error;
pub mod frame;
mod handshake;
mod net;
mod remote;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

pub use client::Client;
pub use config::{ClientConfig, RetryPolicy};
pub use error::{AuthError, IpcError, Tried};
pub use remote::{ExceptionClass, RemoteException};

use crate::token::Token;

/// A protocol as it is named on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// Name of the Java interface.
    pub name: &'static str,
    /// Its version; 1 for all that Hadoop has.
    pub version: u64,
}

impl Protocol {
    /// The name without its package.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short_name())
    }
}

/// A method of a protocol, and whether the server may carry it out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// Name on the wire.
    pub name: &'static str,
    /// Whether a call whose answer was lost is repeated.
    pub idempotent: bool,
}

impl Method {
    /// A method that may be repeated when its answer was lost.
    pub const fn idempotent(name: &'static str) -> Self {
        Self {
            name,
            idempotent: true,
        }
    }

    /// A method that is repeated only when it surely did not reach the server.
    pub const fn once(name: &'static str) -> Self {
        Self {
            name,
            idempotent: false,
        }
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// By saying so: the user's name, in clusters without security.
    Simple {
        /// The user's name.
        user: String,
    },
    /// By a token and its password (SASL DIGEST-MD5).
    Token(Token),
}

#[cfg(test)]
mod tests;
