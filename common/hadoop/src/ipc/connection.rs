//! One connection: a task that writes calls and pings and hands answers to those who wait for them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, trace};

use super::frame::{self, AuthProtocol, ClientId, FrameDecoder, FrameError, Response};
use super::{Auth, AuthError, ClientConfig, Protocol, RemoteException, handshake, net};
use crate::proto::common::RpcSasl;
use crate::proto::common::rpc_sasl::SaslState;
use crate::sasl::{Layer, Open, SaslError, Seal};

/// Calls that wait to be written.
const QUEUE: usize = 64;
/// Plain bytes in one wrapped message; the server's buffers are 64 KiB.
const WRAP_CHUNK: usize = 60_000;
/// After a failed write: how long the server's last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection, and with it a call, came to its end.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The connection was already over: the call was not sent.
    NotSent,
    /// The connection broke or was closed.
    Broken(Arc<io::Error>),
    /// The server ended it with an exception.
    Fatal(RemoteException),
    /// The server's bytes were not understood.
    Frame(FrameError),
    /// The server's protection was wrong.
    Sasl(SaslError),
}

/// Why there is no connection.
pub(super) enum ConnectFault {
    Io(io::Error),
    Auth(AuthError),
}

/// A live connection; dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    outgoing: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    waiting: HashMap<i32, oneshot::Sender<Result<Response, Fault>>>,
    /// No further call may be entered.
    closed: bool,
    last_received: Instant,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing that holds the lock can panic half-way.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.book().closed = true;
    }

    /// Closes when nobody waits; otherwise says that it did not.
    fn close_if_idle(&self) -> bool {
        let mut book = self.book();
        book.closed |= book.waiting.is_empty();
        book.closed
    }

    fn fail_all(&self, fault: &Fault) {
        let waiting = {
            let mut book = self.book();
            book.closed = true;
            std::mem::take(&mut book.waiting)
        };
        for waiter in waiting.into_values() {
            // Whoever stopped waiting needs no answer.
            let _ = waiter.send(Err(fault.clone()));
        }
    }

    fn answer(&self, response: Response) {
        let waiter = {
            let mut book = self.book();
            book.last_received = Instant::now();
            book.waiting.remove(&response.call_id())
        };
        match waiter {
            Some(waiter) => drop(waiter.send(Ok(response))),
            None => trace!(
                call_id = response.call_id(),
                "answer to a call that nobody waits for"
            ),
        }
    }
}

/// Takes a call off the book when its caller goes away.
struct Entry<'a> {
    shared: &'a Shared,
    call_id: i32,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.shared.book().waiting.remove(&self.call_id);
    }
}

impl Connection {
    /// Connects and authenticates.
    pub(super) async fn open(
        address: &str,
        protocol: Protocol,
        auth: &Auth,
        client_id: ClientId,
        config: &ClientConfig,
    ) -> Result<Self, ConnectFault> {
        let mut stream = net::connect(address).await.map_err(ConnectFault::Io)?;
        let mut decoder = FrameDecoder::new(config.max_response);
        // Written together with the first call: a server that refuses may close before a second write reaches it.
        let mut opening = BytesMut::new();
        let (layer, user) = match auth {
            Auth::Simple { user } => {
                opening.extend_from_slice(&frame::preamble(AuthProtocol::None));
                (None, Some(user.as_str()))
            }
            Auth::Token(token) => {
                let layer =
                    handshake::by_token(&mut stream, &mut decoder, token, &config.protection)
                        .await
                        .map_err(ConnectFault::Auth)?;
                (layer, None)
            }
        };
        frame::put_context(&mut opening, &client_id, protocol, user);
        debug!(address, %protocol, protected = layer.is_some(), "connected");

        let (outgoing, calls) = mpsc::channel(QUEUE);
        let book = Book {
            waiting: HashMap::new(),
            closed: false,
            last_received: Instant::now(),
        };
        let shared = Arc::new(Shared {
            book: Mutex::new(book),
        });
        let (read, write) = stream.into_split();
        let (seal, open) = layer.map_or((None, None), |Layer { seal, open }| {
            (Some(seal), Some(open))
        });
        let reader = Reader {
            stream: read,
            decoder,
            open,
            inner: FrameDecoder::new(config.max_response),
        };
        let writer = Writer {
            stream: write,
            buffer: opening,
            seal,
            calls,
            client_id,
            ping_interval: config.ping_interval,
            idle_timeout: config.idle_timeout,
        };
        let mut task = JoinSet::new();
        task.spawn(run(reader, writer, Arc::clone(&shared)));
        Ok(Self {
            outgoing,
            shared,
            _task: task,
        })
    }

    /// Whether calls can still be made on it.
    pub(super) fn is_usable(&self) -> bool {
        !self.shared.book().closed
    }

    /// Lets no further call in; those under way go on.
    pub(super) fn retire(&self) {
        self.shared.close();
    }

    /// Since when nothing has been heard of the server.
    pub(super) fn last_received(&self) -> Instant {
        self.shared.book().last_received
    }

    /// Sends a frame and waits for its answer, without time limit.
    pub(super) async fn call(&self, call_id: i32, frame: Bytes) -> Result<Response, Fault> {
        let (waiter, answer) = oneshot::channel();
        {
            let mut book = self.shared.book();
            if book.closed {
                return Err(Fault::NotSent);
            }
            book.waiting.insert(call_id, waiter);
        }
        let _entry = Entry {
            shared: &self.shared,
            call_id,
        };
        if self.outgoing.send(frame).await.is_err() {
            // The task is over. If it failed this call it says why; else the call was never taken.
            return answer.await.unwrap_or(Err(Fault::NotSent));
        }
        // The task ends without an answer only with its runtime.
        let gone = || Fault::Broken(Arc::new(io::ErrorKind::ConnectionAborted.into()));
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn run(mut reader: Reader, mut writer: Writer, shared: Arc<Shared>) {
    let fault = {
        let read = reader.run(&shared);
        let write = writer.run(&shared);
        tokio::pin!(read, write);
        tokio::select! {
            fault = &mut read => fault,
            end = &mut write => match end {
                Ok(()) => Fault::NotSent,
                Err(error) => {
                    shared.close();
                    // A server that refuses says why and closes; our write may fail before we have read it.
                    timeout(LAST_WORDS, read).await.unwrap_or_else(|_| Fault::Broken(Arc::new(error)))
                }
            },
        }
    };
    debug!(?fault, "connection ended");
    shared.fail_all(&fault);
}

struct Reader {
    stream: OwnedReadHalf,
    decoder: FrameDecoder,
    open: Option<Open>,
    /// Frames inside wrapped messages.
    inner: FrameDecoder,
}

impl Reader {
    async fn run(&mut self, shared: &Shared) -> Fault {
        loop {
            if let Err(fault) = self.deliver(shared) {
                return fault;
            }
            match self.stream.read_buf(self.decoder.buffer_mut()).await {
                Ok(0) => return Fault::Broken(Arc::new(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Fault::Broken(Arc::new(error)),
            }
        }
    }

    /// Hands out every whole answer that has come.
    fn deliver(&mut self, shared: &Shared) -> Result<(), Fault> {
        while let Some(frame) = self.decoder.next_frame().map_err(Fault::Frame)? {
            let response = Response::decode(frame).map_err(Fault::Frame)?;
            match &mut self.open {
                None => settle(response, shared)?,
                Some(open) if response.call_id() == frame::SASL_CALL => {
                    fatal(&response)?;
                    let wrapped: RpcSasl = response.message().map_err(Fault::Frame)?;
                    if wrapped.state != i32::from(SaslState::Wrap) {
                        return Err(Fault::Frame(FrameError::UnexpectedCall(frame::SASL_CALL)));
                    }
                    let plain = open.unwrap(wrapped.token()).map_err(Fault::Sasl)?;
                    self.inner.extend(&plain);
                    while let Some(frame) = self.inner.next_frame().map_err(Fault::Frame)? {
                        settle(Response::decode(frame).map_err(Fault::Frame)?, shared)?;
                    }
                }
                Some(_) => {
                    fatal(&response)?;
                    return Err(Fault::Frame(FrameError::UnexpectedCall(response.call_id())));
                }
            }
        }
        Ok(())
    }
}

fn fatal(response: &Response) -> Result<(), Fault> {
    match RemoteException::from_header(&response.header) {
        Some(remote) if remote.fatal => Err(Fault::Fatal(remote)),
        Some(_) | None => Ok(()),
    }
}

fn settle(response: Response, shared: &Shared) -> Result<(), Fault> {
    fatal(&response)?;
    shared.answer(response);
    Ok(())
}

struct Writer {
    stream: OwnedWriteHalf,
    /// What is to be written next; starts with preamble and context.
    buffer: BytesMut,
    seal: Option<Seal>,
    calls: mpsc::Receiver<Bytes>,
    client_id: ClientId,
    ping_interval: Duration,
    idle_timeout: Duration,
}

impl Writer {
    /// Ends well when the connection rested long enough or its owner is gone.
    async fn run(&mut self, shared: &Shared) -> io::Result<()> {
        let mut last_call = Instant::now();
        loop {
            let patience = self.ping_interval.min(self.idle_timeout);
            match timeout(patience, self.calls.recv()).await {
                Ok(Some(frame)) => {
                    last_call = Instant::now();
                    self.buffer.extend_from_slice(&frame);
                    while let Ok(frame) = self.calls.try_recv() {
                        self.buffer.extend_from_slice(&frame);
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) if last_call.elapsed() >= self.idle_timeout && shared.close_if_idle() => {
                    return Ok(());
                }
                Err(_) if shared.book().last_received.elapsed() < self.ping_interval => continue,
                Err(_) => frame::put_ping(&mut self.buffer, &self.client_id),
            }
            self.flush().await?;
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let plain = self.buffer.split();
        let Some(seal) = &mut self.seal else {
            return self.stream.write_all(&plain).await;
        };
        let mut wire = BytesMut::new();
        for chunk in plain.chunks(WRAP_CHUNK) {
            let token = seal.wrap(chunk);
            let wrapped = RpcSasl {
                version: None,
                state: SaslState::Wrap.into(),
                token: Some(token),
                auths: Vec::new(),
            };
            frame::put_sasl(&mut wire, &wrapped);
        }
        self.stream.write_all(&wire).await
    }
}
