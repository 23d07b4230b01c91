//! A job whose last operator, and so its sink, stands still until it is let go, for the end-to-end suites.
//!
//! Numbers are made as fast as they are taken and go to the subtask of their key, which sees each of its keys counted upwards without a gap.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

use spindle_stream::connectors::generator::GeneratorSource;
use spindle_stream::{KeyedContext, States};

/// Counts numbers by their remainder, and stands still on the way.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How many numbers, from 0: so many times a thousand.
    #[arg(long)]
    thousands: u64,
    /// Stand still from the hundredth thousand on, until this file is there.
    #[arg(long, value_name = "FILE")]
    until: PathBuf,
}

const KEYS: u64 = 1000;
/// Which record of each key waits to be let go.
const STANDS_AT: u64 = 100;

/// A number, and something to carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Numbered {
    n: u64,
    load: String,
}

/// How many records of a key came.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted {
    key: u64,
    count: u64,
}

fn stand_still(until: &Path) {
    while !until.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("standstill", move |env| {
        let Args { thousands, until } = args;
        let make = |n| Numbered {
            n,
            load: format!("{n:0>100}"),
        };
        env.source(
            "numbers",
            GeneratorSource::new(make).count(thousands * KEYS),
        )
        .key_by(|record| record.n % KEYS)
        .process(move |states: &mut States| {
            let seen = states.value::<u64>("seen");
            let until = until.clone();
            move |record: Numbered, ctx: &mut KeyedContext<'_, u64, Counted>| {
                let (key, count) = (*ctx.key(), seen.get(ctx).copied().unwrap_or(0));
                if record.n != key + count * KEYS || record.load != format!("{:0>100}", record.n) {
                    let n = record.n;
                    return Err(
                        format!("{n} came where record {count} of key {key} should be").into(),
                    );
                }
                if count == STANDS_AT {
                    stand_still(&until);
                }
                seen.set(ctx, count + 1);
                if count + 1 == thousands {
                    ctx.emit(Counted {
                        key,
                        count: thousands,
                    });
                }
                Ok(())
            }
        })
        .name("stand still")
        .collect("counts");
        Ok(())
    })
}
