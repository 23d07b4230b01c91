use std::collections::BTreeMap;

use proptest::prelude::*;
use spindle_common::checkpoint::{BarrierAlignment, CheckpointId, SnapshotKind};
use spindle_common::key_group::{key_group, key_hash, subtask_of};
use spindle_common::time::{EventTime, Watermark};

use super::*;
use crate::batch::Batch;
use crate::collector::Collector;
use crate::key::ByValue;
use crate::operator::tests::{Seen, context, tape};
use crate::operator::{
    Count, EndOfWindow, FunctionResult, KeyedContext, KeyedProcess, KeyedProcessFunction, Results,
    RunningAggregate, Scan, SessionWindows, SlidingWindows, ToList, WindowSpec, Windows,
    window_operator,
};
use crate::state::store::{MemoryStores, StateStores};
use crate::state::{ListState, MapState, States, ValueState};
use crate::timer::Timer;

fn barrier(id: u64) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: 0,
        kind: SnapshotKind::Checkpoint,
        directory: Arc::from("file:///chk"),
        alignment: BarrierAlignment::Aligned,
    }
}

/// The bytes of all chunks.
fn written(snapshot: Snapshot) -> SubtaskSnapshot<Vec<u8>> {
    let state = snapshot.into_state();
    state.map(|content| content.into_bytes().unwrap())
}

/// Remembers of each key all it can, and tells it by timers.
struct Everything {
    last: ValueState<u64>,
    all: ListState<u64>,
    counts: MapState<u64, u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Everything {
    fn process(&mut self, n: u64, ctx: &mut KeyedContext<'_, u64, String>) -> FunctionResult {
        self.last.set(ctx, n);
        self.all.push(ctx, n);
        *self.counts.get_or_insert_with(ctx, n % 3, || 0) += 1;
        let time = ctx.timestamp().expect("records have event times");
        ctx.register_event_time_timer(EventTime(time.0 + (n % 7) as i64 * 10));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u64, String>,
    ) -> FunctionResult {
        let counts: Vec<_> = self
            .counts
            .iter(ctx)
            .map(|(n, count)| (*n, *count))
            .collect();
        let all: Vec<_> = self.all.iter(ctx).copied().collect();
        let line = format!(
            "{} at {}: last {:?}, all {all:?}, counts {counts:?}",
            ctx.key(),
            timer.time.as_millis(),
            self.last.get(ctx),
        );
        ctx.emit(line);
        if all.len() > 5 {
            self.all.clear(ctx);
        }
        Ok(())
    }
}

type Made<O> = (Box<dyn Collector<u64>>, Arc<std::sync::Mutex<Vec<Seen<O>>>>);

type Remainder = ByValue<fn(&u64) -> u64>;

fn selector() -> Arc<Remainder> {
    Arc::new(ByValue(|n| n % 13))
}

/// Where state is kept: in memory, or in a store behind so many bytes of memory.
type Kept = Option<usize>;
fn keeping(kept: Kept, subtask: u32, parallelism: u32) -> OperatorContext {
    OperatorContext {
        stores: kept.map(|bytes| Arc::new(MemoryStores::new(bytes)) as Arc<dyn StateStores>),
        ..context(subtask, parallelism)
    }
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![Just(None), Just(Some(0)), (100_usize..3000).prop_map(Some)]
}

fn processing(kept: Kept) -> impl Fn(u32, u32) -> Made<String> {
    move |subtask, parallelism| {
        let (next, seen) = tape();
        let make = |states: &mut States| Everything {
            last: states.value("last"),
            all: states.list("all"),
            counts: states.map("counts"),
        };
        let context = keeping(kept, subtask, parallelism);
        let operator = KeyedProcess::new(&context, selector(), make, next);
        (Box::new(operator), seen)
    }
}

fn scanning(kept: Kept) -> impl Fn(u32, u32) -> Made<String> {
    move |subtask, parallelism| {
        let (next, seen) = tape();
        let add = |sum: &mut u64, n: u64| {
            *sum += n;
            format!("{n}: {sum}")
        };
        let operator = Scan::new(
            &keeping(kept, subtask, parallelism),
            selector(),
            Arc::new(|| 0_u64),
            Arc::new(add),
            next,
        );
        (Box::new(operator), seen)
    }
}

fn counting(kept: Kept) -> impl Fn(u32, u32) -> Made<u64> {
    move |subtask, parallelism| {
        let (next, seen) = tape();
        let operator = RunningAggregate::new(
            &keeping(kept, subtask, parallelism),
            selector(),
            Arc::new(Count),
            next,
        );
        (Box::new(operator), seen)
    }
}

fn windowing(windows: Windows<u64>, lateness_ms: i64) -> impl Fn(u32, u32) -> Made<Vec<u64>> {
    windowing_by(false, windows, lateness_ms)
}

fn windowing_by(
    on_clock: bool,
    windows: Windows<u64>,
    lateness_ms: i64,
) -> impl Fn(u32, u32) -> Made<Vec<u64>> {
    move |subtask, parallelism| {
        let (next, seen) = tape();
        let spec = WindowSpec {
            selector: selector(),
            windows: windows.clone(),
            lateness_ms,
            late: None,
        };
        let operator = window_operator(
            &context(subtask, parallelism),
            &spec,
            Arc::new(ToList),
            Arc::new(Results(|_: &u64, _, all| all)),
            Arc::new(if on_clock {
                EndOfWindow::Processing
            } else {
                EndOfWindow::Event
            }),
            next,
        );
        (operator, seen)
    }
}

/// Some steps of an input: a batch, then a watermark.
#[derive(Debug, Clone)]
struct Step {
    records: Vec<(u64, i64)>,
    advance: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0_u64..100, 0_i64..60);
    let step = (prop::collection::vec(record, 0..12), 0_i64..40)
        .prop_map(|(records, advance)| Step { records, advance });
    prop::collection::vec(step, 1..20)
}

/// The same operator in several subtasks, each with its keys.
struct Subtasks<O> {
    made: Vec<Made<O>>,
    now: i64,
}

impl<O: Clone + Ord> Subtasks<O> {
    fn new(make: &impl Fn(u32, u32) -> Made<O>, parallelism: u32, now: i64) -> Self {
        let made = (0..parallelism).map(|subtask| make(subtask, parallelism));
        let mut made = Self {
            made: made.collect(),
            now,
        };
        made.restore(&[]);
        made
    }

    fn run(&mut self, steps: &[Step]) {
        let parallelism = self.made.len() as u32;
        for step in steps {
            for (subtask, (operator, _)) in (0..).zip(&mut self.made) {
                let mut batch = Batch::new();
                for &(n, behind) in &step.records {
                    let group = key_group(key_hash(&(n % 13)), 128);
                    if subtask_of(group, parallelism, 128) == subtask {
                        batch.push(n, Some(EventTime(self.now + behind)));
                    }
                }
                operator.push(&mut batch).unwrap();
                operator
                    .watermark(Watermark(EventTime(self.now + step.advance)))
                    .unwrap();
            }
            self.now += step.advance;
        }
    }

    fn end(&mut self) {
        for (operator, _) in &mut self.made {
            operator.watermark(Watermark::MAX).unwrap();
            operator.end().unwrap();
        }
    }

    /// What came out, in any order: keys of one time may change places.
    fn out(&self) -> Vec<O> {
        let mut all = Vec::new();
        for (_, seen) in &self.made {
            for seen in &*seen.lock().unwrap() {
                if let Seen::Record(record, _) = seen {
                    all.push(record.clone());
                }
            }
        }
        all.sort();
        all
    }

    /// What all subtasks write, as the JobManager puts it together.
    fn snapshot(&mut self) -> Vec<SubtaskSnapshot<Vec<u8>>> {
        let shared = self.share();
        shared.into_iter().map(written).collect()
    }

    /// What all subtasks give at a barrier.
    fn share(&mut self) -> Vec<Snapshot> {
        let each = self.made.iter_mut().map(|(operator, _)| {
            let mut snapshot = Snapshot::new(barrier(1));
            operator.snapshot(&mut snapshot).unwrap();
            snapshot
        });
        each.collect()
    }

    fn restore(&mut self, from: &[SubtaskSnapshot<Vec<u8>>]) {
        let mut states: BTreeMap<String, BTreeMap<String, StateSnapshot<Vec<u8>>>> =
            BTreeMap::new();
        for operator in from.iter().flat_map(|of| &of.operators) {
            for state in &operator.states {
                states
                    .entry(operator.uid.clone())
                    .or_default()
                    .entry(state.name.clone())
                    .and_modify(|all| all.chunks.extend(state.chunks.iter().cloned()))
                    .or_insert_with(|| state.clone());
            }
        }
        let operators = states.into_iter().map(|(uid, states)| OperatorSnapshot {
            uid,
            states: states.into_values().collect(),
        });
        let all = SubtaskSnapshot {
            operators: operators.collect(),
            finished: false,
        };
        let restored = Restored::new(all);
        for (operator, _) in &mut self.made {
            operator.restore(&restored).unwrap();
        }
    }
}

fn survives<O: Clone + Ord + std::fmt::Debug>(
    make: impl Fn(u32, u32) -> Made<O>,
    steps: &[Step],
    cut: usize,
    parallelism: (u32, u32),
) -> Result<(), TestCaseError> {
    survives_elsewhere(&make, &make, &make, steps, cut, parallelism)
}

/// Before the barrier and restored it makes what an undisturbed one makes of all.
fn survives_elsewhere<O: Clone + Ord + std::fmt::Debug>(
    model: impl Fn(u32, u32) -> Made<O>,
    make: impl Fn(u32, u32) -> Made<O>,
    elsewhere: impl Fn(u32, u32) -> Made<O>,
    steps: &[Step],
    cut: usize,
    parallelism: (u32, u32),
) -> Result<(), TestCaseError> {
    let mut undisturbed = Subtasks::new(&model, 1, 0);
    undisturbed.run(steps);
    undisturbed.end();

    let (before, after) = steps.split_at(cut.min(steps.len()));
    let mut first = Subtasks::new(&make, parallelism.0, 0);
    first.run(before);
    let (shared, barrier_at) = (first.share(), first.now);
    let mut out = first.out();
    // What goes on before it is written does not change it.
    first.run(after);
    first.end();
    let snapshot: Vec<_> = shared.into_iter().map(written).collect();
    let mut second = Subtasks::new(&elsewhere, parallelism.1, barrier_at);
    second.restore(&snapshot);
    // Nothing is lost on the way, and nothing is there twice.
    let again = second.snapshot();
    second.run(after);
    second.end();
    out.extend(second.out());
    out.sort();
    prop_assert_eq!(out, undisturbed.out());
    let entries = |all: &[SubtaskSnapshot<Vec<u8>>]| -> u64 {
        let states = all
            .iter()
            .flat_map(|of| &of.operators)
            .flat_map(|of| &of.states);
        let keyed = states.filter(|state| state.distribution == Distribution::KeyGroup);
        keyed
            .flat_map(|state| &state.chunks)
            .map(|chunk| chunk.entries)
            .sum()
    };
    prop_assert_eq!(entries(&again), entries(&snapshot));
    Ok(())
}

fn sliding() -> Windows<u64> {
    SlidingWindows::of(
        std::time::Duration::from_millis(50),
        std::time::Duration::from_millis(20),
    )
    .into()
}

fn sessions() -> Windows<u64> {
    SessionWindows::with_gap(std::time::Duration::from_millis(15)).into()
}

proptest! {
    #[test]
    fn restored_functions_go_on_with_all_their_states_and_timers(
        steps in steps(), cut in 0_usize..20, before in 1_u32..4, after in 1_u32..4, from in kept(), to in kept(),
    ) {
        survives_elsewhere(processing(None), processing(from), processing(to), &steps, cut, (before, after))?;
    }

    #[test]
    fn restored_running_values_go_on(
        steps in steps(), cut in 0_usize..20, before in 1_u32..4, after in 1_u32..4, from in kept(), to in kept(),
    ) {
        survives_elsewhere(scanning(None), scanning(from), scanning(to), &steps, cut, (before, after))?;
        survives_elsewhere(counting(None), counting(from), counting(to), &steps, cut, (before, after))?;
    }

    #[test]
    fn restored_windows_go_on(
        steps in steps(), cut in 0_usize..20, before in 1_u32..4, after in 1_u32..4, lateness in prop_oneof![Just(0), Just(25)],
    ) {
        survives(windowing(sliding(), lateness), &steps, cut, (before, after))?;
        survives(windowing(sessions(), lateness), &steps, cut, (before, after))?;
    }
}

/// Subtasks look at their clocks at different instants: what one has said already is not said again when they become one.
#[test]
fn windows_of_processing_time_that_have_fired_do_not_fire_again_at_another_parallelism() {
    let (size, slide) = (
        std::time::Duration::from_millis(4),
        std::time::Duration::from_millis(1),
    );
    let make = windowing_by(
        true,
        SlidingWindows::of(size, slide).on_processing_time().into(),
        0,
    );
    let mut first = Subtasks::new(&make, 2, 0);
    let records: Vec<_> = (0..13).map(|n| (n, 0)).collect();
    first.run(&[Step {
        records,
        advance: 0,
    }]);
    // Of the four windows that have each record, three are over for one subtask, and none for the other.
    first.made[0].0.processing_time(EventTime(3)).unwrap();
    let snapshot = first.snapshot();
    let mut out = first.out();
    let mut second = Subtasks::new(&make, 1, 0);
    second.restore(&snapshot);
    second.end();
    out.extend(second.out());
    for n in 0..13 {
        assert_eq!(
            out.iter().filter(|all| all.contains(&n)).count(),
            4,
            "{n}: {out:?}"
        );
    }
}

#[test]
fn state_of_another_type_is_refused_by_name() {
    let (mut operator, _) = counting(None)(0, 1);
    operator.push(&mut Batch::from(vec![1, 2, 3])).unwrap();
    let mut snapshot = Snapshot::new(barrier(1));
    operator.snapshot(&mut snapshot).unwrap();
    let mut state = written(snapshot);
    state.operators[0].states[0].schema = schema("value by key", &["u64", "f64"]);
    let (mut other, _) = counting(None)(0, 1);
    let error = other
        .restore(&Restored::new(state))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "cannot restore state `values` of operator `uid`: the snapshot has value by key<u64, f64> there, and the program \
         value by key<u64, u64>: give the new state another name, or restore with the program that wrote it"
    );
}

#[test]
fn bytes_that_end_early_are_refused() {
    let (mut operator, _) = counting(None)(0, 1);
    operator.push(&mut Batch::from(vec![1, 2, 3])).unwrap();
    let mut snapshot = Snapshot::new(barrier(1));
    operator.snapshot(&mut snapshot).unwrap();
    let whole = written(snapshot);
    let length = whole.operators[0].states[0].chunks[0].content.len();
    for cut in 0..length {
        let mut state = whole.clone();
        state.operators[0].states[0].chunks[0].content.truncate(cut);
        let (mut other, _) = counting(None)(0, 1);
        let error = other
            .restore(&Restored::new(state))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`values`") && error.contains("key group"),
            "{error}"
        );
    }
}

#[test]
fn lists_are_dealt_out_when_the_parallelism_changes_and_kept_when_not() {
    let owner = |subtask, parallelism| StateOwner::of(&context(subtask, parallelism));
    let mut all = SubtaskSnapshot::default();
    let mut chunks = Vec::new();
    for subtask in 0..3 {
        let mut snapshot = Snapshot::new(barrier(1));
        let mine = (0..=subtask).map(|n| Ok(vec![subtask as u8, n as u8]));
        snapshot
            .list(
                &owner(subtask, 3),
                "splits",
                Distribution::Split,
                "x".to_owned(),
                mine,
            )
            .unwrap();
        all = written(snapshot);
        chunks.append(&mut all.operators[0].states[0].chunks);
    }
    all.operators[0].states[0].chunks = chunks;
    let restored = Restored::new(all);
    let list = |subtask, parallelism| {
        let list = restored.list(
            &owner(subtask, parallelism),
            "splits",
            Distribution::Split,
            "x",
        );
        list.unwrap().unwrap()
    };
    assert_eq!(list(1, 3), [[1, 0], [1, 1]]);
    let dealt: Vec<_> = (0..2).map(|subtask| list(subtask, 2)).collect();
    assert_eq!(dealt[0], [[0, 0], [1, 1], [2, 1]]);
    assert_eq!(dealt[1], [[1, 0], [2, 0], [2, 2]]);
}

#[test]
fn a_subtask_in_the_place_of_others_has_come_in_each_thing_as_far_as_all_had() {
    type Come = (Watermark, i64);
    let had: [Come; 2] = [
        (Watermark(EventTime(5)), 120),
        (Watermark(EventTime(10)), 100),
    ];
    let mut all = SubtaskSnapshot::default();
    for (subtask, come) in (0..).zip(&had) {
        let mut snapshot = Snapshot::new(barrier(1));
        let owner = StateOwner::of(&context(subtask, 2));
        snapshot.progress(&owner, "come", come).unwrap();
        let mut one = written(snapshot);
        if subtask == 0 {
            all = one;
        } else {
            let chunks = one.operators[0].states[0].chunks.drain(..);
            all.operators[0].states[0].chunks.extend(chunks);
        }
    }
    let restored = Restored::new(all);
    let come = |subtask, parallelism| {
        let owner = StateOwner::of(&context(subtask, parallelism));
        restored.progress::<Come>(&owner, "come").unwrap().unwrap()
    };
    assert_eq!([come(0, 2), come(1, 2)], had);
    assert_eq!(come(0, 1), (Watermark(EventTime(5)), 100));
}
