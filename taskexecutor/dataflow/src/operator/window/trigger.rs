//! Triggers: when a window fires.

mod builtin;
mod continuous;

use serde::{Deserialize, Serialize};
use spindle_common::time::{EventTime, Watermark};

use super::{TimeWindow, WindowTime};
use crate::record::Record;

pub use builtin::{
    CountTrigger, DeltaTrigger, EndOfWindow, EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger,
    PurgingTrigger,
};
pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};

/// What becomes of a window now. Flink: `TriggerResult`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// It hands on its result, and keeps what it holds.
    Fire,
    /// It hands on its result, and forgets what it holds.
    FireAndPurge,
    /// It forgets what it holds.
    Purge,
}

impl TriggerResult {
    pub(super) const fn fires(self) -> bool {
        matches!(self, Self::Fire | Self::FireAndPurge)
    }

    pub(super) const fn purges(self) -> bool {
        matches!(self, Self::Purge | Self::FireAndPurge)
    }
}

/// Decides when a window of a key fires. It may do so any number of times. Flink: `Trigger`.
///
/// Its timers belong to one key and window, and go with them. A window is forgotten when its time is over, allowed lateness included,
/// whatever the trigger says.
pub trait Trigger<T>: Send + Sync + 'static {
    /// What it remembers of each key and window.
    type State: Record + Default;

    /// A record came into the window. `time` is its event time, or the time of its arrival if it has none or the windows are of
    /// processing time.
    fn on_element(
        &self,
        record: &T,
        time: EventTime,
        window: TimeWindow,
        state: &mut Self::State,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult;

    /// The watermark reached a timer of event time.
    fn on_event_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut Self::State,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let _ = (time, window, state, context);
        TriggerResult::Continue
    }

    /// Processing time passed a timer.
    fn on_processing_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut Self::State,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let _ = (time, window, state, context);
        TriggerResult::Continue
    }

    /// A session grew to `window`, and took in others if `absorbed` is not empty. All timers are gone: those that are still wanted have
    /// to be set anew. [`Self::on_element`] follows, for the record that did it.
    fn on_merge(
        &self,
        window: TimeWindow,
        state: &mut Self::State,
        absorbed: Vec<Self::State>,
        context: &mut TriggerContext<'_>,
    );

    /// Whether it does for windows that go by this clock just what they do without a trigger: fire at their end, and for each late record
    /// after that. If so, a faster operator may do it.
    fn fires_at_end_by(&self, time: WindowTime) -> bool {
        let _ = time;
        false
    }
}

/// What a trigger can ask for. Flink: `Trigger.TriggerContext`.
pub struct TriggerContext<'a> {
    pub(super) watermark: Watermark,
    pub(super) processing_time: EventTime,
    pub(super) timers: &'a mut Timers,
}

impl TriggerContext<'_> {
    /// How far event time has come.
    pub const fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// The time of day, as it was read for this batch.
    pub const fn processing_time(&self) -> EventTime {
        self.processing_time
    }

    /// Has [`Trigger::on_event_time`] called when the watermark reaches `time`, once.
    pub fn register_event_time_timer(&mut self, time: EventTime) {
        self.timers.register(WindowTime::Event, time.0);
    }

    /// Has [`Trigger::on_processing_time`] called when processing time has passed `time`, once.
    pub fn register_processing_time_timer(&mut self, time: EventTime) {
        self.timers.register(WindowTime::Processing, time.0);
    }

    /// Takes [`Self::register_event_time_timer`] back.
    pub fn delete_event_time_timer(&mut self, time: EventTime) {
        self.timers.delete(WindowTime::Event, time.0);
    }

    /// Takes [`Self::register_processing_time_timer`] back.
    pub fn delete_processing_time_timer(&mut self, time: EventTime) {
        self.timers.delete(WindowTime::Processing, time.0);
    }
}

/// The timers of one key and window: few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timers(Vec<(WindowTime, i64)>);

impl Timers {
    fn register(&mut self, on: WindowTime, time: i64) {
        if !self.0.contains(&(on, time)) {
            self.0.push((on, time));
        }
    }

    /// Whether there was one.
    pub(super) fn delete(&mut self, on: WindowTime, time: i64) -> bool {
        let found = self.0.iter().position(|timer| *timer == (on, time));
        found.map(|place| self.0.swap_remove(place)).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The earliest of a clock.
    pub(super) fn earliest(&self, on: WindowTime) -> Option<i64> {
        let of = self.0.iter().filter(|timer| timer.0 == on);
        of.map(|timer| timer.1).min()
    }
}
