//! Reads and writes Parquet, by way of Arrow's columns.
//!
//! A row group belongs to the split in which its middle lies, so that files are planned without being opened. Hadoop:
//! `ParquetInputFormat`.

mod ranges;
mod write;

use std::marker::PhantomData;
use std::sync::Arc;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use serde::de::DeserializeOwned;
use serde_arrow::Deserializer;

use spindle_dataflow::connector::OperatorError;

use self::ranges::FileRanges;
use super::bytes;
use super::field_names::field_names;
use super::format::{Decode, Format, ReadSettings, RecordPosition};
use super::source::FileSource;
use super::split::FileSplit;
use crate::context::IoContext;

pub use write::{ParquetCompression, ParquetRows};

/// A piece of a file that is larger is cut: Hadoop's usual row group, and block.
const SPLIT: u64 = 128 << 20;
/// Rows that are decoded into columns at once.
const ROWS: usize = 4096;

impl FileSource {
    /// Each row of Parquet files; serde makes a `T` of it by the names of the columns. With the crate's feature `parquet`.
    ///
    /// Only the columns that `T` asks for are read. Files are divided by row groups; a piece of a file is as large as Hadoop's
    /// usual row group, 128 MiB, unless [`FileSource::max_split`] says otherwise.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use spindle_stream::connectors::file::{FileSink, FileSource};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Trip {
    ///     from: String,
    ///     miles: Option<f64>,
    ///     stops: Vec<u32>,
    /// }
    ///
    /// // It needs not have all of the columns.
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Distance {
    ///     miles: Option<f64>,
    /// }
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let uri = format!("file://{}/trips", directory.path().display());
    /// let mut writing = spindle_stream::testing::Harness::new(1);
    /// let trip = |n| Trip { from: "JFK".to_owned(), miles: (n > 0).then_some(n as f64), stops: vec![1, 2] };
    /// writing.env().generate(3, trip).sink_to(FileSink::parquet(&uri));
    /// writing.run().unwrap();
    ///
    /// let mut reading = spindle_stream::testing::Harness::new(1);
    /// let trips = reading.env().source("trips", FileSource::parquet::<Distance>(&uri));
    /// trips.map(|trip| trip.miles).collect("miles");
    /// let miles: Vec<Option<f64>> = reading.run().unwrap().collected("miles");
    /// assert_eq!(miles, [None, Some(1.0), Some(2.0)]);
    /// ```
    pub fn parquet<T: DeserializeOwned>(uri: impl Into<String>) -> FileSource<ParquetRecords<T>> {
        FileSource::new(uri.into(), ParquetRecords(PhantomData)).max_split(SPLIT)
    }
}

/// The format of [`FileSource::parquet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetRecords<T>(pub(super) PhantomData<fn() -> T>);

impl<T: DeserializeOwned + 'static> Format<T> for ParquetRecords<T> {
    type Decoder = ParquetDecoder;

    fn decoder(&self, io: &Arc<IoContext>, settings: &ReadSettings) -> ParquetDecoder {
        ParquetDecoder {
            io: Arc::clone(io),
            settings: settings.clone(),
            fields_of_type: field_names::<T>(),
            open: None,
        }
    }

    /// What is packed are its pages.
    fn is_whole(&self, _: &str, _: &ReadSettings) -> bool {
        false
    }
}

/// Decodes the rows of one split after the other.
pub(super) struct ParquetDecoder {
    io: Arc<IoContext>,
    settings: ReadSettings,
    /// The columns that the type asks for, if it names them.
    fields_of_type: Option<&'static [&'static str]>,
    open: Option<OpenSplit>,
}

struct OpenSplit {
    split: FileSplit,
    ranges: FileRanges,
    reader: ParquetRecordBatchReader,
    columns: Option<arrow_array::RecordBatch>,
    /// The next of them.
    row: usize,
    /// Rows of the file before the split's.
    first: u64,
    /// Rows of the split.
    rows: u64,
    /// Those that were read.
    read: u64,
}

impl OpenSplit {
    /// The columns of the next rows; nothing after the last.
    fn columns(&mut self) -> Result<Option<&arrow_array::RecordBatch>, OperatorError> {
        if self
            .columns
            .as_ref()
            .is_none_or(|columns| self.row >= columns.num_rows())
        {
            self.row = 0;
            self.columns = match self.reader.next() {
                None => None,
                Some(Ok(columns)) => Some(columns),
                Some(Err(error)) => {
                    return Err(self.ranges.failure().unwrap_or_else(|| {
                        OperatorError::permanent(format!(
                            "`{}` cannot be read beyond row {}: {error}",
                            self.split.file,
                            self.first + self.read
                        ))
                    }));
                }
            };
        }
        Ok(self.columns.as_ref())
    }
}

impl ParquetDecoder {
    fn open_split(
        &self,
        split: &FileSplit,
        from: Option<RecordPosition>,
    ) -> Result<OpenSplit, OperatorError> {
        let file = bytes::open(&self.io, split)?;
        let ranges = FileRanges::new(Arc::clone(&self.io), file);
        let failed = |error: parquet::errors::ParquetError| {
            ranges.failure().unwrap_or_else(|| {
                OperatorError::permanent(format!(
                    "`{}` is no Parquet file, or not a whole one: {error}",
                    split.file
                ))
            })
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(ranges.clone()).map_err(failed)?;
        let groups = builder.metadata().row_groups();
        ranges.know_columns(groups);
        let is_mine = |group: &RowGroupMetaData| (split.start..split.end).contains(&middle(group));
        let rows = |group: &RowGroupMetaData| u64::try_from(group.num_rows()).unwrap_or(0);
        let before = groups.iter().take_while(|group| !is_mine(group));
        let first = before.map(rows).sum();
        let mine: Vec<usize> = (0..groups.len()).filter(|n| is_mine(&groups[*n])).collect();
        let rows = mine.iter().map(|n| rows(&groups[*n])).sum();
        let projection = self.projection(&builder, split)?;
        let read = from.map_or(0, |from| from.offset).min(rows);
        let reader = builder
            .with_projection(projection)
            .with_row_groups(mine)
            .with_batch_size(ROWS)
            .with_offset(usize::try_from(read).unwrap_or(usize::MAX))
            .build()
            .map_err(failed)?;
        Ok(OpenSplit {
            split: split.clone(),
            ranges,
            reader,
            columns: None,
            row: 0,
            first,
            rows,
            read,
        })
    }

    /// The columns that the type asks for.
    fn projection(
        &self,
        builder: &ParquetRecordBatchReaderBuilder<FileRanges>,
        split: &FileSplit,
    ) -> Result<ProjectionMask, OperatorError> {
        let Some(fields) = self.fields_of_type else {
            return Ok(ProjectionMask::all());
        };
        let names: Vec<_> = builder
            .schema()
            .fields()
            .iter()
            .map(|field| field.name())
            .collect();
        let asked = |n: &usize| fields.contains(&names[*n].as_str());
        let asked: Vec<usize> = (0..names.len()).filter(asked).collect();
        if asked.is_empty() {
            let quoted = |names: &[&str]| format!("`{}`", names.join("`, `"));
            let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            return Err(OperatorError::permanent(format!(
                "`{}` has none of the columns {}: it has {}",
                split.file,
                quoted(fields),
                quoted(&names)
            )));
        }
        Ok(ProjectionMask::roots(builder.parquet_schema(), asked))
    }
}

/// Offset of the middle of a row group.
fn middle(group: &RowGroupMetaData) -> u64 {
    let ranges = || group.columns().iter().map(|column| column.byte_range());
    let start = ranges().map(|(start, _)| start).min().unwrap_or(0);
    let len: u64 = ranges().map(|(_, len)| len).sum();
    start + len / 2
}

impl<T: DeserializeOwned> Decode<T> for ParquetDecoder {
    fn open(
        &mut self,
        split: &FileSplit,
        from: Option<RecordPosition>,
    ) -> Result<(), OperatorError> {
        self.open = Some(self.open_split(split, from)?);
        Ok(())
    }

    fn decode(&mut self, out: &mut Vec<T>, most: usize) -> Result<bool, OperatorError> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        if open.columns()?.is_none() {
            return Ok(false);
        }
        let Some(columns) = &open.columns else {
            return Ok(false);
        };
        let place = |row: u64| format!("`{}`, row {}", open.split.file, open.first + row);
        let records = Deserializer::from_record_batch(columns).map_err(|error| {
            let place = place(open.read);
            OperatorError::permanent(format!("{place}: {}", first_line(&error)))
        })?;
        let end = (open.row + most).min(columns.num_rows());
        for (row, at) in (open.row..end).zip(open.read..) {
            let Some(record) = records.get(row) else {
                break;
            };
            match T::deserialize(record) {
                Ok(record) => out.push(record),
                Err(error) => {
                    let text = format!("{}: {}", place(at), first_line(&error));
                    self.settings
                        .bad_records
                        .handle(OperatorError::permanent(text))?;
                }
            }
        }
        open.read += (end - open.row) as u64;
        open.row = end;
        Ok(true)
    }

    fn position(&self) -> RecordPosition {
        RecordPosition {
            offset: self.open.as_ref().map_or(0, |open| open.read),
            line: None,
        }
    }

    fn file_offset(&self) -> u64 {
        let Some(open) = &self.open else {
            return 0;
        };
        let share = open.read as f64 / open.rows.max(1) as f64;
        open.split.start + (open.split.len() as f64 * share) as u64
    }
}

/// What is wrong, without the trace that may follow.
fn first_line(error: &serde_arrow::Error) -> String {
    let text = error.to_string();
    text.lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("Error: ")
        .to_owned()
}
