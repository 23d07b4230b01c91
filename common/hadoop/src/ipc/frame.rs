//! Frames of Hadoop IPC version 9, without I/O.
//!
//! ```text
//! preamble   "hrpc" 9 0 (0x00 SIMPLE | 0xdf SASL)                   once, from the client
//! frame      length (32 bits, big endian), then messages, each behind its own varint length
//! ```
//!
//! Lengths come from the network: none is believed before the bytes are there, and none above a limit.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use super::{Method, Protocol};
use crate::proto::common as pb;
use crate::proto::common::rpc_request_header::Operation;

/// Longest frame either side takes, in bytes (`ipc.maximum.data.length`).
pub const MAX_FRAME: usize = 128 << 20;

/// Call id of the connection context.
pub const CONTEXT_CALL: i32 = -3;
/// Call id of a ping.
pub const PING_CALL: i32 = -4;
/// Call id of SASL messages.
pub const SASL_CALL: i32 = -33;

const VERSION: u8 = 9;
const SERVICE_CLASS: u8 = 0;
/// Free space for one read, in bytes.
const READ_SIZE: usize = 8 << 10;
/// Retry count of what is not a call.
const NO_RETRY: i32 = -1;

/// Tells the calls of a client from those of others.
pub type ClientId = [u8; 16];

/// The first byte of authentication, in the preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthProtocol {
    /// None: the user's name is believed.
    None = 0x00,
    /// SASL.
    Sasl = 0xdf,
}

/// A frame that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than the limit: mostly not a Hadoop server.
    #[error("a frame of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// As announced.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A message in the frame is broken.
    #[error("malformed {what}")]
    Message {
        /// Which.
        what: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
    /// The frame goes on behind its last message.
    #[error("{0} bytes left over behind the last message of a frame")]
    LeftOver(usize),
    /// An answer in clear on a connection that is to be protected, or the other way round.
    #[error("unexpected call id {0} in an answer")]
    UnexpectedCall(i32),
}

/// The bytes that open a connection.
pub const fn preamble(auth: AuthProtocol) -> [u8; 7] {
    [b'h', b'r', b'p', b'c', VERSION, SERVICE_CLASS, auth as u8]
}

/// A request header with what never changes.
fn request_header(call_id: i32, client_id: &[u8], retry_count: i32) -> pb::RpcRequestHeader {
    pb::RpcRequestHeader {
        rpc_kind: Some(pb::RpcKind::RpcProtocolBuffer.into()),
        rpc_op: Some(Operation::RpcFinalPacket.into()),
        call_id,
        client_id: client_id.to_vec(),
        retry_count: Some(retry_count),
        ..Default::default()
    }
}

fn put_frame(out: &mut BytesMut, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(4 + length);
    out.put_u32(u32::try_from(length).expect("requests are far shorter than 4 GiB"));
    for part in parts {
        out.put_slice(part);
    }
}

/// Appends a call; `request` is the request message behind its length, see [`Message::encode_length_delimited_to_vec`].
pub fn put_call(
    out: &mut BytesMut,
    client_id: &ClientId,
    call_id: i32,
    retry_count: i32,
    protocol: Protocol,
    method: Method,
    request: &[u8],
) {
    let header = request_header(call_id, client_id, retry_count).encode_length_delimited_to_vec();
    let target = pb::RequestHeader {
        method_name: method.name.to_owned(),
        declaring_class_protocol_name: protocol.name.to_owned(),
        client_protocol_version: protocol.version,
    };
    put_frame(
        out,
        &[&header, &target.encode_length_delimited_to_vec(), request],
    );
}

/// Appends the connection context; `user` is none where a token says it.
pub fn put_context(
    out: &mut BytesMut,
    client_id: &ClientId,
    protocol: Protocol,
    user: Option<&str>,
) {
    let header = request_header(CONTEXT_CALL, client_id, NO_RETRY).encode_length_delimited_to_vec();
    let context = pb::IpcConnectionContext {
        user_info: Some(pb::UserInformation {
            effective_user: user.map(str::to_owned),
            real_user: None,
        }),
        protocol: Some(protocol.name.to_owned()),
    };
    put_frame(out, &[&header, &context.encode_length_delimited_to_vec()]);
}

/// Appends a ping.
pub fn put_ping(out: &mut BytesMut, client_id: &ClientId) {
    let header = request_header(PING_CALL, client_id, NO_RETRY).encode_length_delimited_to_vec();
    put_frame(out, &[&header]);
}

/// Appends a SASL message.
pub fn put_sasl(out: &mut BytesMut, message: &pb::RpcSasl) {
    let header = request_header(SASL_CALL, &[], NO_RETRY).encode_length_delimited_to_vec();
    put_frame(out, &[&header, &message.encode_length_delimited_to_vec()]);
}

/// Appends an answer, as a server does.
pub fn put_response(out: &mut BytesMut, header: &pb::RpcResponseHeader, body: Option<&[u8]>) {
    put_frame(
        out,
        &[
            &header.encode_length_delimited_to_vec(),
            body.unwrap_or_default(),
        ],
    );
}

/// Takes the next message off a frame.
///
/// # Errors
/// When the message is broken or reaches beyond the frame.
pub fn take_message<M: Message + Default>(
    frame: &mut Bytes,
    what: &'static str,
) -> Result<M, FrameError> {
    M::decode_length_delimited(frame).map_err(|source| FrameError::Message { what, source })
}

/// Checks that a frame is used up.
///
/// # Errors
/// When bytes are left.
pub fn expect_end(frame: &Bytes) -> Result<(), FrameError> {
    if frame.is_empty() {
        Ok(())
    } else {
        Err(FrameError::LeftOver(frame.len()))
    }
}

/// An answer: its header, and behind it the response message, if it is a success.
#[derive(Debug, Clone)]
pub struct Response {
    /// The header.
    pub header: pb::RpcResponseHeader,
    /// The rest of the frame.
    pub body: Bytes,
}

impl Response {
    /// Reads a frame from a server.
    ///
    /// # Errors
    /// When the header is broken.
    pub fn decode(mut frame: Bytes) -> Result<Self, FrameError> {
        let header = take_message(&mut frame, "RpcResponseHeader")?;
        Ok(Self {
            header,
            body: frame,
        })
    }

    /// The call id; on the wire it is unsigned, and not zigzag as in a request.
    pub const fn call_id(&self) -> i32 {
        self.header.call_id.cast_signed()
    }

    /// Reads the response message.
    ///
    /// # Errors
    /// When it is broken, or bytes follow it.
    pub fn message<M: Message + Default>(mut self) -> Result<M, FrameError> {
        let message = take_message(&mut self.body, "response message")?;
        expect_end(&self.body)?;
        Ok(message)
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
}

impl FrameDecoder {
    /// Takes frames of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// Appends what came.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where a reader may put what comes; there is room for a good piece.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ_SIZE);
        &mut self.buffer
    }

    /// Whether nothing but whole frames has come.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole frame without its length; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When a frame is announced that is longer than the limit; the stream is then unusable.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(&[a, b, c, d]) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong {
                length,
                limit: self.limit,
            });
        }
        if self.buffer.len() - 4 < length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests;
