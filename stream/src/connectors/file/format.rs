//! What a file format has to be, and the reader of splits in any of them.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use super::bad_records::BadRecords;
use super::compression::Compression;
use super::split::{FileSplit, Progress};
use crate::context::IoContext;

/// How files are read, whatever their format.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSettings {
    pub(super) compression: Compression,
    pub(super) bad_records: BadRecords,
}

/// Where in a file a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPosition {
    /// In bytes, unpacked ones if the file is packed; Parquet: in rows.
    pub offset: u64,
    /// Number of the line, from 1, if the file was read from its beginning.
    pub line: Option<u64>,
}

/// A format that files can have.
pub(super) trait Format<T>: Send + Sync + 'static {
    /// Reads it.
    type Decoder: Decode<T>;

    /// The decoder of one subtask.
    fn decoder(&self, io: &Arc<IoContext>, settings: &ReadSettings) -> Self::Decoder;

    /// Whether this file can only be read from its beginning.
    fn is_whole(&self, file: &str, settings: &ReadSettings) -> bool {
        settings.compression.of(file).is_some()
    }
}

/// Reads the records of one split after the other.
pub(super) trait Decode<T>: Send + 'static {
    /// Goes to a split's first record, or to one whose position was taken earlier.
    fn open(
        &mut self,
        split: &FileSplit,
        from: Option<RecordPosition>,
    ) -> Result<(), OperatorError>;

    /// Appends up to `most` records; false once there are no more in the split.
    fn decode(&mut self, out: &mut Vec<T>, most: usize) -> Result<bool, OperatorError>;

    /// Where the next record starts, to come back to.
    fn position(&self) -> RecordPosition;

    /// Offset in the file, as it stands there, up to which it was read: for progress.
    fn file_offset(&self) -> u64;
}

/// A split that is not read to its end, as a snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeftToRead {
    split: FileSplit,
    /// The next record; the first if absent.
    from: Option<RecordPosition>,
}

/// Reads some splits, one after the other, to the end.
pub(super) struct SplitReader<D> {
    decoder: D,
    splits: VecDeque<FileSplit>,
    /// Those that another attempt has read a part of; they come first.
    begun: VecDeque<LeftToRead>,
    open: Option<FileSplit>,
    progress: Progress,
}

impl<D> SplitReader<D> {
    pub(super) fn new(decoder: D, splits: Vec<FileSplit>) -> Self {
        Self {
            decoder,
            progress: Progress::of(&splits),
            splits: splits.into(),
            begun: VecDeque::new(),
            open: None,
        }
    }
}

impl<T, D: Decode<T>> SourceReader<T> for SplitReader<D> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        let full = out.len() + BATCH_RECORDS;
        while out.len() < full {
            let split = match &self.open {
                Some(split) => split,
                None => {
                    let begun = self.begun.pop_front();
                    let begun = begun.map(|left| (left.split, left.from));
                    let fresh = || self.splits.pop_front().map(|split| (split, None));
                    let Some((split, from)) = begun.or_else(fresh) else {
                        return Ok(SourceStatus::EndOfInput);
                    };
                    self.decoder.open(&split, from)?;
                    self.open.insert(split)
                }
            };
            let most = full - out.len();
            if self.decoder.decode(&mut out.records, most)? {
                self.progress.at(split, self.decoder.file_offset());
            } else {
                self.progress.finish(split);
                self.open = None;
            }
        }
        Ok(SourceStatus::More)
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        let open = self.open.as_ref().map(|split| LeftToRead {
            split: split.clone(),
            from: Some(self.decoder.position()),
        });
        let begun = self.begun.iter().cloned();
        let fresh = self.splits.iter().map(|split| LeftToRead {
            split: split.clone(),
            from: None,
        });
        let all = open.into_iter().chain(begun).chain(fresh);
        let all =
            all.map(|left| serde_json::to_vec(&left).expect("text and numbers are always JSON"));
        Ok(Some(all.collect()))
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        self.splits.clear();
        self.begun.clear();
        for entry in entries {
            let left: LeftToRead = serde_json::from_slice(&entry).map_err(|error| {
                OperatorError::permanent(format!("the snapshot names no split of a file: {error}"))
            })?;
            match left.from {
                Some(_) => self.begun.push_back(left),
                None => self.splits.push_back(left.split),
            }
        }
        let begun = self.begun.iter().map(|left| &left.split);
        self.progress = Progress::of(begun.chain(&self.splits));
        Ok(())
    }

    fn state_type(&self) -> &'static str {
        "splits of files"
    }

    fn progress(&self) -> Option<f64> {
        Some(self.progress.share())
    }

    fn bytes_read(&self) -> u64 {
        self.progress.bytes()
    }
}
