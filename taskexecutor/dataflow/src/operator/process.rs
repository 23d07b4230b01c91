//! Functions that look at one record at a time and do what they like.

use std::error::Error;
use std::marker::PhantomData;

use spindle_common::time::Watermark;

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::operator::context::Runtime;
use crate::operator::{OperatorContext, ProcessContext};
use crate::snapshot::{Restored, Snapshot};
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

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.runtime.write(into)?;
        self.runtime.out.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.runtime.read(from)?;
        self.runtime.out.restore(from)
    }
}

impl<T, F: ProcessFunction<T, O>, O: 'static> Collector<T> for Process<T, F, O> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let function = &mut self.function;
        self.runtime
            .each(batch, |record, ctx| function.process(record, ctx))
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::time::EventTime;

    use super::*;
    use crate::operator::tests::{Seen, context, tape};
    use crate::state::Redistribution;

    #[test]
    fn a_function_may_emit_any_number_of_records_with_and_without_event_times() {
        let (next, seen) = tape::<u64>();
        let make = |_: &mut OperatorStates| {
            |n: u64, ctx: &mut ProcessContext<'_, u64>| {
                (0..3000).for_each(|_| ctx.emit(n));
                ctx.emit_at(n, EventTime(5));
                ctx.emit(n);
                Ok(())
            }
        };
        let mut operator = Process::new(&context(0, 1), make, next);
        // The tape takes no batch that is larger than a batch may be.
        operator.push(&mut Batch::from(vec![1, 2])).unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 2 * 3002);
        assert_eq!(seen[3000], Seen::Record(1, Some(5)));
        assert_eq!(
            seen[3001..3003],
            [Seen::Record(1, None), Seen::Record(2, None)]
        );
    }

    #[test]
    fn states_of_an_operator_say_who_gets_them_when_it_is_rescaled() {
        let mut states = OperatorStates::new();
        let list = states.operator_list::<u64>("list");
        let union = states.union_list::<u64>("union");
        states.broadcast::<u64, u64>("rules");
        let declared: Vec<_> = states
            .declared()
            .map(|(name, how)| (name.to_owned(), how))
            .collect();
        let expected = [
            ("list", Redistribution::Split),
            ("union", Redistribution::Union),
            ("rules", Redistribution::Broadcast),
        ];
        assert_eq!(declared, expected.map(|(name, how)| (name.to_owned(), how)));
        let (next, _) = tape::<u64>();
        let mut runtime = Runtime::new(&context(0, 1), states.into_store(), next);
        let mut ctx = runtime.context(None);
        list.push(&mut ctx, 1);
        union.push(&mut ctx, 2);
        union.get_mut(&mut ctx).push(3);
        assert_eq!((list.get(&ctx), union.get(&ctx)), (&[1][..], &[2, 3][..]));
        assert_eq!(list.take(&mut ctx), [1]);
        assert!(list.get(&ctx).is_empty());
    }
}
