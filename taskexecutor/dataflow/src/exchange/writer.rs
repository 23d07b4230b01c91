//! The way out of a task: records go into the buffers of their consumers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spindle_common::time::{EventTime, Watermark};

use crate::batch::Batch;
use crate::channel::{Buffer, Objects, ResultPartition};
use crate::collector::{Collector, Control};
use crate::connector::OperatorError;
use crate::exchange::codec::{CodecError, Encoder, Event};
use crate::exchange::local::{LocalElements, moves_as_is};
use crate::exchange::partition::{Partitioner, Route};
use crate::record::Record;
use crate::snapshot::Snapshot;
use crate::task::{TaskError, TaskMetrics};

/// Fills one buffer per consumer, and emits each when it is full, when it is told to flush and at the end.
///
/// A watermark goes to all consumers, in the buffer behind the records it follows; it does not make the buffer go at once. A checkpoint
/// barrier does, and follows in a buffer of its own, so that it is seen as soon as it arrives.
pub struct ExchangeWriter<T> {
    producer: Arc<str>,
    partition: Box<dyn ResultPartition>,
    partitioner: Box<dyn Partitioner<T>>,
    lanes: Vec<Lane<T>>,
    targets: Vec<u64>,
    metrics: Arc<TaskMetrics>,
}

/// The buffer that is being filled for one consumer.
enum Lane<T> {
    Encoded(Encoder),
    /// The consumer is in this process.
    Local(Box<LocalElements<T>>),
}

impl<T> Lane<T> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Encoded(encoder) => encoder.is_empty(),
            Self::Local(elements) => elements.is_empty(),
        }
    }

    #[inline]
    fn is_full(&self) -> bool {
        match self {
            Self::Encoded(encoder) => encoder.is_full(),
            Self::Local(elements) => elements.is_full(),
        }
    }

    fn event(&mut self, event: Event) {
        match self {
            Self::Encoded(encoder) => encoder.event(event),
            Self::Local(elements) => elements.event(event),
        }
    }

    /// Whether records with, or without, event time can follow what is there.
    fn accepts(&self, timed: bool) -> bool {
        match self {
            Self::Encoded(_) => true,
            Self::Local(elements) => {
                elements.batch.is_empty() || elements.batch.has_timestamps() == timed
            }
        }
    }
}

impl<T: Record> Lane<T> {
    #[inline]
    fn record(&mut self, record: &T, timestamp: Option<EventTime>) -> Result<(), CodecError> {
        match self {
            Self::Encoded(encoder) => encoder.record(record, timestamp),
            Self::Local(elements) => {
                elements.push(record, timestamp);
                Ok(())
            }
        }
    }
}

impl<T: Record> ExchangeWriter<T> {
    /// The way out to `partition` for the operator `producer`, whose name an error bears.
    pub fn new(
        producer: Arc<str>,
        partition: Box<dyn ResultPartition>,
        partitioner: Box<dyn Partitioner<T>>,
        metrics: Arc<TaskMetrics>,
    ) -> Self {
        let lanes = (0..partition.subpartitions())
            .map(|_| Lane::Encoded(Encoder::default()))
            .collect();
        Self {
            producer,
            partition,
            partitioner,
            lanes,
            targets: Vec::new(),
            metrics,
        }
    }

    fn emit(&mut self, consumer: usize) -> Result<(), TaskError> {
        let buffer = match &mut self.lanes[consumer] {
            Lane::Encoded(encoder) => {
                let Some(buffer) = encoder.take() else {
                    return Ok(());
                };
                buffer
            }
            Lane::Local(elements) => {
                if elements.is_empty() {
                    return Ok(());
                }
                let full: Box<LocalElements<T>> = std::mem::take(elements);
                Buffer {
                    bytes: Vec::new(),
                    records: full.batch.len() as u32,
                    size: full.size(),
                    objects: Some(Objects(full)),
                }
            }
        };
        self.metrics
            .bytes_out
            .fetch_add(buffer.size as u64, Ordering::Relaxed);
        self.metrics
            .records_out
            .fetch_add(u64::from(buffer.records), Ordering::Relaxed);
        self.partition.emit(consumer, buffer)?;
        self.refill(consumer);
        Ok(())
    }

    /// Chooses what the consumer gets next, and takes memory that it has read.
    fn refill(&mut self, consumer: usize) {
        let recycled = self.partition.recycled(consumer);
        let lane = &mut self.lanes[consumer];
        match lane {
            Lane::Encoded(_) if moves_as_is::<T>() && self.partition.is_local(consumer) => {
                *lane = Lane::Local(Box::default());
            }
            Lane::Encoded(encoder) => {
                if let Some(buffer) = recycled {
                    encoder.reuse(buffer.bytes);
                }
            }
            Lane::Local(elements) => {
                let objects = recycled.and_then(|buffer| buffer.objects);
                if let Some(read) = objects.and_then(Objects::downcast) {
                    *elements = read;
                    elements.clear();
                }
            }
        }
    }

    fn emit_full(&mut self) -> Result<(), TaskError> {
        for consumer in 0..self.lanes.len() {
            if self.lanes[consumer].is_full() {
                self.emit(consumer)?;
            }
        }
        Ok(())
    }

    fn emit_all(&mut self) -> Result<(), TaskError> {
        for consumer in 0..self.lanes.len() {
            if !self.lanes[consumer].is_empty() {
                self.emit(consumer)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        for lane in &mut self.lanes {
            lane.event(event.clone());
        }
    }

    #[inline]
    fn write(
        &mut self,
        consumer: usize,
        record: &T,
        timestamp: Option<EventTime>,
    ) -> Result<(), TaskError> {
        let lane = &mut self.lanes[consumer];
        lane.record(record, timestamp)
            .map_err(|error| OperatorError::permanent(error.to_string()).of(&self.producer))?;
        if lane.is_full() {
            self.emit(consumer)?;
        }
        Ok(())
    }
}

impl<T: Record> Control for ExchangeWriter<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.event(&Event::Watermark(watermark));
        self.emit_full()
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.event(&Event::Idle(idle));
        self.emit_full()
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.emit_all()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.emit_all()?;
        let mut barrier = Encoder::default();
        for consumer in 0..self.lanes.len() {
            barrier.event(Event::Barrier(into.barrier().clone()));
            let buffer = barrier.take().expect("a barrier was just put in");
            self.partition.emit(consumer, buffer)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.event(&Event::End);
        self.emit_all()
    }

    fn end_again(&mut self) -> Result<(), TaskError> {
        self.end()
    }
}

impl<T: Record> Collector<T> for ExchangeWriter<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let consumers = self.lanes.len();
        for consumer in 0..consumers {
            if !self.lanes[consumer].accepts(batch.has_timestamps()) {
                self.emit(consumer)?;
            }
        }
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        let route = self
            .partitioner
            .route(&batch.records, consumers, &mut targets);
        let times = batch.timestamps.iter().copied().map(Some);
        let records = batch
            .records
            .iter()
            .zip(times.chain(std::iter::repeat(None)));
        match route {
            Route::One(consumer) => {
                for (record, timestamp) in records {
                    self.write(consumer, record, timestamp)?;
                }
            }
            Route::All => {
                for (record, timestamp) in records {
                    for consumer in 0..consumers {
                        self.write(consumer, record, timestamp)?;
                    }
                }
            }
            Route::Listed => {
                for ((record, timestamp), target) in records.zip(&targets) {
                    self.write(*target as usize, record, timestamp)?;
                }
            }
        }
        self.targets = targets;
        Ok(())
    }
}
