//! A job's executable in worker mode, from its first line of input to its end.

use spindle_common::execution::FailureCause;
use spindle_common::program::WorkerInit;
use spindle_dataflow::task::Dataflow;

/// Why a worker process ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerProcessError {
    /// The TaskExecutor does not answer.
    #[error("lost the TaskExecutor at `{address}`: {reason}")]
    TaskExecutor {
        /// Where it was.
        address: String,
        /// What happened.
        reason: String,
    },
}

/// Runs tasks of a job as the TaskExecutor says until it says to end, its connection breaks, or standard input ends. Blocks; builds
/// its own runtime. `dataflow` is what the program built, or why it could not: the TaskExecutor is told either.
///
/// Reads the rest of standard input, whose first line `init` came from; does not return, but ends the process, if a task hangs
/// in user code at the end.
///
/// # Errors
/// If the process ends for any other reason than that it was told to.
pub fn run(
    dataflow: Result<Dataflow, FailureCause>,
    init: WorkerInit,
) -> Result<(), WorkerProcessError> {
    drop(dataflow);
    Err(WorkerProcessError::TaskExecutor {
        address: init.task_executor,
        reason: "not connected".to_owned(),
    })
}
