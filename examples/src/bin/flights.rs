//! For each airport and each hour of scheduled departure: how many flights, how many cancelled, and how late the others left.
//!
//! The input is the `flights.csv` of nycflights13: all flights that left New York City in 2013, one per line.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use spindle_stream::connectors::file::{FileSink, FileSource};
use spindle_stream::{EventTime, Fold, TimeWindow, Tumbling, WatermarkStrategy};

/// Counts flights and their delays, by airport and hour.
#[derive(Debug, Parser)]
struct Args {
    /// CSV file, directory or pattern to read.
    #[arg(long, value_name = "URI")]
    input: String,
    /// Directory to write CSV part files into.
    #[arg(long, value_name = "URI")]
    output: String,
    /// Replace the part files of an earlier run.
    #[arg(long)]
    overwrite: bool,
}

/// The columns that matter here, by the names that they have in the file's header.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flight {
    origin: String,
    /// When it left, as `hhmm`; a flight that never did was cancelled.
    dep_time: Option<u32>,
    /// Minutes; negative if it left early.
    dep_delay: Option<i64>,
    /// The hour in which it should have left.
    time_hour: Timestamp,
}

/// One row of the result.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AirportHour {
    window_start: String,
    origin: String,
    flights: u64,
    cancelled: u64,
    /// Minutes, with two decimals; empty if no flight left.
    mean_dep_delay: String,
}

/// What is kept of the flights of one airport and hour, instead of the flights themselves.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    flights: u64,
    departed: u32,
    delay_minutes: i64,
}

impl Tally {
    fn add(&mut self, flight: &Flight) {
        self.flights += 1;
        if flight.dep_time.is_some() {
            self.departed += 1;
            self.delay_minutes += flight.dep_delay.unwrap_or(0);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.flights += other.flights;
        self.departed += other.departed;
        self.delay_minutes += other.delay_minutes;
    }

    fn row(origin: &str, window: TimeWindow, tally: Self) -> AirportHour {
        let mean = tally.delay_minutes as f64 / f64::from(tally.departed);
        AirportHour {
            window_start: Timestamp::from_millisecond(window.start.as_millis())
                .expect("windows start at hours that were read from the file")
                .to_string(),
            origin: origin.to_owned(),
            flights: tally.flights,
            cancelled: tally.flights - u64::from(tally.departed),
            mean_dep_delay: if tally.departed > 0 {
                format!("{mean:.2}")
            } else {
                String::new()
            },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("flights", move |env| {
        // The file's months stand in the order 1, 10, 11, 12, 2, …, 9, so a flight of January may be read after one of December.
        // A record is late, and lost, only if it is older than the newest one by more than this bound; no two flights of one year
        // are 366 days apart. The price: windows stay open until the input ends.
        let whole_year = Duration::from_secs(366 * 24 * 60 * 60);

        env.source(
            "read flights",
            FileSource::csv::<Flight>(args.input).null_value("NA"),
        )
        .assign_timestamps(
            WatermarkStrategy::bounded_out_of_orderness(whole_year),
            |flight| EventTime::from_millis(flight.time_hour.as_millisecond()),
        )
        .key_by_ref(|flight| &flight.origin)
        .window(Tumbling::of(Duration::from_secs(60 * 60)))
        .aggregate_with(
            Fold::new(Tally::default, Tally::add, Tally::merge, |tally: &Tally| {
                *tally
            }),
            |origin: &String, window, tally| Tally::row(origin, window, tally),
        )
        .name("tally by airport and hour")
        .sink_to(FileSink::csv(args.output).overwrite(args.overwrite))
        .name("write tallies");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(dep_time: Option<u32>, dep_delay: Option<i64>) -> Flight {
        Flight {
            origin: "JFK".to_owned(),
            dep_time,
            dep_delay,
            time_hour: Timestamp::UNIX_EPOCH,
        }
    }

    fn mean_of(flights: &[Flight]) -> (u64, u64, String) {
        let mut tally = Tally::default();
        for flight in flights {
            tally.add(flight);
        }
        let hour = Tumbling::of(Duration::from_secs(3600)).window_of(EventTime::from_millis(1));
        let row = Tally::row("JFK", hour, tally);
        assert_eq!(row.window_start, "1970-01-01T00:00:00Z");
        (row.flights, row.cancelled, row.mean_dep_delay)
    }

    #[test]
    fn cancelled_flights_are_counted_but_have_no_delay() {
        let cancelled = flight(None, None);
        let (late, early) = (flight(Some(517), Some(2)), flight(Some(1), Some(-3)));
        assert_eq!(
            mean_of(std::slice::from_ref(&cancelled)),
            (1, 1, String::new())
        );
        assert_eq!(
            mean_of(&[late, cancelled, early]),
            (3, 1, "-0.50".to_owned())
        );
    }
}
