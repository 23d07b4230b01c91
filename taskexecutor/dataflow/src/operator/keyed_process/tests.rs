use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use spindle_common::time::MonoTime;

use super::*;
use crate::chain::Clock;
use crate::key::ByValue;
use crate::operator::tests::{Seen, Seens, at as watermark, context, tape};
use crate::state::{ListState, MapState, StateTtl, Update, ValueState, Visibility};

type Entries = (Option<u32>, Vec<u32>, Vec<(u8, u32)>);

/// What a key has after a record or a timer.
#[derive(Debug, Clone, PartialEq)]
struct Dump {
    key: u8,
    timer: Option<i64>,
    entries: Entries,
}

#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
enum Do {
    Look,
    Set(u32),
    Add(u32),
    Put(u8, u32),
    Remove(u8),
    ClearValue,
    ClearList,
    ClearMap,
    Register(i64),
    Delete(i64),
}

struct All {
    value: ValueState<u32>,
    list: ListState<u32>,
    map: MapState<u8, u32>,
}

type Ctx<'a> = KeyedContext<'a, u8, Dump>;

impl All {
    fn dump(&self, timer: Option<i64>, ctx: &mut Ctx<'_>) {
        let dump = Dump {
            key: *ctx.key(),
            timer,
            entries: (
                self.value.get(ctx).copied(),
                self.list.iter(ctx).copied().collect(),
                self.map.iter(ctx).map(|(at, n)| (*at, *n)).collect(),
            ),
        };
        ctx.emit(dump);
    }
}

impl KeyedProcessFunction<u8, (u8, Do), Dump> for All {
    fn process(&mut self, (key, what): (u8, Do), ctx: &mut Ctx<'_>) -> FunctionResult {
        assert_eq!(key, *ctx.key());
        match what {
            Do::Look => {}
            Do::Set(n) => self.value.set(ctx, n),
            Do::Add(n) => self.list.push(ctx, n),
            Do::Put(at, n) => *self.map.get_or_insert_with(ctx, at, || n) = n,
            Do::Remove(at) => drop(self.map.remove(ctx, &at)),
            Do::ClearValue => self.value.clear(ctx),
            Do::ClearList => self.list.clear(ctx),
            Do::ClearMap => self.map.clear(ctx),
            Do::Register(ms) => ctx.register_event_time_timer(EventTime(ms)),
            Do::Delete(ms) => ctx.delete_event_time_timer(EventTime(ms)),
        }
        self.dump(None, ctx);
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut Ctx<'_>) -> FunctionResult {
        assert_eq!(ctx.timestamp(), Some(timer.time));
        self.dump(Some(timer.time.0), ctx);
        Ok(())
    }
}

type Operator = KeyedProcess<u8, (u8, Do), All, Dump>;

fn operator(context: &OperatorContext, ttl: Option<StateTtl>) -> (Operator, Seens<Dump>) {
    let (next, seen) = tape();
    let key = Arc::new(ByValue(|record: &(u8, Do)| record.0));
    let make = |states: &mut States| match ttl {
        None => All {
            value: states.value("value"),
            list: states.list("list"),
            map: states.map("map"),
        },
        Some(ttl) => All {
            value: states.with_ttl(ttl).value("value"),
            list: states.with_ttl(ttl).list("list"),
            map: states.with_ttl(ttl).map("map"),
        },
    };
    (KeyedProcess::new(context, key, make, next), seen)
}

fn records(seen: &Seens<Dump>) -> Vec<Dump> {
    let seen = seen.lock().unwrap().drain(..).collect::<Vec<_>>();
    seen.into_iter()
        .filter_map(|seen| match seen {
            Seen::Record(dump, _) => Some(dump),
            Seen::Watermark(_) | Seen::Idle(_) | Seen::End => None,
        })
        .collect()
}

fn what() -> impl Strategy<Value = Do> {
    let ms = || 0_i64..400;
    prop_oneof![
        Just(Do::Look),
        (0_u32..100).prop_map(Do::Set),
        (0_u32..100).prop_map(Do::Add),
        (0_u8..4, 0_u32..100).prop_map(|(at, n)| Do::Put(at, n)),
        (0_u8..4).prop_map(Do::Remove),
        Just(Do::ClearValue),
        Just(Do::ClearList),
        Just(Do::ClearMap),
        ms().prop_map(Do::Register),
        ms().prop_map(Do::Delete),
    ]
}

#[derive(Debug, Default)]
struct Model {
    value: Option<u32>,
    list: Vec<u32>,
    map: BTreeMap<u8, u32>,
    timers: BTreeSet<i64>,
}

impl Model {
    fn apply(&mut self, what: Do) {
        match what {
            Do::Look => {}
            Do::Set(n) => self.value = Some(n),
            Do::Add(n) => self.list.push(n),
            Do::Put(at, n) => drop(self.map.insert(at, n)),
            Do::Remove(at) => drop(self.map.remove(&at)),
            Do::ClearValue => self.value = None,
            Do::ClearList => self.list.clear(),
            Do::ClearMap => self.map.clear(),
            Do::Register(ms) => drop(self.timers.insert(ms)),
            Do::Delete(ms) => drop(self.timers.remove(&ms)),
        }
    }

    fn dump(&self, key: u8, timer: Option<i64>) -> Dump {
        let map = self.map.iter().map(|(at, n)| (*at, *n)).collect();
        Dump {
            key,
            timer,
            entries: (self.value, self.list.clone(), map),
        }
    }

    fn has_nothing(&self) -> bool {
        self.value.is_none()
            && self.list.is_empty()
            && self.map.is_empty()
            && self.timers.is_empty()
    }
}

proptest! {
    #[test]
    fn each_key_has_its_own_state_and_timers_and_leaves_nothing_behind(
        steps in prop::collection::vec((prop::collection::vec((0_u8..12, what()), 0..40), 1_i64..60), 0..20),
    ) {
        let (mut operator, seen) = operator(&context(0, 1), None);
        let mut model = BTreeMap::<u8, Model>::new();
        let mut now = -1;
        for (batch, advance) in steps {
            let mut expected = Vec::new();
            for (key, what) in &batch {
                let of = model.entry(*key).or_default();
                of.apply(*what);
                expected.push(of.dump(*key, None));
            }
            operator.push(&mut Batch::from(batch)).unwrap();
            prop_assert_eq!(records(&seen), expected);
            now += advance;
            operator.watermark(watermark(now)).unwrap();
            let mut fired = records(&seen);
            let times: Vec<_> = fired.iter().map(|dump| dump.timer).collect();
            prop_assert!(times.is_sorted(), "timers fire in order of time");
            let mut due = Vec::new();
            for (key, of) in &mut model {
                let later = of.timers.split_off(&(now + 1));
                let times = std::mem::replace(&mut of.timers, later);
                due.extend(times.iter().map(|time| of.dump(*key, Some(*time))));
            }
            let order = |dump: &Dump| (dump.timer, dump.key);
            fired.sort_by_key(order);
            due.sort_by_key(order);
            prop_assert_eq!(fired, due);
            model.retain(|_, of| !of.has_nothing());
            prop_assert_eq!(operator.runtime.store.all().len(), model.len(), "only keys with state or timers have slots");
        }
    }

    #[test]
    fn what_has_expired_is_not_seen_and_then_gone(
        steps in prop::collection::vec((prop::collection::vec((0_u8..5, what()), 0..20), 0_i64..8), 0..30),
        reading in any::<bool>(),
    ) {
        const LIFE: i64 = 10;
        let update = if reading { Update::OnReadAndWrite } else { Update::OnCreateAndWrite };
        let ttl = StateTtl::after(Duration::from_millis(LIFE as u64)).update(update);
        let clock = Arc::new(AtomicI64::new(0));
        let wall = Arc::clone(&clock);
        let mut context = context(0, 1);
        context.clock = Clock::new(|| MonoTime::ZERO, move || EventTime(wall.load(Ordering::Relaxed)));
        let (mut operator, seen) = operator(&context, Some(ttl));
        // Each with when its life began.
        let mut values = BTreeMap::<u8, (u32, i64)>::new();
        let mut lists = BTreeMap::<u8, Vec<(u32, i64)>>::new();
        let mut maps = BTreeMap::<(u8, u8), (u32, i64)>::new();
        let mut now = 0;
        for (batch, later) in steps {
            // Timers are no matter of this test.
            let batch: Vec<_> = batch.into_iter().filter(|(_, what)| !matches!(what, Do::Register(_) | Do::Delete(_))).collect();
            let mut expected = Vec::new();
            for &(key, what) in &batch {
                match what {
                    Do::Set(n) => drop(values.insert(key, (n, now))),
                    Do::Add(n) => lists.entry(key).or_default().push((n, now)),
                    Do::Put(at, n) => drop(maps.insert((key, at), (n, now))),
                    Do::Remove(at) => drop(maps.remove(&(key, at))),
                    Do::ClearValue => drop(values.remove(&key)),
                    Do::ClearList => drop(lists.remove(&key)),
                    Do::ClearMap => maps.retain(|(of, _), _| *of != key),
                    Do::Look | Do::Register(_) | Do::Delete(_) => {}
                }
                // Each record looks at all that its key has.
                let mut read = |(n, stamp): &mut (u32, i64)| {
                    let lives = *stamp + LIFE > now;
                    if lives && reading {
                        *stamp = now;
                    }
                    lives.then_some(*n)
                };
                let value = values.get_mut(&key).and_then(&mut read);
                let list = lists.entry(key).or_default().iter_mut().filter_map(&mut read).collect();
                let map = maps.iter_mut().filter(|((of, _), _)| *of == key);
                let map = map.filter_map(|((_, at), entry)| Some((*at, read(entry)?))).collect();
                expected.push(Dump { key, timer: None, entries: (value, list, map) });
            }
            operator.push(&mut Batch::from(batch)).unwrap();
            prop_assert_eq!(records(&seen), expected);
            now += later;
            clock.store(now, Ordering::Relaxed);
        }
        clock.store(now + LIFE, Ordering::Relaxed);
        // The sweep goes on with each batch, whatever is in it.
        for _ in 0..12 {
            operator.push(&mut Batch::from(vec![(99, Do::Look)])).unwrap();
        }
        prop_assert_eq!(operator.runtime.store.all(), [], "what has expired gives its memory back");
    }
}

#[test]
fn what_has_expired_can_be_seen_until_it_is_swept_if_that_is_wished() {
    let ttl = StateTtl::after(Duration::from_millis(10));
    let ttl = ttl.visibility(Visibility::ReturnExpiredIfNotCleanedUp);
    let clock = Arc::new(AtomicI64::new(0));
    let wall = Arc::clone(&clock);
    let mut context = context(0, 1);
    context.clock = Clock::new(
        || MonoTime::ZERO,
        move || EventTime(wall.load(Ordering::Relaxed)),
    );
    let (mut operator, seen) = operator(&context, Some(ttl));
    operator
        .push(&mut Batch::from(vec![(1, Do::Set(7))]))
        .unwrap();
    clock.store(10, Ordering::Relaxed);
    // The first batch sees it, and sweeps it when it is done.
    for value in [Some(7), None] {
        records(&seen);
        operator
            .push(&mut Batch::from(vec![(1, Do::Look)]))
            .unwrap();
        assert_eq!(records(&seen)[0].entries.0, value);
    }
}

#[test]
fn timers_of_processing_time_fire_by_the_clock_and_not_at_the_end_of_input() {
    let (next, seen) = tape::<i64>();
    struct Echo;
    impl KeyedProcessFunction<u8, i64, i64> for Echo {
        fn process(&mut self, ms: i64, ctx: &mut KeyedContext<'_, u8, i64>) -> FunctionResult {
            ctx.register_processing_time_timer(EventTime(ms));
            Ok(())
        }

        fn on_timer(
            &mut self,
            timer: Timer,
            ctx: &mut KeyedContext<'_, u8, i64>,
        ) -> FunctionResult {
            assert_eq!(timer.domain, TimeDomain::ProcessingTime);
            ctx.emit(timer.time.0);
            Ok(())
        }
    }
    let key = Arc::new(ByValue(|_: &i64| 0_u8));
    let mut operator = KeyedProcess::new(&context(0, 1), key, |_: &mut States| Echo, next);
    assert_eq!(operator.deadline(), None);
    operator
        .push(&mut Batch::from(vec![30, 10, 10, 20, 1000]))
        .unwrap();
    assert!(operator.deadline().unwrap() <= EventTime(10));
    operator.processing_time(EventTime(9)).unwrap();
    assert_eq!(operator.deadline(), Some(EventTime(10)));
    operator.processing_time(EventTime(25)).unwrap();
    assert_eq!(operator.deadline(), Some(EventTime(30)));
    operator.watermark(Watermark::MAX).unwrap();
    operator.end().unwrap();
    let end = [Seen::Watermark(i64::MAX), Seen::End];
    let fired = [Seen::Record(10, None), Seen::Record(20, None)];
    assert_eq!(*seen.lock().unwrap(), [&fired[..], &end[..]].concat());
}

#[test]
fn an_error_of_the_function_names_the_operator_and_the_causes() {
    let (next, _) = tape::<u64>();
    let key = Arc::new(ByValue(|n: &u64| *n));
    let make = |_: &mut States| {
        |n: u64, _: &mut KeyedContext<'_, u64, u64>| -> FunctionResult {
            Err(std::io::Error::other(format!("no {n}")).into())
        }
    };
    let mut operator = KeyedProcess::new(&context(0, 1), key, make, next);
    let cause = operator.push(&mut Batch::from(vec![7])).unwrap_err();
    assert_eq!(cause.into_cause().to_string(), "operator `operator` no 7");
}

struct Broken;

impl Control for Broken {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }
}

impl Collector<u64> for Broken {
    fn push(&mut self, _: &mut Batch<u64>) -> Result<(), TaskError> {
        Err(TaskError::Cancelled)
    }
}

#[test]
fn what_goes_wrong_downstream_while_the_function_emits_ends_the_task() {
    let key = Arc::new(ByValue(|n: &u64| *n));
    let make = |_: &mut States| {
        |_: u64, ctx: &mut KeyedContext<'_, u64, u64>| {
            (0..5000).for_each(|n| ctx.emit(n));
            Ok(())
        }
    };
    let mut operator = KeyedProcess::new(&context(0, 1), key, make, Box::new(Broken));
    let error = operator.push(&mut Batch::from(vec![7])).unwrap_err();
    assert!(matches!(error, TaskError::Cancelled), "{error}");
}

#[test]
#[should_panic(expected = "the state `count` is declared twice")]
fn two_states_of_one_name_are_refused() {
    let (next, _) = tape::<u64>();
    let make = |states: &mut States| {
        states.value::<u64>("count");
        states.list::<u64>("count");
        |_: u64, _: &mut KeyedContext<'_, u64, u64>| Ok(())
    };
    let key = Arc::new(ByValue(|n: &u64| *n));
    KeyedProcess::new(&context(0, 1), key, make, next);
}
