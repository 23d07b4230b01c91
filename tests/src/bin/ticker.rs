//! A job without an end that can be watched from outside: whoever lists a directory sees each record as its sink gets it.
//!
//! Numbers are counted by their key, which is state, and each subtask of the sink appends a line for each batch to a file of its own attempt,
//! `<subtask>-<attempt>`: the last number and its count. Such a sink has nothing to commit, so what is seen is not what is committed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use spindle_stream::connector::{Batch, OperatorError, Sink, SinkFactory};
use spindle_stream::connectors::generator::GeneratorSource;
use spindle_stream::context::SinkContext;

/// Counts numbers by their key for ever.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Numbers a second, all subtasks together.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Keys, each with a count in the state.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Directory of this machine, which all tasks write into.
    #[arg(long, value_name = "DIR")]
    watch: PathBuf,
}

/// A number with how many of its key have come.
type Counted = (u64, u64);

struct Watched(PathBuf);

impl SinkFactory<Counted> for Watched {
    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<Counted>>, OperatorError> {
        let execution = context.execution;
        let name = format!("{}-{}", execution.subtask, execution.attempt);
        let open = |directory: &Path| {
            fs::create_dir_all(directory)?;
            let path = directory.join(name);
            OpenOptions::new().create(true).append(true).open(path)
        };
        let file = open(&self.0).map_err(|error| {
            OperatorError::transient(format!("cannot write into `{}`: {error}", self.0.display()))
        })?;
        Ok(Box::new(Appending(file)))
    }
}

struct Appending(File);

impl Sink<Counted> for Appending {
    fn write(&mut self, batch: &mut Batch<Counted>) -> Result<(), OperatorError> {
        let Some((n, count)) = batch.records.last() else {
            return Ok(());
        };
        // At once, so that the line is whole for whoever reads.
        let line = format!("{n} {count}\n");
        let written = self.0.write_all(line.as_bytes());
        written.map_err(|error| OperatorError::transient(format!("cannot write a line: {error}")))
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        Ok(false)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("ticker", move |env| {
        let keys = args.keys;
        env.source("numbers", GeneratorSource::new(|n| n).per_second(args.rate))
            .key_by(move |n| n % keys)
            .scan(
                || 0,
                |count: &mut u64, n| {
                    *count += 1;
                    (n, *count)
                },
            )
            .name("count")
            .sink_to(Watched(args.watch))
            .name("watched");
        Ok(())
    })
}
