//! Functions of records with a key, with state and timers of that key.

use std::sync::Arc;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::key::{KeyScratch, KeySelector};
use crate::operator::context::Runtime;
use crate::operator::{FunctionResult, KeyedContext, OperatorContext, ProcessContext};
use crate::record::Key;
use crate::snapshot::{Restored, Snapshot};
use crate::state::store::StateStores;
use crate::state::{KeyedStore, OperatorStates, Place, States};
use crate::task::TaskError;
use crate::timer::{TimeDomain, Timer};

#[cfg(test)]
mod tests;

/// A function of records with a key. Closures are such functions, without timers. Flink: `KeyedProcessFunction`.
pub trait KeyedProcessFunction<K, T, O>: 'static {
    /// Works on a record.
    ///
    /// # Errors
    /// What ends the task.
    fn process(&mut self, record: T, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult;

    /// Works on a timer of the current key that fires.
    ///
    /// # Errors
    /// What ends the task.
    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        let _ = (timer, ctx);
        Ok(())
    }
}

impl<K, T, O, F> KeyedProcessFunction<K, T, O> for F
where
    F: FnMut(T, &mut KeyedContext<'_, K, O>) -> FunctionResult + 'static,
{
    #[inline]
    fn process(&mut self, record: T, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        self(record, ctx)
    }
}

/// What an operator with a function of a key has, whatever the function is.
pub(crate) struct KeyedRuntime<K, O> {
    pub(crate) base: Runtime<O>,
    pub(crate) store: KeyedStore<K>,
    keys: KeyScratch<K>,
    places: Vec<Place>,
}

impl<K: Key, O: 'static> KeyedRuntime<K, O> {
    /// One with the states that `make` declares, in these stores or in memory, and the function that it makes.
    pub(crate) fn new<F>(
        context: &OperatorContext,
        stores: Option<Arc<dyn StateStores>>,
        make: impl FnOnce(&mut States) -> F,
        next: Box<dyn Collector<O>>,
    ) -> (Self, F) {
        let mut states = States::of(context, OperatorStates::new());
        let function = attribute(&context.name, || make(&mut states));
        let (keyed, operator) = states.into_parts();
        let runtime = Self {
            base: Runtime::new(context, operator.into_store(), next),
            store: KeyedStore::<K>::new(context, keyed, stores),
            keys: KeyScratch::default(),
            places: Vec::new(),
        };
        (runtime, function)
    }

    /// Calls a function for each record.
    pub(crate) fn each<T>(
        &mut self,
        selector: &dyn KeySelector<K, T>,
        batch: &mut Batch<T>,
        mut call: impl FnMut(T, &mut KeyedContext<'_, K, O>) -> FunctionResult,
    ) -> Result<(), TaskError> {
        let name = Arc::clone(&self.base.name);
        attribute(&name, || {
            let Self {
                base,
                store,
                keys,
                places,
            } = self;
            store.begin(|| base.clock.processing_time());
            places.clear();
            let (keys, hashes) = keys.select(selector, &batch.records);
            store.places(&base.owner, &keys, hashes, places)?;
            drop(keys);
            for (&place, (record, timestamp)) in places.iter().zip(batch.drain()) {
                let mut ctx = at(base.context(timestamp), store, place);
                let result = call(record, &mut ctx);
                base.returned(result)?;
            }
            store.finish(&base.owner, places.len())
        })?;
        self.base.out.hand_on()
    }

    /// Calls a function for each timer that is due at `time`.
    pub(crate) fn fire(
        &mut self,
        domain: TimeDomain,
        time: EventTime,
        mut on_timer: impl FnMut(Timer, &mut KeyedContext<'_, K, O>) -> FunctionResult,
    ) -> Result<(), TaskError> {
        let name = Arc::clone(&self.base.name);
        attribute(&name, || {
            let Self { base, store, .. } = self;
            store.begin(|| base.clock.processing_time());
            loop {
                let (timers, timed) = match domain {
                    TimeDomain::EventTime => (&mut store.keyed.event_timers, true),
                    TimeDomain::ProcessingTime => (&mut store.keyed.processing_timers, false),
                };
                let Some((time, place)) = timers.pop(time) else {
                    break;
                };
                store.load(&base.owner, &[place])?;
                let mut ctx = at(base.context(timed.then_some(time)), store, place);
                // Without this timer it may have nothing.
                ctx.cleared();
                let result = on_timer(Timer { time, domain }, &mut ctx);
                base.returned(result)?;
                store.relieve(&base.owner)?;
            }
            store.finish(&base.owner, 0)
        })?;
        self.base.out.hand_on()
    }

    /// Fires the timers of event time, then hands the watermark on.
    pub(crate) fn watermark(
        &mut self,
        watermark: Watermark,
        on_timer: impl FnMut(Timer, &mut KeyedContext<'_, K, O>) -> FunctionResult,
    ) -> Result<(), TaskError> {
        if watermark > self.base.watermark {
            self.base.watermark = watermark;
            self.fire(TimeDomain::EventTime, watermark.0, on_timer)?;
        }
        self.base.out.downstream().watermark(watermark)
    }

    /// Fires the timers of processing time, then hands the time on.
    pub(crate) fn processing_time(
        &mut self,
        now: EventTime,
        on_timer: impl FnMut(Timer, &mut KeyedContext<'_, K, O>) -> FunctionResult,
    ) -> Result<(), TaskError> {
        self.fire(TimeDomain::ProcessingTime, now, on_timer)?;
        self.base.out.downstream().processing_time(now)
    }

    /// Writes all states and timers, then hands the barrier on.
    pub(crate) fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.store.write(&self.base.owner, into)?;
        self.base.write(into)?;
        self.base.out.snapshot(into)
    }

    /// Takes what [`Self::snapshot`] wrote.
    pub(crate) fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.store.read(&self.base.owner, from)?;
        self.base.read(from)?;
        self.base.out.restore(from)
    }

    pub(crate) fn deadline(&mut self) -> Option<EventTime> {
        let timer = self.store.keyed.processing_timers.next_time();
        let downstream = self.base.out.downstream().deadline();
        [timer, downstream].into_iter().flatten().min()
    }
}

/// The context of a call for the key in a place.
#[inline]
pub(crate) fn at<'a, K: Key, O: 'static>(
    base: ProcessContext<'a, O>,
    store: &'a mut KeyedStore<K>,
    place: Place,
) -> KeyedContext<'a, K, O> {
    store.keyed.place = place;
    let key = store.tables.get(place.group as usize).key(place.slot);
    KeyedContext {
        base,
        key: key.expect("a slot with records or timers has a key"),
        keyed: &mut store.keyed,
    }
}

/// Applies a [`KeyedProcessFunction`] to each record.
pub struct KeyedProcess<K, T, F, O> {
    selector: Arc<dyn KeySelector<K, T>>,
    function: F,
    runtime: KeyedRuntime<K, O>,
}

impl<K: Key, T, F: KeyedProcessFunction<K, T, O>, O: 'static> KeyedProcess<K, T, F, O> {
    /// The operator that applies the function that `make` makes for its subtask, by the keys of `selector`, and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        selector: Arc<dyn KeySelector<K, T>>,
        make: impl FnOnce(&mut States) -> F,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        let (runtime, function) = KeyedRuntime::new(context, context.stores.clone(), make, next);
        Self {
            selector,
            function,
            runtime,
        }
    }
}

impl<K: Key, T, F: KeyedProcessFunction<K, T, O>, O: 'static> Control for KeyedProcess<K, T, F, O> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.runtime.base.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .watermark(watermark, |timer, ctx| function.on_timer(timer, ctx))
    }

    fn processing_time(&mut self, now: EventTime) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .processing_time(now, |timer, ctx| function.on_timer(timer, ctx))
    }

    fn deadline(&mut self) -> Option<EventTime> {
        self.runtime.deadline()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.runtime.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.runtime.restore(from)
    }
}

impl<K: Key, T, F: KeyedProcessFunction<K, T, O>, O: 'static> Collector<T>
    for KeyedProcess<K, T, F, O>
{
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime.each(&*self.selector, batch, |record, ctx| {
            function.process(record, ctx)
        })
    }
}
