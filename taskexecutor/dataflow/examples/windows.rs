//! How fast the window operators are by themselves: `cargo run --release -p spindle-dataflow --example windows`. Millions of records a
//! second, the best of five runs: batches of 1024 records with a watermark behind each, without source, exchange and sink.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures, and prints what it measured"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use spindle_common::time::{EventTime, MonoTime, Watermark};
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::chain::Clock;
use spindle_dataflow::collector::{Collector, Control, SideOutputs};
use spindle_dataflow::key::ByValue;
use spindle_dataflow::mailbox::Mailbox;
use spindle_dataflow::operator::{
    AggregateFunction, Count, EndOfWindow, OperatorContext, Results, SessionWindows,
    SlidingWindows, TimeWindow, ToList, TumblingWindows, WindowSpec, Windows, window_operator,
};
use spindle_dataflow::task::TaskError;

/// Counts what comes out.
struct Drain(u64);

impl Control for Drain {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }
}

impl<T> Collector<T> for Drain {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        self.0 += batch.len() as u64;
        Ok(())
    }
}

fn context() -> OperatorContext {
    OperatorContext {
        uid: Arc::from("uid"),
        name: Arc::from("window"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
        mailbox: Mailbox::default(),
        sides: SideOutputs::default(),
        stores: None,
    }
}

/// Keys for `records` records.
type KeyOf = fn(u64) -> u64;

fn run<A: AggregateFunction<u64, Output: Clone>>(
    windows: &Windows<u64>,
    lateness_ms: i64,
    function: A,
    per_ms: u64,
    records: u64,
    key: KeyOf,
) -> f64 {
    let spec = WindowSpec {
        selector: Arc::new(ByValue(|key: &u64| *key)),
        windows: windows.clone(),
        lateness_ms,
        late: None,
    };
    let output = |key: &u64, window: TimeWindow, _: A::Output| (*key, window.start.as_millis());
    let mut operator = window_operator(
        &context(),
        &spec,
        Arc::new(function),
        Arc::new(Results(output)),
        Arc::new(EndOfWindow::of(windows)),
        Box::new(Drain(0)),
    );
    // Made before the clock starts: 64 batches of keys, used again and again.
    let keys: Vec<u64> = (0..64 * BATCH_RECORDS as u64).map(key).collect();
    let mut batch = Batch::new();
    let start = Instant::now();
    let mut at = 0_u64;
    while at < records {
        let from = at as usize % keys.len();
        batch.clear();
        batch
            .records
            .extend_from_slice(&keys[from..from + BATCH_RECORDS]);
        let times = at..at + BATCH_RECORDS as u64;
        batch
            .timestamps
            .extend(times.map(|n| EventTime::from_millis((n / per_ms) as i64)));
        operator.push(&mut batch).expect("nothing fails");
        at += BATCH_RECORDS as u64;
        let mark = Watermark(EventTime::from_millis((at / per_ms) as i64 - 1));
        operator.watermark(mark).expect("nothing fails");
    }
    operator.watermark(Watermark::MAX).expect("nothing fails");
    records as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn best(name: &str, mut measure: impl FnMut() -> f64) {
    let best = (0..5).map(|_| measure()).fold(0.0, f64::max);
    println!("{name:60} {best:8.1}");
}

fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

fn main() {
    let seconds = Duration::from_secs;
    let tumbling: Windows<u64> = TumblingWindows::of(seconds(10)).into();
    let sliding: Windows<u64> = SlidingWindows::of(seconds(10), seconds(2)).into();
    let minute: Windows<u64> = SlidingWindows::of(seconds(60), seconds(1)).into();
    let session: Windows<u64> = SessionWindows::with_gap(seconds(10)).into();
    let ten_thousand: KeyOf = |n| scattered(n) % 10_000;
    let auctions: KeyOf = |n| {
        if n % 2 == 0 {
            n / 800 * 48
        } else {
            n * 3 / 50 + scattered(n) % 100
        }
    };
    let records = 20_000_000;
    best("tumbling 10 s, count, 10,000 keys, 1000 a ms", || {
        run(&tumbling, 0, Count, 1000, records, ten_thousand)
    });
    best("tumbling 10 s, count, 10,000 keys, 10 a ms", || {
        run(&tumbling, 0, Count, 10, records, ten_thousand)
    });
    best("tumbling 10 s, list, 10,000 keys, 100 a ms", || {
        run(&tumbling, 0, ToList, 100, records, ten_thousand)
    });
    best("tumbling 10 s, count, lateness 1 s, 10 a ms", || {
        run(&tumbling, 1000, Count, 10, records, ten_thousand)
    });
    best("sliding 10 s / 2 s, count, auctions, 10 a ms", || {
        run(&sliding, 0, Count, 10, records, auctions)
    });
    best("sliding 60 s / 1 s, count, 10,000 keys, 100 a ms", || {
        run(&minute, 0, Count, 100, records, ten_thousand)
    });
    best("session 10 s, count, 10,000 keys, 10 a ms", || {
        run(&session, 0, Count, 10, records, ten_thousand)
    });
}
