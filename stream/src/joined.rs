//! Two streams that meet in windows.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spindle_dataflow::collector::OutputTag;
use spindle_dataflow::key::{KeySelector, Keys};
use spindle_dataflow::operator::{
    AggregateFunction, Contents, EndOfWindow, TimeWindow, Trigger, WindowContext, WindowOutput,
    Windows,
};
use spindle_dataflow::record::{Key, Record};

use crate::data_stream::DataStream;
use crate::keyed::KeyedStream;
use crate::windowed::WindowedStream;

/// A record of one of two streams. Flink: `TaggedUnion`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Either<A, B> {
    /// Of the first.
    First(A),
    /// Of the second.
    Second(B),
}

/// Two streams whose records are to be paired. Flink: `JoinedStreams`, `CoGroupedStreams`.
pub struct JoinedStreams<A, B> {
    pub(crate) first: DataStream<A>,
    pub(crate) second: DataStream<B>,
}

impl<A: Record, B: Record> JoinedStreams<A, B> {
    /// Says which records belong together: those whose keys are equal.
    pub fn on<K: Key>(
        &self,
        first: impl Fn(&A) -> K + Send + Sync + 'static,
        second: impl Fn(&B) -> K + Send + Sync + 'static,
    ) -> KeyedJoin<K, A, B> {
        let both = self
            .first
            .map(Either::First)
            .name("Join First")
            .union(&[&self.second.map(Either::Second).name("Join Second")]);
        let selector = Arc::new(ByEither { first, second });
        KeyedJoin {
            keyed: KeyedStream::new(both, selector),
        }
    }
}

/// Tells the key of a record of either stream.
struct ByEither<F, G> {
    first: F,
    second: G,
}

impl<K, A, B, F, G> KeySelector<K, Either<A, B>> for ByEither<F, G>
where
    K: Key,
    F: Fn(&A) -> K + Send + Sync,
    G: Fn(&B) -> K + Send + Sync,
{
    fn select<'a>(
        &self,
        records: &'a [Either<A, B>],
        hashes: &mut Vec<u64>,
        made: &'a mut Vec<K>,
    ) -> Keys<'a, K> {
        made.extend(records.iter().map(|record| self.key(record)));
        hashes.extend(made.iter().map(spindle_common::key_group::key_hash));
        Keys::Made(made)
    }

    fn hashes(&self, records: &[Either<A, B>], hashes: &mut Vec<u64>) {
        let keys = records.iter().map(|record| self.key(record));
        hashes.extend(keys.map(|key| spindle_common::key_group::key_hash(&key)));
    }
}

impl<F, G> ByEither<F, G> {
    fn key<K, A, B>(&self, record: &Either<A, B>) -> K
    where
        F: Fn(&A) -> K,
        G: Fn(&B) -> K,
    {
        match record {
            Either::First(record) => (self.first)(record),
            Either::Second(record) => (self.second)(record),
        }
    }
}

/// Two streams and the keys of their records.
pub struct KeyedJoin<K, A, B> {
    keyed: KeyedStream<K, Either<A, B>>,
}

impl<K: Key, A: Record, B: Record> KeyedJoin<K, A, B> {
    /// Says in which windows records have to meet: any that [`crate::KeyedStream::window`] takes.
    pub fn window(&self, windows: impl Into<Windows<Either<A, B>>>) -> WindowedJoin<K, A, B> {
        WindowedJoin {
            windowed: self.keyed.window(windows),
        }
    }
}

/// Two streams, the keys of their records, and windows.
pub struct WindowedJoin<K, A, B, Tr = EndOfWindow> {
    windowed: WindowedStream<K, Either<A, B>, Tr>,
}

impl<K: Key, A: Record, B: Record, Tr: Trigger<Either<A, B>>> WindowedJoin<K, A, B, Tr> {
    /// Has a trigger say when a window fires, in the place of its end.
    #[must_use]
    pub fn trigger<Other>(self, trigger: Other) -> WindowedJoin<K, A, B, Other>
    where
        Other: Trigger<Either<A, B>>,
    {
        WindowedJoin {
            windowed: self.windowed.trigger(trigger),
        }
    }

    /// Keeps windows of event time for this much longer than to their end: see [`WindowedStream::allowed_lateness`].
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self {
            windowed: self.windowed.allowed_lateness(lateness),
        }
    }

    /// Has records whose windows are gone handed on in a side output of what follows.
    #[must_use]
    pub fn side_output_late_data(self, tag: &OutputTag<Either<A, B>>) -> Self {
        Self {
            windowed: self.windowed.side_output_late_data(tag),
        }
    }

    /// Hands on what the function makes of each pair of records with one key in one window.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, Tumbling, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// let env = harness.env();
    /// let people = env
    ///     .from_collection([(1_u32, "ann".to_owned(), 3_i64), (2, "bob".to_owned(), 12)])
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |person| EventTime::from_millis(person.2));
    /// let sales = env
    ///     .from_collection([(1_u32, 70_u32, 5_i64), (1, 80, 9), (2, 90, 9), (1, 95, 14)])
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |sale| EventTime::from_millis(sale.2));
    /// people
    ///     .join(&sales)
    ///     .on(|person| person.0, |sale| sale.0)
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .apply(|person, sale| (person.1.clone(), sale.1))
    ///     .collect("pairs");
    /// let mut pairs: Vec<(String, u32)> = harness.run().unwrap().collected("pairs");
    /// pairs.sort_unstable();
    /// assert_eq!(pairs, [("ann".to_owned(), 70), ("ann".to_owned(), 80)]);
    /// ```
    pub fn apply<O: Record>(
        &self,
        function: impl Fn(&A, &B) -> O + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.both("Window Join", move |_, first, second, out| {
            for a in first {
                for b in second {
                    out.emit(function(a, b));
                }
            }
        })
    }

    /// Hands on what the function makes of all records of either stream with one key in one window, any number of records. One of the
    /// two sides may be empty. Flink: `CoGroupFunction`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, Tumbling, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let env = harness.env();
    /// let orders = env
    ///     .from_collection([(1_u32, 3_i64), (2, 4)])
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |order| EventTime::from_millis(order.1));
    /// let payments = env
    ///     .from_collection([(2_u32, 8_i64)])
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |payment| EventTime::from_millis(payment.1));
    /// orders
    ///     .join(&payments)
    ///     .on(|order| order.0, |payment| payment.0)
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .co_group(|order, _, orders, payments, out| {
    ///         if orders.len() > payments.len() {
    ///             out.emit(*order);
    ///         }
    ///     })
    ///     .collect("unpaid");
    /// assert_eq!(harness.run().unwrap().collected::<u32>("unpaid"), [1]);
    /// ```
    pub fn co_group<O: Record>(
        &self,
        function: impl Fn(&K, TimeWindow, &[A], &[B], &mut WindowOutput<'_, O>) + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.both("Window CoGroup", move |context, first, second, out| {
            function(context.key, context.window, first, second, out);
        })
    }

    fn both<O: Record>(
        &self,
        name: &str,
        function: impl Fn(&WindowContext<'_, K>, &[A], &[B], &mut WindowOutput<'_, O>)
        + Send
        + Sync
        + 'static,
    ) -> DataStream<O> {
        let contents = Contents(
            move |context: &WindowContext<'_, K>,
                  (first, second): &(Vec<A>, Vec<B>),
                  out: &mut WindowOutput<'_, O>| {
                function(context, first, second, out);
            },
        );
        self.windowed.operator(name, Sides, contents)
    }
}

/// Keeps the records of either stream, in the order in which they came.
struct Sides;

impl<A: Record, B: Record> AggregateFunction<Either<A, B>> for Sides {
    type Accumulator = (Vec<A>, Vec<B>);
    type Output = ();

    const KEEPS_RECORDS: bool = true;

    fn create(&self) -> (Vec<A>, Vec<B>) {
        (Vec::new(), Vec::new())
    }

    fn add(&self, sides: &mut (Vec<A>, Vec<B>), record: &Either<A, B>) {
        match record {
            Either::First(record) => sides.0.push(record.clone()),
            Either::Second(record) => sides.1.push(record.clone()),
        }
    }

    fn take(&self, sides: &mut (Vec<A>, Vec<B>), record: Either<A, B>) {
        match record {
            Either::First(record) => sides.0.push(record),
            Either::Second(record) => sides.1.push(record),
        }
    }

    fn merge(&self, sides: &mut (Vec<A>, Vec<B>), others: &(Vec<A>, Vec<B>)) {
        sides.0.extend_from_slice(&others.0);
        sides.1.extend_from_slice(&others.1);
    }

    fn result(&self, _: &(Vec<A>, Vec<B>)) {}
}
