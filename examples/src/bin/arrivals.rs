//! Watches a directory for files of JSON lines, and prints each sensor's highest temperature whenever it rises.
//!
//! ```text
//! {"sensor": "attic", "celsius": 31.5}
//! ```

use std::fmt::{self, Display};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

use spindle_stream::connectors::file::{BadRecords, FileSource, SkippedRecords};

/// Prints the highest temperature of each sensor, as files with readings arrive in a directory.
#[derive(Debug, Parser)]
struct Args {
    /// Directory to watch. Files in it may be packed: `.gz`, `.zst`.
    #[arg(long, value_name = "URI")]
    input: String,
    /// How often to look for new files, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    every: u64,
    /// End when a file of this name, such as `_SUCCESS`, is there; otherwise the job has no end.
    #[arg(long, value_name = "NAME")]
    until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

impl Reading {
    /// The higher of two readings; the earlier one if they are alike.
    fn higher(self, other: Self) -> Self {
        if other.celsius > self.celsius {
            other
        } else {
            self
        }
    }
}

impl Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.1} °C", self.sensor, self.celsius)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("arrivals", move |env| {
        let mut arriving = FileSource::json_lines::<Reading>(args.input)
            .bad_records(BadRecords::Skip(SkippedRecords::default()))
            .monitor_continuously(Duration::from_millis(args.every));
        if let Some(name) = args.until {
            arriving = arriving.until(name);
        }
        env.source("read readings", arriving)
            .key_by(|reading| reading.sensor.clone())
            .reduce(Reading::higher)
            .name("highest by sensor")
            .print();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(celsius: f64) -> Reading {
        Reading {
            sensor: "attic".to_owned(),
            celsius,
        }
    }

    #[test]
    fn the_higher_reading_stays() {
        assert_eq!(reading(20.0).higher(reading(31.5)), reading(31.5));
        assert_eq!(reading(31.5).higher(reading(20.0)), reading(31.5));
        assert_eq!(reading(31.5).to_string(), "attic: 31.5 °C");
    }
}
