//! What every case is measured with: a source of numbered records, a sink that takes and drops them, and the clock between both.

use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, Sink, SourceReader, SourceStatus};
use spindle_stream::connector::{SinkFactory, Source};
use spindle_stream::context::{PlanContext, PlanError, SinkContext, SourceContext};

/// What a case has to say, as one line.
pub(crate) trait Measured {
    /// The line.
    ///
    /// # Errors
    /// In words, why there is none.
    fn json(&self) -> Result<String, String>;
}

/// What a run of a throughput case took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Throughput {
    records: u64,
    seconds: f64,
    records_per_second: f64,
    /// Records that reached the sinks.
    pub(crate) out: u64,
}

impl<M: Serialize> Measured for M {
    fn json(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| format!("the figures are no JSON: {error}"))
    }
}

/// The clock of a run, shared by all its sources and sinks. It is touched at the beginning and end of each, never for a record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopwatch(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    began: Option<Instant>,
    ended: Option<Instant>,
    out: u64,
}

impl Stopwatch {
    fn times<R>(&self, with: impl FnOnce(&mut Times) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A source begins.
    pub(crate) fn begin(&self) {
        let now = Instant::now();
        self.times(|times| times.began = Some(times.began.map_or(now, |began| began.min(now))));
    }

    /// A sink has taken all its records, this many.
    pub(crate) fn end(&self, records: u64) {
        let now = Instant::now();
        self.times(|times| {
            times.ended = times.ended.max(Some(now));
            times.out += records;
        });
    }

    /// What it shows after a run of this many records.
    pub(crate) fn read(&self, records: u64) -> Result<Throughput, String> {
        self.times(|times| {
            let (Some(began), Some(ended)) = (times.began, times.ended) else {
                return Err("no source began, or no sink ended".to_owned());
            };
            let seconds = (ended - began).as_secs_f64();
            Ok(Throughput {
                records,
                seconds,
                records_per_second: records as f64 / seconds,
                out: times.out,
            })
        })
    }
}

/// A source of records made from their numbers. Its subtasks take batches of numbers in turn, so that event time made from them
/// advances alike in all.
pub(crate) struct Numbered<F> {
    count: u64,
    make: Arc<F>,
    watch: Stopwatch,
}

impl<F> Numbered<F> {
    pub(crate) fn new(count: u64, make: F, watch: &Stopwatch) -> Self {
        Self {
            count,
            make: Arc::new(make),
            watch: watch.clone(),
        }
    }
}

impl<T: 'static, F: Fn(u64) -> T + Send + Sync + 'static> Source<T> for Numbered<F> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        let of = |subtask: u32| SourceSplit {
            name: format!("every {}th batch from {subtask}", context.parallelism),
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
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        Ok(Box::new(Reader {
            next: u64::from(context.subtask) * BATCH_RECORDS as u64,
            stride: u64::from(context.parallelism) * BATCH_RECORDS as u64,
            count: self.count,
            make: Arc::clone(&self.make),
            watch: Some(self.watch.clone()),
        }))
    }

    fn waits(&self) -> bool {
        false
    }
}

struct Reader<F> {
    next: u64,
    stride: u64,
    count: u64,
    make: Arc<F>,
    /// Until the first read.
    watch: Option<Stopwatch>,
}

impl<F> Reader<F> {
    fn batch(&mut self) -> Range<u64> {
        let start = self.next.min(self.count);
        self.next = self.next.saturating_add(self.stride);
        start..self.count.min(start + BATCH_RECORDS as u64)
    }
}

impl<T, F: Fn(u64) -> T + Send + Sync> SourceReader<T> for Reader<F> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        if let Some(watch) = self.watch.take() {
            watch.begin();
        }
        out.records.extend(self.batch().map(&*self.make));
        Ok(if self.next < self.count {
            SourceStatus::More
        } else {
            SourceStatus::EndOfInput
        })
    }
}

/// A sink that takes each record and drops it, in the thread that brought it.
pub(crate) struct Discard(Stopwatch);

impl Discard {
    pub(crate) fn new(watch: &Stopwatch) -> Self {
        Self(watch.clone())
    }
}

impl<T: Send + 'static> SinkFactory<T> for Discard {
    fn sink(&self, _: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        Ok(Box::new(Discarding {
            watch: self.0.clone(),
            records: 0,
        }))
    }

    fn waits(&self) -> bool {
        false
    }
}

struct Discarding {
    watch: Stopwatch,
    records: u64,
}

impl<T> Sink<T> for Discarding {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        self.records += batch.len() as u64;
        for record in batch.records.drain(..) {
            black_box(&record);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        self.watch.end(self.records);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subtasks_of_a_source_share_the_numbers_and_leave_none_out() {
        let mut all = Vec::new();
        for subtask in 0..3_u64 {
            let mut reader = Reader {
                next: subtask * BATCH_RECORDS as u64,
                stride: 3 * BATCH_RECORDS as u64,
                count: 10_000,
                make: Arc::new(|n| n),
                watch: None,
            };
            let mut batch = Batch::new();
            while reader.read(&mut batch).unwrap() == SourceStatus::More {}
            all.append(&mut batch.records);
        }
        all.sort_unstable();
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_clock_runs_from_the_first_begin_to_the_last_end() {
        let watch = Stopwatch::default();
        assert!(watch.read(1).is_err());
        watch.begin();
        let first = watch.times(|times| times.began);
        watch.begin();
        watch.end(3);
        watch.end(4);
        assert_eq!(watch.times(|times| times.began), first);
        assert_eq!(watch.read(10).unwrap().out, 7);
    }
}
