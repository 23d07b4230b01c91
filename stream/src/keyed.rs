//! Streams grouped by a key.

use std::sync::Arc;

use spindle_dataflow::exchange::{HashPartitioner, Partitioner};
use spindle_dataflow::key::KeySelector;
use spindle_dataflow::operator::{AggregateFunction, Reduce, RunningAggregate, Scan, Windows};
use spindle_dataflow::record::{Key, Record};

use crate::data_stream::DataStream;
use crate::graph::Exchange;
use crate::windowed::WindowedStream;

/// A stream grouped by a key. Flink: `KeyedStream`.
pub struct KeyedStream<K, T> {
    stream: DataStream<T>,
    selector: Arc<dyn KeySelector<K, T>>,
}

impl<K, T> Clone for KeyedStream<K, T> {
    fn clone(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            selector: Arc::clone(&self.selector),
        }
    }
}

impl<K: Key, T: Record> KeyedStream<K, T> {
    pub(crate) fn new(stream: DataStream<T>, selector: Arc<dyn KeySelector<K, T>>) -> Self {
        let by_key = Arc::clone(&selector);
        let exchange = Exchange::Hash(Arc::new(move |max_parallelism| {
            let partitioner: Box<dyn Partitioner<T>> =
                Box::new(HashPartitioner::new(Arc::clone(&by_key), max_parallelism));
            Box::new(partitioner)
        }));
        Self {
            stream: stream.over(&exchange),
            selector,
        }
    }

    /// The records, on their way to the subtask of their key.
    pub(crate) const fn stream(&self) -> &DataStream<T> {
        &self.stream
    }

    /// What tells the key of a record.
    pub(crate) fn selector(&self) -> Arc<dyn KeySelector<K, T>> {
        Arc::clone(&self.selector)
    }

    /// Makes one record of each, from it and a value that is kept for its key: `create` makes the first, and the function may change it.
    /// Flink: `mapWithState`.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let readings = harness.env().from_collection([("a", 3_i64), ("b", 9), ("a", 5)].map(|(key, n)| (key.to_owned(), n)));
    /// readings
    ///     .key_by_ref(|(sensor, _)| sensor)
    ///     .scan(|| 0, |last, (sensor, now)| { let change = now - *last; *last = now; (sensor, change) })
    ///     .collect("changes");
    /// let changes: Vec<(String, i64)> = harness.run().unwrap().collected("changes");
    /// assert_eq!(changes, [("a", 3), ("b", 9), ("a", 2)].map(|(key, n)| (key.to_owned(), n)));
    /// ```
    pub fn scan<V: Record, O: Record>(
        &self,
        create: impl Fn() -> V + Send + Sync + 'static,
        function: impl Fn(&mut V, T) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        let selector = self.selector();
        let (create, function) = (Arc::new(create), Arc::new(function));
        self.stream.read_by("Scan", move |context, next| {
            Box::new(Scan::new(
                context,
                Arc::clone(&selector),
                Arc::clone(&create),
                Arc::clone(&function),
                next,
            ))
        })
    }

    /// Combines the records of each key, and hands on the combination after each record.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// let words = ["a", "b", "a", "a"].map(|word| (word.to_owned(), 1_u64));
    /// harness
    ///     .env()
    ///     .from_collection(words)
    ///     .key_by(|(word, _)| word.clone())
    ///     .reduce(|(word, n), (_, m)| (word, n + m))
    ///     .collect("counts");
    /// let mut counts: Vec<(String, u64)> = harness.run().unwrap().collected("counts");
    /// counts.sort_unstable();
    /// assert_eq!(counts, [("a", 1), ("a", 2), ("a", 3), ("b", 1)].map(|(word, n)| (word.to_owned(), n)));
    /// ```
    pub fn reduce(&self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T> {
        self.running("Reduce", Reduce(function))
    }

    /// Folds the records of each key, and hands on the result after each record.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// use spindle_stream::Fold;
    ///
    /// let longest = Fold::new(
    ///     || 0,
    ///     |longest: &mut usize, word: &String| *longest = word.len().max(*longest),
    ///     |longest: &mut usize, other: &usize| *longest = *other.max(longest),
    ///     |longest: &usize| *longest,
    /// );
    /// harness
    ///     .env()
    ///     .from_collection(["a", "ccc", "bb"].map(str::to_owned))
    ///     .key_by(|_| ())
    ///     .aggregate(longest)
    ///     .collect("longest");
    /// assert_eq!(harness.run().unwrap().collected::<usize>("longest"), [1, 3, 3]);
    /// ```
    pub fn aggregate<A: AggregateFunction<T, Output: Record>>(
        &self,
        function: A,
    ) -> DataStream<A::Output> {
        self.running("Aggregate", function)
    }

    fn running<A: AggregateFunction<T, Output: Record>>(
        &self,
        name: &str,
        function: A,
    ) -> DataStream<A::Output> {
        let (selector, function) = (self.selector(), Arc::new(function));
        self.stream.read_by(name, move |context, next| {
            Box::new(RunningAggregate::new(
                context,
                Arc::clone(&selector),
                Arc::clone(&function),
                next,
            ))
        })
    }

    /// Divides each key's records into windows: [`crate::Tumbling`], [`crate::Sliding`], [`crate::Session`] or [`crate::Global`].
    pub fn window(&self, windows: impl Into<Windows<T>>) -> WindowedStream<K, T> {
        WindowedStream::new(self, windows.into())
    }
}
