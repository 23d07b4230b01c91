//! Tumbling windows of event time, aggregated record by record.
//!
//! ```text
//! key group ── window start ── key (in order of arrival) ── accumulator
//! open: window start ── key groups that have it
//! ```
//! No timer is set for a key: a window fires as a whole, key group by key group. Emptied tables are used again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control, Output};
use crate::connector::OperatorError;
use crate::key::{KeyScratch, KeySelector};
use crate::operator::OperatorContext;
use crate::operator::aggregate::AggregateFunction;
use crate::operator::groups::Groups;
use crate::operator::table::KeyTable;
use crate::record::Key;
use crate::task::{TaskError, TaskMetrics};

/// Emptied tables that wait for their next window, at most this many: enough for the windows that fire at once, if few overlap.
const SPARE_TABLES: usize = 256;

/// A stretch of event time, from `start` on and before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeWindow {
    /// First instant of it.
    pub start: EventTime,
    /// First instant after it.
    pub end: EventTime,
}

impl TimeWindow {
    /// Its last instant: the event time of what it results in.
    pub const fn max_timestamp(self) -> EventTime {
        EventTime(self.end.0.saturating_sub(1))
    }
}

/// Divides event time into windows of equal size, aligned to the epoch. Flink: `TumblingEventTimeWindows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TumblingWindows {
    size_ms: i64,
}

impl TumblingWindows {
    /// Windows of this size; at least a millisecond.
    pub fn of(size: Duration) -> Self {
        Self {
            size_ms: i64::try_from(size.as_millis()).unwrap_or(i64::MAX).max(1),
        }
    }

    /// The window that holds this instant.
    pub const fn window_of(self, time: EventTime) -> TimeWindow {
        let start = time.0.saturating_sub(time.0.rem_euclid(self.size_ms));
        TimeWindow {
            start: EventTime(start),
            end: EventTime(start.saturating_add(self.size_ms)),
        }
    }
}

/// Makes the output of a window that closes, from its key and the result of its aggregate.
pub trait WindowFunction<K, R, O>: Send + Sync + 'static {
    /// The record that is handed on; its event time is the window's last instant.
    fn apply(&self, key: &K, window: TimeWindow, result: R) -> O;
}

impl<K, R, O, F: Fn(&K, TimeWindow, R) -> O + Send + Sync + 'static> WindowFunction<K, R, O> for F {
    fn apply(&self, key: &K, window: TimeWindow, result: R) -> O {
        self(key, window, result)
    }
}

/// The tables of one key group, by window start.
type GroupWindows<K, A> = BTreeMap<i64, KeyTable<K, A>>;

/// Aggregates records by key and window, and hands on a window's results when the watermark has passed it: by window, then
/// key group, then order of the keys' arrival. Records whose window has closed are dropped and counted.
pub struct WindowOperator<K, T, A: AggregateFunction<T>, W, O> {
    name: Arc<str>,
    windows: TumblingWindows,
    selector: Arc<dyn KeySelector<K, T>>,
    function: Arc<A>,
    window_function: Arc<W>,
    groups: Groups<GroupWindows<K, A::Accumulator>>,
    open: BTreeMap<i64, Vec<u32>>,
    spare: Vec<KeyTable<K, A::Accumulator>>,
    keys: KeyScratch<K>,
    watermark: Watermark,
    metrics: Arc<TaskMetrics>,
    out: Output<O>,
}

impl<K, T, A, W, O> WindowOperator<K, T, A, W, O>
where
    K: Key,
    A: AggregateFunction<T>,
    W: WindowFunction<K, A::Output, O>,
    O: 'static,
{
    /// The operator that folds with `function` by the keys of `selector`, makes its output with `window_function`, and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        windows: TumblingWindows,
        selector: Arc<dyn KeySelector<K, T>>,
        function: Arc<A>,
        window_function: Arc<W>,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        Self {
            name: Arc::clone(&context.name),
            windows,
            selector,
            function,
            window_function,
            groups: Groups::of(context),
            open: BTreeMap::new(),
            spare: Vec::new(),
            keys: KeyScratch::default(),
            watermark: Watermark::MIN,
            metrics: Arc::clone(&context.metrics),
            out: Output::new(next),
        }
    }

    fn add(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        if !batch.is_empty() && !batch.has_timestamps() {
            return Err(OperatorError::permanent(
                "got records without event time: assign_timestamps has to come before the window",
            ));
        }
        let mut late = 0;
        let (keys, hashes) = self.keys.select(&*self.selector, &batch.records);
        let records = batch.records.iter().zip(&batch.timestamps);
        for ((index, &hash), (record, &timestamp)) in hashes.iter().enumerate().zip(records) {
            let window = self.windows.window_of(timestamp);
            if window.max_timestamp() <= self.watermark.0 {
                late += 1;
                continue;
            }
            let place = self.groups.place(hash)?;
            let table = self
                .groups
                .at(place)
                .entry(window.start.0)
                .or_insert_with(|| {
                    // A window's first record in a key group is also when the group enters the window's list.
                    let listed = self.open.entry(window.start.0).or_default();
                    listed.push(place as u32);
                    self.spare.pop().unwrap_or_default()
                });
            let accumulator =
                table.get_or_insert_with(hash, keys.get(index), || self.function.create());
            self.function.add(accumulator, record);
        }
        if late > 0 {
            self.metrics
                .late_records_dropped
                .fetch_add(late, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Hands on all windows that end at or before the watermark.
    fn fire(&mut self) -> Result<(), TaskError> {
        while let Some(first) = self.open.first_entry() {
            let window = self.windows.window_of(EventTime(*first.key()));
            if window.max_timestamp() > self.watermark.0 {
                break;
            }
            let mut places = first.remove();
            places.sort_unstable();
            for place in places {
                let Some(mut table) = self.groups.at(place as usize).remove(&window.start.0) else {
                    continue;
                };
                for (key, accumulator) in table.drain() {
                    let result = self.function.result(&accumulator);
                    let record = self.window_function.apply(&key, window, result);
                    self.out.push(record, Some(window.max_timestamp()))?;
                }
                if self.spare.len() < SPARE_TABLES {
                    self.spare.push(table);
                }
            }
        }
        Ok(())
    }
}

impl<K, T, A, W, O> Control for WindowOperator<K, T, A, W, O>
where
    K: Key,
    A: AggregateFunction<T>,
    W: WindowFunction<K, A::Output, O>,
    O: 'static,
{
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        if watermark > self.watermark {
            self.watermark = watermark;
            let name = Arc::clone(&self.name);
            attribute(&name, || self.fire())?;
            self.out.hand_on()?;
        }
        self.out.downstream().watermark(watermark)
    }
}

impl<K, T, A, W, O> Collector<T> for WindowOperator<K, T, A, W, O>
where
    K: Key,
    A: AggregateFunction<T>,
    W: WindowFunction<K, A::Output, O>,
    O: 'static,
{
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || self.add(batch)).map_err(|error| error.of(&name))
    }
}
