use proptest::prelude::*;

use super::*;
use crate::batch::Batch;
use crate::collector::Control as _;
use crate::key::ByValue;
use crate::operator::KeyedCoProcess;
use crate::operator::tests::{Seen, at, context, tape};
use crate::operator::two_inputs::TwoInputs as _;

/// A record: its key, and its number.
type Row = (u8, usize);

#[derive(Debug, Clone)]
enum Step {
    /// Records of the first or the second stream, by key and event time.
    Records(bool, Vec<(u8, i64)>),
    Watermark(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let records = || prop::collection::vec((0_u8..3, 0_i64..100), 1..8);
    prop_oneof![
        2 => (any::<bool>(), records()).prop_map(|(first, records)| Step::Records(first, records)),
        1 => (0_i64..110).prop_map(Step::Watermark),
    ]
}

/// A record that came in time.
struct Came {
    first: bool,
    row: Row,
    time: i64,
    /// The watermark at that time.
    watermark: i64,
}

proptest! {
    #[test]
    fn joined_is_what_nested_loops_find(
        steps in prop::collection::vec(step(), 0..40), lower in -30_i64..30, width in 0_i64..40,
    ) {
        let (lower_ms, upper_ms) = (lower, lower + width);
        let (next, seen) = tape::<(Row, Row)>();
        let context = context(0, 1);
        let key = || Arc::new(ByValue(|row: &Row| row.0));
        let mut join = KeyedCoProcess::new(
            &context,
            key(),
            key(),
            |states: &mut States| {
                let call = |a: &Row, b: &Row, ctx: &mut ProcessContext<'_, (Row, Row)>| {
                    ctx.emit((*a, *b));
                    Ok(())
                };
                let interval = Interval { lower_ms, upper_ms };
                IntervalJoin::new(&context, states, interval, LateOutputs::default(), call)
            },
            next,
        );
        let (mut number, mut watermark, mut late) = (0, i64::MIN, 0);
        let mut came: Vec<Came> = Vec::new();
        let mut expected = Vec::new();
        for step in steps {
            match step {
                Step::Watermark(ms) if ms > watermark => {
                    watermark = ms;
                    join.watermark(at(ms)).unwrap();
                }
                Step::Watermark(_) => {}
                Step::Records(first, records) => {
                    let mut batch = Batch::new();
                    for (key, time) in records {
                        let row = (key, number);
                        number += 1;
                        batch.push(row, Some(EventTime(time)));
                        if time < watermark {
                            late += 1;
                            continue;
                        }
                        for other in came.iter().filter(|other| other.first != first && other.row.0 == key) {
                            let (a, b) = if first { ((row, time), (other.row, other.time)) } else { ((other.row, other.time), (row, time)) };
                            let reach = if other.first { upper_ms } else { -lower_ms };
                            // A watermark of exactly the last time that a record could be joined at is when it is forgotten; but a
                            // record that comes at such a watermark stays until the next, as timers that are set for the past do.
                            let kept = other.time + reach.max(0) > watermark || other.watermark == watermark;
                            if kept && (lower_ms..=upper_ms).contains(&(b.1 - a.1)) {
                                expected.push(Seen::Record((a.0, b.0), Some(a.1.max(b.1))));
                            }
                        }
                        came.push(Came { first, row, time, watermark });
                    }
                    if first {
                        join.push_first(&mut batch).unwrap();
                    } else {
                        join.push_second(&mut batch).unwrap();
                    }
                }
            }
        }
        join.watermark(Watermark::MAX).unwrap();
        let mut joined: Vec<_> = seen.lock().unwrap().iter().filter(|seen| matches!(seen, Seen::Record(..))).cloned().collect();
        joined.sort_by_key(|seen| format!("{seen:?}"));
        expected.sort_by_key(|seen| format!("{seen:?}"));
        prop_assert_eq!(joined, expected);
        prop_assert_eq!(context.metrics.snapshot().late_records_dropped, late);
        prop_assert_eq!(join.runtime.store.all(), [], "nothing is kept for ever");
    }
}

#[test]
fn a_record_without_event_time_says_what_is_missing() {
    let (next, _) = tape::<(Row, Row)>();
    let context = context(0, 1);
    let key = || Arc::new(ByValue(|row: &Row| row.0));
    let mut join = KeyedCoProcess::new(
        &context,
        key(),
        key(),
        |states: &mut States| {
            let call = |_: &Row, _: &Row, _: &mut ProcessContext<'_, (Row, Row)>| Ok(());
            let interval = Interval {
                lower_ms: 0,
                upper_ms: 1,
            };
            IntervalJoin::new(&context, states, interval, LateOutputs::default(), call)
        },
        next,
    );
    let error = join.push_first(&mut Batch::from(vec![(1, 1)])).unwrap_err();
    let cause = error.into_cause();
    assert!(cause.message.contains("assign_timestamps"), "{cause}");
}
