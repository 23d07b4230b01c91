//! What both gateways say of tasks.

use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{
    InputChannelDescriptor, InputGateDescriptor, ResultPartitionDescriptor, TaskDeployment,
    TaskMetricsSnapshot, TaskReport, TaskStateUpdate,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId};

use super::{ConvertError, each, id, nested, unknown};
use crate::proto;

impl From<ExecutionAttemptId> for proto::ExecutionAttempt {
    fn from(execution: ExecutionAttemptId) -> Self {
        Self {
            vertex: execution.vertex.to_bytes().to_vec(),
            subtask: execution.subtask,
            attempt: execution.attempt,
        }
    }
}

impl TryFrom<proto::ExecutionAttempt> for ExecutionAttemptId {
    type Error = ConvertError;

    fn try_from(execution: proto::ExecutionAttempt) -> Result<Self, ConvertError> {
        Ok(Self {
            vertex: id(
                &execution.vertex,
                JobVertexId::from_bytes,
                "ExecutionAttempt",
                "vertex",
            )?,
            subtask: execution.subtask,
            attempt: execution.attempt,
        })
    }
}

impl From<FailureCause> for proto::FailureCause {
    fn from(cause: FailureCause) -> Self {
        Self {
            class: match cause.class {
                FailureClass::Retry => proto::FailureClass::Retry,
                FailureClass::Restart => proto::FailureClass::Restart,
                FailureClass::Fallback => proto::FailureClass::Fallback,
                FailureClass::FailJob => proto::FailureClass::FailJob,
                FailureClass::FailCluster => proto::FailureClass::FailCluster,
            }
            .into(),
            operator: cause.operator,
            message: cause.message,
        }
    }
}

impl TryFrom<proto::FailureCause> for FailureCause {
    type Error = ConvertError;

    fn try_from(cause: proto::FailureCause) -> Result<Self, ConvertError> {
        let class = match proto::FailureClass::try_from(cause.class) {
            Ok(proto::FailureClass::Retry) => FailureClass::Retry,
            Ok(proto::FailureClass::Restart) => FailureClass::Restart,
            Ok(proto::FailureClass::Fallback) => FailureClass::Fallback,
            Ok(proto::FailureClass::FailJob) => FailureClass::FailJob,
            Ok(proto::FailureClass::FailCluster) => FailureClass::FailCluster,
            Ok(proto::FailureClass::Unspecified) | Err(_) => {
                return Err(unknown("FailureCause", "class", cause.class));
            }
        };
        Ok(Self {
            class,
            operator: cause.operator,
            message: cause.message,
        })
    }
}

fn state_out(state: ExecutionState) -> proto::ExecutionState {
    match state {
        ExecutionState::Created => proto::ExecutionState::Created,
        ExecutionState::Scheduled => proto::ExecutionState::Scheduled,
        ExecutionState::Deploying => proto::ExecutionState::Deploying,
        ExecutionState::Initializing => proto::ExecutionState::Initializing,
        ExecutionState::Running => proto::ExecutionState::Running,
        ExecutionState::AwaitingCommit => proto::ExecutionState::AwaitingCommit,
        ExecutionState::Finished => proto::ExecutionState::Finished,
        ExecutionState::Canceling => proto::ExecutionState::Canceling,
        ExecutionState::Canceled => proto::ExecutionState::Canceled,
        ExecutionState::Failed => proto::ExecutionState::Failed,
    }
}

fn state_in(number: i32) -> Option<ExecutionState> {
    match proto::ExecutionState::try_from(number).ok()? {
        proto::ExecutionState::Unspecified => None,
        proto::ExecutionState::Created => Some(ExecutionState::Created),
        proto::ExecutionState::Scheduled => Some(ExecutionState::Scheduled),
        proto::ExecutionState::Deploying => Some(ExecutionState::Deploying),
        proto::ExecutionState::Initializing => Some(ExecutionState::Initializing),
        proto::ExecutionState::Running => Some(ExecutionState::Running),
        proto::ExecutionState::AwaitingCommit => Some(ExecutionState::AwaitingCommit),
        proto::ExecutionState::Finished => Some(ExecutionState::Finished),
        proto::ExecutionState::Canceling => Some(ExecutionState::Canceling),
        proto::ExecutionState::Canceled => Some(ExecutionState::Canceled),
        proto::ExecutionState::Failed => Some(ExecutionState::Failed),
    }
}

impl From<TaskMetricsSnapshot> for proto::TaskMetrics {
    fn from(metrics: TaskMetricsSnapshot) -> Self {
        Self {
            records_in: metrics.records_in,
            records_out: metrics.records_out,
            bytes_in: metrics.bytes_in,
            bytes_out: metrics.bytes_out,
            late_records_dropped: metrics.late_records_dropped,
            busy_ms: metrics.busy_ms,
            idle_ms: metrics.idle_ms,
            backpressured_ms: metrics.backpressured_ms,
            watermark_ms: metrics.watermark_ms,
            progress: metrics.progress,
        }
    }
}

impl TryFrom<proto::TaskMetrics> for TaskMetricsSnapshot {
    type Error = ConvertError;

    fn try_from(metrics: proto::TaskMetrics) -> Result<Self, ConvertError> {
        if let Some(progress) = metrics.progress
            && !(0.0..=1.0).contains(&progress)
        {
            return Err(ConvertError::new(
                "TaskMetrics",
                "progress",
                format!("is {progress}, expected 0 to 1"),
            ));
        }
        Ok(Self {
            records_in: metrics.records_in,
            records_out: metrics.records_out,
            bytes_in: metrics.bytes_in,
            bytes_out: metrics.bytes_out,
            late_records_dropped: metrics.late_records_dropped,
            busy_ms: metrics.busy_ms,
            idle_ms: metrics.idle_ms,
            backpressured_ms: metrics.backpressured_ms,
            watermark_ms: metrics.watermark_ms,
            progress: metrics.progress,
        })
    }
}

impl From<TaskReport> for proto::TaskReport {
    fn from(report: TaskReport) -> Self {
        Self {
            job: report.job.to_bytes().to_vec(),
            execution: Some(report.execution.into()),
            metrics: Some(report.metrics.into()),
        }
    }
}

impl TryFrom<proto::TaskReport> for TaskReport {
    type Error = ConvertError;

    fn try_from(report: proto::TaskReport) -> Result<Self, ConvertError> {
        Ok(Self {
            job: id(&report.job, JobId::from_bytes, "TaskReport", "job")?,
            execution: nested(report.execution, "TaskReport", "execution")?,
            metrics: nested(report.metrics, "TaskReport", "metrics")?,
        })
    }
}

impl From<TaskStateUpdate> for proto::TaskStateUpdate {
    fn from(update: TaskStateUpdate) -> Self {
        Self {
            job: update.job.to_bytes().to_vec(),
            execution: Some(update.execution.into()),
            state: state_out(update.state).into(),
            cause: update.cause.map(Into::into),
            metrics: Some(update.metrics.into()),
            collected: update
                .collected
                .into_iter()
                .map(|(sink, json_lines)| proto::Collected { sink, json_lines })
                .collect(),
        }
    }
}

impl TryFrom<proto::TaskStateUpdate> for TaskStateUpdate {
    type Error = ConvertError;

    fn try_from(update: proto::TaskStateUpdate) -> Result<Self, ConvertError> {
        const NAME: &str = "TaskStateUpdate";
        Ok(Self {
            job: id(&update.job, JobId::from_bytes, NAME, "job")?,
            execution: nested(update.execution, NAME, "execution")?,
            state: state_in(update.state).ok_or_else(|| unknown(NAME, "state", update.state))?,
            cause: update.cause.map(TryFrom::try_from).transpose()?,
            metrics: nested(update.metrics, NAME, "metrics")?,
            collected: update
                .collected
                .into_iter()
                .map(|collected| (collected.sink, collected.json_lines))
                .collect(),
        })
    }
}

impl TryFrom<proto::InputChannel> for InputChannelDescriptor {
    type Error = ConvertError;

    fn try_from(channel: proto::InputChannel) -> Result<Self, ConvertError> {
        Ok(Self {
            producer: nested(channel.producer, "InputChannel", "producer")?,
            data_address: channel.data_address,
        })
    }
}

impl From<InputGateDescriptor> for proto::InputGate {
    fn from(gate: InputGateDescriptor) -> Self {
        Self {
            edge: gate.edge,
            channels: gate
                .channels
                .into_iter()
                .map(|channel| proto::InputChannel {
                    producer: Some(channel.producer.into()),
                    data_address: channel.data_address,
                })
                .collect(),
        }
    }
}

impl TryFrom<proto::InputGate> for InputGateDescriptor {
    type Error = ConvertError;

    fn try_from(gate: proto::InputGate) -> Result<Self, ConvertError> {
        Ok(Self {
            edge: gate.edge,
            channels: each(gate.channels)?,
        })
    }
}

impl From<TaskDeployment> for proto::TaskDeployment {
    fn from(task: TaskDeployment) -> Self {
        Self {
            job: task.job.to_bytes().to_vec(),
            allocation: task.allocation.0,
            execution: Some(task.execution.into()),
            parallelism: task.parallelism,
            max_parallelism: task.max_parallelism,
            splits: task.splits.iter().map(Into::into).collect(),
            inputs: task.inputs.into_iter().map(Into::into).collect(),
            outputs: task
                .outputs
                .into_iter()
                .map(|partition| proto::ResultPartition {
                    edge: partition.edge,
                    consumers: partition.consumers,
                })
                .collect(),
            restore: task.restore.map(Into::into),
        }
    }
}

impl TryFrom<proto::TaskDeployment> for TaskDeployment {
    type Error = ConvertError;

    fn try_from(task: proto::TaskDeployment) -> Result<Self, ConvertError> {
        Ok(Self {
            job: id(&task.job, JobId::from_bytes, "TaskDeployment", "job")?,
            allocation: AllocationId(task.allocation),
            execution: nested(task.execution, "TaskDeployment", "execution")?,
            parallelism: task.parallelism,
            max_parallelism: task.max_parallelism,
            splits: task.splits.into_iter().map(Into::into).collect(),
            inputs: each(task.inputs)?,
            outputs: task
                .outputs
                .into_iter()
                .map(|partition| ResultPartitionDescriptor {
                    edge: partition.edge,
                    consumers: partition.consumers,
                })
                .collect(),
            restore: task.restore.map(TryFrom::try_from).transpose()?,
        })
    }
}
