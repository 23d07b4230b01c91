//! Making state, and then a whole snapshot, durable.

use std::future::{Future, ready};

use bytes::Bytes;
use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{FileRange, StateHandle, SubtaskSnapshot, checksum};
use spindle_hadoop::fs::{CreateOptions, FileWriter, FsError, FsPath};

use crate::{DEFAULT_MEMORY_THRESHOLD, METADATA_FILE, SnapshotStorage, StorageError};

/// Chunks are put together up to this size: a local write costs a change of threads, and HDFS's packets have 64 KiB.
const WRITE: usize = 1 << 20;

/// When a file counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// When it is durable. It is closed in the background: for checkpoints.
    Durable,
    /// When it is durable and closed, so that others than us see all of it: for savepoints. Half a second more on HDFS.
    Closed,
}

/// How state is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// With less state than this, in bytes, there is no file: it goes into the metadata.
    pub memory_threshold: u64,
    /// When it counts as written.
    pub finish: Finish,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            memory_threshold: DEFAULT_MEMORY_THRESHOLD,
            finish: Finish::Durable,
        }
    }
}

/// State that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenState {
    /// Where each chunk is.
    pub snapshot: SubtaskSnapshot,
    /// Bytes of state.
    pub state_bytes: u64,
}

impl SnapshotStorage {
    /// Writes what a subtask gave at a barrier into one file in the directory of the snapshot, or into no file if it is little. `name` is
    /// of nobody else; a file of that name is replaced.
    ///
    /// Dropping the future leaves the file: see [`Self::discard_file`].
    ///
    /// # Errors
    /// [`StorageError::Path`], [`StorageError::Write`]; half a file is deleted, if that is possible.
    pub async fn write_state(
        &self,
        directory: &str,
        name: &str,
        state: SubtaskSnapshot<Vec<u8>>,
        options: &WriteOptions,
    ) -> Result<WrittenState, StorageError> {
        let bytes = |bytes| ready(Ok(bytes));
        Box::pin(self.write_state_made(directory, name, state, bytes, options)).await
    }

    /// The same with chunks that are made one after the other, each when the one before it is written.
    ///
    /// # Errors
    /// Also [`StorageError::Made`].
    pub async fn write_state_made<C, M>(
        &self,
        directory: &str,
        name: &str,
        state: SubtaskSnapshot<C>,
        mut make: impl FnMut(C) -> M,
        options: &WriteOptions,
    ) -> Result<WrittenState, StorageError>
    where
        M: Future<Output = Result<Vec<u8>, String>>,
    {
        let mut contents = Vec::new();
        let tree = state.map(|content| contents.push(content));
        let mut contents = contents.into_iter();
        let mut first = Vec::new();
        let mut bytes = 0;
        while bytes == 0 || bytes < options.memory_threshold {
            let Some(content) = contents.next() else {
                let mut first = first.into_iter();
                return Ok(WrittenState {
                    snapshot: tree.map(|()| StateHandle::Inline(next(&mut first))),
                    state_bytes: bytes,
                });
            };
            let made: Vec<u8> = make(content).await.map_err(made)?;
            bytes += made.len() as u64;
            first.push(made);
        }
        let path = self.file_in(directory, name)?;
        let written = async {
            let create = CreateOptions::default().overwrite();
            let writer = self.fs.create(&path, &create).await.map_err(written)?;
            let mut out = Together::new(writer, name);
            let mut handles = Vec::new();
            for chunk in first {
                handles.push(out.write(chunk).await.map_err(written)?);
            }
            for content in contents {
                let chunk = make(content).await.map_err(made)?;
                handles.push(out.write(chunk).await.map_err(written)?);
            }
            let state_bytes = out.offset;
            let writer = out.finish().await.map_err(written)?;
            Box::pin(self.finish(writer, options.finish))
                .await
                .map_err(written)?;
            let mut handles = handles.into_iter();
            Ok(WrittenState {
                snapshot: tree.map(|()| next(&mut handles)),
                state_bytes,
            })
        };
        let written = written.await;
        if written.is_err() {
            self.clean(&path).await;
        }
        written
    }

    /// Makes a snapshot complete, all of whose state is durable. `attempt` is of nobody else who may try the same.
    ///
    /// Only the appearance of [`METADATA_FILE`], which is one step, completes it. Doing it twice with the same metadata does no harm.
    ///
    /// # Errors
    /// [`StorageError::AlreadyComplete`] with other metadata. After [`StorageError::Commit`] it may be complete all the same, if the
    /// NameNode's answer was lost and nobody could look: [`Self::read_metadata`] tells, once it can be read.
    pub async fn commit(
        &self,
        directory: &str,
        metadata: &SnapshotMetadata,
        attempt: u32,
        finish: Finish,
    ) -> Result<(), StorageError> {
        let failed = |cause| StorageError::Commit { cause };
        let directory = self.resolve(directory)?;
        let own = directory.join(&format!("{METADATA_FILE}.tmp-{attempt}"));
        let own = own.map_err(failed)?;
        Box::pin(self.complete(&directory, &own, metadata, finish)).await
    }

    /// Writes the metadata in a place that is there, and moves it to where it completes the snapshot.
    pub(crate) async fn complete(
        &self,
        directory: &FsPath,
        own: &FsPath,
        metadata: &SnapshotMetadata,
        finish: Finish,
    ) -> Result<(), StorageError> {
        let failed = |cause| StorageError::Commit { cause };
        let path = directory.join(METADATA_FILE).map_err(failed)?;
        let bytes = Bytes::from(metadata.encode());
        let create = CreateOptions::default().overwrite().in_directory();
        let written = async {
            let mut writer = self.fs.create(own, &create).await?;
            Box::pin(writer.write_bytes(bytes.clone())).await?;
            Box::pin(writer.hsync()).await?;
            Ok(writer)
        };
        let writer = match written.await {
            Ok(writer) => writer,
            Err(cause) => {
                self.clean(own).await;
                return Err(failed(cause));
            }
        };
        match self.fs.rename(own, &path, false).await {
            Ok(()) => {}
            // A repeated request, or an earlier one whose answer was lost.
            Err(FsError::AlreadyExists { .. } | FsError::NotFound { .. })
                if self.is_there(&path, metadata).await? => {}
            Err(FsError::AlreadyExists { .. }) => {
                drop(writer);
                self.clean(own).await;
                return Err(StorageError::AlreadyComplete {
                    path: path.to_string(),
                });
            }
            Err(cause) => return Err(failed(cause)),
        }
        self.fs.sync_directory(directory).await.map_err(failed)?;
        match finish {
            Finish::Durable => self.close(writer),
            Finish::Closed => Box::pin(writer.close()).await.map_err(failed)?,
        }
        Ok(())
    }

    async fn is_there(
        &self,
        path: &FsPath,
        metadata: &SnapshotMetadata,
    ) -> Result<bool, StorageError> {
        match Box::pin(self.read_metadata_file(path)).await {
            Ok(found) => Ok(found == *metadata),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn finish(&self, mut writer: FileWriter, finish: Finish) -> Result<(), FsError> {
        writer.hsync().await?;
        match finish {
            Finish::Durable => {
                self.close(writer);
                Ok(())
            }
            Finish::Closed => writer.close().await,
        }
    }

    async fn clean(&self, path: &FsPath) {
        if let Err(error) = self.fs.delete(path, false).await {
            tracing::debug!(%path, %error, "half a file could not be deleted");
        }
    }
}

const fn written(cause: FsError) -> StorageError {
    StorageError::Write { cause }
}

const fn made(reason: String) -> StorageError {
    StorageError::Made { reason }
}

fn next<T>(all: &mut impl Iterator<Item = T>) -> T {
    all.next().expect("there is one for each chunk")
}

/// Puts small chunks together.
struct Together<'a> {
    writer: FileWriter,
    name: &'a str,
    offset: u64,
    waiting: Vec<u8>,
}

impl<'a> Together<'a> {
    const fn new(writer: FileWriter, name: &'a str) -> Self {
        Self {
            writer,
            name,
            offset: 0,
            waiting: Vec::new(),
        }
    }

    async fn write(&mut self, chunk: Vec<u8>) -> Result<StateHandle, FsError> {
        if chunk.is_empty() {
            return Ok(StateHandle::Inline(chunk));
        }
        let range = FileRange {
            path: self.name.to_owned(),
            offset: self.offset,
            length: chunk.len() as u64,
            checksum: checksum(&chunk),
        };
        self.offset += range.length;
        if self.waiting.len() + chunk.len() > WRITE {
            self.flush().await?;
        }
        if chunk.len() >= WRITE {
            self.writer.write_bytes(Bytes::from(chunk)).await?;
        } else {
            self.waiting.extend_from_slice(&chunk);
        }
        Ok(StateHandle::File(range))
    }

    async fn flush(&mut self) -> Result<(), FsError> {
        if !self.waiting.is_empty() {
            let waiting = Bytes::from(std::mem::take(&mut self.waiting));
            self.writer.write_bytes(waiting).await?;
        }
        Ok(())
    }

    /// The file, with all of it.
    async fn finish(mut self) -> Result<FileWriter, FsError> {
        self.flush().await?;
        Ok(self.writer)
    }
}
