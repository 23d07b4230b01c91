//! Where records come from and where they go: what a source and a sink have to be for a task.

use spindle_common::execution::FailureClass;

use crate::batch::Batch;
use crate::task::TaskError;

/// What went wrong in an operator, a source or a sink. The task adds the operator's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OperatorError {
    /// What happened, with its causes: one sentence, for people.
    pub message: String,
    /// What it calls for.
    pub class: FailureClass,
}

impl OperatorError {
    /// Trying again from the job's beginning may help: a system that did not answer, a connection that broke.
    pub fn transient(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            class: FailureClass::Restart,
        }
    }

    /// Trying again cannot help: input that cannot be read, output that already exists.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            class: FailureClass::FailJob,
        }
    }

    /// The error as the task reports it.
    pub fn of(self, operator: &str) -> TaskError {
        TaskError::Operator {
            operator: operator.to_owned(),
            message: self.message,
            class: self.class,
        }
    }
}

/// Whether a source has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// There is more to read, or there may be later.
    More,
    /// All was read; the batch may still hold the last records.
    EndOfInput,
}

/// Reads what one subtask of a source reads. Flink: `SourceReader`.
pub trait SourceReader<T>: Send {
    /// Appends the next records, about [`crate::batch::BATCH_RECORDS`], to the batch. Should not wait much longer than a tenth of
    /// a second: a batch may stay empty.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError>;

    /// Share of the input that was read, 0 to 1; none if the source has no end.
    fn progress(&self) -> Option<f64> {
        None
    }

    /// Bytes read since the start.
    fn bytes_read(&self) -> u64 {
        0
    }
}

/// Writes what one subtask of a sink gets. Flink: `SinkWriter` and `Committer` in one.
pub trait Sink<T>: Send {
    /// Writes the batch's records; what is left in the batch is dropped.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError>;

    /// What was written has to leave the process within the buffer timeout, if that makes a difference to anybody.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn flush(&mut self) -> Result<(), OperatorError> {
        Ok(())
    }

    /// All is written: makes it durable. Returns whether [`Self::commit`] has to make it visible.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn finish(&mut self) -> Result<bool, OperatorError>;

    /// Makes the output visible, once the whole job has written all of it. May come again for the same output, from another
    /// attempt, after a crash.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn commit(&mut self) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Bytes written since the start.
    fn bytes_written(&self) -> u64 {
        0
    }

    /// What was gathered for the client, by name, as JSON lines.
    fn take_collected(&mut self) -> Option<(String, Vec<u8>)> {
        None
    }
}
