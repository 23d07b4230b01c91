//! A chain of operators as a task: one that reads a source, or one that reads an input gate.

mod align;
mod gate;
mod in_flight;
mod port;
mod source;
#[cfg(test)]
mod tests;
mod track;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use spindle_common::checkpoint::{
    CheckpointBarrier, CheckpointId, SnapshotKind, SubtaskCheckpointStats,
};
use spindle_common::time::{EventTime, MonoTime, Watermark};

pub use gate::{GateTask, Inputs};
pub use in_flight::Replayed;
pub use port::{OnEvent, Port, Share, TypedPort};
pub use source::SourceTask;

use crate::collector::Control;
use crate::snapshot::{Restored, Snapshot};
use crate::task::{SnapshotWriter, Step, TaskError, TaskMetrics};

/// The clocks that a task's context gives.
#[derive(Clone)]
pub struct Clock {
    mono: Arc<dyn Fn() -> MonoTime + Send + Sync>,
    wall: Arc<dyn Fn() -> EventTime + Send + Sync>,
}

impl Clock {
    /// A clock that never goes back, and one that tells the time of day.
    pub fn new(
        mono: impl Fn() -> MonoTime + Send + Sync + 'static,
        wall: impl Fn() -> EventTime + Send + Sync + 'static,
    ) -> Self {
        Self {
            mono: Arc::new(mono),
            wall: Arc::new(wall),
        }
    }

    /// Time since the start of the process.
    pub fn now(&self) -> MonoTime {
        (self.mono)()
    }

    /// Processing time: milliseconds since the epoch, by this machine's clock.
    pub fn processing_time(&self) -> EventTime {
        (self.wall)()
    }
}

/// What a task has besides its operators and its input.
pub struct TaskParts {
    /// Where it counts.
    pub metrics: Arc<TaskMetrics>,
    /// The clocks.
    pub clock: Clock,
    /// The longest that a record waits in a buffer that is not full.
    pub buffer_timeout: Duration,
    /// Where it puts its state at a barrier.
    pub snapshots: Box<dyn SnapshotWriter>,
}

/// Tells when buffers have to go that are not full.
struct Flusher {
    timeout: Duration,
    /// When what waits has waited long enough; absent while nothing waits.
    due: Option<MonoTime>,
}

impl Flusher {
    /// Something may wait from now on.
    fn touch(&mut self, clock: &Clock) {
        if self.due.is_none() {
            self.due = Some(clock.now() + self.timeout);
        }
    }

    fn is_due(&mut self, clock: &Clock) -> bool {
        match self.due {
            Some(due) if clock.now() >= due => {
                self.due = None;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// A task that has written the savepoint that the job is to stop with.
#[derive(Debug, Clone, Copy)]
struct Held {
    checkpoint: CheckpointId,
    /// Whether all windows and timers have fired for it: what the task did then, it cannot take back.
    drained: bool,
}

/// What the operators have written, on its way to be made durable.
struct Written {
    snapshot: Snapshot,
    stats: SubtaskCheckpointStats,
}

/// What both kinds of task do with the first operator of their chain. It is handed in each time: it may have two inputs.
struct Chain {
    /// The savepoint that the task has written and is to stop with, if it is complete: until that is known, time stands still.
    held: Option<Held>,
    /// The newest checkpoint that the task is part of.
    newest: CheckpointId,
    /// Whether it begins with what a task left that had finished.
    finished: bool,
    clock: Clock,
    flusher: Flusher,
    metrics: Arc<TaskMetrics>,
    snapshots: Box<dyn SnapshotWriter>,
}

impl Chain {
    fn new(parts: TaskParts, restored: &Restored) -> Self {
        let TaskParts {
            metrics,
            clock,
            buffer_timeout,
            snapshots,
        } = parts;
        Self {
            held: None,
            newest: CheckpointId(0),
            finished: restored.is_finished(),
            snapshots,
            clock,
            flusher: Flusher {
                timeout: buffer_timeout,
                due: None,
            },
            metrics,
        }
    }

    /// Records or a watermark went into the chain, and may wait in one of its buffers.
    fn touch(&mut self) {
        self.flusher.touch(&self.clock);
    }

    /// Fires what processing time has reached, and lets go what has waited for long enough.
    fn keep_time(&mut self, first: &mut dyn Control) -> Result<(), TaskError> {
        if self.held.is_none()
            && let Some(deadline) = first.deadline()
        {
            let now = self.clock.processing_time();
            if now >= deadline {
                first.processing_time(now)?;
                self.touch();
            }
        }
        if self.flusher.is_due(&self.clock) {
            first.flush()?;
        }
        Ok(())
    }

    /// Lets go what waits, as nothing follows for now that would fill its buffers.
    fn pause(&mut self, first: &mut dyn Control) -> Result<(), TaskError> {
        match self.flusher.due.take() {
            Some(_) => first.flush(),
            None => Ok(()),
        }
    }

    /// When [`Self::keep_time`] has something to do next.
    fn due(&self, first: &mut dyn Control) -> Option<MonoTime> {
        let timer = first.deadline().filter(|_| self.held.is_none());
        let timer = timer.map(|deadline| {
            let left = deadline.0.saturating_sub(self.clock.processing_time().0);
            self.clock.now() + Duration::from_millis(u64::try_from(left).unwrap_or(0))
        });
        [timer, self.flusher.due].into_iter().flatten().min()
    }

    fn watermark(&self, first: &mut dyn Control, watermark: Watermark) -> Result<(), TaskError> {
        self.metrics
            .watermark_ms
            .store(watermark.0.0, Ordering::Relaxed);
        first.watermark(watermark)
    }

    /// Writes what the operators keep into `snapshot`, sends its barrier on, and has what was written made durable.
    fn snapshot(
        &mut self,
        first: &mut dyn Control,
        snapshot: Snapshot,
        alignment: Duration,
    ) -> Result<(), TaskError> {
        let written = self.write(first, snapshot)?;
        self.hand_in(written, alignment);
        Ok(())
    }

    /// Writes what the operators keep into `snapshot`, and sends its barrier on.
    fn write(
        &mut self,
        first: &mut dyn Control,
        mut snapshot: Snapshot,
    ) -> Result<Written, TaskError> {
        let began = self.clock.now();
        first.snapshot(&mut snapshot)?;
        let barrier = snapshot.barrier();
        self.newest = barrier.id;
        let delay = self
            .clock
            .processing_time()
            .0
            .saturating_sub(barrier.timestamp_ms);
        let stats = SubtaskCheckpointStats {
            start_delay_ms: u64::try_from(delay).unwrap_or(0),
            sync_us: micros(self.clock.now().since(began)),
            ..SubtaskCheckpointStats::default()
        };
        // What the barrier pushed out does not wait any more.
        self.flusher.due = None;
        self.held = match barrier.kind {
            SnapshotKind::Checkpoint | SnapshotKind::Savepoint => None,
            SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => Some(Held {
                checkpoint: barrier.id,
                drained: barrier.kind == SnapshotKind::Drain,
            }),
        };
        Ok(Written { snapshot, stats })
    }

    /// Has what was written made durable.
    fn hand_in(&mut self, written: Written, alignment: Duration) {
        let Written {
            snapshot,
            mut stats,
        } = written;
        stats.alignment_us = micros(alignment);
        let barrier = snapshot.barrier().clone();
        self.snapshots.write(&barrier, snapshot.into_state(), stats);
    }

    /// Has what an ended task still has to commit made durable. It has been asked for it, unless its barrier came before its end.
    fn snapshot_ended(
        &mut self,
        first: &mut dyn Control,
        barrier: CheckpointBarrier,
    ) -> Result<(), TaskError> {
        if barrier.id <= self.newest {
            return Ok(());
        }
        let began = self.clock.now();
        let mut snapshot = Snapshot::of_finished(barrier);
        first.snapshot_ended(&mut snapshot)?;
        let barrier = snapshot.barrier().clone();
        self.newest = barrier.id;
        if let Some(refusal) = snapshot.refusal() {
            self.snapshots.decline(barrier.id, refusal.to_owned());
            return Ok(());
        }
        let sync = self.clock.now().since(began).as_micros();
        let stats = SubtaskCheckpointStats {
            sync_us: u64::try_from(sync).unwrap_or(u64::MAX),
            ..SubtaskCheckpointStats::default()
        };
        self.snapshots.write(&barrier, snapshot.into_state(), stats);
        Ok(())
    }

    /// A checkpoint is given up. If the job was to stop with it, the task goes on as before, where it can.
    fn aborted(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        match self.held {
            Some(held) if held.checkpoint == checkpoint && held.drained => {
                Err(TaskError::NotStopped { checkpoint })
            }
            Some(held) if held.checkpoint == checkpoint => {
                self.held = None;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// No more input comes: of a job that stops with a savepoint all the same there may be more some day, so nothing fires.
    fn end(&self, first: &mut dyn Control) -> Result<Step, TaskError> {
        if self.finished {
            first.end_again()?;
        } else {
            if self.held.is_none() {
                self.watermark(first, Watermark::MAX)?;
            }
            first.end()?;
        }
        Ok(if first.needs_commit() {
            Step::AwaitingCommit
        } else {
            Step::Finished
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn take_collected(first: &mut dyn Control) -> Vec<(String, Vec<u8>)> {
    let mut collected = Vec::new();
    first.take_collected(&mut collected);
    collected
}
