//! Closed part files on the way to their places.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use spindle_hadoop::fs::{FileStatus, FileSystem, FsError, FsPath, Scheme};
use tokio::task::JoinHandle;

/// How long HDFS may take to close a file that a dead process left open.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const RECOVERY_LOOK: Duration = Duration::from_millis(100);

/// A part file that is closed, or being closed, and not yet in its place. As a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) staged: String,
    pub(super) target: String,
}

/// A file that is being closed.
pub(super) type Closing = JoinHandle<Result<(), FsError>>;

/// Moves a staged file to its place, or finds that this has happened.
pub(super) async fn move_into_place(
    fs: &FileSystem,
    staged: &FileStatus,
    target: &FsPath,
) -> Result<(), FsError> {
    let Err(error) = fs.rename(&staged.path, target, true).await else {
        return Ok(());
    };
    // An earlier try may have succeeded without our hearing of it. A file keeps length and time when it is moved.
    match fs.stat(target).await {
        Ok(there)
            if (there.len, there.mtime_ms) == (staged.len, staged.mtime_ms)
                && !fs.exists(&staged.path).await? =>
        {
            Ok(())
        }
        Ok(_) | Err(_) => Err(error),
    }
}

/// Makes a prepared file visible, once it is closed, or finds that this has happened: nothing else has its name.
pub(super) async fn make_visible(
    fs: FileSystem,
    prepared: Prepared,
    closing: Option<Closing>,
) -> Result<(), FsError> {
    let (staged, target) = (fs.resolve(&prepared.staged)?, fs.resolve(&prepared.target)?);
    match closing {
        Some(closing) => {
            if let Ok(closed) = closing.await {
                closed?;
            }
        }
        None => close_abandoned(&fs, &staged).await?,
    }
    match fs.rename(&staged, &target, true).await {
        Err(FsError::NotFound { .. }) if fs.exists(&target).await? => Ok(()),
        moved => moved,
    }
}

/// Sees to it that a file is closed whose writer may be dead.
async fn close_abandoned(fs: &FileSystem, staged: &FsPath) -> Result<(), FsError> {
    if staged.scheme() == Scheme::File {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match fs.recover_lease(staged).await {
            Ok(true) | Err(FsError::NotFound { .. }) => return Ok(()),
            Ok(false) if begun.elapsed() < RECOVERY_LIMIT => {
                tokio::time::sleep(RECOVERY_LOOK).await;
            }
            // Renamed all the same, it would be seen incomplete.
            Ok(false) => {
                return Err(FsError::InvalidPath {
                    text: staged.to_string(),
                    reason: "HDFS has not closed it within a minute, though its writer is gone",
                });
            }
            Err(error) => return Err(error),
        }
    }
}
