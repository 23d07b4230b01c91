//! How our own processes talk: gRPC streams between TaskExecutor and JobManager and between worker and TaskExecutor, the
//! protobuf form of plans and submissions, and the secret that opens all of these.
//!
//! The interface speaks in the plain types of `spindle-common`; what is generated from `proto/` stays inside. This crate may not
//! decide anything: it carries messages in order, tells when a stream has ended and why, and refuses whoever lacks the secret.
//! Both ends of a stream prove that they have it before a byte of gRPC is sent or read (`handshake.rs`); it never crosses the wire.
//!
//! Either side of a stream sees its end: a closed connection at once, a silent host after [`KEEPALIVE_INTERVAL`] and
//! [`KEEPALIVE_TIMEOUT`]. Nothing is reconnected or sent again here.

mod admission;
mod convert;
pub mod data_plane;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handshake;
pub mod job_graph;
mod net;
mod proto;
mod secret;
mod stream;

pub use convert::ConvertError;
pub use net::{
    CONNECT_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_MESSAGE_BYTES, connect_job_manager,
    connect_task_executor, serve_job_manager, serve_workers,
};
pub use secret::{ParseSecretError, Secret};
pub use stream::{
    ConnectError, Incoming, JobManagerConnection, ServeError, StreamEnd, TaskExecutorStream,
    WorkerConnection, WorkerStream,
};
