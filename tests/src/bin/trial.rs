//! A bounded job that takes its time and fails on demand, for the end-to-end suites.
//!
//! It counts numbers upwards and sums them by their remainder: what comes out is known by arithmetic.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use spindle_stream::connectors::file::FileSink;
use spindle_stream::{ByteSize, EventTime, Fold, SlotProfile, Tumbling, WatermarkStrategy};

/// Sums numbers by their remainder.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How many numbers, from 0.
    #[arg(long)]
    records: u64,
    /// Numbers a second, all subtasks together; as fast as it goes without.
    #[arg(long)]
    rate: Option<f64>,
    /// Panic at this number.
    #[arg(long)]
    panic_at: Option<u64>,
    /// Go wrong in this way, at the number of `--fault-at`.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// Where to go wrong.
    #[arg(long, default_value_t = 500)]
    fault_at: u64,
    /// Directory to write CSV part files into.
    #[arg(long, value_name = "URI", required_unless_present = "collect")]
    output: Option<String>,
    /// Bring the rows to the client.
    #[arg(long)]
    collect: bool,
    /// Sum in a slot sharing group of its own, each slot with so many MiB.
    #[arg(long, value_name = "MIB")]
    group: Option<u64>,
    /// A file that has to be in the working directory of the job's processes, and what it has to say.
    #[arg(long, value_name = "NAME=TEXT")]
    shipped: Option<String>,
}

/// A way for a job to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// Panics.
    Panic,
    /// Aborts its process.
    Abort,
    /// Leaves its process.
    Exit,
    /// Overflows its stack.
    Overflow,
    /// Takes memory until there is none.
    Memory,
    /// Never comes back.
    Spin,
    /// Starts threads that never end, then panics.
    Leak,
}

impl Fault {
    fn strike(self, n: u64) {
        match self {
            Self::Panic => panic!("record {n} is one too many"),
            Self::Abort => std::process::abort(),
            Self::Exit => std::process::exit(42),
            Self::Overflow => {
                std::hint::black_box(deeper(n));
            }
            Self::Memory => loop {
                HOARD.with_borrow_mut(|hoard| hoard.push(vec![n.to_le_bytes()[0] | 1; 1 << 20]));
            },
            Self::Spin => loop {
                std::hint::spin_loop();
            },
            Self::Leak => {
                for _ in 0..50 {
                    std::thread::spawn(|| {
                        loop {
                            std::thread::park();
                        }
                    });
                }
                panic!("fifty threads are left behind");
            }
        }
    }
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 64]);
    deeper(n + 1) + room[0]
}

/// One row of the result.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    key: u64,
    count: u64,
    sum: u64,
}

const KEYS: u64 = 100;

/// Holds a subtask back to its share of the rate, in steps of ten milliseconds.
struct Pace {
    start: Instant,
    done: u64,
    rate: f64,
}

impl Pace {
    fn step(&mut self) {
        self.done += 1;
        let due = Duration::from_secs_f64(self.done as f64 / self.rate);
        let ahead = due.saturating_sub(self.start.elapsed());
        if ahead > Duration::from_millis(10) {
            std::thread::sleep(ahead);
        }
    }
}

thread_local! {
    static HOARD: std::cell::RefCell<Vec<Vec<u8>>> = const { std::cell::RefCell::new(Vec::new()) };
    static PACE: std::cell::RefCell<Option<Pace>> = const { std::cell::RefCell::new(None) };
}

fn check_shipped(shipped: &str) {
    let (name, text) = shipped.split_once('=').unwrap_or((shipped, ""));
    match std::fs::read_to_string(name) {
        Ok(found) => assert!(found == text, "`{name}` says `{found}`"),
        Err(error) => panic!("`{name}` is not here: {error}"),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("trial", move |env| {
        let rate = args.rate.map(|rate| rate / f64::from(env.parallelism()));
        let (panic_at, fault, fault_at) = (args.panic_at, args.fault, args.fault_at);
        let shipped = args.shipped;
        let sums = env
            .generate(args.records, |n| n)
            .name("numbers")
            .map(move |n: u64| {
                if let Some(rate) = rate {
                    PACE.with_borrow_mut(|pace| {
                        let fresh = || Pace {
                            start: Instant::now(),
                            done: 0,
                            rate,
                        };
                        pace.get_or_insert_with(fresh).step();
                    });
                }
                if let Some(shipped) = &shipped
                    && n == 0
                {
                    check_shipped(shipped);
                }
                assert!(Some(n) != panic_at, "record {n} is one too many");
                if let Some(fault) = fault
                    && n == fault_at
                {
                    fault.strike(n);
                }
                n
            })
            .name("count upwards")
            .assign_timestamps(WatermarkStrategy::monotonous(), |_| {
                EventTime::from_millis(0)
            })
            .key_by(|n| n % KEYS)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate_with(
                Fold::new(
                    || (0, 0),
                    |(count, sum): &mut (u64, u64), n: &u64| {
                        *count += 1;
                        *sum += n;
                    },
                    |(count, sum): &mut (u64, u64), more: &(u64, u64)| {
                        *count += more.0;
                        *sum += more.1;
                    },
                    |total: &(u64, u64)| *total,
                ),
                |&key: &u64, _, (count, sum)| Row { key, count, sum },
            )
            .name("sum");
        let sums = match args.group {
            None => sums,
            Some(mib) => {
                let profile = SlotProfile::new(0.5, ByteSize::from_mib(mib));
                env.register_slot_sharing_group("sums", profile);
                sums.slot_sharing_group("sums")
            }
        };
        if args.collect {
            sums.collect("sums");
        }
        if let Some(output) = args.output {
            sums.sink_to(FileSink::csv(output)).name("write sums");
        }
        Ok(())
    })
}
