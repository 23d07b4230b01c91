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

/// Reads some splits, one after the other, to the end.
pub(super) struct SplitReader<D> {
    decoder: D,
    splits: VecDeque<FileSplit>,
    open: Option<FileSplit>,
    progress: Progress,
}

impl<D> SplitReader<D> {
    pub(super) fn new(decoder: D, splits: Vec<FileSplit>) -> Self {
        Self {
            decoder,
            progress: Progress::of(&splits),
            splits: splits.into(),
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
                    let Some(split) = self.splits.pop_front() else {
                        return Ok(SourceStatus::EndOfInput);
                    };
                    self.decoder.open(&split, None)?;
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

    fn progress(&self) -> Option<f64> {
        Some(self.progress.share())
    }

    fn bytes_read(&self) -> u64 {
        self.progress.bytes()
    }
}
