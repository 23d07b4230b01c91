//! An exchange between tasks, seen from both ends: a producer's [`ResultPartition`], a consumer's [`InputGate`].
//!
//! Both are given to a task by the worker, which moves the buffers within the process or over TCP, in order, with a credit for
//! each channel: a producer without credit waits, so memory stays bounded. Flink: `ResultPartitionWriter`, `InputGate`.

use std::any::Any;
use std::fmt;

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId};
use spindle_common::time::MonoTime;

use crate::exchange::{self, CodecError};
use crate::task::TaskError;

/// Stream elements of one channel: records, watermarks, the end of input. What is inside is the exchange's business.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Buffer {
    /// The encoded elements.
    pub bytes: Vec<u8>,
    /// The elements as they are, in the place of bytes. Never leaves the process: see [`ResultPartition::is_local`].
    pub objects: Option<Objects>,
    /// Number of records among them.
    pub records: u32,
    /// Bytes that they take: the length of `bytes`, or the size of the objects.
    pub size: usize,
}

impl Buffer {
    /// Encoded elements, with this many records among them.
    pub const fn encoded(bytes: Vec<u8>, records: u32) -> Self {
        Self {
            size: bytes.len(),
            bytes,
            objects: None,
            records,
        }
    }

    /// The checkpoint barrier that this buffer is, if it is one. It is alone in its buffer.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn barrier(&self) -> Result<Option<CheckpointBarrier>, CodecError> {
        exchange::barrier_of(&self.bytes)
    }

    /// Whether it is a checkpoint barrier.
    pub fn is_barrier(&self) -> bool {
        exchange::is_barrier(&self.bytes)
    }

    /// The same elements, encoded.
    ///
    /// # Errors
    /// If a record does not encode.
    pub fn to_encoded(&self) -> Result<Self, CodecError> {
        match &self.objects {
            None => Ok(Self::encoded(self.bytes.clone(), self.records)),
            Some(objects) => objects.0.to_encoded(),
        }
    }
}

/// Elements of a type that only the two ends of a channel know.
pub struct Objects(pub Box<dyn Encodable>);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

/// What is in a buffer as it is, and can be encoded after all.
pub trait Encodable: Any + Send {
    /// The same, encoded.
    ///
    /// # Errors
    /// If a record does not encode.
    fn to_encoded(&self) -> Result<Buffer, CodecError>;
}

impl Objects {
    /// The elements, if they are of this type.
    pub fn downcast<T: Any>(self) -> Option<Box<T>> {
        let objects: Box<dyn Any> = self.0;
        objects.downcast().ok()
    }

    /// The elements, if they are of this type.
    pub fn downcast_mut<T: Any>(&mut self) -> Option<&mut T> {
        let objects: &mut dyn Any = &mut *self.0;
        objects.downcast_mut()
    }
}

impl PartialEq for Objects {
    /// The same objects, not equal ones.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(&raw const *self.0, &raw const *other.0)
    }
}

impl Eq for Objects {}

/// The consumer's end of all edges that feed it: a channel from each producer, edge by edge, by ascending producer subtask.
pub trait InputGate: Send {
    /// Number of channels, at least 1.
    fn channels(&self) -> usize;

    /// Takes the next buffer of any channel, waiting until `until` (for ever if absent) if there is none.
    ///
    /// Channels that have buffers are served in turn. Returns [`GateEvent::Woken`] early when the task has mail.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] when the task was told to stop, [`TaskError::PeerLost`] when a producer cannot be reached or its
    /// connection broke.
    fn next(&mut self, until: Option<MonoTime>) -> Result<GateEvent, TaskError>;

    /// Has what stands in these channels before the barrier of a checkpoint copied, and what arrives before it from now on. `channels` has
    /// one for each.
    fn record(&mut self, checkpoint: CheckpointId, channels: &[bool]) {
        let _ = (checkpoint, channels);
    }

    /// Ends the recording, and gives what was recorded of each channel, encoded.
    ///
    /// # Errors
    /// If it could not be recorded.
    fn recorded(&mut self) -> Result<Vec<(usize, Vec<Buffer>)>, NotRecorded> {
        Ok(Vec::new())
    }

    /// Has nothing more come from a channel until [`Self::resume`]; its producer waits when it is out of credit.
    fn block(&mut self, channel: usize);

    /// Has buffers come from all channels again.
    fn resume(&mut self);

    /// Gives a buffer back that came on this channel and was read, for its memory to be used again.
    fn recycle(&mut self, channel: usize, buffer: Buffer) {
        let _ = (channel, buffer);
    }
}

/// Why what was under way in a channel cannot be part of a snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// A record does not encode.
    #[error(transparent)]
    Encode(#[from] CodecError),
    /// It is kept in memory until the barrier comes.
    #[error(
        "more than {limit} bytes came on one channel before its barrier: a task before it aligns, or is in the midst of a long step"
    )]
    TooMuch {
        /// What is kept of a channel at most.
        limit: usize,
    },
}

/// What an input gate has.
#[derive(Debug, PartialEq, Eq)]
pub enum GateEvent {
    /// A buffer, and the index of the channel it came on.
    Buffer(usize, Buffer),
    /// A barrier has arrived in the channel with this index. It is told of once, and taken when what stands before it was.
    Arrived(usize, CheckpointBarrier),
    /// Nothing came in time, or the task has mail.
    Woken,
}

/// The producer's end of one edge: a subpartition for each consumer, in the order of the deployment's consumers.
pub trait ResultPartition: Send {
    /// Number of subpartitions, at least 1.
    fn subpartitions(&self) -> usize;

    /// Hands a buffer to a consumer, waiting for credit. A checkpoint barrier waits for none, so that it arrives however slow the consumer is.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] when the task was told to stop, [`TaskError::PeerLost`] when the consumer is gone.
    fn emit(&mut self, subpartition: usize, buffer: Buffer) -> Result<(), TaskError>;

    /// Whether the consumer is known to be in this process, so that buffers may hold objects. Once so, always so.
    fn is_local(&self, subpartition: usize) -> bool {
        let _ = subpartition;
        false
    }

    /// Whether the consumer is known to run on the producer's thread, so that records which own memory may go to it as they are. Once so, always so.
    fn is_beside(&self, subpartition: usize) -> bool {
        let _ = subpartition;
        false
    }

    /// A buffer that the consumer has read, if one waits to be filled again.
    fn recycled(&mut self, subpartition: usize) -> Option<Buffer> {
        let _ = subpartition;
        None
    }
}
