//! State that records are folded into.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::operator::{AggregateFunction, KeyedContext};
use crate::record::{Key, Record};
use crate::state::ValueState;

/// What the records of each key have been combined to. Flink: `ReducingState`.
pub struct ReducingState<V> {
    value: ValueState<V>,
    function: Rc<dyn Fn(V, V) -> V>,
}

impl<V> Clone for ReducingState<V> {
    fn clone(&self) -> Self {
        Self {
            value: self.value,
            function: Rc::clone(&self.function),
        }
    }
}

impl<V: Record> ReducingState<V> {
    pub(crate) fn new(index: u32, function: impl Fn(V, V) -> V + 'static) -> Self {
        Self {
            value: ValueState::new(index),
            function: Rc::new(function),
        }
    }

    /// What the current key has come to; none before the first record.
    pub fn get<'c, K: Key, O: 'static>(&self, ctx: &'c KeyedContext<'_, K, O>) -> Option<&'c V> {
        self.value.get(ctx)
    }

    /// Adds a record to what the current key has come to.
    pub fn add<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>, record: V) {
        self.value.fold(ctx, |earlier| match earlier {
            Some(earlier) => (self.function)(earlier, record),
            None => record,
        });
    }

    /// Has the current key begin anew.
    pub fn clear<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) {
        self.value.clear(ctx);
    }
}

/// An accumulator for each key. Flink: `AggregatingState`.
pub struct AggregatingState<T, A: AggregateFunction<T>> {
    accumulator: ValueState<A::Accumulator>,
    function: Rc<A>,
    records: PhantomData<fn(T)>,
}

impl<T, A: AggregateFunction<T>> Clone for AggregatingState<T, A> {
    fn clone(&self) -> Self {
        Self {
            accumulator: self.accumulator,
            function: Rc::clone(&self.function),
            records: PhantomData,
        }
    }
}

impl<T, A: AggregateFunction<T>> AggregatingState<T, A> {
    pub(crate) fn new(index: u32, function: A) -> Self {
        Self {
            accumulator: ValueState::new(index),
            function: Rc::new(function),
            records: PhantomData,
        }
    }

    /// What the current key's records have come to; none before the first.
    pub fn get<K: Key, O: 'static>(&self, ctx: &KeyedContext<'_, K, O>) -> Option<A::Output> {
        let accumulator = self.accumulator.get(ctx)?;
        Some(self.function.result(accumulator))
    }

    /// Adds a record to those of the current key.
    pub fn add<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>, record: T) {
        let create = || self.function.create();
        let accumulator = self.accumulator.get_or_insert_with(ctx, create);
        self.function.take(accumulator, record);
    }

    /// Has the current key begin anew.
    pub fn clear<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) {
        self.accumulator.clear(ctx);
    }
}
