//! What functions are made of: their contexts, state and timers, as the data plane has them, each with an example.

/// For each key the first record, and no other:
///
/// ```
/// use spindle_stream::{KeyedContext, States};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .from_collection([3_u64, 4, 3, 3])
///     .key_by(|n| *n)
///     .process(|states: &mut States| {
///         let seen = states.value::<()>("seen");
///         move |n: u64, ctx: &mut KeyedContext<'_, u64, u64>| {
///             if seen.get(ctx).is_none() {
///                 seen.set(ctx, ());
///                 ctx.emit(n);
///             }
///             Ok(())
///         }
///     })
///     .collect("distinct");
/// assert_eq!(harness.run().unwrap().collected::<u64>("distinct"), [3, 4]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::ValueState;

/// The records of each key by threes:
///
/// ```
/// use spindle_stream::{KeyedContext, States};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .generate(7, |n| n)
///     .key_by(|n| n % 2)
///     .process(|states: &mut States| {
///         let waiting = states.list::<u64>("waiting");
///         move |n: u64, ctx: &mut KeyedContext<'_, u64, Vec<u64>>| {
///             waiting.push(ctx, n);
///             if waiting.iter(ctx).count() == 3 {
///                 let three = waiting.take(ctx);
///                 ctx.emit(three);
///             }
///             Ok(())
///         }
///     })
///     .collect("threes");
/// let threes: Vec<Vec<u64>> = harness.run().unwrap().collected("threes");
/// assert_eq!(threes, [[0, 2, 4], [1, 3, 5]]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::ListState;

/// How often each visitor saw which page:
///
/// ```
/// use spindle_stream::{KeyedContext, States};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// let visits = [("ann", "b.html"), ("bob", "a.html"), ("ann", "a.html"), ("ann", "b.html")];
/// harness
///     .env()
///     .from_collection(visits.map(|(who, page)| (who.to_owned(), page.to_owned())))
///     .key_by_ref(|(who, _)| who)
///     .process(|states: &mut States| {
///         let pages = states.map::<String, u64>("pages");
///         move |(_, page): (String, String), ctx: &mut KeyedContext<'_, String, Vec<(String, u64)>>| {
///             *pages.get_or_insert_with(ctx, page, || 0) += 1;
///             let all = pages.iter(ctx).map(|(page, count)| (page.clone(), *count)).collect();
///             ctx.emit(all);
///             Ok(())
///         }
///     })
///     .collect("pages");
/// let pages: Vec<Vec<(String, u64)>> = harness.run().unwrap().collected("pages");
/// assert_eq!(pages[3], [("a.html".to_owned(), 1), ("b.html".to_owned(), 2)]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::MapState;

/// The largest number so far:
///
/// ```
/// use spindle_stream::{KeyedContext, States};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .from_collection([3_i64, 9, 5])
///     .key_by(|_| ())
///     .process(|states: &mut States| {
///         let largest = states.reducing::<i64>("largest", i64::max);
///         move |n: i64, ctx: &mut KeyedContext<'_, (), i64>| {
///             largest.add(ctx, n);
///             ctx.emit(*largest.get(ctx).unwrap_or(&n));
///             Ok(())
///         }
///     })
///     .collect("largest");
/// assert_eq!(harness.run().unwrap().collected::<i64>("largest"), [3, 9, 9]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::ReducingState;

/// A count for each word:
///
/// ```
/// use spindle_stream::{Count, KeyedContext, States};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .from_collection(["a", "b", "a"].map(str::to_owned))
///     .key_by_ref(|word| word)
///     .process(|states: &mut States| {
///         let count = states.aggregating::<String, Count>("count", Count);
///         move |word: String, ctx: &mut KeyedContext<'_, String, u64>| {
///             count.add(ctx, word);
///             ctx.emit(count.get(ctx).unwrap_or(0));
///             Ok(())
///         }
///     })
///     .collect("counts");
/// assert_eq!(harness.run().unwrap().collected::<u64>("counts"), [1, 1, 2]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::AggregatingState;

/// What was not seen for a while is new again:
///
/// ```
/// use std::time::Duration;
/// use spindle_stream::{KeyedContext, StateTtl, States};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .from_collection([1_u64, 1, 2])
///     .key_by(|n| *n)
///     .process(|states: &mut States| {
///         // What was not seen for an hour is new again.
///         let seen = states.with_ttl(StateTtl::after(Duration::from_secs(3600))).value::<()>("seen");
///         move |n: u64, ctx: &mut KeyedContext<'_, u64, u64>| {
///             if seen.get(ctx).is_none() {
///                 ctx.emit(n);
///             }
///             seen.set(ctx, ());
///             Ok(())
///         }
///     })
///     .collect("new");
/// assert_eq!(harness.run().unwrap().collected::<u64>("new"), [1, 2]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::StateTtl;

/// A record that waits for the next one, whatever its key:
///
/// ```
/// use spindle_stream::{OperatorStates, ProcessContext};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .generate(5, |n| n)
///     .process(|states: &mut OperatorStates| {
///         let pair = states.operator_list::<u64>("pair");
///         move |n: u64, ctx: &mut ProcessContext<'_, (u64, u64)>| {
///             match pair.take(ctx)[..] {
///                 [first] => ctx.emit((first, n)),
///                 _ => pair.push(ctx, n),
///             }
///             Ok(())
///         }
///     })
///     .collect("pairs");
/// assert_eq!(harness.run().unwrap().collected::<(u64, u64)>("pairs"), [(0, 1), (2, 3)]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::state::OperatorList;

/// Even numbers go on, odd ones to the side:
///
/// ```
/// use spindle_stream::{OperatorStates, OutputTag, ProcessContext};
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// let odd = OutputTag::<String>::new("odd");
/// let tag = odd.clone();
/// let even = harness.env().generate(5, |n| n).process(move |_: &mut OperatorStates| {
///     let odd = tag.clone();
///     move |n: u64, ctx: &mut ProcessContext<'_, u64>| {
///         if n % 2 == 0 {
///             ctx.emit(n);
///         } else {
///             ctx.output(&odd, format!("{n} is odd"));
///         }
///         Ok(())
///     }
/// });
/// even.collect("even");
/// even.side_output(&odd).collect("odd");
/// let finished = harness.run().unwrap();
/// assert_eq!(finished.collected::<u64>("even"), [0, 2, 4]);
/// assert_eq!(finished.collected::<String>("odd"), ["1 is odd", "3 is odd"]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::collector::OutputTag;

/// A function with timers is a struct:
///
/// ```
/// use std::time::Duration;
/// use spindle_stream::{
///     EventTime, FunctionResult, KeyedContext, KeyedProcessFunction, States, Timer, ValueState, WatermarkStrategy,
/// };
///
/// /// Tells of each sensor when it has been silent for a second.
/// struct Silence {
///     last: ValueState<EventTime>,
/// }
///
/// impl KeyedProcessFunction<String, (String, i64), String> for Silence {
///     fn process(&mut self, (_, ms): (String, i64), ctx: &mut KeyedContext<'_, String, String>) -> FunctionResult {
///         let due = EventTime::from_millis(ms + 1000);
///         if let Some(earlier) = self.last.get(ctx).copied() {
///             ctx.delete_event_time_timer(earlier);
///         }
///         self.last.set(ctx, due);
///         ctx.register_event_time_timer(due);
///         Ok(())
///     }
///
///     fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, String, String>) -> FunctionResult {
///         self.last.clear(ctx);
///         let told = format!("{} is silent at {}", ctx.key(), timer.time.as_millis());
///         ctx.emit(told);
///         Ok(())
///     }
/// }
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness
///     .env()
///     .from_collection([("a", 0_i64), ("b", 200), ("a", 900), ("a", 5000)].map(|(key, ms)| (key.to_owned(), ms)))
///     .assign_timestamps(WatermarkStrategy::monotonous(), |(_, ms)| EventTime::from_millis(*ms))
///     .key_by_ref(|(sensor, _)| sensor)
///     .process(|states: &mut States| Silence { last: states.value("last") })
///     .collect("silences");
/// let silences: Vec<String> = harness.run().unwrap().collected("silences");
/// assert_eq!(silences, ["b is silent at 1200", "a is silent at 6000"]);
/// ```
#[doc(inline)]
pub use spindle_dataflow::operator::KeyedProcessFunction;

pub use spindle_dataflow::operator::{
    BroadcastContext, BroadcastProcessFunction, CoProcessFunction, FunctionResult,
    KeyedBroadcastContext, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext,
    ProcessContext, ProcessFunction,
};
pub use spindle_dataflow::state::{
    BroadcastState, OperatorStates, Redistribution, States, Update, Visibility, WithTtl,
};
pub use spindle_dataflow::timer::{TimeDomain, Timer};
