//! The bytes in a buffer: stream elements one after the other, each with a tag byte.
//!
//! ```text
//! 1  count: u32 LE   count × record                                records without event time
//! 2  count: u32 LE   count × (event time: i64 LE, record)          records with event time
//! 3  event time: i64 LE                                            watermark
//! 4                                                                idle
//! 5                                                                active
//! 6                                                                end of input; nothing follows
//! 7  barrier, as crate::codec has it                               checkpoint barrier; the last of its buffer
//! ```
//! A record is what [`crate::codec`] makes of it. The same executable stands at both ends, so no layout is kept for longer than a job.

use std::marker::PhantomData;

use spindle_common::checkpoint::CheckpointBarrier;
use spindle_common::time::{EventTime, Watermark};

use crate::batch::Batch;
use crate::channel::Buffer;
use crate::codec::{self, Malformed};
use crate::record::Record;

/// Size, in bytes, at which a buffer is full: it may have one record more. With eight in flight on a channel, the codec and not TCP is the
/// limit; buffers of 256 KiB gave 17 % more for eight times the memory.
pub const BUFFER_BYTES: usize = 32 * 1024;

/// Most records in a buffer: bounds what a few bytes can make a decoder do if records take no bytes at all.
pub const BUFFER_RECORDS: u32 = 1 << 16;

/// Largest record that can leave its task, in bytes: half of what the worker takes for one frame.
pub const RECORD_BYTES: usize = 32 << 20;

const RECORDS: u8 = 1;
const TIMED_RECORDS: u8 = 2;
const WATERMARK: u8 = 3;
const IDLE: u8 = 4;
const ACTIVE: u8 = 5;
const END: u8 = 6;
const BARRIER: u8 = 7;

/// Bytes that are not what an encoder writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// An element ends before it is complete.
    #[error("the buffer ends within a {0}")]
    Truncated(&'static str),
    /// A tag that no element has.
    #[error("unknown element tag {0}")]
    Tag(u8),
    /// More records than a buffer can hold.
    #[error("a buffer with {0} records")]
    Count(u32),
    /// A record does not decode.
    #[error("record {index} of {count} does not decode: {reason}")]
    Record {
        /// Its place, from 0.
        index: u32,
        /// How many there should be.
        count: u32,
        /// What the decoder said.
        reason: Malformed,
    },
    /// A barrier does not decode.
    #[error("a checkpoint barrier does not decode: {0}")]
    Barrier(Malformed),
    /// A barrier has to be the last of its buffer.
    #[error("{0} bytes follow a checkpoint barrier")]
    AfterBarrier(usize),
    /// A record does not encode.
    #[error("cannot encode a record: {0}")]
    Encode(Malformed),
    /// A record does not fit.
    #[error("cannot encode a record: it takes {0} bytes, and {RECORD_BYTES} is the most")]
    TooLarge(usize),
}

/// Whether these bytes are a checkpoint barrier, alone in its buffer as the [writer](super::ExchangeWriter) has it.
pub(crate) fn is_barrier(bytes: &[u8]) -> bool {
    bytes.first() == Some(&BARRIER)
}

/// The checkpoint barrier that these bytes are, if they are one.
pub(crate) fn barrier_of(bytes: &[u8]) -> Result<Option<CheckpointBarrier>, CodecError> {
    let Some((&BARRIER, mut rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let barrier = codec::decode(&mut rest).map_err(CodecError::Barrier)?;
    Ok(Some(barrier))
}

/// Fills the buffers of one channel.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    records: u32,
    /// Where the block of records that is still open begins, and its tag.
    open: Option<(usize, u8)>,
    in_block: u32,
}

impl Encoder {
    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it has reached the size of a buffer.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.bytes.len() >= BUFFER_BYTES || self.records >= BUFFER_RECORDS
    }

    /// Has it fill this memory next, if nothing waits.
    ///
    /// The memory is written over at once. The core that read it last has its cache lines, and to get them back one by one, as records are
    /// written, is most of what an exchange costs: a word count at parallelism 2 took 67 ns of CPU a word without this, 62 with it.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        if self.bytes.is_empty() {
            bytes.clear();
            bytes.resize(bytes.capacity().min(BUFFER_BYTES), 0);
            bytes.clear();
            self.bytes = bytes;
        }
    }

    /// Adds a record. Whether it [is full](Self::is_full) is to be asked then.
    ///
    /// # Errors
    /// If serde cannot encode the record, or it is too large.
    #[inline]
    pub fn record<T: Record>(
        &mut self,
        record: &T,
        timestamp: Option<EventTime>,
    ) -> Result<(), CodecError> {
        let start = match timestamp {
            Some(timestamp) => {
                self.open_block(TIMED_RECORDS);
                let start = self.bytes.len();
                self.bytes.extend_from_slice(&timestamp.0.to_le_bytes());
                start
            }
            None => {
                self.open_block(RECORDS);
                self.bytes.len()
            }
        };
        codec::encode(record, &mut self.bytes).map_err(CodecError::Encode)?;
        let size = self.bytes.len() - start;
        if size > RECORD_BYTES {
            return Err(CodecError::TooLarge(size));
        }
        self.records += 1;
        self.in_block += 1;
        Ok(())
    }

    #[inline]
    fn open_block(&mut self, tag: u8) {
        if self.open.is_some_and(|(_, open)| open == tag) {
            return;
        }
        self.close_block();
        self.open = Some((self.bytes.len(), tag));
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&[0; 4]);
    }

    fn close_block(&mut self) {
        if let Some((at, _)) = self.open.take() {
            self.bytes[at + 1..at + 5].copy_from_slice(&self.in_block.to_le_bytes());
            self.in_block = 0;
        }
    }

    /// Adds what is no record.
    pub fn event(&mut self, event: Event) {
        self.close_block();
        match event {
            Event::Watermark(watermark) => {
                self.bytes.push(WATERMARK);
                self.bytes.extend_from_slice(&watermark.0.0.to_le_bytes());
            }
            Event::Idle(true) => self.bytes.push(IDLE),
            Event::Idle(false) => self.bytes.push(ACTIVE),
            Event::End => self.bytes.push(END),
            Event::Barrier(barrier) => {
                self.bytes.push(BARRIER);
                codec::encode(&barrier, &mut self.bytes)
                    .expect("a barrier is numbers and a short text");
            }
        }
    }

    /// Takes what there is.
    pub fn take(&mut self) -> Option<Buffer> {
        self.close_block();
        if self.bytes.is_empty() {
            return None;
        }
        Some(Buffer::encoded(
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.records),
        ))
    }
}

/// What flows between records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A watermark.
    Watermark(Watermark),
    /// The channel is idle, or active again.
    Idle(bool),
    /// End of input.
    End,
    /// A checkpoint's barrier. It is the last of its buffer.
    Barrier(CheckpointBarrier),
}

/// One element of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// Records, which are in the batch that was given.
    Records,
    /// Something else.
    Event(Event),
}

/// Reads the elements of a buffer.
#[derive(Debug)]
pub struct Elements<'a, T> {
    rest: &'a [u8],
    records: PhantomData<fn() -> T>,
}

impl<'a, T: Record> Elements<'a, T> {
    /// The elements in these bytes.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            records: PhantomData,
        }
    }

    /// Bytes that are left.
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next element. Records take the place of those that are in the batch, and use their memory again.
    ///
    /// # Errors
    /// If the bytes are not what an [`Encoder`] writes.
    pub fn next(&mut self, batch: &mut Batch<T>) -> Result<Option<Element>, CodecError> {
        let Some((&tag, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        Ok(Some(match tag {
            RECORDS | TIMED_RECORDS => {
                self.block(batch, tag == TIMED_RECORDS)?;
                Element::Records
            }
            WATERMARK => {
                let time = i64::from_le_bytes(self.fixed("watermark")?);
                Element::Event(Event::Watermark(Watermark(EventTime(time))))
            }
            IDLE => Element::Event(Event::Idle(true)),
            ACTIVE => Element::Event(Event::Idle(false)),
            END => Element::Event(Event::End),
            BARRIER => {
                let barrier = codec::decode(&mut self.rest).map_err(CodecError::Barrier)?;
                if !self.rest.is_empty() {
                    return Err(CodecError::AfterBarrier(self.rest.len()));
                }
                Element::Event(Event::Barrier(barrier))
            }
            _ => return Err(CodecError::Tag(tag)),
        }))
    }

    fn block(&mut self, batch: &mut Batch<T>, timed: bool) -> Result<(), CodecError> {
        let count = u32::from_le_bytes(self.fixed("block of records")?);
        if count > BUFFER_RECORDS {
            return Err(CodecError::Count(count));
        }
        batch.timestamps.clear();
        let there = batch.records.len();
        batch
            .records
            .reserve((count as usize).min(self.rest.len()).saturating_sub(there));
        for index in 0..count {
            let failed = |reason| CodecError::Record {
                index,
                count,
                reason,
            };
            if timed {
                let time = i64::from_le_bytes(self.fixed("event time")?);
                batch.timestamps.push(EventTime(time));
            }
            match batch.records.get_mut(index as usize) {
                Some(record) => codec::decode_into(&mut self.rest, record).map_err(failed)?,
                None => batch
                    .records
                    .push(codec::decode(&mut self.rest).map_err(failed)?),
            }
        }
        batch.records.truncate(count as usize);
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CodecError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(CodecError::Truncated(what))?;
        self.rest = rest;
        Ok(*bytes)
    }
}
