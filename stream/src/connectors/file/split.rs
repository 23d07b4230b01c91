//! Byte ranges of files: how input is divided between subtasks.

use serde::{Deserialize, Serialize};

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::connector::OperatorError;

/// A piece smaller than this is not worth a subtask of its own.
pub(super) const MIN_SPLIT: u64 = 1 << 20;
/// A piece larger than this is cut, so that progress and logs tell where a task is.
pub(super) const DEFAULT_SPLIT: u64 = 32 << 20;

/// A byte range of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSplit {
    /// The full path.
    pub(super) file: String,
    /// Length of the whole file when it was found.
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

/// A file to be divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputFile {
    /// The full path.
    pub(super) file: String,
    /// Its length in bytes.
    pub(super) len: u64,
    /// It can only be read from its beginning.
    pub(super) whole: bool,
}

/// Divides files between subtasks: one list per subtask, contiguous, about the same number of bytes each.
/// Empty files have nothing to read and disappear.
pub(super) fn divide(
    files: &[InputFile],
    parallelism: u32,
    cutting: Cutting,
) -> Vec<Vec<FileSplit>> {
    let parallelism = u64::from(parallelism.max(1));
    let total: u64 = files.iter().map(|file| file.len).sum();
    let share = total.div_ceil(parallelism).max(1);
    let mut lists: Vec<Vec<FileSplit>> = (0..parallelism).map(|_| Vec::new()).collect();
    // Where the file starts if all were one after the other.
    let mut base = 0;
    for InputFile { file, len, whole } in files.iter().filter(|file| file.len > 0) {
        let cutting = if *whole { Cutting::Never } else { cutting };
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
    pub(super) fn of<'a>(splits: impl IntoIterator<Item = &'a FileSplit>) -> Self {
        Self {
            total: splits.into_iter().map(FileSplit::len).sum(),
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

    fn files(lens: &[u64]) -> Vec<InputFile> {
        let of = |(n, len): (usize, &u64)| InputFile {
            file: format!("f{n}"),
            len: *len,
            whole: false,
        };
        lens.iter().enumerate().map(of).collect()
    }

    fn sizes(lens: &[u64], parallelism: u32, cutting: Cutting) -> Vec<Vec<u64>> {
        let files = files(lens);
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
        let mut packed = files(&[64 << 20, 64 << 20]);
        packed[0].whole = true;
        let lens = divide(&packed, 4, USUAL);
        let lens: Vec<u64> = lens.iter().flatten().map(FileSplit::len).collect();
        assert_eq!(lens, [64 << 20, 32 << 20, 32 << 20]);
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
            let files = files(&lens);
            let cutting = if whole { Cutting::Never } else { Cutting::Between { min, max } };
            let lists = divide(&files, parallelism, cutting);
            prop_assert_eq!(lists.len(), parallelism as usize);
            let mut splits = lists.into_iter().flatten();
            let mut next = splits.next();
            for InputFile { file, len, .. } in &files {
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
