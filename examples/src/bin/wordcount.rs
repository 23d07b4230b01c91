//! Counts the words of some text.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

use spindle_stream::connectors::file::{FileSink, FileSource};
use spindle_stream::{Count, EventTime, Tumbling, WatermarkStrategy};

/// Counts words: runs of letters and digits, upper and lower case alike.
#[derive(Debug, Parser)]
struct Args {
    /// Text file, directory or pattern to read.
    #[arg(long, value_name = "URI")]
    input: String,
    /// Directory to write CSV part files into.
    #[arg(long, value_name = "URI")]
    output: String,
}

/// One row of the result.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WordCount {
    word: String,
    count: u64,
}

fn words(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("wordcount", move |env| {
        env.source("read lines", FileSource::lines(args.input))
            .flat_map(|line: String| words(&line))
            .name("split into words")
            // Text has no time. With the same one for all words they are in one window, which closes when the input ends: so each
            // word is written once, with its final count. A running `reduce` would write a new count for each word it reads.
            .assign_timestamps(WatermarkStrategy::monotonous(), |_| {
                EventTime::from_millis(0)
            })
            .key_by_ref(|word| word)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate_with(Count, |word: &String, _, count| WordCount {
                word: word.clone(),
                count,
            })
            .name("count")
            .sink_to(FileSink::csv(args.output))
            .name("write counts");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("The 3rd—É, don't!"), ["the", "3rd", "é", "don", "t"]);
        assert!(words(" ... ").is_empty());
    }
}
