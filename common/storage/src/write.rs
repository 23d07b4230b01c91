//! Making state, and then a whole snapshot, durable.

use bytes::Bytes;
use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{
    FileRange, OperatorSnapshot, StateChunk, StateHandle, StateSnapshot, SubtaskSnapshot, checksum,
};
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
        let chunks = state.operators.iter().flat_map(|operator| &operator.states);
        let chunks = chunks.flat_map(|state| &state.chunks);
        let state_bytes = chunks.map(|chunk| chunk.content.len() as u64).sum();
        if state_bytes == 0 || state_bytes < options.memory_threshold {
            return Ok(WrittenState {
                snapshot: inline(state),
                state_bytes,
            });
        }
        let path = self.file_in(directory, name)?;
        let written = async {
            let create = CreateOptions::default().overwrite();
            let mut writer = self.fs.create(&path, &create).await?;
            let snapshot = Box::pin(write_chunks(&mut writer, name, state)).await?;
            Box::pin(self.finish(writer, options.finish)).await?;
            Ok(snapshot)
        };
        match written.await {
            Ok(snapshot) => Ok(WrittenState {
                snapshot,
                state_bytes,
            }),
            Err(cause) => {
                self.clean(&path).await;
                Err(StorageError::Write { cause })
            }
        }
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
        let (own, path) = (
            own.map_err(failed)?,
            directory.join(METADATA_FILE).map_err(failed)?,
        );
        let bytes = Bytes::from(metadata.encode());
        let create = CreateOptions::default().overwrite();
        let written = async {
            let mut writer = self.fs.create(&own, &create).await?;
            Box::pin(writer.write_bytes(bytes.clone())).await?;
            Box::pin(writer.hsync()).await?;
            Ok(writer)
        };
        let writer = match written.await {
            Ok(writer) => writer,
            Err(cause) => {
                self.clean(&own).await;
                return Err(failed(cause));
            }
        };
        match self.fs.rename(&own, &path, false).await {
            Ok(()) => {}
            // A repeated request, or an earlier one whose answer was lost.
            Err(FsError::AlreadyExists { .. } | FsError::NotFound { .. })
                if self.is_there(&path, metadata).await? => {}
            Err(FsError::AlreadyExists { .. }) => {
                drop(writer);
                self.clean(&own).await;
                return Err(StorageError::AlreadyComplete {
                    path: path.to_string(),
                });
            }
            Err(cause) => return Err(failed(cause)),
        }
        self.fs.sync_directory(&directory).await.map_err(failed)?;
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

/// The same tree with another leaf for each chunk.
fn inline(state: SubtaskSnapshot<Vec<u8>>) -> SubtaskSnapshot {
    let state_inline = |state: StateSnapshot<Vec<u8>>| StateSnapshot {
        name: state.name,
        distribution: state.distribution,
        schema: state.schema,
        chunks: (state.chunks.into_iter())
            .map(|chunk| StateChunk {
                index: chunk.index,
                entries: chunk.entries,
                content: StateHandle::Inline(chunk.content),
            })
            .collect(),
    };
    let operators = state.operators.into_iter();
    SubtaskSnapshot {
        operators: operators
            .map(|operator| OperatorSnapshot {
                uid: operator.uid,
                states: operator.states.into_iter().map(state_inline).collect(),
            })
            .collect(),
    }
}

/// Writes all chunks one after the other; each one's memory is free once it is written.
async fn write_chunks(
    writer: &mut FileWriter,
    name: &str,
    state: SubtaskSnapshot<Vec<u8>>,
) -> Result<SubtaskSnapshot, FsError> {
    let mut out = Together {
        writer,
        name,
        offset: 0,
        waiting: Vec::new(),
    };
    let mut operators = Vec::with_capacity(state.operators.len());
    for operator in state.operators {
        let mut states = Vec::with_capacity(operator.states.len());
        for state in operator.states {
            let mut chunks = Vec::with_capacity(state.chunks.len());
            for chunk in state.chunks {
                chunks.push(StateChunk {
                    index: chunk.index,
                    entries: chunk.entries,
                    content: out.write(chunk.content).await?,
                });
            }
            states.push(StateSnapshot {
                name: state.name,
                distribution: state.distribution,
                schema: state.schema,
                chunks,
            });
        }
        operators.push(OperatorSnapshot {
            uid: operator.uid,
            states,
        });
    }
    out.flush().await?;
    Ok(SubtaskSnapshot { operators })
}

/// Puts small chunks together.
struct Together<'a> {
    writer: &'a mut FileWriter,
    name: &'a str,
    offset: u64,
    waiting: Vec<u8>,
}

impl Together<'_> {
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
}
