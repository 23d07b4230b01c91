//! The messages between worker and TaskExecutor.

use spindle_common::gateway::{FromWorker, ToWorker, WorkerHello};
use spindle_common::id::JobId;

use super::checkpoint::{notice_in, notice_out, trigger_in, trigger_out};
use super::{ConvertError, Farewell, each, id, not_last, required};
use crate::proto;
use crate::proto::from_worker::Message as FromWorkerMessage;
use crate::proto::to_worker::Message as ToWorkerMessage;
use crate::proto::worker_hello::Graph;

impl From<WorkerHello> for proto::WorkerHello {
    fn from(hello: WorkerHello) -> Self {
        Self {
            protocol_version: hello.protocol_version,
            job: hello.job.to_bytes().to_vec(),
            pid: hello.pid,
            data_address: hello.data_address,
            graph: Some(match hello.graph {
                Ok(fingerprint) => Graph::Fingerprint(fingerprint),
                Err(cause) => Graph::Cause(cause.into()),
            }),
        }
    }
}

impl TryFrom<proto::WorkerHello> for WorkerHello {
    type Error = ConvertError;

    fn try_from(hello: proto::WorkerHello) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol_version: hello.protocol_version,
            job: id(&hello.job, JobId::from_bytes, "WorkerHello", "job")?,
            pid: hello.pid,
            data_address: hello.data_address,
            graph: match required(hello.graph, "WorkerHello", "graph")? {
                Graph::Fingerprint(fingerprint) => Ok(fingerprint),
                Graph::Cause(cause) => Err(cause.try_into()?),
            },
        })
    }
}

impl From<FromWorker> for proto::FromWorker {
    fn from(message: FromWorker) -> Self {
        let message = match message {
            FromWorker::Hello(hello) => FromWorkerMessage::Hello(hello.into()),
            FromWorker::TaskState(update) => FromWorkerMessage::TaskState(update.into()),
            FromWorker::TaskCheckpoint(done) => FromWorkerMessage::TaskCheckpoint(done.into()),
            FromWorker::Report(tasks) => FromWorkerMessage::Report(proto::TaskReports {
                tasks: tasks.into_iter().map(Into::into).collect(),
            }),
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<proto::FromWorker> for FromWorker {
    type Error = ConvertError;

    fn try_from(message: proto::FromWorker) -> Result<Self, ConvertError> {
        Ok(match required(message.message, "FromWorker", "message")? {
            FromWorkerMessage::Hello(hello) => Self::Hello(hello.try_into()?),
            FromWorkerMessage::TaskState(update) => Self::TaskState(update.try_into()?),
            FromWorkerMessage::TaskCheckpoint(done) => Self::TaskCheckpoint(done.try_into()?),
            FromWorkerMessage::Report(report) => Self::Report(each(report.tasks)?),
            FromWorkerMessage::Farewell(_) => return Err(not_last("FromWorker")),
        })
    }
}

impl Farewell for proto::FromWorker {
    fn farewell() -> Self {
        let message = Some(FromWorkerMessage::Farewell(proto::Farewell {}));
        Self { message }
    }

    fn is_farewell(&self) -> bool {
        matches!(self.message, Some(FromWorkerMessage::Farewell(_)))
    }
}

impl From<ToWorker> for proto::ToWorker {
    fn from(message: ToWorker) -> Self {
        let message = match message {
            ToWorker::SubmitTask(task) => ToWorkerMessage::SubmitTask((*task).into()),
            ToWorker::CancelTask { execution } => ToWorkerMessage::CancelTask(execution.into()),
            ToWorker::CommitTask { execution } => ToWorkerMessage::CommitTask(execution.into()),
            ToWorker::TriggerCheckpoint { execution, barrier } => {
                ToWorkerMessage::TriggerCheckpoint(trigger_out(execution, barrier))
            }
            ToWorker::CheckpointComplete {
                execution,
                checkpoint,
            } => ToWorkerMessage::CheckpointComplete(notice_out(execution, checkpoint)),
            ToWorker::CheckpointAborted {
                execution,
                checkpoint,
            } => ToWorkerMessage::CheckpointAborted(notice_out(execution, checkpoint)),
            ToWorker::ShutDown => ToWorkerMessage::ShutDown(proto::ShutDownWorker {}),
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<proto::ToWorker> for ToWorker {
    type Error = ConvertError;

    fn try_from(message: proto::ToWorker) -> Result<Self, ConvertError> {
        Ok(match required(message.message, "ToWorker", "message")? {
            ToWorkerMessage::SubmitTask(task) => Self::SubmitTask(Box::new(task.try_into()?)),
            ToWorkerMessage::CancelTask(execution) => Self::CancelTask {
                execution: execution.try_into()?,
            },
            ToWorkerMessage::CommitTask(execution) => Self::CommitTask {
                execution: execution.try_into()?,
            },
            ToWorkerMessage::TriggerCheckpoint(trigger) => {
                let (execution, barrier) = trigger_in(trigger)?;
                Self::TriggerCheckpoint { execution, barrier }
            }
            ToWorkerMessage::CheckpointComplete(notice) => {
                let (execution, checkpoint) = notice_in(notice)?;
                Self::CheckpointComplete {
                    execution,
                    checkpoint,
                }
            }
            ToWorkerMessage::CheckpointAborted(notice) => {
                let (execution, checkpoint) = notice_in(notice)?;
                Self::CheckpointAborted {
                    execution,
                    checkpoint,
                }
            }
            ToWorkerMessage::ShutDown(proto::ShutDownWorker {}) => Self::ShutDown,
        })
    }
}
