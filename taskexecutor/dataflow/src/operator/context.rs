//! What a function can do besides returning: emit, set timers, tell the time.

use std::any::Any;
use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::chain::Clock;
use crate::collector::{Collector, Output, OutputTag, SideOutputs};
use crate::connector::OperatorError;
use crate::operator::{FunctionResult, OperatorContext};
use crate::snapshot::{Restored, Snapshot, StateOwner};
use crate::state::{FOREIGN, Keyed, OperatorStateStore, Place};
use crate::task::TaskError;

/// Name of the state in which an operator remembers how far event time has come.
pub(crate) const WATERMARK: &str = "(watermark)";

/// What an operator with a function has, whatever the function is.
pub(crate) struct Runtime<O> {
    pub(crate) owner: StateOwner,
    pub(crate) name: Arc<str>,
    pub(crate) out: Output<O>,
    sides: SideOutputs,
    pub(crate) states: OperatorStateStore,
    pub(crate) watermark: Watermark,
    pub(crate) clock: Clock,
    /// What went wrong downstream when the function emitted. The function cannot be stopped, but its emissions go nowhere any more.
    failed: Option<TaskError>,
}

impl<O: 'static> Runtime<O> {
    pub(crate) fn new(
        context: &OperatorContext,
        states: OperatorStateStore,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        Self {
            owner: StateOwner::of(context),
            name: Arc::clone(&context.name),
            out: Output::new(next),
            sides: context.sides.clone(),
            states,
            watermark: Watermark::MIN,
            clock: context.clock.clone(),
            failed: None,
        }
    }

    /// Writes the states of the operator and how far event time has come.
    pub(crate) fn write(&self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.states.write(&self.owner, into)?;
        into.progress(&self.owner, WATERMARK, &self.watermark)
    }

    /// Takes what [`Self::write`] wrote.
    pub(crate) fn read(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.states.read(&self.owner, from)?;
        if let Some(watermark) = from.progress(&self.owner, WATERMARK)? {
            self.watermark = watermark;
        }
        Ok(())
    }

    /// The context of a call.
    #[inline]
    pub(crate) const fn context(&mut self, timestamp: Option<EventTime>) -> ProcessContext<'_, O> {
        ProcessContext {
            out: &mut self.out,
            failed: &mut self.failed,
            sides: &self.sides,
            states: &mut self.states,
            timestamp,
            watermark: self.watermark,
            clock: &self.clock,
        }
    }

    /// Calls a function for each record.
    pub(crate) fn each<T>(
        &mut self,
        batch: &mut Batch<T>,
        mut call: impl FnMut(T, &mut ProcessContext<'_, O>) -> FunctionResult,
    ) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || {
            batch.drain().try_for_each(|(record, timestamp)| {
                let result = call(record, &mut self.context(timestamp));
                self.returned(result)
            })
        })?;
        self.out.hand_on()
    }

    /// A call is over.
    #[inline]
    pub(crate) fn returned(&mut self, result: FunctionResult) -> Result<(), TaskError> {
        match (self.failed.take(), result) {
            (None, Ok(())) => Ok(()),
            (Some(error), _) => Err(error),
            (None, Err(error)) => {
                let error = error.downcast::<OperatorError>().map_or_else(
                    |error| OperatorError::transient(with_causes(&*error)),
                    |error| *error,
                );
                Err(error.of(&self.name))
            }
        }
    }
}

/// An error and what it came from, in one line.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What a function can do. Flink: the `Context` and the `Collector` of a `ProcessFunction`.
pub struct ProcessContext<'a, O> {
    out: &'a mut Output<O>,
    failed: &'a mut Option<TaskError>,
    sides: &'a SideOutputs,
    pub(crate) states: &'a mut OperatorStateStore,
    pub(crate) timestamp: Option<EventTime>,
    watermark: Watermark,
    clock: &'a Clock,
}

impl<O: 'static> ProcessContext<'_, O> {
    /// The same for a shorter time.
    pub(crate) const fn lend(&mut self) -> ProcessContext<'_, O> {
        ProcessContext {
            out: self.out,
            failed: self.failed,
            sides: self.sides,
            states: self.states,
            timestamp: self.timestamp,
            watermark: self.watermark,
            clock: self.clock,
        }
    }

    /// What is emitted has this event time from now on.
    pub(crate) const fn at(&mut self, time: EventTime) {
        self.timestamp = Some(time);
    }

    /// The event time of the record, or of the timer; none if it has none.
    pub const fn timestamp(&self) -> Option<EventTime> {
        self.timestamp
    }

    /// How far event time has come.
    pub const fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Milliseconds since the epoch, by this machine's clock.
    pub fn processing_time(&self) -> EventTime {
        self.clock.processing_time()
    }

    /// Hands on a record with the event time of the one that is worked on.
    #[inline]
    pub fn emit(&mut self, record: O) {
        self.push(record, self.timestamp);
    }

    /// Hands on a record with this event time.
    pub fn emit_at(&mut self, record: O, time: EventTime) {
        self.push(record, Some(time));
    }

    #[inline]
    fn push(&mut self, record: O, timestamp: Option<EventTime>) {
        if self.failed.is_none()
            && let Err(error) = self.out.push_mixed(record, timestamp)
        {
            *self.failed = Some(error);
        }
    }

    /// Puts a record into a side output, with the event time of the one that is worked on. If nothing reads it, it is dropped.
    ///
    /// # Panics
    /// If the side output is read as another type.
    pub fn output<S: 'static>(&mut self, tag: &OutputTag<S>, record: S) {
        if self.failed.is_none()
            && let Some(side) = self.sides.get::<S>(tag.name())
            && let Err(error) = side.borrow_mut().push_mixed(record, self.timestamp)
        {
            *self.failed = Some(error);
        }
    }
}

/// What a function can do that works on a key: all that [`ProcessContext`] can, and timers. State is reached through it:
/// [`crate::state::States`]. Flink: the contexts of a `KeyedProcessFunction`.
pub struct KeyedContext<'a, K, O> {
    pub(crate) base: ProcessContext<'a, O>,
    pub(crate) key: &'a K,
    pub(crate) keyed: &'a mut Keyed,
}

impl<'a, K, O: 'static> KeyedContext<'a, K, O> {
    /// The current key.
    pub const fn key(&self) -> &K {
        self.key
    }

    // These three are here too, so that their arguments may be read through the context.

    /// See [`ProcessContext::emit`].
    #[inline]
    pub fn emit(&mut self, record: O) {
        self.base.emit(record);
    }

    /// See [`ProcessContext::emit_at`].
    pub fn emit_at(&mut self, record: O, time: EventTime) {
        self.base.emit_at(record, time);
    }

    /// See [`ProcessContext::output`].
    pub fn output<S: 'static>(&mut self, tag: &OutputTag<S>, record: S) {
        self.base.output(tag, record);
    }

    /// Has a timer fire for the current key when the watermark reaches this time; if it has already, with the next watermark. A timer that there is
    /// already is not doubled.
    ///
    /// At the end of input all timers of event time fire, with those that are set meanwhile: a function that sets another one each time goes on for
    /// ever. [`ProcessContext::watermark`] is [`Watermark::MAX`] then.
    pub fn register_event_time_timer(&mut self, time: EventTime) {
        let place = self.keyed.place;
        self.keyed.event_timers.register(place, time);
    }

    /// Has a timer of event time not fire for the current key.
    pub fn delete_event_time_timer(&mut self, time: EventTime) {
        let place = self.keyed.place;
        self.keyed.event_timers.delete(place, time);
        self.cleared();
    }

    /// Has a timer fire for the current key when this machine's clock reaches this time. At the end of input it is dropped.
    pub fn register_processing_time_timer(&mut self, time: EventTime) {
        let place = self.keyed.place;
        self.keyed.processing_timers.register(place, time);
    }

    /// Has a timer of processing time not fire for the current key.
    pub fn delete_processing_time_timer(&mut self, time: EventTime) {
        let place = self.keyed.place;
        self.keyed.processing_timers.delete(place, time);
        self.cleared();
    }

    /// The current key may have nothing any more.
    #[inline]
    pub(crate) fn cleared(&mut self) {
        self.keyed.cleared();
    }

    /// A state of all keys, where in it the current key is, and the time by which it expires.
    #[inline]
    pub(crate) fn column<C: Any>(&self, index: u32) -> (&C, Place, i64) {
        let state = self.keyed.states.get(index as usize);
        let column = state.and_then(|state| {
            let column: &dyn Any = &*state.column;
            column.downcast_ref()
        });
        (column.expect(FOREIGN), self.keyed.place, self.keyed.now)
    }

    /// Like [`Self::column`], with what emits apart from it.
    pub(crate) fn apart<C: Any>(
        &mut self,
        index: u32,
    ) -> (&mut ProcessContext<'a, O>, &C, Place, i64) {
        let state = self.keyed.states.get(index as usize);
        let column = state.and_then(|state| {
            let column: &dyn Any = &*state.column;
            column.downcast_ref()
        });
        let column = column.expect(FOREIGN);
        (&mut self.base, column, self.keyed.place, self.keyed.now)
    }

    /// Like [`Self::column`], to be changed.
    #[inline]
    pub(crate) fn column_mut<C: Any>(&mut self, index: u32) -> (&mut C, Place, i64) {
        let (place, now) = (self.keyed.place, self.keyed.now);
        if let Some(residence) = &mut self.keyed.residence {
            residence.changed(place, index);
        }
        let state = self.keyed.states.get_mut(index as usize);
        let column = state.and_then(|state| {
            let column: &mut dyn Any = &mut *state.column;
            column.downcast_mut()
        });
        (column.expect(FOREIGN), place, now)
    }
}

impl<'a, K, O> Deref for KeyedContext<'a, K, O> {
    type Target = ProcessContext<'a, O>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl<K, O> DerefMut for KeyedContext<'_, K, O> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.base
    }
}

/// What a function can do with a record that all subtasks get: all that [`ProcessContext`] can, and write broadcast state
/// ([`crate::state::BroadcastState`]). Flink: the `Context` of a `BroadcastProcessFunction`.
pub struct BroadcastContext<'a, O> {
    pub(crate) base: ProcessContext<'a, O>,
}

impl<'a, O> Deref for BroadcastContext<'a, O> {
    type Target = ProcessContext<'a, O>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl<O> DerefMut for BroadcastContext<'_, O> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.base
    }
}
