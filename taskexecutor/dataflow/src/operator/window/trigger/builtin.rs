//! Triggers that fire at the end, by number, and by what records hold.

use spindle_common::time::EventTime;

use super::{Trigger, TriggerContext, TriggerResult};
use crate::operator::window::{TimeWindow, WindowTime, Windows};
use crate::record::Record;

/// Fires when the watermark reaches the window's last instant, and once more for each record that comes after that. Flink:
/// `EventTimeTrigger`.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTimeTrigger;

impl<T> Trigger<T> for EventTimeTrigger {
    type State = ();

    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        window: TimeWindow,
        (): &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if window.max_timestamp() <= context.watermark().0 {
            return TriggerResult::Fire;
        }
        context.register_event_time_timer(window.max_timestamp());
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        (): &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            TriggerResult::Fire
        } else {
            TriggerResult::Continue
        }
    }

    fn on_merge(
        &self,
        window: TimeWindow,
        (): &mut (),
        _: Vec<()>,
        context: &mut TriggerContext<'_>,
    ) {
        if window.max_timestamp() > context.watermark().0 {
            context.register_event_time_timer(window.max_timestamp());
        }
    }

    fn fires_at_end_by(&self, time: WindowTime) -> bool {
        time == WindowTime::Event
    }
}

/// Fires when processing time has passed the window's last instant. Flink: `ProcessingTimeTrigger`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessingTimeTrigger;

impl<T> Trigger<T> for ProcessingTimeTrigger {
    type State = ();

    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        window: TimeWindow,
        (): &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        context.register_processing_time_timer(window.max_timestamp());
        TriggerResult::Continue
    }

    fn on_processing_time(
        &self,
        _: EventTime,
        _: TimeWindow,
        (): &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }

    fn on_merge(
        &self,
        window: TimeWindow,
        (): &mut (),
        _: Vec<()>,
        context: &mut TriggerContext<'_>,
    ) {
        context.register_processing_time_timer(window.max_timestamp());
    }

    fn fires_at_end_by(&self, time: WindowTime) -> bool {
        time == WindowTime::Processing
    }
}

/// Never fires: what global windows have until another is set. Flink: `GlobalWindows.NeverTrigger`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverTrigger;

impl<T> Trigger<T> for NeverTrigger {
    type State = ();

    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        _: TimeWindow,
        (): &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    fn on_merge(&self, _: TimeWindow, (): &mut (), _: Vec<()>, _: &mut TriggerContext<'_>) {}
}

/// What windows have unless another trigger is set: [`EventTimeTrigger`], [`ProcessingTimeTrigger`], or for the global window
/// [`NeverTrigger`].
#[derive(Debug, Clone, Copy)]
pub enum EndOfWindow {
    /// At the end in event time.
    Event,
    /// At the end in processing time.
    Processing,
    /// There is no end.
    Never,
}

impl<T> Trigger<T> for EndOfWindow {
    type State = ();

    fn on_element(
        &self,
        record: &T,
        time: EventTime,
        window: TimeWindow,
        state: &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        match self {
            Self::Event => EventTimeTrigger.on_element(record, time, window, state, context),
            Self::Processing => {
                ProcessingTimeTrigger.on_element(record, time, window, state, context)
            }
            Self::Never => TriggerResult::Continue,
        }
    }

    fn on_event_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Trigger::<T>::on_event_time(&EventTimeTrigger, time, window, state, context)
    }

    fn on_processing_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Trigger::<T>::on_processing_time(&ProcessingTimeTrigger, time, window, state, context)
    }

    fn on_merge(
        &self,
        window: TimeWindow,
        state: &mut (),
        absorbed: Vec<()>,
        context: &mut TriggerContext<'_>,
    ) {
        match self {
            Self::Event => {
                Trigger::<T>::on_merge(&EventTimeTrigger, window, state, absorbed, context);
            }
            Self::Processing => {
                Trigger::<T>::on_merge(&ProcessingTimeTrigger, window, state, absorbed, context);
            }
            Self::Never => {}
        }
    }

    fn fires_at_end_by(&self, time: WindowTime) -> bool {
        match self {
            Self::Event => time == WindowTime::Event,
            Self::Processing => time == WindowTime::Processing,
            Self::Never => false,
        }
    }
}

/// Fires when so many records have come since it last did. Flink: `CountTrigger`.
#[derive(Debug, Clone, Copy)]
pub struct CountTrigger(u64);

impl CountTrigger {
    /// After each `records` records; at least one.
    pub fn of(records: u64) -> Self {
        Self(records.max(1))
    }
}

impl<T> Trigger<T> for CountTrigger {
    type State = u64;

    fn on_element(
        &self,
        _: &T,
        _: EventTime,
        _: TimeWindow,
        count: &mut u64,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        *count += 1;
        if *count < self.0 {
            return TriggerResult::Continue;
        }
        *count = 0;
        TriggerResult::Fire
    }

    fn on_merge(
        &self,
        _: TimeWindow,
        count: &mut u64,
        absorbed: Vec<u64>,
        _: &mut TriggerContext<'_>,
    ) {
        *count += absorbed.iter().sum::<u64>();
    }
}

/// Does what another trigger does, and forgets what the window holds whenever that fires. Flink: `PurgingTrigger`.
#[derive(Debug, Clone, Copy)]
pub struct PurgingTrigger<I>(I);

impl<I> PurgingTrigger<I> {
    /// Around this trigger.
    pub const fn of(inner: I) -> Self {
        Self(inner)
    }
}

const fn purged(result: TriggerResult) -> TriggerResult {
    match result {
        TriggerResult::Fire => TriggerResult::FireAndPurge,
        TriggerResult::Continue | TriggerResult::FireAndPurge | TriggerResult::Purge => result,
    }
}

impl<T, I: Trigger<T>> Trigger<T> for PurgingTrigger<I> {
    type State = I::State;

    fn on_element(
        &self,
        record: &T,
        time: EventTime,
        window: TimeWindow,
        state: &mut I::State,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purged(self.0.on_element(record, time, window, state, context))
    }

    fn on_event_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut I::State,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purged(self.0.on_event_time(time, window, state, context))
    }

    fn on_processing_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut I::State,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purged(self.0.on_processing_time(time, window, state, context))
    }

    fn on_merge(
        &self,
        window: TimeWindow,
        state: &mut I::State,
        absorbed: Vec<I::State>,
        context: &mut TriggerContext<'_>,
    ) {
        self.0.on_merge(window, state, absorbed, context);
    }
}

/// Fires when a record is farther than a threshold from the one at which it last fired, or from the first. Flink: `DeltaTrigger`.
#[derive(Debug, Clone, Copy)]
pub struct DeltaTrigger<F> {
    threshold: f64,
    delta: F,
}

impl<F> DeltaTrigger<F> {
    /// When `delta` of the earlier and the new record is greater than `threshold`.
    pub const fn of(threshold: f64, delta: F) -> Self {
        Self { threshold, delta }
    }
}

impl<T, F> Trigger<T> for DeltaTrigger<F>
where
    T: Record,
    F: Fn(&T, &T) -> f64 + Send + Sync + 'static,
{
    /// The record that others are compared with.
    type State = Option<T>;

    fn on_element(
        &self,
        record: &T,
        _: EventTime,
        _: TimeWindow,
        last: &mut Option<T>,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        match last {
            Some(earlier) if (self.delta)(earlier, record) <= self.threshold => {
                TriggerResult::Continue
            }
            Some(earlier) => {
                earlier.clone_from(record);
                TriggerResult::Fire
            }
            None => {
                *last = Some(record.clone());
                TriggerResult::Continue
            }
        }
    }

    fn on_merge(
        &self,
        _: TimeWindow,
        last: &mut Option<T>,
        absorbed: Vec<Option<T>>,
        _: &mut TriggerContext<'_>,
    ) {
        if last.is_none() {
            *last = absorbed.into_iter().flatten().next();
        }
    }
}

impl EndOfWindow {
    /// That of these windows.
    pub const fn of<T>(windows: &Windows<T>) -> Self {
        match (windows, windows.time()) {
            (Windows::Global, _) => Self::Never,
            (_, WindowTime::Event) => Self::Event,
            (_, WindowTime::Processing) => Self::Processing,
        }
    }
}
