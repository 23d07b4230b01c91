//! Snapshots: what is written at a barrier, and what a task is restored from.

use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, Distribution, FileRange, OperatorSnapshot,
    SnapshotKind, StateChunk, StateHandle, StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
    TaskRestore,
};
use spindle_common::gateway::{TaskCheckpoint, TaskCheckpointOutcome};
use spindle_common::id::{ExecutionAttemptId, JobId};

use super::{ConvertError, each, id, nested, required, unknown};
use crate::proto;
use crate::proto::state_chunk::Content;
use crate::proto::task_checkpoint::Outcome;

impl From<CheckpointBarrier> for proto::CheckpointBarrier {
    fn from(barrier: CheckpointBarrier) -> Self {
        let (alignment, aligned_timeout_ms) = match barrier.alignment {
            BarrierAlignment::Aligned => (proto::BarrierAlignment::Aligned, 0),
            BarrierAlignment::AtLeastOnce => (proto::BarrierAlignment::AtLeastOnce, 0),
            BarrierAlignment::Unaligned { timeout_ms } => {
                (proto::BarrierAlignment::Unaligned, timeout_ms)
            }
        };
        Self {
            id: barrier.id.0,
            timestamp_ms: barrier.timestamp_ms,
            kind: match barrier.kind {
                SnapshotKind::Checkpoint => proto::SnapshotKind::Checkpoint,
                SnapshotKind::Savepoint => proto::SnapshotKind::Savepoint,
                SnapshotKind::StopWithSavepoint => proto::SnapshotKind::StopWithSavepoint,
                SnapshotKind::Drain => proto::SnapshotKind::Drain,
            }
            .into(),
            directory: barrier.directory.as_ref().to_owned(),
            alignment: alignment.into(),
            aligned_timeout_ms,
        }
    }
}

impl TryFrom<proto::CheckpointBarrier> for CheckpointBarrier {
    type Error = ConvertError;

    fn try_from(barrier: proto::CheckpointBarrier) -> Result<Self, ConvertError> {
        let kind = match proto::SnapshotKind::try_from(barrier.kind) {
            Ok(proto::SnapshotKind::Checkpoint) => SnapshotKind::Checkpoint,
            Ok(proto::SnapshotKind::Savepoint) => SnapshotKind::Savepoint,
            Ok(proto::SnapshotKind::StopWithSavepoint) => SnapshotKind::StopWithSavepoint,
            Ok(proto::SnapshotKind::Drain) => SnapshotKind::Drain,
            Ok(proto::SnapshotKind::Unspecified) | Err(_) => {
                return Err(unknown("CheckpointBarrier", "kind", barrier.kind));
            }
        };
        let alignment = match proto::BarrierAlignment::try_from(barrier.alignment) {
            Ok(proto::BarrierAlignment::Aligned) => BarrierAlignment::Aligned,
            Ok(proto::BarrierAlignment::AtLeastOnce) => BarrierAlignment::AtLeastOnce,
            Ok(proto::BarrierAlignment::Unaligned) => BarrierAlignment::Unaligned {
                timeout_ms: barrier.aligned_timeout_ms,
            },
            Ok(proto::BarrierAlignment::Unspecified) | Err(_) => {
                return Err(unknown("CheckpointBarrier", "alignment", barrier.alignment));
            }
        };
        Ok(Self {
            id: CheckpointId(barrier.id),
            timestamp_ms: barrier.timestamp_ms,
            kind,
            directory: barrier.directory.into(),
            alignment,
        })
    }
}

impl From<StateChunk> for proto::StateChunk {
    fn from(chunk: StateChunk) -> Self {
        Self {
            index: chunk.index,
            entries: chunk.entries,
            content: Some(match chunk.content {
                StateHandle::Inline(bytes) => Content::Inline(bytes),
                StateHandle::File(range) => Content::File(proto::FileRange {
                    path: range.path,
                    offset: range.offset,
                    length: range.length,
                    checksum: range.checksum,
                }),
            }),
        }
    }
}

impl TryFrom<proto::StateChunk> for StateChunk {
    type Error = ConvertError;

    fn try_from(chunk: proto::StateChunk) -> Result<Self, ConvertError> {
        Ok(Self {
            index: chunk.index,
            entries: chunk.entries,
            content: match required(chunk.content, "StateChunk", "content")? {
                Content::Inline(bytes) => StateHandle::Inline(bytes),
                Content::File(range) => StateHandle::File(FileRange {
                    path: range.path,
                    offset: range.offset,
                    length: range.length,
                    checksum: range.checksum,
                }),
            },
        })
    }
}

impl From<StateSnapshot> for proto::StateSnapshot {
    fn from(state: StateSnapshot) -> Self {
        Self {
            name: state.name,
            distribution: match state.distribution {
                Distribution::KeyGroup => proto::StateDistribution::KeyGroup,
                Distribution::Split => proto::StateDistribution::Split,
                Distribution::Union => proto::StateDistribution::Union,
                Distribution::Broadcast => proto::StateDistribution::Broadcast,
                Distribution::InFlight => proto::StateDistribution::InFlight,
            }
            .into(),
            schema: state.schema,
            chunks: state.chunks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::StateSnapshot> for StateSnapshot {
    type Error = ConvertError;

    fn try_from(state: proto::StateSnapshot) -> Result<Self, ConvertError> {
        let distribution = match proto::StateDistribution::try_from(state.distribution) {
            Ok(proto::StateDistribution::KeyGroup) => Distribution::KeyGroup,
            Ok(proto::StateDistribution::Split) => Distribution::Split,
            Ok(proto::StateDistribution::Union) => Distribution::Union,
            Ok(proto::StateDistribution::Broadcast) => Distribution::Broadcast,
            Ok(proto::StateDistribution::InFlight) => Distribution::InFlight,
            Ok(proto::StateDistribution::Unspecified) | Err(_) => {
                return Err(unknown("StateSnapshot", "distribution", state.distribution));
            }
        };
        Ok(Self {
            name: state.name,
            distribution,
            schema: state.schema,
            chunks: each(state.chunks)?,
        })
    }
}

impl From<OperatorSnapshot> for proto::OperatorSnapshot {
    fn from(operator: OperatorSnapshot) -> Self {
        Self {
            uid: operator.uid,
            states: operator.states.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::OperatorSnapshot> for OperatorSnapshot {
    type Error = ConvertError;

    fn try_from(operator: proto::OperatorSnapshot) -> Result<Self, ConvertError> {
        Ok(Self {
            uid: operator.uid,
            states: each(operator.states)?,
        })
    }
}

impl From<TaskRestore> for proto::TaskRestore {
    fn from(restore: TaskRestore) -> Self {
        Self {
            job: restore.job.to_bytes().to_vec(),
            checkpoint: restore.checkpoint.0,
            directory: restore.directory,
            operators: restore.operators.into_iter().map(Into::into).collect(),
            finished: restore.finished,
        }
    }
}

impl TryFrom<proto::TaskRestore> for TaskRestore {
    type Error = ConvertError;

    fn try_from(restore: proto::TaskRestore) -> Result<Self, ConvertError> {
        Ok(Self {
            job: id(&restore.job, JobId::from_bytes, "TaskRestore", "job")?,
            checkpoint: CheckpointId(restore.checkpoint),
            directory: restore.directory,
            operators: each(restore.operators)?,
            finished: restore.finished,
        })
    }
}

const fn stats_out(stats: SubtaskCheckpointStats) -> proto::SubtaskCheckpointStats {
    proto::SubtaskCheckpointStats {
        start_delay_ms: stats.start_delay_ms,
        alignment_us: stats.alignment_us,
        sync_us: stats.sync_us,
        async_us: stats.async_us,
        state_bytes: stats.state_bytes,
        written_bytes: stats.written_bytes,
        persisted_bytes: stats.persisted_bytes,
        processed_bytes: stats.processed_bytes,
        unaligned: stats.unaligned,
    }
}

const fn stats_in(stats: proto::SubtaskCheckpointStats) -> SubtaskCheckpointStats {
    SubtaskCheckpointStats {
        start_delay_ms: stats.start_delay_ms,
        alignment_us: stats.alignment_us,
        sync_us: stats.sync_us,
        async_us: stats.async_us,
        state_bytes: stats.state_bytes,
        written_bytes: stats.written_bytes,
        persisted_bytes: stats.persisted_bytes,
        processed_bytes: stats.processed_bytes,
        unaligned: stats.unaligned,
    }
}

impl From<TaskCheckpoint> for proto::TaskCheckpoint {
    fn from(done: TaskCheckpoint) -> Self {
        Self {
            job: done.job.to_bytes().to_vec(),
            execution: Some(done.execution.into()),
            checkpoint: done.checkpoint.0,
            outcome: Some(match done.outcome {
                TaskCheckpointOutcome::Acknowledged { snapshot, stats } => {
                    Outcome::Acknowledged(proto::CheckpointAcknowledged {
                        operators: snapshot.operators.into_iter().map(Into::into).collect(),
                        stats: Some(stats_out(stats)),
                        finished: snapshot.finished,
                    })
                }
                TaskCheckpointOutcome::Declined { reason } => Outcome::Declined(reason),
            }),
        }
    }
}

impl TryFrom<proto::TaskCheckpoint> for TaskCheckpoint {
    type Error = ConvertError;

    fn try_from(done: proto::TaskCheckpoint) -> Result<Self, ConvertError> {
        const NAME: &str = "TaskCheckpoint";
        Ok(Self {
            job: id(&done.job, JobId::from_bytes, NAME, "job")?,
            execution: nested(done.execution, NAME, "execution")?,
            checkpoint: CheckpointId(done.checkpoint),
            outcome: match required(done.outcome, NAME, "outcome")? {
                Outcome::Acknowledged(acknowledged) => TaskCheckpointOutcome::Acknowledged {
                    snapshot: SubtaskSnapshot {
                        operators: each(acknowledged.operators)?,
                        finished: acknowledged.finished,
                    },
                    stats: stats_in(required(
                        acknowledged.stats,
                        "CheckpointAcknowledged",
                        "stats",
                    )?),
                },
                Outcome::Declined(reason) => TaskCheckpointOutcome::Declined { reason },
            },
        })
    }
}

pub(super) fn trigger_out(
    execution: ExecutionAttemptId,
    barrier: CheckpointBarrier,
) -> proto::TaskTrigger {
    proto::TaskTrigger {
        execution: Some(execution.into()),
        barrier: Some(barrier.into()),
    }
}

pub(super) fn trigger_in(
    trigger: proto::TaskTrigger,
) -> Result<(ExecutionAttemptId, CheckpointBarrier), ConvertError> {
    Ok((
        nested(trigger.execution, "TaskTrigger", "execution")?,
        nested(trigger.barrier, "TaskTrigger", "barrier")?,
    ))
}

pub(super) fn notice_out(
    execution: ExecutionAttemptId,
    checkpoint: CheckpointId,
) -> proto::TaskNotice {
    proto::TaskNotice {
        execution: Some(execution.into()),
        checkpoint: checkpoint.0,
    }
}

pub(super) fn notice_in(
    notice: proto::TaskNotice,
) -> Result<(ExecutionAttemptId, CheckpointId), ConvertError> {
    Ok((
        nested(notice.execution, "TaskNotice", "execution")?,
        CheckpointId(notice.checkpoint),
    ))
}

pub(super) fn job_notice_out(
    job: JobId,
    execution: ExecutionAttemptId,
    checkpoint: CheckpointId,
) -> proto::JobNotice {
    proto::JobNotice {
        job: job.to_bytes().to_vec(),
        notice: Some(notice_out(execution, checkpoint)),
    }
}

pub(super) fn job_notice_in(
    message: proto::JobNotice,
) -> Result<(JobId, ExecutionAttemptId, CheckpointId), ConvertError> {
    let job = id(&message.job, JobId::from_bytes, "JobNotice", "job")?;
    let (execution, checkpoint) = notice_in(required(message.notice, "JobNotice", "notice")?)?;
    Ok((job, execution, checkpoint))
}
