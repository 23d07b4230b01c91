//! Readers and writers of one file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::task::JoinSet;

use super::hdfs::Hdfs;
use super::local::blocking;
use super::{FsError, FsPath};

/// Largest piece a sequential reader fetches at once, unless told otherwise.
pub const DEFAULT_CHUNK: usize = 1 << 20;

/// A file open for reading; its length is that of the moment it was opened.
#[derive(Clone)]
pub struct FileReader {
    path: FsPath,
    len: u64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Hdfs(Arc<Hdfs>, Arc<hdfs_native::file::FileReader>),
    Local(Arc<File>),
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileReader({}, {} bytes)", self.path, self.len)
    }
}

impl FileReader {
    pub(super) fn hdfs(
        path: FsPath,
        hdfs: Arc<Hdfs>,
        reader: hdfs_native::file::FileReader,
    ) -> Self {
        Self {
            path,
            len: u64::try_from(reader.file_length()).unwrap_or(u64::MAX),
            source: Source::Hdfs(hdfs, Arc::new(reader)),
        }
    }

    pub(super) fn local(path: FsPath, file: File, len: u64) -> Self {
        Self {
            path,
            len,
            source: Source::Local(Arc::new(file)),
        }
    }

    /// What is read.
    #[must_use]
    pub fn path(&self) -> &FsPath {
        &self.path
    }

    /// Length in bytes.
    ///
    /// HDFS: the last block of a file that nobody closed does not count; `FileSystem::recover_lease` closes it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// There is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Up to `len` bytes from `offset`: fewer only at the end of the file, none beyond it.
    ///
    /// # Errors
    /// [`FsError::Corrupt`] if the file has fewer bytes than it had; see [`FsError`].
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, FsError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if len == 0 {
            return Ok(Bytes::new());
        }
        let bytes = match &self.source {
            Source::Hdfs(hdfs, reader) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let read = Box::pin(reader.read_range(start, len)).await;
                read.map_err(|error| hdfs.transfer_error("read", &self.path, error))?
            }
            Source::Local(file) => {
                let file = Arc::clone(file);
                blocking("read", &self.path, move |_| read_local(&file, offset, len)).await?
            }
        };
        if bytes.len() != len {
            return Err(FsError::Corrupt {
                op: "read",
                path: self.path.clone(),
                detail: format!("{} of {len} bytes at {offset}", bytes.len()),
            });
        }
        Ok(bytes)
    }

    /// Reads on from `offset` in pieces of `chunk` bytes, fetching the next piece while the last one is used.
    #[must_use]
    pub fn sequential(self, offset: u64, chunk: usize) -> SequentialReader {
        SequentialReader {
            reader: self,
            fetched: offset,
            position: offset,
            chunk: chunk.max(1),
            current: Bytes::new(),
            ahead: JoinSet::new(),
        }
    }
}

fn read_local(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(Bytes::from(buffer))
}

/// Reads a file from an offset to its end; one piece is always being fetched ahead.
///
/// Between pieces no connection to a DataNode is held, so a reader may rest for as long as it likes.
#[derive(Debug)]
pub struct SequentialReader {
    reader: FileReader,
    /// Where the next fetch starts.
    fetched: u64,
    /// Where the next byte handed out stands.
    position: u64,
    chunk: usize,
    current: Bytes,
    /// At most one fetch.
    ahead: JoinSet<Result<Bytes, FsError>>,
}

impl SequentialReader {
    /// The offset of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next piece, at most `chunk` bytes and not empty; nothing at the end of the file.
    ///
    /// # Errors
    /// As [`FileReader::read_at`]; the piece can be asked for again.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, FsError> {
        if self.current.is_empty() {
            self.fill().await?;
        }
        let chunk = std::mem::take(&mut self.current);
        self.position += chunk.len() as u64;
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    /// Copies up to `buffer.len()` bytes and returns how many; 0 at the end of the file.
    ///
    /// # Errors
    /// As [`Self::next_chunk`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FsError> {
        if self.current.is_empty() {
            self.fill().await?;
        }
        let len = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        self.position += len as u64;
        Ok(len)
    }

    async fn fill(&mut self) -> Result<(), FsError> {
        self.fetch_ahead();
        // Cancel-safe: the fetch stays in the set until it is joined.
        let fetched = match self.ahead.join_next().await {
            Some(Ok(fetched)) => fetched?,
            Some(Err(error)) => {
                return Err(FsError::Other {
                    op: "read",
                    path: self.reader.path.clone(),
                    source: Box::new(error),
                });
            }
            None => Bytes::new(),
        };
        self.fetched += fetched.len() as u64;
        self.current = fetched;
        self.fetch_ahead();
        Ok(())
    }

    fn fetch_ahead(&mut self) {
        if self.ahead.is_empty() && self.fetched < self.reader.len {
            let (reader, offset, chunk) = (self.reader.clone(), self.fetched, self.chunk);
            self.ahead
                .spawn(async move { reader.read_at(offset, chunk).await });
        }
    }
}

/// A file being written; it is complete only after [`Self::close`].
///
/// Dropped before, an HDFS file stays open under this client's lease and its last block is not visible.
pub struct FileWriter {
    path: FsPath,
    written: u64,
    synced: u64,
    sink: Sink,
}

enum Sink {
    Hdfs(Arc<Hdfs>, Box<hdfs_native::file::FileWriter>),
    Local(Arc<File>),
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileWriter({}, {} bytes)", self.path, self.written)
    }
}

impl FileWriter {
    pub(super) fn hdfs(
        path: FsPath,
        hdfs: Arc<Hdfs>,
        writer: hdfs_native::file::FileWriter,
    ) -> Self {
        Self::new(path, Sink::Hdfs(hdfs, Box::new(writer)))
    }

    pub(super) fn local(path: FsPath, file: File) -> Self {
        Self::new(path, Sink::Local(Arc::new(file)))
    }

    fn new(path: FsPath, sink: Sink) -> Self {
        Self {
            path,
            written: 0,
            synced: 0,
            sink,
        }
    }

    /// What is written.
    #[must_use]
    pub fn path(&self) -> &FsPath {
        &self.path
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// See [`FsError`]; afterwards the file's content is unknown and it should be deleted.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.write_bytes(Bytes::copy_from_slice(bytes)).await
    }

    /// Appends all of `bytes` without copying them first.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_bytes(&mut self, bytes: Bytes) -> Result<(), FsError> {
        let len = bytes.len() as u64;
        match &mut self.sink {
            Sink::Hdfs(hdfs, writer) => {
                let written = Box::pin(writer.write_bytes(bytes)).await;
                written.map_err(|error| hdfs.transfer_error("write", &self.path, error))?;
            }
            Sink::Local(file) => {
                let file = Arc::clone(file);
                blocking("write", &self.path, move |_| (&*file).write_all(&bytes)).await?;
            }
        }
        self.written += len;
        Ok(())
    }

    /// Returns once all bytes written are on disk, on every DataNode of the pipeline; costs milliseconds where
    /// [`Self::close`] on HDFS costs half a second.
    ///
    /// # Errors
    /// As [`Self::write`]. HDFS: erasure-coded files cannot do this.
    pub async fn hsync(&mut self) -> Result<(), FsError> {
        match &mut self.sink {
            Sink::Hdfs(hdfs, writer) => {
                let synced = Box::pin(writer.hsync()).await;
                synced.map_err(|error| hdfs.transfer_error("sync", &self.path, error))?;
            }
            Sink::Local(file) => {
                let file = Arc::clone(file);
                blocking("sync", &self.path, move |_| file.sync_all()).await?;
            }
        }
        self.synced = self.written;
        Ok(())
    }

    /// Completes the file.
    ///
    /// HDFS: about 500 ms for a file that is not empty, whatever its size; close several at the same time.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn close(self) -> Result<(), FsError> {
        match self.sink {
            Sink::Hdfs(hdfs, mut writer) => {
                hdfs.close(&self.path, &mut writer, self.written, self.synced)
                    .await
            }
            Sink::Local(file) => {
                blocking("close", &self.path, move |_| {
                    drop(file);
                    Ok(())
                })
                .await
            }
        }
    }
}
