//! The way out of a task: records go into the buffers of their consumers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spindle_common::time::Watermark;

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
    sorted: Sorted,
    /// The consumer that runs on this thread, if records that own memory go to it as they are.
    beside: Option<usize>,
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
    /// Adds those of the batch's records, one after the other, until it is full. What is left is left in `indices`.
    fn fill(
        &mut self,
        batch: &Batch<T>,
        indices: &mut impl Iterator<Item = usize>,
    ) -> Result<(), CodecError> {
        match self {
            Self::Encoded(encoder) => {
                for index in indices {
                    let timestamp = batch.timestamps.get(index).copied();
                    encoder.record(&batch.records[index], timestamp)?;
                    if encoder.is_full() {
                        break;
                    }
                }
            }
            Self::Local(elements) => {
                for index in indices {
                    let timestamp = batch.timestamps.get(index).copied();
                    elements.push(&batch.records[index], timestamp);
                    if elements.is_full() {
                        break;
                    }
                }
            }
        }
        Ok(())
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
            sorted: Sorted::default(),
            beside: None,
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
        let partition = &self.partition;
        match lane {
            Lane::Encoded(_)
                if (moves_as_is::<T>() && partition.is_local(consumer))
                    || partition.is_beside(consumer) =>
            {
                if !moves_as_is::<T>() {
                    self.beside = Some(consumer);
                }
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

    /// Writes those of the batch's records for a consumer.
    fn write(
        &mut self,
        consumer: usize,
        batch: &Batch<T>,
        indices: impl Iterator<Item = usize>,
    ) -> Result<(), TaskError> {
        let mut indices = indices.peekable();
        while indices.peek().is_some() {
            let lane = &mut self.lanes[consumer];
            lane.fill(batch, &mut indices)
                .map_err(|error| OperatorError::permanent(error.to_string()).of(&self.producer))?;
            if lane.is_full() {
                self.emit(consumer)?;
            }
        }
        Ok(())
    }

    /// Gives the first of the batch's records, so many, to a consumer on this thread.
    fn give(
        &mut self,
        consumer: usize,
        batch: &mut Batch<T>,
        records: usize,
    ) -> Result<(), TaskError> {
        if let Lane::Local(elements) = &mut self.lanes[consumer] {
            elements.take(batch, records);
            if elements.is_full() {
                self.emit(consumer)?;
            }
        }
        Ok(())
    }

    /// Each record to the consumer listed for it: one consumer after the other, since a branch for each record that nobody can predict
    /// cost 4 ns in a word count with two.
    fn scatter(&mut self, batch: &mut Batch<T>, sorted: &Sorted) -> Result<(), TaskError> {
        // It may become known on the way.
        let beside = self.beside;
        for consumer in 0..self.lanes.len() {
            if beside != Some(consumer) {
                let indices = sorted.of(consumer).iter().map(|&index| index as usize);
                self.write(consumer, batch, indices)?;
            }
        }
        if let Some(beside) = beside {
            let mine = sorted.of(beside);
            // What the others got is not looked at any more.
            for (to, &from) in mine.iter().enumerate() {
                batch.records.swap(to, from as usize);
            }
            if batch.has_timestamps() {
                for (to, &from) in mine.iter().enumerate() {
                    batch.timestamps.swap(to, from as usize);
                }
            }
            self.give(beside, batch, mine.len())?;
        }
        Ok(())
    }
}

/// Up to so many, all records are looked at once for each consumer, which needs no count: 3 ns a word less with two. More were not measured.
const FEW: usize = 4;

/// The indices of a batch's records, by consumer.
#[derive(Debug, Default)]
struct Sorted {
    indices: Vec<u32>,
    /// Where those of each consumer end.
    ends: Vec<u32>,
}

impl Sorted {
    fn sort(&mut self, targets: &[u64], consumers: usize) {
        self.ends.clear();
        // The last place is written, and not kept.
        self.indices.resize(targets.len() + 1, 0);
        if consumers <= FEW {
            let mut next = 0;
            for consumer in 0..consumers as u64 {
                for (index, &target) in targets.iter().enumerate() {
                    self.indices[next] = index as u32;
                    next += usize::from(target == consumer);
                }
                self.ends.push(next as u32);
            }
            return;
        }
        self.ends.resize(consumers, 0);
        for &target in targets {
            self.ends[target as usize] += 1;
        }
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        // Each entry of `ends` is where the consumer's next one goes, and so comes to be its end.
        for (index, &target) in targets.iter().enumerate() {
            let next = &mut self.ends[target as usize];
            self.indices[*next as usize] = index as u32;
            *next += 1;
        }
    }

    fn of(&self, consumer: usize) -> &[u32] {
        let start = match consumer {
            0 => 0,
            _ => self.ends[consumer - 1],
        };
        &self.indices[start as usize..self.ends[consumer] as usize]
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
        match route {
            Route::One(consumer) if self.beside == Some(consumer) => {
                self.give(consumer, batch, batch.len())?;
            }
            Route::One(consumer) => self.write(consumer, batch, 0..batch.len())?,
            Route::All => {
                for consumer in 0..consumers {
                    self.write(consumer, batch, 0..batch.len())?;
                }
            }
            Route::Listed => {
                let mut sorted = std::mem::take(&mut self.sorted);
                sorted.sort(&targets, consumers);
                self.scatter(batch, &sorted)?;
                self.sorted = sorted;
            }
        }
        self.targets = targets;
        Ok(())
    }
}
