//! The two kinds of task: a chain that a source heads, and one that an input gate heads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use spindle_common::time::{MonoTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::channel::{GateEvent, InputGate};
use crate::collector::Collector;
use crate::connector::{SourceReader, SourceStatus};
use crate::exchange::{Element, Elements, WatermarkMerge};
use crate::record::Record;
use crate::task::{Step, Task, TaskError, TaskMetrics};

/// The clock that a task's context gives.
pub type Clock = Arc<dyn Fn() -> MonoTime + Send + Sync>;

/// Tells when buffers have to go that are not full.
struct Flusher {
    clock: Clock,
    timeout: Duration,
    /// When what waits has waited long enough; absent while nothing waits.
    due: Option<MonoTime>,
}

impl Flusher {
    const fn new(clock: Clock, timeout: Duration) -> Self {
        Self {
            clock,
            timeout,
            due: None,
        }
    }

    /// Something may wait from now on.
    fn touch(&mut self) {
        if self.due.is_none() {
            self.due = Some((self.clock)() + self.timeout);
        }
    }

    fn is_due(&mut self) -> bool {
        match self.due {
            Some(due) if (self.clock)() >= due => {
                self.due = None;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// What both kinds of task have: the chain, and how its end is told.
struct Chain<T> {
    first: Box<dyn Collector<T>>,
    flusher: Flusher,
    metrics: Arc<TaskMetrics>,
}

impl<T> Chain<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.metrics
            .watermark_ms
            .store(watermark.0.0, Ordering::Relaxed);
        self.first.watermark(watermark)
    }

    fn end(&mut self) -> Result<Step, TaskError> {
        self.watermark(Watermark::MAX)?;
        self.first.end()?;
        Ok(if self.first.needs_commit() {
            Step::AwaitingCommit
        } else {
            Step::Finished
        })
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut collected = Vec::new();
        self.first.take_collected(&mut collected);
        collected
    }
}

/// A task that reads a source.
pub struct SourceTask<T> {
    name: Arc<str>,
    reader: Box<dyn SourceReader<T>>,
    batch: Batch<T>,
    bytes: u64,
    ended: Option<Step>,
    chain: Chain<T>,
}

impl<T> SourceTask<T> {
    /// The task of the source `name`, which feeds `first`.
    pub fn new(
        name: Arc<str>,
        reader: Box<dyn SourceReader<T>>,
        first: Box<dyn Collector<T>>,
        metrics: Arc<TaskMetrics>,
        clock: Clock,
        buffer_timeout: Duration,
    ) -> Self {
        Self {
            name,
            reader,
            batch: Batch::new(),
            bytes: 0,
            ended: None,
            chain: Chain {
                first,
                flusher: Flusher::new(clock, buffer_timeout),
                metrics,
            },
        }
    }

    fn count(&mut self) {
        let metrics = &self.chain.metrics;
        metrics
            .records_in
            .fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        let bytes = self.reader.bytes_read();
        metrics
            .bytes_in
            .fetch_add(bytes.saturating_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
        if let Some(progress) = self.reader.progress() {
            let millionths = (progress.clamp(0.0, 1.0) * 1e6) as u64;
            metrics
                .progress_millionths
                .store(millionths, Ordering::Relaxed);
        }
    }
}

impl<T: Send> Task for SourceTask<T> {
    fn step(&mut self) -> Result<Step, TaskError> {
        if let Some(step) = self.ended {
            return Ok(step);
        }
        let status = attribute(&self.name, || self.reader.read(&mut self.batch))
            .map_err(|error| error.of(&self.name))?;
        self.count();
        if !self.batch.is_empty() {
            self.chain.first.push(&mut self.batch)?;
            self.batch.clear();
            self.chain.flusher.touch();
        }
        match status {
            SourceStatus::More => {
                if self.chain.flusher.is_due() {
                    self.chain.first.flush()?;
                }
                Ok(Step::Continue)
            }
            SourceStatus::EndOfInput => {
                let step = self.chain.end()?;
                self.ended = Some(step);
                Ok(step)
            }
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.chain.first.commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        self.chain.take_collected()
    }
}

/// A task that reads an input gate.
pub struct GateTask<T> {
    gate: Box<dyn InputGate>,
    batch: Batch<T>,
    merge: WatermarkMerge,
    ended: Option<Step>,
    chain: Chain<T>,
}

impl<T> GateTask<T> {
    /// The task that feeds `first` with what comes through `gate`.
    pub fn new(
        gate: Box<dyn InputGate>,
        first: Box<dyn Collector<T>>,
        metrics: Arc<TaskMetrics>,
        clock: Clock,
        buffer_timeout: Duration,
    ) -> Self {
        Self {
            merge: WatermarkMerge::new(gate.channels()),
            gate,
            batch: Batch::new(),
            ended: None,
            chain: Chain {
                first,
                flusher: Flusher::new(clock, buffer_timeout),
                metrics,
            },
        }
    }
}

impl<T: Record> GateTask<T> {
    fn take_in(&mut self, channel: usize, bytes: &[u8]) -> Result<(), TaskError> {
        let malformed = |reason: String| TaskError::Codec {
            peer: format!("on channel {channel}"),
            reason,
        };
        let mut elements = Elements::<T>::of(bytes);
        loop {
            self.batch.clear();
            let element = elements
                .next(&mut self.batch)
                .map_err(|error| malformed(error.to_string()))?;
            let Some(element) = element else {
                return Ok(());
            };
            if self.merge.has_ended(channel) {
                return Err(malformed("more came after the end of input".to_owned()));
            }
            let merged = match element {
                Element::Records => {
                    self.chain.first.push(&mut self.batch)?;
                    continue;
                }
                Element::Watermark(watermark) => self.merge.watermark(channel, watermark),
                Element::Idle(idle) => self.merge.idle(channel, idle),
                Element::End => self.merge.end(channel),
            };
            if let Some(idle) = merged.idle {
                self.chain.first.idle(idle)?;
            }
            if let Some(watermark) = merged.watermark {
                self.chain.watermark(watermark)?;
            }
        }
    }
}

impl<T: Record> Task for GateTask<T> {
    fn step(&mut self) -> Result<Step, TaskError> {
        if let Some(step) = self.ended {
            return Ok(step);
        }
        if let GateEvent::Buffer(channel, buffer) = self.gate.next(self.chain.flusher.due)? {
            let metrics = &self.chain.metrics;
            metrics
                .records_in
                .fetch_add(u64::from(buffer.records), Ordering::Relaxed);
            metrics
                .bytes_in
                .fetch_add(buffer.bytes.len() as u64, Ordering::Relaxed);
            self.take_in(channel, &buffer.bytes)?;
            if self.merge.all_ended() {
                let step = self.chain.end()?;
                self.ended = Some(step);
                return Ok(step);
            }
            self.chain.flusher.touch();
        }
        if self.chain.flusher.is_due() {
            self.chain.first.flush()?;
        }
        Ok(Step::Continue)
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.chain.first.commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        self.chain.take_collected()
    }
}

#[cfg(test)]
mod tests;
