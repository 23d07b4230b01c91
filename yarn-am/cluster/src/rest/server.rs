//! Connections: how many there may be, and how slow. Whoever connects can hold a few kilobytes here for a few seconds, no more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt;

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at the same time. One more ends the oldest of those that never had a right to anything.
    pub(super) connections: usize,
    /// How long the head of a request may take, or the next one be waited for.
    pub(super) head: Duration,
    /// After how long a connection takes no further request.
    pub(super) lifetime: Duration,
    /// How long the last request of a connection may take then.
    pub(super) last: Duration,
}

/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// A listener that has no file descriptors left is tried again after this.
const PAUSE: Duration = Duration::from_millis(50);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            last: Duration::from_secs(60),
        }
    }
}

/// Whether any request of a connection was let in; in the extensions of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Admitted(Arc<AtomicBool>);

impl Admitted {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers on `listener` until the future is dropped.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
    serve_within(listener, router, Limits::default()).await
}

pub(super) async fn serve_within(
    listener: TcpListener,
    router: Router,
    limits: Limits,
) -> std::io::Result<()> {
    let mut running = JoinSet::new();
    let mut open: VecDeque<(Admitted, AbortHandle)> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => {
                open.retain(|(_, connection)| !connection.is_finished());
                continue;
            }
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
        if open.len() >= limits.connections {
            let stranger = open.iter().position(|(admitted, _)| !admitted.is_set());
            // Where all have a right to be here the newcomer has to come again.
            let Some((_, connection)) = stranger.and_then(|at| open.remove(at)) else {
                tracing::warn!(%peer, "too many connections");
                continue;
            };
            connection.abort();
        }
        let admitted = Admitted::default();
        let connection = connection(stream, peer, router.clone(), admitted.clone(), limits);
        open.push_back((admitted, running.spawn(connection)));
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    admitted: Admitted,
    limits: Limits,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(admitted.clone());
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    // HTTP/1 alone: what begins otherwise, HTTP/2 included, is an error of this parser.
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = tokio::time::sleep(limits.lifetime) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.last, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "connection ended"),
        Err(_) => tracing::debug!(%peer, "connection ended, as it was too slow"),
    }
}
