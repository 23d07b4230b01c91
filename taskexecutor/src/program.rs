//! Programs that jobs bring along: fetched into the working directory, and believed only if they are what was submitted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::job_graph::ProgramArtifact;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{FileSystem, FsError};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::shell::report;

/// Where they are, below the working directory; by SHA-256.
pub(crate) const DIRECTORY: &str = spindle_common::deployment::PROGRAMS_DIRECTORY;
/// How much of one is in memory at a time, twice.
const CHUNK_BYTES: usize = 512 * 1024;
/// How long opening it, and each piece of it, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("failed to fetch the program `{uri}`")]
    Read {
        uri: String,
        #[source]
        cause: Box<FsError>,
    },
    #[error("failed to fetch the program `{uri}`: nothing came for {} s", PATIENCE.as_secs())]
    Stalled { uri: String },
    #[error("cannot write the program to `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "the program `{uri}` is not the one that was submitted: it has {found} bytes instead of {expected}"
    )]
    Length {
        uri: String,
        found: u64,
        expected: u64,
    },
    #[error(
        "the program `{uri}` is not the one that was submitted: its SHA-256 is {found} instead of {expected}"
    )]
    Hash {
        uri: String,
        found: String,
        expected: String,
    },
}

impl FetchError {
    fn failure_class(&self) -> FailureClass {
        match self {
            Self::Read { cause, .. } if cause.is_unreachable() => FailureClass::Retry,
            Self::Stalled { .. } => FailureClass::Retry,
            Self::Read { .. } | Self::Write { .. } => FailureClass::Restart,
            Self::Length { .. } | Self::Hash { .. } => FailureClass::FailJob,
        }
    }

    /// For the job that needs it.
    pub(crate) fn into_cause(self) -> FailureCause {
        FailureCause {
            class: self.failure_class(),
            operator: None,
            message: report(&self),
        }
    }
}

/// Brings a program to `<working directory>/programs/<SHA-256>`, executable for its owner. It has that name only when it is whole.
/// The caller made sure that the SHA-256 is one.
///
/// # Errors
/// Whatever goes wrong; nothing is left behind then.
pub(crate) async fn fetch(
    artifact: &ProgramArtifact,
    hadoop: &[(String, String)],
    user: &str,
    working_directory: &Path,
) -> Result<(), FetchError> {
    let directory = working_directory.join(DIRECTORY);
    let mut partial = Partial::create(&directory, &artifact.sha256)?;
    let read = |cause| FetchError::Read {
        uri: artifact.uri.clone(),
        cause: Box::new(cause),
    };
    let stalled = |_| FetchError::Stalled {
        uri: artifact.uri.clone(),
    };
    let conf = Configuration::from_pairs(hadoop.iter().map(|(key, value)| (key, value.clone())));
    // One for each fetch, so that no connection and no buffer outlives it.
    let fs = FileSystem::new(&conf, user).map_err(read)?;
    let path = fs.resolve(&artifact.uri).map_err(read)?;
    let opened = timeout(PATIENCE, Box::pin(fs.open(&path))).await;
    let reader = opened.map_err(stalled)?.map_err(read)?;
    if reader.len() != artifact.size {
        return Err(FetchError::Length {
            uri: artifact.uri.clone(),
            found: reader.len(),
            expected: artifact.size,
        });
    }
    let mut pieces = reader.sequential(0, CHUNK_BYTES);
    loop {
        let piece = timeout(PATIENCE, pieces.next_chunk()).await;
        let Some(piece) = piece.map_err(stalled)?.map_err(read)? else {
            break;
        };
        partial = partial.write(piece).await?;
    }
    partial.complete(artifact, &directory)
}

/// A file on its way, removed unless it is completed.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    complete: bool,
}

impl Partial {
    fn create(directory: &Path, sha256: &str) -> Result<Self, FetchError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let write = |path: &Path, cause| FetchError::Write {
            path: path.to_owned(),
            cause,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|cause| write(directory, cause))?;
        // Two uploads of the same program may be on their way.
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{sha256}.partial-{number}"));
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path);
        let file = opened.map_err(|cause| write(&path, cause))?;
        Ok(Self {
            path,
            file,
            hash: Sha256::new(),
            complete: false,
        })
    }

    /// Off the runtime's only thread, which has heartbeats to send.
    async fn write(mut self, piece: impl AsRef<[u8]> + Send + 'static) -> Result<Self, FetchError> {
        let path = self.path.clone();
        let written = spawn_blocking(move || {
            let piece = piece.as_ref();
            self.hash.update(piece);
            self.file.write_all(piece).map(|()| self)
        });
        let written = written.await.map_err(JoinError::into).flatten();
        written.map_err(|cause: io::Error| FetchError::Write { path, cause })
    }

    fn complete(mut self, artifact: &ProgramArtifact, directory: &Path) -> Result<(), FetchError> {
        let hash = std::mem::take(&mut self.hash).finalize();
        let found: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        if found != artifact.sha256 {
            return Err(FetchError::Hash {
                uri: artifact.uri.clone(),
                found,
                expected: artifact.sha256.clone(),
            });
        }
        let path = directory.join(&artifact.sha256);
        fs::rename(&self.path, &path).map_err(|cause| FetchError::Write { path, cause })?;
        self.complete = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.complete {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Container {
        directory: tempfile::TempDir,
        artifact: ProgramArtifact,
    }

    /// A program of two pieces, as it was submitted.
    fn container() -> Container {
        let directory = tempfile::tempdir().unwrap();
        let content = vec![7; CHUNK_BYTES + 1];
        let path = directory.path().join("uploaded");
        fs::write(&path, &content).unwrap();
        let hash = Sha256::digest(&content);
        let artifact = ProgramArtifact {
            uri: format!("file://{}", path.display()),
            size: content.len() as u64,
            sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Container {
            directory,
            artifact,
        }
    }

    impl Container {
        async fn fetch(&self) -> Result<(), FailureCause> {
            fetch(&self.artifact, &[], "ann", self.directory.path())
                .await
                .map_err(FetchError::into_cause)
        }

        fn fetched(&self) -> Vec<String> {
            let entries = fs::read_dir(self.directory.path().join(DIRECTORY)).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        }
    }

    #[tokio::test]
    async fn a_program_is_there_whole_and_executable() {
        let container = container();
        container.fetch().await.unwrap();
        assert_eq!(
            container.fetched(),
            std::slice::from_ref(&container.artifact.sha256)
        );
        let path = container.directory.path().join(DIRECTORY);
        let path = path.join(&container.artifact.sha256);
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(metadata.len(), container.artifact.size);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn another_program_than_the_one_submitted_fails_the_job_and_leaves_nothing() {
        let mut container = container();
        let found = std::mem::replace(&mut container.artifact.sha256, "0".repeat(64));
        let cause = container.fetch().await.unwrap_err();
        assert_eq!(cause.class, FailureClass::FailJob);
        assert!(
            cause.message.contains(&found) && cause.message.contains(&"0".repeat(64)),
            "{cause}"
        );
        container.artifact.size = 3;
        let cause = container.fetch().await.unwrap_err();
        assert_eq!(cause.class, FailureClass::FailJob);
        assert!(cause.message.ends_with("instead of 3"), "{cause}");
        assert!(container.fetched().is_empty());
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_read_is_told_with_its_name() {
        let mut container = container();
        container.artifact.uri += "-gone";
        let cause = container.fetch().await.unwrap_err();
        assert_eq!(cause.class, FailureClass::Restart);
        assert!(cause.message.contains("uploaded-gone"), "{cause}");
        // Port 9 of this machine is closed: there is no NameNode.
        container.artifact.uri = "hdfs://127.0.0.1:9/x".to_owned();
        let cause = container.fetch().await.unwrap_err();
        assert_eq!(cause.class, FailureClass::Retry, "{cause}");
        assert!(container.fetched().is_empty());
    }
}
