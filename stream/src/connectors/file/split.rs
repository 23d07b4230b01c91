//! Byte ranges of files: how input is divided between subtasks, and how the lines of one range are read.
//!
//! A line belongs to the split in which its first byte lies. So a split that does not start at 0 skips to after the first
//! newline at or after `start - 1`, and every split reads past its end to finish its last line. Hadoop: `TextInputFormat`.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use memchr::memchr;
use serde::{Deserialize, Serialize};

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::connector::OperatorError;
use spindle_hadoop::fs::{DEFAULT_CHUNK, FileReader, SequentialReader};

use super::error::task_error;
use crate::context::IoContext;

/// A piece smaller than this is not worth a subtask of its own.
pub(super) const MIN_SPLIT: u64 = 1 << 20;
/// A piece larger than this is cut, so that progress and logs tell where a task is.
pub(super) const DEFAULT_SPLIT: u64 = 32 << 20;

/// A byte range of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSplit {
    /// The full path.
    pub(super) file: String,
    /// Length of the whole file when the job was planned.
    pub(super) file_len: u64,
    /// First byte.
    pub(super) start: u64,
    /// After the last byte.
    pub(super) end: u64,
}

impl FileSplit {
    /// Its length in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// As it travels in the job graph.
    pub(super) fn encode(&self) -> SourceSplit {
        SourceSplit {
            name: format!("{}:{}+{}", self.file, self.start, self.len()),
            payload: serde_json::to_vec(self).expect("text and numbers are always JSON"),
        }
    }

    /// The inverse of [`Self::encode`].
    pub(super) fn decode(split: &SourceSplit) -> Result<Self, OperatorError> {
        serde_json::from_slice(&split.payload).map_err(|error| {
            OperatorError::permanent(format!("`{}` is no split of a file: {error}", split.name))
        })
    }
}

/// How finely files may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cutting {
    /// Pieces of these sizes in bytes.
    Between {
        /// No piece is smaller, unless the whole file is.
        min: u64,
        /// No piece is larger, unless cutting it would make it smaller than `min`.
        max: u64,
    },
    /// Each file stays whole.
    Never,
}

/// Divides files, given by name and length, between subtasks: one list per subtask, contiguous, about the same number of bytes each.
/// Empty files have nothing to read and disappear.
pub(super) fn divide(
    files: &[(String, u64)],
    parallelism: u32,
    cutting: Cutting,
) -> Vec<Vec<FileSplit>> {
    let parallelism = u64::from(parallelism.max(1));
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let share = total.div_ceil(parallelism).max(1);
    let mut lists: Vec<Vec<FileSplit>> = (0..parallelism).map(|_| Vec::new()).collect();
    // Where the file starts if all were one after the other.
    let mut base = 0;
    for (file, len) in files.iter().filter(|(_, len)| *len > 0) {
        for window in cuts(base, *len, share, cutting).windows(2) {
            let (start, end) = (window[0], window[1]);
            let middle = base + start + (end - start) / 2;
            let subtask = (middle / share).min(parallelism - 1);
            lists[usize::try_from(subtask).unwrap_or(0)].push(FileSplit {
                file: file.clone(),
                file_len: *len,
                start,
                end,
            });
        }
        base += len;
    }
    lists
}

/// The offsets at which a file is cut, 0 and its length included, ascending.
fn cuts(base: u64, len: u64, share: u64, cutting: Cutting) -> Vec<u64> {
    let Cutting::Between { min, max } = cutting else {
        return vec![0, len];
    };
    let (min, max) = (min.max(1), max.max(1));
    // First where one subtask's share ends and the next one's begins, or as near as the smallest piece allows.
    let mut shares = vec![0];
    let mut last = 0;
    let mut boundary = (base / share + 1) * share;
    while boundary < base + len {
        let (earliest, latest) = (last + min, len.saturating_sub(min));
        if earliest > latest {
            break;
        }
        last = (boundary - base).clamp(earliest, latest);
        shares.push(last);
        boundary += share;
    }
    shares.push(len);
    // Then evenly what is still too large.
    let mut cuts = vec![0];
    for window in shares.windows(2) {
        let (start, size) = (window[0], window[1] - window[0]);
        let pieces = size.div_ceil(max).min((size / min).max(1));
        for piece in 1..=pieces {
            cuts.push(start + size / pieces * piece + (size % pieces) * piece / pieces);
        }
    }
    cuts
}

/// The bytes of a split's whole lines, in order. Fetches ahead.
#[derive(Debug)]
pub(super) struct SplitBytes {
    io: Arc<IoContext>,
    input: SequentialReader,
    split: FileSplit,
    /// What is at hand; its first byte stands at `offset`.
    current: Bytes,
    offset: u64,
    skip_line: bool,
    ended: bool,
}

impl SplitBytes {
    /// Opens the split's file.
    pub(super) fn open(io: &Arc<IoContext>, split: FileSplit) -> Result<Self, OperatorError> {
        let file = open(io, &split)?;
        // The byte before tells whether the split starts with a line of its own.
        let offset = split.start.saturating_sub(1);
        Ok(Self {
            io: Arc::clone(io),
            input: file.sequential(offset, DEFAULT_CHUNK),
            skip_line: split.start > 0,
            ended: split.start == split.end,
            split,
            current: Bytes::new(),
            offset,
        })
    }

    /// What is read.
    pub(super) const fn split(&self) -> &FileSplit {
        &self.split
    }

    /// The next bytes with the offset of the first; nothing after the split's last line.
    pub(super) fn next_bytes(&mut self) -> Result<Option<(u64, Bytes)>, OperatorError> {
        if !self.fill()? {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.current);
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        Ok(Some((offset, bytes)))
    }

    /// Offset of the first byte that will be read.
    pub(super) fn first_offset(&mut self) -> Result<u64, OperatorError> {
        self.fill()?;
        Ok(self.offset)
    }

    /// Makes sure that some bytes are at hand; false at the end.
    fn fill(&mut self) -> Result<bool, OperatorError> {
        while self.current.is_empty() && !self.ended {
            let chunk = self.io.block_on(self.input.next_chunk());
            let Some(chunk) = chunk.map_err(|error| task_error(&error))? else {
                self.ended = true;
                break;
            };
            self.take(chunk);
        }
        Ok(!self.current.is_empty())
    }

    /// Keeps of the chunk at `offset` what belongs to the split.
    fn take(&mut self, mut chunk: Bytes) {
        if self.skip_line {
            let Some(newline) = memchr(b'\n', &chunk) else {
                self.offset += chunk.len() as u64;
                // The line that ends here or later is another split's, and the next one starts too late.
                self.ended = self.offset >= self.split.end;
                return;
            };
            chunk.advance(newline + 1);
            self.offset += newline as u64 + 1;
            self.skip_line = false;
            if self.offset >= self.split.end {
                self.ended = true;
                return;
            }
        }
        // The newline that ends the last line stands at `end - 1` or later.
        let from = (self.split.end - 1).saturating_sub(self.offset);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        if let Some(rest) = chunk.get(from..)
            && let Some(newline) = memchr(b'\n', rest)
        {
            chunk.truncate(from + newline + 1);
            self.ended = true;
        }
        self.current = chunk;
    }
}

impl Read for SplitBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.fill().map_err(io::Error::other)? {
            return Ok(0);
        }
        let len = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        self.offset += len as u64;
        Ok(len)
    }
}

/// Opens a split's file if it still is what was planned.
pub(super) fn open(io: &Arc<IoContext>, split: &FileSplit) -> Result<FileReader, OperatorError> {
    let fs = io.file_system().map_err(|error| task_error(&error))?;
    let file = fs
        .resolve(&split.file)
        .map_err(|error| task_error(&error))?;
    let file = io
        .block_on(fs.open(&file))
        .map_err(|error| task_error(&error))?;
    if file.len() != split.file_len {
        return Err(OperatorError::permanent(format!(
            "`{}` changed: it had {} bytes when the job was planned and has {} now; input must not change, or still be written, while a job reads it",
            split.file,
            split.file_len,
            file.len()
        )));
    }
    Ok(file)
}

/// How much of its splits a reader has read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Bytes of all splits.
    pub(super) total: u64,
    /// Bytes of those that were read to their end.
    pub(super) finished: u64,
    /// Bytes read of the one being read.
    pub(super) current: u64,
}

impl Progress {
    /// Nothing read yet.
    pub(super) fn of(splits: &[FileSplit]) -> Self {
        Self {
            total: splits.iter().map(FileSplit::len).sum(),
            ..Self::default()
        }
    }

    /// The reader stands at this offset of the split.
    pub(super) fn at(&mut self, split: &FileSplit, offset: u64) {
        self.current = offset.saturating_sub(split.start).min(split.len());
    }

    /// The split was read to its end.
    pub(super) const fn finish(&mut self, split: &FileSplit) {
        self.finished += split.len();
        self.current = 0;
    }

    /// Bytes read so far.
    pub(super) const fn bytes(self) -> u64 {
        self.finished + self.current
    }

    /// Share that was read, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub(super) fn share(self) -> f64 {
        if self.total == 0 {
            1.0
        } else {
            self.bytes() as f64 / self.total as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(files: &[u64], parallelism: u32, cutting: Cutting) -> Vec<Vec<u64>> {
        let files: Vec<_> = (0..)
            .zip(files)
            .map(|(n, len)| (format!("f{n}"), *len))
            .collect();
        divide(&files, parallelism, cutting)
            .iter()
            .map(|list| list.iter().map(FileSplit::len).collect())
            .collect()
    }

    const USUAL: Cutting = Cutting::Between {
        min: MIN_SPLIT,
        max: DEFAULT_SPLIT,
    };

    #[test]
    fn a_file_of_31_megabytes_gives_each_of_three_subtasks_work() {
        let lists = sizes(&[31_053_850], 3, USUAL);
        assert_eq!(lists, [[10_351_284], [10_351_284], [10_351_282]]);
    }

    #[test]
    fn large_files_are_cut_into_pieces_of_at_most_the_split_size() {
        let lists = sizes(&[100 << 20], 1, USUAL);
        assert_eq!(lists, [[25 << 20; 4]]);
        let lists = sizes(&[96 << 20, 32 << 20], 2, USUAL);
        assert_eq!(lists, [[32 << 20, 32 << 20], [32 << 20, 32 << 20]]);
    }

    #[test]
    fn small_files_are_not_cut_but_dealt_out() {
        assert_eq!(sizes(&[10, 10, 10], 3, USUAL), [[10], [10], [10]]);
        let lists = sizes(&[500_000], 3, USUAL);
        assert_eq!(lists.concat(), [500_000]);
        assert_eq!(
            sizes(&[0, 0], 2, USUAL),
            [Vec::<u64>::new(), Vec::new()],
            "empty files"
        );
        assert_eq!(sizes(&[], 2, USUAL).len(), 2, "no files");
    }

    #[test]
    fn whole_files_stay_whole() {
        let lists = sizes(&[64 << 20, 1, 64 << 20], 2, Cutting::Never);
        assert_eq!(lists, [vec![64 << 20, 1], vec![64 << 20]]);
    }

    #[test]
    fn a_split_says_what_it_is_and_reads_back() {
        let split = FileSplit {
            file: "hdfs://nn:8020/a b.csv".to_owned(),
            file_len: 9,
            start: 2,
            end: 7,
        };
        assert_eq!(split.encode().name, "hdfs://nn:8020/a b.csv:2+5");
        assert_eq!(FileSplit::decode(&split.encode()), Ok(split));
    }

    proptest! {
        #[test]
        fn splits_cover_every_byte_once_and_in_order(
            lens in prop::collection::vec(0_u64..5000, 0..6),
            parallelism in 1_u32..9,
            min in 1_u64..2000,
            max in 1_u64..3000,
            whole: bool,
        ) {
            let files: Vec<_> = (0..).zip(&lens).map(|(n, len)| (format!("f{n}"), *len)).collect();
            let cutting = if whole { Cutting::Never } else { Cutting::Between { min, max } };
            let lists = divide(&files, parallelism, cutting);
            prop_assert_eq!(lists.len(), parallelism as usize);
            let mut splits = lists.into_iter().flatten();
            let mut next = splits.next();
            for (file, len) in &files {
                let mut at = 0;
                while at < *len {
                    let split = next.take().expect("bytes are left");
                    next = splits.next();
                    prop_assert_eq!((&split.file, split.start, split.file_len), (file, at, *len));
                    prop_assert!(split.end > split.start);
                    prop_assert!(split.len() >= min || split.len() == *len);
                    at = split.end;
                }
            }
            prop_assert!(next.is_none());
        }

        #[test]
        fn no_subtask_has_a_piece_more_than_its_share(
            lens in prop::collection::vec(1_u64..5000, 1..6),
            parallelism in 1_u32..9,
        ) {
            let total: u64 = lens.iter().sum();
            for list in sizes(&lens, parallelism, Cutting::Between { min: 1, max: 10_000 }) {
                prop_assert!(list.iter().sum::<u64>() <= total.div_ceil(u64::from(parallelism)));
            }
        }
    }
}
