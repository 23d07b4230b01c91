//! Where snapshots lie: writes state beside its task, makes a checkpoint complete, and reads it back so that every byte is the one that
//! was written, or an error says which is not. On HDFS and on any mounted file system, through the same facade.
//!
//! ```text
//! <checkpoints dir>/<job id>/chk-<n>/      the directory of a snapshot
//!     <writer's name>                      state of one subtask: chunks, one after the other
//!     _metadata.tmp-<attempt>              the metadata of an attempt that did not get further
//!     _metadata                            the metadata: where it is, the snapshot is complete
//! <checkpoints dir>/<job id>/.attempt-<n>/ what an attempt of the JobManager has of its own: by it, it is known to be the newest
//! ```
//!
//! A file is durable after hsync, milliseconds after its last byte. Closing it takes HDFS half a second: that goes on in the background.
//! Until then, and for good if its writer dies, readers see nothing of its last block: so a file that reads shorter than it should is
//! first closed by the reader ([`FileSystem::recover_lease`]), and only then called damaged.
//!
//! This crate may not decide which snapshot is the true one, nor when one is taken or forgotten.

mod discover;
mod error;
mod owned;
mod read;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spindle_common::checkpoint::CheckpointId;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{FileSystem, FileWriter, FsPath};
use tokio::task::JoinSet;

pub use discover::{Discovered, Snapshot};
pub use error::StorageError;
pub use write::{Finish, WriteOptions, WrittenState};

/// The file by which a snapshot is complete.
pub const METADATA_FILE: &str = "_metadata";
/// `state.storage.fs.memory-threshold`, as Flink has it: a subtask with less state than this writes no file.
pub const DEFAULT_MEMORY_THRESHOLD: u64 = 20 * 1024;
/// How long a file that its writer left open may take to be closed. HDFS: a second or two, ten where a DataNode is lost.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
const DIRECTORY_PERMISSION: u32 = 0o755;

/// Snapshots on the file systems that a process reaches; cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotStorage {
    fs: FileSystem,
    recovery_limit: Duration,
    /// Files that are durable and not yet closed.
    closing: Arc<Mutex<JoinSet<()>>>,
}

impl SnapshotStorage {
    /// On these file systems.
    pub fn new(fs: FileSystem) -> Self {
        Self {
            fs,
            recovery_limit: RECOVERY_LIMIT,
            closing: Arc::default(),
        }
    }

    /// On the file systems that these settings of Hadoop name, key and value, as this user. To be called within the runtime that it is
    /// used in; opens no connection.
    ///
    /// # Errors
    /// [`StorageError::Hadoop`].
    pub fn of_hadoop(settings: &[(String, String)], user: &str) -> Result<Self, StorageError> {
        let pairs = settings.iter().map(|(key, value)| (key, value.clone()));
        let fs = FileSystem::new(&Configuration::from_pairs(pairs), user);
        let fs = fs.map_err(|cause| StorageError::Hadoop { cause })?;
        Ok(Self::new(fs))
    }

    /// Waits for a file that its writer left open at most this long.
    #[must_use]
    pub const fn with_recovery_limit(mut self, limit: Duration) -> Self {
        self.recovery_limit = limit;
        self
    }

    /// The file systems that it is on.
    pub const fn file_system(&self) -> &FileSystem {
        &self.fs
    }

    /// Makes the directory of a snapshot and those above it, and returns its full URI.
    ///
    /// # Errors
    /// [`StorageError::Path`], [`StorageError::Create`].
    pub async fn create(&self, directory: &str) -> Result<String, StorageError> {
        let path = self.resolve(directory)?;
        let made = self.fs.mkdirs(&path, DIRECTORY_PERMISSION).await;
        made.map_err(|cause| StorageError::Create { cause })?;
        Ok(path.to_string())
    }

    /// Deletes the directory of a snapshot with all that is in it; false if there was none.
    ///
    /// The metadata goes first: what is half deleted is not taken for complete.
    ///
    /// # Errors
    /// [`StorageError::Path`], [`StorageError::Discard`].
    pub async fn discard(&self, directory: &str) -> Result<bool, StorageError> {
        let path = self.resolve(directory)?;
        let failed = |cause| StorageError::Discard { cause };
        let metadata = path.join(METADATA_FILE).map_err(failed)?;
        self.fs.delete(&metadata, false).await.map_err(failed)?;
        self.fs.delete(&path, true).await.map_err(failed)
    }

    /// Deletes one file of a snapshot, as when its checkpoint was aborted; false if there was none.
    ///
    /// # Errors
    /// [`StorageError::Path`], [`StorageError::Discard`].
    pub async fn discard_file(&self, directory: &str, name: &str) -> Result<bool, StorageError> {
        let path = self.file_in(directory, name)?;
        let deleted = self.fs.delete(&path, false).await;
        deleted.map_err(|cause| StorageError::Discard { cause })
    }

    /// Returns once all files that were written so far are closed, or cannot be. To be awaited before a process ends, lest the next
    /// one has to close them.
    pub async fn settle(&self) {
        loop {
            let mut closing = std::mem::take(&mut *self.closing());
            if closing.is_empty() {
                return;
            }
            while closing.join_next().await.is_some() {}
        }
    }

    /// Closes a file that is durable, in the background.
    fn close(&self, writer: FileWriter) {
        let close = async move {
            let path = writer.path().clone();
            if let Err(error) = Box::pin(writer.close()).await {
                // Its bytes are safe, and whoever reads it closes it.
                tracing::debug!(%path, %error, "a durable file could not be closed");
            }
        };
        let mut closing = self.closing();
        while closing.try_join_next().is_some() {}
        closing.spawn(close);
    }

    fn closing(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, text: &str) -> Result<FsPath, StorageError> {
        let path = self.fs.resolve(text);
        path.map_err(|cause| StorageError::Path { cause })
    }

    /// The file that a [`FileRange`](spindle_common::checkpoint::FileRange) names.
    fn file_in(&self, directory: &str, path: &str) -> Result<FsPath, StorageError> {
        if path.contains('/') {
            return self.resolve(path);
        }
        let path = self.resolve(directory)?.join(path);
        path.map_err(|cause| StorageError::Path { cause })
    }

    /// Has a file closed that its writer may have left open, so that all its bytes can be read.
    async fn recover(&self, path: &FsPath) -> Result<(), StorageError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let closed = self.fs.recover_lease(path).await;
            if closed.map_err(|cause| StorageError::Recover { cause })? {
                tracing::debug!(%path, waited = ?start.elapsed(), "closed a file that its writer left open");
                return Ok(());
            }
            if start.elapsed() >= self.recovery_limit {
                return Err(StorageError::StillOpen {
                    path: path.to_string(),
                    waited: self.recovery_limit,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(400));
        }
    }
}

/// The directory of a checkpoint below the one for the checkpoints of its job.
pub fn checkpoint_directory(base: &str, checkpoint: CheckpointId) -> String {
    format!("{}/chk-{checkpoint}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
