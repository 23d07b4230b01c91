//! The end of a chain that leaves the job.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spindle_common::checkpoint::{CheckpointId, Distribution};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::connector::{OperatorError, Sink};
use crate::operator::OperatorContext;
use crate::snapshot::{Restored, Snapshot, StateOwner, schema};
use crate::task::{TaskError, TaskMetrics};

/// Gives batches to a sink.
pub struct SinkOperator<T> {
    name: Arc<str>,
    sink: Box<dyn Sink<T>>,
    metrics: Arc<TaskMetrics>,
    counted: u64,
    /// Whether the sink has to commit at the end.
    commits: bool,
    /// Whether the task has to wait for the commit: the sink has something that is lost with the task until then.
    waits: bool,
    /// Whether the sink has left output that is part of no snapshot yet.
    left: bool,
    owner: StateOwner,
    /// What was prepared for checkpoints that are not complete yet, oldest first: each commits those before it too.
    prepared: Vec<(CheckpointId, Vec<Vec<u8>>)>,
}

/// Name of the state that holds what was prepared and not yet committed.
const PREPARED: &str = "prepared";
/// Name of the state that holds what was neither written nor prepared.
const HELD: &str = "held";

impl<T> SinkOperator<T> {
    /// The operator around a sink.
    pub fn new(context: &OperatorContext, sink: Box<dyn Sink<T>>) -> Self {
        Self {
            name: Arc::clone(&context.name),
            sink,
            metrics: Arc::clone(&context.metrics),
            counted: 0,
            commits: false,
            waits: false,
            left: false,
            owner: StateOwner::of(context),
            prepared: Vec::new(),
        }
    }

    fn schema(&self) -> String {
        schema("output", &[self.sink.state_type()])
    }

    fn commit_until(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        while let Some((of, prepared)) = self.prepared.first()
            && *of <= checkpoint
        {
            let prepared = prepared.clone();
            self.call(|sink| sink.commit_prepared(&prepared))?;
            self.prepared.remove(0);
        }
        Ok(())
    }

    /// Writes what was prepared and not yet committed, and what the sink holds.
    fn write(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let all = self.prepared.iter().flat_map(|(_, prepared)| prepared);
        into.list(
            &self.owner,
            PREPARED,
            Distribution::Split,
            self.schema(),
            all.map(|part| Ok(part.clone())),
        )?;
        let held = self.call(|sink| sink.snapshot())?;
        into.list(
            &self.owner,
            HELD,
            Distribution::Split,
            self.schema(),
            held.into_iter().map(Ok),
        )
    }

    /// Whether the sink holds what is nowhere else.
    fn holds(&mut self) -> Result<bool, TaskError> {
        let held = self.call(|sink| sink.snapshot())?;
        Ok(held.iter().any(|part| !part.is_empty()))
    }

    fn call<R>(
        &mut self,
        code: impl FnOnce(&mut dyn Sink<T>) -> Result<R, OperatorError>,
    ) -> Result<R, TaskError> {
        let result = attribute(&self.name, || code(&mut *self.sink));
        let written = self.sink.bytes_written();
        self.metrics
            .bytes_out
            .fetch_add(written.saturating_sub(self.counted), Ordering::Relaxed);
        self.counted = written;
        result.map_err(|error| error.of(&self.name))
    }
}

impl<T> Control for SinkOperator<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.call(|sink| sink.flush())
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let checkpoint = into.barrier().id;
        let new = self.call(|sink| sink.prepare_commit(checkpoint))?;
        if !new.is_empty() {
            self.prepared.push((checkpoint, new));
        }
        self.write(into)
    }

    fn snapshot_ended(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let checkpoint = into.barrier().id;
        match self.call(|sink| sink.prepare_finished(checkpoint))? {
            Some(new) => {
                self.left = false;
                if !new.is_empty() {
                    self.prepared.push((checkpoint, new));
                }
            }
            None if self.left => into.refuse(format!(
                "the sink `{}` has finished and cannot say what it left to commit, so that is seen only when the job ends",
                self.name
            )),
            None => {}
        }
        self.write(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        let schema = self.schema();
        if let Some(held) = from.list(&self.owner, HELD, Distribution::Split, &schema)? {
            let held = held.into_iter().map(<[u8]>::to_vec).collect();
            self.call(|sink| sink.restore(held))?;
        }
        let prepared = from.list(&self.owner, PREPARED, Distribution::Split, &schema)?;
        // The snapshot is complete, so what it prepared is to be seen, whether or not anybody was told in time.
        let prepared: Vec<_> = prepared
            .unwrap_or_default()
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect();
        if prepared.is_empty() {
            return Ok(());
        }
        self.call(|sink| sink.commit_prepared(&prepared))
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        self.commit_until(checkpoint)
    }

    fn end(&mut self) -> Result<(), TaskError> {
        let has_more = self.call(|sink| sink.finish())?;
        self.left = has_more;
        // What becomes visible of earlier checkpoints between now and the end has to be so when the task says that it has finished.
        self.commits = has_more || !self.prepared.is_empty();
        self.waits = self.commits || self.holds()?;
        Ok(())
    }

    fn end_again(&mut self) -> Result<(), TaskError> {
        // What was prepared is on its way since it was restored; the sink has nothing more, and waits for that.
        let more = self.call(|sink| sink.prepare_commit(CheckpointId(0)))?;
        if !more.is_empty() {
            self.prepared.push((CheckpointId(0), more));
        }
        self.waits = !self.prepared.is_empty() || self.holds()?;
        Ok(())
    }

    fn needs_commit(&mut self) -> bool {
        self.waits
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.commit_until(CheckpointId(u64::MAX))?;
        if self.commits {
            self.call(|sink| sink.commit())?;
        }
        Ok(())
    }

    fn take_collected(&mut self, into: &mut Vec<(String, Vec<u8>)>) {
        into.extend(attribute(&self.name, || self.sink.take_collected()));
    }
}

impl<T> Collector<T> for SinkOperator<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let records = batch.len() as u64;
        self.call(|sink| sink.write(batch))?;
        self.metrics
            .records_out
            .fetch_add(records, Ordering::Relaxed);
        Ok(())
    }
}
