//! Where this crate opens sockets.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use spindle_common::gateway::{FromWorker, ToJobManager, ToTaskExecutor, ToWorker};
use spindle_common::id::FencingToken;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::convert::{ConvertError, Farewell};
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
/// How long an attempt to connect may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message either side takes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Messages waiting to be sent on one stream before its sender has to wait.
const OUTGOING_MESSAGES: usize = 64;
/// Flow-control window: one stream a connection, so both are the same.
const WINDOW_BYTES: u32 = 1 << 20;
const FENCING: &str = "spindle-fencing-token";
const AUTHORIZATION: &str = "authorization";

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers TaskExecutors: each stream with the right secret comes out of `accepted`. Ends when the receiver of `accepted` is
/// gone and all streams are over; dropping it closes the listener.
///
/// # Errors
/// If the listener fails.
pub async fn serve_job_manager(
    listener: TcpListener,
    secret: Secret,
    fencing: FencingToken,
    accepted: mpsc::Sender<TaskExecutorStream>,
) -> Result<(), ServeError> {
    let gateway = JobManagerGateway {
        fencing,
        accepted: accepted.clone(),
    };
    let service = JobManagerServer::new(gateway)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let address = display_address(&listener);
    server()
        .serve_with_incoming_shutdown(
            InterceptedService::new(service, authenticate(secret)),
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move { accepted.closed().await },
        )
        .await
        .map_err(|cause| ServeError { address, cause })
}

/// Answers workers: each stream with the right secret comes out of `accepted`. Ends when the receiver of `accepted` is gone and
/// all streams are over; dropping it closes the listener.
///
/// # Errors
/// If the listener fails.
pub async fn serve_workers(
    listener: TcpListener,
    secret: Secret,
    accepted: mpsc::Sender<WorkerStream>,
) -> Result<(), ServeError> {
    let gateway = WorkerGateway {
        accepted: accepted.clone(),
    };
    let service = TaskExecutorServer::new(gateway)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let address = display_address(&listener);
    server()
        .serve_with_incoming_shutdown(
            InterceptedService::new(service, authenticate(secret)),
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move { accepted.closed().await },
        )
        .await
        .map_err(|cause| ServeError { address, cause })
}

/// Opens a TaskExecutor's stream to the JobManager at `address`, `host:port`.
///
/// # Errors
/// If nobody answers within [`CONNECT_TIMEOUT`], or the secret is refused.
pub async fn connect_job_manager(
    address: &str,
    secret: &Secret,
) -> Result<JobManagerConnection, ConnectError> {
    let mut client = JobManagerClient::new(channel(address).await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
    let messages = until_farewell::<ToJobManager, _>(messages);
    let response = opened(address, client.connect(request(secret, messages))).await?;
    let fencing = response
        .metadata()
        .get(FENCING)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(FencingToken)
        .ok_or_else(|| ConnectError::Refused {
            address: address.to_owned(),
            reason: "it did not tell its attempt".to_owned(),
        })?;
    Ok(JobManagerConnection {
        fencing,
        outgoing,
        incoming: incoming(response.into_inner()),
    })
}

/// Opens a worker's stream to the TaskExecutor at `address`, `host:port`.
///
/// # Errors
/// If nobody answers within [`CONNECT_TIMEOUT`], or the secret is refused.
pub async fn connect_task_executor(
    address: &str,
    secret: &Secret,
) -> Result<WorkerConnection, ConnectError> {
    let mut client = TaskExecutorClient::new(channel(address).await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
    let messages = until_farewell::<FromWorker, _>(messages);
    let response = opened(address, client.connect(request(secret, messages))).await?;
    Ok(WorkerConnection {
        outgoing,
        incoming: incoming(response.into_inner()),
    })
}

struct JobManagerGateway {
    fencing: FencingToken,
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
        let mut response = Response::new(Box::pin(messages) as Self::ConnectStream);
        let metadata = response.metadata_mut();
        metadata.insert(FENCING, MetadataValue::from(self.fencing.0));
        Ok(response)
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

/// Runs on the head of a request, before any of its messages is read.
fn authenticate(
    secret: Secret,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| {
        let given = request.metadata().get(AUTHORIZATION);
        if given.is_some_and(|value| value.to_str().is_ok_and(|text| secret.is_bearer(text))) {
            return Ok(request);
        }
        tracing::warn!(peer = ?request.remote_addr(), "refused a stream without the right secret");
        Err(Status::unauthenticated(
            "the secret of this application is needed",
        ))
    }
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

async fn channel(address: &str) -> Result<Channel, ConnectError> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|_| ConnectError::Address {
            address: address.to_owned(),
        })?;
    if endpoint.uri().port().is_none() {
        return Err(ConnectError::Address {
            address: address.to_owned(),
        });
    }
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect()
        .await
        .map_err(|cause| ConnectError::Unreachable {
            address: address.to_owned(),
            cause,
        })
}

fn request<S>(secret: &Secret, messages: S) -> Request<S> {
    let mut request = Request::new(messages);
    let mut value: AsciiMetadataValue = secret
        .to_bearer()
        .parse()
        .expect("`Bearer` and hexadecimal digits are a header value");
    value.set_sensitive(true);
    request.metadata_mut().insert(AUTHORIZATION, value);
    request
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
    match tokio::time::timeout(CONNECT_TIMEOUT, answer).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(status)) if status.code() == Code::Unauthenticated => {
            Err(ConnectError::Unauthenticated {
                address: address.to_owned(),
            })
        }
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
