use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use spindle_common::time::{EventTime, MonoTime, Watermark};

use super::*;
use crate::batch::{BATCH_RECORDS, Batch};
use crate::collector::{Collector, Control};
use crate::connector::{OperatorError, Sink};
use crate::key::ByValue;
use crate::task::TaskError;

/// What an operator handed on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen<T> {
    Record(T, Option<i64>),
    Watermark(i64),
    End,
}

struct Tape<T>(Arc<Mutex<Vec<Seen<T>>>>);

impl<T> Control for Tape<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.0.lock().unwrap().push(Seen::Watermark(watermark.0.0));
        Ok(())
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.0.lock().unwrap().push(Seen::End);
        Ok(())
    }
}

impl<T> Collector<T> for Tape<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        assert!(!batch.is_empty() && batch.len() <= BATCH_RECORDS);
        let seen = batch
            .drain()
            .map(|(record, time)| Seen::Record(record, time.map(|time| time.0)));
        self.0.lock().unwrap().extend(seen);
        Ok(())
    }
}

pub(crate) type Seens<T> = Arc<Mutex<Vec<Seen<T>>>>;

pub(crate) fn tape<T: 'static>() -> (Box<dyn Collector<T>>, Seens<T>) {
    let seen: Seens<T> = Arc::default();
    (Box::new(Tape(Arc::clone(&seen))), seen)
}

pub(crate) fn context(subtask: u32, parallelism: u32) -> OperatorContext {
    OperatorContext {
        name: Arc::from("operator"),
        subtask,
        parallelism,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
        sides: SideOutputs::default(),
    }
}

type Counted = (i64, u32, u64);

fn windows(context: &OperatorContext, size_ms: u64) -> (Box<dyn Collector<u32>>, Seens<Counted>) {
    let (next, seen) = tape();
    let operator = WindowOperator::new(
        context,
        TumblingWindows::of(Duration::from_millis(size_ms)),
        Arc::new(ByValue(|key: &u32| *key)),
        Arc::new(Count),
        Arc::new(|key: &u32, window: TimeWindow, count: u64| (window.start.0, *key, count)),
        next,
    );
    (Box::new(operator), seen)
}

fn timed(records: &[(u32, i64)]) -> Batch<u32> {
    Batch {
        records: records.iter().map(|(key, _)| *key).collect(),
        timestamps: records.iter().map(|(_, time)| EventTime(*time)).collect(),
    }
}

pub(crate) fn at(ms: i64) -> Watermark {
    Watermark(EventTime(ms))
}

#[test]
fn a_window_fires_when_the_watermark_reaches_its_last_instant() {
    let (mut operator, seen) = windows(&context(0, 1), 10);
    operator
        .push(&mut timed(&[(1, 3), (1, 9), (1, 10)]))
        .unwrap();
    operator.watermark(at(8)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [Seen::Watermark(8)]);
    operator.watermark(at(9)).unwrap();
    assert_eq!(
        seen.lock().unwrap()[1..],
        [Seen::Record((0, 1, 2), Some(9)), Seen::Watermark(9)]
    );
    operator.watermark(Watermark::MAX).unwrap();
    assert_eq!(seen.lock().unwrap()[3], Seen::Record((10, 1, 1), Some(19)));
}

#[test]
fn windows_before_the_epoch_are_aligned_to_it() {
    let windows = TumblingWindows::of(Duration::from_millis(10));
    for (time, start) in [(-1, -10), (-10, -10), (-11, -20), (0, 0)] {
        assert_eq!(
            windows.window_of(EventTime(time)).start,
            EventTime(start),
            "{time}"
        );
    }
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let (mut operator, seen) = windows(&context(0, 1), 1000);
    operator
        .push(&mut timed(&[(1, i64::MIN), (2, i64::MAX)]))
        .unwrap();
    operator.watermark(Watermark::MAX).unwrap();
    let records = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|seen| matches!(seen, Seen::Record(..)))
        .count();
    assert_eq!(records, 2);
}

#[test]
fn a_record_behind_the_watermark_still_counts_while_its_window_is_open() {
    let context = context(0, 1);
    let (mut operator, seen) = windows(&context, 10);
    operator.watermark(at(5)).unwrap();
    operator.push(&mut timed(&[(1, 2)])).unwrap();
    operator.watermark(at(9)).unwrap();
    operator.push(&mut timed(&[(1, 9)])).unwrap();
    operator.watermark(Watermark::MAX).unwrap();
    assert!(
        seen.lock()
            .unwrap()
            .contains(&Seen::Record((0, 1, 1), Some(9)))
    );
    assert_eq!(context.metrics.snapshot().late_records_dropped, 1);
}

#[test]
fn a_record_of_a_key_group_that_another_subtask_owns_is_an_error() {
    let (mut operator, _) = windows(&context(0, 128), 10);
    let all: Vec<_> = (0..1000).map(|key| (key, 0)).collect();
    let error = operator.push(&mut timed(&all)).unwrap_err().into_cause();
    assert_eq!(error.operator.as_deref(), Some("operator"));
    assert!(error.message.contains("another subtask owns"), "{error}");
}

proptest! {
    #[test]
    fn windows_agree_with_a_plain_model_record_by_record(
        steps in prop::collection::vec((prop::collection::vec((0_u32..20, -50_i64..300), 0..30), 0_i64..320), 0..20),
        size in 1_u64..60,
    ) {
        let context = context(0, 1);
        let (mut operator, seen) = windows(&context, size);
        let size = size as i64;
        let (mut open, mut watermark, mut late) = (BTreeMap::<(i64, u32), u64>::new(), i64::MIN, 0);
        for (records, advance) in steps {
            operator.push(&mut timed(&records)).unwrap();
            for (key, time) in records {
                let start = time.div_euclid(size) * size;
                if start + size - 1 <= watermark {
                    late += 1;
                } else {
                    *open.entry((start, key)).or_default() += 1;
                }
            }
            watermark = watermark.max(advance);
            operator.watermark(at(watermark)).unwrap();
            let mut fired: Vec<_> = seen.lock().unwrap().drain(..).collect();
            prop_assert_eq!(fired.pop(), Some(Seen::Watermark(watermark)));
            let ends: Vec<i64> = fired.iter().map(|seen| match seen {
                Seen::Record(_, time) => time.unwrap(),
                Seen::Watermark(_) | Seen::End => i64::MIN,
            }).collect();
            prop_assert!(ends.is_sorted(), "windows fire in order of their end");
            let mut expected = Vec::new();
            open.retain(|(start, key), count| {
                let closed = start + size - 1 <= watermark;
                if closed {
                    expected.push(Seen::Record((*start, *key, *count), Some(start + size - 1)));
                }
                !closed
            });
            fired.sort_by_key(|seen| format!("{seen:?}"));
            expected.sort_by_key(|seen| format!("{seen:?}"));
            prop_assert_eq!(fired, expected);
        }
        prop_assert_eq!(context.metrics.snapshot().late_records_dropped, late);
    }

    #[test]
    fn a_running_reduce_agrees_with_a_plain_model(
        batches in prop::collection::vec(prop::collection::vec((0_u8..10, 0_u64..100), 0..50), 0..20),
    ) {
        let (next, seen) = tape();
        let sum = Reduce(|(key, a): (u8, u64), (_, b): (u8, u64)| (key, a + b));
        let key = Arc::new(ByValue(|(key, _): &(u8, u64)| *key));
        let mut operator = RunningAggregate::new(&context(0, 1), key, Arc::new(sum), next);
        let mut sums = BTreeMap::<u8, u64>::new();
        let mut expected = Vec::new();
        for records in batches {
            for (key, n) in &records {
                *sums.entry(*key).or_default() += n;
                expected.push(Seen::Record((*key, sums[key]), None));
            }
            operator.push(&mut Batch::from(records)).unwrap();
        }
        prop_assert_eq!(&*seen.lock().unwrap(), &expected);
    }
}

#[test]
fn what_fires_in_one_run_fires_in_the_same_order_in_the_next() {
    let run = || {
        let (mut operator, seen) = windows(&context(0, 1), 10);
        let records: Vec<_> = (0..3000_u32)
            .map(|n| (n * 7 % 501, i64::from(n % 100)))
            .collect();
        operator.push(&mut timed(&records)).unwrap();
        operator.watermark(Watermark::MAX).unwrap();
        Arc::try_unwrap(seen).map_or_else(
            |seen| seen.lock().unwrap().clone(),
            |seen| seen.into_inner().unwrap(),
        )
    };
    assert_eq!(run(), run());
}

#[test]
fn watermarks_follow_the_latest_event_time_by_the_bound() {
    let (next, seen) = tape();
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(5));
    let mut operator = AssignTimestamps::new(
        Arc::from("time"),
        strategy,
        Arc::new(|ms: &i64| EventTime(*ms)),
        next,
    );
    operator.push(&mut Batch::from(vec![100, 20])).unwrap();
    operator.push(&mut Batch::from(vec![50])).unwrap();
    // What comes from upstream knows another time; only the end is the end.
    operator.watermark(at(1000)).unwrap();
    operator.push(&mut Batch::from(vec![101])).unwrap();
    operator.watermark(Watermark::MAX).unwrap();
    let record = |ms| Seen::Record(ms, Some(ms));
    assert_eq!(
        *seen.lock().unwrap(),
        [
            record(100),
            record(20),
            Seen::Watermark(94),
            record(50),
            record(101),
            Seen::Watermark(95),
            Seen::Watermark(i64::MAX),
        ]
    );
}

#[test]
fn a_flat_map_hands_on_full_batches_and_keeps_event_times() {
    let (next, seen) = tape();
    let function = Arc::new(|n: u32| std::iter::repeat_n(n, 3000));
    let mut operator = FlatMap::new(Arc::from("expand"), function, next);
    operator.push(&mut timed(&[(1, 10), (2, 20)])).unwrap();
    operator.end().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 6001);
    assert_eq!(seen[2999], Seen::Record(1, Some(10)));
    assert_eq!(seen[3000], Seen::Record(2, Some(20)));
    assert_eq!(seen[6000], Seen::End);
}

struct Ledger(Arc<Mutex<Vec<&'static str>>>, bool);

impl Sink<u32> for Ledger {
    fn write(&mut self, batch: &mut Batch<u32>) -> Result<(), OperatorError> {
        self.0.lock().unwrap().push("write");
        match batch.records.contains(&13) {
            true => Err(OperatorError::transient("disk full")),
            false => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        self.0.lock().unwrap().push("finish");
        Ok(self.1)
    }

    fn commit(&mut self) -> Result<(), OperatorError> {
        self.0.lock().unwrap().push("commit");
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        77
    }
}

#[test]
fn a_sink_is_committed_only_if_it_asked_for_it() {
    for needs in [false, true] {
        let calls: Arc<Mutex<Vec<&str>>> = Arc::default();
        let context = context(0, 1);
        let mut operator = SinkOperator::new(&context, Box::new(Ledger(Arc::clone(&calls), needs)));
        operator.push(&mut Batch::from(vec![1, 2])).unwrap();
        operator.end().unwrap();
        assert_eq!(operator.needs_commit(), needs);
        operator.commit().unwrap();
        let expected: &[_] = if needs {
            &["write", "finish", "commit"]
        } else {
            &["write", "finish"]
        };
        assert_eq!(*calls.lock().unwrap(), expected);
        let metrics = context.metrics.snapshot();
        assert_eq!((metrics.records_out, metrics.bytes_out), (2, 77));
    }
}

#[test]
fn a_sinks_error_bears_the_sinks_name() {
    let mut operator = SinkOperator::new(&context(0, 1), Box::new(Ledger(Arc::default(), false)));
    let cause = operator
        .push(&mut Batch::from(vec![13]))
        .unwrap_err()
        .into_cause();
    assert_eq!(cause.to_string(), "operator `operator` disk full");
}
