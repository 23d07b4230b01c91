//! A job whose output is known whatever is killed while it runs: two streams, a keyed window over one, a join of both, part files.
//!
//! Numbers are records and event times (in milliseconds) at once, so what comes out follows from how many there are:
//! [`expected`](spindle_tests::durable) says it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use spindle_stream::connectors::file::FileSink;
use spindle_stream::connectors::generator::GeneratorSource;
use spindle_stream::{Count, EventTime, Tumbling, WatermarkStrategy};
use spindle_tests::durable::{KEYS, REACH_MS, WINDOW_MS, bid_key};

/// Counts one stream in windows and joins it with another.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How many numbers each stream has.
    #[arg(long)]
    records: u64,
    /// Numbers a second of each stream, all subtasks together.
    #[arg(long)]
    rate: f64,
    /// Directory to write two directories of CSV part files into.
    #[arg(long, value_name = "URI")]
    output: String,
    /// Leave the join out.
    #[arg(long)]
    without_pairs: bool,
    /// Panic at this number, the first time that this process comes by.
    #[arg(long)]
    panic_at: Option<u64>,
}

/// How often a key came in a window.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted {
    key: u64,
    start: i64,
    count: u64,
}

/// Two numbers that belong together.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pair {
    ask: u64,
    bid: u64,
}

static PANICKED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("durable", move |env| {
        let source = |name: &str| {
            let numbers = GeneratorSource::new(|n| n)
                .count(args.records)
                .per_second(args.rate);
            env.source(name, numbers)
                .uid(name)
                .assign_timestamps(WatermarkStrategy::monotonous(), |n: &u64| {
                    EventTime::from_millis(*n as i64)
                })
                .uid(&format!("times of {name}"))
        };
        let panic_at = args.panic_at;
        let asks = source("asks").map(move |n| {
            if Some(n) == panic_at && !PANICKED.swap(true, Ordering::Relaxed) {
                panic!("number {n} is one too many");
            }
            n
        });
        asks.key_by(|n| n % KEYS)
            .window(Tumbling::of(Duration::from_millis(WINDOW_MS)))
            .aggregate_with(Count, |key: &u64, window, count| Counted {
                key: *key,
                start: window.start.as_millis(),
                count,
            })
            .name("count")
            .uid("count")
            .sink_to(FileSink::csv(format!("{}/counts", args.output)))
            .name("write counts")
            .uid("write counts");
        if args.without_pairs {
            return Ok(());
        }
        let bids = source("bids");
        asks.key_by(|n| n % KEYS)
            .interval_join(&bids.key_by(|n| bid_key(*n)))
            .between(0, REACH_MS as i64)
            .process(|ask: &u64, bid: &u64, ctx| {
                ctx.emit(Pair {
                    ask: *ask,
                    bid: *bid,
                });
                Ok(())
            })
            .name("join")
            .uid("join")
            .sink_to(FileSink::csv(format!("{}/pairs", args.output)))
            .name("write pairs")
            .uid("write pairs");
        Ok(())
    })
}
