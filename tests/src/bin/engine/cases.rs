//! The jobs that are not Nexmark's.

use std::time::Duration;

use spindle_stream::{Count, EventTime, StreamEnvironment, Tumbling, WatermarkStrategy};

use crate::measure::{Discard, Numbered, Stopwatch};
use crate::words::{scatter, word};

/// Different keys of the `window` case.
const KEYS: u64 = 10_000;
/// Events of the `window` case in a second of event time.
const EVENTS_PER_SECOND: u64 = 1_000_000;
/// How far an event of the `window` case may be behind one before it.
const DISORDER_MS: u64 = 1000;

/// Words by key, each handed on with its count so far.
pub(crate) fn wordcount(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    env.source("words", Numbered::new(records, word, watch))
        .key_by_ref(|word| word)
        .scan(
            || 0_u64,
            |count, word| {
                *count += 1;
                (word, *count)
            },
        )
        .name("count")
        .sink_to(Discard::new(watch))
        .name("discard");
}

/// A key and an event time.
type Event = (u64, i64);

/// The event of the `window` case with this number.
fn event(index: u64) -> Event {
    let hash = scatter(index);
    let in_order = index * 1000 / EVENTS_PER_SECOND;
    // The key and the disorder are from different halves of the hash.
    let time = (in_order + DISORDER_MS).saturating_sub((hash >> 32) % DISORDER_MS);
    (hash % (1 << 32) % KEYS, time as i64)
}

/// Events by key, counted in windows of ten seconds.
pub(crate) fn window(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(DISORDER_MS));
    env.source("events", Numbered::new(records, event, watch))
        .assign_timestamps(strategy, |(_, time)| EventTime::from_millis(*time))
        .key_by(|(key, _)| *key)
        .window(Tumbling::of(Duration::from_secs(10)))
        .aggregate_with(Count, |key: &u64, window, count| {
            (*key, window.start.as_millis(), count)
        })
        .name("count")
        .sink_to(Discard::new(watch))
        .name("discard");
}

/// Numbers, dealt out in turn to the subtasks of the sink.
pub(crate) fn exchange(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    env.source("numbers", Numbered::new(records, scatter, watch))
        .rebalance()
        .sink_to(Discard::new(watch))
        .name("discard");
}

/// Rows of a word and two numbers, dealt out in turn to the subtasks of the sink.
pub(crate) fn exchange_rows(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    let row = |index: u64| (word(index), scatter(index), index as i64);
    env.source("rows", Numbered::new(records, row, watch))
        .rebalance()
        .sink_to(Discard::new(watch))
        .name("discard");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_never_behind_by_more_than_the_disorder_and_sometimes_nearly_by_it() {
        let mut latest = 0;
        let mut behind = 0;
        for index in 0..5_000_000 {
            let (key, time) = event(index);
            assert!(key < KEYS);
            latest = latest.max(time);
            behind = behind.max(latest - time);
        }
        assert!(behind <= DISORDER_MS as i64, "{behind}");
        assert!(behind > DISORDER_MS as i64 * 9 / 10, "{behind}");
    }
}
