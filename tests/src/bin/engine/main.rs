//! One case of `scripts/bench engine`: runs it once as a job and prints what it took, as one JSON line.
//!
//! The clock runs from just before the first source subtask makes its first record until the last sink subtask has taken its last
//! one. Starting the embedded cluster, or the two workers, is outside of it.
//!
//! Its allocator is the one that `spindle-stream` brings to every job, mimalloc, and the reference has the same: two engines with
//! different allocators cannot be compared.

mod cases;
mod latency;
mod measure;
mod nexmark;
mod queries;
mod state;
mod two_workers;
mod words;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::measure::{Measured, Stopwatch};

/// Runs one case of the engine's benchmarks once, and prints one JSON line.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// What to run.
    #[arg(value_enum)]
    case: Case,
    /// How many records the sources make, all subtasks together; of `state`, how many keys they have.
    #[arg(long)]
    records: u64,
    /// Number of subtasks of each operator.
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    #[command(flatten)]
    state: state::Options,
}

/// A job that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Words by key, a running count.
    Wordcount,
    /// Tumbling windows of event time over numbers, counted.
    Window,
    /// Numbers from each of two workers to each of both, over TCP.
    Exchange,
    /// The same with records of a text and two numbers.
    ExchangeRows,
    /// Milliseconds from source to sink over a keyed exchange between two workers.
    Latency,
    /// Counts of numbers, with and without checkpoints.
    State,
    /// Nothing but making the events of the Nexmark queries.
    NexmarkEvents,
    /// All events as they are.
    NexmarkQ0,
    /// Bids with their prices in another currency.
    NexmarkQ1,
    /// Bids for some auctions.
    NexmarkQ2,
    /// What persons of some cities sell, by a join without windows.
    NexmarkQ3,
    /// Average closing prices, by a join with timers.
    NexmarkQ4,
    /// The auctions with the most bids, in sliding windows.
    NexmarkQ5,
    /// The highest bids, in tumbling windows.
    NexmarkQ7,
    /// New persons who sell, by a join in tumbling windows.
    NexmarkQ8,
    /// Bids of each bidder, in session windows.
    NexmarkQ11,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.case == Case::Latency {
        return done(latency::run(args.records));
    }
    if args.case == Case::State {
        return done(state::run(args.records, args.parallelism, &args.state));
    }
    let watch = Stopwatch::default();
    let job = |env: &mut spindle_stream::StreamEnvironment| match args.case {
        Case::Wordcount => cases::wordcount(env, args.records, &watch),
        Case::Window => cases::window(env, args.records, &watch),
        Case::Exchange => cases::exchange(env, args.records, &watch),
        Case::ExchangeRows => cases::exchange_rows(env, args.records, &watch),
        Case::NexmarkQ0 => queries::run(env, args.records, &watch, queries::q0),
        Case::NexmarkQ1 => queries::run(env, args.records, &watch, queries::q1),
        Case::NexmarkQ2 => queries::run(env, args.records, &watch, queries::q2),
        Case::NexmarkQ3 => queries::run(env, args.records, &watch, queries::q3),
        Case::NexmarkQ4 => queries::run(env, args.records, &watch, queries::q4),
        Case::NexmarkQ5 => queries::run(env, args.records, &watch, queries::q5),
        Case::NexmarkQ7 => queries::run(env, args.records, &watch, queries::q7),
        Case::NexmarkQ8 => queries::run(env, args.records, &watch, queries::q8),
        Case::NexmarkQ11 => queries::run(env, args.records, &watch, queries::q11),
        Case::Latency | Case::State | Case::NexmarkEvents => {}
    };
    let ran = match args.case {
        Case::Exchange | Case::ExchangeRows => two_workers::run(job, two_workers::BUFFER_TIMEOUT),
        Case::NexmarkEvents => {
            nexmark::make_and_drop(args.records, &watch);
            Ok(())
        }
        Case::Latency
        | Case::State
        | Case::Wordcount
        | Case::Window
        | Case::NexmarkQ0
        | Case::NexmarkQ1
        | Case::NexmarkQ2
        | Case::NexmarkQ3
        | Case::NexmarkQ4
        | Case::NexmarkQ5
        | Case::NexmarkQ7
        | Case::NexmarkQ8
        | Case::NexmarkQ11 => embedded(job, args.parallelism),
    };
    let ran = ran.and_then(|()| watch.read(args.records));
    done(ran.and_then(|took| match args.case.expected(args.records) {
        Some(expected) if took.out != expected => Err(format!(
            "{} records reached the sinks, not {expected}",
            took.out
        )),
        Some(_) | None => Ok(took),
    }))
}

impl Case {
    /// How many records reach its sinks, where that is known beforehand.
    const fn expected(self, records: u64) -> Option<u64> {
        match self {
            Self::Wordcount
            | Self::Exchange
            | Self::ExchangeRows
            | Self::NexmarkEvents
            | Self::NexmarkQ0 => Some(records),
            Self::NexmarkQ1 if records.is_multiple_of(nexmark::ROUND) => {
                Some(records / nexmark::ROUND * nexmark::BIDS)
            }
            Self::Window
            | Self::Latency
            | Self::State
            | Self::NexmarkQ1
            | Self::NexmarkQ2
            | Self::NexmarkQ3
            | Self::NexmarkQ4
            | Self::NexmarkQ5
            | Self::NexmarkQ7
            | Self::NexmarkQ8
            | Self::NexmarkQ11 => None,
        }
    }
}

/// Runs a job as it runs by itself.
fn embedded(
    job: impl FnOnce(&mut spindle_stream::StreamEnvironment),
    parallelism: u32,
) -> Result<(), String> {
    let exit = spindle_stream::main("engine", |env| {
        env.set_parallelism(parallelism);
        job(env);
        Ok(())
    });
    if exit == ExitCode::SUCCESS {
        Ok(())
    } else {
        Err("the job did not finish".to_owned())
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the line is what the program is for"
)]
fn done(measured: Result<impl Measured, String>) -> ExitCode {
    match measured.and_then(|measured| measured.json()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
