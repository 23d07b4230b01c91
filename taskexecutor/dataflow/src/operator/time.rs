//! Event time: which one a record has, and how far it has come.

use std::sync::Arc;
use std::time::Duration;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::task::TaskError;

/// How watermarks follow from the event times of records. Flink: `WatermarkStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkStrategy {
    out_of_orderness_ms: i64,
}

impl WatermarkStrategy {
    /// Each subtask sees its records in order of event time.
    pub const fn monotonous() -> Self {
        Self {
            out_of_orderness_ms: 0,
        }
    }

    /// No record comes this much later, in event time, than one that its subtask saw before. What does is late.
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        Self {
            out_of_orderness_ms: i64::try_from(bound.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// The watermark after a record with this event time was the latest.
    const fn after(self, latest: EventTime) -> Watermark {
        Watermark(EventTime(
            latest
                .0
                .saturating_sub(self.out_of_orderness_ms)
                .saturating_sub(1),
        ))
    }
}

/// Gives each record its event time, and after each batch a watermark. Watermarks from upstream end here, but for the last.
pub struct AssignTimestamps<F, T> {
    name: Arc<str>,
    strategy: WatermarkStrategy,
    timestamp_of: Arc<F>,
    latest: Option<EventTime>,
    sent: Watermark,
    next: Box<dyn Collector<T>>,
}

impl<F, T> AssignTimestamps<F, T> {
    /// The operator `name` that takes a record's event time from `timestamp_of` and feeds `next`.
    pub const fn new(
        name: Arc<str>,
        strategy: WatermarkStrategy,
        timestamp_of: Arc<F>,
        next: Box<dyn Collector<T>>,
    ) -> Self {
        Self {
            name,
            strategy,
            timestamp_of,
            latest: None,
            sent: Watermark::MIN,
            next,
        }
    }
}

impl<F, T> Control for AssignTimestamps<F, T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(&mut *self.next)
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        if watermark == Watermark::MAX {
            self.sent = watermark;
            return self.next.watermark(watermark);
        }
        Ok(())
    }
}

impl<T, F: Fn(&T) -> EventTime> Collector<T> for AssignTimestamps<F, T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        attribute(&self.name, || {
            batch.timestamps.clear();
            batch.timestamps.extend(
                batch
                    .records
                    .iter()
                    .map(|record| (self.timestamp_of)(record)),
            );
        });
        self.latest = self.latest.max(batch.timestamps.iter().max().copied());
        self.next.push(batch)?;
        if let Some(latest) = self.latest {
            let watermark = self.strategy.after(latest);
            if watermark > self.sent {
                self.sent = watermark;
                self.next.watermark(watermark)?;
            }
        }
        Ok(())
    }
}
