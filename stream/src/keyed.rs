//! Streams grouped by a key, and by a key and windows of event time.

use std::sync::Arc;

use spindle_dataflow::exchange::{HashPartitioner, Partitioner};
use spindle_dataflow::key::KeySelector;
use spindle_dataflow::operator::{
    AggregateFunction, Reduce, RunningAggregate, TimeWindow, TumblingWindows, WindowOperator,
};
use spindle_dataflow::record::{Key, Record};

use crate::data_stream::DataStream;
use crate::graph::Exchange;

/// A stream grouped by a key. Flink: `KeyedStream`.
pub struct KeyedStream<K, T> {
    stream: DataStream<T>,
    selector: Arc<dyn KeySelector<K, T>>,
}

impl<K: Key, T: Record> KeyedStream<K, T> {
    pub(crate) fn new(stream: DataStream<T>, selector: Arc<dyn KeySelector<K, T>>) -> Self {
        Self { stream, selector }
    }

    fn exchange(&self) -> Exchange {
        let selector = Arc::clone(&self.selector);
        Exchange::Hash(Arc::new(move |max_parallelism| {
            let partitioner: Box<dyn Partitioner<T>> =
                Box::new(HashPartitioner::new(Arc::clone(&selector), max_parallelism));
            Box::new(partitioner)
        }))
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
    /// let longest = Fold::new(|| 0, |longest: &mut usize, word: String| *longest = word.len().max(*longest), |longest: &usize| *longest);
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
        let (selector, function) = (Arc::clone(&self.selector), Arc::new(function));
        self.stream
            .read_by(name, self.exchange(), move |context, next| {
                Box::new(RunningAggregate::new(
                    context,
                    Arc::clone(&selector),
                    Arc::clone(&function),
                    next,
                ))
            })
    }

    /// Divides each key's records into windows of event time.
    pub fn window(&self, windows: TumblingWindows) -> WindowedStream<'_, K, T> {
        WindowedStream {
            keyed: self,
            windows,
        }
    }
}

/// A stream grouped by a key and windows. Flink: `WindowedStream`.
pub struct WindowedStream<'a, K, T> {
    keyed: &'a KeyedStream<K, T>,
    windows: TumblingWindows,
}

impl<K: Key, T: Record> WindowedStream<'_, K, T> {
    /// Combines the records of each key and window, and hands on the combination when the window closes.
    pub fn reduce(&self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T> {
        self.aggregate_with(Reduce(function), |_: &K, _, result| result)
            .name("Window Reduce")
    }

    /// Folds the records of each key and window, and hands on the result when the window closes.
    pub fn aggregate<A: AggregateFunction<T, Output: Record>>(
        &self,
        function: A,
    ) -> DataStream<A::Output> {
        self.aggregate_with(function, |_: &K, _, result| result)
    }

    /// Folds the records of each key and window, and hands on what `output` makes of the key, the window and the result when the
    /// window closes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, Fold, Tumbling, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// harness
    ///     .env()
    ///     .from_collection([("a", 1_i64), ("b", 2), ("a", 999), ("a", 1000)].map(|(key, ms)| (key.to_owned(), ms)))
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |(_, ms)| EventTime::from_millis(*ms))
    ///     .key_by(|(key, _)| key.clone())
    ///     .window(Tumbling::of(Duration::from_secs(1)))
    ///     .aggregate_with(
    ///         Fold::new(|| 0_u64, |count: &mut u64, _| *count += 1, |count: &u64| *count),
    ///         |key: &String, window, count| (window.start.as_millis(), key.clone(), count),
    ///     )
    ///     .collect("counts");
    /// let mut counts: Vec<(i64, String, u64)> = harness.run().unwrap().collected("counts");
    /// counts.sort_unstable();
    /// assert_eq!(counts, [(0, "a", 2), (0, "b", 1), (1000, "a", 1)].map(|(start, key, n)| (start, key.to_owned(), n)));
    /// ```
    pub fn aggregate_with<A, O>(
        &self,
        function: A,
        output: impl Fn(&K, TimeWindow, A::Output) -> O + Send + Sync + 'static,
    ) -> DataStream<O>
    where
        A: AggregateFunction<T>,
        O: Record,
    {
        let (windows, selector) = (self.windows, Arc::clone(&self.keyed.selector));
        let (function, output) = (Arc::new(function), Arc::new(output));
        self.keyed.stream.read_by(
            "Window Aggregate",
            self.keyed.exchange(),
            move |context, next| {
                Box::new(WindowOperator::new(
                    context,
                    windows,
                    Arc::clone(&selector),
                    Arc::clone(&function),
                    Arc::clone(&output),
                    next,
                ))
            },
        )
    }
}
