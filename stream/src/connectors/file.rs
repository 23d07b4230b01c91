//! Files on HDFS and on this machine: lines and CSV, in and out.
//!
//! A path is a URI (`hdfs://nn:8020/data`, `file:///tmp/data`) or a plain path, which means what Hadoop's `fs.defaultFS` says;
//! without a Hadoop configuration that is the local file system. Input is a file, a directory (its files, not those below; names that start with
//! `.` or `_` are hidden) or a pattern such as `/data/2013-*.csv`. Output is a directory with part files of each subtask.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use spindle_stream::StreamEnvironment;
//! use spindle_stream::connectors::file::{FileSink, FileSource};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Reading {
//!     sensor: String,
//!     celsius: Option<f64>,
//! }
//!
//! fn only_complete(env: &StreamEnvironment) {
//!     env.source("read", FileSource::csv::<Reading>("hdfs:///readings/2026-*.csv").null_value("NA"))
//!         .filter(|reading| reading.celsius.is_some())
//!         .sink_to(FileSink::csv("hdfs:///complete").overwrite(true));
//! }
//! ```

mod bad_records;
mod bytes;
mod compression;
mod csv;
mod cursor;
mod encode;
mod error;
mod field_names;
mod format;
mod input;
mod json;
mod lines;
mod monitor;
mod pack;
#[cfg(feature = "parquet")]
mod parquet;
mod part;
mod sink;
mod source;
mod split;

pub use bad_records::{BadRecords, SkippedRecords};
pub use compression::{Compression, Packing};
pub use csv::CsvRecords;
pub use encode::{CsvRows, JsonObjects, TextLines};
pub use format::RecordPosition;
pub use json::JsonRecords;
pub use lines::Lines;
pub use monitor::{DirectoryPosition, DirectoryReader, FileMark, MonitoredFiles, OpenFile};
#[cfg(feature = "parquet")]
pub use parquet::{ParquetCompression, ParquetRecords, ParquetRows};
pub use part::rolling::RollingPolicy;
pub use sink::{FileSink, PlainFormat};
pub use source::FileSource;

#[cfg(test)]
mod tests;
