//! Lines as records, and the parser of those that are not as simple as they could be.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::memchr2;

use spindle_dataflow::connector::OperatorError;

use super::super::cursor::LineCursor;
use super::super::format::RecordPosition;

/// A record, and where it starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parsed {
    /// The content of the cursor's line, without quotes: its fields stand between delimiters.
    Plain(RecordPosition),
    /// In the parser, field by field.
    Quoted(RecordPosition),
}

/// Parses lines that have quotes, or a `\r` that does not belong to their end, which ends a record too.
pub(super) struct QuotedParser {
    core: Reader,
    /// The fields of the record, without quotes, one after the other.
    bytes: Vec<u8>,
    bytes_used: usize,
    /// Where they end.
    ends: Vec<usize>,
    ends_used: usize,
    /// What stood behind the record on its last line, and where that starts.
    rest: Option<(Vec<u8>, RecordPosition)>,
}

impl QuotedParser {
    pub(super) fn new(delimiter: u8) -> Self {
        Self {
            core: ReaderBuilder::new().delimiter(delimiter).build(),
            bytes: vec![0; 1 << 10],
            bytes_used: 0,
            ends: vec![0; 32],
            ends_used: 0,
            rest: None,
        }
    }

    /// Goes to the beginning of another split.
    pub(super) fn forget(&mut self) {
        self.core.reset();
        self.rest = None;
    }

    /// The next record, from the cursor's next line and, if it has line breaks in quotes, those that follow; nothing after the last.
    pub(super) fn next(
        &mut self,
        cursor: &mut LineCursor,
    ) -> Result<Option<Parsed>, OperatorError> {
        if let Some((rest, start)) = self.rest.take() {
            return self.parse(rest, start, cursor);
        }
        loop {
            let Some(start) = cursor.next_line()? else {
                return Ok(None);
            };
            let content = cursor.content();
            if content.is_empty() {
                continue;
            }
            if memchr2(b'"', b'\r', content).is_none() {
                return Ok(Some(Parsed::Plain(start)));
            }
            let line = cursor.line().to_vec();
            return self.parse(line, start, cursor);
        }
    }

    /// Parses a record that starts at the beginning of `line`, which starts at `start`.
    fn parse(
        &mut self,
        mut line: Vec<u8>,
        start: RecordPosition,
        cursor: &mut LineCursor,
    ) -> Result<Option<Parsed>, OperatorError> {
        (self.bytes_used, self.ends_used) = (0, 0);
        let mut at = 0;
        loop {
            let (result, read, bytes, ends) = self.core.read_record(
                &line[at..],
                &mut self.bytes[self.bytes_used..],
                &mut self.ends[self.ends_used..],
            );
            at += read;
            self.bytes_used += bytes;
            self.ends_used += ends;
            match result {
                ReadRecordResult::InputEmpty => {
                    line.clear();
                    at = 0;
                    // Without another line, that there is nothing ends the record.
                    if cursor.next_line()?.is_some() {
                        line.extend_from_slice(cursor.line());
                    }
                }
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.keep_rest(line, at, cursor);
                    return Ok(Some(Parsed::Quoted(start)));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    fn keep_rest(&mut self, mut line: Vec<u8>, at: usize, cursor: &LineCursor) {
        line.drain(..at);
        // The second half of `\r\n`.
        if line.is_empty() || line == b"\n" {
            return;
        }
        let end = cursor.position();
        let start = RecordPosition {
            offset: end.offset - line.len() as u64,
            line: end.line.map(|line| line - 1),
        };
        self.rest = Some((line, start));
    }

    /// The fields of the record.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends[..self.ends_used].iter().map(move |end| {
            let field = &self.bytes[from..*end];
            from = *end;
            field
        })
    }

    /// Where the next record starts, if it does not start on a line of its own.
    pub(super) fn rest(&self) -> Option<RecordPosition> {
        self.rest.as_ref().map(|(_, start)| *start)
    }
}
