use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use spindle_common::time::{EventTime, MonoTime, Watermark};

use super::*;
use crate::batch::{BATCH_RECORDS, Batch};
use crate::collector::{Collector, Control};
use crate::connector::{OperatorError, Sink};
use crate::key::ByValue;
use crate::mailbox::Mailbox;
use crate::task::TaskError;

/// What an operator handed on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen<T> {
    Record(T, Option<i64>),
    Watermark(i64),
    Idle(bool),
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

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.0.lock().unwrap().push(Seen::Idle(idle));
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
        uid: Arc::from("uid"),
        name: Arc::from("operator"),
        subtask,
        parallelism,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
        mailbox: Mailbox::default(),
        sides: SideOutputs::default(),
        stores: None,
    }
}

fn timed(records: &[(u32, i64)]) -> Batch<u32> {
    Batch {
        records: records.iter().map(|(key, _)| *key).collect(),
        timestamps: records.iter().map(|(_, time)| EventTime(*time)).collect(),
    }
}

/// A watermark.
pub(crate) const fn at(ms: i64) -> Watermark {
    Watermark(EventTime(ms))
}

proptest! {
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
