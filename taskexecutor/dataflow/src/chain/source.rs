//! A task that reads a source.

use std::sync::atomic::Ordering;
use std::time::Duration;

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId, Distribution, SnapshotKind};
use spindle_common::time::Watermark;

use super::{Chain, TaskParts, take_collected};
use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::Collector;
use crate::connector::{SourceReader, SourceStatus};
use crate::snapshot::{Restored, Snapshot, StateOwner, schema};
use crate::task::{Step, Task, TaskError, TaskMail, Waiting};

fn distribution<T>(reader: &dyn SourceReader<T>) -> Distribution {
    if reader.is_given_all() {
        Distribution::Union
    } else {
        Distribution::Split
    }
}

/// Name of the state in which a source says how far it has read.
const POSITIONS: &str = "positions";

/// A task that reads a source.
pub struct SourceTask<T> {
    owner: StateOwner,
    /// Schema of the reader's state.
    positions: String,
    reader: Box<dyn SourceReader<T>>,
    batch: Batch<T>,
    bytes: u64,
    ended: Option<Step>,
    first: Box<dyn Collector<T>>,
    chain: Chain,
}

impl<T> SourceTask<T> {
    /// The task of the source `owner`, which feeds `first` and begins with `restored`.
    ///
    /// # Errors
    /// State that is not that of the source or of the operators.
    pub fn new(
        owner: StateOwner,
        mut reader: Box<dyn SourceReader<T>>,
        mut first: Box<dyn Collector<T>>,
        restored: &Restored,
        parts: TaskParts,
    ) -> Result<Self, TaskError> {
        let positions = schema("source positions", &[reader.state_type()]);
        let restored_positions =
            restored.list(&owner, POSITIONS, distribution(&*reader), &positions)?;
        if let Some(of_reader) = restored_positions
            && !restored.is_finished()
        {
            let of_reader = of_reader.into_iter().map(<[u8]>::to_vec).collect();
            attribute(owner.name(), || reader.restore(of_reader))
                .map_err(|error| error.of(owner.name()))?;
        }
        first.restore(restored)?;
        first.begin()?;
        Ok(Self {
            owner,
            positions,
            reader,
            batch: Batch::new(),
            bytes: 0,
            ended: None,
            first,
            chain: Chain::new(parts, restored),
        })
    }

    /// Writes where the source is and what the operators keep, and sends the barrier behind all that was read.
    fn checkpoint(&mut self, barrier: CheckpointBarrier) -> Result<(), TaskError> {
        if self.chain.finished {
            self.step()?;
        }
        if self.ended.is_some() {
            return self.chain.snapshot_ended(&mut *self.first, barrier);
        }
        let name = self.owner.name();
        let positions =
            attribute(name, || self.reader.snapshot()).map_err(|error| error.of(name))?;
        let Some(positions) = positions else {
            let reason = format!(
                "the source `{name}` cannot say how far it has read, so what is read from it cannot be read again"
            );
            self.chain.snapshots.decline(barrier.id, reason);
            return Ok(());
        };
        if barrier.kind == SnapshotKind::Drain {
            self.chain.watermark(&mut *self.first, Watermark::MAX)?;
        }
        let mut snapshot = Snapshot::new(barrier);
        snapshot.list(
            &self.owner,
            POSITIONS,
            distribution(&*self.reader),
            self.positions.clone(),
            positions.into_iter().map(Ok),
        )?;
        self.chain
            .snapshot(&mut *self.first, snapshot, Duration::ZERO)
    }

    /// A checkpoint is complete. The one that the job is to stop with is the source's end.
    fn complete(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        let name = self.owner.name();
        attribute(name, || self.reader.checkpoint_complete(checkpoint))
            .map_err(|error| error.of(name))?;
        self.first.checkpoint_complete(checkpoint)?;
        let stops = |held: super::Held| held.checkpoint == checkpoint;
        if self.ended.is_none() && self.chain.held.is_some_and(stops) {
            self.ended = Some(self.chain.end(&mut *self.first)?);
        }
        Ok(())
    }

    fn count(&mut self) {
        let metrics = &self.chain.metrics;
        metrics
            .records_in
            .fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        let bytes = self.reader.bytes_read();
        metrics
            .bytes_in
            .fetch_add(bytes.saturating_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
        if let Some(progress) = self.reader.progress() {
            let millionths = (progress.clamp(0.0, 1.0) * 1e6) as u64;
            metrics
                .progress_millionths
                .store(millionths, Ordering::Relaxed);
        }
    }
}

impl<T> Task for SourceTask<T> {
    fn step(&mut self) -> Result<Step, TaskError> {
        if let Some(step) = self.ended {
            return Ok(step);
        }
        if self.chain.held.is_some() {
            return Ok(Step::Held);
        }
        if self.chain.finished {
            let step = self.chain.end(&mut *self.first)?;
            self.ended = Some(step);
            return Ok(step);
        }
        self.batch.clear();
        let before = self.chain.clock.now();
        let name = self.owner.name();
        let status = attribute(name, || self.reader.read(&mut self.batch))
            .map_err(|error| error.of(name))?;
        self.count();
        let read = !self.batch.is_empty();
        if read {
            self.first.push(&mut self.batch)?;
            self.chain.touch();
        } else {
            let waited = self.chain.clock.now().since(before);
            self.chain.metrics.time.add(Waiting::Input, waited);
        }
        match status {
            SourceStatus::More => {
                self.chain.keep_time(&mut *self.first)?;
                if !read {
                    // The reader waits the longer the longer it has nothing: what is there does not wait with it.
                    self.chain.pause(&mut *self.first)?;
                }
                Ok(Step::Continue)
            }
            SourceStatus::EndOfInput => {
                let step = self.chain.end(&mut *self.first)?;
                self.ended = Some(step);
                Ok(step)
            }
        }
    }

    fn handle(&mut self, mail: TaskMail) -> Result<(), TaskError> {
        match mail {
            TaskMail::TriggerCheckpoint(barrier) => self.checkpoint(barrier),
            TaskMail::CheckpointComplete(checkpoint) => self.complete(checkpoint),
            TaskMail::CheckpointAborted(checkpoint) => self.chain.aborted(checkpoint),
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.first.commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        take_collected(&mut *self.first)
    }
}
