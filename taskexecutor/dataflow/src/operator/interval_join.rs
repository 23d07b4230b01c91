//! Joins records of two streams whose event times are close. Flink: `IntervalJoinOperator`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spindle_common::time::{EventTime, Watermark};

use crate::collector::OutputTag;
use crate::connector::OperatorError;
use crate::operator::{
    FunctionResult, KeyedCoProcessFunction, KeyedContext, OperatorContext, ProcessContext,
};
use crate::record::{Key, Record};
use crate::state::{MapState, States};
use crate::task::TaskMetrics;
use crate::timer::Timer;

#[cfg(test)]
mod tests;

/// How far the event time of a record of the second stream may be from that of one of the first, in milliseconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// At least this much later; negative for earlier.
    pub lower_ms: i64,
    /// At most this much later; negative for earlier.
    pub upper_ms: i64,
}

/// Where records go that are late. They are dropped and counted where nothing is given.
pub struct LateOutputs<A, B> {
    /// Those of the first stream.
    pub first: Option<OutputTag<A>>,
    /// Those of the second stream.
    pub second: Option<OutputTag<B>>,
}

impl<A, B> Default for LateOutputs<A, B> {
    fn default() -> Self {
        Self {
            first: None,
            second: None,
        }
    }
}

impl<A, B> Clone for LateOutputs<A, B> {
    fn clone(&self) -> Self {
        Self {
            first: self.first.clone(),
            second: self.second.clone(),
        }
    }
}

/// Calls a function for each two records of two streams that have the same key and event times in the interval. What it emits has the later of the
/// two event times. A record is kept until the watermark says that none comes any more that it could be joined with; one that is behind the
/// watermark is late.
pub struct IntervalJoin<A, B, F> {
    interval: Interval,
    /// The records of each stream, by event time.
    first: MapState<i64, Vec<A>>,
    second: MapState<i64, Vec<B>>,
    late: LateOutputs<A, B>,
    metrics: Arc<TaskMetrics>,
    function: F,
}

impl<A: Record, B: Record, F> IntervalJoin<A, B, F> {
    /// The join of an operator's subtask, with its state.
    pub fn new(
        context: &OperatorContext,
        states: &mut States,
        interval: Interval,
        late: LateOutputs<A, B>,
        function: F,
    ) -> Self {
        Self {
            interval,
            first: states.map("first"),
            second: states.map("second"),
            late,
            metrics: Arc::clone(&context.metrics),
            function,
        }
    }

    /// The record's event time; none if it is late, and then it is dealt with.
    fn time_of<T: Record, K, O: 'static>(
        record: T,
        ctx: &mut KeyedContext<'_, K, O>,
        late: Option<&OutputTag<T>>,
        metrics: &TaskMetrics,
    ) -> Result<Option<(i64, T)>, OperatorError> {
        let time = ctx.timestamp().ok_or_else(|| {
            OperatorError::permanent(
                "got a record without event time: give both streams event times with assign_timestamps before they are joined",
            )
        })?;
        if ctx.watermark() != Watermark::MIN && time < ctx.watermark().0 {
            match late {
                Some(tag) => ctx.output(tag, record),
                None => drop(metrics.late_records_dropped.fetch_add(1, Ordering::Relaxed)),
            }
            return Ok(None);
        }
        Ok(Some((time.0, record)))
    }
}

/// Adds a record to those of its stream, until `keep_ms` after its event time, and hands each of the other stream that is within reach to `join`.
fn take_in<K: Key, T: Record, U: Record, O: 'static>(
    (time, record): (i64, T),
    (mine, others): (MapState<i64, Vec<T>>, MapState<i64, Vec<U>>),
    reach: (i64, i64),
    ctx: &mut KeyedContext<'_, K, O>,
    mut join: impl FnMut(&T, &U, &mut ProcessContext<'_, O>) -> FunctionResult,
) -> FunctionResult {
    let (from, to) = (time.saturating_add(reach.0), time.saturating_add(reach.1));
    if from <= to {
        others.with_range(ctx, from..=to, |at, others, base| {
            base.at(EventTime(time.max(*at)));
            others
                .iter()
                .try_for_each(|other| join(&record, other, base))
        })?;
    }
    ctx.register_event_time_timer(EventTime(to.max(time)));
    mine.get_or_insert_with(ctx, time, Vec::new).push(record);
    Ok(())
}

impl<K, A, B, O, F> KeyedCoProcessFunction<K, A, B, O> for IntervalJoin<A, B, F>
where
    K: Key,
    A: Record,
    B: Record,
    O: 'static,
    F: FnMut(&A, &B, &mut ProcessContext<'_, O>) -> FunctionResult + 'static,
{
    fn process1(&mut self, record: A, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        let late = self.late.first.as_ref();
        let Some(timed) = Self::time_of(record, ctx, late, &self.metrics)? else {
            return Ok(());
        };
        let Interval { lower_ms, upper_ms } = self.interval;
        let function = &mut self.function;
        let states = (self.first, self.second);
        take_in(timed, states, (lower_ms, upper_ms), ctx, |a, b, ctx| {
            function(a, b, ctx)
        })
    }

    fn process2(&mut self, record: B, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        let late = self.late.second.as_ref();
        let Some(timed) = Self::time_of(record, ctx, late, &self.metrics)? else {
            return Ok(());
        };
        let Interval { lower_ms, upper_ms } = self.interval;
        let function = &mut self.function;
        let states = (self.second, self.first);
        take_in(timed, states, (-upper_ms, -lower_ms), ctx, |b, a, ctx| {
            function(a, b, ctx)
        })
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        // The timer is that of at most one event time of each stream: see `take_in`.
        let time = timer.time.0;
        let Interval { lower_ms, upper_ms } = self.interval;
        self.first
            .remove(ctx, &time.saturating_sub(upper_ms.max(0)));
        self.second
            .remove(ctx, &time.saturating_add(lower_ms.min(0)));
        Ok(())
    }
}
