//! Files read or written in one go.

use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::local::{self, blocking};
use super::{CreateOptions, DEFAULT_CHUNK, FileStatus, FileSystem, FileWriter, FsError, FsPath};

impl FileSystem {
    /// The whole content of a small file.
    ///
    /// # Errors
    /// As [`Self::open`] and [`FileReader::read_at`](super::FileReader::read_at).
    pub async fn read(&self, path: &FsPath) -> Result<Bytes, FsError> {
        let reader = self.open(path).await?;
        let len = usize::try_from(reader.len()).unwrap_or(usize::MAX);
        reader.read_at(0, len).await
    }

    /// Writes a small file in one go.
    ///
    /// # Errors
    /// As [`Self::create`] and [`FileWriter::write`]; a file that failed half way is deleted if it can be.
    pub async fn write(
        &self,
        path: &FsPath,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<(), FsError> {
        let mut writer = self.create(path, options).await?;
        let written = writer.write_bytes(bytes).await;
        self.finish(writer, written).await
    }

    /// Copies a file of this machine to `to` and returns what is there now.
    ///
    /// # Errors
    /// [`FsError::NotFound`] and others naming the local file, else as [`Self::write`].
    pub async fn upload(
        &self,
        from: &Path,
        to: &FsPath,
        options: &CreateOptions,
    ) -> Result<FileStatus, FsError> {
        let source = from.to_str().ok_or_else(|| FsError::InvalidPath {
            text: from.to_string_lossy().into_owned(),
            reason: "it is not UTF-8",
        })?;
        let source = std::path::absolute(source).unwrap_or_else(|_| from.to_owned());
        let source = FsPath::file(&source.to_string_lossy())?;
        let (file, _) = blocking("read", &source, local::open).await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut writer = self.create(to, options).await?;
        let written = loop {
            let mut chunk = Vec::with_capacity(DEFAULT_CHUNK);
            let mut limited = (&mut file).take(DEFAULT_CHUNK as u64);
            match limited.read_to_end(&mut chunk).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(FsError::io("read", &source, error)),
            }
            if let Err(error) = writer.write_bytes(Bytes::from(chunk)).await {
                break Err(error);
            }
        };
        self.finish(writer, written).await?;
        self.stat(to).await
    }

    async fn finish(
        &self,
        writer: FileWriter,
        written: Result<(), FsError>,
    ) -> Result<(), FsError> {
        let path = writer.path().clone();
        let done = match written {
            Ok(()) => writer.close().await,
            Err(error) => {
                drop(writer);
                Err(error)
            }
        };
        if let Err(error) = &done
            && let Err(second) = self.delete(&path, false).await
        {
            tracing::debug!(%path, %error, %second, "half a file could not be deleted");
        }
        done
    }
}
