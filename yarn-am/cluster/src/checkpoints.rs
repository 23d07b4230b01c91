//! The files of checkpoints: what the machine wants of the storage, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use spindle_common::id::{FencingToken, JobId};
use spindle_jobmanager::checkpoint::Observed;
use spindle_jobmanager::message::{CheckpointEffect, CheckpointEvent};
use spindle_storage::{Finish, Snapshot, SnapshotStorage, StorageError};

/// Longer than this the storage is not waited for: what it did not answer counts as failed, and as not known.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries effects on the storage of checkpoints out. Each is answered, except [`CheckpointEffect::RemoveAll`].
pub type CheckpointFiles =
    Box<dyn FnMut(JobId, CheckpointEffect) -> BoxFuture<'static, Option<CheckpointEvent>> + Send>;

/// Checkpoints in a storage, for an attempt of the JobManager.
pub fn checkpoint_files(storage: SnapshotStorage, fencing: FencingToken) -> CheckpointFiles {
    let attempt = u32::try_from(fencing.0).unwrap_or(u32::MAX);
    Box::new(move |job, effect| {
        let storage = storage.clone();
        Box::pin(async move { carry_out(&storage, attempt, job, effect).await })
    })
}

/// For a cluster without a storage: there are no checkpoints.
pub fn no_checkpoint_files() -> CheckpointFiles {
    Box::new(|_, effect| {
        let reason = "this cluster has no storage for checkpoints".to_owned();
        Box::pin(std::future::ready(failed(effect, reason)))
    })
}

async fn carry_out(
    storage: &SnapshotStorage,
    attempt: u32,
    job: JobId,
    effect: CheckpointEffect,
) -> Option<CheckpointEvent> {
    let begun = std::time::Instant::now();
    let done = tokio::time::timeout(PATIENCE, attempt_once(storage, attempt, &effect)).await;
    let reason = match done {
        Ok(Ok(event)) => {
            tracing::debug!(job_id = %job, elapsed_ms = begun.elapsed().as_millis(), ?event, "checkpoint storage");
            return event;
        }
        Ok(Err(error)) => error.report(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    if let CheckpointEffect::RemoveAll { directory } = &effect {
        tracing::warn!(job_id = %job, directory, reason, "checkpoints of a job that is over stay behind");
    }
    failed(effect, reason)
}

async fn attempt_once(
    storage: &SnapshotStorage,
    attempt: u32,
    effect: &CheckpointEffect,
) -> Result<Option<CheckpointEvent>, StorageError> {
    Ok(match effect {
        CheckpointEffect::Prepare { id, directory } => Some(CheckpointEvent::Prepared {
            id: *id,
            directory: storage.create(directory).await?,
        }),
        CheckpointEffect::PersistMetadata {
            id,
            directory,
            metadata,
        } => {
            let commit = storage.commit(directory, metadata, attempt, Finish::Durable);
            Box::pin(commit).await?;
            Some(CheckpointEvent::MetadataPersisted { id: *id })
        }
        CheckpointEffect::Discover { directory } => {
            let found = Box::pin(storage.discover(directory)).await?;
            let whole = |one: Snapshot| (one.directory, Arc::new(one.metadata));
            let damaged = |(directory, why): (String, StorageError)| (directory, why.report());
            let observed = Box::new(Observed {
                complete: found.complete.into_iter().map(whole).collect(),
                damaged: found.damaged.into_iter().map(damaged).collect(),
                incomplete: found.incomplete,
            });
            Some(CheckpointEvent::Discovered { observed })
        }
        CheckpointEffect::Discard { id, directory } => {
            storage.discard(directory).await?;
            Some(CheckpointEvent::Discarded { id: *id })
        }
        CheckpointEffect::RemoveAll { directory } => {
            storage.discard(directory).await?;
            None
        }
    })
}

fn failed(effect: CheckpointEffect, reason: String) -> Option<CheckpointEvent> {
    match effect {
        CheckpointEffect::Prepare { id, .. } => Some(CheckpointEvent::PrepareFailed { id, reason }),
        CheckpointEffect::PersistMetadata { id, .. } => {
            Some(CheckpointEvent::MetadataFailed { id, reason })
        }
        CheckpointEffect::Discover { .. } => Some(CheckpointEvent::DiscoverFailed { reason }),
        CheckpointEffect::Discard { id, .. } => Some(CheckpointEvent::DiscardFailed { id, reason }),
        CheckpointEffect::RemoveAll { .. } => None,
    }
}
