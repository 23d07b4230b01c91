//! What happens with a record that cannot be decoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spindle_dataflow::connector::OperatorError;

/// What a source does with a record that cannot be decoded: JSON or CSV that is none, a field of another type, a row with too
/// few fields. Input that cannot be read at all always fails the job.
///
/// ```
/// use spindle_stream::connectors::file::{BadRecords, FileSource, SkippedRecords};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # std::fs::write(directory.path().join("a.jsonl"), "7\nseven\n8\n").unwrap();
/// # let uri = format!("file://{}", directory.path().display());
/// let skipped = SkippedRecords::default();
/// let source = FileSource::json_lines::<u64>(uri).bad_records(BadRecords::Skip(skipped.clone()));
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness.env().source("numbers", source).collect("numbers");
/// assert_eq!(harness.run().unwrap().collected::<u64>("numbers"), [7, 8]);
/// assert_eq!(skipped.count(), 1);
/// ```
#[derive(Debug, Clone, Default)]
pub enum BadRecords {
    /// Fails the job, with file, place and field.
    #[default]
    Fail,
    /// Leaves the record out and counts it. The log names the first, the second, the fourth, the eighth … of them.
    Skip(SkippedRecords),
}

/// Number of records that were left out, by all subtasks of this process together.
#[derive(Debug, Clone, Default)]
pub struct SkippedRecords(Arc<AtomicU64>);

impl SkippedRecords {
    /// The number so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl BadRecords {
    /// Deals with one.
    ///
    /// # Errors
    /// The record's own, if the job is to fail.
    pub(super) fn handle(&self, error: OperatorError) -> Result<(), OperatorError> {
        match self {
            Self::Fail => Err(error),
            Self::Skip(skipped) => {
                let count = skipped.0.fetch_add(1, Ordering::Relaxed) + 1;
                if count.is_power_of_two() {
                    tracing::warn!(skipped = count, %error, "a record is left out");
                }
                Ok(())
            }
        }
    }
}
