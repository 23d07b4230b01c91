//! Triggers that fire again and again.

use std::time::Duration;

use spindle_common::time::EventTime;

use super::{Trigger, TriggerContext, TriggerResult};
use crate::operator::window::TimeWindow;

fn interval(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX)
        .max(1)
}

/// The first multiple of the interval after this instant, but not after the window.
fn next_multiple(after: EventTime, interval: i64, window: TimeWindow) -> EventTime {
    let next = after
        .0
        .saturating_sub(after.0.rem_euclid(interval))
        .saturating_add(interval);
    EventTime(next.min(window.max_timestamp().0))
}

/// Fires at each multiple of an interval of event time while the window is open, and at the window's end. Flink:
/// `ContinuousEventTimeTrigger`.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTimeTrigger(i64);

impl ContinuousEventTimeTrigger {
    /// At each multiple of this; at least a millisecond.
    pub fn of(every: Duration) -> Self {
        Self(interval(every))
    }
}

impl<T> Trigger<T> for ContinuousEventTimeTrigger {
    /// When it fires next.
    type State = Option<EventTime>;

    fn on_element(
        &self,
        _: &T,
        time: EventTime,
        window: TimeWindow,
        next: &mut Option<EventTime>,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if window.max_timestamp() <= context.watermark().0 {
            return TriggerResult::Fire;
        }
        context.register_event_time_timer(window.max_timestamp());
        if next.is_none() {
            let first = next_multiple(time, self.0, window);
            context.register_event_time_timer(first);
            *next = Some(first);
        }
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        next: &mut Option<EventTime>,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if *next != Some(time) {
            return TriggerResult::Continue;
        }
        // A window without end does not fire for each multiple until the end of time.
        let from = match window {
            TimeWindow::GLOBAL => time.max(context.watermark().0),
            _ => time,
        };
        let following = next_multiple(from, self.0, window);
        context.register_event_time_timer(following);
        *next = Some(following);
        TriggerResult::Fire
    }

    fn on_merge(
        &self,
        window: TimeWindow,
        next: &mut Option<EventTime>,
        absorbed: Vec<Option<EventTime>>,
        context: &mut TriggerContext<'_>,
    ) {
        let ahead = |time: &EventTime| *time > context.watermark().0;
        *next = absorbed
            .into_iter()
            .chain([*next])
            .flatten()
            .filter(ahead)
            .min();
        if let Some(time) = *next {
            context.register_event_time_timer(time);
        }
        if window.max_timestamp() > context.watermark().0 {
            context.register_event_time_timer(window.max_timestamp());
        }
    }
}

/// Fires at each multiple of an interval of processing time, as long as the window is there. Flink: `ContinuousProcessingTimeTrigger`.
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTimeTrigger(i64);

impl ContinuousProcessingTimeTrigger {
    /// At each multiple of this; at least a millisecond.
    pub fn of(every: Duration) -> Self {
        Self(interval(every))
    }
}

impl<T> Trigger<T> for ContinuousProcessingTimeTrigger {
    /// When it fires next.
    type State = Option<EventTime>;

    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        _: TimeWindow,
        next: &mut Option<EventTime>,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if next.is_none() {
            let first = next_multiple(context.processing_time(), self.0, TimeWindow::GLOBAL);
            context.register_processing_time_timer(first);
            *next = Some(first);
        }
        TriggerResult::Continue
    }

    fn on_processing_time(
        &self,
        time: EventTime,
        _: TimeWindow,
        next: &mut Option<EventTime>,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if *next != Some(time) {
            return TriggerResult::Continue;
        }
        // After a pause it does not fire for each multiple that was missed.
        let now = context.processing_time().max(time);
        let following = next_multiple(now, self.0, TimeWindow::GLOBAL);
        context.register_processing_time_timer(following);
        *next = Some(following);
        TriggerResult::Fire
    }

    fn on_merge(
        &self,
        _: TimeWindow,
        next: &mut Option<EventTime>,
        absorbed: Vec<Option<EventTime>>,
        context: &mut TriggerContext<'_>,
    ) {
        *next = absorbed.into_iter().chain([*next]).flatten().min();
        if let Some(time) = *next {
            context.register_processing_time_timer(time);
        }
    }
}
