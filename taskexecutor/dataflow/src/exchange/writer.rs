//! The way out of a task: records become bytes in the buffers of their consumers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spindle_common::time::Watermark;

use crate::batch::Batch;
use crate::channel::{Buffer, ResultPartition};
use crate::collector::{Collector, Control};
use crate::connector::OperatorError;
use crate::exchange::codec::{CodecError, Encoder};
use crate::exchange::partition::{Partitioner, Route};
use crate::record::Record;
use crate::task::{TaskError, TaskMetrics};

/// Encodes what it gets into one buffer per consumer, and emits each when it is full, when it is told to flush and at the end.
///
/// A watermark goes to all consumers, in the buffer behind the records it follows; it does not make the buffer go at once.
pub struct ExchangeWriter<T> {
    producer: Arc<str>,
    partition: Box<dyn ResultPartition>,
    partitioner: Box<dyn Partitioner<T>>,
    encoders: Vec<Encoder>,
    targets: Vec<u64>,
    metrics: Arc<TaskMetrics>,
}

impl<T> ExchangeWriter<T> {
    /// The way out to `partition` for the operator `producer`, whose name an error bears.
    pub fn new(
        producer: Arc<str>,
        partition: Box<dyn ResultPartition>,
        partitioner: Box<dyn Partitioner<T>>,
        metrics: Arc<TaskMetrics>,
    ) -> Self {
        let encoders = (0..partition.subpartitions())
            .map(|_| Encoder::default())
            .collect();
        Self {
            producer,
            partition,
            partitioner,
            encoders,
            targets: Vec::new(),
            metrics,
        }
    }

    fn emit(&mut self, consumer: usize, buffer: Buffer) -> Result<(), TaskError> {
        self.metrics
            .bytes_out
            .fetch_add(buffer.bytes.len() as u64, Ordering::Relaxed);
        self.metrics
            .records_out
            .fetch_add(u64::from(buffer.records), Ordering::Relaxed);
        self.partition.emit(consumer, buffer)
    }

    fn emit_full(&mut self) -> Result<(), TaskError> {
        for consumer in 0..self.encoders.len() {
            if self.encoders[consumer].is_full()
                && let Some(buffer) = self.encoders[consumer].take()
            {
                self.emit(consumer, buffer)?;
            }
        }
        Ok(())
    }

    fn emit_all(&mut self) -> Result<(), TaskError> {
        for consumer in 0..self.encoders.len() {
            if let Some(buffer) = self.encoders[consumer].take() {
                self.emit(consumer, buffer)?;
            }
        }
        Ok(())
    }
}

impl<T: Record> ExchangeWriter<T> {
    fn encode(
        &mut self,
        consumer: usize,
        record: &T,
        timestamp: Option<spindle_common::time::EventTime>,
    ) -> Result<(), TaskError> {
        let full =
            self.encoders[consumer]
                .record(record, timestamp)
                .map_err(|error: CodecError| {
                    OperatorError::permanent(error.to_string()).of(&self.producer)
                })?;
        match full {
            Some(buffer) => self.emit(consumer, buffer),
            None => Ok(()),
        }
    }
}

impl<T> Control for ExchangeWriter<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        for encoder in &mut self.encoders {
            encoder.watermark(watermark);
        }
        self.emit_full()
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        for encoder in &mut self.encoders {
            encoder.idle(idle);
        }
        self.emit_full()
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.emit_all()
    }

    fn end(&mut self) -> Result<(), TaskError> {
        for encoder in &mut self.encoders {
            encoder.end();
        }
        self.emit_all()
    }
}

impl<T: Record> Collector<T> for ExchangeWriter<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        self.targets.clear();
        let consumers = self.encoders.len();
        let mut targets = std::mem::take(&mut self.targets);
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
                    self.encode(consumer, record, timestamp)?;
                }
            }
            Route::All => {
                for (record, timestamp) in records {
                    for consumer in 0..consumers {
                        self.encode(consumer, record, timestamp)?;
                    }
                }
            }
            Route::Listed => {
                for ((record, timestamp), target) in records.zip(&targets) {
                    self.encode(*target as usize, record, timestamp)?;
                }
            }
        }
        self.targets = targets;
        batch.clear();
        Ok(())
    }
}
