//! Reads CSV with a header.
//!
//! A line without quotes is cut at its delimiters where it lies, and only the columns that the type asks for are looked at; a
//! line with quotes goes through the parser of `csv_core`. Fields are decoded by `csv`, from a record whose memory is used again.

mod header;
mod quoted;

use std::marker::PhantomData;
use std::sync::Arc;

use csv::{ByteRecord, ErrorKind};
use serde::de::DeserializeOwned;

use spindle_dataflow::connector::OperatorError;

use self::header::Header;
use self::quoted::{Parsed, QuotedParser};
use super::cursor::LineCursor;
use super::error::chain;
use super::field_names::field_names;
use super::format::{Decode, Format, ReadSettings, RecordPosition};
use super::lines;
use super::split::FileSplit;
use crate::context::IoContext;

/// A header is looked for in this many bytes first.
const HEADER_BYTES: usize = 16 << 10;

/// What some programs write before the header.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How the CSV is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The byte between fields.
    pub(super) delimiter: u8,
    /// What stands for a missing value, besides an empty field.
    pub(super) null: Option<String>,
}

/// The format of [`super::FileSource::csv`].
#[derive(Debug, Clone)]
pub struct CsvRecords<T> {
    pub(super) dialect: Dialect,
    pub(super) decoded: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Format<T> for CsvRecords<T> {
    type Decoder = CsvDecoder;

    fn decoder(&self, io: &Arc<IoContext>, settings: &ReadSettings) -> CsvDecoder {
        CsvDecoder {
            io: Arc::clone(io),
            settings: settings.clone(),
            parser: QuotedParser::new(self.dialect.delimiter),
            dialect: self.dialect.clone(),
            fields_of_type: field_names::<T>(),
            header: None,
            open: None,
            record: ByteRecord::new(),
        }
    }
}

/// Decodes the records of one split after the other.
pub(super) struct CsvDecoder {
    io: Arc<IoContext>,
    settings: ReadSettings,
    dialect: Dialect,
    parser: QuotedParser,
    /// The columns that the type asks for, if it names them.
    fields_of_type: Option<&'static [&'static str]>,
    /// The file whose header was read last, and that header.
    header: Option<(String, Header)>,
    open: Option<LineCursor>,
    /// The columns that are decoded of the record at hand.
    record: ByteRecord,
}

impl CsvDecoder {
    /// Reads the header at the start of a split's file.
    fn read_header(&mut self, split: &FileSplit) -> Result<Header, OperatorError> {
        let from_start = FileSplit {
            start: 0,
            ..split.clone()
        };
        let compression = self.settings.compression;
        let mut cursor = LineCursor::open(&self.io, &from_start, compression, None, HEADER_BYTES)?;
        let mut names = ByteRecord::new();
        match self.parser.next(&mut cursor)? {
            None => {}
            Some(Parsed::Plain(_)) => {
                let content = cursor.content();
                let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
                for name in content.split(|byte| *byte == self.dialect.delimiter) {
                    names.push_field(name);
                }
            }
            Some(Parsed::Quoted(_)) => {
                for name in self.parser.fields() {
                    names.push_field(name);
                }
            }
        }
        Ok(Header::new(names, self.fields_of_type))
    }
}

impl<T: DeserializeOwned> Decode<T> for CsvDecoder {
    fn open(
        &mut self,
        split: &FileSplit,
        from: Option<RecordPosition>,
    ) -> Result<(), OperatorError> {
        if self
            .header
            .as_ref()
            .is_none_or(|(file, _)| *file != split.file)
        {
            let header = self.read_header(split)?;
            self.header = Some((split.file.clone(), header));
        }
        self.parser.forget();
        let mut cursor = lines::open(&self.io, &self.settings, split, from)?;
        if split.start == 0 && cursor.position().line == Some(1) {
            // The header, which was read already.
            self.parser.next(&mut cursor)?;
        }
        self.open = Some(cursor);
        Ok(())
    }

    fn decode(&mut self, out: &mut Vec<T>, most: usize) -> Result<bool, OperatorError> {
        let Self {
            settings,
            dialect,
            parser,
            header,
            open,
            record,
            ..
        } = self;
        let (Some(cursor), Some((_, header))) = (open, header) else {
            return Ok(false);
        };
        for _ in 0..most {
            let (start, fields) = match parser.next(cursor)? {
                None => return Ok(false),
                Some(Parsed::Plain(start)) => {
                    let line = cursor.content();
                    (start, header.take_plain(line, dialect, record))
                }
                Some(Parsed::Quoted(start)) => {
                    (start, header.take(parser.fields(), dialect, record))
                }
            };
            let decoded = if fields == header.columns() {
                record
                    .deserialize(Some(header.names()))
                    .map_err(|error| fault(header, error))
            } else {
                let plural = if fields == 1 { "" } else { "s" };
                let columns = header.columns();
                Err(format!(
                    " has {fields} field{plural}, and the header has {columns}"
                ))
            };
            match decoded {
                Ok(decoded) => {
                    header.fits();
                    out.push(decoded);
                }
                Err(fault) => {
                    let place = cursor.place(start);
                    let error = OperatorError::permanent(format!("{place}{fault}"));
                    settings.bad_records.handle(error)?;
                }
            }
        }
        Ok(true)
    }

    fn position(&self) -> RecordPosition {
        self.parser
            .rest()
            .unwrap_or_else(|| lines::position(self.open.as_ref()))
    }

    fn file_offset(&self) -> u64 {
        self.open.as_ref().map_or(0, LineCursor::file_offset)
    }
}

/// What is wrong with a record, and in which column.
fn fault(header: &Header, error: csv::Error) -> String {
    let text = chain(&error);
    match error.into_kind() {
        ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|field| usize::try_from(field).ok());
            let column = column.and_then(|field| header.names().get(field));
            let column = column.map_or_else(String::new, |name| {
                format!(" column `{}`:", String::from_utf8_lossy(name))
            });
            format!("{column} {}", err.kind())
        }
        ErrorKind::Io(_)
        | ErrorKind::Utf8 { .. }
        | ErrorKind::UnequalLengths { .. }
        | ErrorKind::Seek
        | ErrorKind::Serialize(_)
        | _ => format!(" {text}"),
    }
}
