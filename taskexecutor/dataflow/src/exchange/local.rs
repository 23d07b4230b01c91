//! Elements on their way to a task of the same process, not encoded: for records that own no memory of their own, and for all if the task is one of the
//! same thread.
//!
//! Memory freed by another thread than took it is the dearest thing there is in an exchange, so records that own some are encoded for other
//! threads ([`moves_as_is`]).

use spindle_common::time::EventTime;

use crate::batch::Batch;
use crate::channel::{Buffer, Encodable};
use crate::exchange::codec::{BUFFER_BYTES, BUFFER_RECORDS, CodecError, Encoder, Event};
use crate::record::Record;

/// Whether records of this type go to a task of the same process as they are.
pub(crate) const fn moves_as_is<T>() -> bool {
    !std::mem::needs_drop::<T>()
}

/// Records, and what flows between them.
#[derive(Debug)]
pub struct LocalElements<T> {
    /// The records.
    pub batch: Batch<T>,
    /// Each behind this many of the records. In order.
    pub events: Vec<(usize, Event)>,
}

impl<T> Default for LocalElements<T> {
    fn default() -> Self {
        Self {
            batch: Batch::new(),
            events: Vec::new(),
        }
    }
}

impl<T> LocalElements<T> {
    /// Records that make it full: as many bytes as an encoded buffer has, with their event times.
    const RECORDS: usize = {
        let records = BUFFER_BYTES / (size_of::<T>() + 8);
        if records == 0 {
            1
        } else if records > BUFFER_RECORDS as usize {
            BUFFER_RECORDS as usize
        } else {
            records
        }
    };

    pub(crate) const fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.events.is_empty()
    }

    #[inline]
    pub(crate) const fn is_full(&self) -> bool {
        self.batch.len() >= Self::RECORDS || self.events.len() >= BUFFER_BYTES / 16
    }

    /// Adds a record.
    #[inline]
    pub(crate) fn push(&mut self, record: &T, timestamp: Option<EventTime>)
    where
        T: Clone,
    {
        if moves_as_is::<T>() && self.batch.is_empty() {
            self.claim(record, timestamp);
        }
        self.batch.push(record.clone(), timestamp);
    }

    /// Takes the first of the batch's records, so many.
    pub(crate) fn take(&mut self, batch: &mut Batch<T>, records: usize) {
        let timed = records.min(batch.timestamps.len());
        let into = &mut self.batch;
        into.records.extend(batch.records.drain(..records));
        into.timestamps.extend(batch.timestamps.drain(..timed));
    }

    /// Writes over the memory that the next records will take, for the reason that [`Encoder::reuse`](super::codec::Encoder::reuse)
    /// gives.
    fn claim(&mut self, record: &T, timestamp: Option<EventTime>)
    where
        T: Clone,
    {
        let Batch {
            records,
            timestamps,
        } = &mut self.batch;
        records.resize(records.capacity().min(Self::RECORDS), record.clone());
        records.clear();
        if let Some(timestamp) = timestamp {
            timestamps.resize(timestamps.capacity().min(Self::RECORDS), timestamp);
            timestamps.clear();
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push((self.batch.len(), event));
    }

    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.events.clear();
    }

    /// Bytes that the records take.
    pub(crate) const fn size(&self) -> usize {
        self.batch.records.len() * size_of::<T>() + self.batch.timestamps.len() * 8
    }
}

impl<T: Record> Encodable for LocalElements<T> {
    fn to_encoded(&self) -> Result<Buffer, CodecError> {
        let mut encoder = Encoder::default();
        let mut events = self.events.iter().peekable();
        for (at, record) in self.batch.records.iter().enumerate() {
            while let Some((_, event)) = events.next_if(|(behind, _)| *behind <= at) {
                encoder.event(event.clone());
            }
            encoder.record(record, self.batch.timestamps.get(at).copied())?;
        }
        for (_, event) in events {
            encoder.event(event.clone());
        }
        Ok(encoder.take().unwrap_or_default())
    }
}
