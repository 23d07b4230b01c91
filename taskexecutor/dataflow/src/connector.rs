//! Where records come from and where they go: what a source and a sink have to be for a task.

use spindle_common::checkpoint::CheckpointId;
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

    /// How far it has read: a number of entries that each can be taken up by any subtask's reader, such as a file with the offset of the next
    /// record. They say exactly what the records that [`Self::read`] has given until now leave to be read. None if the source cannot
    /// say: then the job cannot take checkpoints. Flink: `SourceReader.snapshotState`.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        Ok(None)
    }

    /// Before the first [`Self::read`]: goes on where these entries say, and nowhere else, whatever the subtask was given to read when it
    /// was made. They are those of one subtask, or dealt out anew if the parallelism has changed; there may be none.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let _ = entries;
        Err(OperatorError::permanent(
            "the source cannot go on from a snapshot",
        ))
    }

    /// Whether [`Self::restore`] is given the entries of all subtasks, to take its own from.
    fn is_given_all(&self) -> bool {
        false
    }

    /// What its entries are: text that changes when they can no longer be read.
    fn state_type(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// A checkpoint is complete whose entries [`Self::snapshot`] gave: what was read before it will not be read again.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), OperatorError> {
        let _ = checkpoint;
        Ok(())
    }

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

    /// A barrier: what was written since the last one is made durable, and not yet visible. Returns what [`Self::commit_prepared`] needs to make
    /// it visible, from any process, in as many parts as there are; none if nothing was written. Flink: `TwoPhaseCommittingSink`'s
    /// `prepareCommit`.
    ///
    /// A sink whose records are seen as they are written has nothing to prepare: after a failure some are written twice.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn prepare_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>, OperatorError> {
        let _ = checkpoint;
        self.flush()?;
        Ok(Vec::new())
    }

    /// Makes visible what a complete checkpoint has prepared. Comes again after a failure, from this or another subtask's sink, for what
    /// may be visible already: that has to change nothing.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn commit_prepared(&mut self, prepared: &[Vec<u8>]) -> Result<(), OperatorError> {
        let _ = prepared;
        Ok(())
    }

    /// A barrier, after [`Self::prepare_commit`]: what it holds and has neither written nor prepared, in as many parts as there are. Flink:
    /// `StatefulSinkWriter.snapshotState`.
    ///
    /// # Errors
    /// What went wrong.
    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, OperatorError> {
        Ok(Vec::new())
    }

    /// Before the first record: takes what [`Self::snapshot`] gave, its own or dealt out anew.
    ///
    /// # Errors
    /// What went wrong.
    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let _ = entries;
        Ok(())
    }

    /// What its entries and prepared parts are: text that changes when they can no longer be read.
    fn state_type(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// All is written: makes it durable. Returns whether [`Self::commit`] has to make it visible.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn finish(&mut self) -> Result<bool, OperatorError>;

    /// A barrier after [`Self::finish`], while other tasks of the job go on. Returns what [`Self::commit_prepared`] needs to make visible
    /// what [`Self::finish`] left and no such call has returned yet; then [`Self::commit`] has nothing more to do for it. None if the sink
    /// cannot say: then no checkpoint is complete before the job ends.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn prepare_finished(
        &mut self,
        checkpoint: CheckpointId,
    ) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        let _ = checkpoint;
        Ok(None)
    }

    /// Makes the output visible, once the whole job has written all of it: what [`Self::finish`] left, and what was prepared and
    /// handed to [`Self::commit_prepared`] since. Not called if there is neither. May come again for the same output, from another
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
