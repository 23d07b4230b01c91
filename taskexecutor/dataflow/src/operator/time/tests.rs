use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use spindle_common::time::MonoTime;

use super::*;
use crate::operator::tests::{Seen, Seens, context, tape};

/// An operator under test, and the time of day.
struct Rig {
    operator: Box<dyn Collector<i64>>,
    seen: Seens<i64>,
    wall_ms: Arc<AtomicI64>,
}

fn rig(strategy: &WatermarkStrategy<i64>) -> Rig {
    let mut context = context(0, 1);
    let wall_ms = Arc::new(AtomicI64::new(0));
    let wall = Arc::clone(&wall_ms);
    context.clock = Clock::new(
        || MonoTime::ZERO,
        move || EventTime(wall.load(Ordering::Relaxed)),
    );
    let (next, seen) = tape();
    let timestamp_of = Arc::new(|ms: &i64| EventTime(*ms));
    let operator = AssignTimestamps::new(&context, strategy, timestamp_of, next);
    Rig {
        operator: Box::new(operator),
        seen,
        wall_ms,
    }
}

impl Rig {
    fn push(&mut self, records: &[i64]) {
        let mut batch = Batch::from(records.to_vec());
        self.operator.push(&mut batch).unwrap();
    }

    /// The time of day; the operator is called if it wants to be.
    fn clock(&mut self, now: i64) {
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

    fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap().drain(..).collect::<Vec<_>>();
        seen.into_iter()
            .map(|seen| match seen {
                Seen::Record(record, time) => {
                    assert_eq!(time, Some(record));
                    record.to_string()
                }
                Seen::Watermark(time) => format!("watermark {time}"),
                Seen::Idle(idle) => format!("idle {idle}"),
                Seen::End => "end".to_owned(),
            })
            .collect()
    }
}

#[test]
fn watermarks_follow_the_latest_event_time_by_the_bound() {
    let mut rig = rig(&WatermarkStrategy::bounded_out_of_orderness(
        Duration::from_millis(5),
    ));
    rig.push(&[100, 20]);
    rig.push(&[50]);
    // What comes from upstream knows another time; only the end is the end.
    rig.operator.watermark(Watermark(EventTime(1000))).unwrap();
    rig.push(&[101]);
    rig.operator.watermark(Watermark::MAX).unwrap();
    let last = format!("watermark {}", i64::MAX);
    assert_eq!(
        rig.seen(),
        [
            "100",
            "20",
            "watermark 94",
            "50",
            "101",
            "watermark 95",
            &last
        ]
    );
    assert_eq!(rig.operator.deadline(), None);
}

#[test]
fn a_record_may_say_how_far_time_has_come_and_what_follows_it_comes_after_that() {
    let mark = |ms: &i64, _| (ms % 10 == 0).then_some(Watermark(EventTime(*ms)));
    let mut rig = rig(&WatermarkStrategy::per_record(mark));
    rig.push(&[3, 10, 7, 20, 10, 15]);
    rig.push(&[30]);
    rig.push(&[20]);
    assert_eq!(
        rig.seen(),
        [
            "3",
            "10",
            "watermark 10",
            "7",
            "20",
            "watermark 20",
            "10",
            "15",
            "30",
            "watermark 30",
            "20"
        ]
    );
}

/// Tells the largest of what it saw, when it is asked.
struct Largest(i64);

impl WatermarkGenerator<i64> for Largest {
    fn on_event(&mut self, record: &i64, _: EventTime) -> Option<Watermark> {
        self.0 = self.0.max(*record);
        None
    }

    fn on_periodic(&mut self, _: EventTime) -> Option<Watermark> {
        Some(Watermark(EventTime(self.0)))
    }
}

#[test]
fn a_generator_is_asked_each_interval_and_its_watermarks_do_not_go_back() {
    let strategy = WatermarkStrategy::custom(|| Largest(i64::MIN));
    let mut rig = rig(&strategy.with_interval(Duration::from_millis(50)));
    rig.push(&[7, 3]);
    rig.clock(49);
    assert_eq!(rig.seen(), ["7", "3"]);
    rig.clock(50);
    assert_eq!(rig.seen(), ["watermark 7"]);
    rig.clock(100);
    rig.push(&[5, 9]);
    rig.clock(220);
    assert_eq!(rig.seen(), ["5", "9", "watermark 9"]);
    rig.clock(269);
    rig.operator.end().unwrap();
    assert_eq!(rig.operator.deadline(), None);
}

#[test]
fn who_gets_nothing_for_the_time_out_is_idle_until_a_record_comes() {
    let strategy = WatermarkStrategy::monotonous().with_idleness(Duration::from_millis(100));
    let mut rig = rig(&strategy);
    rig.clock(99);
    rig.push(&[10]);
    rig.clock(198);
    assert_eq!(rig.seen(), ["10", "watermark 9"]);
    rig.clock(199);
    rig.clock(1000);
    assert_eq!(rig.seen(), ["idle true"]);
    rig.push(&[11]);
    assert_eq!(rig.seen(), ["idle false", "11", "watermark 10"]);
    rig.clock(1100);
    assert_eq!(rig.seen(), ["idle true"]);
    // The end is told by one that is not idle.
    rig.operator.watermark(Watermark::MAX).unwrap();
    let last = format!("watermark {}", i64::MAX);
    assert_eq!(rig.seen(), ["idle false", &last]);
}

#[test]
fn an_idle_upstream_is_told_once() {
    let strategy = WatermarkStrategy::monotonous().with_idleness(Duration::from_millis(100));
    let mut rig = rig(&strategy);
    rig.operator.idle(true).unwrap();
    rig.clock(100);
    rig.operator.idle(false).unwrap();
    assert_eq!(rig.seen(), ["idle true"]);
    rig.push(&[1]);
    assert_eq!(rig.seen(), ["idle false", "1", "watermark 0"]);
}
