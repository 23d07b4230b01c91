//! Reading a snapshot back: each byte as it was written, or an error that names its file.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use spindle_common::checkpoint::metadata::{MetadataError, SnapshotMetadata};
use spindle_common::checkpoint::{
    FileRange, OperatorSnapshot, SnapshotKind, StateChunk, StateHandle, StateSnapshot,
    SubtaskSnapshot, TaskRestore, checksum,
};
use spindle_hadoop::fs::{FileReader, FsError, FsPath};

use crate::{METADATA_FILE, Snapshot, SnapshotStorage, StorageError};

/// Files that a task reads at the same time.
const FILES: usize = 4;
/// Pieces of a file that are read at the same time.
const PIECES: usize = 2;
/// Files that HDFS is asked to close at the same time.
const RECOVERIES: usize = 16;
/// Chunks are read together up to this size, so that a task holds 32 MiB at most beside what it gets,
const PIECE: u64 = 4 << 20;
/// and where this much between them is not wanted.
const GAP: u64 = 64 << 10;

/// A chunk that lies in a file.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// Of which operator, state, chunk: indices into what was asked for.
    at: (usize, usize, usize),
    operator: &'a str,
    state: &'a str,
    range: &'a FileRange,
}

type Found = ((usize, usize, usize), Vec<u8>);

impl SnapshotStorage {
    /// What the metadata of a snapshot says. `directory` may also be that of the metadata file itself.
    ///
    /// # Errors
    /// [`StorageError::NoMetadata`], [`StorageError::Metadata`] if it is not what was written; see [`StorageError`].
    pub async fn read_metadata(&self, directory: &str) -> Result<SnapshotMetadata, StorageError> {
        let path = self.resolve(directory)?;
        let path = if path.name() == Some(METADATA_FILE) {
            path
        } else {
            let path = path.join(METADATA_FILE);
            path.map_err(|cause| StorageError::Path { cause })?
        };
        self.read_metadata_file(&path).await
    }

    /// The snapshot in a directory, which may also be given by its metadata file.
    ///
    /// # Errors
    /// As [`Self::read_metadata`].
    pub async fn load(&self, directory: &str) -> Result<Snapshot, StorageError> {
        let path = self.resolve(directory)?;
        let metadata = self.read_metadata(directory).await?;
        let parent = (path.name() == Some(METADATA_FILE)).then(|| path.parent());
        Ok(Snapshot {
            directory: parent.flatten().unwrap_or(path).to_string(),
            metadata,
        })
    }

    /// Removes a savepoint, its metadata first.
    ///
    /// # Errors
    /// [`StorageError::NoSavepoint`] if it is a checkpoint, which belongs to a job; else as [`Self::load`] and [`Self::discard`].
    pub async fn dispose(&self, directory: &str) -> Result<Snapshot, StorageError> {
        let found = self.load(directory).await?;
        if found.metadata.kind == SnapshotKind::Checkpoint {
            return Err(StorageError::NoSavepoint {
                path: found.directory,
            });
        }
        self.discard(&found.directory).await?;
        Ok(found)
    }

    pub(crate) async fn read_metadata_file(
        &self,
        path: &FsPath,
    ) -> Result<SnapshotMetadata, StorageError> {
        let bytes = self.read_whole(path).await?;
        let decoded = match SnapshotMetadata::decode(&bytes) {
            Err(MetadataError::Length { expected, found }) if found < expected => {
                self.recover_beside(path).await;
                self.recover(path).await?;
                SnapshotMetadata::decode(&self.read_whole(path).await?)
            }
            decoded => decoded,
        };
        decoded.map_err(|cause| StorageError::Metadata {
            path: path.to_string(),
            cause,
        })
    }

    /// Where the writer of the metadata was killed, those of the state may have been, too: begins to have their files closed, since HDFS
    /// takes up to a heartbeat of a DataNode, 3 s, for each step and no longer for all at once. All of them are durable.
    async fn recover_beside(&self, metadata: &FsPath) {
        let Some(directory) = metadata.parent() else {
            return;
        };
        // Whoever reads the files tells what is wrong with them.
        let files = self.fs.list(&directory).await.unwrap_or_default();
        let mut begun: Vec<BoxFuture<'_, ()>> = Vec::new();
        for file in files.iter().filter(|file| !file.is_dir) {
            begun.push(Box::pin(async move {
                drop(self.fs.recover_lease(&file.path).await);
            }));
        }
        stream::iter(begun)
            .for_each_concurrent(RECOVERIES, |begun| begun)
            .await;
    }

    async fn read_whole(&self, path: &FsPath) -> Result<Bytes, StorageError> {
        match Box::pin(self.fs.read(path)).await {
            Ok(bytes) => Ok(bytes),
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => {
                Err(StorageError::NoMetadata {
                    path: path.to_string(),
                })
            }
            Err(cause) => Err(StorageError::ReadMetadata { cause }),
        }
    }

    /// The state that a task begins with, each chunk verified.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if a byte is not there or not as it was written; see [`StorageError`].
    pub async fn restore(
        &self,
        restore: &TaskRestore,
    ) -> Result<SubtaskSnapshot<Vec<u8>>, StorageError> {
        let operators = Box::pin(self.read_states(&restore.directory, &restore.operators)).await?;
        Ok(SubtaskSnapshot {
            operators,
            finished: restore.finished,
        })
    }

    /// Reads all state that a snapshot refers to, and verifies it.
    ///
    /// # Errors
    /// As [`Self::restore`]: the first damage that is found.
    pub async fn verify(
        &self,
        directory: &str,
        metadata: &SnapshotMetadata,
    ) -> Result<(), StorageError> {
        for operator in &metadata.operators {
            for state in &operator.states {
                let one = OperatorSnapshot {
                    uid: operator.uid.clone(),
                    states: vec![state.clone()],
                };
                Box::pin(self.read_states(directory, &[one])).await?;
            }
        }
        Ok(())
    }

    /// The bytes of all chunks of these states.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn read_states(
        &self,
        directory: &str,
        operators: &[OperatorSnapshot],
    ) -> Result<Vec<OperatorSnapshot<Vec<u8>>>, StorageError> {
        let mut files: BTreeMap<&str, Vec<Wanted<'_>>> = BTreeMap::new();
        for (o, operator) in operators.iter().enumerate() {
            for (s, state) in operator.states.iter().enumerate() {
                for (c, chunk) in state.chunks.iter().enumerate() {
                    if let StateHandle::File(range) = &chunk.content {
                        files.entry(&range.path).or_default().push(Wanted {
                            at: (o, s, c),
                            operator: &operator.uid,
                            state: &state.name,
                            range,
                        });
                    }
                }
            }
        }
        let mut reads: Vec<BoxFuture<'_, Result<Vec<Found>, StorageError>>> = Vec::new();
        for (path, wanted) in files {
            reads.push(Box::pin(self.read_file(directory, path, wanted)));
        }
        let mut reads = stream::iter(reads).buffer_unordered(FILES);
        let mut read = with_inline(operators);
        while let Some(found) = reads.try_next().await? {
            for ((o, s, c), content) in found {
                read[o].states[s].chunks[c].content = content;
            }
        }
        Ok(read)
    }

    /// All that is wanted of one file.
    async fn read_file(
        &self,
        directory: &str,
        name: &str,
        mut wanted: Vec<Wanted<'_>>,
    ) -> Result<Vec<Found>, StorageError> {
        wanted.sort_by_key(|wanted| (wanted.range.offset, wanted.at));
        let path = self.file_in(directory, name)?;
        let reader = Box::pin(self.open_all(&path, &wanted)).await?;
        let mut pieces: Vec<BoxFuture<'_, Result<Vec<Found>, StorageError>>> = Vec::new();
        for piece in together(&wanted) {
            pieces.push(Box::pin(read_piece(&reader, piece)));
        }
        let found: Vec<Vec<Found>> = stream::iter(pieces)
            .buffer_unordered(PIECES)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Opens a file that has all that is wanted of it.
    async fn open_all(
        &self,
        path: &FsPath,
        wanted: &[Wanted<'_>],
    ) -> Result<FileReader, StorageError> {
        let last = wanted.iter().max_by_key(|wanted| end(wanted.range));
        let last = last.expect("a file is in the list for what is wanted of it");
        let mut reader = self.open(path, last).await?;
        if reader.len() < end(last.range) {
            self.recover(path).await?;
            reader = self.open(path, last).await?;
        }
        let beyond = wanted
            .iter()
            .find(|wanted| end(wanted.range) > reader.len());
        match beyond {
            None => Ok(reader),
            Some(wanted) => {
                let FileRange { offset, length, .. } = wanted.range;
                let found = reader.len();
                Err(damaged(
                    wanted,
                    path,
                    format!("has {found} bytes, and {length} should be at {offset}"),
                ))
            }
        }
    }

    async fn open(&self, path: &FsPath, wanted: &Wanted<'_>) -> Result<FileReader, StorageError> {
        match self.fs.open(path).await {
            Ok(reader) => Ok(reader),
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => {
                Err(damaged(wanted, path, "is not there".to_owned()))
            }
            Err(cause) => Err(unread(wanted, cause)),
        }
    }
}

/// What is in the metadata already, and room for the rest.
fn with_inline(operators: &[OperatorSnapshot]) -> Vec<OperatorSnapshot<Vec<u8>>> {
    let chunk = |chunk: &StateChunk| StateChunk {
        index: chunk.index,
        entries: chunk.entries,
        content: match &chunk.content {
            StateHandle::Inline(bytes) => bytes.clone(),
            StateHandle::File(_) => Vec::new(),
        },
    };
    let state = |state: &StateSnapshot| StateSnapshot {
        name: state.name.clone(),
        distribution: state.distribution,
        schema: state.schema.clone(),
        chunks: state.chunks.iter().map(chunk).collect(),
    };
    let operators = operators.iter();
    operators
        .map(|operator| OperatorSnapshot {
            uid: operator.uid.clone(),
            states: operator.states.iter().map(state).collect(),
        })
        .collect()
}

/// Where a range ends; one that ends nowhere is longer than any file.
const fn end(range: &FileRange) -> u64 {
    range.offset.saturating_add(range.length)
}

/// What is read at once, of what is sorted by offset.
fn together<'a, 'b>(wanted: &'b [Wanted<'a>]) -> impl Iterator<Item = &'b [Wanted<'a>]> {
    let mut rest = wanted;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut until = end(first.range);
        let mut count = 1;
        for next in &rest[1..] {
            let far = next.range.offset > until.saturating_add(GAP);
            let longer = until.max(end(next.range));
            if far || longer - first.range.offset > PIECE {
                break;
            }
            until = longer;
            count += 1;
        }
        let piece = rest.split_at(count);
        rest = piece.1;
        Some(piece.0)
    })
}

async fn read_piece(
    reader: &FileReader,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Found>, StorageError> {
    let [first, ..] = wanted else {
        return Ok(Vec::new());
    };
    let start = first.range.offset;
    let until = wanted.iter().map(|wanted| end(wanted.range)).max();
    let length = usize::try_from(until.unwrap_or(start) - start).unwrap_or(usize::MAX);
    let bytes = match reader.read_at(start, length).await {
        Ok(bytes) if bytes.len() == length => bytes,
        Ok(bytes) => {
            let what = format!("gives {} of {length} bytes at {start}", bytes.len());
            return Err(damaged(first, reader.path(), what));
        }
        Err(FsError::Corrupt { detail, .. }) => {
            return Err(damaged(
                first,
                reader.path(),
                format!("is broken: {detail}"),
            ));
        }
        Err(cause) => return Err(unread(first, cause)),
    };
    let mut found = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let range = wanted.range;
        let from = usize::try_from(range.offset - start).unwrap_or(usize::MAX);
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let chunk = &bytes[from..from + length];
        let sum = checksum(chunk);
        if sum != range.checksum {
            return Err(damaged(
                wanted,
                reader.path(),
                format!(
                    "has other bytes than were written: the checksum of {length} at {} is {sum:08x}, not {:08x}",
                    range.offset, range.checksum
                ),
            ));
        }
        found.push((wanted.at, chunk.to_vec()));
    }
    Ok(found)
}

fn damaged(wanted: &Wanted<'_>, path: &FsPath, what: String) -> StorageError {
    StorageError::Damaged {
        operator: wanted.operator.to_owned(),
        state: wanted.state.to_owned(),
        path: path.to_string(),
        what,
    }
}

fn unread(wanted: &Wanted<'_>, cause: FsError) -> StorageError {
    StorageError::Read {
        operator: wanted.operator.to_owned(),
        state: wanted.state.to_owned(),
        cause: Box::new(cause),
    }
}
