//! Where this crate opens sockets.

use std::error::Error;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use spindle_common::gateway::{FromWorker, ToJobManager, ToTaskExecutor, ToWorker};
use spindle_common::id::FencingToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;

use crate::admission::Admission;
use crate::convert::{ConvertError, Farewell};
use crate::handshake::{self, HandshakeError, Service};
use crate::proto;
use crate::proto::job_manager_client::JobManagerClient;
use crate::proto::job_manager_server::{JobManager, JobManagerServer};
use crate::proto::task_executor_client::TaskExecutorClient;
use crate::proto::task_executor_server::{TaskExecutor, TaskExecutorServer};
use crate::secret::Secret;
use crate::stream::{
    ConnectError, Incoming, JobManagerConnection, ServeError, StreamEnd, TaskExecutorStream,
    WorkerConnection, WorkerStream,
};

/// How often a connection is pinged, whether or not it is idle.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a ping may go unanswered before the connection counts as lost.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an attempt to connect may take, and after that its answer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message either side takes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Messages waiting to be sent on one stream before its sender has to wait.
const OUTGOING_MESSAGES: usize = 64;
/// Flow-control window: one stream a connection, so both are the same.
const WINDOW_BYTES: u32 = 1 << 20;

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers TaskExecutors: each stream of one that proved to have the secret comes out of `accepted`. Proves in turn that this
/// process has it, and that it is the attempt `fencing`. Ends when the receiver of `accepted` is gone and all streams are over;
/// dropping it closes the listener.
///
/// # Errors
/// If connections that were let in cannot be served.
pub async fn serve_job_manager(
    listener: TcpListener,
    secret: Secret,
    fencing: FencingToken,
    accepted: mpsc::Sender<TaskExecutorStream>,
) -> Result<(), ServeError> {
    let gateway = JobManagerGateway {
        accepted: accepted.clone(),
    };
    let service = JobManagerServer::new(gateway)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let admission = Admission {
        secret,
        service: Service::JobManager,
        attempt: fencing,
    };
    let address = display_address(&listener);
    let (connections, admitting) = admission.begin(listener);
    let serving = server().serve_with_incoming_shutdown(service, connections, accepted.closed());
    until_served(serving, admitting)
        .await
        .map_err(|cause| ServeError { address, cause })
}

/// Answers workers: each stream of one that proved to have the secret comes out of `accepted`. Proves in turn that this process
/// has it, and that it belongs to the attempt `fencing`. Ends when the receiver of `accepted` is gone and all streams are over;
/// dropping it closes the listener.
///
/// # Errors
/// If connections that were let in cannot be served.
pub async fn serve_workers(
    listener: TcpListener,
    secret: Secret,
    fencing: FencingToken,
    accepted: mpsc::Sender<WorkerStream>,
) -> Result<(), ServeError> {
    let gateway = WorkerGateway {
        accepted: accepted.clone(),
    };
    let service = TaskExecutorServer::new(gateway)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let admission = Admission {
        secret,
        service: Service::TaskExecutor,
        attempt: fencing,
    };
    let address = display_address(&listener);
    let (connections, admitting) = admission.begin(listener);
    let serving = server().serve_with_incoming_shutdown(service, connections, accepted.closed());
    until_served(serving, admitting)
        .await
        .map_err(|cause| ServeError { address, cause })
}

/// Opens a TaskExecutor's stream to the JobManager at `address`, `host:port`, whose attempt is `least` or a later one.
///
/// # Errors
/// If nobody answers within [`CONNECT_TIMEOUT`], or whoever does cannot prove that it is this application's JobManager; it was told
/// nothing then.
pub async fn connect_job_manager(
    address: &str,
    secret: &Secret,
    least: FencingToken,
) -> Result<JobManagerConnection, ConnectError> {
    let (fencing, channel) = channel(address, secret, Service::JobManager, least).await?;
    let mut client = JobManagerClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
    let messages = until_farewell::<ToJobManager, _>(messages);
    let response = opened(address, client.connect(messages)).await?;
    Ok(JobManagerConnection {
        fencing,
        outgoing,
        incoming: incoming(response.into_inner()),
    })
}

/// Opens a worker's stream to the TaskExecutor at `address`, `host:port`, which belongs to the attempt `least` or a later one.
///
/// # Errors
/// If nobody answers within [`CONNECT_TIMEOUT`], or whoever does cannot prove that it is a TaskExecutor of this application; it was
/// told nothing then.
pub async fn connect_task_executor(
    address: &str,
    secret: &Secret,
    least: FencingToken,
) -> Result<WorkerConnection, ConnectError> {
    let (_, channel) = channel(address, secret, Service::TaskExecutor, least).await?;
    let mut client = TaskExecutorClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
    let messages = until_farewell::<FromWorker, _>(messages);
    let response = opened(address, client.connect(messages)).await?;
    Ok(WorkerConnection {
        outgoing,
        incoming: incoming(response.into_inner()),
    })
}

struct JobManagerGateway {
    accepted: mpsc::Sender<TaskExecutorStream>,
}

#[tonic::async_trait]
impl JobManager for JobManagerGateway {
    type ConnectStream = Outgoing<proto::ToTaskExecutor>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::ToJobManager>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, messages) = mpsc::channel::<ToTaskExecutor>(OUTGOING_MESSAGES);
        let stream = TaskExecutorStream {
            peer: peer(&request)?,
            incoming: incoming_until_farewell(request.into_inner()),
            outgoing,
        };
        hand_over(&self.accepted, stream).await?;
        let messages = ReceiverStream::new(messages).map(|message| Ok(message.into()));
        Ok(Response::new(Box::pin(messages)))
    }
}

struct WorkerGateway {
    accepted: mpsc::Sender<WorkerStream>,
}

#[tonic::async_trait]
impl TaskExecutor for WorkerGateway {
    type ConnectStream = Outgoing<proto::ToWorker>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::FromWorker>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, messages) = mpsc::channel::<ToWorker>(OUTGOING_MESSAGES);
        let stream = WorkerStream {
            peer: peer(&request)?,
            incoming: incoming_until_farewell(request.into_inner()),
            outgoing,
        };
        hand_over(&self.accepted, stream).await?;
        let messages = ReceiverStream::new(messages).map(|message| Ok(message.into()));
        Ok(Response::new(Box::pin(messages)))
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

/// Serves until that ends; letting people in ends with it.
async fn until_served(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    admitting: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let mut serving = pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = admitting => {}
    }
    serving.await
}

fn peer<T>(request: &Request<T>) -> Result<SocketAddr, Status> {
    request
        .remote_addr()
        .ok_or_else(|| Status::internal("the connection has no peer address"))
}

async fn hand_over<T>(accepted: &mpsc::Sender<T>, stream: T) -> Result<(), Status> {
    accepted
        .send(stream)
        .await
        .map_err(|_| Status::unavailable("shutting down"))
}

fn display_address(listener: &TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|_| "its listener".to_owned(), |address| address.to_string())
}

/// A connection over which both sides have proved themselves. It is never made anew behind our back: the next one might end
/// at somebody else.
async fn channel(
    address: &str,
    secret: &Secret,
    service: Service,
    least: FencingToken,
) -> Result<(FencingToken, Channel), ConnectError> {
    let not_one = || ConnectError::Address {
        address: address.to_owned(),
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| not_one())?;
    if endpoint.uri().port().is_none() {
        return Err(not_one());
    }
    let failed = |error| failed(address, least, error);
    let proved = timeout(CONNECT_TIMEOUT, prove(address, secret, service, least)).await;
    let (fencing, stream) = proved
        .unwrap_or_else(|_| Err(HandshakeError::Io(io::ErrorKind::TimedOut.into())))
        .map_err(failed)?;
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = service_fn(move |_| {
        let stream = once.lock().ok().and_then(|mut stream| stream.take());
        future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let channel = endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError::Refused {
            address: address.to_owned(),
            // Its own words are `transport error` and no more.
            reason: error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string),
        })?;
    Ok((fencing, channel))
}

async fn prove(
    address: &str,
    secret: &Secret,
    service: Service,
    least: FencingToken,
) -> Result<(FencingToken, TcpStream), HandshakeError> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(HandshakeError::Io)?;
    stream.set_nodelay(true)?;
    let fencing = handshake::open(&mut stream, secret, service, least).await?;
    Ok((fencing, stream))
}

fn failed(address: &str, least: FencingToken, error: HandshakeError) -> ConnectError {
    let address = address.to_owned();
    match error {
        HandshakeError::Io(cause) => ConnectError::Unreachable { address, cause },
        // A process that is about to end does that; so it is worth another try.
        HandshakeError::Closed => ConnectError::Unreachable {
            address,
            cause: io::ErrorKind::UnexpectedEof.into(),
        },
        HandshakeError::Protocol | HandshakeError::Service | HandshakeError::Secret => {
            ConnectError::Impostor { address }
        }
        HandshakeError::Attempt(found) => ConnectError::Fenced {
            address,
            found,
            expected: least,
        },
    }
}

/// Waits for the head of the answer, so that a refusal is an error here and not the end of a stream later.
async fn opened<T>(
    address: &str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, ConnectError> {
    let refused = |reason: String| ConnectError::Refused {
        address: address.to_owned(),
        reason,
    };
    match timeout(CONNECT_TIMEOUT, answer).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(status)) => Err(refused(status.message().to_owned())),
        Err(_) => Err(refused(format!("no answer within {CONNECT_TIMEOUT:?}"))),
    }
}

/// What the side that opened a stream sends on it.
fn until_farewell<T, P>(messages: mpsc::Receiver<T>) -> impl Stream<Item = P>
where
    P: From<T> + Farewell,
{
    ReceiverStream::new(messages)
        .map(P::from)
        .chain(tokio_stream::once(P::farewell()))
}

/// What the side that accepted a stream hears on it.
fn incoming_until_farewell<P, T>(messages: Streaming<P>) -> Incoming<T>
where
    P: Farewell + Send + 'static,
    T: TryFrom<P, Error = ConvertError> + 'static,
{
    let lost = || StreamEnd::Lost("it fell silent or broke".to_owned());
    let messages = messages.map(Some).chain(tokio_stream::once(None));
    Incoming::new(messages.map(move |message| match message {
        Some(Ok(message)) if message.is_farewell() => Err(StreamEnd::Closed),
        Some(Ok(message)) => T::try_from(message).map_err(StreamEnd::Malformed),
        Some(Err(status)) => Err(StreamEnd::Lost(status.message().to_owned())),
        None => Err(lost()),
    }))
}

/// What the side that opened a stream hears on it: gRPC itself tells a status that ends it well from a loss.
fn incoming<P, T>(messages: Streaming<P>) -> Incoming<T>
where
    P: Send + 'static,
    T: TryFrom<P, Error = ConvertError> + 'static,
{
    Incoming::new(messages.map(|message| match message {
        Ok(message) => T::try_from(message).map_err(StreamEnd::Malformed),
        Err(status) => Err(StreamEnd::Lost(status.message().to_owned())),
    }))
}

#[cfg(test)]
mod tests;
