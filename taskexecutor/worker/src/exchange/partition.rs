//! The producer's end of an edge.

use std::sync::Arc;
use std::time::Duration;

use spindle_common::execution::FailureClass;
use spindle_dataflow::channel::{Buffer, ResultPartition};
use spindle_dataflow::task::{TaskError, TaskMetrics, Waiting};

use super::after_loss;
use super::frame::MAX_BUFFER;
use super::queue::{Offer, Queue};
use crate::signal::Signal;
use crate::slot::pause;

/// Channels to the consumers of one edge. Whether it ended well is for the registry to be told.
pub(crate) struct Partition {
    queues: Vec<Arc<Queue>>,
    signal: Arc<Signal>,
    metrics: Arc<TaskMetrics>,
    grace: Duration,
}

impl Partition {
    pub(crate) const fn new(
        queues: Vec<Arc<Queue>>,
        signal: Arc<Signal>,
        metrics: Arc<TaskMetrics>,
        grace: Duration,
    ) -> Self {
        Self {
            queues,
            signal,
            metrics,
            grace,
        }
    }
}

impl ResultPartition for Partition {
    fn subpartitions(&self) -> usize {
        self.queues.len()
    }

    fn emit(&mut self, subpartition: usize, mut buffer: Buffer) -> Result<(), TaskError> {
        if buffer.bytes.len() > MAX_BUFFER {
            return Err(TaskError::Operator {
                operator: spindle_dataflow::current_operator()
                    .unwrap_or_else(|| "exchange".to_owned()),
                message: format!(
                    "wrote a record of {} bytes, more than the {MAX_BUFFER} that fit into a buffer",
                    buffer.bytes.len()
                ),
                class: FailureClass::FailJob,
            });
        }
        loop {
            if self.signal.is_cancelled() {
                return Err(TaskError::Cancelled);
            }
            match self.queues[subpartition].offer(buffer, &self.signal) {
                Offer::Taken => return Ok(()),
                Offer::Wait(back) => buffer = back,
                Offer::Lost(peer, reason) => {
                    return Err(after_loss(&self.signal, self.grace, &peer, reason));
                }
            }
            self.metrics
                .time
                .wait(Waiting::Output, || pause(&self.signal, None));
        }
    }

    fn is_local(&self, subpartition: usize) -> bool {
        self.queues[subpartition].is_local()
    }

    fn is_beside(&self, subpartition: usize) -> bool {
        self.queues[subpartition].is_beside()
    }

    fn recycled(&mut self, subpartition: usize) -> Option<Buffer> {
        self.queues[subpartition].recycled()
    }
}
