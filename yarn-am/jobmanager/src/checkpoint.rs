//! When checkpoints of a job are taken, which of them are complete, and which one its tasks begin with. Flink:
//! `CheckpointCoordinator`.
//!
//! ```text
//! Preparing ──▶ PendingCheckpoint ──▶ AcknowledgedCheckpoint ──▶ persisting ──▶ CompletedCheckpoint
//! directory     barriers are out,     all tasks have written,    its metadata   durable, told to the
//! being made    tasks acknowledge     waits for its turn         being written  tasks, restored from
//! ```
//!
//! A checkpoint that fails on the way has a reason in words. Until the metadata is being written, a checkpoint that fails is one that
//! never was. From then on only the storage knows: so the job neither starts again nor ends before that is known, and before one
//! that failed there is gone for certain.

mod acknowledged;
mod coordinator;
mod pending;
mod resolve;
mod restore;
mod stats;

pub(crate) use coordinator::{
    CheckpointCoordinator, CheckpointInput, CheckpointSettings, CoordinatorEffect, Participant,
    Progress,
};
pub use resolve::Observed;
pub use stats::{
    CheckpointCounts, CheckpointSettingsView, CheckpointStatus, CheckpointView, CheckpointsView,
    RestoredView, SubtaskView, TriggerView,
};
