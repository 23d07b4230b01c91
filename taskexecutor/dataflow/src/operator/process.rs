//! Functions that look at one record at a time and do what they like.

use std::error::Error;
use std::marker::PhantomData;

use spindle_common::time::Watermark;

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::operator::context::Runtime;
use crate::operator::{OperatorContext, ProcessContext};
use crate::state::OperatorStates;
use crate::task::TaskError;

/// What a call of a function came to. An error fails the task, with the operator's name.
pub type FunctionResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A function of records without a key. Closures are such functions. Flink: `ProcessFunction`.
pub trait ProcessFunction<T, O>: 'static {
    /// Works on a record.
    ///
    /// # Errors
    /// What ends the task.
    fn process(&mut self, record: T, ctx: &mut ProcessContext<'_, O>) -> FunctionResult;
}

impl<T, O, F> ProcessFunction<T, O> for F
where
    F: FnMut(T, &mut ProcessContext<'_, O>) -> FunctionResult + 'static,
{
    #[inline]
    fn process(&mut self, record: T, ctx: &mut ProcessContext<'_, O>) -> FunctionResult {
        self(record, ctx)
    }
}

/// Applies a [`ProcessFunction`] to each record.
pub struct Process<T, F, O> {
    function: F,
    runtime: Runtime<O>,
    records: PhantomData<fn(T)>,
}

impl<T, F: ProcessFunction<T, O>, O: 'static> Process<T, F, O> {
    /// The operator that applies the function that `make` makes for its subtask, and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        make: impl FnOnce(&mut OperatorStates) -> F,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        let mut states = OperatorStates::new();
        let function = attribute(&context.name, || make(&mut states));
        Self {
            function,
            runtime: Runtime::new(context, states.into_store(), next),
            records: PhantomData,
        }
    }
}

impl<T, F, O: 'static> Control for Process<T, F, O> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.runtime.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.runtime.watermark = watermark;
        self.runtime.out.watermark(watermark)
    }
}

impl<T, F: ProcessFunction<T, O>, O: 'static> Collector<T> for Process<T, F, O> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .each(batch, |record, ctx| function.process(record, ctx))
    }
}
