//! How long a record takes from a source to a sink: 100,000 a second, over a keyed exchange between two workers.
//!
//! A record's time begins when it is due, not when the source gets to it: a source that is held up does not hide what it is late
//! by. The first second is not counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, Sink, SourceReader, SourceStatus};
use spindle_stream::connector::{SinkFactory, Source};
use spindle_stream::context::{PlanContext, PlanError, SinkContext, SourceContext};

use crate::two_workers;
use crate::words::scatter;

/// All source subtasks together.
const RECORDS_PER_SECOND: u64 = 100_000;
const KEYS: u64 = 10_000;
const BUFFER_TIMEOUT: Duration = Duration::from_millis(1);
/// How long a source that has nothing due waits.
const LOOK: Duration = Duration::from_micros(200);
/// While connections and caches are cold.
const WARM_UP: Duration = Duration::from_secs(1);

/// A key, and when its record was due, in microseconds since the run began.
type Stamped = (u64, u64);

/// The percentiles of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    records: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// Runs the job.
pub(crate) fn run(records: u64) -> Result<Latency, String> {
    let clock = Clock::default();
    let seen: Seen = Arc::default();
    two_workers::run(
        |env| {
            env.source(
                "paced",
                Paced {
                    records,
                    clock: clock.clone(),
                },
            )
            .key_by(|(key, _)| *key)
            .scan(
                || 0_u64,
                |last, (key, due)| {
                    *last = due;
                    (key, due)
                },
            )
            .name("last")
            .sink_to(Arrivals {
                clock: clock.clone(),
                seen: Arc::clone(&seen),
            })
            .name("arrivals");
        },
        BUFFER_TIMEOUT,
    )?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.sort_unstable();
    let (Some(last), Some(_)) = (seen.len().checked_sub(1), seen.first()) else {
        return Err(format!(
            "no record was counted: more than the {RECORDS_PER_SECOND} of the first second are needed"
        ));
    };
    let of = |share: f64| f64::from(seen[(last as f64 * share) as usize]) / 1000.0;
    Ok(Latency {
        records: seen.len() as u64,
        p50_ms: of(0.5),
        p99_ms: of(0.99),
        p999_ms: of(0.999),
        max_ms: of(1.0),
    })
}

/// Microseconds of each record that arrived.
type Seen = Arc<Mutex<Vec<u32>>>;

/// One clock for both ends; it starts with the first source.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<std::sync::OnceLock<Instant>>);

impl Clock {
    fn micros(&self) -> u64 {
        self.0.get_or_init(Instant::now).elapsed().as_micros() as u64
    }
}

struct Paced {
    records: u64,
    clock: Clock,
}

impl Source<Stamped> for Paced {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        let of = |subtask: u32| SourceSplit {
            name: format!("every {}th record from {subtask}", context.parallelism),
            payload: Vec::new(),
        };
        Ok((0..context.parallelism)
            .map(|subtask| vec![of(subtask)])
            .collect())
    }

    fn reader(
        &self,
        _: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<Stamped>>, OperatorError> {
        Ok(Box::new(PacedReader {
            next: u64::from(context.subtask),
            stride: u64::from(context.parallelism),
            records: self.records,
            clock: self.clock.clone(),
        }))
    }
}

struct PacedReader {
    next: u64,
    stride: u64,
    records: u64,
    clock: Clock,
}

impl SourceReader<Stamped> for PacedReader {
    fn read(&mut self, out: &mut Batch<Stamped>) -> Result<SourceStatus, OperatorError> {
        let now = self.clock.micros();
        while self.next < self.records {
            let due = self.next * 1_000_000 / RECORDS_PER_SECOND;
            if due > now {
                break;
            }
            out.push((scatter(self.next) % KEYS, due), None);
            self.next += self.stride;
        }
        if self.next >= self.records {
            return Ok(SourceStatus::EndOfInput);
        }
        if out.is_empty() {
            thread::sleep(LOOK);
        }
        Ok(SourceStatus::More)
    }
}

struct Arrivals {
    clock: Clock,
    seen: Seen,
}

impl SinkFactory<Stamped> for Arrivals {
    fn sink(&self, _: SinkContext) -> Result<Box<dyn Sink<Stamped>>, OperatorError> {
        Ok(Box::new(ArrivalSink {
            clock: self.clock.clone(),
            seen: Arc::clone(&self.seen),
            mine: Vec::new(),
        }))
    }
}

struct ArrivalSink {
    clock: Clock,
    seen: Seen,
    mine: Vec<u32>,
}

impl Sink<Stamped> for ArrivalSink {
    fn write(&mut self, batch: &mut Batch<Stamped>) -> Result<(), OperatorError> {
        let now = self.clock.micros();
        let counted = batch
            .records
            .iter()
            .filter(|(_, due)| u128::from(*due) >= WARM_UP.as_micros());
        self.mine
            .extend(counted.map(|(_, due)| u32::try_from(now - due).unwrap_or(u32::MAX)));
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.append(&mut self.mine);
        Ok(false)
    }
}
