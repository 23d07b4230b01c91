//! Running aggregates: for each record, what its key has come to.

use std::marker::PhantomData;
use std::sync::Arc;

use spindle_common::key_group::{key_group, key_groups_of};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control, Output};
use crate::connector::OperatorError;
use crate::key::KeySelector;
use crate::operator::OperatorContext;
use crate::operator::table::KeyTable;
use crate::record::Key;
use crate::task::TaskError;

/// Folds records into an accumulator, one record at a time. Flink: `AggregateFunction`.
pub trait AggregateFunction<T>: Send + Sync + 'static {
    /// What is kept for each key, or for each key and window.
    type Accumulator: Send + 'static;
    /// What comes out.
    type Output: Send + 'static;

    /// The accumulator of no records.
    fn create(&self) -> Self::Accumulator;

    /// Adds a record.
    fn add(&self, accumulator: &mut Self::Accumulator, record: T);

    /// The result of what was added.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Output;
}

/// An [`AggregateFunction`] of three closures.
pub struct Fold<C, A, R> {
    create: C,
    add: A,
    result: R,
}

impl<C, A, R> Fold<C, A, R> {
    /// `create` makes an accumulator, `add` adds a record to it, `result` is what comes out.
    pub const fn new(create: C, add: A, result: R) -> Self {
        Self {
            create,
            add,
            result,
        }
    }
}

impl<T, Acc, Out, C, A, R> AggregateFunction<T> for Fold<C, A, R>
where
    Acc: Send + 'static,
    Out: Send + 'static,
    C: Fn() -> Acc + Send + Sync + 'static,
    A: Fn(&mut Acc, T) + Send + Sync + 'static,
    R: Fn(&Acc) -> Out + Send + Sync + 'static,
{
    type Accumulator = Acc;
    type Output = Out;

    fn create(&self) -> Acc {
        (self.create)()
    }

    fn add(&self, accumulator: &mut Acc, record: T) {
        (self.add)(accumulator, record);
    }

    fn result(&self, accumulator: &Acc) -> Out {
        (self.result)(accumulator)
    }
}

/// An [`AggregateFunction`] that combines two records into one.
pub struct Reduce<F>(pub F);

impl<T: Clone + Send + 'static, F: Fn(T, T) -> T + Send + Sync + 'static> AggregateFunction<T>
    for Reduce<F>
{
    type Accumulator = Option<T>;
    type Output = T;

    fn create(&self) -> Option<T> {
        None
    }

    fn add(&self, accumulator: &mut Option<T>, record: T) {
        *accumulator = Some(match accumulator.take() {
            Some(earlier) => (self.0)(earlier, record),
            None => record,
        });
    }

    fn result(&self, accumulator: &Option<T>) -> T {
        accumulator
            .clone()
            .expect("a result is asked for only after a record was added")
    }
}

/// The key groups of one subtask.
pub(crate) struct Groups<G> {
    first: u32,
    max_parallelism: u32,
    groups: Vec<G>,
}

impl<G: Default> Groups<G> {
    pub(crate) fn of(context: &OperatorContext) -> Self {
        let range = key_groups_of(
            context.subtask,
            context.parallelism,
            context.max_parallelism,
        );
        Self {
            first: *range.start(),
            max_parallelism: context.max_parallelism,
            groups: range.map(|_| G::default()).collect(),
        }
    }

    /// The place of a key hash's group.
    pub(crate) fn place(&self, hash: u64) -> Result<usize, OperatorError> {
        let group = key_group(hash, self.max_parallelism).0;
        let place = group.wrapping_sub(self.first) as usize;
        if place < self.groups.len() {
            Ok(place)
        } else {
            Err(OperatorError::permanent(format!(
                "got a record of key group {group}, which another subtask owns: the key is not the same in all processes"
            )))
        }
    }

    pub(crate) fn at(&mut self, place: usize) -> &mut G {
        &mut self.groups[place]
    }
}

/// Hands on, for each record, the result of all records with its key so far. The event time is the record's.
pub struct RunningAggregate<K, T, A: AggregateFunction<T>> {
    name: Arc<str>,
    selector: Arc<dyn KeySelector<K, T>>,
    function: Arc<A>,
    groups: Groups<KeyTable<K, A::Accumulator>>,
    keys: Vec<(u64, K)>,
    out: Output<A::Output>,
    records: PhantomData<fn(T)>,
}

impl<K: Key, T, A: AggregateFunction<T>> RunningAggregate<K, T, A> {
    /// The operator that folds with `function` by the keys of `selector` and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        selector: Arc<dyn KeySelector<K, T>>,
        function: Arc<A>,
        next: Box<dyn Collector<A::Output>>,
    ) -> Self {
        Self {
            name: Arc::clone(&context.name),
            selector,
            function,
            groups: Groups::of(context),
            keys: Vec::new(),
            out: Output::new(next),
            records: PhantomData,
        }
    }
}

impl<K: Key, T, A: AggregateFunction<T>> Control for RunningAggregate<K, T, A> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }
}

impl<K: Key, T, A: AggregateFunction<T>> Collector<T> for RunningAggregate<K, T, A> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        attribute(&self.name, || {
            self.keys.clear();
            self.selector.keys(&batch.records, &mut self.keys);
            for ((hash, key), (record, timestamp)) in self.keys.drain(..).zip(batch.drain()) {
                let place = self.groups.place(hash).map_err(|e| e.of(&self.name))?;
                let accumulator = self
                    .groups
                    .at(place)
                    .get_or_insert_with(hash, key, || self.function.create());
                self.function.add(accumulator, record);
                self.out
                    .push(self.function.result(accumulator), timestamp)?;
            }
            Ok::<(), TaskError>(())
        })?;
        self.out.hand_on()
    }
}
