//! What two workers say on a connection, as bytes.
//!
//! ```text
//! frame   = length (u32, of what follows) kind (u8) body
//! text    = length (u16) UTF-8
//! task    = vertex (16 bytes) subtask (u32) attempt (u32)
//! ```
//! All numbers are little-endian. The consumer's worker opens the connection and says `Hello`, the producer's answers `Welcome`, the
//! consumer's says `Proof`; before that nothing else is taken. Then the consumer's sends `Open`, `Credit` and `Close`, the
//! producer's `Data`, `End` and `Failed`. A channel has the number that its `Open` gave it.

use bytes::{Buf as _, BytesMut};
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId};
use spindle_rpc::data_plane::{Challenge, PROOF_BYTES, Proof};

use super::ChannelId;

/// Raised when a frame changes.
pub(crate) const EXCHANGE_VERSION: u32 = 1;
/// Longest frame before the peer has proved who it is.
pub(crate) const MAX_HANDSHAKE_FRAME: usize = 512;
/// Longest frame after that: a buffer that holds one large record.
pub(crate) const MAX_FRAME: usize = 64 << 20;
/// Longest buffer that fits into a frame.
pub(crate) const MAX_BUFFER: usize = MAX_FRAME - 16;
const MAX_TEXT: usize = 256;
const LENGTH: usize = 4;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The consumer's worker: who it is, and what the other has to prove.
    Hello {
        version: u32,
        job: JobId,
        address: String,
        challenge: Challenge,
    },
    /// The producer's worker: its proof, and what the other has to prove.
    Welcome { proof: Proof, challenge: Challenge },
    /// The consumer's worker: its proof.
    Proof(Proof),
    /// Send what is in this channel, as number `number`.
    Open {
        number: u32,
        channel: ChannelId,
        consumer: ExecutionAttemptId,
    },
    /// That many buffers were taken.
    Credit { number: u32, credits: u32 },
    /// The consumer wants no more of it.
    Close { number: u32 },
    /// A buffer with this many records.
    Data {
        number: u32,
        records: u32,
        bytes: Vec<u8>,
    },
    /// That was all.
    End { number: u32 },
    /// The producer is gone before its end, or will not let itself be read.
    Failed { number: u32, reason: String },
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes is longer than {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    #[error("a frame of kind {kind} has the wrong length or contents")]
    Body { kind: u8 },
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const PROOF: u8 = 3;
const OPEN: u8 = 4;
const CREDIT: u8 = 5;
const CLOSE: u8 = 6;
const DATA: u8 = 7;
const END: u8 = 8;
const FAILED: u8 = 9;

impl Frame {
    /// Appends the frame to `out`. A text longer than it may be is cut.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        match self {
            Self::Hello {
                version,
                job,
                address,
                challenge,
            } => {
                out.push(HELLO);
                put_u32(out, *version);
                out.extend_from_slice(&job.to_bytes());
                put_text(out, address);
                out.extend_from_slice(challenge);
            }
            Self::Welcome { proof, challenge } => {
                out.push(WELCOME);
                out.extend_from_slice(proof);
                out.extend_from_slice(challenge);
            }
            Self::Proof(proof) => {
                out.push(PROOF);
                out.extend_from_slice(proof);
            }
            Self::Open {
                number,
                channel,
                consumer,
            } => {
                out.push(OPEN);
                put_u32(out, *number);
                put_task(out, channel.producer);
                put_u32(out, channel.edge);
                put_u32(out, channel.consumer);
                put_task(out, *consumer);
            }
            Self::Credit { number, credits } => {
                out.push(CREDIT);
                put_u32(out, *number);
                put_u32(out, *credits);
            }
            Self::Close { number } => {
                out.push(CLOSE);
                put_u32(out, *number);
            }
            Self::Data {
                number,
                records,
                bytes,
            } => {
                out.push(DATA);
                put_u32(out, *number);
                put_u32(out, *records);
                out.extend_from_slice(bytes);
            }
            Self::End { number } => {
                out.push(END);
                put_u32(out, *number);
            }
            Self::Failed { number, reason } => {
                out.push(FAILED);
                put_u32(out, *number);
                put_text(out, reason);
            }
        }
        let length = u32::try_from(out.len() - start - LENGTH)
            .expect("buffers are checked against MAX_BUFFER when emitted");
        out[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
    }
}

/// Takes the first frame off `input`, if it is there in full.
///
/// # Errors
/// If it is longer than `limit`, or makes no sense.
pub(crate) fn decode(input: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(head) = input.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    if input.len() < LENGTH + length {
        return Ok(None);
    }
    input.advance(LENGTH);
    let frame = body(&input[..length]);
    input.advance(length);
    frame.map(Some)
}

fn body(bytes: &[u8]) -> Result<Frame, FrameError> {
    let (&kind, rest) = bytes.split_first().ok_or(FrameError::Kind(0))?;
    let mut rest = Rest(rest);
    let frame = match kind {
        HELLO => rest.hello(),
        WELCOME => rest.welcome(),
        PROOF => rest.array::<PROOF_BYTES>().map(Frame::Proof),
        OPEN => rest.open(),
        CREDIT => rest.credit(),
        CLOSE => rest.u32().map(|number| Frame::Close { number }),
        DATA => rest.data(),
        END => rest.u32().map(|number| Frame::End { number }),
        FAILED => rest.failed(),
        other => return Err(FrameError::Kind(other)),
    };
    frame
        .filter(|_| rest.0.is_empty())
        .ok_or(FrameError::Body { kind })
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > MAX_TEXT {
            return None;
        }
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(head.to_vec()).ok()
    }

    fn task(&mut self) -> Option<ExecutionAttemptId> {
        Some(ExecutionAttemptId {
            vertex: JobVertexId::from_bytes(self.array()?),
            subtask: self.u32()?,
            attempt: self.u32()?,
        })
    }

    fn hello(&mut self) -> Option<Frame> {
        Some(Frame::Hello {
            version: self.u32()?,
            job: JobId::from_bytes(self.array()?),
            address: self.text()?,
            challenge: self.array()?,
        })
    }

    fn welcome(&mut self) -> Option<Frame> {
        Some(Frame::Welcome {
            proof: self.array()?,
            challenge: self.array()?,
        })
    }

    fn open(&mut self) -> Option<Frame> {
        Some(Frame::Open {
            number: self.u32()?,
            channel: ChannelId {
                producer: self.task()?,
                edge: self.u32()?,
                consumer: self.u32()?,
            },
            consumer: self.task()?,
        })
    }

    fn credit(&mut self) -> Option<Frame> {
        Some(Frame::Credit {
            number: self.u32()?,
            credits: self.u32()?,
        })
    }

    fn data(&mut self) -> Option<Frame> {
        let (number, records) = (self.u32()?, self.u32()?);
        let bytes = std::mem::take(&mut self.0).to_vec();
        Some(Frame::Data {
            number,
            records,
            bytes,
        })
    }

    fn failed(&mut self) -> Option<Frame> {
        Some(Frame::Failed {
            number: self.u32()?,
            reason: self.text()?,
        })
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(MAX_TEXT);
    let length = u16::try_from(end).expect("MAX_TEXT fits");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

fn put_task(out: &mut Vec<u8>, task: ExecutionAttemptId) {
    out.extend_from_slice(&task.vertex.to_bytes());
    put_u32(out, task.subtask);
    put_u32(out, task.attempt);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(subtask: u32) -> ExecutionAttemptId {
        ExecutionAttemptId {
            vertex: JobVertexId::of_uid("a"),
            subtask,
            attempt: 3,
        }
    }

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Hello {
                version: 1,
                job: JobId::from_bytes([3; 16]),
                address: "host:1".into(),
                challenge: [1; 32],
            },
            Frame::Welcome {
                proof: [2; 32],
                challenge: [3; 32],
            },
            Frame::Proof([4; 32]),
            Frame::Open {
                number: 7,
                channel: ChannelId {
                    producer: task(1),
                    edge: 2,
                    consumer: 3,
                },
                consumer: task(3),
            },
            Frame::Credit {
                number: 7,
                credits: 2,
            },
            Frame::Close { number: 7 },
            Frame::Data {
                number: 7,
                records: 2,
                bytes: b"abc".to_vec(),
            },
            Frame::End { number: 7 },
            Frame::Failed {
                number: 7,
                reason: "gone".into(),
            },
        ]
    }

    #[test]
    fn every_frame_reads_back_however_it_is_cut() {
        let mut bytes = Vec::new();
        for frame in frames() {
            frame.encode(&mut bytes);
        }
        for step in [1, 3, bytes.len()] {
            let (mut input, mut got) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                input.extend_from_slice(piece);
                while let Some(frame) = decode(&mut input, MAX_FRAME).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames());
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_head_alone() {
        let mut input = BytesMut::from(&1000_u32.to_le_bytes()[..]);
        assert_eq!(
            decode(&mut input, 512),
            Err(FrameError::TooLong {
                length: 1000,
                limit: 512
            })
        );
    }

    #[test]
    fn bytes_left_over_or_missing_in_a_body_are_refused() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            let shorter = u32::try_from(bytes.len() - LENGTH - 1).unwrap();
            bytes[..LENGTH].copy_from_slice(&shorter.to_le_bytes());
            bytes.pop();
            let read = decode(&mut BytesMut::from(&bytes[..]), MAX_FRAME);
            if matches!(frame, Frame::Data { .. }) {
                assert!(read.is_ok());
            } else {
                assert_eq!(
                    read,
                    Err(FrameError::Body {
                        kind: bytes[LENGTH]
                    }),
                    "{frame:?}"
                );
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut bytes = Vec::new();
        Frame::Failed {
            number: 1,
            reason: "ä".repeat(400),
        }
        .encode(&mut bytes);
        let read = decode(&mut BytesMut::from(&bytes[..]), MAX_FRAME)
            .unwrap()
            .unwrap();
        assert_eq!(
            read,
            Frame::Failed {
                number: 1,
                reason: "ä".repeat(128)
            }
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in 0_u8..12, body in proptest::collection::vec(any::<u8>(), 0..200), raw: bool) {
            let mut input = BytesMut::new();
            if !raw {
                input.extend_from_slice(&u32::try_from(body.len() + 1).unwrap().to_le_bytes());
                input.extend_from_slice(&[kind]);
            }
            input.extend_from_slice(&body);
            let before = input.len();
            let read = decode(&mut input, MAX_FRAME);
            prop_assert!(input.len() <= before);
            if let Ok(Some(frame)) = read {
                let mut again = Vec::new();
                frame.encode(&mut again);
                prop_assert_eq!(decode(&mut BytesMut::from(&again[..]), MAX_FRAME), Ok(Some(frame)));
            }
        }
    }
}
