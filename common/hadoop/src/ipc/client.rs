//! The handle that makes calls: connects when needed, repeats what may be repeated.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::connection::{ConnectFault, Connection, Fault};
use super::frame::{self, ClientId, Response};
use super::{
    Auth, ClientConfig, ExceptionClass, IpcError, Method, Protocol, RemoteException, Tried,
};

/// A handle on one server, protocol and identity; clones share one connection.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    address: Arc<str>,
    protocol: Protocol,
    auth: Mutex<Auth>,
    config: ClientConfig,
    client_id: ClientId,
    next_call: AtomicI32,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.0.address)
            .field("protocol", &self.0.protocol)
            .finish_non_exhaustive()
    }
}

/// What one try came to.
enum Attempt {
    Done(Response),
    /// Try again, if there is a try left; the call did not reach the server or may be carried out twice.
    Again(IpcError),
    Failed(IpcError),
}

impl Client {
    /// A client for `address` (`host:port`); nothing is sent before the first call.
    pub fn new(
        address: impl Into<Arc<str>>,
        protocol: Protocol,
        auth: Auth,
        config: ClientConfig,
    ) -> Self {
        let mut client_id = ClientId::default();
        getrandom::fill(&mut client_id).expect("the system has randomness");
        Self(Arc::new(Inner {
            address: address.into(),
            protocol,
            auth: Mutex::new(auth),
            config,
            client_id,
            next_call: AtomicI32::new(0),
            connection: tokio::sync::Mutex::new(None),
        }))
    }

    /// The server's address.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// From the next connection on, authenticates so; a connection that is open stays as it is.
    pub fn set_auth(&self, auth: Auth) {
        *self.0.auth.lock().unwrap_or_else(PoisonError::into_inner) = auth;
    }

    /// Makes a call.
    ///
    /// Dropping the future gives the call up: it may or may not be carried out.
    ///
    /// # Errors
    /// See [`IpcError`]; what is repeated before an error is returned says [`RetryPolicy`](super::RetryPolicy).
    pub async fn call<Q, R>(&self, method: Method, request: &Q) -> Result<R, IpcError>
    where
        Q: Message,
        R: Message + Default,
    {
        let request = request.encode_length_delimited_to_vec();
        let response = self.call_encoded(method, &request).await?;
        response.message().map_err(|source| IpcError::Protocol {
            tried: self.tried(method),
            source,
        })
    }

    async fn call_encoded(&self, method: Method, request: &[u8]) -> Result<Response, IpcError> {
        let inner = &self.0;
        // Wraps after 2^31 calls; negative ids are taken for other purposes.
        let call_id = inner.next_call.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let mut tries = 0u32;
        loop {
            let retry_count = i32::try_from(tries).unwrap_or(i32::MAX);
            let mut out = BytesMut::new();
            frame::put_call(
                &mut out,
                &inner.client_id,
                call_id,
                retry_count,
                inner.protocol,
                method,
                request,
            );
            tries = tries.saturating_add(1);
            match self.attempt(method, call_id, out.freeze()).await {
                Attempt::Done(response) => return Ok(response),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(error) if tries >= inner.config.retry.attempts => return Err(error),
                Attempt::Again(error) => {
                    debug!(%error, tries, "repeating a call");
                    sleep(inner.config.retry.pause_after(tries)).await;
                }
            }
        }
    }

    async fn attempt(&self, method: Method, call_id: i32, frame: Bytes) -> Attempt {
        let inner = &self.0;
        let tried = || self.tried(method);
        // A connection that was closed while it lay idle is found out only by using it; that costs no try.
        let mut reconnected = false;
        loop {
            let (connection, fresh) = match self.connection(method).await {
                Ok(found) => found,
                Err(error) if error.is_unavailable() => return Attempt::Again(error),
                Err(error) => return Attempt::Failed(error),
            };
            let started = Instant::now();
            let answer = timeout(
                inner.config.call_timeout,
                connection.call(call_id, frame.clone()),
            )
            .await;
            let fault = match answer {
                Ok(Ok(response)) => return self.judge(method, response),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    // Nothing at all since the call began: the connection may be dead, the next call gets another.
                    if connection.last_received() <= started {
                        connection.retire();
                    }
                    return Attempt::Failed(IpcError::Timeout {
                        tried: tried(),
                        after: inner.config.call_timeout,
                    });
                }
            };
            return match fault {
                Fault::NotSent if !fresh && !reconnected => {
                    reconnected = true;
                    continue;
                }
                Fault::NotSent => Attempt::Again(IpcError::Connect {
                    tried: tried(),
                    source: Arc::new(io::ErrorKind::ConnectionAborted.into()),
                }),
                Fault::Broken(source) => {
                    let error = IpcError::Broken {
                        tried: tried(),
                        source,
                    };
                    if method.idempotent {
                        Attempt::Again(error)
                    } else {
                        Attempt::Failed(error)
                    }
                }
                Fault::Fatal(remote) => self.remote(method, remote),
                Fault::Frame(source) => Attempt::Failed(IpcError::Protocol {
                    tried: tried(),
                    source,
                }),
                Fault::Sasl(source) => Attempt::Failed(IpcError::Protection {
                    tried: tried(),
                    source,
                }),
            };
        }
    }

    fn judge(&self, method: Method, response: Response) -> Attempt {
        match RemoteException::from_header(&response.header) {
            None => Attempt::Done(response),
            Some(remote) => self.remote(method, remote),
        }
    }

    fn remote(&self, method: Method, remote: RemoteException) -> Attempt {
        let retriable = remote.class == ExceptionClass::Retriable;
        let error = IpcError::Remote {
            tried: self.tried(method),
            source: Box::new(remote),
        };
        if retriable {
            Attempt::Again(error)
        } else {
            Attempt::Failed(error)
        }
    }

    /// The connection to use, and whether it was made just now.
    async fn connection(&self, method: Method) -> Result<(Arc<Connection>, bool), IpcError> {
        let inner = &self.0;
        let limit = inner.config.connect_timeout;
        let mut slot = inner.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_usable()) {
            return Ok((Arc::clone(connection), false));
        }
        *slot = None;
        let auth = inner
            .auth
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let opening = Connection::open(
            &inner.address,
            inner.protocol,
            &auth,
            inner.client_id,
            &inner.config,
        );
        match timeout(limit, opening).await {
            Ok(Ok(connection)) => {
                let connection = Arc::new(connection);
                *slot = Some(Arc::clone(&connection));
                Ok((connection, true))
            }
            Ok(Err(ConnectFault::Io(error))) => Err(IpcError::Connect {
                tried: self.tried(method),
                source: Arc::new(error),
            }),
            Ok(Err(ConnectFault::Auth(error))) => Err(IpcError::Auth {
                tried: self.tried(method),
                source: Box::new(error),
            }),
            Err(_) => {
                let late = io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {limit:?}"),
                );
                Err(IpcError::Connect {
                    tried: self.tried(method),
                    source: Arc::new(late),
                })
            }
        }
    }

    fn tried(&self, method: Method) -> Tried {
        Tried {
            address: Arc::clone(&self.0.address),
            protocol: self.0.protocol,
            method,
        }
    }
}
