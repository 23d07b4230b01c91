//! Where this crate opens sockets, and the handshake on them: both sides prove that they have the application's secret before
//! anything else is taken.

use std::time::Duration;

use bytes::BytesMut;
use spindle_common::id::JobId;
use spindle_rpc::Secret;
use spindle_rpc::data_plane::{Role, answer, make_challenge, verify};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::exchange::frame::{EXCHANGE_VERSION, Frame, FrameError, MAX_HANDSHAKE_FRAME, decode};

/// How long connecting and the proofs of both sides may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who this worker is on its data plane.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) job: JobId,
    pub(crate) secret: Secret,
    /// `host:port` at which it is read.
    pub(crate) address: String,
}

/// A connection that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("failed to connect to its worker")]
    Connect(#[source] std::io::Error),
    #[error("failed to exchange proofs")]
    Io(#[from] std::io::Error),
    #[error("the connection was closed before it was proved")]
    Closed,
    #[error("no proof within {HANDSHAKE_TIMEOUT:?}")]
    TimedOut,
    #[error("it sent what is no proof")]
    Frame(#[from] FrameError),
    #[error("it sent something else before its proof")]
    OutOfTurn,
    #[error("it speaks version {0} of the exchange, not {EXCHANGE_VERSION}")]
    Version(u32),
    #[error("it belongs to job {0}")]
    Job(JobId),
    #[error("it does not have the secret of this application")]
    Secret,
}

impl HandshakeError {
    /// Whether the other side at least spoke our protocol.
    pub(crate) const fn is_of_ours(&self) -> bool {
        match self {
            Self::Version(_) | Self::Job(_) | Self::Secret => true,
            Self::Connect(_)
            | Self::Io(_)
            | Self::Closed
            | Self::TimedOut
            | Self::Frame(_)
            | Self::OutOfTurn => false,
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A listener on a free port of `host`, and its `host:port`.
pub(crate) fn bind(host: &str, runtime: &Handle) -> std::io::Result<(TcpListener, String)> {
    let listener = std::net::TcpListener::bind((host, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let _guard = runtime.enter();
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Ok((TcpListener::from_std(listener)?, address))
}

/// Opens a connection to another worker. Returns also what came after the handshake.
pub(crate) async fn connect(
    address: &str,
    identity: &Identity,
) -> Result<(TcpStream, BytesMut), HandshakeError> {
    let connected = async {
        let mut stream = TcpStream::connect(address)
            .await
            .map_err(HandshakeError::Connect)?;
        stream.set_nodelay(true)?;
        let rest = prove_connecting(&mut stream, identity).await?;
        Ok((stream, rest))
    };
    timeout(HANDSHAKE_TIMEOUT, connected)
        .await
        .map_err(|_| HandshakeError::TimedOut)?
}

/// Lets another worker in. Returns also what came after the handshake, and the other's own address.
pub(crate) async fn welcome(
    mut stream: TcpStream,
    identity: &Identity,
) -> Result<(TcpStream, BytesMut, String), HandshakeError> {
    let welcomed = async {
        stream.set_nodelay(true)?;
        let (rest, address) = prove_accepting(&mut stream, identity).await?;
        Ok((stream, rest, address))
    };
    timeout(HANDSHAKE_TIMEOUT, welcomed)
        .await
        .map_err(|_| HandshakeError::TimedOut)?
}

/// The handshake of the consumer's side. Returns what came after it.
pub(crate) async fn prove_connecting<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    identity: &Identity,
) -> Result<BytesMut, HandshakeError> {
    let mut input = BytesMut::new();
    let mine = make_challenge()?;
    let hello = Frame::Hello {
        version: EXCHANGE_VERSION,
        job: identity.job,
        address: identity.address.clone(),
        challenge: mine,
    };
    send(stream, &hello).await?;
    let Frame::Welcome { proof, challenge } = receive(stream, &mut input).await? else {
        return Err(HandshakeError::OutOfTurn);
    };
    let context = identity.address.as_bytes();
    if !verify(
        &identity.secret,
        &mine,
        Role::Accepting,
        identity.job,
        context,
        &proof,
    ) {
        return Err(HandshakeError::Secret);
    }
    let proof = answer(
        &identity.secret,
        &challenge,
        Role::Connecting,
        identity.job,
        context,
    );
    send(stream, &Frame::Proof(proof)).await?;
    Ok(input)
}

/// The handshake of the producer's side. Returns what came after it, and the other's own address.
pub(crate) async fn prove_accepting<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    identity: &Identity,
) -> Result<(BytesMut, String), HandshakeError> {
    let mut input = BytesMut::new();
    let Frame::Hello {
        version,
        job,
        address,
        challenge,
    } = receive(stream, &mut input).await?
    else {
        return Err(HandshakeError::OutOfTurn);
    };
    if version != EXCHANGE_VERSION {
        return Err(HandshakeError::Version(version));
    }
    if job != identity.job {
        return Err(HandshakeError::Job(job));
    }
    let mine = make_challenge()?;
    let context = address.as_bytes();
    let proof = answer(&identity.secret, &challenge, Role::Accepting, job, context);
    let welcome = Frame::Welcome {
        proof,
        challenge: mine,
    };
    send(stream, &welcome).await?;
    let Frame::Proof(proof) = receive(stream, &mut input).await? else {
        return Err(HandshakeError::OutOfTurn);
    };
    if !verify(
        &identity.secret,
        &mine,
        Role::Connecting,
        job,
        context,
        &proof,
    ) {
        return Err(HandshakeError::Secret);
    }
    Ok((input, address))
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, frame: &Frame) -> std::io::Result<()> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    stream.write_all(&out).await
}

async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Frame, HandshakeError> {
    loop {
        if let Some(frame) = decode(input, MAX_HANDSHAKE_FRAME)? {
            return Ok(frame);
        }
        if stream.read_buf(input).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
}
