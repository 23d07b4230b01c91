//! What the fuzz target in `tests/fuzz` reaches of the data plane. Not there in any other build.

use bytes::BytesMut;
use spindle_common::id::JobId;
use spindle_rpc::Secret;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::frame::{MAX_FRAME, decode};
use crate::net::{Identity, prove_accepting, prove_connecting};

/// The frames that these bytes hold: the same however they come in, and each reads back from what it is written as.
pub fn frames(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, 3));
}

fn read(bytes: &[u8], step: usize) -> (Vec<String>, bool) {
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            match decode(&mut input, MAX_FRAME) {
                Ok(Some(frame)) => {
                    let mut again = Vec::new();
                    frame.encode(&mut again);
                    let again = decode(&mut BytesMut::from(&*again), MAX_FRAME);
                    assert_eq!(again, Ok(Some(frame.clone())));
                    found.push(format!("{frame:?}"));
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fn identity(secret: &Secret) -> Identity {
    Identity {
        job: JobId::from_bytes([1; 16]),
        secret: secret.clone(),
        address: "host:1".to_owned(),
    }
}

/// Whether a producer lets somebody in who says this; the job is all ones.
pub async fn is_let_in<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, secret: &Secret) -> bool {
    prove_accepting(&mut stream, &identity(secret))
        .await
        .is_ok()
}

/// Whether a consumer believes somebody who answers this.
pub async fn is_believed<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    secret: &Secret,
) -> bool {
    prove_connecting(&mut stream, &identity(secret))
        .await
        .is_ok()
}
