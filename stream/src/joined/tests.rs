use proptest::prelude::*;

use super::*;
use crate::testing::Harness;
use crate::{EventTime, Session, Sliding, WatermarkStrategy};

/// Key, event time.
type Timed = (u32, i64);

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

/// Joins the two in these windows; the pairs, sorted.
fn joined(
    parallelism: u32,
    first: Vec<Timed>,
    second: Vec<Timed>,
    windows: impl Into<Windows<Either<Timed, Timed>>>,
) -> Vec<(Timed, Timed)> {
    let mut harness = Harness::new(parallelism);
    let ordered = || WatermarkStrategy::bounded_out_of_orderness(millis(1000));
    let mut side = |records: Vec<Timed>| {
        let records = harness.env().from_collection(records).set_parallelism(1);
        records
            .assign_timestamps(ordered(), |record| EventTime(record.1))
            .set_parallelism(1)
    };
    let (first, second) = (side(first), side(second));
    first
        .join(&second)
        .on(|record| record.0, |record| record.0)
        .window(windows)
        .apply(|a, b| (*a, *b))
        .collect("pairs");
    let mut pairs = harness.run().unwrap().collected("pairs");
    pairs.sort_unstable();
    pairs
}

fn records() -> impl Strategy<Value = Vec<Timed>> {
    prop::collection::vec((0_u32..4, -100_i64..200), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_sliding_window_pairs_what_any_window_holds_both_of(
        first in records(), second in records(), size in 1_i64..50, slide in 1_i64..50, parallelism in 1_u32..3,
    ) {
        let mut expected = Vec::new();
        for start in (-300..300).map(|n| n * slide) {
            let holds = |record: &&Timed| (start..start + size).contains(&record.1);
            for a in first.iter().filter(holds) {
                let equal = |b: &&Timed| b.0 == a.0;
                expected.extend(second.iter().filter(holds).filter(equal).map(|b| (*a, *b)));
            }
        }
        expected.sort_unstable();
        let windows = Sliding::of(millis(size), millis(slide));
        prop_assert_eq!(joined(parallelism, first, second, windows), expected);
    }

    #[test]
    fn a_session_pairs_what_no_gap_parts(
        first in records(), second in records(), gap in 1_i64..30, parallelism in 1_u32..3,
    ) {
        let mut expected = Vec::new();
        for a in &first {
            for b in second.iter().filter(|b| b.0 == a.0) {
                let both = first.iter().chain(&second).filter(|other| other.0 == a.0);
                let (from, to) = (a.1.min(b.1), a.1.max(b.1));
                let mut times: Vec<i64> = both.map(|other| other.1).filter(|time| (from..=to).contains(time)).collect();
                times.sort_unstable();
                if times.windows(2).all(|pair| pair[1] - pair[0] <= gap) {
                    expected.push((*a, *b));
                }
            }
        }
        expected.sort_unstable();
        let windows = Session::with_gap(millis(gap));
        prop_assert_eq!(joined(parallelism, first, second, windows), expected);
    }
}
