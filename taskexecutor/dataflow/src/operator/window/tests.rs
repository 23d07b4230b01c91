//! Stories (what goes in, and below it what comes out), and naive models.

mod aligned;
mod models;
mod sessions;
mod triggers;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use spindle_common::time::{EventTime, MonoTime, Watermark};

use super::*;
use crate::batch::Batch;
use crate::chain::Clock;
use crate::collector::SideOutputs;
use crate::key::ByValue;
use crate::operator::aggregate::Count;
use crate::operator::tests::{Seen, Seens, context, tape};
use crate::task::TaskError;

/// A key and a value.
type Reading = (u32, i32);

/// Key, start, end, count.
type Counted = (u32, i64, i64, u64);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: i64) -> Watermark {
    Watermark(EventTime(ms))
}

/// An operator under test.
struct Rig<O> {
    operator: Box<dyn Collector<Reading>>,
    out: Seens<O>,
    late: Seens<Reading>,
    wall_ms: Arc<AtomicI64>,
    context: OperatorContext,
}

/// How the operator under test is made.
struct Setup<Tr> {
    windows: Windows<Reading>,
    trigger: Tr,
    lateness_ms: i64,
    late: bool,
}

impl Setup<EndOfWindow> {
    fn of(windows: impl Into<Windows<Reading>>) -> Self {
        let windows = windows.into();
        Self {
            trigger: EndOfWindow::of(&windows),
            windows,
            lateness_ms: 0,
            late: false,
        }
    }
}

impl<Tr: Trigger<Reading>> Setup<Tr> {
    fn trigger<Other>(self, trigger: Other) -> Setup<Other> {
        Setup {
            windows: self.windows,
            trigger,
            lateness_ms: self.lateness_ms,
            late: self.late,
        }
    }

    fn lateness(self, lateness_ms: i64) -> Self {
        Self {
            lateness_ms,
            ..self
        }
    }

    fn late(self) -> Self {
        Self { late: true, ..self }
    }

    fn rig<A, W, O>(self, function: A, output: W) -> Rig<O>
    where
        A: AggregateFunction<Reading>,
        W: WindowFunction<u32, Reading, A, O>,
        O: 'static,
    {
        let mut context = context(0, 1);
        let wall_ms = Arc::new(AtomicI64::new(0));
        let wall = Arc::clone(&wall_ms);
        context.clock = Clock::new(
            || MonoTime::ZERO,
            move || EventTime(wall.load(Ordering::Relaxed)),
        );
        let (late_next, late) = tape();
        if self.late {
            let mut sides = SideOutputs::default();
            sides.add::<Reading>(Arc::from("late"), late_next);
            context.sides = sides;
        }
        let (next, out) = tape();
        let spec = WindowSpec {
            selector: Arc::new(ByValue(|(key, _): &Reading| *key)),
            windows: self.windows,
            lateness_ms: self.lateness_ms,
            late: self.late.then(|| Arc::from("late")),
        };
        let operator = window_operator(
            &context,
            &spec,
            Arc::new(function),
            Arc::new(output),
            Arc::new(self.trigger),
            next,
        );
        Rig {
            operator,
            out,
            late,
            wall_ms,
            context,
        }
    }

    fn counting(self) -> Rig<Counted> {
        let output =
            |key: &u32, window: TimeWindow, count: u64| (*key, window.start.0, window.end.0, count);
        self.rig(Count, Results(output))
    }

    /// Plays a story: commands, and below each the lines with what comes out.
    fn tells(self, story: &str) {
        self.counting().tells(story);
    }
}

impl<O> Rig<O> {
    fn push(&mut self, records: &[(Reading, i64)]) {
        let mut batch = Batch {
            records: records.iter().map(|(record, _)| *record).collect(),
            timestamps: records.iter().map(|(_, time)| EventTime(*time)).collect(),
        };
        self.operator.push(&mut batch).unwrap();
    }

    /// What came since the last call, with event times and without watermarks.
    fn records(&self) -> Vec<(O, i64)> {
        let seen = self.out.lock().unwrap().drain(..).collect::<Vec<_>>();
        seen.into_iter()
            .filter_map(|seen| match seen {
                Seen::Record(record, time) => Some((record, time.unwrap())),
                Seen::Watermark(_) | Seen::Idle(_) | Seen::End => None,
            })
            .collect()
    }

    fn dropped(&self) -> u64 {
        self.context.metrics.snapshot().late_records_dropped
    }
}

fn range(start: i64, end: i64) -> String {
    if end == i64::MAX {
        "global".to_owned()
    } else {
        format!("{start}..{end}")
    }
}

impl Rig<Counted> {
    fn tells(mut self, story: &str) {
        let mut told = Vec::new();
        for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.starts_with("->") {
                continue;
            }
            told.push(line.to_owned());
            self.command(line);
            for ((key, start, end, count), time) in self.records() {
                assert_eq!(time, if end == i64::MAX { end } else { end - 1 });
                told.push(format!("-> {key}: {count} in {}", range(start, end)));
            }
            for late in self.late.lock().unwrap().drain(..) {
                if let Seen::Record((key, _), time) = late {
                    told.push(format!("-> late {key}@{}", time.unwrap()));
                }
            }
        }
        let expected: Vec<_> = story
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(told, expected, "it went like this:\n{}\n", told.join("\n"));
    }

    /// `push KEY[:VALUE][@TIME]...`, `watermark TIME`, `clock TIME`, `end`.
    fn command(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next().unwrap() {
            "push" => {
                let mut batch = Batch::new();
                for word in words {
                    let (record, time) =
                        word.split_once('@').map_or((word, None), |(record, time)| {
                            (record, Some(EventTime(time.parse().unwrap())))
                        });
                    let (key, value) = record.split_once(':').unwrap_or((record, "0"));
                    batch.push((key.parse().unwrap(), value.parse().unwrap()), time);
                }
                self.operator.push(&mut batch).unwrap();
            }
            "watermark" => {
                let time = words.next().unwrap();
                let time = time.parse().unwrap_or(i64::MAX);
                self.operator.watermark(at(time)).unwrap();
            }
            // The task calls an operator only at its deadline.
            "clock" => {
                let now: i64 = words.next().unwrap().parse().unwrap();
                self.wall_ms.store(now, Ordering::Relaxed);
                if self.operator.deadline().is_some_and(|due| due.0 <= now) {
                    self.operator.processing_time(EventTime(now)).unwrap();
                }
                let due = self.operator.deadline();
                assert!(
                    due.is_none_or(|due| due.0 > now),
                    "{due:?} is over at {now}"
                );
            }
            "end" => self.operator.end().unwrap(),
            other => panic!("no command: {other}"),
        }
    }
}

#[test]
fn a_record_of_a_key_group_that_another_subtask_owns_is_an_error() {
    for windows in [
        Windows::from(TumblingWindows::of(ms(10))),
        SessionWindows::with_gap(ms(10)).into(),
    ] {
        let (next, _) = tape::<Counted>();
        let spec = WindowSpec {
            selector: Arc::new(ByValue(|(key, _): &Reading| *key)),
            windows,
            lateness_ms: 0,
            late: None,
        };
        let mut operator = window_operator(
            &context(0, 128),
            &spec,
            Arc::new(Count),
            Arc::new(Results(|key: &u32, _, count| (*key, 0, 0, count))),
            Arc::new(EndOfWindow::Event),
            next,
        );
        let mut all = Batch::new();
        for key in 0..1000 {
            all.push((key, 0), Some(EventTime(0)));
        }
        let error = operator.push(&mut all).unwrap_err().into_cause();
        assert_eq!(error.operator.as_deref(), Some("operator"));
        assert!(error.message.contains("another subtask owns"), "{error}");
    }
}

#[test]
fn records_without_event_time_are_refused_by_windows_of_it() {
    for windows in [
        Windows::from(TumblingWindows::of(ms(10))),
        SessionWindows::with_gap(ms(10)).into(),
    ] {
        let mut rig = Setup::of(windows).counting();
        let mut batch = Batch::from(vec![(1, 1)]);
        let error = rig.operator.push(&mut batch).unwrap_err();
        assert!(matches!(error, TaskError::Operator { .. }));
        let said = error.to_string();
        assert!(said.contains("assign_timestamps"), "{said}");
    }
}
