//! What of a TaskExecutor's life goes to its log.

use spindle_common::gateway::{FromWorker, TaskCheckpointOutcome, ToJobManager, ToTaskExecutor};

use crate::task_executor::Input;

/// Each change of state, once.
pub(super) fn log(input: &Input) {
    match input {
        Input::JobManager(ToTaskExecutor::Registered {
            heartbeat_interval_ms,
        }) => {
            tracing::info!(heartbeat_interval_ms, "registered");
        }
        Input::JobManager(ToTaskExecutor::RequestSlot(request)) => {
            tracing::info!(allocation = %request.allocation, slot = request.slot, job = %request.job, "slot requested");
        }
        Input::JobManager(ToTaskExecutor::FreeSlot { allocation }) => {
            tracing::info!(%allocation, "slot freed")
        }
        Input::JobManager(ToTaskExecutor::SubmitTask(task)) => {
            tracing::info!(job = %task.job, execution = %task.execution, "task submitted");
        }
        Input::JobManager(ToTaskExecutor::ShutDown { reason }) => {
            tracing::info!(reason, "told to shut down")
        }
        Input::JobManager(ToTaskExecutor::TriggerCheckpoint {
            execution, barrier, ..
        }) => {
            tracing::debug!(%execution, checkpoint_id = %barrier.id, "checkpoint triggered");
        }
        Input::JobManager(ToTaskExecutor::CheckpointAborted {
            execution,
            checkpoint,
            ..
        }) => tracing::debug!(%execution, checkpoint_id = %checkpoint, "checkpoint aborted"),
        Input::JobManager(
            ToTaskExecutor::CancelTask { .. }
            | ToTaskExecutor::CommitTask { .. }
            | ToTaskExecutor::CheckpointComplete { .. }
            | ToTaskExecutor::Inquire { .. },
        )
        | Input::Memory(_)
        | Input::Tick => {}
        Input::ProgramFetched(artifact, Ok(())) => {
            tracing::info!(
                sha256 = artifact.sha256,
                bytes = artifact.size,
                "program fetched"
            );
        }
        Input::ProgramFetched(artifact, Err(cause)) => {
            tracing::warn!(sha256 = artifact.sha256, %cause, "a program cannot be had");
        }
        Input::Worker(worker, FromWorker::Hello(hello)) => {
            tracing::info!(worker = worker.0, job = %hello.job, pid = hello.pid, data_address = hello.data_address, "worker said hello");
        }
        Input::Worker(_, FromWorker::TaskState(update)) => {
            let cause = update.cause.as_ref().map(ToString::to_string);
            tracing::info!(job = %update.job, execution = %update.execution, state = ?update.state, cause, "task");
        }
        Input::Worker(_, FromWorker::TaskCheckpoint(done)) => match &done.outcome {
            TaskCheckpointOutcome::Acknowledged { .. } => {
                tracing::debug!(execution = %done.execution, checkpoint_id = %done.checkpoint, "checkpoint acknowledged");
            }
            TaskCheckpointOutcome::Declined { reason } => {
                tracing::info!(execution = %done.execution, checkpoint_id = %done.checkpoint, reason, "checkpoint declined");
            }
        },
        Input::Worker(_, FromWorker::Report(_)) => {}
        Input::WorkerDisconnected(worker, reason) => {
            tracing::info!(worker = worker.0, reason, "stream of a worker ended")
        }
        Input::WorkerEnded(worker, how) => tracing::info!(worker = worker.0, how, "worker ended"),
    }
}

/// What a job lost here, in the words that its JobManager gets.
pub(super) fn log_loss(message: &ToJobManager) {
    match message {
        ToJobManager::SlotUnavailable {
            allocation,
            job,
            cause,
        } => tracing::warn!(%allocation, %job, %cause, "slot unavailable"),
        ToJobManager::WorkerLost { job, cause } => tracing::warn!(%job, %cause, "worker lost"),
        ToJobManager::Register(_)
        | ToJobManager::Heartbeat(_)
        | ToJobManager::OfferSlot { .. }
        | ToJobManager::Inquired { .. }
        | ToJobManager::TaskState(_)
        | ToJobManager::TaskCheckpoint(_) => {}
    }
}
