//! A job's directory while attempts of its JobManager follow each other: only the newest one changes which checkpoints are complete.
//!
//! An attempt has a directory of its own beside the checkpoints, `<checkpoints dir>/<job id>/.attempt-<n>/`. The next attempt deletes it, and then
//! looks what is there. What completes a checkpoint is the rename of a file *out of* it, what removes one is the rename of its directory
//! *into* it: each is one step of the file system, which comes before the deletion, and then the next attempt sees it, or fails. No
//! process has to notice in time that it was thought dead.

use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_hadoop::fs::{FsError, FsPath};

use crate::write::Finish;
use crate::{DIRECTORY_PERMISSION, METADATA_FILE, SnapshotStorage, StorageError};

/// How the name of an attempt's own directory begins.
const ATTEMPT: &str = ".attempt-";

impl SnapshotStorage {
    /// Takes a job's directory over from all lower attempts: what they do from now on with the functions here is refused. To be done once,
    /// before all else; doing it again does no harm.
    ///
    /// # Errors
    /// [`StorageError::Superseded`] if a higher attempt has done it; [`StorageError::TakeOver`], after which it may be done or not.
    pub async fn take_over(&self, base: &str, attempt: u32) -> Result<(), StorageError> {
        let failed = |cause| StorageError::TakeOver { cause };
        let base = self.resolve(base)?;
        let own = own_directory(&base, attempt).map_err(failed)?;
        self.check_newest(&base, attempt).await?;
        let made = self.fs.mkdirs(&own, DIRECTORY_PERMISSION).await;
        made.map_err(failed)?;
        // Whoever came between has looked before ours was there, or after: one of the two sees the other.
        match self.check_newest(&base, attempt).await {
            Ok(lower) => {
                for one in lower {
                    // Away in one step, where a file system deletes a directory's files first.
                    let away = own.join(one.name().unwrap_or_default());
                    let away = away.map_err(failed)?;
                    match self.fs.rename(&one, &away, false).await {
                        Ok(()) => drop(self.fs.delete(&away, true).await.map_err(failed)?),
                        // It has ended the job just now.
                        Err(FsError::NotFound { .. }) => {}
                        Err(cause) => return Err(failed(cause)),
                    }
                }
                self.fs.sync_directory(&base).await.map_err(failed)
            }
            Err(error) => {
                self.fs.delete(&own, true).await.map_err(failed)?;
                Err(error)
            }
        }
    }

    /// [`Self::commit`] of a checkpoint in a job's directory that this attempt has taken over.
    ///
    /// # Errors
    /// Also [`StorageError::Superseded`]: the checkpoint is not complete, and will not be.
    pub async fn commit_owned(
        &self,
        directory: &str,
        metadata: &SnapshotMetadata,
        attempt: u32,
        finish: Finish,
    ) -> Result<(), StorageError> {
        let failed = |cause| StorageError::Commit { cause };
        let directory = self.resolve(directory)?;
        let (base, own) = owner_of(&directory, attempt).map_err(failed)?;
        let name = directory.name().unwrap_or_default();
        let written = own.join(&format!("{name}{METADATA_FILE}"));
        let written = written.map_err(failed)?;
        let done = self.complete(&directory, &written, metadata, finish);
        let done = Box::pin(done).await;
        self.or_superseded(&base, attempt, done).await
    }

    /// [`Self::discard`] of a checkpoint in a job's directory that this attempt has taken over; false if there was none.
    ///
    /// # Errors
    /// Also [`StorageError::Superseded`]: the checkpoint is as the higher attempt has seen it.
    pub async fn discard_owned(&self, directory: &str, attempt: u32) -> Result<bool, StorageError> {
        let directory = self.resolve(directory)?;
        let failed = |cause| StorageError::Discard { cause };
        let (base, _) = owner_of(&directory, attempt).map_err(failed)?;
        let done = self.move_away(&directory, attempt).await;
        self.or_superseded(&base, attempt, done).await
    }

    /// Deletes all checkpoints in a job's directory that this attempt has taken over, and then the directory.
    ///
    /// # Errors
    /// Also [`StorageError::Superseded`]; some checkpoints may be gone.
    pub async fn discard_all_owned(&self, base: &str, attempt: u32) -> Result<(), StorageError> {
        let base = self.resolve(base)?;
        let done = self.move_all_away(&base, attempt).await;
        self.or_superseded(&base, attempt, done).await
    }

    /// Whether a job's directory is still this attempt's; what it does besides may come too late all the same.
    ///
    /// # Errors
    /// [`StorageError::Superseded`] if it is not.
    pub async fn check_owned(&self, base: &str, attempt: u32) -> Result<(), StorageError> {
        let base = self.resolve(base)?;
        let failed = |cause| StorageError::TakeOver { cause };
        let own = own_directory(&base, attempt).map_err(failed)?;
        if self.fs.exists(&own).await.map_err(failed)? {
            return Ok(());
        }
        Err(superseded(&base, attempt))
    }

    async fn move_all_away(&self, base: &FsPath, attempt: u32) -> Result<(), StorageError> {
        let failed = |cause| StorageError::Discard { cause };
        let entries = match self.fs.list(base).await {
            Ok(entries) => entries,
            Err(FsError::NotFound { .. }) => return Ok(()),
            Err(cause) => return Err(failed(cause)),
        };
        for entry in entries {
            if attempt_of(&entry.path).is_none() {
                self.move_away(&entry.path, attempt).await?;
            }
        }
        let own = own_directory(base, attempt).map_err(failed)?;
        if !self.fs.delete(&own, true).await.map_err(failed)? {
            return Err(superseded(base, attempt));
        }
        match self.fs.delete(base, false).await {
            // There is another attempt already, who removes it if it is in the way.
            Ok(_) | Err(FsError::NotEmpty { .. }) => Ok(()),
            Err(cause) => Err(failed(cause)),
        }
    }

    /// In one step it is no checkpoint any more, and then it is deleted.
    async fn move_away(&self, directory: &FsPath, attempt: u32) -> Result<bool, StorageError> {
        let failed = |cause| StorageError::Discard { cause };
        let (_, own) = owner_of(directory, attempt).map_err(failed)?;
        let away = own.join(directory.name().unwrap_or_default());
        let away = away.map_err(failed)?;
        // One of that name that was not deleted to its end.
        self.fs.delete(&away, true).await.map_err(failed)?;
        match self.fs.rename(directory, &away, false).await {
            Ok(()) => self.fs.delete(&away, true).await.map_err(failed),
            Err(FsError::NotFound { .. })
                if !self.fs.exists(directory).await.map_err(failed)?
                    && self.fs.exists(&own).await.map_err(failed)? =>
            {
                Ok(false)
            }
            Err(cause) => Err(failed(cause)),
        }
    }

    /// Says why something failed if the reason is that there is a higher attempt.
    async fn or_superseded<T>(
        &self,
        base: &FsPath,
        attempt: u32,
        done: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let error = match done {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        match own_directory(base, attempt) {
            Ok(own) if matches!(self.fs.exists(&own).await, Ok(false)) => {
                Err(superseded(base, attempt))
            }
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// The directories of lower attempts, if there is none of a higher.
    async fn check_newest(&self, base: &FsPath, attempt: u32) -> Result<Vec<FsPath>, StorageError> {
        let entries = match self.fs.list(base).await {
            Ok(entries) => entries,
            Err(FsError::NotFound { .. }) => return Ok(Vec::new()),
            Err(cause) => return Err(StorageError::TakeOver { cause }),
        };
        let attempts = entries.into_iter().map(|entry| entry.path);
        let of = |path: FsPath| attempt_of(&path).map(|number| (number, path));
        let mut lower = Vec::new();
        for (number, path) in attempts.filter_map(of) {
            match number.cmp(&attempt) {
                std::cmp::Ordering::Less => lower.push(path),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => return Err(superseded(base, attempt)),
            }
        }
        Ok(lower)
    }
}

fn superseded(base: &FsPath, attempt: u32) -> StorageError {
    StorageError::Superseded {
        directory: base.to_string(),
        attempt,
    }
}

fn own_directory(base: &FsPath, attempt: u32) -> Result<FsPath, FsError> {
    base.join(&format!("{ATTEMPT}{attempt}"))
}

/// The job's directory that a checkpoint is in, and what is an attempt's own there.
fn owner_of(directory: &FsPath, attempt: u32) -> Result<(FsPath, FsPath), FsError> {
    let base = directory.parent().ok_or_else(|| FsError::InvalidPath {
        text: directory.to_string(),
        reason: "the root is no checkpoint",
    })?;
    let own = own_directory(&base, attempt)?;
    Ok((base, own))
}

/// Whose own directory it is.
fn attempt_of(path: &FsPath) -> Option<u32> {
    path.name()?.strip_prefix(ATTEMPT)?.parse().ok()
}
