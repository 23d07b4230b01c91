//! Records that come after their window has gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spindle_common::time::EventTime;

use crate::collector::SideOutput;
use crate::operator::OperatorContext;
use crate::task::{TaskError, TaskMetrics};

/// Where late records go: to a side output if that is read, else they are counted and dropped.
pub(super) struct LateRecords<T> {
    side: Option<SideOutput<T>>,
    metrics: Arc<TaskMetrics>,
    dropped: u64,
}

impl<T: 'static> LateRecords<T> {
    /// To the side output of this name.
    pub(super) fn new(context: &OperatorContext, tag: Option<&str>) -> Self {
        Self {
            side: tag.and_then(|tag| context.sides.get::<T>(tag)).cloned(),
            metrics: Arc::clone(&context.metrics),
            dropped: 0,
        }
    }

    /// Takes one.
    pub(super) fn take(
        &mut self,
        record: impl FnOnce() -> T,
        timestamp: Option<EventTime>,
    ) -> Result<(), TaskError> {
        match &self.side {
            Some(side) => side.borrow_mut().push(record(), timestamp),
            None => {
                self.dropped += 1;
                Ok(())
            }
        }
    }

    /// The batch is through.
    pub(super) fn hand_on(&mut self) -> Result<(), TaskError> {
        if self.dropped > 0 {
            self.metrics
                .late_records_dropped
                .fetch_add(self.dropped, Ordering::Relaxed);
            self.dropped = 0;
        }
        self.side
            .as_ref()
            .map_or(Ok(()), |side| side.borrow_mut().hand_on())
    }
}
