use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
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
