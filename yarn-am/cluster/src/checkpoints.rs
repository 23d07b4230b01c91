//! The files of checkpoints: what the machine wants of the storage, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use spindle_common::checkpoint::SnapshotKind;
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
            // Whoever copies a savepoint may do so at once, so it is closed, too.
            let finish = match metadata.kind {
                SnapshotKind::Checkpoint => Finish::Durable,
                SnapshotKind::Savepoint | SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => {
                    Finish::Closed
                }
            };
            let commit = storage.commit(directory, metadata, attempt, finish);
            Box::pin(commit).await?;
            Some(CheckpointEvent::MetadataPersisted { id: *id })
        }
        CheckpointEffect::PersistAnchor {
            id,
            directory,
            metadata,
        } => {
            let directory = storage.create(directory).await?;
            let commit = storage.commit(&directory, metadata, attempt, Finish::Durable);
            Box::pin(commit).await?;
            Some(CheckpointEvent::MetadataPersisted { id: *id })
        }
        CheckpointEffect::Load { path } => match Box::pin(storage.load(path)).await {
            Ok(found) => Some(CheckpointEvent::Loaded {
                directory: found.directory,
                metadata: Arc::new(found.metadata),
            }),
            Err(error) if error.is_damage() => Some(CheckpointEvent::LoadFailed {
                reason: error.report(),
                lost: true,
            }),
            Err(error) => return Err(error),
        },
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
        CheckpointEffect::Load { .. } => Some(CheckpointEvent::LoadFailed {
            reason,
            lost: false,
        }),
        CheckpointEffect::PersistMetadata { id, .. }
        | CheckpointEffect::PersistAnchor { id, .. } => {
            Some(CheckpointEvent::MetadataFailed { id, reason })
        }
        CheckpointEffect::Discover { .. } => Some(CheckpointEvent::DiscoverFailed { reason }),
        CheckpointEffect::Discard { id, .. } => Some(CheckpointEvent::DiscardFailed { id, reason }),
        CheckpointEffect::RemoveAll { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::checkpoint::CheckpointId;
    use spindle_common::checkpoint::metadata::SnapshotMetadata;
    use spindle_hadoop::conf::Configuration;
    use spindle_hadoop::fs::FileSystem;

    use super::*;

    fn storage() -> SnapshotStorage {
        SnapshotStorage::new(FileSystem::new(&Configuration::default(), "me").unwrap())
    }

    const JOB: JobId = JobId::from_bytes([1; 16]);

    fn metadata(id: u64) -> Arc<SnapshotMetadata> {
        Arc::new(SnapshotMetadata {
            job: JOB,
            checkpoint: CheckpointId(id),
            kind: SnapshotKind::Checkpoint,
            timestamp_ms: 5,
            operators: Vec::new(),
        })
    }

    #[tokio::test]
    async fn what_is_persisted_is_found_by_the_next_attempt_until_it_is_discarded() {
        let root = tempfile::tempdir().unwrap();
        let base = format!("file://{}/{JOB}", root.path().display());
        let storage = storage();
        let mut files = checkpoint_files(storage.clone(), FencingToken(1));
        let mut directories = Vec::new();
        for n in 1..=3 {
            let id = CheckpointId(n);
            let directory = format!("{base}/chk-{n}");
            let made = files(JOB, CheckpointEffect::Prepare { id, directory }).await;
            let Some(CheckpointEvent::Prepared { directory, .. }) = made else {
                panic!("{made:?}");
            };
            directories.push(directory.clone());
            if n < 3 {
                let persist = CheckpointEffect::PersistMetadata {
                    id,
                    directory,
                    metadata: metadata(n),
                };
                let done = files(JOB, persist).await;
                assert_eq!(done, Some(CheckpointEvent::MetadataPersisted { id }));
            }
        }
        // An attempt that was thought dead cannot put another in its place.
        let mut other = checkpoint_files(storage.clone(), FencingToken(2));
        let late = CheckpointEffect::PersistMetadata {
            id: CheckpointId(1),
            directory: directories[0].clone(),
            metadata: metadata(7),
        };
        let late = other(JOB, late).await;
        assert!(
            matches!(&late, Some(CheckpointEvent::MetadataFailed { reason, .. }) if reason.contains("chk-1")),
            "{late:?}"
        );
        let discard = CheckpointEffect::Discard {
            id: CheckpointId(1),
            directory: directories[0].clone(),
        };
        let gone = other(JOB, discard).await;
        let id = CheckpointId(1);
        assert_eq!(gone, Some(CheckpointEvent::Discarded { id }));
        let look = || CheckpointEffect::Discover {
            directory: base.clone(),
        };
        let found = other(JOB, look()).await;
        let observed = Box::new(Observed {
            complete: vec![(directories[1].clone(), metadata(2))],
            damaged: Vec::new(),
            incomplete: vec![directories[2].clone()],
        });
        assert_eq!(found, Some(CheckpointEvent::Discovered { observed }));
        let all = CheckpointEffect::RemoveAll {
            directory: base.clone(),
        };
        assert_eq!(other(JOB, all).await, None);
        let found = other(JOB, look()).await;
        let observed = Box::default();
        assert_eq!(found, Some(CheckpointEvent::Discovered { observed }));
        storage.settle().await;
    }

    #[tokio::test]
    async fn a_place_that_is_none_is_a_failure_in_words() {
        let storage = storage();
        let mut files = checkpoint_files(storage, FencingToken(1));
        let file = tempfile::NamedTempFile::new().unwrap();
        let id = CheckpointId(1);
        let directory = format!("file://{}/chk-1", file.path().display());
        let made = files(JOB, CheckpointEffect::Prepare { id, directory }).await;
        assert!(
            matches!(&made, Some(CheckpointEvent::PrepareFailed { reason, .. }) if reason.contains("chk-1")),
            "{made:?}"
        );
    }
}
