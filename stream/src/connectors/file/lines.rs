//! Reads lines of text.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use memchr::memchr;

use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use super::split::{FileSplit, Progress, SplitBytes};
use crate::context::IoContext;

/// Reads the lines of some splits, one after the other.
#[derive(Debug)]
pub(super) struct LineReader {
    io: Arc<IoContext>,
    splits: VecDeque<FileSplit>,
    open: Option<OpenSplit>,
    progress: Progress,
}

#[derive(Debug)]
struct OpenSplit {
    bytes: SplitBytes,
    /// What is at hand; its first byte stands at `offset`.
    chunk: Bytes,
    offset: u64,
    /// The beginning of a line whose end was not in its chunk.
    begun: Vec<u8>,
}

impl LineReader {
    pub(super) fn new(io: Arc<IoContext>, splits: Vec<FileSplit>) -> Self {
        Self {
            io,
            progress: Progress::of(&splits),
            splits: splits.into(),
            open: None,
        }
    }
}

impl SourceReader<String> for LineReader {
    fn read(&mut self, out: &mut Batch<String>) -> Result<SourceStatus, OperatorError> {
        for _ in 0..BATCH_RECORDS {
            let line = loop {
                let Some(open) = &mut self.open else {
                    let Some(split) = self.splits.pop_front() else {
                        return Ok(SourceStatus::EndOfInput);
                    };
                    self.open = Some(OpenSplit::new(&self.io, split)?);
                    continue;
                };
                if let Some(line) = open.next_line()? {
                    break line;
                }
                self.progress.finish(open.bytes.split());
                self.open = None;
            };
            out.push(line, None);
        }
        if let Some(open) = &self.open {
            self.progress.at(open.bytes.split(), open.offset);
        }
        Ok(SourceStatus::More)
    }

    fn progress(&self) -> Option<f64> {
        Some(self.progress.share())
    }

    fn bytes_read(&self) -> u64 {
        self.progress.bytes()
    }
}

impl OpenSplit {
    fn new(io: &Arc<IoContext>, split: FileSplit) -> Result<Self, OperatorError> {
        Ok(Self {
            offset: split.start,
            bytes: SplitBytes::open(io, split)?,
            chunk: Bytes::new(),
            begun: Vec::new(),
        })
    }

    /// The next line without its end; nothing after the last.
    fn next_line(&mut self) -> Result<Option<String>, OperatorError> {
        loop {
            if self.chunk.is_empty() {
                match self.bytes.next_bytes()? {
                    Some((offset, chunk)) => (self.offset, self.chunk) = (offset, chunk),
                    // The file's last line may have no end.
                    None if self.begun.is_empty() => return Ok(None),
                    None => {
                        let line = std::mem::take(&mut self.begun);
                        return self.text(line).map(Some);
                    }
                }
            }
            let Some(newline) = memchr(b'\n', &self.chunk) else {
                self.begun.extend_from_slice(&self.chunk);
                self.offset += self.chunk.len() as u64;
                self.chunk.clear();
                continue;
            };
            let mut line = std::mem::take(&mut self.begun);
            line.extend_from_slice(&self.chunk[..=newline]);
            self.chunk.advance(newline + 1);
            self.offset += newline as u64 + 1;
            return self.text(line).map(Some);
        }
    }

    /// The text of a line that ends where the reader stands.
    fn text(&self, mut line: Vec<u8>) -> Result<String, OperatorError> {
        let start = self.offset - line.len() as u64;
        if line.pop_if(|last| *last == b'\n').is_some() {
            line.pop_if(|last| *last == b'\r');
        }
        String::from_utf8(line).map_err(|error| {
            let at = start + error.utf8_error().valid_up_to() as u64;
            OperatorError::permanent(format!(
                "`{}` is not UTF-8 text: the character at byte {at} is none",
                self.bytes.split().file
            ))
        })
    }
}
