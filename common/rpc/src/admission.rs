//! Who gets in: takes connections, and lets those through that have proved themselves. Nothing of a stranger reaches gRPC.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use spindle_common::id::FencingToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};

use crate::Secret;
use crate::handshake::{self, HandshakeError, Service};

/// How long both sides' proofs may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that have not proved anything yet. One more ends the oldest of them: so strangers neither use the descriptors of
/// the process up nor keep anybody out.
pub(crate) const MOST_STRANGERS: usize = 256;
/// Connections that were let in and are not yet served.
const ADMITTED: usize = 16;
/// A listener that has no file descriptors left is tried again after this.
const PAUSE: Duration = Duration::from_millis(50);

/// What this process proves, and wants to see proved.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) secret: Secret,
    pub(crate) service: Service,
    pub(crate) attempt: FencingToken,
}

impl Admission {
    /// The connections that were let in, in the order in which they proved themselves, and the future that lets them in: it ends
    /// when nobody takes them any more.
    pub(crate) fn begin(
        self,
        listener: TcpListener,
    ) -> (
        impl Stream<Item = Result<TcpStream, Infallible>>,
        impl Future<Output = ()>,
    ) {
        let (admitted, connections) = mpsc::channel(ADMITTED);
        let connections = ReceiverStream::new(connections).map(Ok);
        (connections, self.run(listener, admitted))
    }

    async fn run(self, listener: TcpListener, admitted: mpsc::Sender<TcpStream>) {
        let mut tasks = JoinSet::new();
        let mut strangers: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
                () = admitted.closed() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            strangers.retain(|task| !task.is_finished());
            if strangers.len() >= MOST_STRANGERS
                && let Some(oldest) = strangers.pop_front()
            {
                oldest.abort();
            }
            let task = tasks.spawn(self.clone().admit(stream, peer, admitted.clone()));
            strangers.push_back(task);
        }
    }

    async fn admit(
        self,
        mut stream: TcpStream,
        peer: SocketAddr,
        admitted: mpsc::Sender<TcpStream>,
    ) {
        let proved = timeout(HANDSHAKE_TIMEOUT, self.prove(&mut stream)).await;
        match proved {
            Ok(Ok(())) => {
                // The receiver ends with the process.
                let _ = admitted.send(stream).await;
            }
            Ok(Err(error @ (HandshakeError::Secret | HandshakeError::Service))) => {
                tracing::warn!(%peer, %error, "refused a connection");
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "refused a connection"),
            Err(_) => tracing::debug!(%peer, "refused a connection that proved nothing in time"),
        }
    }

    async fn prove(&self, stream: &mut TcpStream) -> Result<(), HandshakeError> {
        stream.set_nodelay(true)?;
        handshake::accept(stream, &self.secret, self.service, self.attempt).await
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
