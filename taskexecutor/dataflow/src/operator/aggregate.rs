//! Aggregate functions: what becomes of many records.

use std::marker::PhantomData;

use crate::record::Record;

/// Folds records into an accumulator, one record at a time. Flink: `AggregateFunction`.
pub trait AggregateFunction<T>: Send + Sync + 'static {
    /// What is kept for each key, or for each key and window.
    type Accumulator: Record;
    /// What comes out.
    type Output: 'static;

    /// Whether records are kept as they are, so that [`Self::take`] saves a clone. Operators then hand records over one by one. What is
    /// not taken lends its memory to the records that come after it.
    const KEEPS_RECORDS: bool = false;

    /// The accumulator of no records.
    fn create(&self) -> Self::Accumulator;

    /// Adds a record.
    fn add(&self, accumulator: &mut Self::Accumulator, record: &T);

    /// Adds a record that nobody else needs.
    fn take(&self, accumulator: &mut Self::Accumulator, record: T) {
        self.add(accumulator, &record);
    }

    /// Adds the records of another accumulator, which came after those of this one if the stream has an order. Windows that share
    /// records, and sessions that grow together, need it.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);

    /// The result of what was added.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Output;
}

/// An [`AggregateFunction`] of four closures.
pub struct Fold<C, A, M, R> {
    create: C,
    add: A,
    merge: M,
    result: R,
}

impl<C, A, M, R> Fold<C, A, M, R> {
    /// `create` makes an accumulator, `add` adds a record to it, `merge` adds another accumulator to it, `result` is what comes out.
    pub const fn new(create: C, add: A, merge: M, result: R) -> Self {
        Self {
            create,
            add,
            merge,
            result,
        }
    }
}

impl<T, Acc, Out, C, A, M, R> AggregateFunction<T> for Fold<C, A, M, R>
where
    Acc: Record,
    Out: 'static,
    C: Fn() -> Acc + Send + Sync + 'static,
    A: Fn(&mut Acc, &T) + Send + Sync + 'static,
    M: Fn(&mut Acc, &Acc) + Send + Sync + 'static,
    R: Fn(&Acc) -> Out + Send + Sync + 'static,
{
    type Accumulator = Acc;
    type Output = Out;

    fn create(&self) -> Acc {
        (self.create)()
    }

    #[inline]
    fn add(&self, accumulator: &mut Acc, record: &T) {
        (self.add)(accumulator, record);
    }

    #[inline]
    fn merge(&self, accumulator: &mut Acc, other: &Acc) {
        (self.merge)(accumulator, other);
    }

    #[inline]
    fn result(&self, accumulator: &Acc) -> Out {
        (self.result)(accumulator)
    }
}

/// An [`AggregateFunction`] that combines two records into one.
pub struct Reduce<F>(pub F);

impl<T: Record, F: Fn(T, T) -> T + Send + Sync + 'static> AggregateFunction<T> for Reduce<F> {
    type Accumulator = Option<T>;
    type Output = T;

    const KEEPS_RECORDS: bool = true;

    fn create(&self) -> Option<T> {
        None
    }

    fn add(&self, accumulator: &mut Option<T>, record: &T) {
        self.take(accumulator, record.clone());
    }

    fn take(&self, accumulator: &mut Option<T>, record: T) {
        *accumulator = Some(match accumulator.take() {
            Some(earlier) => (self.0)(earlier, record),
            None => record,
        });
    }

    fn merge(&self, accumulator: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.add(accumulator, other);
        }
    }

    fn result(&self, accumulator: &Option<T>) -> T {
        accumulator
            .clone()
            .expect("a result is asked for only after a record was added")
    }
}

/// Counts records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count;

impl<T> AggregateFunction<T> for Count {
    type Accumulator = u64;
    type Output = u64;

    fn create(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, accumulator: &mut u64, _: &T) {
        *accumulator += 1;
    }

    #[inline]
    fn merge(&self, accumulator: &mut u64, other: &u64) {
        *accumulator += other;
    }

    #[inline]
    fn result(&self, accumulator: &u64) -> u64 {
        *accumulator
    }
}

/// Keeps the record with the largest value of a function; of several the first.
pub struct MaxBy<F, V> {
    value: F,
    values: PhantomData<fn() -> V>,
}

impl<F, V> MaxBy<F, V> {
    /// By the values of this function.
    pub const fn new(value: F) -> Self {
        Self {
            value,
            values: PhantomData,
        }
    }
}

impl<T, V, F> AggregateFunction<T> for MaxBy<F, V>
where
    T: Record,
    V: Ord + 'static,
    F: Fn(&T) -> V + Send + Sync + 'static,
{
    type Accumulator = Option<T>;
    type Output = T;

    fn create(&self) -> Option<T> {
        None
    }

    #[inline]
    fn add(&self, accumulator: &mut Option<T>, record: &T) {
        match accumulator {
            Some(largest) if (self.value)(largest) >= (self.value)(record) => {}
            Some(largest) => largest.clone_from(record),
            None => *accumulator = Some(record.clone()),
        }
    }

    fn merge(&self, accumulator: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.add(accumulator, other);
        }
    }

    fn result(&self, accumulator: &Option<T>) -> T {
        accumulator
            .clone()
            .expect("a result is asked for only after a record was added")
    }
}
