//! Reads CSV with a header.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use csv::{ByteRecord, ErrorKind, Position, Reader, ReaderBuilder};
use memchr::memchr;
use serde::de::DeserializeOwned;

use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use super::error::{chain, task_error};
use super::split::{FileSplit, Progress, SplitBytes, open};
use crate::context::IoContext;

/// A header is looked for in this many bytes first.
const HEADER_BYTES: usize = 16 << 10;

/// How the CSV is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The byte between fields.
    pub(super) delimiter: u8,
    /// What stands for a missing value, besides an empty field.
    pub(super) null: Option<String>,
}

impl Dialect {
    fn reader<R: io::Read>(&self, input: R) -> Reader<R> {
        ReaderBuilder::new()
            .has_headers(false)
            .delimiter(self.delimiter)
            // The number of fields is compared with the header's, which need not be in this split.
            .flexible(true)
            .buffer_capacity(64 << 10)
            .from_reader(input)
    }
}

/// Reads the records of some splits, one after the other.
pub(super) struct CsvReader<T> {
    io: Arc<IoContext>,
    dialect: Dialect,
    splits: VecDeque<FileSplit>,
    open: Option<OpenSplit>,
    progress: Progress,
    /// The file whose header was read last, and that header.
    header: Option<(String, ByteRecord)>,
    record: ByteRecord,
    decoded: PhantomData<fn() -> T>,
}

struct OpenSplit {
    split: FileSplit,
    reader: Reader<SplitBytes>,
    header: ByteRecord,
    /// Offset in the file of the first byte that the reader gets.
    base: u64,
}

impl<T> CsvReader<T> {
    pub(super) fn new(io: Arc<IoContext>, dialect: Dialect, splits: Vec<FileSplit>) -> Self {
        Self {
            io,
            dialect,
            progress: Progress::of(&splits),
            splits: splits.into(),
            open: None,
            header: None,
            record: ByteRecord::new(),
            decoded: PhantomData,
        }
    }

    /// Opens a split and brings it behind the header.
    fn open(&mut self, split: FileSplit) -> Result<(), OperatorError> {
        let mut header = match self.header.take() {
            Some((file, header)) if file == split.file => Some(header),
            Some(_) | None if split.start > 0 => Some(self.read_header(&split)?),
            Some(_) | None => None,
        };
        let mut bytes = SplitBytes::open(&self.io, split.clone())?;
        let base = bytes.first_offset()?;
        let mut reader = self.dialect.reader(bytes);
        if split.start == 0 {
            let mut record = ByteRecord::new();
            let read = reader.read_byte_record(&mut record);
            read.map_err(|error| read_error(&self.io, &split, base, &ByteRecord::new(), error))?;
            header = Some(record);
        }
        let header = header.unwrap_or_default();
        self.header = Some((split.file.clone(), header.clone()));
        self.open = Some(OpenSplit {
            split,
            reader,
            header,
            base,
        });
        Ok(())
    }

    /// The header at the start of a split's file.
    fn read_header(&self, split: &FileSplit) -> Result<ByteRecord, OperatorError> {
        let file = open(&self.io, split)?;
        let mut len = HEADER_BYTES;
        loop {
            let bytes = self.io.block_on(file.read_at(0, len));
            let bytes = bytes.map_err(|error| task_error(&error))?;
            // A file that is split has no newline in quotes.
            let end = memchr(b'\n', &bytes);
            if end.is_none() && bytes.len() == len {
                len *= 4;
                continue;
            }
            let mut header = ByteRecord::new();
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let read = self.dialect.reader(line).read_byte_record(&mut header);
            read.map_err(|error| read_error(&self.io, split, 0, &ByteRecord::new(), error))?;
            return Ok(header);
        }
    }
}

impl<T: DeserializeOwned> SourceReader<T> for CsvReader<T> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        for _ in 0..BATCH_RECORDS {
            let record = loop {
                let Some(open) = &mut self.open else {
                    let Some(split) = self.splits.pop_front() else {
                        return Ok(SourceStatus::EndOfInput);
                    };
                    self.open(split)?;
                    continue;
                };
                if let Some(record) = open.next_record(&self.io, &self.dialect, &mut self.record)? {
                    break record;
                }
                self.progress.finish(&open.split);
                self.open = None;
            };
            out.push(record, None);
        }
        if let Some(open) = &self.open {
            let at = open.base + open.reader.position().byte();
            self.progress.at(&open.split, at);
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
    fn next_record<T: DeserializeOwned>(
        &mut self,
        io: &Arc<IoContext>,
        dialect: &Dialect,
        record: &mut ByteRecord,
    ) -> Result<Option<T>, OperatorError> {
        let failed = |error| read_error(io, &self.split, self.base, &self.header, error);
        if !self.reader.read_byte_record(record).map_err(failed)? {
            return Ok(None);
        }
        if record.len() != self.header.len() {
            return Err(OperatorError::permanent(format!(
                "{} has {} field{}, and the header has {}",
                place(io, &self.split, self.base, record.position()),
                record.len(),
                if record.len() == 1 { "" } else { "s" },
                self.header.len()
            )));
        }
        if let Some(null) = &dialect.null
            && record.iter().any(|field| field == null.as_bytes())
        {
            let position = record.position().cloned();
            let mut given = ByteRecord::with_capacity(record.as_slice().len(), record.len());
            for field in &*record {
                given.push_field(if field == null.as_bytes() { b"" } else { field });
            }
            *record = given;
            record.set_position(position);
        }
        let decoded = record.deserialize(Some(&self.header)).map_err(failed)?;
        Ok(Some(decoded))
    }
}

/// Where in a file something stands, for people: the line too if it can be known.
fn place(io: &Arc<IoContext>, split: &FileSplit, base: u64, position: Option<&Position>) -> String {
    let file = &split.file;
    let Some(position) = position else {
        return format!("`{file}`");
    };
    // The parser's position may still be before line ends that belong to no record: the rest of `\r\n`, empty lines.
    let at = base + position.byte();
    let before = open(io, split).and_then(|file| {
        let read = io.block_on(file.read_at(at, 256));
        read.map_err(|error| task_error(&error))
    });
    let before = before.unwrap_or_default();
    let line_ends = before.iter().take_while(|byte| b"\r\n".contains(byte));
    let byte = at + line_ends.clone().count() as u64;
    if split.start == 0 {
        let line = position.line() + line_ends.filter(|byte| **byte == b'\n').count() as u64;
        format!("`{file}`, line {line} (byte {byte}),")
    } else {
        format!("`{file}`, record at byte {byte},")
    }
}

/// What went wrong, with file, place and column.
fn read_error(
    io: &Arc<IoContext>,
    split: &FileSplit,
    base: u64,
    header: &ByteRecord,
    error: csv::Error,
) -> OperatorError {
    let position = error.position().cloned();
    let text = chain(&error);
    let place = || place(io, split, base, position.as_ref());
    match error.into_kind() {
        ErrorKind::Io(error) => match error.downcast::<OperatorError>() {
            Ok(error) => error,
            Err(error) => {
                OperatorError::transient(format!("cannot read `{}`: {error}", split.file))
            }
        },
        ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|field| usize::try_from(field).ok());
            let column = column.and_then(|field| header.get(field));
            let column = column.map_or_else(String::new, |name| {
                format!(" column `{}`:", String::from_utf8_lossy(name))
            });
            OperatorError::permanent(format!("{}{column} {}", place(), err.kind()))
        }
        ErrorKind::Utf8 { .. }
        | ErrorKind::UnequalLengths { .. }
        | ErrorKind::Seek
        | ErrorKind::Serialize(_)
        | _ => OperatorError::permanent(format!("{} {text}", place())),
    }
}
