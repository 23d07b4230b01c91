//! What depends on order: late records, windows that fire again, triggers that count or compare, aggregates as they run, timers that are
//! set late or taken back.
//!
//! One subtask reads, and its watermarks stand between its records. Each key has one channel, which keeps their order, whatever the
//! parallelism: so all answers are determined, and the model goes through the elements one by one.

use std::collections::BTreeSet;

use proptest::prelude::*;
use spindle_stream::testing::{Finished, Harness, JobSnapshot, Kill};
use spindle_stream::{
    ContinuousEventTimeTrigger, CountTrigger, DataStream, DeltaTrigger, EventTime, FunctionResult,
    KeyedContext, KeyedProcessFunction, ListState, OutputTag, PurgingTrigger, States, Timer,
    Trigger, Watermark, WatermarkStrategy, WindowedStream,
};

use crate::build::{millis, windows_of};
use crate::job::{Assigner, Row, digest, gap_of, in_order};
use crate::paced::Paced;

/// A record, its event time, and how far event time has come after it.
type Element = (Row, i64, Option<i64>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Operator {
    Window {
        windows: Assigner,
        trigger: When,
        lateness: i64,
        side_output: bool,
    },
    /// All values up to now.
    Scan,
    /// A timer so much after each record; an odd value takes one back.
    Timers(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    End,
    Count(u64),
    PurgingCount(u64),
    /// When the value differs by more. Not for sessions: it cannot say what comes of two.
    Delta(i64),
    /// Not for sessions either, so that the model stays plain.
    Continuous(i64),
}

pub(crate) fn operator() -> impl Strategy<Value = Operator> {
    let aligned = prop_oneof![
        (1_i64..60, 0_i64..60).prop_map(|(size, offset)| Assigner::Tumbling { size, offset }),
        (1_i64..60, 1_i64..60, 0_i64..60).prop_map(|(size, slide, offset)| Assigner::Sliding {
            size,
            slide,
            offset
        }),
    ];
    let session = prop_oneof![
        (1_i64..30).prop_map(|gap| Assigner::Session { gap }),
        (1_i64..15).prop_map(|least| Assigner::SessionOf { least }),
    ];
    let counting = || {
        prop_oneof![
            2 => Just(When::End),
            1 => (1_u64..5).prop_map(When::Count),
            1 => (1_u64..5).prop_map(When::PurgingCount),
        ]
    };
    let other = prop_oneof![
        2 => counting(),
        1 => (0_i64..90).prop_map(When::Delta),
        1 => (1_i64..40).prop_map(When::Continuous),
    ];
    let windows = prop_oneof![(aligned, other), (session, counting())];
    let lateness = prop_oneof![Just(0_i64), 1_i64..60];
    prop_oneof![
        8 => (windows, lateness, any::<bool>()).prop_map(|((windows, trigger), lateness, side_output)| {
            Operator::Window { windows, trigger, lateness, side_output }
        }),
        1 => Just(Operator::Scan),
        2 => (0_i64..40).prop_map(Operator::Timers),
    ]
}

pub(crate) fn elements() -> impl Strategy<Value = Vec<Element>> {
    let element = (
        0_u8..4,
        0_i64..100,
        0_i64..200,
        prop::option::weighted(0.3, -20_i64..20),
    );
    prop::collection::vec(element, 0..60).prop_map(|elements| {
        let mut base = 0;
        let element = |(key, value, jitter, mark): (u8, i64, i64, Option<i64>)| {
            base += 3;
            let row = Row::new(format!("key {key}"), value);
            // Late by up to 100 and more, or early by as much.
            (row, base + jitter - 100, mark.map(|mark| base + mark))
        };
        elements.into_iter().map(element).collect()
    })
}

/// What comes out, what goes to the side, and how many are dropped.
pub(crate) type Answer = (Vec<Row>, Vec<Row>, u64);

pub(crate) fn run(operator: Operator, elements: Vec<Element>, parallelism: u32) -> Answer {
    answer(&built(operator, elements, parallelism).run().unwrap())
}

/// The same, killed and restored each time at the parallelism that stands with the kill. Those dropped before that are not counted.
pub(crate) fn run_killed(
    operator: Operator,
    elements: &[Element],
    kills: &[(Kill, u32)],
    parallelism: u32,
) -> Answer {
    let mut left = JobSnapshot::default();
    for (kill, parallelism) in kills {
        let harness = built(operator, elements.to_vec(), *parallelism);
        left = harness.run_until_killed(&left, kill).unwrap();
    }
    let harness = built(operator, elements.to_vec(), parallelism);
    answer(&harness.run_from(&left).unwrap())
}

fn built(operator: Operator, elements: Vec<Element>, parallelism: u32) -> Harness {
    let mut harness = Harness::new(parallelism);
    let strategy = WatermarkStrategy::per_record(|(_, _, mark): &Element, _| {
        mark.map(|mark| Watermark(EventTime(mark)))
    });
    let stream = harness
        .env()
        .source("Paced", Paced::new(elements))
        .set_parallelism(1)
        .assign_timestamps(strategy, |element| EventTime(element.1))
        .set_parallelism(1)
        .map(|(row, ..)| row)
        .set_parallelism(1);
    let keyed = stream.key_by_ref(|row| &row.key);
    match operator {
        Operator::Window {
            windows,
            trigger,
            lateness,
            side_output,
        } => {
            let late = OutputTag::<Row>::new("late");
            let mut windowed = keyed
                .window(windows_of(windows, |row: &Row| row.value))
                .allowed_lateness(millis(lateness));
            if side_output {
                windowed = windowed.side_output_late_data(&late);
            }
            let fired = match trigger {
                When::End => fired(&windowed),
                When::Count(n) => fired(&windowed.trigger(CountTrigger::of(n))),
                When::PurgingCount(n) => {
                    fired(&windowed.trigger(PurgingTrigger::of(CountTrigger::of(n))))
                }
                When::Delta(threshold) => {
                    let delta = |a: &Row, b: &Row| (a.value - b.value).abs() as f64;
                    fired(&windowed.trigger(DeltaTrigger::of(threshold as f64, delta)))
                }
                When::Continuous(every) => {
                    fired(&windowed.trigger(ContinuousEventTimeTrigger::of(millis(every))))
                }
            };
            if side_output {
                fired.side_output(&late).collect("late");
            }
            fired.collect("out");
        }
        Operator::Scan => {
            let scan = keyed.scan(Vec::new, |values: &mut Vec<i64>, row| {
                values.push(row.value);
                Row::new(row.key, in_order(values.iter().copied()))
            });
            scan.collect("out");
        }
        Operator::Timers(after) => {
            let made = keyed.process(move |states: &mut States| Waiting {
                after,
                values: states.list("values"),
            });
            made.collect("out");
        }
    }
    harness
}

fn answer(finished: &Finished) -> Answer {
    let mut out: Vec<Row> = finished.collected("out");
    let mut late: Vec<Row> = finished.collected("late");
    out.sort_unstable();
    late.sort_unstable();
    (out, late, finished.late_records_dropped())
}

fn fired<Tr: Trigger<Row>>(windowed: &WindowedStream<String, Row, Tr>) -> DataStream<Row> {
    windowed.process(|key, window, rows, out| {
        let values = rows.iter().map(|row| row.value);
        out.emit(told(key, (window.start.0, window.end.0), values));
    })
}

/// What a window says. In which order sessions that grow together hold their records is nobody's promise.
fn told(key: &str, (start, end): (i64, i64), values: impl IntoIterator<Item = i64>) -> Row {
    Row::new(key, in_order([start, end, digest(values)]))
}

/// Says at each timer what came since the one before.
struct Waiting {
    after: i64,
    values: ListState<i64>,
}

impl KeyedProcessFunction<String, Row, Row> for Waiting {
    fn process(&mut self, row: Row, ctx: &mut KeyedContext<'_, String, Row>) -> FunctionResult {
        let time = ctx.timestamp().ok_or("a record lost its event time")?.0;
        let due = EventTime((time + self.after).div_euclid(16) * 16);
        if row.value % 2 == 0 {
            ctx.register_event_time_timer(due);
        } else {
            ctx.delete_event_time_timer(due);
        }
        self.values.push(ctx, row.value);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, String, Row>,
    ) -> FunctionResult {
        let values = self.values.take(ctx);
        let key = ctx.key().clone();
        ctx.emit(Row::new(
            key,
            in_order([timer.time.0].into_iter().chain(values)),
        ));
        Ok(())
    }
}

pub(crate) fn model(operator: Operator, elements: &[Element]) -> Answer {
    let keys: BTreeSet<&String> = elements.iter().map(|(row, ..)| &row.key).collect();
    let mut answer = Answer::default();
    for key in keys {
        match operator {
            Operator::Window {
                windows,
                trigger,
                lateness,
                side_output,
            } => {
                let mut of_key = OfKey::new(key, windows, trigger, lateness);
                of_key.go_through(elements);
                answer.0.append(&mut of_key.out);
                if side_output {
                    answer.1.append(&mut of_key.late);
                } else {
                    answer.2 += of_key.late.len() as u64;
                }
            }
            Operator::Scan => {
                let mut values = Vec::new();
                for (row, ..) in elements.iter().filter(|(row, ..)| row.key == *key) {
                    values.push(row.value);
                    answer
                        .0
                        .push(Row::new(key.clone(), in_order(values.iter().copied())));
                }
            }
            Operator::Timers(after) => timers(key, after, elements, &mut answer.0),
        }
    }
    answer.0.sort_unstable();
    answer.1.sort_unstable();
    answer
}

fn timers(key: &str, after: i64, elements: &[Element], out: &mut Vec<Row>) {
    let (mut set, mut values) = (BTreeSet::new(), Vec::new());
    let mut fire = |set: &mut BTreeSet<i64>, values: &mut Vec<i64>, until: i64| {
        while let Some(at) = set.first().copied().filter(|at| *at <= until) {
            set.remove(&at);
            let told = [at].into_iter().chain(values.drain(..));
            out.push(Row::new(key, in_order(told)));
        }
    };
    let mut watermark = i64::MIN;
    for (row, time, mark) in elements {
        if row.key == key {
            let due = (time + after).div_euclid(16) * 16;
            if row.value % 2 == 0 {
                set.insert(due);
            } else {
                set.remove(&due);
            }
            values.push(row.value);
        }
        // A timer in the past waits for the next watermark.
        if let Some(mark) = mark.filter(|mark| *mark > watermark) {
            watermark = mark;
            fire(&mut set, &mut values, mark);
        }
    }
    fire(&mut set, &mut values, i64::MAX);
}

struct Open {
    start: i64,
    end: i64,
    values: Vec<i64>,
    count: u64,
    compared: Option<i64>,
    /// Timers of the trigger.
    timers: BTreeSet<i64>,
    /// When it fires continuously.
    next: Option<i64>,
}

struct OfKey {
    key: String,
    windows: Assigner,
    trigger: When,
    lateness: i64,
    watermark: i64,
    open: Vec<Open>,
    out: Vec<Row>,
    late: Vec<Row>,
}

impl OfKey {
    fn new(key: &str, windows: Assigner, trigger: When, lateness: i64) -> Self {
        Self {
            key: key.to_owned(),
            windows,
            trigger,
            lateness,
            watermark: i64::MIN,
            open: Vec::new(),
            out: Vec::new(),
            late: Vec::new(),
        }
    }

    fn go_through(&mut self, elements: &[Element]) {
        for (row, time, mark) in elements {
            if row.key == self.key {
                self.record(row, *time);
            }
            if let Some(mark) = mark.filter(|mark| *mark > self.watermark) {
                self.advance(mark);
            }
        }
        self.advance(i64::MAX);
    }

    /// The windows that a record would be in by itself.
    fn assigned(&self, row: &Row, time: i64) -> Vec<(i64, i64)> {
        let (size, slide, offset) = match self.windows {
            Assigner::Tumbling { size, offset } => (size, size, offset),
            Assigner::Sliding {
                size,
                slide,
                offset,
            } => (size, slide, offset),
            Assigner::Session { gap } => return vec![(time, time + gap)],
            Assigner::SessionOf { least } => return vec![(time, time + gap_of(least, row.value))],
        };
        let starts =
            (time - size + 1..=time).filter(|start| (start - offset).rem_euclid(slide) == 0);
        starts.map(|start| (start, start + size)).collect()
    }

    fn is_over(&self, end: i64) -> bool {
        end - 1 + self.lateness <= self.watermark
    }

    fn record(&mut self, row: &Row, time: i64) {
        let merging = matches!(
            self.windows,
            Assigner::Session { .. } | Assigner::SessionOf { .. }
        );
        let mut taken = false;
        for (start, end) in self.assigned(row, time) {
            let mut it = Open {
                start,
                end,
                values: Vec::new(),
                count: 0,
                compared: None,
                timers: BTreeSet::new(),
                next: None,
            };
            let belongs = |other: &Open| {
                if merging {
                    other.start <= end && start <= other.end
                } else {
                    (other.start, other.end) == (start, end)
                }
            };
            let (found, others) = self.open.drain(..).partition::<Vec<_>, _>(belongs);
            self.open = others;
            if merging {
                for other in &found {
                    it.start = it.start.min(other.start);
                    it.end = it.end.max(other.end);
                }
            }
            if self.is_over(it.end) {
                self.open.extend(found);
                continue;
            }
            taken = true;
            if merging {
                for other in found {
                    it.values.extend(other.values);
                    it.count += other.count;
                }
            } else if let Some(same) = found.into_iter().next() {
                it = same;
            }
            it.values.push(row.value);
            self.element(&mut it, row.value, time);
            self.open.push(it);
        }
        // A record in no window at all is late only if it is so by itself.
        if !taken && time + self.lateness <= self.watermark {
            self.late.push(row.clone());
        }
    }

    fn element(&mut self, it: &mut Open, value: i64, time: i64) {
        let ended = it.end - 1 <= self.watermark;
        match self.trigger {
            When::End if ended => self.fire(it),
            When::End => drop(it.timers.insert(it.end - 1)),
            When::Count(n) | When::PurgingCount(n) => {
                it.count += 1;
                if it.count >= n {
                    it.count = 0;
                    self.fire(it);
                    if self.trigger == When::PurgingCount(n) {
                        it.values.clear();
                    }
                }
            }
            When::Delta(threshold) => match it.compared {
                None => it.compared = Some(value),
                Some(other) if (other - value).abs() > threshold => {
                    it.compared = Some(value);
                    self.fire(it);
                }
                Some(_) => {}
            },
            When::Continuous(_) if ended => self.fire(it),
            When::Continuous(every) => {
                it.timers.insert(it.end - 1);
                if it.next.is_none() {
                    let next = (time.div_euclid(every) * every + every).min(it.end - 1);
                    it.next = Some(next);
                    it.timers.insert(next);
                }
            }
        }
    }

    fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
        for mut it in std::mem::take(&mut self.open) {
            while let Some(at) = it.timers.first().copied().filter(|at| *at <= watermark) {
                it.timers.remove(&at);
                self.fire(&it);
                if let When::Continuous(every) = self.trigger
                    && at < it.end - 1
                {
                    let next = (at + every).min(it.end - 1);
                    it.next = Some(next);
                    it.timers.insert(next);
                }
            }
            if watermark != i64::MAX && !self.is_over(it.end) {
                self.open.push(it);
            }
        }
    }

    fn fire(&mut self, it: &Open) {
        // What was purged has nothing to say.
        if !it.values.is_empty() {
            let values = it.values.iter().copied();
            self.out.push(told(&self.key, (it.start, it.end), values));
        }
    }
}
