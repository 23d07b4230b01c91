//! Whole jobs in the test harness.

use std::time::Duration;

use proptest::prelude::*;

use spindle_common::job_graph::Partitioning;

use crate::testing::{Finished, Harness};
use crate::{ByteSize, Count, EventTime, Fold, Session, SlotProfile, Tumbling, WatermarkStrategy};

type Event = (String, i64, i64);

fn windowed(harness: &mut Harness, events: Vec<Event>, size_ms: u64, disorder_ms: u64) {
    harness
        .env()
        .from_collection(events)
        .set_parallelism(1)
        .assign_timestamps(
            WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(disorder_ms)),
            |event| EventTime(event.1),
        )
        .set_parallelism(1)
        .map(|event| event)
        .key_by(|event| event.0.clone())
        .window(Tumbling::of(Duration::from_millis(size_ms)))
        .aggregate_with(
            Fold::new(
                || (0_u64, 0_i64),
                |(count, sum): &mut (u64, i64), event: &Event| {
                    *count += 1;
                    *sum += event.2;
                },
                |(count, sum): &mut (u64, i64), more: &(u64, i64)| {
                    *count += more.0;
                    *sum += more.1;
                },
                |totals: &(u64, i64)| *totals,
            ),
            |key: &String, window, (count, sum)| (window.start.0, key.clone(), count, sum),
        )
        .collect("windows");
}

type Row = (i64, String, u64, i64);

fn sorted<T: Ord + serde::de::DeserializeOwned>(finished: &Finished, name: &str) -> Vec<T> {
    let mut all = finished.collected(name);
    all.sort_unstable();
    all
}

#[test]
fn a_collection_is_mapped_keyed_windowed_and_collected() {
    let mut harness = Harness::new(3);
    let events = [
        ("a", 0, 1),
        ("b", 5, 2),
        ("a", 9, 3),
        ("a", 10, 4),
        ("b", 31, 5),
    ];
    let events = events.map(|(key, ms, n)| (key.to_owned(), ms, n)).to_vec();
    windowed(&mut harness, events, 10, 0);
    let expected: Vec<Row> = [
        (0, "a", 2, 4),
        (0, "b", 1, 2),
        (10, "a", 1, 4),
        (30, "b", 1, 5),
    ]
    .map(|(start, key, count, sum)| (start, key.to_owned(), count, sum))
    .to_vec();
    assert_eq!(sorted::<Row>(&harness.run().unwrap(), "windows"), expected);
}

#[test]
fn a_stream_read_twice_in_one_chain_gives_both_the_same_records() {
    let mut harness = Harness::new(2);
    let numbers = harness.env().generate(5000, |n| n);
    numbers.filter(|n| n % 2 == 0).collect("even");
    numbers.map(|n| n * 10).collect("tens");
    numbers.collect("all");
    assert_eq!(harness.graph().unwrap().vertices.len(), 1);
    let finished = harness.run().unwrap();
    let all: Vec<u64> = (0..5000).collect();
    assert_eq!(sorted::<u64>(&finished, "all"), all);
    let even: Vec<u64> = all.iter().copied().filter(|n| n % 2 == 0).collect();
    assert_eq!(sorted::<u64>(&finished, "even"), even);
    let tens: Vec<u64> = all.iter().map(|n| n * 10).collect();
    assert_eq!(sorted::<u64>(&finished, "tens"), tens);
}

#[test]
fn a_broadcast_stream_reaches_every_subtask_and_a_rebalanced_one_exactly_one() {
    let mut harness = Harness::new(3);
    let numbers = harness.env().generate(1000, |n| n);
    numbers.broadcast().map(|n| n).collect("everywhere");
    numbers.rebalance().map(|n| n).collect("somewhere");
    let finished = harness.run().unwrap();
    assert_eq!(finished.collected::<u64>("everywhere").len(), 3000);
    assert_eq!(
        sorted::<u64>(&finished, "somewhere"),
        (0..1000).collect::<Vec<_>>()
    );
}

#[test]
fn a_panic_in_user_code_is_told_with_the_name_of_its_operator() {
    let mut harness = Harness::new(2);
    harness
        .env()
        .generate(10_000, |n| n)
        .map(|n| n)
        .name("first")
        .map(|n| {
            if n == 7777 {
                panic!("bad record {n}")
            } else {
                n
            }
        })
        .name("second")
        .filter(|_| true)
        .name("third")
        .key_by(|n| n % 10)
        .reduce(|a, b| a + b)
        .collect("sums");
    let cause = harness.run().unwrap_err();
    assert_eq!(cause.operator.as_deref(), Some("second"));
    assert_eq!(cause.message, "panicked: bad record 7777");
}

#[test]
fn a_flat_map_that_panics_after_its_output_went_downstream_is_the_one_named() {
    let mut harness = Harness::new(1);
    harness
        .env()
        .generate(1, |n| n)
        .flat_map(|_| (0..5000_u64).map(|n| if n == 4000 { panic!("too far") } else { n }))
        .name("expand")
        .map(|n| n)
        .collect("all");
    assert_eq!(
        harness.run().unwrap_err().operator.as_deref(),
        Some("expand")
    );
}

#[test]
fn a_window_without_event_times_says_what_is_missing() {
    let mut harness = Harness::new(1);
    harness
        .env()
        .generate(10, |n| n)
        .key_by(|n| *n)
        .window(Tumbling::of(Duration::from_secs(1)))
        .reduce(|a, _| a)
        .name("sum by second")
        .collect("sums");
    let cause = harness.run().unwrap_err();
    assert_eq!(cause.operator.as_deref(), Some("sum by second"));
    assert!(cause.message.contains("assign_timestamps"), "{cause}");
}

#[test]
fn collecting_too_much_fails_the_job_with_the_sinks_name() {
    let mut harness = Harness::new(1);
    harness
        .env()
        .generate(600, |_| "x".repeat(10_000))
        .collect("much");
    let cause = harness.run().unwrap_err();
    assert_eq!(cause.operator.as_deref(), Some("Collect much"));
    assert!(cause.message.contains("more than 4 MiB"), "{cause}");
}

#[test]
fn records_larger_than_a_buffer_cross_an_exchange() {
    let mut harness = Harness::new(2);
    harness
        .env()
        .generate(20, |n| (n, vec![n as u8; 50_000 * (n as usize % 3)]))
        .key_by(|(n, _)| *n)
        .reduce(|a, _| a)
        .map(|(n, bytes)| {
            (
                n,
                bytes.len() as u64,
                bytes.iter().all(|b| u64::from(*b) == n),
            )
        })
        .collect("lengths");
    let expected: Vec<(u64, u64, bool)> = (0..20).map(|n| (n, 50_000 * (n % 3), true)).collect();
    assert_eq!(
        sorted::<(u64, u64, bool)>(&harness.run().unwrap(), "lengths"),
        expected
    );
}

#[test]
fn late_records_are_dropped_and_counted() {
    let mut harness = Harness::new(1);
    // Two batches of the source go ahead: what comes behind their watermark is late.
    let ahead = (0..1024).map(|_| ("a".to_owned(), 1000, 1));
    let late = (0..3).map(|_| ("a".to_owned(), 5, 1));
    windowed(&mut harness, ahead.chain(late).collect(), 10, 0);
    let finished = harness.run().unwrap();
    assert_eq!(
        finished.collected::<Row>("windows"),
        [(1000, "a".to_owned(), 1024, 1024)]
    );
    assert_eq!(finished.late_records_dropped(), 3);
}

fn draw(harness: &Harness) -> String {
    let graph = harness.graph().unwrap();
    let name = |id| graph.vertex(id).unwrap().name();
    let vertices = graph
        .vertices
        .iter()
        .map(|vertex| format!("[{}] x{}\n", vertex.name(), vertex.parallelism));
    let edges = graph.edges.iter().map(|edge| {
        let how = edge.partitioning.name();
        format!("[{}] {how} [{}]\n", name(edge.source), name(edge.target))
    });
    vertices.chain(edges).collect()
}

#[test]
fn operators_chain_until_a_key_or_another_parallelism_parts_them() {
    let mut harness = Harness::new(2);
    let lines = harness.env().generate(10, |n| n).name("read");
    let words = lines.flat_map(|n| [n, n + 1]).name("split");
    words
        .key_by(|n| *n)
        .reduce(|a, b| a + b)
        .name("count")
        .filter(|n| *n > 1)
        .collect("counts")
        .set_parallelism(1);
    words.print();
    insta::assert_snapshot!(draw(&harness), @r"
    [read -> split -> Print] x2
    [count -> Filter] x2
    [Collect counts] x1
    [read -> split -> Print] HASH [count -> Filter]
    [count -> Filter] REBALANCE [Collect counts]
    ");
}

#[test]
fn a_slot_sharing_group_ends_a_chain_and_holds_for_what_follows() {
    let mut harness = Harness::new(2);
    let env = harness.env();
    let profile = SlotProfile::new(0.5, ByteSize::from_mib(64));
    env.register_slot_sharing_group("heavy", profile);
    let numbers = env.generate(10, |n| n).name("read");
    let heavy = numbers
        .map(|n| n + 1)
        .name("work")
        .slot_sharing_group("heavy");
    heavy.filter(|n| *n > 3).name("few").collect("some");
    heavy.print().slot_sharing_group("default");
    insta::assert_snapshot!(draw(&harness), @r"
    [read] x2
    [work -> few -> Collect some] x2
    [Print] x2
    [read] FORWARD [work -> few -> Collect some]
    [work -> few -> Collect some] FORWARD [Print]
    ");
    let graph = harness.graph().unwrap();
    let groups: Vec<_> = graph
        .slot_sharing_groups()
        .iter()
        .map(|group| (group.name, group.slots, group.profile))
        .collect();
    assert_eq!(groups, [("default", 2, None), ("heavy", 2, Some(profile))]);
    let mut some: Vec<u64> = harness.run().unwrap().collected("some");
    some.sort_unstable();
    assert_eq!(some, [4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_collection_is_read_by_one_subtask_and_spread_over_the_next() {
    let mut harness = Harness::new(4);
    harness
        .env()
        .from_collection([1, 2, 3])
        .map(|n| n)
        .collect("all");
    let graph = harness.graph().unwrap();
    assert_eq!(graph.vertices[0].parallelism, 1);
    assert_eq!(graph.edges[0].partitioning, Partitioning::Rebalance);
    assert_eq!(graph.vertices[1].parallelism, 4);
}

#[test]
fn a_uid_is_what_was_given_or_the_operators_place_and_name() {
    let mut harness = Harness::new(1);
    let numbers = harness.env().generate(10, |n| n).uid("numbers");
    numbers.map(|n| n).name("keep").collect("all");
    let graph = harness.graph().unwrap();
    let uids: Vec<&str> = graph.vertices[0]
        .operators
        .iter()
        .map(|operator| operator.uid.as_str())
        .collect();
    assert_eq!(uids, ["numbers", "1-keep", "2-Collect all"]);
}

#[test]
fn a_uid_given_twice_is_refused() {
    let mut harness = Harness::new(1);
    let numbers = harness.env().generate(10, |n| n).uid("same");
    numbers.map(|n| n).uid("same").collect("all");
    assert!(harness.graph().unwrap_err().contains("uid `same`"));
}

#[test]
fn a_parallelism_of_none_is_refused() {
    let mut harness = Harness::new(0);
    harness.env().generate(10, |n| n).collect("all");
    assert!(harness.graph().unwrap_err().contains("parallelism 0"));
}

prop_compose! {
    fn events()(events in prop::collection::vec((0_u8..12, -500_i64..5000, -100_i64..100), 0..400)) -> Vec<Event> {
        events.into_iter().map(|(key, ms, n)| (format!("key {key}"), ms, n)).collect()
    }
}

/// What windows of all events should come to, written as plainly as can be.
fn model(events: &[Event], size_ms: i64) -> Vec<Row> {
    let mut rows: std::collections::BTreeMap<(i64, String), (u64, i64)> = Default::default();
    for (key, ms, n) in events {
        let row = rows
            .entry((ms.div_euclid(size_ms) * size_ms, key.clone()))
            .or_default();
        row.0 += 1;
        row.1 += n;
    }
    rows.into_iter()
        .map(|((start, key), (count, sum))| (start, key, count, sum))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn windows_come_to_what_the_model_says_whatever_the_disorder(
        events in events(), size in 1_u64..900, parallelism in 1_u32..5,
    ) {
        let mut harness = Harness::new(parallelism);
        // No event is more than 5500 ms behind another, so none is late.
        windowed(&mut harness, events.clone(), size, 5500);
        let finished = harness.run().unwrap();
        prop_assert_eq!(finished.late_records_dropped(), 0);
        prop_assert_eq!(sorted::<Row>(&finished, "windows"), model(&events, size as i64));
    }

    #[test]
    fn a_running_reduce_gives_every_prefix_of_every_key(
        numbers in prop::collection::vec((0_u8..6, 0_u64..50), 0..300), parallelism in 1_u32..5,
    ) {
        let mut harness = Harness::new(parallelism);
        // One subtask reads and one channel leads to each key, so the order within a key is that of the collection.
        harness.env().from_collection(numbers.clone())
            .key_by(|(key, _)| *key)
            .reduce(|(key, a), (_, b)| (key, a + b))
            .collect("sums");
        let mut sums = std::collections::BTreeMap::<u8, u64>::new();
        let mut expected = Vec::new();
        for (key, n) in &numbers {
            let sum = sums.entry(*key).or_default();
            *sum += n;
            expected.push((*key, *sum));
        }
        expected.sort_unstable();
        prop_assert_eq!(sorted::<(u8, u64)>(&harness.run().unwrap(), "sums"), expected);
    }

    #[test]
    fn a_running_aggregate_counts_every_record(count in 0_u64..6000, keys in 1_u64..40, parallelism in 1_u32..5) {
        let mut harness = Harness::new(parallelism);
        harness.env().generate(count, move |n| n % keys)
            .key_by(|n| *n)
            .aggregate(crate::Count)
            .collect("counts");
        let mut expected: Vec<u64> = (0..count).map(|n| n / keys + 1).collect();
        expected.sort_unstable();
        prop_assert_eq!(sorted::<u64>(&harness.run().unwrap(), "counts"), expected);
    }
}

#[test]
fn windows_of_processing_time_fire_at_the_end_before_event_time_is_over() {
    for gap in [false, true] {
        let mut harness = Harness::new(2);
        let keyed = harness.env().generate(10, |n| n).key_by(|n| n % 3);
        let hour = Duration::from_secs(3600);
        let counts = if gap {
            keyed
                .window(Session::with_gap(hour).on_processing_time())
                .aggregate(Count)
        } else {
            keyed
                .window(Tumbling::of(hour).on_processing_time())
                .aggregate(Count)
        };
        // The end of event time is a window of event time's last chance.
        counts
            .key_by(|_| ())
            .window(Tumbling::of(hour))
            .reduce(|a, b| a + b)
            .collect("sum");
        let sum: u64 = harness.run().unwrap().collected::<u64>("sum").iter().sum();
        assert_eq!(sum, 10);
    }
}
