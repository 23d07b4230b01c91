//! How the two ends of a stream prove to each other, on the bare connection and before a byte of gRPC, that they belong to the
//! same application.
//!
//! ```text
//! opener   → acceptor   MAGIC (8) service (1) challenge (32)
//! acceptor → opener     MAGIC (8) attempt (u64) challenge (32) proof (32)
//! opener   → acceptor   proof (32)
//! proof = HMAC-SHA256(secret, label service role attempt opener's challenge acceptor's challenge)
//! ```
//! Numbers are big-endian; everything has a fixed length, so nothing a stranger sends can make either side read, or keep, more.
//! Each proof covers both challenges, which nobody uses twice: an old proof is worth nothing. It covers who proves it and at which
//! service: nor is a proof that was mirrored, or asked of a process of another kind. The opener sends what it has to say right
//! behind its proof, so the whole costs one round trip. The secret itself never crosses the wire, in either direction.

use std::io;

use hmac::Mac;
use hmac::digest::Output;
use sha2::Sha256;
use spindle_common::id::FencingToken;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Secret;
use crate::data_plane::{Challenge, PROOF_BYTES, Proof, Role, make_challenge};

/// What both sides begin with; its last digit is the version.
pub(crate) const MAGIC: [u8; 8] = *b"spindle1";
pub(crate) const HELLO_BYTES: usize = MAGIC.len() + 1 + PROOF_BYTES;
pub(crate) const WELCOME_BYTES: usize = MAGIC.len() + 8 + 2 * PROOF_BYTES;

/// Whose stream it is: that of the process which answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    JobManager,
    TaskExecutor,
}

impl Service {
    fn byte(self) -> u8 {
        match self {
            Self::JobManager => b'J',
            Self::TaskExecutor => b'T',
        }
    }
}

/// Why the other end cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the connection was closed before both sides had proved themselves")]
    Closed,
    #[error("failed to exchange proofs")]
    Io(#[source] io::Error),
    #[error("it speaks another protocol, or another version of ours")]
    Protocol,
    #[error("it wants another service than the one that answers here")]
    Service,
    #[error("it does not have the secret of this application")]
    Secret,
    /// It has the secret, but is an older attempt; the opener has kept its own proof to itself.
    #[error("it is attempt {0}, which is over")]
    Attempt(FencingToken),
}

impl From<io::Error> for HandshakeError {
    fn from(cause: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let closed = [
            UnexpectedEof,
            ConnectionReset,
            ConnectionAborted,
            BrokenPipe,
        ];
        if closed.contains(&cause.kind()) {
            Self::Closed
        } else {
            Self::Io(cause)
        }
    }
}

/// The opener's side. Returns the attempt of the process that answered, which is at least `least`.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secret: &Secret,
    service: Service,
    least: FencingToken,
) -> Result<FencingToken, HandshakeError> {
    let opener = make_challenge()?;
    stream.write_all(&hello(service, &opener)).await?;
    // What begins otherwise is known at its first bytes, and not waited for.
    if read_array(stream).await? != MAGIC {
        return Err(HandshakeError::Protocol);
    }
    let attempt = FencingToken(u64::from_be_bytes(read_array(stream).await?));
    let acceptor: Challenge = read_array(stream).await?;
    let proof: Proof = read_array(stream).await?;
    let bound = Bound {
        service,
        attempt,
        opener,
        acceptor,
    };
    if !bound.holds(secret, Role::Accepting, &proof) {
        return Err(HandshakeError::Secret);
    }
    if attempt < least {
        return Err(HandshakeError::Attempt(attempt));
    }
    stream
        .write_all(&bound.proof(secret, Role::Connecting))
        .await?;
    Ok(attempt)
}

/// The acceptor's side.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secret: &Secret,
    service: Service,
    attempt: FencingToken,
) -> Result<(), HandshakeError> {
    if read_array(stream).await? != MAGIC {
        return Err(HandshakeError::Protocol);
    }
    if read_array(stream).await? != [service.byte()] {
        return Err(HandshakeError::Service);
    }
    let bound = Bound {
        service,
        attempt,
        opener: read_array(stream).await?,
        acceptor: make_challenge()?,
    };
    stream.write_all(&bound.welcome(secret)).await?;
    let proof: Proof = read_array(stream).await?;
    if bound.holds(secret, Role::Connecting, &proof) {
        Ok(())
    } else {
        Err(HandshakeError::Secret)
    }
}

/// What a proof is about.
struct Bound {
    service: Service,
    attempt: FencingToken,
    opener: Challenge,
    acceptor: Challenge,
}

impl Bound {
    fn mac(&self, secret: &Secret, role: Role) -> hmac::Hmac<Sha256> {
        let mut mac = secret.hmac();
        mac.update(b"spindle stream 1");
        mac.update(&[self.service.byte(), role.byte()]);
        mac.update(&self.attempt.0.to_be_bytes());
        mac.update(&self.opener);
        mac.update(&self.acceptor);
        mac
    }

    fn proof(&self, secret: &Secret, role: Role) -> Proof {
        let output: Output<hmac::Hmac<Sha256>> = self.mac(secret, role).finalize().into_bytes();
        output.into()
    }

    /// Takes the same time wherever a wrong proof differs.
    fn holds(&self, secret: &Secret, role: Role, proof: &Proof) -> bool {
        self.mac(secret, role).verify_slice(proof).is_ok()
    }

    fn welcome(&self, secret: &Secret) -> [u8; WELCOME_BYTES] {
        let mut bytes = [0; WELCOME_BYTES];
        let (head, rest) = bytes.split_at_mut(MAGIC.len());
        let (attempt, rest) = rest.split_at_mut(8);
        let (challenge, proof) = rest.split_at_mut(PROOF_BYTES);
        head.copy_from_slice(&MAGIC);
        attempt.copy_from_slice(&self.attempt.0.to_be_bytes());
        challenge.copy_from_slice(&self.acceptor);
        proof.copy_from_slice(&self.proof(secret, Role::Accepting));
        bytes
    }
}

fn hello(service: Service, challenge: &Challenge) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    let (head, rest) = bytes.split_at_mut(MAGIC.len());
    head.copy_from_slice(&MAGIC);
    rest[0] = service.byte();
    rest[1..].copy_from_slice(challenge);
    bytes
}

async fn read_array<S: AsyncRead + Unpin, const N: usize>(
    stream: &mut S,
) -> Result<[u8; N], HandshakeError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
