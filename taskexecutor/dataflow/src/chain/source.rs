//! A task that reads a source.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Chain, Clock, take_collected};
use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::Collector;
use crate::connector::{SourceReader, SourceStatus};
use crate::task::{Step, Task, TaskError, TaskMetrics, Waiting};

/// A task that reads a source.
pub struct SourceTask<T> {
    name: Arc<str>,
    reader: Box<dyn SourceReader<T>>,
    batch: Batch<T>,
    bytes: u64,
    ended: Option<Step>,
    first: Box<dyn Collector<T>>,
    chain: Chain,
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
            first,
            chain: Chain::new(clock, buffer_timeout, metrics),
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

impl<T> Task for SourceTask<T> {
    fn step(&mut self) -> Result<Step, TaskError> {
        if let Some(step) = self.ended {
            return Ok(step);
        }
        self.batch.clear();
        let before = self.chain.clock.now();
        let status = attribute(&self.name, || self.reader.read(&mut self.batch))
            .map_err(|error| error.of(&self.name))?;
        self.count();
        let read = !self.batch.is_empty();
        if read {
            self.first.push(&mut self.batch)?;
            self.chain.touch();
        } else {
            let waited = self.chain.clock.now().since(before);
            self.chain.metrics.time.add(Waiting::Input, waited);
        }
        match status {
            SourceStatus::More => {
                self.chain.keep_time(&mut *self.first)?;
                if !read {
                    // The reader waits the longer the longer it has nothing: what is there does not wait with it.
                    self.chain.pause(&mut *self.first)?;
                }
                Ok(Step::Continue)
            }
            SourceStatus::EndOfInput => {
                let step = self.chain.end(&mut *self.first)?;
                self.ended = Some(step);
                Ok(step)
            }
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.first.commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        take_collected(&mut *self.first)
    }
}
