use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use super::*;
use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};
use crate::testing::Harness;
use crate::{EventTime, Tumbling, WatermarkStrategy};

fn after(options: AsyncOptions, count: u64) -> Vec<u64> {
    let mut harness = Harness::new(1);
    harness
        .env()
        .generate(count, |n| n)
        .map_async(options, |n| async move {
            // The later ones of each ten answer first.
            for _ in 0..20 - 2 * (n % 10) {
                tokio::task::yield_now().await;
            }
            Ok::<u64, io::Error>(n)
        })
        .collect("answers");
    harness.run().unwrap().collected("answers")
}

#[test]
fn ordered_answers_come_in_the_order_of_the_records() {
    let all: Vec<u64> = (0..3000).collect();
    assert_eq!(after(AsyncOptions::ordered(), 3000), all);
    assert_eq!(after(AsyncOptions::ordered().capacity(1), 300), all[..300]);
}

#[test]
fn unordered_answers_are_all_there() {
    let mut answers = after(AsyncOptions::unordered().capacity(7), 3000);
    answers.sort_unstable();
    assert_eq!(answers, (0..3000).collect::<Vec<_>>());
}

#[test]
fn watermarks_do_not_overtake_what_is_asked_about() {
    for options in [AsyncOptions::ordered(), AsyncOptions::unordered()] {
        let mut harness = Harness::new(1);
        harness
            .env()
            .generate(5000, |n| n as i64)
            .assign_timestamps(WatermarkStrategy::monotonous(), |n| EventTime(*n))
            .map_async(options, |n| async move {
                tokio::task::yield_now().await;
                Ok::<i64, io::Error>(n)
            })
            .key_by(|_| ())
            .window(Tumbling::of(Duration::from_millis(1000)))
            .aggregate(crate::Count)
            .collect("counts");
        let finished = harness.run().unwrap();
        assert_eq!(finished.collected::<u64>("counts"), [1000; 5]);
        assert_eq!(finished.late_records_dropped(), 0);
    }
}

#[test]
fn a_request_is_repeated_as_often_as_was_said() {
    for (fails, attempts) in [(2, 3), (3, 3)] {
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let mut harness = Harness::new(1);
        let options = AsyncOptions::ordered().retry(attempts, Duration::ZERO);
        harness
            .env()
            .generate(1, |n| n)
            .map_async(options, move |n| {
                let nth = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    if nth < fails {
                        Err(io::Error::other("busy"))
                    } else {
                        Ok(n)
                    }
                }
            })
            .name("ask")
            .collect("answers");
        let result = harness.run();
        assert_eq!(made.load(Ordering::SeqCst), 3);
        if fails < attempts {
            assert_eq!(result.unwrap().collected::<u64>("answers"), [0]);
        } else {
            let cause = result.unwrap_err().to_string();
            assert_eq!(
                cause,
                "operator `ask` the request failed 3 times, at last with: busy"
            );
        }
    }
}

#[test]
fn a_request_that_takes_too_long_or_panics_fails_the_task() {
    for (panics, expected) in [
        (false, "the request took longer than its time-out of 1ms"),
        (true, "the request panicked: no such 5"),
    ] {
        let mut harness = Harness::new(1);
        let options = AsyncOptions::unordered().timeout(Duration::from_millis(1));
        harness
            .env()
            .generate(10, |n| n)
            .map_async(options, move |n| async move {
                match (n, panics) {
                    (5, true) => panic!("no such {n}"),
                    (5, false) => std::future::pending().await,
                    _ => Ok::<u64, io::Error>(n),
                }
            })
            .name("ask")
            .collect("answers");
        let cause = harness.run().unwrap_err();
        assert_eq!(cause.operator.as_deref(), Some("ask"));
        assert_eq!(cause.message, expected);
    }
}

#[test]
fn a_task_that_waits_for_answers_ends_when_another_failed() {
    let mut harness = Harness::new(1);
    let options = AsyncOptions::ordered()
        .capacity(1)
        .timeout(Duration::from_secs(3600));
    harness
        .env()
        .generate(2, |n| n)
        .map_async(options, |_| {
            std::future::pending::<Result<u64, io::Error>>()
        })
        .collect("answers");
    harness
        .env()
        .generate(1, |n| n)
        .map(|n| -> u64 { panic!("no such {n}") })
        .name("fails")
        .collect("nothing");
    let cause = harness.run().unwrap_err();
    assert_eq!(cause.operator.as_deref(), Some("fails"));
}

/// How many requests follow one another.
const HOPS: u64 = 200;

/// Gives all its numbers at once, and ends when all have been answered.
struct Open(Arc<AtomicU32>);

impl Source<u64> for Open {
    fn plan(&self, _: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        Ok(vec![Vec::new()])
    }

    fn reader(
        &self,
        _: Vec<SourceSplit>,
        _: SourceContext,
    ) -> Result<Box<dyn SourceReader<u64>>, OperatorError> {
        Ok(Box::new(OpenReader {
            answered: Arc::clone(&self.0),
            next: 0,
        }))
    }
}

struct OpenReader {
    answered: Arc<AtomicU32>,
    next: u64,
}

impl SourceReader<u64> for OpenReader {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
        if self.next < HOPS {
            (self.next..HOPS).for_each(|n| out.push(n, None));
            self.next = HOPS;
        } else if u64::from(self.answered.load(Ordering::SeqCst)) == HOPS {
            return Ok(SourceStatus::EndOfInput);
        }
        std::thread::yield_now();
        Ok(SourceStatus::More)
    }
}

/// Each request is answered when the answer before it was handed on, and none has others behind it that would have it handed on: without
/// being woken, the task would wait at its gate for ever, as its source waits for the answers.
#[test]
fn an_answer_wakes_a_task_that_waits_at_its_gate() {
    let answered = Arc::new(AtomicU32::new(0));
    let (asked, counted) = (Arc::clone(&answered), Arc::clone(&answered));
    let mut harness = Harness::new(1);
    harness
        .env()
        .source("open", Open(answered))
        .rebalance()
        .map_async(
            AsyncOptions::ordered().capacity(HOPS as usize + 1),
            move |n| {
                let asked = Arc::clone(&asked);
                async move {
                    while u64::from(asked.load(Ordering::SeqCst)) < n {
                        tokio::task::yield_now().await;
                    }
                    Ok::<u64, io::Error>(n)
                }
            },
        )
        .map(move |n| {
            counted.fetch_add(1, Ordering::SeqCst);
            n
        })
        .collect("answers");
    let answers = harness.run().unwrap().collected::<u64>("answers");
    assert_eq!(answers, (0..HOPS).collect::<Vec<_>>());
}
