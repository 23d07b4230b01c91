//! The bytes in a buffer: stream elements one after the other, each with a tag byte.
//!
//! ```text
//! 1  count: u32 LE   count × record                                records without event time
//! 2  count: u32 LE   count × (event time: zigzag varint, record)   records with event time
//! 3  event time: i64 LE                                            watermark
//! 4                                                                idle
//! 5                                                                active
//! 6                                                                end of input; nothing follows
//! ```
//! A record is what postcard makes of it. The same executable stands at both ends, so no layout is kept for longer than a job.

use std::marker::PhantomData;

use spindle_common::time::{EventTime, Watermark};

use crate::batch::Batch;
use crate::channel::Buffer;
use crate::record::Record;

/// Largest buffer, in bytes, unless a single record is larger. With eight in flight on a channel, the codec and not TCP is the
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
        reason: String,
    },
    /// A record does not encode.
    #[error("cannot encode a record: {0}")]
    Encode(String),
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

    /// Whether it has reached the size of a buffer, as watermarks without records can make it.
    pub const fn is_full(&self) -> bool {
        self.bytes.len() >= BUFFER_BYTES
    }

    /// Adds a record; returns a buffer that is full, if there is one now.
    ///
    /// # Errors
    /// If serde cannot encode the record.
    pub fn record<T: Record>(
        &mut self,
        record: &T,
        timestamp: Option<EventTime>,
    ) -> Result<Option<Buffer>, CodecError> {
        let before = self.bytes.len();
        let tag = if timestamp.is_some() {
            TIMED_RECORDS
        } else {
            RECORDS
        };
        self.open_block(tag);
        let start = self.bytes.len();
        self.append(record, timestamp)?;
        let size = self.bytes.len() - start;
        if size > RECORD_BYTES {
            return Err(CodecError::Encode(format!(
                "it takes {size} bytes, and {RECORD_BYTES} is the most"
            )));
        }
        if self.bytes.len() <= BUFFER_BYTES && self.records < BUFFER_RECORDS {
            self.records += 1;
            self.in_block += 1;
            return Ok(None);
        }
        if before == 0 {
            // A record larger than a buffer goes alone.
            self.records = 1;
            self.in_block = 1;
            return Ok(self.take());
        }
        let record = self.bytes.split_off(start);
        let full = self.take();
        self.open_block(tag);
        self.bytes.extend_from_slice(&record);
        self.records = 1;
        self.in_block = 1;
        Ok(full)
    }

    fn append<T: Record>(
        &mut self,
        record: &T,
        timestamp: Option<EventTime>,
    ) -> Result<(), CodecError> {
        let failed = |error: postcard::Error| CodecError::Encode(error.to_string());
        let mut bytes = std::mem::take(&mut self.bytes);
        if let Some(timestamp) = timestamp {
            bytes = postcard::to_extend(&timestamp.0, bytes).map_err(failed)?;
        }
        self.bytes = postcard::to_extend(record, bytes).map_err(failed)?;
        Ok(())
    }

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

    /// Adds a watermark.
    pub fn watermark(&mut self, watermark: Watermark) {
        self.close_block();
        self.bytes.push(WATERMARK);
        self.bytes.extend_from_slice(&watermark.0.0.to_le_bytes());
    }

    /// Adds that the channel is idle, or active again.
    pub fn idle(&mut self, idle: bool) {
        self.close_block();
        self.bytes.push(if idle { IDLE } else { ACTIVE });
    }

    /// Adds the end of input.
    pub fn end(&mut self) {
        self.close_block();
        self.bytes.push(END);
    }

    /// Takes what there is.
    pub fn take(&mut self) -> Option<Buffer> {
        self.close_block();
        if self.bytes.is_empty() {
            return None;
        }
        Some(Buffer {
            bytes: std::mem::take(&mut self.bytes),
            records: std::mem::take(&mut self.records),
        })
    }
}

/// One element of a buffer. Records are in the batch that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Records were added to the batch.
    Records,
    /// A watermark.
    Watermark(Watermark),
    /// The channel is idle, or active again.
    Idle(bool),
    /// End of input.
    End,
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

    /// The next element; records are appended to the batch, which has to be empty.
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
                Element::Watermark(Watermark(EventTime(time)))
            }
            IDLE => Element::Idle(true),
            ACTIVE => Element::Idle(false),
            END => Element::End,
            _ => return Err(CodecError::Tag(tag)),
        }))
    }

    fn block(&mut self, batch: &mut Batch<T>, timed: bool) -> Result<(), CodecError> {
        let count = u32::from_le_bytes(self.fixed("block of records")?);
        if count > BUFFER_RECORDS {
            return Err(CodecError::Count(count));
        }
        batch.records.reserve((count as usize).min(self.rest.len()));
        for index in 0..count {
            let failed = |error: postcard::Error| CodecError::Record {
                index,
                count,
                reason: error.to_string(),
            };
            if timed {
                let (time, rest) = postcard::take_from_bytes(self.rest).map_err(failed)?;
                self.rest = rest;
                batch.timestamps.push(EventTime(time));
            }
            let (record, rest) = postcard::take_from_bytes(self.rest).map_err(failed)?;
            self.rest = rest;
            batch.records.push(record);
        }
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
