//! The files of checkpoints: what the machine wants of the storage, and what comes of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    JobDirectories::new(storage, fencing).files()
}

/// What an attempt of the JobManager has of the storage; cheap to clone.
#[derive(Debug, Clone)]
pub struct JobDirectories {
    storage: SnapshotStorage,
    attempt: u32,
    /// Those that it has taken over and not removed, in any form of their URIs.
    own: Arc<Mutex<BTreeSet<(JobId, String)>>>,
}

/// For a cluster without a storage: there are no checkpoints.
pub fn no_checkpoint_files() -> CheckpointFiles {
    Box::new(|_, effect| {
        let reason = "this cluster has no storage for checkpoints".to_owned();
        Box::pin(std::future::ready(failed(effect, reason)))
    })
}

impl JobDirectories {
    /// Nothing so far.
    pub fn new(storage: SnapshotStorage, fencing: FencingToken) -> Self {
        Self {
            storage,
            attempt: u32::try_from(fencing.0).unwrap_or(u32::MAX),
            own: Arc::default(),
        }
    }

    /// Carries effects out.
    pub fn files(&self) -> CheckpointFiles {
        let this = self.clone();
        Box::new(move |job, effect| {
            let this = this.clone();
            Box::pin(async move { this.carry_out(job, effect).await })
        })
    }

    /// Looks whether no later attempt goes on with a job. What is done besides on that ground may come too late all the same.
    ///
    /// # Errors
    /// If one does, or nobody knows.
    pub async fn check(&self, job: JobId) -> Result<(), StorageError> {
        let own = self.own_of(job);
        let Some(own) = own.first() else {
            return Ok(());
        };
        match self.storage.check_owned(own, self.attempt).await {
            // It was removed meanwhile, by this attempt.
            Err(StorageError::Superseded { .. }) if self.own_of(job).is_empty() => Ok(()),
            checked => checked,
        }
    }

    async fn carry_out(&self, job: JobId, effect: CheckpointEffect) -> Option<CheckpointEvent> {
        let begun = std::time::Instant::now();
        let once = Box::pin(self.attempt_once(job, &effect));
        let done = tokio::time::timeout(PATIENCE, once).await;
        let superseded = matches!(&done, Ok(Err(StorageError::Superseded { .. })));
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
        if superseded && !matches!(effect, CheckpointEffect::RemoveAll { .. }) {
            return Some(CheckpointEvent::Superseded { reason });
        }
        failed(effect, reason)
    }

    /// Has the directory of a job be this attempt's alone.
    async fn take_over(&self, job: JobId, base: &str) -> Result<(), StorageError> {
        self.storage.take_over(base, self.attempt).await?;
        self.own().insert((job, base.to_owned()));
        Ok(())
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<(JobId, String)>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What nobody will look into any more goes, if the job is still this attempt's.
    async fn remove_all(&self, job: JobId, directory: &str) -> Result<(), StorageError> {
        self.check(job).await?;
        let own = self.own_of(job);
        if own.iter().any(|own| own == directory) {
            self.own().retain(|(of, _)| *of != job);
            return Box::pin(self.storage.discard_all_owned(directory, self.attempt)).await;
        }
        // What the job began with.
        self.storage.discard(directory).await?;
        Ok(())
    }

    fn own_of(&self, job: JobId) -> Vec<String> {
        let own = self.own();
        let own = own.iter().filter(|(of, _)| *of == job);
        own.map(|(_, directory)| directory.clone()).collect()
    }

    async fn attempt_once(
        &self,
        job: JobId,
        effect: &CheckpointEffect,
    ) -> Result<Option<CheckpointEvent>, StorageError> {
        let (storage, attempt) = (&self.storage, self.attempt);
        if let Some(base) = job_directory(effect) {
            let looks = matches!(effect, CheckpointEffect::Discover { .. });
            if looks || !self.own().contains(&(job, base.to_owned())) {
                self.take_over(job, base).await?;
            }
        }
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
                match metadata.kind {
                    SnapshotKind::Checkpoint => {
                        let finish = Finish::Durable;
                        let commit = storage.commit_owned(directory, metadata, attempt, finish);
                        Box::pin(commit).await?;
                    }
                    // Whoever copies a savepoint may do so at once, so it is closed, too.
                    SnapshotKind::Savepoint
                    | SnapshotKind::StopWithSavepoint
                    | SnapshotKind::Drain => {
                        let commit = storage.commit(directory, metadata, attempt, Finish::Closed);
                        Box::pin(commit).await?;
                    }
                }
                Some(CheckpointEvent::MetadataPersisted { id: *id })
            }
            CheckpointEffect::PersistAnchor {
                id,
                directory,
                metadata,
            } => {
                let directory = storage.create(directory).await?;
                let commit = storage.commit_owned(&directory, metadata, attempt, Finish::Durable);
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
            CheckpointEffect::Confirm { directory } => {
                storage.check_owned(directory, attempt).await?;
                Some(CheckpointEvent::Confirmed)
            }
            CheckpointEffect::Discard { id, directory } => {
                match job_directory(effect) {
                    Some(_) => storage.discard_owned(directory, attempt).await?,
                    None => storage.discard(directory).await?,
                };
                Some(CheckpointEvent::Discarded { id: *id })
            }
            CheckpointEffect::RemoveAll { directory } => {
                self.remove_all(job, directory.trim_end_matches('/'))
                    .await?;
                None
            }
        })
    }
}

/// The directory of a job, if that is what the effect changes: it is this attempt's only after it has taken it over.
fn job_directory(effect: &CheckpointEffect) -> Option<&str> {
    match effect {
        CheckpointEffect::Discover { directory } | CheckpointEffect::Confirm { directory } => {
            Some(directory.trim_end_matches('/'))
        }
        CheckpointEffect::Prepare { directory, .. }
        | CheckpointEffect::PersistMetadata { directory, .. }
        | CheckpointEffect::PersistAnchor { directory, .. }
        | CheckpointEffect::Discard { directory, .. } => {
            let (base, name) = directory.trim_end_matches('/').rsplit_once('/')?;
            // Savepoints lie in directories of theirs.
            name.starts_with("chk-").then_some(base)
        }
        CheckpointEffect::Load { .. } | CheckpointEffect::RemoveAll { .. } => None,
    }
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
        CheckpointEffect::Confirm { .. } => Some(CheckpointEvent::ConfirmFailed { reason }),
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
        // What is complete is not put in the place of another.
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
        let found_before = Some(CheckpointEvent::Discovered { observed });
        assert_eq!(found, found_before);
        let all = CheckpointEffect::RemoveAll {
            directory: base.clone(),
        };
        // The first attempt was thought dead, and it goes on as if nothing had happened.
        let id = CheckpointId(3);
        let persist = CheckpointEffect::PersistMetadata {
            id,
            directory: directories[2].clone(),
            metadata: metadata(3),
        };
        let anchor = CheckpointEffect::PersistAnchor {
            id: CheckpointId(4),
            directory: format!("{base}/chk-4"),
            metadata: metadata(4),
        };
        let discard = CheckpointEffect::Discard {
            id: CheckpointId(2),
            directory: directories[1].clone(),
        };
        let confirm = CheckpointEffect::Confirm {
            directory: base.clone(),
        };
        assert_eq!(
            other(JOB, confirm.clone()).await,
            Some(CheckpointEvent::Confirmed)
        );
        for late in [persist, anchor, discard, confirm, look()] {
            let told = files(JOB, late.clone()).await;
            assert!(
                matches!(&told, Some(CheckpointEvent::Superseded { reason }) if reason.contains("attempt 1's")),
                "{late:?}: {told:?}"
            );
        }
        assert_eq!(files(JOB, all.clone()).await, None);
        // It has left an empty directory, and changed nothing.
        std::fs::remove_dir(root.path().join(format!("{JOB}/chk-4"))).unwrap();
        assert_eq!(other(JOB, look()).await, found_before);
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
        let place = file.path().display();
        let directory = format!("file://{place}/chk-1");
        let made = files(JOB, CheckpointEffect::Prepare { id, directory }).await;
        assert!(
            matches!(&made, Some(CheckpointEvent::PrepareFailed { reason, .. }) if reason.contains(&place.to_string())),
            "{made:?}"
        );
    }
}
