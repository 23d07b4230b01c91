//! Files as a source.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::connector::{OperatorError, SourceReader};

use super::csv::{CsvReader, Dialect};
use super::input;
use super::lines::LineReader;
use super::split::{Cutting, DEFAULT_SPLIT, FileSplit, MIN_SPLIT};
use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};

/// Reads a file, the files of a directory, or all that match a pattern, once. Flink: `FileSource`, bounded.
///
/// Large files are cut at the ends of lines, so that all subtasks have about the same number of bytes to read. Within a
/// subtask records come in the order of the file; how records of different subtasks mix is left to chance.
#[derive(Debug, Clone)]
pub struct FileSource<F = Lines> {
    uri: String,
    cutting: Cutting,
    format: F,
}

/// The format of [`FileSource::lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines(());

/// The format of [`FileSource::csv`].
#[derive(Debug, Clone)]
pub struct CsvRecords<T> {
    dialect: Dialect,
    decoded: PhantomData<fn() -> T>,
}

impl FileSource<Lines> {
    /// Each line of UTF-8 text, without its end (`\n` or `\r\n`). The last one needs no end.
    pub fn lines(uri: impl Into<String>) -> Self {
        Self::new(uri.into(), Lines(()))
    }

    /// Each record of CSV files, which all begin with a header; serde makes a `T` of it by the names of the columns.
    ///
    /// An empty field is `None` for an `Option`. Columns that `T` does not have are ignored, those that it has must be there.
    /// A quoted field that holds a line break needs [`Self::unsplit`].
    pub fn csv<T: DeserializeOwned>(uri: impl Into<String>) -> FileSource<CsvRecords<T>> {
        let dialect = Dialect {
            delimiter: b',',
            null: None,
        };
        let decoded = PhantomData;
        FileSource::new(uri.into(), CsvRecords { dialect, decoded })
    }
}

impl<F> FileSource<F> {
    const fn new(uri: String, format: F) -> Self {
        let cutting = Cutting::Between {
            min: MIN_SPLIT,
            max: DEFAULT_SPLIT,
        };
        Self {
            uri,
            cutting,
            format,
        }
    }

    /// Cuts no file: each is read from beginning to end by one subtask.
    #[must_use]
    pub const fn unsplit(mut self) -> Self {
        self.cutting = Cutting::Never;
        self
    }

    /// Cuts files into pieces of at most this many bytes, 32 MiB if it is not called. It also lowers the 1 MiB that a piece has at least.
    #[must_use]
    pub fn max_split(mut self, bytes: u64) -> Self {
        self.cutting = Cutting::Between {
            min: MIN_SPLIT.min(bytes),
            max: bytes,
        };
        self
    }

    fn decode(splits: &[SourceSplit]) -> Result<Vec<FileSplit>, OperatorError> {
        splits.iter().map(FileSplit::decode).collect()
    }
}

impl<T> FileSource<CsvRecords<T>> {
    /// A field with this text, such as `NA`, is taken for an empty one.
    #[must_use]
    pub fn null_value(mut self, text: impl Into<String>) -> Self {
        self.format.dialect.null = Some(text.into());
        self
    }

    /// The byte between two fields, `,` if it is not called.
    #[must_use]
    pub fn delimiter(mut self, byte: u8) -> Self {
        self.format.dialect.delimiter = byte;
        self
    }
}

impl Source<String> for FileSource<Lines> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        input::plan(&self.uri, self.cutting, context)
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<String>>, OperatorError> {
        let splits = Self::decode(&splits)?;
        Ok(Box::new(LineReader::new(Arc::clone(&context.io), splits)))
    }
}

impl<T: DeserializeOwned + 'static> Source<T> for FileSource<CsvRecords<T>> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        input::plan(&self.uri, self.cutting, context)
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        let splits = Self::decode(&splits)?;
        let dialect = self.format.dialect.clone();
        let reader = CsvReader::new(Arc::clone(&context.io), dialect, splits);
        Ok(Box::new(reader))
    }
}
