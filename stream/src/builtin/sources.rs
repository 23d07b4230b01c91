//! A collection and a generator: both divide a range of numbers between subtasks.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};

/// Records that the program holds. The lock is taken once for a batch.
pub(crate) struct CollectionSource<T> {
    records: Arc<Mutex<Vec<T>>>,
    count: u64,
}

impl<T> CollectionSource<T> {
    pub(crate) fn new(records: Vec<T>) -> Self {
        Self {
            count: records.len() as u64,
            records: Arc::new(Mutex::new(records)),
        }
    }
}

impl<T: Clone + Send + 'static> Source<T> for CollectionSource<T> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        Ok(divide(self.count, context.parallelism))
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        _: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        let all = Arc::clone(&self.records);
        let count = self.count;
        Ok(Box::new(RangeReader::new(
            ranges(&splits)?,
            move |range: Range<u64>, out: &mut Vec<T>| {
                if range.end > count {
                    return Err(foreign());
                }
                let all = all.lock().unwrap_or_else(PoisonError::into_inner);
                out.extend_from_slice(&all[range.start as usize..range.end as usize]);
                Ok(())
            },
        )))
    }

    fn waits(&self) -> bool {
        false
    }
}

/// Records made from their numbers.
pub(crate) struct GeneratorSource<F> {
    count: u64,
    make: Arc<F>,
}

impl<F> GeneratorSource<F> {
    pub(crate) fn new(count: u64, make: F) -> Self {
        Self {
            count,
            make: Arc::new(make),
        }
    }
}

impl<T: 'static, F: Fn(u64) -> T + Send + Sync + 'static> Source<T> for GeneratorSource<F> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        Ok(divide(self.count, context.parallelism))
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        _: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        let make = Arc::clone(&self.make);
        Ok(Box::new(RangeReader::new(
            ranges(&splits)?,
            move |range: Range<u64>, out: &mut Vec<T>| {
                out.extend(range.map(&*make));
                Ok(())
            },
        )))
    }

    fn waits(&self) -> bool {
        false
    }
}

struct RangeReader<F> {
    /// What is left, in order.
    ranges: std::collections::VecDeque<Range<u64>>,
    total: u64,
    read: u64,
    make: F,
}

impl<F> RangeReader<F> {
    fn new(ranges: Vec<Range<u64>>, make: F) -> Self {
        Self {
            total: ranges.iter().map(|range| range.end - range.start).sum(),
            ranges: ranges.into(),
            read: 0,
            make,
        }
    }
}

impl<T, F> SourceReader<T> for RangeReader<F>
where
    F: Fn(Range<u64>, &mut Vec<T>) -> Result<(), OperatorError> + Send,
{
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        let Some(range) = self.ranges.front_mut() else {
            return Ok(SourceStatus::EndOfInput);
        };
        let end = range.end.min(range.start + BATCH_RECORDS as u64);
        self.read += end - range.start;
        (self.make)(range.start..end, &mut out.records)?;
        range.start = end;
        if range.is_empty() {
            self.ranges.pop_front();
        }
        Ok(if self.ranges.is_empty() {
            SourceStatus::EndOfInput
        } else {
            SourceStatus::More
        })
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        Ok(Some(self.ranges.iter().map(encode).collect()))
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let ranges = entries.iter().map(|entry| decode(entry));
        let mut ranges = ranges.collect::<Option<Vec<_>>>().ok_or_else(foreign)?;
        self.read = 0;
        self.total = ranges.iter().map(|range| range.end - range.start).sum();
        // Dealt out anew they may stand in any order; event times, if there are any, mostly rise with the numbers.
        ranges.sort_unstable_by_key(|range| range.start);
        self.ranges = ranges.into();
        Ok(())
    }

    fn state_type(&self) -> &'static str {
        "ranges"
    }

    fn progress(&self) -> Option<f64> {
        Some(if self.total == 0 {
            1.0
        } else {
            self.read as f64 / self.total as f64
        })
    }
}

/// One split for each subtask, alike in size to one.
fn divide(count: u64, parallelism: u32) -> Vec<Vec<SourceSplit>> {
    let bound =
        |part: u32| (u128::from(count) * u128::from(part) / u128::from(parallelism.max(1))) as u64;
    (0..parallelism)
        .map(|part| {
            let (start, end) = (bound(part), bound(part + 1));
            vec![SourceSplit {
                name: format!("{start}..{end}"),
                payload: encode(&(start..end)),
            }]
        })
        .collect()
}

fn encode(range: &Range<u64>) -> Vec<u8> {
    [range.start.to_le_bytes(), range.end.to_le_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<Range<u64>> {
    let (start, rest) = bytes.split_first_chunk::<8>()?;
    let end = rest.first_chunk::<8>()?;
    let (start, end) = (u64::from_le_bytes(*start), u64::from_le_bytes(*end));
    (start <= end).then_some(start..end)
}

fn ranges(splits: &[SourceSplit]) -> Result<Vec<Range<u64>>, OperatorError> {
    splits
        .iter()
        .map(|split| decode(&split.payload))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(foreign)
}

fn foreign() -> OperatorError {
    OperatorError::permanent(
        "got a split that this source did not plan: the program is not the same in all processes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_exactly_one_split() {
        for count in [0, 1, 7, 1000] {
            for parallelism in 1..9 {
                let lists = divide(count, parallelism);
                assert_eq!(lists.len(), parallelism as usize);
                let all: Vec<u64> = lists
                    .iter()
                    .flat_map(|splits| ranges(splits).unwrap())
                    .flatten()
                    .collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_foreign_split_is_an_error() {
        for payload in [
            vec![],
            vec![0; 15],
            [9_u64, 3].map(u64::to_le_bytes).concat(),
        ] {
            let split = SourceSplit {
                name: String::new(),
                payload,
            };
            assert!(ranges(&[split]).is_err());
        }
    }
}
