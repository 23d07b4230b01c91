//! The job: numbers without end, counted by key, and a sink that watches its thread.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::ClockId;
use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, Sink, SourceReader, SourceStatus};
use spindle_dataflow::task::Dataflow;
use spindle_stream::connector::{SinkFactory, Source};
use spindle_stream::context::{PlanContext, PlanError, SinkContext, SourceContext};
use spindle_stream::testing::Harness;

use crate::state::cpu;
use crate::words::scatter;

/// What the threads that count tell, all together.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// Records that were counted.
    pub(crate) records: AtomicU64,
    /// What the threads took of the cores.
    pub(crate) cpu_ns: AtomicU64,
    /// The longest time between two batches of a thread, by the clock on the wall.
    pub(crate) stall_ns: AtomicU64,
    /// The same by the clock of the thread.
    pub(crate) stall_cpu_ns: AtomicU64,
}

/// Counts so many keys in this many subtasks; once all are there, so many of them as are hot.
pub(crate) fn counting(
    keys: u64,
    hot: u64,
    parallelism: u32,
    probe: &Arc<Probe>,
) -> Result<Dataflow, String> {
    let mut harness = Harness::new(parallelism);
    harness
        .env()
        .source("numbers", Endless { keys, hot })
        .key_by(|key| *key)
        .scan(
            || 0_u64,
            |count, key| {
                *count += 1;
                (key, *count)
            },
        )
        .name("count")
        .sink_to(Watching(Arc::clone(probe)))
        .name("watch");
    harness.dataflow()
}

/// Each key once, then keys at random. The subtasks take batches of numbers in turn.
struct Endless {
    keys: u64,
    hot: u64,
}

impl Source<u64> for Endless {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        let split = |subtask| SourceSplit {
            name: format!("every {}th batch from {subtask}", context.parallelism),
            payload: Vec::new(),
        };
        Ok((0..context.parallelism).map(|n| vec![split(n)]).collect())
    }

    fn reader(
        &self,
        _: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<u64>>, OperatorError> {
        Ok(Box::new(Reader {
            keys: self.keys,
            hot: self.hot,
            next: u64::from(context.subtask) * BATCH_RECORDS as u64,
            stride: u64::from(context.parallelism) * BATCH_RECORDS as u64,
        }))
    }
}

struct Reader {
    keys: u64,
    hot: u64,
    next: u64,
    stride: u64,
}

impl SourceReader<u64> for Reader {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
        let numbers = self.next..self.next + BATCH_RECORDS as u64;
        let (keys, hot) = (self.keys, self.hot);
        out.records
            .extend(numbers.map(|n| if n < keys { n } else { scatter(n) % hot }));
        self.next += self.stride;
        Ok(SourceStatus::More)
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        Ok(Some(vec![self.next.to_le_bytes().to_vec()]))
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let next = entries
            .first()
            .and_then(|entry| entry.as_slice().try_into().ok());
        let next =
            next.ok_or_else(|| OperatorError::permanent("the source's position is not 8 bytes"))?;
        self.next = u64::from_le_bytes(next);
        Ok(())
    }
}

struct Watching(Arc<Probe>);

impl SinkFactory<(u64, u64)> for Watching {
    fn sink(&self, _: SinkContext) -> Result<Box<dyn Sink<(u64, u64)>>, OperatorError> {
        Ok(Box::new(Watch {
            probe: Arc::clone(&self.0),
            last: None,
        }))
    }
}

struct Watch {
    probe: Arc<Probe>,
    /// When the last batch came, by both clocks.
    last: Option<(Instant, Duration)>,
}

impl Sink<(u64, u64)> for Watch {
    fn write(&mut self, batch: &mut Batch<(u64, u64)>) -> Result<(), OperatorError> {
        let records = batch.len() as u64;
        for record in batch.records.drain(..) {
            black_box(&record);
        }
        let (now, own) = (Instant::now(), cpu(ClockId::ThreadCPUTime));
        if let Some((then, own_then)) = self.last.replace((now, own)) {
            let (gap, own_gap) = (nanos(now - then), nanos(own.saturating_sub(own_then)));
            self.probe.stall_ns.fetch_max(gap, Ordering::Relaxed);
            self.probe
                .stall_cpu_ns
                .fetch_max(own_gap, Ordering::Relaxed);
            self.probe.cpu_ns.fetch_add(own_gap, Ordering::Relaxed);
        }
        self.probe.records.fetch_add(records, Ordering::Relaxed);
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        Ok(false)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
