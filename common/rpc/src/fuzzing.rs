//! What the fuzz targets in `tests/fuzz` reach of the decoders of this crate. Not there in any other build.

use std::fmt::Debug;

use prost::Message;
use spindle_common::gateway::{FromWorker, ToJobManager, ToTaskExecutor, ToWorker};
use spindle_common::id::FencingToken;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Secret;
use crate::convert::{ConvertError, Farewell};
use crate::handshake::{self, Service};
use crate::proto;

/// What both ends of the stream between TaskExecutor and JobManager hear.
pub fn job_manager_stream(bytes: &[u8]) {
    heard::<proto::ToJobManager, ToJobManager>(bytes, proto::ToJobManager::is_farewell);
    heard::<proto::ToTaskExecutor, ToTaskExecutor>(bytes, |_| false);
}

/// What both ends of the stream between worker and TaskExecutor hear.
pub fn worker_stream(bytes: &[u8]) {
    heard::<proto::FromWorker, FromWorker>(bytes, proto::FromWorker::is_farewell);
    heard::<proto::ToWorker, ToWorker>(bytes, |_| false);
}

/// Whether the acceptor of a connection lets somebody in who says this.
pub async fn is_let_in<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, secret: &Secret) -> bool {
    handshake::accept(&mut stream, secret, Service::JobManager, FencingToken(1))
        .await
        .is_ok()
}

/// Whether the opener of a connection believes somebody who answers this.
pub async fn is_believed<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    secret: &Secret,
) -> bool {
    handshake::open(&mut stream, secret, Service::JobManager, FencingToken(0))
        .await
        .is_ok()
}

/// A message that is understood says the same when it is said again.
fn heard<P, T>(bytes: &[u8], is_last: impl Fn(&P) -> bool)
where
    P: Message + Default + From<T>,
    T: TryFrom<P, Error = ConvertError> + Clone + PartialEq + Debug,
{
    let Ok(message) = P::decode(bytes) else {
        return;
    };
    if is_last(&message) {
        return;
    }
    match T::try_from(message) {
        Ok(told) => {
            let again = P::from(told.clone()).encode_to_vec();
            let again = P::decode(&*again).expect("what we encode can be decoded");
            assert_eq!(T::try_from(again), Ok(told));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
