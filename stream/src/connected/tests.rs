use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use spindle_dataflow::batch::BATCH_RECORDS;

use crate::testing::{Finished, Harness};
use crate::{
    BroadcastState, EventTime, FunctionResult, KeyedBroadcastContext,
    KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext, KeyedStream, ListState,
    OperatorStates, OutputTag, ProcessContext, States, Timer, ValueState, WatermarkStrategy,
};

fn sorted<T: Ord + serde::de::DeserializeOwned>(finished: &Finished, name: &str) -> Vec<T> {
    let mut all = finished.collected(name);
    all.sort_unstable();
    all
}

type Row = (u8, i64);

fn keyed(harness: &mut Harness, rows: Vec<Row>) -> KeyedStream<u8, Row> {
    harness
        .env()
        .from_collection(rows)
        .assign_timestamps(
            WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(1000)),
            |(_, ms)| EventTime(*ms),
        )
        .key_by(|(key, _)| *key)
}

/// At the end, tells of each key how many records it had in each stream.
struct Counts {
    counts: ValueState<(u64, u64)>,
}

type CountsContext<'a> = KeyedContext<'a, u8, (u8, u64, u64)>;

impl Counts {
    fn count(
        &self,
        ctx: &mut CountsContext<'_>,
        add: impl FnOnce(&mut (u64, u64)),
    ) -> FunctionResult {
        ctx.register_event_time_timer(EventTime::MAX);
        add(self.counts.get_or_insert_with(ctx, || (0, 0)));
        Ok(())
    }
}

impl KeyedCoProcessFunction<u8, Row, Row, (u8, u64, u64)> for Counts {
    fn process1(&mut self, _: Row, ctx: &mut CountsContext<'_>) -> FunctionResult {
        self.count(ctx, |counts| counts.0 += 1)
    }

    fn process2(&mut self, _: Row, ctx: &mut CountsContext<'_>) -> FunctionResult {
        self.count(ctx, |counts| counts.1 += 1)
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut CountsContext<'_>) -> FunctionResult {
        let (first, second) = self.counts.take(ctx).unwrap_or_default();
        let key = *ctx.key();
        ctx.emit((key, first, second));
        Ok(())
    }
}

/// Multiplies what each key had by the factor that was broadcast for it, once all is known.
struct Factors {
    waiting: ListState<i64>,
    factors: BroadcastState<u8, i64>,
}

impl KeyedBroadcastProcessFunction<u8, Row, (u8, i64), i64> for Factors {
    fn process(&mut self, (_, n): Row, ctx: &mut KeyedContext<'_, u8, i64>) -> FunctionResult {
        ctx.register_event_time_timer(EventTime::MAX);
        self.waiting.push(ctx, n);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (key, factor): (u8, i64),
        ctx: &mut KeyedBroadcastContext<'_, u8, i64>,
    ) -> FunctionResult {
        self.factors.insert(ctx, key, factor);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u8, i64>) -> FunctionResult {
        let factor = *self.factors.get(ctx, ctx.key()).unwrap_or(&0);
        for n in self.waiting.take(ctx) {
            ctx.emit(n * factor);
        }
        Ok(())
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0_u8..20, 0_i64..1000), 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn both_streams_share_the_state_of_a_key(a in rows(), b in rows(), parallelism in 1_u32..4) {
        let mut harness = Harness::new(parallelism);
        let first = keyed(&mut harness, a.clone());
        let second = keyed(&mut harness, b.clone());
        first.connect(&second)
            .process(|states: &mut States| Counts { counts: states.value("counts") })
            .collect("counts");
        let mut counts = BTreeMap::<u8, (u64, u64)>::new();
        a.iter().for_each(|(key, _)| counts.entry(*key).or_default().0 += 1);
        b.iter().for_each(|(key, _)| counts.entry(*key).or_default().1 += 1);
        let expected: Vec<_> = counts.into_iter().map(|(key, (a, b))| (key, a, b)).collect();
        prop_assert_eq!(sorted::<(u8, u64, u64)>(&harness.run().unwrap(), "counts"), expected);
    }

    #[test]
    fn broadcast_state_is_the_same_in_all_subtasks(rows in rows(), parallelism in 1_u32..4) {
        let mut harness = Harness::new(parallelism);
        let stream = keyed(&mut harness, rows.clone());
        let factors: Vec<(u8, i64)> = (0..20).map(|key| (key, i64::from(key) * 3)).collect();
        let factors = harness.env().from_collection(factors);
        stream.connect_broadcast(&factors)
            .process(|states: &mut States| Factors {
                waiting: states.list("waiting"),
                factors: states.broadcast("factors"),
            })
            .collect("products");
        let mut expected: Vec<i64> = rows.iter().map(|(key, n)| n * i64::from(*key) * 3).collect();
        expected.sort_unstable();
        prop_assert_eq!(sorted::<i64>(&harness.run().unwrap(), "products"), expected);
    }

    #[test]
    fn an_interval_join_finds_what_nested_loops_find(
        a in rows(), b in rows(), lower in -100_i64..100, width in 2_i64..100, exclusive in any::<bool>(), parallelism in 1_u32..4,
    ) {
        let mut harness = Harness::new(parallelism);
        let first = keyed(&mut harness, a.clone());
        let second = keyed(&mut harness, b.clone());
        let (mut from, mut to) = (lower, lower + width);
        let mut join = first.interval_join(&second).between(from, to);
        if exclusive {
            join = join.lower_bound_exclusive().upper_bound_exclusive();
            (from, to) = (from + 1, to - 1);
        }
        join.process(|a, b, ctx: &mut ProcessContext<'_, (i64, i64, i64)>| {
            let time = ctx.timestamp().map_or(0, EventTime::as_millis);
            ctx.emit((a.1, b.1, time));
            Ok(())
        })
        .collect("pairs");
        let mut expected = Vec::new();
        for (key, x) in &a {
            for (other, y) in &b {
                if key == other && (from..=to).contains(&(y - x)) {
                    expected.push((*x, *y, *x.max(y)));
                }
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(sorted::<(i64, i64, i64)>(&harness.run().unwrap(), "pairs"), expected);
    }
}

#[test]
fn late_records_of_an_interval_join_go_to_its_side_output() {
    let mut harness = Harness::new(1);
    let strategy = WatermarkStrategy::monotonous();
    // One batch, whose watermark the record behind it is late by.
    let late = (0..BATCH_RECORDS).map(|_| 5000).chain([7]);
    let first = harness.env().from_collection(late);
    let first = first.assign_timestamps(strategy, |ms| EventTime(*ms));
    let second = first.filter(|ms| *ms == 5000);
    let tag = OutputTag::<i64>::new("late");
    let joined = first
        .key_by(|_| ())
        .interval_join(&second.key_by(|_| ()))
        .late_first(&tag)
        .process(|_, _, _: &mut ProcessContext<'_, u8>| Ok(()));
    joined.side_output(&tag).collect("late");
    let finished = harness.run().unwrap();
    assert_eq!(finished.collected::<i64>("late"), [7]);
    assert_eq!(finished.late_records_dropped(), 0);
}

#[test]
fn an_error_of_a_function_is_told_with_the_name_of_its_operator() {
    let mut harness = Harness::new(2);
    let numbers = harness.env().generate(5000, |n| n);
    numbers
        .process(|_: &mut OperatorStates| {
            |n: u64, ctx: &mut ProcessContext<'_, u64>| {
                if n == 4321 {
                    return Err(format!("bad record {n}").into());
                }
                ctx.emit(n);
                Ok(())
            }
        })
        .name("check")
        .collect("all");
    let cause = harness.run().unwrap_err();
    assert_eq!(cause.operator.as_deref(), Some("check"));
    assert_eq!(cause.message, "bad record 4321");
}

#[test]
#[should_panic(expected = "joins nothing")]
fn an_interval_that_holds_nothing_is_refused() {
    let mut harness = Harness::new(1);
    let stream = keyed(&mut harness, Vec::new());
    let joined = stream.interval_join(&stream).between(1, 0);
    joined.process(|_, _, _: &mut ProcessContext<'_, u8>| Ok(()));
}
