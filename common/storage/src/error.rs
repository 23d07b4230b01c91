//! What can go wrong with snapshots, always with the file's name.

use std::time::Duration;

use spindle_common::checkpoint::metadata::MetadataError;
use spindle_hadoop::fs::FsError;

/// A snapshot that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Nobody said where.
    #[error("there is no file system for snapshots in this process")]
    NoStorage,
    /// Hadoop's settings do not say where its file systems are.
    #[error("cannot use Hadoop's configuration")]
    Hadoop {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// Text that is no path, or on a file system that is not known.
    #[error("cannot find the place of a snapshot")]
    Path {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// No directory for a snapshot.
    #[error("failed to make the directory of a snapshot")]
    Create {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// State was not made durable.
    #[error("failed to write state")]
    Write {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// The bytes of a chunk could not be made.
    #[error("there is nothing to write: {reason}")]
    Made {
        /// Why, with what.
        reason: String,
    },
    /// The metadata was not made durable, or is not known to be.
    #[error("failed to complete the snapshot")]
    Commit {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// A later attempt of the JobManager has taken the job's directory over.
    #[error("{directory} is not attempt {attempt}'s any more: a later one has taken it over")]
    Superseded {
        /// The job's directory.
        directory: String,
        /// Whose it is not.
        attempt: u32,
    },
    /// It is not known whether the job's directory is this attempt's.
    #[error("failed to take a job's directory over from earlier attempts of the JobManager")]
    TakeOver {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// Other metadata is there.
    #[error(
        "`{path}` is there already, with other content: another attempt has completed this snapshot"
    )]
    AlreadyComplete {
        /// The metadata.
        path: String,
    },
    /// Nothing was ever completed there.
    #[error(
        "there is no `{path}`: it is not the directory of a snapshot, or that was not completed"
    )]
    NoMetadata {
        /// The metadata.
        path: String,
    },
    /// The metadata cannot be got at.
    #[error("failed to read the metadata of a snapshot")]
    ReadMetadata {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// The metadata is not what was written.
    #[error("cannot use the snapshot's metadata `{path}`")]
    Metadata {
        /// The metadata.
        path: String,
        /// What is wrong with it.
        #[source]
        cause: MetadataError,
    },
    /// The state cannot be got at.
    #[error("failed to read state `{state}` of operator `{operator}`")]
    Read {
        /// Uid of the operator.
        operator: String,
        /// Name of the state.
        state: String,
        /// Why.
        #[source]
        cause: Box<FsError>,
    },
    /// The state is not what was written.
    #[error("state `{state}` of operator `{operator}` is damaged: file `{path}` {what}")]
    Damaged {
        /// Uid of the operator.
        operator: String,
        /// Name of the state.
        state: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file that its writer left open cannot be closed.
    #[error("failed to have a file closed that its writer left open")]
    Recover {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// A file that its writer left open is not closed in time.
    #[error(
        "`{path}` was left open by its writer, and HDFS has not closed it within {} s; is a DataNode missing?",
        waited.as_secs()
    )]
    StillOpen {
        /// The file.
        path: String,
        /// How long that was waited for.
        waited: Duration,
    },
    /// The directory of the checkpoints cannot be looked through.
    #[error("failed to look for snapshots")]
    Discover {
        /// Why.
        #[source]
        cause: FsError,
    },
    /// It is a job's, and not for people to remove by this way.
    #[error(
        "`{path}` is a checkpoint, not a savepoint: its job removes it, or whoever kept it does, with the whole directory"
    )]
    NoSavepoint {
        /// The directory.
        path: String,
    },
    /// Something is left that should be gone.
    #[error("failed to delete a snapshot")]
    Discard {
        /// Why.
        #[source]
        cause: FsError,
    },
}

impl StorageError {
    /// Whether the snapshot itself is at fault, so that trying again does not help, but an earlier snapshot may.
    ///
    /// All else is trouble on the way to it.
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Metadata { .. } | Self::NoMetadata { .. } | Self::Damaged { .. } => true,
            Self::NoStorage
            | Self::Hadoop { .. }
            | Self::Path { .. }
            | Self::Create { .. }
            | Self::Write { .. }
            | Self::Made { .. }
            | Self::Commit { .. }
            | Self::Superseded { .. }
            | Self::TakeOver { .. }
            | Self::AlreadyComplete { .. }
            | Self::ReadMetadata { .. }
            | Self::Read { .. }
            | Self::Recover { .. }
            | Self::StillOpen { .. }
            | Self::Discover { .. }
            | Self::NoSavepoint { .. }
            | Self::Discard { .. } => false,
        }
    }

    /// The error with its causes, in one line.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }
}
