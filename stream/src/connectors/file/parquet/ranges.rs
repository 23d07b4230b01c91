//! A file of any of our file systems as Parquet's reader wants it: a piece here and a piece there.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use spindle_dataflow::connector::OperatorError;
use spindle_hadoop::fs::FileReader;

use super::super::error::task_error;
use crate::context::IoContext;

/// Bytes that are fetched at once of a column whose pages are smaller.
const WINDOW: usize = 1 << 20;

/// A file, of which one window for each column is held.
#[derive(Clone)]
pub(super) struct FileRanges {
    inner: Arc<Inner>,
}

struct Inner {
    io: Arc<IoContext>,
    file: FileReader,
    /// The last fetched last; their first bytes stand at the offsets.
    windows: Mutex<Vec<(u64, Bytes)>>,
    /// How many may be held, and where columns end, ascending; not known before the footer was read.
    columns: OnceLock<(usize, Vec<u64>)>,
    /// Why a read has failed: Parquet's own errors keep only the text.
    failure: Mutex<Option<OperatorError>>,
}

impl FileRanges {
    pub(super) fn new(io: Arc<IoContext>, file: FileReader) -> Self {
        Self {
            inner: Arc::new(Inner {
                io,
                file,
                windows: Mutex::default(),
                columns: OnceLock::new(),
                failure: Mutex::default(),
            }),
        }
    }

    /// Tells where the columns lie.
    pub(super) fn know_columns(&self, groups: &[RowGroupMetaData]) {
        let columns = groups.iter().flat_map(RowGroupMetaData::columns);
        let mut ends: Vec<u64> = columns
            .map(|column| {
                let (start, len) = column.byte_range();
                start + len
            })
            .collect();
        ends.sort_unstable();
        let most = groups.iter().map(RowGroupMetaData::num_columns).max();
        let _ = self.inner.columns.set((most.unwrap_or(1), ends));
    }

    /// Why the last read has failed, if the file system is at fault.
    pub(super) fn failure(&self) -> Option<OperatorError> {
        let failure = self.inner.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// At least `len` bytes from `start`, as far as the file has them, or more of the same column.
    fn fetch(&self, start: u64, len: usize) -> Result<Bytes, ParquetError> {
        let Inner {
            io,
            file,
            windows,
            columns,
            failure,
        } = &*self.inner;
        let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(at, bytes): &(u64, Bytes)| {
            let from = usize::try_from(start.checked_sub(*at)?).ok()?;
            bytes.get(from..).filter(|rest| !rest.is_empty())?;
            Some(bytes.slice(from..))
        };
        let found = windows.iter().position(|window| of(window).is_some());
        if let Some(found) = found {
            let bytes = of(&windows[found]).unwrap_or_default();
            if bytes.len() >= len {
                return Ok(bytes);
            }
            // Read on in the same column.
            windows.remove(found);
        }
        let (most, end) = match columns.get() {
            None => (1, file.len()),
            Some((most, ends)) => {
                let next = ends.partition_point(|end| *end <= start);
                (*most, ends.get(next).copied().unwrap_or_else(|| file.len()))
            }
        };
        let column = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let read = io.block_on(file.read_at(start, len.max(WINDOW.min(column))));
        let bytes = read.map_err(|error| {
            let error = task_error(&error);
            let text = error.to_string();
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            ParquetError::General(text)
        })?;
        if windows.len() >= most {
            windows.remove(0);
        }
        windows.push((start, bytes.clone()));
        Ok(bytes)
    }
}

impl Length for FileRanges {
    fn len(&self) -> u64 {
        self.inner.file.len()
    }
}

impl ChunkReader for FileRanges {
    type T = RangeReader;

    fn get_read(&self, start: u64) -> Result<RangeReader, ParquetError> {
        Ok(RangeReader {
            ranges: self.clone(),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = self.fetch(start, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!(
                "{length} bytes are expected at {start}, and the file has {}",
                self.len()
            )));
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Reads on from an offset.
pub(super) struct RangeReader {
    ranges: FileRanges,
    at: u64,
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.ranges.fetch(self.at, 1).map_err(io::Error::other)?;
        let len = buffer.len().min(bytes.len());
        bytes.copy_to_slice(&mut buffer[..len]);
        self.at += len as u64;
        Ok(len)
    }
}
