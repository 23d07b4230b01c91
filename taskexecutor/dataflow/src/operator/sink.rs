//! The end of a chain that leaves the job.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::connector::{OperatorError, Sink};
use crate::operator::OperatorContext;
use crate::task::{TaskError, TaskMetrics};

/// Gives batches to a sink.
pub struct SinkOperator<T> {
    name: Arc<str>,
    sink: Box<dyn Sink<T>>,
    metrics: Arc<TaskMetrics>,
    counted: u64,
    needs_commit: bool,
}

impl<T> SinkOperator<T> {
    /// The operator around a sink.
    pub fn new(context: &OperatorContext, sink: Box<dyn Sink<T>>) -> Self {
        Self {
            name: Arc::clone(&context.name),
            sink,
            metrics: Arc::clone(&context.metrics),
            counted: 0,
            needs_commit: false,
        }
    }

    fn call<R>(
        &mut self,
        code: impl FnOnce(&mut dyn Sink<T>) -> Result<R, OperatorError>,
    ) -> Result<R, TaskError> {
        let result = attribute(&self.name, || code(&mut *self.sink));
        let written = self.sink.bytes_written();
        self.metrics
            .bytes_out
            .fetch_add(written.saturating_sub(self.counted), Ordering::Relaxed);
        self.counted = written;
        result.map_err(|error| error.of(&self.name))
    }
}

impl<T> Control for SinkOperator<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.call(|sink| sink.flush())
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.needs_commit = self.call(|sink| sink.finish())?;
        Ok(())
    }

    fn needs_commit(&mut self) -> bool {
        self.needs_commit
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        if self.needs_commit {
            self.call(|sink| sink.commit())?;
        }
        Ok(())
    }

    fn take_collected(&mut self, into: &mut Vec<(String, Vec<u8>)>) {
        into.extend(attribute(&self.name, || self.sink.take_collected()));
    }
}

impl<T> Collector<T> for SinkOperator<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let records = batch.len() as u64;
        self.call(|sink| sink.write(batch))?;
        self.metrics
            .records_out
            .fetch_add(records, Ordering::Relaxed);
        Ok(())
    }
}
