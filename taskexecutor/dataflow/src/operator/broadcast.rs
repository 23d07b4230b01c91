//! Functions of a stream and of another whose records all subtasks get: the broadcast state pattern.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::key::KeySelector;
use crate::operator::context::Runtime;
use crate::operator::keyed_process::{KeyedRuntime, at};
use crate::operator::two_inputs::{TwoInputs, inputs};
use crate::operator::{
    BroadcastContext, FunctionResult, KeyedContext, OperatorContext, ProcessContext,
};
use crate::record::Key;
use crate::snapshot::{Restored, Snapshot};
use crate::state::{KeyedStore, OperatorStates, States};
use crate::task::TaskError;
use crate::timer::Timer;

/// A function of the records of a stream and of one that all subtasks get. A pair of closures, one for each stream, is one. Flink:
/// `BroadcastProcessFunction`.
///
/// Broadcast state has to come out the same in all subtasks: what the function does with a broadcast record may depend on nothing else.
pub trait BroadcastProcessFunction<A, B, O>: 'static {
    /// Works on a record.
    ///
    /// # Errors
    /// What ends the task.
    fn process(&mut self, record: A, ctx: &mut ProcessContext<'_, O>) -> FunctionResult;

    /// Works on a record that all subtasks get.
    ///
    /// # Errors
    /// What ends the task.
    fn process_broadcast(&mut self, record: B, ctx: &mut BroadcastContext<'_, O>)
    -> FunctionResult;
}

impl<A, B, O, F, G> BroadcastProcessFunction<A, B, O> for (F, G)
where
    F: FnMut(A, &mut ProcessContext<'_, O>) -> FunctionResult + 'static,
    G: FnMut(B, &mut BroadcastContext<'_, O>) -> FunctionResult + 'static,
{
    fn process(&mut self, record: A, ctx: &mut ProcessContext<'_, O>) -> FunctionResult {
        (self.0)(record, ctx)
    }

    fn process_broadcast(
        &mut self,
        record: B,
        ctx: &mut BroadcastContext<'_, O>,
    ) -> FunctionResult {
        (self.1)(record, ctx)
    }
}

/// A function of the records of a stream with a key and of one that all subtasks get. A pair of closures, one for each stream, is one, without
/// timers. Flink: `KeyedBroadcastProcessFunction`.
pub trait KeyedBroadcastProcessFunction<K, A, B, O>: 'static {
    /// Works on a record.
    ///
    /// # Errors
    /// What ends the task.
    fn process(&mut self, record: A, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult;

    /// Works on a record that all subtasks get.
    ///
    /// # Errors
    /// What ends the task.
    fn process_broadcast(
        &mut self,
        record: B,
        ctx: &mut KeyedBroadcastContext<'_, K, O>,
    ) -> FunctionResult;

    /// Works on a timer of the current key that fires.
    ///
    /// # Errors
    /// What ends the task.
    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        let _ = (timer, ctx);
        Ok(())
    }
}

impl<K, A, B, O, F, G> KeyedBroadcastProcessFunction<K, A, B, O> for (F, G)
where
    F: FnMut(A, &mut KeyedContext<'_, K, O>) -> FunctionResult + 'static,
    G: FnMut(B, &mut KeyedBroadcastContext<'_, K, O>) -> FunctionResult + 'static,
{
    fn process(&mut self, record: A, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        (self.0)(record, ctx)
    }

    fn process_broadcast(
        &mut self,
        record: B,
        ctx: &mut KeyedBroadcastContext<'_, K, O>,
    ) -> FunctionResult {
        (self.1)(record, ctx)
    }
}

/// What a function can do with a record that all subtasks get, beside a stream with a key: all that [`BroadcastContext`] can, and reach the
/// state of all keys of the subtask.
pub struct KeyedBroadcastContext<'a, K, O> {
    base: BroadcastContext<'a, O>,
    store: &'a mut KeyedStore<K>,
}

impl<K: Key, O: 'static> KeyedBroadcastContext<'_, K, O> {
    /// Calls a function for each key of the subtask that has state or timers, by key group. Flink: `applyToKeyedState`.
    ///
    /// # Errors
    /// The first of the function.
    pub fn apply_to_keyed_state(
        &mut self,
        mut function: impl FnMut(&mut KeyedContext<'_, K, O>) -> FunctionResult,
    ) -> FunctionResult {
        self.store.all().into_iter().try_for_each(|place| {
            let base = self.base.base.lend();
            function(&mut at(base, self.store, place))
        })
    }
}

impl<'a, K, O> Deref for KeyedBroadcastContext<'a, K, O> {
    type Target = BroadcastContext<'a, O>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl<K, O> DerefMut for KeyedBroadcastContext<'_, K, O> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.base
    }
}

/// Applies a [`BroadcastProcessFunction`] to the records of two streams.
pub struct BroadcastProcess<F, O> {
    function: F,
    runtime: Runtime<O>,
}

impl<F: 'static, O: 'static> BroadcastProcess<F, O> {
    /// The inputs of the operator that applies the function that `make` makes for its subtask, and feeds `next`.
    pub fn inputs<A: 'static, B: 'static>(
        context: &OperatorContext,
        make: impl FnOnce(&mut OperatorStates) -> F,
        next: Box<dyn Collector<O>>,
    ) -> (Box<dyn Collector<A>>, Box<dyn Collector<B>>)
    where
        F: BroadcastProcessFunction<A, B, O>,
    {
        let mut states = OperatorStates::new();
        let function = attribute(&context.name, || make(&mut states));
        let runtime = Runtime::new(context, states.into_store(), next);
        inputs(Self { function, runtime })
    }
}

impl<F, O: 'static> Control for BroadcastProcess<F, O> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.runtime.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.runtime.watermark = watermark;
        self.runtime.out.watermark(watermark)
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.runtime.write(into)?;
        self.runtime.out.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.runtime.read(from)?;
        self.runtime.out.restore(from)
    }
}

impl<A, B, F, O> TwoInputs<A, B> for BroadcastProcess<F, O>
where
    F: BroadcastProcessFunction<A, B, O>,
    O: 'static,
{
    fn push_first(&mut self, batch: &mut Batch<A>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .each(batch, |record, ctx| function.process(record, ctx))
    }

    fn push_second(&mut self, batch: &mut Batch<B>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime.each(batch, |record, ctx| {
            function.process_broadcast(record, &mut BroadcastContext { base: ctx.lend() })
        })
    }
}

/// Applies a [`KeyedBroadcastProcessFunction`] to the records of two streams.
pub struct KeyedBroadcastProcess<K, A, B, F, O> {
    selector: Arc<dyn KeySelector<K, A>>,
    function: F,
    runtime: KeyedRuntime<K, O>,
    broadcast: PhantomData<fn(B)>,
}

impl<K, A, B, F, O> KeyedBroadcastProcess<K, A, B, F, O>
where
    K: Key,
    A: 'static,
    B: 'static,
    F: KeyedBroadcastProcessFunction<K, A, B, O>,
    O: 'static,
{
    /// The inputs of the operator that applies the function that `make` makes for its subtask, by the keys of `selector`, and feeds `next`.
    pub fn inputs(
        context: &OperatorContext,
        selector: Arc<dyn KeySelector<K, A>>,
        make: impl FnOnce(&mut States) -> F,
        next: Box<dyn Collector<O>>,
    ) -> (Box<dyn Collector<A>>, Box<dyn Collector<B>>) {
        // It may ask for all keys at once.
        let (runtime, function) = KeyedRuntime::new(context, None, make, next);
        inputs(Self {
            selector,
            function,
            runtime,
            broadcast: PhantomData,
        })
    }
}

impl<K, A, B, F, O> Control for KeyedBroadcastProcess<K, A, B, F, O>
where
    K: Key,
    F: KeyedBroadcastProcessFunction<K, A, B, O>,
    O: 'static,
{
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

impl<K, A, B, F, O> TwoInputs<A, B> for KeyedBroadcastProcess<K, A, B, F, O>
where
    K: Key,
    F: KeyedBroadcastProcessFunction<K, A, B, O>,
    O: 'static,
{
    fn push_first(&mut self, batch: &mut Batch<A>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime.each(&*self.selector, batch, |record, ctx| {
            function.process(record, ctx)
        })
    }

    fn push_second(&mut self, batch: &mut Batch<B>) -> Result<(), TaskError> {
        let function = &mut self.function;
        let KeyedRuntime { base, store, .. } = &mut self.runtime;
        store.begin(|| base.clock.processing_time());
        base.each(batch, |record, ctx| {
            let base = BroadcastContext { base: ctx.lend() };
            function.process_broadcast(record, &mut KeyedBroadcastContext { base, store })
        })?;
        store.finish(&base.owner, 0)
    }
}
