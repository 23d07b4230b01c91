//! Tumbling windows of ten seconds, counted by key, with a watermark after each batch; firing is in the figure.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use spindle_common::time::{EventTime, Watermark};
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::key::ByValue;
use spindle_dataflow::operator::{
    Count, EndOfWindow, Results, TimeWindow, TumblingWindows, WindowSpec, Windows, window_operator,
};

use crate::data::{Nowhere, context, keys, throughput};

/// A batch of keys, so many of which make a second of event time.
fn batch(from: u64, per_second: u64) -> Batch<u64> {
    let time = |index| EventTime((index * 1000 / per_second) as i64);
    Batch {
        records: keys(from),
        timestamps: (from..from + BATCH_RECORDS as u64).map(time).collect(),
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tumbling window of 10 s and 10,000 keys");
    group.throughput(throughput());
    for (name, per_second) in [
        ("1 M events a second", 1_000_000),
        ("10,000 events a second", 10_000),
    ] {
        let output = |key: &u64, window: TimeWindow, count: u64| (*key, window.start.0, count);
        let windows = Windows::from(TumblingWindows::of(Duration::from_secs(10)));
        let spec = WindowSpec {
            selector: Arc::new(ByValue(|key: &u64| *key)),
            windows: windows.clone(),
            lateness_ms: 0,
            late: None,
        };
        let mut operator = window_operator(
            &context(),
            &spec,
            Arc::new(Count),
            Arc::new(Results(output)),
            Arc::new(EndOfWindow::of(&windows)),
            Box::new(Nowhere),
        );
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || {
                    next += BATCH_RECORDS as u64;
                    batch(next, per_second)
                },
                |batch| {
                    let latest = batch.timestamps.last().map_or(0, |time| time.0);
                    operator.push(batch).expect("counting does not fail");
                    let watermark = Watermark(EventTime(latest - 1000));
                    operator.watermark(watermark).expect("firing does not fail");
                },
                // One after another: event time goes on with each batch.
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
