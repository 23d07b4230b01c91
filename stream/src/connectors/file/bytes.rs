//! The bytes of a byte range of a file, as they stand there.
//!
//! A line belongs to the split in which its first byte lies. So a split that does not start at 0 skips to after the first
//! newline at or after `start - 1`, and every split reads past its end to finish its last line. Hadoop: `TextInputFormat`.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use memchr::memchr;

use spindle_dataflow::connector::OperatorError;
use spindle_hadoop::fs::{FileReader, SequentialReader};

use super::error::task_error;
use super::split::FileSplit;
use crate::context::IoContext;

/// The bytes of a split's whole lines, in order. Fetches ahead.
#[derive(Debug)]
pub(super) struct SplitBytes {
    io: Arc<IoContext>,
    input: SequentialReader,
    split: FileSplit,
    /// What is at hand; its first byte stands at `offset`.
    current: Bytes,
    offset: u64,
    skip_line: bool,
    ended: bool,
}

impl SplitBytes {
    /// Opens the split's file, to be read in pieces of `chunk` bytes from the split's first line, or from an offset at which a
    /// line of the split is known to start.
    pub(super) fn open(
        io: &Arc<IoContext>,
        split: FileSplit,
        from: Option<u64>,
        chunk: usize,
    ) -> Result<Self, OperatorError> {
        let file = open(io, &split)?;
        // The byte before tells whether the split starts with a line of its own.
        let offset = from.unwrap_or_else(|| split.start.saturating_sub(1));
        Ok(Self {
            io: Arc::clone(io),
            input: file.sequential(offset, chunk),
            skip_line: from.is_none() && split.start > 0,
            ended: split.start == split.end || from.is_some_and(|from| from >= split.end),
            split,
            current: Bytes::new(),
            offset,
        })
    }

    /// What is read.
    pub(super) const fn split(&self) -> &FileSplit {
        &self.split
    }

    /// The next bytes with the offset of the first; nothing after the split's last line.
    pub(super) fn next_bytes(&mut self) -> Result<Option<(u64, Bytes)>, OperatorError> {
        if !self.fill()? {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.current);
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        Ok(Some((offset, bytes)))
    }

    /// Offset of the first byte that will be read, once it is known where the first line starts.
    pub(super) fn first_offset(&mut self) -> Result<u64, OperatorError> {
        self.fill()?;
        Ok(self.offset)
    }

    /// Offset of the next byte.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes sure that some bytes are at hand; false at the end.
    fn fill(&mut self) -> Result<bool, OperatorError> {
        while self.current.is_empty() && !self.ended {
            let chunk = self.io.block_on(self.input.next_chunk());
            let Some(chunk) = chunk.map_err(|error| task_error(&error))? else {
                self.ended = true;
                break;
            };
            self.take(chunk);
        }
        Ok(!self.current.is_empty())
    }

    /// Keeps of the chunk at `offset` what belongs to the split.
    fn take(&mut self, mut chunk: Bytes) {
        if self.skip_line {
            let Some(newline) = memchr(b'\n', &chunk) else {
                self.offset += chunk.len() as u64;
                // The line that ends here or later is another split's, and the next one starts too late.
                self.ended = self.offset >= self.split.end;
                return;
            };
            chunk.advance(newline + 1);
            self.offset += newline as u64 + 1;
            self.skip_line = false;
            if self.offset >= self.split.end {
                self.ended = true;
                return;
            }
        }
        // The newline that ends the last line stands at `end - 1` or later.
        let from = (self.split.end - 1).saturating_sub(self.offset);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        if let Some(rest) = chunk.get(from..)
            && let Some(newline) = memchr(b'\n', rest)
        {
            chunk.truncate(from + newline + 1);
            self.ended = true;
        }
        self.current = chunk;
    }
}

impl Read for SplitBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let len = buffer.len().min(bytes.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        self.consume(len);
        Ok(len)
    }
}

/// What a decompressor reads from, without copying. Its errors hold an [`OperatorError`].
impl BufRead for SplitBytes {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill().map_err(io::Error::other)?;
        Ok(&self.current)
    }

    fn consume(&mut self, len: usize) {
        self.current.advance(len);
        self.offset += len as u64;
    }
}

/// Opens a split's file if it still is what was planned.
pub(super) fn open(io: &Arc<IoContext>, split: &FileSplit) -> Result<FileReader, OperatorError> {
    let fs = io.file_system().map_err(|error| task_error(&error))?;
    let file = fs
        .resolve(&split.file)
        .map_err(|error| task_error(&error))?;
    let file = io
        .block_on(fs.open(&file))
        .map_err(|error| task_error(&error))?;
    if file.len() != split.file_len {
        return Err(OperatorError::permanent(format!(
            "`{}` changed: it had {} bytes when it was found and has {} now; input must not change, or still be written, while a job reads it",
            split.file,
            split.file_len,
            file.len()
        )));
    }
    Ok(file)
}
