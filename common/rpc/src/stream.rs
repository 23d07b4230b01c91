//! The two ends of a stream, as their users hold them.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use spindle_common::gateway::{FromWorker, ToJobManager, ToTaskExecutor, ToWorker};
use spindle_common::id::FencingToken;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};

use crate::convert::ConvertError;

/// Why a stream is over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamEnd {
    /// The peer is done: it dropped its sender.
    #[error("the peer ended the stream")]
    Closed,
    /// The connection broke, fell silent or was refused.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The peer sent what cannot be understood.
    #[error("the peer sent a malformed message")]
    Malformed(#[source] ConvertError),
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is no `host:port`.
    #[error("`{address}` is not an address: expected host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nobody answers there, or not in time, or it closed the connection.
    #[error("failed to connect to `{address}`")]
    Unreachable {
        /// The address.
        address: String,
        /// What happened.
        #[source]
        cause: std::io::Error,
    },
    /// Somebody else answers. It was told nothing.
    #[error(
        "what answers at `{address}` could not prove that it has the secret of this application, and was told nothing: another \
         process has that port"
    )]
    Impostor {
        /// The address.
        address: String,
    },
    /// A process of this application answers that has no say any more. It was told nothing.
    #[error(
        "what answers at `{address}` is attempt {found} of the JobManager, or belongs to it; expected is {expected} or a later one"
    )]
    Fenced {
        /// The address.
        address: String,
        /// Its attempt.
        found: FencingToken,
        /// The attempt that this process belongs to.
        expected: FencingToken,
    },
    /// It answered, but not as a peer of ours does.
    #[error("`{address}` did not open a stream: {reason}")]
    Refused {
        /// The address.
        address: String,
        /// What it said.
        reason: String,
    },
}

/// The server could not go on.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve `{address}`")]
pub struct ServeError {
    /// Where it listened.
    pub address: String,
    /// What happened.
    #[source]
    pub cause: tonic::transport::Error,
}

/// The messages of the peer, in order. After the first [`StreamEnd`] there is nothing but that end.
///
/// Also a [`Stream`] of results, whose last item is the end. Dropping it tells the peer that nobody reads any more.
pub struct Incoming<T> {
    messages: Pin<Box<dyn Stream<Item = Result<T, StreamEnd>> + Send>>,
    end: Option<StreamEnd>,
    told: bool,
}

impl<T: 'static> Incoming<T> {
    pub(crate) fn new(messages: impl Stream<Item = Result<T, StreamEnd>> + Send + 'static) -> Self {
        Self {
            messages: Box::pin(messages),
            end: None,
            told: false,
        }
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// The end of the stream; the same again each time it is asked after that.
    pub async fn recv(&mut self) -> Result<T, StreamEnd> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        self.next().await.unwrap_or(Err(StreamEnd::Closed))
    }
}

impl<T: 'static> Stream for Incoming<T> {
    type Item = Result<T, StreamEnd>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.told {
            return Poll::Ready(None);
        }
        let item = match self.messages.as_mut().poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(item) => item.unwrap_or(Err(StreamEnd::Closed)),
        };
        if let Err(end) = &item {
            self.end = Some(end.clone());
            self.told = true;
            // The transport is let go at once, whoever still holds this.
            self.messages = Box::pin(tokio_stream::empty());
        }
        Poll::Ready(Some(item))
    }
}

impl<T> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// A stream that a TaskExecutor opened to this JobManager.
#[derive(Debug)]
pub struct TaskExecutorStream {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What it says.
    pub incoming: Incoming<ToJobManager>,
    /// What it is told. Dropping it ends the stream.
    pub outgoing: mpsc::Sender<ToTaskExecutor>,
}

/// A stream that a worker opened to this TaskExecutor.
#[derive(Debug)]
pub struct WorkerStream {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What it says.
    pub incoming: Incoming<FromWorker>,
    /// What it is told. Dropping it ends the stream.
    pub outgoing: mpsc::Sender<ToWorker>,
}

/// A stream that this TaskExecutor opened to its JobManager.
#[derive(Debug)]
pub struct JobManagerConnection {
    /// The attempt of the JobManager that answered, as it proved.
    pub fencing: FencingToken,
    /// What the JobManager is told. Dropping it ends the stream.
    pub outgoing: mpsc::Sender<ToJobManager>,
    /// What it says.
    pub incoming: Incoming<ToTaskExecutor>,
}

/// A stream that this worker opened to its TaskExecutor.
#[derive(Debug)]
pub struct WorkerConnection {
    /// What the TaskExecutor is told. Dropping it ends the stream.
    pub outgoing: mpsc::Sender<FromWorker>,
    /// What it says.
    pub incoming: Incoming<ToWorker>,
}
