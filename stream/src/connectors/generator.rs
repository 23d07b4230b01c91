//! Records made from their numbers, at a rate or as fast as they are taken.

mod pace;

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use self::pace::Pace;
use super::idle::{Idle, SHORTEST};
use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};

/// Makes records from the numbers 0, 1, 2 …, without end or up to a count. Flink: `DataGeneratorSource`.
///
/// The subtasks take the numbers in turn, so that at a rate those of all subtasks come about in their order: of three, the first makes the
/// records 0, 3, 6 ….
///
/// ```
/// use spindle_stream::connectors::generator::GeneratorSource;
///
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// let ticks = GeneratorSource::new(|n| n * 10).per_second(2000.0).count(100);
/// let start = std::time::Instant::now();
/// harness.env().source("ticks", ticks).filter(|ms| *ms < 30).collect("ticks");
/// assert_eq!(harness.run().unwrap().collected::<u64>("ticks"), [0, 10, 20]);
/// // The last of 100 is due 99 intervals after the first.
/// assert!(start.elapsed().as_micros() >= 99 * 500);
/// ```
pub struct GeneratorSource<F> {
    count: Option<u64>,
    per_second: Option<f64>,
    make: Arc<F>,
}

impl<F> GeneratorSource<F> {
    /// Without end, as fast as the records are taken.
    pub fn new<T>(make: F) -> Self
    where
        F: Fn(u64) -> T + Send + Sync + 'static,
    {
        Self {
            count: None,
            per_second: None,
            make: Arc::new(make),
        }
    }

    /// Ends after this many records of all subtasks together.
    #[must_use]
    pub const fn count(mut self, records: u64) -> Self {
        self.count = Some(records);
        self
    }

    /// Makes this many records a second, of all subtasks together; each makes its share of them. Flink: `RateLimiterStrategy.perSecond`.
    ///
    /// The pace is kept over time: what a subtask could not make in time, because it was held up for less than a second, it makes
    /// up for. What it misses beyond a second is not made up for, so that there is no flood after a long stop.
    #[must_use]
    pub const fn per_second(mut self, records: f64) -> Self {
        self.per_second = Some(records);
        self
    }
}

impl<T: 'static, F: Fn(u64) -> T + Send + Sync + 'static> Source<T> for GeneratorSource<F> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        if let Some(rate) = self.per_second
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(PlanError::Input(format!(
                "a generator cannot make {rate} records a second: give a number above 0, or leave the rate out"
            )));
        }
        // What a subtask makes follows from which it is.
        let split = |subtask: u32| SourceSplit {
            name: format!(
                "{subtask}, {}, …",
                u64::from(subtask) + u64::from(context.parallelism)
            ),
            payload: Vec::new(),
        };
        Ok((0..context.parallelism)
            .map(|subtask| vec![split(subtask)])
            .collect())
    }

    fn reader(
        &self,
        _: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        let parallelism = u64::from(context.parallelism);
        let (first, end) = (u64::from(context.subtask), self.count.unwrap_or(u64::MAX));
        let pace = self
            .per_second
            .map(|per_second| Pace::new(per_second, context.subtask, context.parallelism));
        let numbers = Numbers {
            next: first,
            step: parallelism,
        };
        Ok(Box::new(NumberReader {
            end,
            bounded: self.count.is_some(),
            made: 0,
            total: numbers.left(end),
            sequences: vec![numbers],
            pace: pace.map(|pace| (Instant::now(), pace)),
            idle: Idle::new(),
            make: Arc::clone(&self.make),
        }))
    }

    fn waits(&self) -> bool {
        self.per_second.is_some()
    }
}

/// Every so many of all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    next: u64,
    step: u64,
}

impl Numbers {
    /// The next ones, from which on it goes on.
    fn take(&mut self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let Self { next, step } = *self;
        self.next = next.saturating_add(count.saturating_mul(step));
        (0..count).map(move |n| next + n * step)
    }

    /// How many there are below `end`.
    const fn left(self, end: u64) -> u64 {
        end.saturating_sub(self.next).div_ceil(self.step)
    }
}

struct NumberReader<F> {
    /// What is to be made. One, unless it was restored at another parallelism.
    sequences: Vec<Numbers>,
    end: u64,
    bounded: bool,
    made: u64,
    total: u64,
    /// When it began, and how many records are due since then.
    pace: Option<(Instant, Pace)>,
    idle: Idle,
    make: Arc<F>,
}

impl<T, F: Fn(u64) -> T + Send + Sync> SourceReader<T> for NumberReader<F> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        let left = self.total - self.made;
        if left == 0 {
            return Ok(SourceStatus::EndOfInput);
        }
        let mut count = left.min(BATCH_RECORDS as u64);
        if let Some((begin, pace)) = &mut self.pace
            && count > 0
        {
            count = pace.take(begin.elapsed(), count);
            if count == 0 {
                // Waking up for each record would cost more than making it.
                let due = pace
                    .next_due()
                    .saturating_sub(begin.elapsed())
                    .max(SHORTEST);
                // Whoever wants the task to look up may unpark it.
                std::thread::park_timeout(self.idle.next_wait(Some(due)));
                return Ok(SourceStatus::More);
            }
        }
        self.idle.reset();
        let make = &self.make;
        if let [numbers] = &mut self.sequences[..] {
            out.records.extend(numbers.take(count).map(|n| make(n)));
        } else {
            // In the order of the numbers, as event time may follow them.
            for _ in 0..count {
                let numbers = self.sequences.iter_mut();
                let Some(least) = numbers.min_by_key(|numbers| numbers.next) else {
                    break;
                };
                out.records.extend(least.take(1).map(|n| make(n)));
            }
        }
        self.made += count;
        Ok(if self.made == self.total {
            SourceStatus::EndOfInput
        } else {
            SourceStatus::More
        })
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        let entries = self
            .sequences
            .iter()
            .map(|numbers| serde_json::to_vec(numbers).expect("two numbers are always JSON"));
        Ok(Some(entries.collect()))
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let sequences: Result<Vec<Numbers>, _> = entries
            .iter()
            .map(|entry| serde_json::from_slice(entry))
            .collect();
        self.sequences = sequences.map_err(|error| {
            OperatorError::permanent(format!(
                "the snapshot has no numbers to go on with: {error}"
            ))
        })?;
        self.made = 0;
        self.total = self
            .sequences
            .iter()
            .map(|numbers| numbers.left(self.end))
            .sum();
        Ok(())
    }

    fn state_type(&self) -> &'static str {
        "numbers"
    }

    fn progress(&self) -> Option<f64> {
        self.bounded.then(|| {
            if self.total == 0 {
                1.0
            } else {
                self.made as f64 / self.total as f64
            }
        })
    }
}

#[cfg(test)]
mod tests;
