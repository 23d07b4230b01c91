//! Which snapshots there are.

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use spindle_common::checkpoint::CheckpointId;
use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_hadoop::fs::FsError;

use crate::{SnapshotStorage, StorageError};

/// Metadata files that are read at the same time.
const READS: usize = 4;

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its directory, as a URI.
    pub directory: String,
    /// What its metadata says.
    pub metadata: SnapshotMetadata,
}

/// What lies in the directory for the checkpoints of a job.
#[derive(Debug, Default)]
pub struct Discovered {
    /// The complete ones, newest first. Their state was not read.
    pub complete: Vec<Snapshot>,
    /// Directories of those whose metadata is not what was written, newest first, and why.
    pub damaged: Vec<(String, StorageError)>,
    /// Directories of those that have no metadata, newest first: never completed, half deleted, or being written.
    pub incomplete: Vec<String>,
}

impl SnapshotStorage {
    /// Looks for all `chk-<n>` in a directory, which need not exist.
    ///
    /// # Errors
    /// If the directory or a metadata file cannot be read for another reason than damage: then nobody knows what is the newest.
    pub async fn discover(&self, base: &str) -> Result<Discovered, StorageError> {
        let base = self.resolve(base)?;
        let entries = match self.fs.list(&base).await {
            Ok(entries) => entries,
            Err(FsError::NotFound { .. }) => return Ok(Discovered::default()),
            Err(cause) => return Err(StorageError::Discover { cause }),
        };
        let mut found: Vec<(CheckpointId, String)> = entries
            .iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| Some((number(entry.path.name()?)?, entry.path.to_string())))
            .collect();
        found.sort_by(|a, b| b.cmp(a));
        let mut reads: Vec<BoxFuture<'_, (String, Result<SnapshotMetadata, StorageError>)>> =
            Vec::new();
        for (_, directory) in found {
            reads.push(Box::pin(async move {
                let metadata = self.read_metadata(&directory).await;
                (directory, metadata)
            }));
        }
        let mut reads = stream::iter(reads).buffered(READS);
        let mut discovered = Discovered::default();
        while let Some((directory, read)) = reads.next().await {
            match read {
                Ok(metadata) => discovered.complete.push(Snapshot {
                    directory,
                    metadata,
                }),
                Err(StorageError::NoMetadata { .. }) => discovered.incomplete.push(directory),
                Err(error) if error.is_damage() => discovered.damaged.push((directory, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(discovered)
    }
}

/// The number in the name of a checkpoint's directory.
fn number(name: &str) -> Option<CheckpointId> {
    let digits = name.strip_prefix("chk-")?;
    let written = digits.parse().ok().map(CheckpointId)?;
    // `chk-+1` and `chk-01` are none of ours.
    (written.to_string() == digits).then_some(written)
}
