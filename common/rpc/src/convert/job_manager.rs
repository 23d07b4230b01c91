//! The messages between TaskExecutor and JobManager.

use spindle_common::gateway::{
    SlotRequest, TaskExecutorRegistration, TaskExecutorReport, ToJobManager, ToTaskExecutor,
    WorkerReport,
};
use spindle_common::id::{
    AllocationId, ExecutionAttemptId, FencingToken, JobId, NodeName, ResourceId,
};

use super::checkpoint::{job_notice_in, job_notice_out, trigger_in, trigger_out};
use super::inquiry::{inquire_in, inquire_out, inquired_in, inquired_out};
use super::job_graph::{settings_in, settings_out};
use super::{ConvertError, Farewell, each, id, nested, not_last, required};
use crate::proto;
use crate::proto::to_job_manager::Message as ToJobManagerMessage;
use crate::proto::to_task_executor::Message as ToTaskExecutorMessage;

impl From<TaskExecutorRegistration> for proto::Registration {
    fn from(registration: TaskExecutorRegistration) -> Self {
        Self {
            resource: registration.resource.as_str().to_owned(),
            fencing: registration.fencing.0,
            node: registration.node.as_str().to_owned(),
            host: registration.host,
            slots: registration.slots,
            pid: registration.pid,
        }
    }
}

impl TryFrom<proto::Registration> for TaskExecutorRegistration {
    type Error = ConvertError;

    fn try_from(registration: proto::Registration) -> Result<Self, ConvertError> {
        if registration.slots == 0 {
            return Err(ConvertError::new(
                "Registration",
                "slots",
                "is 0, expected at least 1",
            ));
        }
        Ok(Self {
            resource: ResourceId::new(registration.resource),
            fencing: FencingToken(registration.fencing),
            node: NodeName::new(registration.node),
            host: registration.host,
            slots: registration.slots,
            pid: registration.pid,
        })
    }
}

impl TryFrom<proto::WorkerReport> for WorkerReport {
    type Error = ConvertError;

    fn try_from(report: proto::WorkerReport) -> Result<Self, ConvertError> {
        Ok(Self {
            job: id(&report.job, JobId::from_bytes, "WorkerReport", "job")?,
            pid: report.pid,
            resident_bytes: report.resident_bytes,
        })
    }
}

impl From<TaskExecutorReport> for proto::TaskExecutorReport {
    fn from(report: TaskExecutorReport) -> Self {
        Self {
            resident_bytes: report.resident_bytes,
            workers: report
                .workers
                .into_iter()
                .map(|worker| proto::WorkerReport {
                    job: worker.job.to_bytes().to_vec(),
                    pid: worker.pid,
                    resident_bytes: worker.resident_bytes,
                })
                .collect(),
            tasks: report.tasks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::TaskExecutorReport> for TaskExecutorReport {
    type Error = ConvertError;

    fn try_from(report: proto::TaskExecutorReport) -> Result<Self, ConvertError> {
        Ok(Self {
            resident_bytes: report.resident_bytes,
            workers: each(report.workers)?,
            tasks: each(report.tasks)?,
        })
    }
}

impl From<ToJobManager> for proto::ToJobManager {
    fn from(message: ToJobManager) -> Self {
        let message = match message {
            ToJobManager::Register(registration) => {
                ToJobManagerMessage::Register(registration.into())
            }
            ToJobManager::Heartbeat(report) => ToJobManagerMessage::Heartbeat(report.into()),
            ToJobManager::OfferSlot {
                allocation,
                job,
                data_address,
            } => ToJobManagerMessage::OfferSlot(proto::OfferSlot {
                allocation: allocation.0,
                job: job.to_bytes().to_vec(),
                data_address,
            }),
            ToJobManager::SlotUnavailable {
                allocation,
                job,
                cause,
            } => ToJobManagerMessage::SlotUnavailable(proto::SlotUnavailable {
                allocation: allocation.0,
                job: job.to_bytes().to_vec(),
                cause: Some(cause.into()),
            }),
            ToJobManager::TaskState(update) => ToJobManagerMessage::TaskState(update.into()),
            ToJobManager::TaskCheckpoint(done) => ToJobManagerMessage::TaskCheckpoint(done.into()),
            ToJobManager::Inquired { inquiry, answer } => {
                ToJobManagerMessage::Inquired(inquired_out(inquiry, answer))
            }
            ToJobManager::WorkerLost { job, cause } => {
                ToJobManagerMessage::WorkerLost(proto::WorkerLost {
                    job: job.to_bytes().to_vec(),
                    cause: Some(cause.into()),
                })
            }
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<proto::ToJobManager> for ToJobManager {
    type Error = ConvertError;

    fn try_from(message: proto::ToJobManager) -> Result<Self, ConvertError> {
        Ok(
            match required(message.message, "ToJobManager", "message")? {
                ToJobManagerMessage::Register(registration) => {
                    Self::Register(registration.try_into()?)
                }
                ToJobManagerMessage::Heartbeat(report) => Self::Heartbeat(report.try_into()?),
                ToJobManagerMessage::OfferSlot(offer) => Self::OfferSlot {
                    allocation: AllocationId(offer.allocation),
                    job: id(&offer.job, JobId::from_bytes, "OfferSlot", "job")?,
                    data_address: offer.data_address,
                },
                ToJobManagerMessage::SlotUnavailable(slot) => Self::SlotUnavailable {
                    allocation: AllocationId(slot.allocation),
                    job: id(&slot.job, JobId::from_bytes, "SlotUnavailable", "job")?,
                    cause: nested(slot.cause, "SlotUnavailable", "cause")?,
                },
                ToJobManagerMessage::TaskState(update) => Self::TaskState(update.try_into()?),
                ToJobManagerMessage::TaskCheckpoint(done) => Self::TaskCheckpoint(done.try_into()?),
                ToJobManagerMessage::Inquired(inquired) => {
                    let (inquiry, answer) = inquired_in(inquired)?;
                    Self::Inquired { inquiry, answer }
                }
                ToJobManagerMessage::WorkerLost(lost) => Self::WorkerLost {
                    job: id(&lost.job, JobId::from_bytes, "WorkerLost", "job")?,
                    cause: nested(lost.cause, "WorkerLost", "cause")?,
                },
                ToJobManagerMessage::Farewell(_) => return Err(not_last("ToJobManager")),
            },
        )
    }
}

impl Farewell for proto::ToJobManager {
    fn farewell() -> Self {
        let message = Some(ToJobManagerMessage::Farewell(proto::Farewell {}));
        Self { message }
    }

    fn is_farewell(&self) -> bool {
        matches!(self.message, Some(ToJobManagerMessage::Farewell(_)))
    }
}

impl From<SlotRequest> for proto::SlotRequest {
    fn from(request: SlotRequest) -> Self {
        Self {
            allocation: request.allocation.0,
            slot: request.slot,
            job: request.job.to_bytes().to_vec(),
            program: Some((&request.program).into()),
            graph_fingerprint: request.graph_fingerprint,
            config: settings_out(&request.config),
            profile: request.profile.map(Into::into),
        }
    }
}

impl TryFrom<proto::SlotRequest> for SlotRequest {
    type Error = ConvertError;

    fn try_from(request: proto::SlotRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            allocation: AllocationId(request.allocation),
            slot: request.slot,
            job: id(&request.job, JobId::from_bytes, "SlotRequest", "job")?,
            program: nested(request.program, "SlotRequest", "program")?,
            graph_fingerprint: request.graph_fingerprint,
            config: settings_in(request.config),
            profile: request.profile.map(Into::into),
        })
    }
}

fn job_task_out(job: JobId, execution: ExecutionAttemptId) -> proto::JobTask {
    proto::JobTask {
        job: job.to_bytes().to_vec(),
        execution: Some(execution.into()),
    }
}

fn job_task_in(task: proto::JobTask) -> Result<(JobId, ExecutionAttemptId), ConvertError> {
    Ok((
        id(&task.job, JobId::from_bytes, "JobTask", "job")?,
        nested(task.execution, "JobTask", "execution")?,
    ))
}

impl From<ToTaskExecutor> for proto::ToTaskExecutor {
    fn from(message: ToTaskExecutor) -> Self {
        let message = match message {
            ToTaskExecutor::Registered {
                heartbeat_interval_ms,
            } => ToTaskExecutorMessage::Registered(proto::Registered {
                heartbeat_interval_ms,
            }),
            ToTaskExecutor::RequestSlot(request) => {
                ToTaskExecutorMessage::RequestSlot(request.into())
            }
            ToTaskExecutor::FreeSlot { allocation } => {
                ToTaskExecutorMessage::FreeSlot(proto::FreeSlot {
                    allocation: allocation.0,
                })
            }
            ToTaskExecutor::SubmitTask(task) => ToTaskExecutorMessage::SubmitTask((*task).into()),
            ToTaskExecutor::CancelTask { job, execution } => {
                ToTaskExecutorMessage::CancelTask(job_task_out(job, execution))
            }
            ToTaskExecutor::CommitTask { job, execution } => {
                ToTaskExecutorMessage::CommitTask(job_task_out(job, execution))
            }
            ToTaskExecutor::TriggerCheckpoint {
                job,
                execution,
                barrier,
            } => ToTaskExecutorMessage::TriggerCheckpoint(proto::JobTrigger {
                job: job.to_bytes().to_vec(),
                trigger: Some(trigger_out(execution, barrier)),
            }),
            ToTaskExecutor::CheckpointComplete {
                job,
                execution,
                checkpoint,
            } => ToTaskExecutorMessage::CheckpointComplete(job_notice_out(
                job, execution, checkpoint,
            )),
            ToTaskExecutor::CheckpointAborted {
                job,
                execution,
                checkpoint,
            } => {
                ToTaskExecutorMessage::CheckpointAborted(job_notice_out(job, execution, checkpoint))
            }
            ToTaskExecutor::Inquire { inquiry, what } => {
                ToTaskExecutorMessage::Inquire(inquire_out(inquiry, what))
            }
            ToTaskExecutor::ShutDown { reason } => {
                ToTaskExecutorMessage::ShutDown(proto::ShutDownTaskExecutor { reason })
            }
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<proto::ToTaskExecutor> for ToTaskExecutor {
    type Error = ConvertError;

    fn try_from(message: proto::ToTaskExecutor) -> Result<Self, ConvertError> {
        Ok(
            match required(message.message, "ToTaskExecutor", "message")? {
                ToTaskExecutorMessage::Registered(registered) => Self::Registered {
                    heartbeat_interval_ms: registered.heartbeat_interval_ms,
                },
                ToTaskExecutorMessage::RequestSlot(request) => {
                    Self::RequestSlot(request.try_into()?)
                }
                ToTaskExecutorMessage::FreeSlot(slot) => Self::FreeSlot {
                    allocation: AllocationId(slot.allocation),
                },
                ToTaskExecutorMessage::SubmitTask(task) => {
                    Self::SubmitTask(Box::new(task.try_into()?))
                }
                ToTaskExecutorMessage::CancelTask(task) => {
                    let (job, execution) = job_task_in(task)?;
                    Self::CancelTask { job, execution }
                }
                ToTaskExecutorMessage::CommitTask(task) => {
                    let (job, execution) = job_task_in(task)?;
                    Self::CommitTask { job, execution }
                }
                ToTaskExecutorMessage::TriggerCheckpoint(message) => {
                    let job = id(&message.job, JobId::from_bytes, "JobTrigger", "job")?;
                    let trigger = required(message.trigger, "JobTrigger", "trigger")?;
                    let (execution, barrier) = trigger_in(trigger)?;
                    Self::TriggerCheckpoint {
                        job,
                        execution,
                        barrier,
                    }
                }
                ToTaskExecutorMessage::CheckpointComplete(notice) => {
                    let (job, execution, checkpoint) = job_notice_in(notice)?;
                    Self::CheckpointComplete {
                        job,
                        execution,
                        checkpoint,
                    }
                }
                ToTaskExecutorMessage::CheckpointAborted(notice) => {
                    let (job, execution, checkpoint) = job_notice_in(notice)?;
                    Self::CheckpointAborted {
                        job,
                        execution,
                        checkpoint,
                    }
                }
                ToTaskExecutorMessage::Inquire(inquire) => {
                    let (inquiry, what) = inquire_in(inquire)?;
                    Self::Inquire { inquiry, what }
                }
                ToTaskExecutorMessage::ShutDown(shut_down) => Self::ShutDown {
                    reason: shut_down.reason,
                },
            },
        )
    }
}
