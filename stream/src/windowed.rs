//! Streams grouped by a key and windows.

use std::sync::Arc;
use std::time::Duration;

use spindle_dataflow::collector::OutputTag;
use spindle_dataflow::operator::{
    AggregateFunction, Contents, Contextual, EndOfWindow, Reduce, Results, TimeWindow, ToList,
    Trigger, WindowContext, WindowFunction, WindowOutput, WindowSpec, Windows, window_operator,
};
use spindle_dataflow::record::{Key, Record};

use crate::data_stream::DataStream;
use crate::keyed::KeyedStream;

/// A stream grouped by a key and windows. What a window results in has the window's last instant as its event time. Flink:
/// `WindowedStream`.
pub struct WindowedStream<K, T, Tr = EndOfWindow> {
    stream: DataStream<T>,
    spec: WindowSpec<K, T>,
    trigger: Arc<Tr>,
    /// Whether there is one subtask for all.
    all: bool,
}

impl<K: Key, T: Record> WindowedStream<K, T> {
    pub(crate) fn new(keyed: &KeyedStream<K, T>, windows: Windows<T>) -> Self {
        Self {
            stream: keyed.stream().clone(),
            trigger: Arc::new(EndOfWindow::of(&windows)),
            spec: WindowSpec {
                selector: keyed.selector(),
                windows,
                lateness_ms: 0,
                late: None,
            },
            all: false,
        }
    }
}

impl<T: Record> WindowedStream<(), T> {
    /// One subtask for all windows.
    pub(crate) fn all(keyed: &KeyedStream<(), T>, windows: Windows<T>) -> Self {
        Self {
            all: true,
            ..Self::new(keyed, windows)
        }
    }
}

impl<K: Key, T: Record, Tr: Trigger<T>> WindowedStream<K, T, Tr> {
    /// Has a trigger say when a window fires, in the place of its end.
    ///
    /// ```
    /// use spindle_stream::{CountTrigger, Global, PurgingTrigger};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .generate(7, |n| n)
    ///     .key_by(|_| ())
    ///     .window(Global)
    ///     .trigger(PurgingTrigger::of(CountTrigger::of(3)))
    ///     .reduce(|a, b| a + b)
    ///     .collect("sums");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("sums"), [0 + 1 + 2, 3 + 4 + 5]);
    /// ```
    #[must_use]
    pub fn trigger<Other: Trigger<T>>(self, trigger: Other) -> WindowedStream<K, T, Other> {
        WindowedStream {
            stream: self.stream,
            spec: self.spec,
            trigger: Arc::new(trigger),
            all: self.all,
        }
    }

    /// Keeps windows of event time for this much longer than to their end. A record that comes after the end has its window fire again,
    /// unless the trigger says else.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, Tumbling, Watermark, WatermarkStrategy};
    ///
    /// // Each record says how far event time has come.
    /// let strategy = WatermarkStrategy::per_record(|(_, mark): &(i64, i64), _| Some(Watermark(EventTime(*mark))));
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection([(1_i64, 12_i64), (3, 12), (4, 15), (5, 15)])
    ///     .assign_timestamps(strategy, |(ms, _)| EventTime::from_millis(*ms))
    ///     .key_by(|_| ())
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .allowed_lateness(Duration::from_millis(5))
    ///     .process(|_, _, records, out| out.emit(records.len()))
    ///     .collect("counts");
    /// let finished = harness.run().unwrap();
    /// assert_eq!(finished.collected::<usize>("counts"), [1, 2, 3]);
    /// assert_eq!(finished.late_records_dropped(), 1);
    /// ```
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.spec.lateness_ms = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// Has records whose windows are gone handed on in a side output of what follows. Without it they are dropped and counted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, OutputTag, Tumbling, Watermark, WatermarkStrategy};
    ///
    /// let strategy = WatermarkStrategy::per_record(|ms: &i64, _| Some(Watermark(EventTime(*ms))));
    /// let late = OutputTag::<i64>::new("late");
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let sums = harness
    ///     .env()
    ///     .from_collection([5_i64, 25, 7, 26])
    ///     .assign_timestamps(strategy, |ms| EventTime::from_millis(*ms))
    ///     .key_by(|_| ())
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .side_output_late_data(&late)
    ///     .reduce(|a, b| a + b);
    /// sums.collect("sums");
    /// sums.side_output(&late).collect("late");
    /// let finished = harness.run().unwrap();
    /// assert_eq!(finished.collected::<i64>("sums"), [5, 25 + 26]);
    /// assert_eq!(finished.collected::<i64>("late"), [7]);
    /// ```
    #[must_use]
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.spec.late = Some(Arc::from(tag.name()));
        self
    }

    /// Combines the records of each key and window, and hands on the combination.
    pub fn reduce(&self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T> {
        self.aggregate(Reduce(function)).name("Window Reduce")
    }

    /// Folds the records of each key and window, and hands on the result.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{Count, EventTime, Sliding, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection([0_i64, 1500, 2500])
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |ms| EventTime::from_millis(*ms))
    ///     .key_by(|_| ())
    ///     .window(Sliding::of(Duration::from_secs(2), Duration::from_secs(1)))
    ///     .aggregate(Count)
    ///     .collect("counts");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("counts"), [1, 2, 2, 1]);
    /// ```
    pub fn aggregate<A: AggregateFunction<T, Output: Record>>(
        &self,
        function: A,
    ) -> DataStream<A::Output> {
        self.aggregate_with(function, |_: &K, _, result| result)
    }

    /// Folds the records of each key and window, and hands on what `output` makes of the key, the window and the result.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{Count, EventTime, Tumbling, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// harness
    ///     .env()
    ///     .from_collection([("a", 1_i64), ("b", 2), ("a", 999), ("a", 1000)].map(|(key, ms)| (key.to_owned(), ms)))
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |(_, ms)| EventTime::from_millis(*ms))
    ///     .key_by(|(key, _)| key.clone())
    ///     .window(Tumbling::of(Duration::from_secs(1)))
    ///     .aggregate_with(
    ///         Count,
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
        self.operator("Window Aggregate", function, Results(output))
    }

    /// Folds the records of each key and window, and hands on what the function makes of the result, any number of records. It is told
    /// the key, the window and how far time has come. Flink: `aggregate` with a `ProcessWindowFunction`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{Count, EventTime, Session, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection([0_i64, 800, 1600, 5000])
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |ms| EventTime::from_millis(*ms))
    ///     .key_by(|_| ())
    ///     .window(Session::with_gap(Duration::from_secs(1)))
    ///     .aggregate_process(Count, |context, count, out| {
    ///         assert!(context.watermark.0 >= context.window.max_timestamp());
    ///         if count > 1 {
    ///             out.emit((context.window.start.as_millis(), context.window.end.as_millis(), count));
    ///         }
    ///     })
    ///     .collect("visits");
    /// assert_eq!(harness.run().unwrap().collected::<(i64, i64, u64)>("visits"), [(0, 2600, 3)]);
    /// ```
    pub fn aggregate_process<A, O>(
        &self,
        function: A,
        process: impl Fn(&WindowContext<'_, K>, A::Output, &mut WindowOutput<'_, O>)
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O>
    where
        A: AggregateFunction<T>,
        O: Record,
    {
        self.operator("Window Aggregate", function, Contextual(process))
    }

    /// Keeps all records of each key and window, and hands on what the function makes of them, any number of records. They come in the
    /// order of their arrival. Where an aggregate will do, [`Self::aggregate_process`] needs far less memory. Flink:
    /// `ProcessWindowFunction`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, Tumbling, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection([3_i64, 1, 4, 15, 9])
    ///     .assign_timestamps(WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(9)), |ms| EventTime::from_millis(*ms))
    ///     .key_by(|_| ())
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .process(|_, window, records, out| {
    ///         let mut sorted = records.to_vec();
    ///         sorted.sort_unstable();
    ///         out.emit((window.start.as_millis(), sorted[sorted.len() / 2]));
    ///     })
    ///     .collect("medians");
    /// assert_eq!(harness.run().unwrap().collected::<(i64, i64)>("medians"), [(0, 4), (10, 15)]);
    /// ```
    pub fn process<O: Record>(
        &self,
        process: impl Fn(&K, TimeWindow, &[T], &mut WindowOutput<'_, O>) + Send + Sync + 'static,
    ) -> DataStream<O> {
        let contents = Contents(
            move |context: &WindowContext<'_, K>,
                  records: &Vec<T>,
                  out: &mut WindowOutput<'_, O>| {
                process(context.key, context.window, records, out);
            },
        );
        self.operator("Window Process", ToList, contents)
    }

    pub(crate) fn operator<A, W, O>(&self, name: &str, function: A, output: W) -> DataStream<O>
    where
        A: AggregateFunction<T>,
        W: WindowFunction<K, T, A, O>,
        O: Record,
    {
        let (spec, trigger) = (self.spec.clone(), Arc::clone(&self.trigger));
        let (function, output) = (Arc::new(function), Arc::new(output));
        let made = self.stream.read_by(name, move |context, next| {
            window_operator(
                context,
                &spec,
                Arc::clone(&function),
                Arc::clone(&output),
                Arc::clone(&trigger),
                next,
            )
        });
        if self.all {
            made.set_parallelism(1).set_max_parallelism(1)
        } else {
            made
        }
    }
}
