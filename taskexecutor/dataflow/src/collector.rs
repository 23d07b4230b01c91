//! How operators of a chain call each other: one virtual call per batch.

use spindle_common::time::Watermark;

use crate::batch::{BATCH_RECORDS, Batch};
use crate::task::TaskError;

/// What travels down a chain beside records. An operator overrides what concerns it and hands the rest on.
///
/// Order is kept: an operator hands on all it made of the records before it hands on what came after them.
pub trait Control: Send {
    /// The operator that this one feeds, if it is not the last.
    fn downstream(&mut self) -> Option<&mut dyn Control>;

    /// Event time has advanced.
    ///
    /// # Errors
    /// What ends the task.
    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.downstream()
            .map_or(Ok(()), |next| next.watermark(watermark))
    }

    /// The input is idle, so its watermark does not count until it is active again; or it is active again.
    ///
    /// # Errors
    /// What ends the task.
    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.downstream().map_or(Ok(()), |next| next.idle(idle))
    }

    /// What waits in buffers that are not full has to go now.
    ///
    /// # Errors
    /// What ends the task.
    fn flush(&mut self) -> Result<(), TaskError> {
        self.downstream().map_or(Ok(()), Control::flush)
    }

    /// No more input comes. Called once.
    ///
    /// # Errors
    /// What ends the task.
    fn end(&mut self) -> Result<(), TaskError> {
        self.downstream().map_or(Ok(()), Control::end)
    }

    /// After [`Self::end`]: whether a sink has output that [`Self::commit`] makes visible.
    fn needs_commit(&mut self) -> bool {
        self.downstream().is_some_and(Control::needs_commit)
    }

    /// Makes the output of all sinks visible.
    ///
    /// # Errors
    /// What went wrong.
    fn commit(&mut self) -> Result<(), TaskError> {
        self.downstream().map_or(Ok(()), Control::commit)
    }

    /// Appends what sinks gathered for the client, by name of the sink, as JSON lines.
    fn take_collected(&mut self, into: &mut Vec<(String, Vec<u8>)>) {
        if let Some(next) = self.downstream() {
            next.take_collected(into);
        }
    }
}

/// Takes batches: the next operator of a chain, a sink, or the way out to another task.
pub trait Collector<T>: Control {
    /// Takes the batch's records and leaves it empty, its memory to be used again.
    ///
    /// # Errors
    /// What ends the task.
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError>;
}

/// Where an operator puts its output: a batch, handed on whenever it is full and at [`Output::hand_on`].
pub struct Output<T> {
    batch: Batch<T>,
    next: Box<dyn Collector<T>>,
}

impl<T: 'static> Output<T> {
    /// An output that goes to `next`.
    pub fn new(next: Box<dyn Collector<T>>) -> Self {
        Self {
            batch: Batch::new(),
            next,
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Those of the operators downstream.
    pub fn push(
        &mut self,
        record: T,
        timestamp: Option<spindle_common::time::EventTime>,
    ) -> Result<(), TaskError> {
        self.batch.push(record, timestamp);
        if self.batch.len() >= BATCH_RECORDS {
            self.hand_on()?;
        }
        Ok(())
    }

    /// Hands on what is there. To be called before returning from [`Collector::push`].
    ///
    /// # Errors
    /// Those of the operators downstream.
    pub fn hand_on(&mut self) -> Result<(), TaskError> {
        if !self.batch.is_empty() {
            self.next.push(&mut self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// The operator downstream.
    pub fn downstream(&mut self) -> &mut dyn Control {
        &mut *self.next
    }

    /// Hands a whole batch on as it is.
    ///
    /// # Errors
    /// Those of the operators downstream.
    pub fn push_batch(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        self.next.push(batch)
    }
}

/// Hands each batch to several collectors; with none, drops it.
pub struct FanOut<T> {
    branches: Vec<Box<dyn Collector<T>>>,
    copy: Batch<T>,
}

impl<T> FanOut<T> {
    /// One that feeds these.
    pub const fn new(branches: Vec<Box<dyn Collector<T>>>) -> Self {
        Self {
            branches,
            copy: Batch {
                records: Vec::new(),
                timestamps: Vec::new(),
            },
        }
    }
}

impl<T: Send + 'static> Control for FanOut<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.branches
            .iter_mut()
            .try_for_each(|branch| branch.watermark(watermark))
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.branches
            .iter_mut()
            .try_for_each(|branch| branch.idle(idle))
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.branches
            .iter_mut()
            .try_for_each(|branch| branch.flush())
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.branches.iter_mut().try_for_each(|branch| branch.end())
    }

    fn needs_commit(&mut self) -> bool {
        self.branches.iter_mut().any(|branch| branch.needs_commit())
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.branches
            .iter_mut()
            .try_for_each(|branch| branch.commit())
    }

    fn take_collected(&mut self, into: &mut Vec<(String, Vec<u8>)>) {
        for branch in &mut self.branches {
            branch.take_collected(into);
        }
    }
}

impl<T: Clone + Send + 'static> Collector<T> for FanOut<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let Some((last, others)) = self.branches.split_last_mut() else {
            batch.clear();
            return Ok(());
        };
        for branch in others {
            self.copy.records.clone_from(&batch.records);
            self.copy.timestamps.clone_from(&batch.timestamps);
            branch.push(&mut self.copy)?;
            self.copy.clear();
        }
        last.push(batch)
    }
}
