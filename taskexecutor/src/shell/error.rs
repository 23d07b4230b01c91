//! What ends a TaskExecutor before its time.

use spindle_rpc::{ConnectError, ServeError};

/// Why a TaskExecutor cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The JobManager cannot be reached.
    #[error("failed to register with the JobManager at `{address}`")]
    Connect {
        /// Where it should be.
        address: String,
        /// The last try.
        #[source]
        cause: Box<ConnectError>,
    },
    /// The JobManager is gone.
    #[error("lost the JobManager at `{address}`: {reason}")]
    JobManagerLost {
        /// Where it was.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Workers cannot be served.
    #[error("failed to listen for workers")]
    Listen(#[source] std::io::Error),
    /// Workers are not served any more.
    #[error("failed to serve workers")]
    Serve(#[from] ServeError),
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signal(#[source] std::io::Error),
}
