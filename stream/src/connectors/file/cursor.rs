//! One line after the other, without copying those that lie within what was fetched.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;

use spindle_dataflow::connector::OperatorError;

use super::compression::{Compression, InputBytes};
use super::format::RecordPosition;
use super::split::FileSplit;
use crate::context::IoContext;

/// Stands at one line of a split, or before the first.
pub(super) struct LineCursor {
    input: InputBytes,
    /// What is at hand, read up to the end of `line`.
    chunk: Bytes,
    /// The line that the cursor is at.
    line: Range<usize>,
    /// That line, if it does not lie within one chunk.
    joined: Vec<u8>,
    /// Where the next line starts.
    next: RecordPosition,
}

impl LineCursor {
    /// Goes to the first line of a split, or to one whose position was taken earlier. Fetches `chunk` bytes at once.
    pub(super) fn open(
        io: &Arc<IoContext>,
        split: &FileSplit,
        compression: Compression,
        from: Option<RecordPosition>,
        chunk: usize,
    ) -> Result<Self, OperatorError> {
        let offset = from.map(|from| from.offset);
        let mut input = InputBytes::open(io, split.clone(), compression, offset, chunk)?;
        let next = match from {
            Some(from) => from,
            None => RecordPosition {
                offset: input.first_offset()?,
                line: (split.start == 0).then_some(1),
            },
        };
        Ok(Self {
            input,
            chunk: Bytes::new(),
            line: 0..0,
            joined: Vec::new(),
            next,
        })
    }

    /// Goes to the next line and says where it starts; nothing after the last.
    pub(super) fn next_line(&mut self) -> Result<Option<RecordPosition>, OperatorError> {
        self.joined.clear();
        if let Some(newline) = memchr(b'\n', &self.chunk[self.line.end..]) {
            self.line = self.line.end..self.line.end + newline + 1;
            return Ok(Some(self.pass(newline + 1)));
        }
        self.joined.extend_from_slice(&self.chunk[self.line.end..]);
        loop {
            // Let go before the next is fetched, so that its memory can be used again.
            (self.chunk, self.line) = (Bytes::new(), 0..0);
            let Some(chunk) = self.input.next_bytes()? else {
                break;
            };
            self.chunk = chunk;
            if let Some(newline) = memchr(b'\n', &self.chunk) {
                self.line.end = newline + 1;
                self.joined.extend_from_slice(&self.chunk[..=newline]);
                break;
            }
            self.joined.extend_from_slice(&self.chunk);
        }
        let len = self.joined.len();
        Ok((len > 0).then(|| self.pass(len)))
    }

    /// The line that was gone to, with its end, if it has one.
    pub(super) fn line(&self) -> &[u8] {
        if self.joined.is_empty() {
            &self.chunk[self.line.clone()]
        } else {
            &self.joined
        }
    }

    /// The line without `\n` or `\r\n`.
    pub(super) fn content(&self) -> &[u8] {
        match self.line() {
            [content @ .., b'\r', b'\n'] | [content @ .., b'\n'] => content,
            content => content,
        }
    }

    /// Counts a line of this many bytes, and returns where it started.
    fn pass(&mut self, bytes: usize) -> RecordPosition {
        let start = self.next;
        self.next.offset += bytes as u64;
        self.next.line = start.line.map(|line| line + 1);
        start
    }

    /// Where the next line starts.
    pub(super) const fn position(&self) -> RecordPosition {
        self.next
    }

    /// Offset in the file up to which it was read.
    pub(super) fn file_offset(&self) -> u64 {
        self.input.packed_offset().unwrap_or(self.next.offset)
    }

    /// Where something stands, for people, to be followed by what it is.
    pub(super) fn place(&self, position: RecordPosition) -> String {
        let file = &self.input.split().file;
        let RecordPosition { offset, line } = position;
        let unpacked = match &self.input {
            InputBytes::Plain(_) => "",
            InputBytes::Packed(_) => " of what is packed in it",
        };
        match line {
            Some(line) => format!("`{file}`, line {line} (byte {offset}{unpacked}),"),
            None => format!("`{file}`, record at byte {offset}{unpacked},"),
        }
    }

    /// What is read.
    pub(super) fn split(&self) -> &FileSplit {
        self.input.split()
    }
}
