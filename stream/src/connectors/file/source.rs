//! Files as a source.

use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::connector::{OperatorError, SourceReader};

use super::bad_records::BadRecords;
use super::compression::Compression;
use super::csv::{CsvRecords, Dialect};
use super::format::{Format, ReadSettings, SplitReader};
use super::input;
use super::json::JsonRecords;
use super::lines::Lines;
use super::monitor::MonitoredFiles;
use super::split::{Cutting, DEFAULT_SPLIT, FileSplit, InputFile, MIN_SPLIT};
use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};

/// Reads a file, the files of a directory, or all that match a pattern, once. Flink: `FileSource`, bounded.
///
/// Large files are cut at the ends of lines, so that all subtasks have about the same number of bytes to read; packed ones
/// ([`Compression`]) cannot be cut. Within a subtask records come in the order of the file; how records of different subtasks mix
/// is left to chance.
#[derive(Debug, Clone)]
pub struct FileSource<F = Lines> {
    uri: String,
    cutting: Cutting,
    settings: ReadSettings,
    format: F,
}

impl FileSource<Lines> {
    /// Each line of UTF-8 text, without its end (`\n` or `\r\n`). The last one needs no end.
    ///
    /// ```
    /// use spindle_stream::connectors::file::FileSource;
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # std::fs::write(directory.path().join("a.txt"), "to be\nor not\n").unwrap();
    /// # let uri = format!("file://{}/*.txt", directory.path().display());
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().source("read", FileSource::lines(uri)).collect("lines");
    /// assert_eq!(harness.run().unwrap().collected::<String>("lines"), ["to be", "or not"]);
    /// ```
    pub fn lines(uri: impl Into<String>) -> Self {
        Self::new(uri.into(), Lines(()))
    }

    /// Each record of CSV files, which all begin with a header; serde makes a `T` of it by the names of the columns.
    ///
    /// An empty field is `None` for an `Option`. Columns that `T` does not have are ignored, those that it has must be there.
    /// A quoted field that holds a line break needs [`Self::unsplit`].
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use spindle_stream::connectors::file::FileSource;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Flight {
    ///     origin: String,
    ///     dep_delay: Option<i64>,
    /// }
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let uri = format!("file://{}/flights.csv", directory.path().display());
    /// # std::fs::write(directory.path().join("flights.csv"), "year,dep_delay,origin\n2013,NA,JFK\n2013,4,EWR\n").unwrap();
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .source("flights", FileSource::csv::<Flight>(uri).null_value("NA"))
    ///     .filter(|flight| flight.dep_delay.is_some())
    ///     .map(|flight| flight.origin)
    ///     .collect("departed");
    /// assert_eq!(harness.run().unwrap().collected::<String>("departed"), ["EWR"]);
    /// ```
    pub fn csv<T: DeserializeOwned>(uri: impl Into<String>) -> FileSource<CsvRecords<T>> {
        let dialect = Dialect {
            delimiter: b',',
            null: None,
        };
        let decoded = PhantomData;
        FileSource::new(uri.into(), CsvRecords { dialect, decoded })
    }

    /// Each line of JSON lines (NDJSON); serde makes a `T` of it. Empty lines are passed over.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use spindle_stream::connectors::file::FileSource;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Bid {
    ///     price: u64,
    /// }
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let uri = format!("file://{}/bids.jsonl", directory.path().display());
    /// # std::fs::write(directory.path().join("bids.jsonl"), "{\"price\": 7}\n{\"price\": 9, \"bidder\": \"Ann\"}\n").unwrap();
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().source("bids", FileSource::json_lines::<Bid>(uri)).map(|bid| bid.price).collect("prices");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("prices"), [7, 9]);
    /// ```
    pub fn json_lines<T: DeserializeOwned>(uri: impl Into<String>) -> FileSource<JsonRecords<T>> {
        FileSource::new(uri.into(), JsonRecords(PhantomData))
    }
}

impl<F> FileSource<F> {
    pub(super) fn new(uri: String, format: F) -> Self {
        let cutting = Cutting::Between {
            min: MIN_SPLIT,
            max: DEFAULT_SPLIT,
        };
        Self {
            uri,
            cutting,
            settings: ReadSettings::default(),
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

    /// How the files are packed; by their names if it is not called.
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// What happens with records that cannot be decoded; they fail the job if it is not called.
    #[must_use]
    pub fn bad_records(mut self, bad_records: BadRecords) -> Self {
        self.settings.bad_records = bad_records;
        self
    }

    /// Reads the files that are in the directory, and those that come into it while the job runs: it is looked through once in
    /// every `interval`. The source has no end, unless [`MonitoredFiles::until`] gives it one. Flink:
    /// `FileSource.monitorContinuously`.
    pub fn monitor_continuously(self, interval: Duration) -> MonitoredFiles<F> {
        MonitoredFiles::new(self.uri, interval, self.settings, self.format)
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

impl<T: 'static, F: Format<T>> Source<T> for FileSource<F> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        input::plan(&self.uri, self.cutting, context, |file, len| InputFile {
            whole: self.format.is_whole(&file, &self.settings),
            file,
            len,
        })
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        let splits: Result<Vec<_>, _> = splits.iter().map(FileSplit::decode).collect();
        let decoder = self.format.decoder(&context.io, &self.settings);
        Ok(Box::new(SplitReader::new(decoder, splits?)))
    }
}
