//! Functions of two streams.

use std::sync::Arc;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::key::KeySelector;
use crate::operator::context::Runtime;
use crate::operator::keyed_process::KeyedRuntime;
use crate::operator::two_inputs::{TwoInputs, inputs};
use crate::operator::{FunctionResult, KeyedContext, OperatorContext, ProcessContext};
use crate::record::Key;
use crate::snapshot::{Restored, Snapshot};
use crate::state::{OperatorStates, States};
use crate::task::TaskError;
use crate::timer::Timer;

/// A function of the records of two streams. A pair of closures, one for each stream, is one. Flink: `CoProcessFunction`.
pub trait CoProcessFunction<A, B, O>: 'static {
    /// Works on a record of the first stream.
    ///
    /// # Errors
    /// What ends the task.
    fn process1(&mut self, record: A, ctx: &mut ProcessContext<'_, O>) -> FunctionResult;

    /// Works on a record of the second stream.
    ///
    /// # Errors
    /// What ends the task.
    fn process2(&mut self, record: B, ctx: &mut ProcessContext<'_, O>) -> FunctionResult;
}

impl<A, B, O, F, G> CoProcessFunction<A, B, O> for (F, G)
where
    F: FnMut(A, &mut ProcessContext<'_, O>) -> FunctionResult + 'static,
    G: FnMut(B, &mut ProcessContext<'_, O>) -> FunctionResult + 'static,
{
    fn process1(&mut self, record: A, ctx: &mut ProcessContext<'_, O>) -> FunctionResult {
        (self.0)(record, ctx)
    }

    fn process2(&mut self, record: B, ctx: &mut ProcessContext<'_, O>) -> FunctionResult {
        (self.1)(record, ctx)
    }
}

/// A function of the records of two streams with a key, which share state and timers. A pair of closures, one for each stream, is one, without
/// timers. Flink: `KeyedCoProcessFunction`.
pub trait KeyedCoProcessFunction<K, A, B, O>: 'static {
    /// Works on a record of the first stream.
    ///
    /// # Errors
    /// What ends the task.
    fn process1(&mut self, record: A, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult;

    /// Works on a record of the second stream.
    ///
    /// # Errors
    /// What ends the task.
    fn process2(&mut self, record: B, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult;

    /// Works on a timer of the current key that fires.
    ///
    /// # Errors
    /// What ends the task.
    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        let _ = (timer, ctx);
        Ok(())
    }
}

impl<K, A, B, O, F, G> KeyedCoProcessFunction<K, A, B, O> for (F, G)
where
    F: FnMut(A, &mut KeyedContext<'_, K, O>) -> FunctionResult + 'static,
    G: FnMut(B, &mut KeyedContext<'_, K, O>) -> FunctionResult + 'static,
{
    fn process1(&mut self, record: A, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        (self.0)(record, ctx)
    }

    fn process2(&mut self, record: B, ctx: &mut KeyedContext<'_, K, O>) -> FunctionResult {
        (self.1)(record, ctx)
    }
}

/// Applies a [`CoProcessFunction`] to the records of two streams.
pub struct CoProcess<F, O> {
    function: F,
    runtime: Runtime<O>,
}

impl<F: 'static, O: 'static> CoProcess<F, O> {
    /// The inputs of the operator that applies the function that `make` makes for its subtask, and feeds `next`.
    pub fn inputs<A: 'static, B: 'static>(
        context: &OperatorContext,
        make: impl FnOnce(&mut OperatorStates) -> F,
        next: Box<dyn Collector<O>>,
    ) -> (Box<dyn Collector<A>>, Box<dyn Collector<B>>)
    where
        F: CoProcessFunction<A, B, O>,
    {
        let mut states = OperatorStates::new();
        let function = attribute(&context.name, || make(&mut states));
        let runtime = Runtime::new(context, states.into_store(), next);
        inputs(Self { function, runtime })
    }
}

impl<F, O: 'static> Control for CoProcess<F, O> {
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

impl<A, B, F: CoProcessFunction<A, B, O>, O: 'static> TwoInputs<A, B> for CoProcess<F, O> {
    fn push_first(&mut self, batch: &mut Batch<A>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .each(batch, |record, ctx| function.process1(record, ctx))
    }

    fn push_second(&mut self, batch: &mut Batch<B>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .each(batch, |record, ctx| function.process2(record, ctx))
    }
}

/// Applies a [`KeyedCoProcessFunction`] to the records of two streams.
pub struct KeyedCoProcess<K, A, B, F, O> {
    first: Arc<dyn KeySelector<K, A>>,
    second: Arc<dyn KeySelector<K, B>>,
    function: F,
    pub(crate) runtime: KeyedRuntime<K, O>,
}

impl<K, A, B, F, O> KeyedCoProcess<K, A, B, F, O>
where
    K: Key,
    A: 'static,
    B: 'static,
    F: KeyedCoProcessFunction<K, A, B, O>,
    O: 'static,
{
    /// The inputs of the operator that applies the function that `make` makes for its subtask, by the keys of `first` and `second`, and
    /// feeds `next`.
    pub fn inputs(
        context: &OperatorContext,
        first: Arc<dyn KeySelector<K, A>>,
        second: Arc<dyn KeySelector<K, B>>,
        make: impl FnOnce(&mut States) -> F,
        next: Box<dyn Collector<O>>,
    ) -> (Box<dyn Collector<A>>, Box<dyn Collector<B>>) {
        inputs(Self::new(context, first, second, make, next))
    }

    pub(crate) fn new(
        context: &OperatorContext,
        first: Arc<dyn KeySelector<K, A>>,
        second: Arc<dyn KeySelector<K, B>>,
        make: impl FnOnce(&mut States) -> F,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        let (runtime, function) = KeyedRuntime::new(context, context.stores.clone(), make, next);
        Self {
            first,
            second,
            function,
            runtime,
        }
    }
}

impl<K, A, B, F, O> Control for KeyedCoProcess<K, A, B, F, O>
where
    K: Key,
    F: KeyedCoProcessFunction<K, A, B, O>,
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

impl<K, A, B, F, O> TwoInputs<A, B> for KeyedCoProcess<K, A, B, F, O>
where
    K: Key,
    F: KeyedCoProcessFunction<K, A, B, O>,
    O: 'static,
{
    fn push_first(&mut self, batch: &mut Batch<A>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime.each(&*self.first, batch, |record, ctx| {
            function.process1(record, ctx)
        })
    }

    fn push_second(&mut self, batch: &mut Batch<B>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime.each(&*self.second, batch, |record, ctx| {
            function.process2(record, ctx)
        })
    }
}
