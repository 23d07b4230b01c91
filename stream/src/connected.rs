//! Two streams that one operator reads: connected, with broadcast state, or joined by event time.

use std::sync::Arc;

use spindle_dataflow::collector::OutputTag;
use spindle_dataflow::operator::{
    BroadcastProcess, BroadcastProcessFunction, CoProcess, CoProcessFunction, FunctionResult,
    Interval, IntervalJoin, KeyedBroadcastProcess, KeyedBroadcastProcessFunction, KeyedCoProcess,
    KeyedCoProcessFunction, LateOutputs, ProcessContext,
};
use spindle_dataflow::record::{Key, Record};
use spindle_dataflow::state::{OperatorStates, States};

use crate::data_stream::DataStream;
use crate::keyed::KeyedStream;

#[cfg(test)]
mod tests;

impl<T: Record> DataStream<T> {
    /// Has one operator read this stream and another, of whatever type.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let numbers = harness.env().generate(3, |n| n);
    /// let words = harness.env().from_collection(["a", "b"].map(str::to_owned));
    /// numbers.connect(&words).map(|n| format!("number {n}"), |word| format!("word {word}")).collect("all");
    /// let mut all: Vec<String> = harness.run().unwrap().collected("all");
    /// all.sort_unstable();
    /// assert_eq!(all, ["number 0", "number 1", "number 2", "word a", "word b"]);
    /// ```
    pub fn connect<B: Record>(&self, other: &DataStream<B>) -> ConnectedStreams<T, B> {
        ConnectedStreams {
            first: self.clone(),
            second: other.clone(),
        }
    }

    /// Has one operator read this stream and another, of which each subtask gets all records: rules, say, that it keeps as broadcast state.
    ///
    /// ```
    /// use spindle_stream::{BroadcastContext, OperatorStates, ProcessContext};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// let numbers = harness.env().generate(100, |n| n);
    /// let limits = harness.env().from_collection([("low".to_owned(), 10_u64), ("high".to_owned(), 90)]);
    /// numbers
    ///     .connect_broadcast(&limits)
    ///     .process(|states: &mut OperatorStates| {
    ///         let limits = states.broadcast::<String, u64>("limits");
    ///         (
    ///             move |n: u64, ctx: &mut ProcessContext<'_, u64>| {
    ///                 // Limits that come later do not count.
    ///                 if limits.iter(ctx).all(|(_, limit)| n < *limit) {
    ///                     ctx.emit(n);
    ///                 }
    ///                 Ok(())
    ///             },
    ///             move |(name, limit): (String, u64), ctx: &mut BroadcastContext<'_, u64>| {
    ///                 limits.insert(ctx, name, limit);
    ///                 Ok(())
    ///             },
    ///         )
    ///     })
    ///     .collect("within");
    /// assert!(harness.run().unwrap().collected::<u64>("within").len() >= 10);
    /// ```
    pub fn connect_broadcast<B: Record>(
        &self,
        other: &DataStream<B>,
    ) -> BroadcastConnectedStreams<T, B> {
        BroadcastConnectedStreams {
            stream: self.clone(),
            other: other.broadcast(),
        }
    }
}

/// Two streams that one operator reads. Flink: `ConnectedStreams`.
pub struct ConnectedStreams<A, B> {
    first: DataStream<A>,
    second: DataStream<B>,
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    /// Makes one record of each, by a function for each stream.
    pub fn map<O: Record>(
        &self,
        first: impl Fn(A) -> O + Send + Sync + 'static,
        second: impl Fn(B) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.flat_map(
            move |record| Some(first(record)),
            move |record| Some(second(record)),
        )
        .name("Co-Map")
    }

    /// Makes any number of records of each, by a function for each stream.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let numbers = harness.env().generate(3, |n| n);
    /// let texts = harness.env().from_collection(["7 8", "x 9"].map(str::to_owned));
    /// numbers
    ///     .connect(&texts)
    ///     .flat_map(
    ///         |n| (n > 0).then_some(n),
    ///         |text| text.split(' ').flat_map(str::parse::<u64>).collect::<Vec<_>>(),
    ///     )
    ///     .collect("all");
    /// let mut all: Vec<u64> = harness.run().unwrap().collected("all");
    /// all.sort_unstable();
    /// assert_eq!(all, [1, 2, 7, 8, 9]);
    /// ```
    pub fn flat_map<O: Record, I: IntoIterator<Item = O>, J: IntoIterator<Item = O>>(
        &self,
        first: impl Fn(A) -> I + Send + Sync + 'static,
        second: impl Fn(B) -> J + Send + Sync + 'static,
    ) -> DataStream<O> {
        let (first, second) = (Arc::new(first), Arc::new(second));
        self.process(move |_: &mut OperatorStates| {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            (
                move |record: A, ctx: &mut ProcessContext<'_, O>| {
                    first(record).into_iter().for_each(|made| ctx.emit(made));
                    Ok(())
                },
                move |record: B, ctx: &mut ProcessContext<'_, O>| {
                    second(record).into_iter().for_each(|made| ctx.emit(made));
                    Ok(())
                },
            )
        })
        .name("Co-Flat Map")
    }

    /// Applies a function that may do what it likes with the records of both streams. `make` makes the function of each subtask, and declares
    /// the state that it keeps; a pair of closures will do.
    ///
    /// ```
    /// use spindle_stream::{OperatorStates, ProcessContext};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let numbers = harness.env().generate(3, |n| n);
    /// let words = harness.env().from_collection(["a", "b"].map(str::to_owned));
    /// numbers
    ///     .connect(&words)
    ///     .process(|_: &mut OperatorStates| {
    ///         (
    ///             |n: u64, ctx: &mut ProcessContext<'_, usize>| { ctx.emit(n as usize * 100); Ok(()) },
    ///             |word: String, ctx: &mut ProcessContext<'_, usize>| { ctx.emit(word.len()); Ok(()) },
    ///         )
    ///     })
    ///     .collect("all");
    /// let mut all: Vec<usize> = harness.run().unwrap().collected("all");
    /// all.sort_unstable();
    /// assert_eq!(all, [0, 1, 1, 100, 200]);
    /// ```
    pub fn process<O: Record, F: CoProcessFunction<A, B, O>>(
        &self,
        make: impl Fn(&mut OperatorStates) -> F + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.first
            .read_with(&self.second, "Co-Process", move |context, next| {
                CoProcess::inputs(context, &make, next)
            })
    }
}

/// A stream and another of which each subtask gets all records. Flink: `BroadcastConnectedStream`.
pub struct BroadcastConnectedStreams<A, B> {
    stream: DataStream<A>,
    other: DataStream<B>,
}

impl<A: Record, B: Record> BroadcastConnectedStreams<A, B> {
    /// Applies a function to the records of both streams, which keeps those of the other as broadcast state; a pair of closures will do. See
    /// [`DataStream::connect_broadcast`].
    pub fn process<O: Record, F: BroadcastProcessFunction<A, B, O>>(
        &self,
        make: impl Fn(&mut OperatorStates) -> F + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.stream
            .read_with(&self.other, "Co-Process-Broadcast", move |context, next| {
                BroadcastProcess::inputs(context, &make, next)
            })
    }
}

impl<K: Key, T: Record> KeyedStream<K, T> {
    /// Has one operator read this stream and another that has the same keys: what they have of a key comes to one subtask, and they share its
    /// state.
    ///
    /// ```
    /// use spindle_stream::{KeyedContext, States};
    ///
    /// type Ctx<'a> = KeyedContext<'a, u64, (String, u64)>;
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// let names = harness.env().from_collection([(1_u64, "ann".to_owned()), (2, "bob".to_owned())]);
    /// let orders = harness.env().from_collection([(2_u64, 20_u64), (1, 10), (2, 21)]);
    /// names
    ///     .key_by(|(id, _)| *id)
    ///     .connect(&orders.key_by(|(id, _)| *id))
    ///     .process(|states: &mut States| {
    ///         let name = states.value::<String>("name");
    ///         let early = states.list::<u64>("early");
    ///         (
    ///             move |(_, new): (u64, String), ctx: &mut Ctx<'_>| {
    ///                 for order in early.take(ctx) {
    ///                     ctx.emit((new.clone(), order));
    ///                 }
    ///                 name.set(ctx, new);
    ///                 Ok(())
    ///             },
    ///             move |(_, order): (u64, u64), ctx: &mut Ctx<'_>| {
    ///                 match name.get(ctx).cloned() {
    ///                     Some(name) => ctx.emit((name, order)),
    ///                     None => early.push(ctx, order),
    ///                 }
    ///                 Ok(())
    ///             },
    ///         )
    ///     })
    ///     .collect("orders");
    /// let mut orders: Vec<(String, u64)> = harness.run().unwrap().collected("orders");
    /// orders.sort_unstable();
    /// assert_eq!(orders, [("ann", 10), ("bob", 20), ("bob", 21)].map(|(name, n)| (name.to_owned(), n)));
    /// ```
    pub fn connect<B: Record>(&self, other: &KeyedStream<K, B>) -> KeyedConnectedStreams<K, T, B> {
        KeyedConnectedStreams {
            first: self.clone(),
            second: other.clone(),
        }
    }

    /// Has one operator read this stream and another, of which each subtask gets all records: rules, say, that it keeps as broadcast state,
    /// beside the state of each key.
    ///
    /// ```
    /// use spindle_stream::{KeyedBroadcastContext, KeyedContext, States};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let numbers = harness.env().generate(6, |n| n);
    /// let resets = harness.env().from_collection(["all".to_owned()]);
    /// numbers
    ///     .key_by(|n| n % 2)
    ///     .connect_broadcast(&resets)
    ///     .process(|states: &mut States| {
    ///         let sum = states.reducing::<u64>("sum", |a, b| a + b);
    ///         let (sums, resets) = (sum.clone(), states.broadcast::<String, u64>("resets"));
    ///         (
    ///             move |n: u64, ctx: &mut KeyedContext<'_, u64, (u64, u64)>| {
    ///                 sum.add(ctx, n);
    ///                 Ok(())
    ///             },
    ///             move |what: String, ctx: &mut KeyedBroadcastContext<'_, u64, (u64, u64)>| {
    ///                 resets.insert(ctx, what, 1);
    ///                 ctx.apply_to_keyed_state(|ctx| {
    ///                     let key = *ctx.key();
    ///                     let total = sums.get(ctx).copied().unwrap_or(0);
    ///                     sums.clear(ctx);
    ///                     ctx.emit((key, total));
    ///                     Ok(())
    ///                 })
    ///             },
    ///         )
    ///     })
    ///     .collect("sums");
    /// // What came first is for chance to say.
    /// assert!(harness.run().unwrap().collected::<(u64, u64)>("sums").iter().all(|(key, sum)| *sum == 6 + 3 * key));
    /// ```
    pub fn connect_broadcast<B: Record>(
        &self,
        other: &DataStream<B>,
    ) -> KeyedBroadcastConnectedStreams<K, T, B> {
        KeyedBroadcastConnectedStreams {
            keyed: self.clone(),
            other: other.broadcast(),
        }
    }

    /// Joins each record of this stream with those of another that have the same key, and an event time that is close. Flink: `intervalJoin`.
    pub fn interval_join<B: Record>(&self, other: &KeyedStream<K, B>) -> IntervalJoined<K, T, B> {
        IntervalJoined {
            first: self.clone(),
            second: other.clone(),
            interval: Interval {
                lower_ms: 0,
                upper_ms: 0,
            },
            late: LateOutputs::default(),
        }
    }
}

/// Two streams with the same keys that one operator reads. Flink: `ConnectedStreams` of two keyed streams.
pub struct KeyedConnectedStreams<K, A, B> {
    first: KeyedStream<K, A>,
    second: KeyedStream<K, B>,
}

impl<K: Key, A: Record, B: Record> KeyedConnectedStreams<K, A, B> {
    /// Applies a function to the records of both streams, which share the state of a key; a pair of closures will do where there are no timers.
    /// See [`KeyedStream::connect`].
    pub fn process<O: Record, F: KeyedCoProcessFunction<K, A, B, O>>(
        &self,
        make: impl Fn(&mut States) -> F + Send + Sync + 'static,
    ) -> DataStream<O> {
        let (first, second) = (self.first.selector(), self.second.selector());
        self.first.stream().read_with(
            self.second.stream(),
            "Co-Keyed-Process",
            move |context, next| {
                let (first, second) = (Arc::clone(&first), Arc::clone(&second));
                KeyedCoProcess::inputs(context, first, second, &make, next)
            },
        )
    }
}

/// A stream with a key and another of which each subtask gets all records. Flink: `BroadcastConnectedStream`.
pub struct KeyedBroadcastConnectedStreams<K, A, B> {
    keyed: KeyedStream<K, A>,
    other: DataStream<B>,
}

impl<K: Key, A: Record, B: Record> KeyedBroadcastConnectedStreams<K, A, B> {
    /// Applies a function to the records of both streams; a pair of closures will do where there are no timers. See
    /// [`KeyedStream::connect_broadcast`].
    pub fn process<O: Record, F: KeyedBroadcastProcessFunction<K, A, B, O>>(
        &self,
        make: impl Fn(&mut States) -> F + Send + Sync + 'static,
    ) -> DataStream<O> {
        let selector = self.keyed.selector();
        self.keyed.stream().read_with(
            &self.other,
            "Co-Process-Broadcast-Keyed",
            move |context, next| {
                let selector = Arc::clone(&selector);
                KeyedBroadcastProcess::inputs(context, selector, &make, next)
            },
        )
    }
}

/// Two streams that are joined by key and event time. Flink: `IntervalJoin`, `IntervalJoined`.
///
/// ```
/// use std::time::Duration;
/// use spindle_stream::{EventTime, ProcessContext, WatermarkStrategy};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// let in_time = |stream: spindle_stream::DataStream<(String, i64)>| {
///     let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(60));
///     stream.assign_timestamps(strategy, |(_, ms)| EventTime::from_millis(*ms)).key_by_ref(|(user, _)| user)
/// };
/// let named = |events: [(&str, i64); 3]| events.map(|(user, ms)| (user.to_owned(), ms));
/// let shown = in_time(harness.env().from_collection(named([("ann", 1000), ("bob", 2000), ("ann", 9000)])));
/// let clicks = in_time(harness.env().from_collection(named([("ann", 1500), ("bob", 1999), ("ann", 4000)])));
/// // Clicks within three seconds.
/// shown
///     .interval_join(&clicks)
///     .between(0, 3000)
///     .process(|(user, shown), (_, click), ctx: &mut ProcessContext<'_, (String, i64)>| {
///         ctx.emit((user.clone(), click - shown));
///         Ok(())
///     })
///     .collect("delays");
/// let mut delays: Vec<(String, i64)> = harness.run().unwrap().collected("delays");
/// delays.sort_unstable();
/// assert_eq!(delays, [("ann".to_owned(), 500), ("ann".to_owned(), 3000)]);
/// ```
pub struct IntervalJoined<K, A, B> {
    first: KeyedStream<K, A>,
    second: KeyedStream<K, B>,
    interval: Interval,
    late: LateOutputs<A, B>,
}

impl<K: Key, A: Record, B: Record> IntervalJoined<K, A, B> {
    /// A record of the second stream goes with one of the first if it is from `lower_ms` to `upper_ms` later, both included. Negative numbers
    /// are for records that are earlier. Without this, only equal event times go together.
    #[must_use]
    pub const fn between(mut self, lower_ms: i64, upper_ms: i64) -> Self {
        self.interval = Interval { lower_ms, upper_ms };
        self
    }

    /// The lower bound itself is out.
    #[must_use]
    pub const fn lower_bound_exclusive(mut self) -> Self {
        self.interval.lower_ms = self.interval.lower_ms.saturating_add(1);
        self
    }

    /// The upper bound itself is out.
    #[must_use]
    pub const fn upper_bound_exclusive(mut self) -> Self {
        self.interval.upper_ms = self.interval.upper_ms.saturating_sub(1);
        self
    }

    /// Has records of the first stream that are late go to a side output of the join, not be dropped and counted.
    #[must_use]
    pub fn late_first(mut self, tag: &OutputTag<A>) -> Self {
        self.late.first = Some(tag.clone());
        self
    }

    /// Has records of the second stream that are late go to a side output of the join, not be dropped and counted.
    #[must_use]
    pub fn late_second(mut self, tag: &OutputTag<B>) -> Self {
        self.late.second = Some(tag.clone());
        self
    }

    /// Calls a function for each two records that go together. What it emits has the later of the two event times.
    ///
    /// # Panics
    /// If the lower bound is above the upper one.
    pub fn process<O: Record>(
        &self,
        function: impl Fn(&A, &B, &mut ProcessContext<'_, O>) -> FunctionResult + Send + Sync + 'static,
    ) -> DataStream<O> {
        let (interval, late) = (self.interval, self.late.clone());
        assert!(
            interval.lower_ms <= interval.upper_ms,
            "an interval join from {} to {} ms joins nothing: the lower bound has to be at or below the upper one",
            interval.lower_ms,
            interval.upper_ms
        );
        let function = Arc::new(function);
        let (first, second) = (self.first.selector(), self.second.selector());
        self.first.stream().read_with(
            self.second.stream(),
            "Interval Join",
            move |context, next| {
                let (first, second) = (Arc::clone(&first), Arc::clone(&second));
                let function = Arc::clone(&function);
                let call = move |a: &A, b: &B, ctx: &mut ProcessContext<'_, O>| function(a, b, ctx);
                let make = |states: &mut States| {
                    IntervalJoin::new(context, states, interval, late.clone(), call)
                };
                KeyedCoProcess::inputs(context, first, second, make, next)
            },
        )
    }
}
