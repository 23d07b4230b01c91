//! A job of which a part ends long before the rest: few numbers into files of their own, and united with many that take their time.

use std::process::ExitCode;

use clap::Parser;
use spindle_stream::connectors::file::FileSink;
use spindle_stream::connectors::generator::GeneratorSource;

/// Writes few numbers, and few and many together.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How many numbers the source has that ends early: 0, 1, ….
    #[arg(long)]
    few: u64,
    /// How many the other has; they follow on those of the first.
    #[arg(long)]
    many: u64,
    /// Numbers a second of the latter, all subtasks together.
    #[arg(long)]
    rate: f64,
    /// Directory to write two directories of part files into.
    #[arg(long, value_name = "URI")]
    output: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("endings", move |env| {
        let few = env.source("few", GeneratorSource::new(|n| n).count(args.few));
        let first = args.few;
        let many = GeneratorSource::new(move |n| first + n);
        let many = env.source("many", many.count(args.many).per_second(args.rate));
        few.sink_to(FileSink::text(format!("{}/few", args.output)))
            .name("write few");
        few.union(&[&many])
            .rebalance()
            .sink_to(FileSink::text(format!("{}/all", args.output)))
            .name("write all");
        Ok(())
    })
}
