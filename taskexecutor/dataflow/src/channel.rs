//! An exchange between tasks, seen from both ends: a producer's [`ResultPartition`], a consumer's [`InputGate`].
//!
//! Both are given to a task by the worker, which moves the buffers within the process or over TCP, in order, with a credit for
//! each channel: a producer without credit waits, so memory stays bounded. Flink: `ResultPartitionWriter`, `InputGate`.

use spindle_common::time::MonoTime;

use crate::task::TaskError;

/// Encoded stream elements of one channel: records, watermarks, the end of input. What is inside is the codec's business.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buffer {
    /// The encoded elements.
    pub bytes: Vec<u8>,
    /// Number of records among them.
    pub records: u32,
}

/// The consumer's end of one edge: a channel from each producer, by ascending producer subtask.
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
}

/// What an input gate has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateEvent {
    /// A buffer, and the index of the channel it came on.
    Buffer(usize, Buffer),
    /// Nothing came in time, or the task has mail.
    Woken,
}

/// The producer's end of one edge: a subpartition for each consumer, in the order of the deployment's consumers.
pub trait ResultPartition: Send {
    /// Number of subpartitions, at least 1.
    fn subpartitions(&self) -> usize;

    /// Hands a buffer to a consumer, waiting for credit.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] when the task was told to stop, [`TaskError::PeerLost`] when the consumer is gone.
    fn emit(&mut self, subpartition: usize, buffer: Buffer) -> Result<(), TaskError>;
}
