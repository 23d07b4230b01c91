//! What part files can hold: turns records into bytes.

use std::fmt::Display;
use std::io::Write;

use csv::WriterBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::compression::Packing;
use super::field_names::field_names;

/// The endings of all part files, to know those of an earlier job by.
const EXTENSIONS: [&str; 4] = ["txt", "csv", "jsonl", "parquet"];

/// Whether a part file may end so.
pub(super) fn is_extension(text: &str) -> bool {
    let unpacked = text
        .rsplit_once('.')
        .filter(|(plain, packing)| *plain != "parquet" && Packing::of_extension(packing).is_some());
    EXTENSIONS.contains(&unpacked.map_or(text, |(plain, _)| plain))
}

/// The format of [`super::FileSink::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLines(pub(super) ());

/// The format of [`super::FileSink::csv`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvRows(pub(super) ());

/// The format of [`super::FileSink::json_lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonObjects(pub(super) ());

/// Turns records into bytes.
pub(super) trait Encode<T>: Send + 'static {
    /// Name of its files after the first dot.
    fn extension(&self) -> String;

    /// Appends records to `into`.
    fn encode(&mut self, records: &[T], into: &mut Vec<u8>) -> Result<(), String>;

    /// Appends what a file has to have after its last record, or without any.
    fn end(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        let _ = into;
        Ok(())
    }

    /// About how many bytes it has yet to append.
    fn held(&self) -> u64 {
        0
    }
}

impl<T: Display> Encode<T> for TextLines {
    fn extension(&self) -> String {
        "txt".to_owned()
    }

    fn encode(&mut self, records: &[T], into: &mut Vec<u8>) -> Result<(), String> {
        for record in records {
            writeln!(into, "{record}").map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl<T: Serialize> Encode<T> for JsonObjects {
    fn extension(&self) -> String {
        "jsonl".to_owned()
    }

    fn encode(&mut self, records: &[T], into: &mut Vec<u8>) -> Result<(), String> {
        for record in records {
            serde_json::to_writer(&mut *into, record).map_err(|error| error.to_string())?;
            into.push(b'\n');
        }
        Ok(())
    }
}

pub(super) struct CsvEncoder {
    /// The header is still to be written.
    pub(super) header: bool,
}

impl<T: Serialize + DeserializeOwned> Encode<T> for CsvEncoder {
    fn extension(&self) -> String {
        "csv".to_owned()
    }

    fn encode(&mut self, records: &[T], into: &mut Vec<u8>) -> Result<(), String> {
        let mut writer = WriterBuilder::new()
            .has_headers(self.header)
            .from_writer(into);
        for record in records {
            writer
                .serialize(record)
                .map_err(|error| error.to_string())?;
            self.header = false;
        }
        writer.flush().map_err(|error| error.to_string())
    }

    fn end(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        if !std::mem::take(&mut self.header) {
            return Ok(());
        }
        let Some(names) = field_names::<T>().filter(|names| !names.is_empty()) else {
            return Ok(());
        };
        let mut writer = WriterBuilder::new().from_writer(into);
        writer
            .write_record(names)
            .map_err(|error| error.to_string())?;
        writer.flush().map_err(|error| error.to_string())
    }
}
