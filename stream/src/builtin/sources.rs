//! A collection and a generator: both divide a range of numbers between subtasks.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};

/// Records that the program holds. The lock is taken once per subtask.
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
        let ranges = ranges(&splits)?;
        let all = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mine = Vec::new();
        for range in ranges {
            let range = range.start as usize..range.end as usize;
            mine.extend_from_slice(all.get(range).ok_or_else(foreign)?);
        }
        Ok(Box::new(RangeReader::new(
            vec![Range {
                start: 0,
                end: mine.len() as u64,
            }],
            move |at: u64| mine[at as usize].clone(),
        )))
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
        Ok(Box::new(RangeReader::new(ranges(&splits)?, move |at| {
            make(at)
        })))
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

impl<T, F: Fn(u64) -> T + Send> SourceReader<T> for RangeReader<F> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        let Some(range) = self.ranges.front_mut() else {
            return Ok(SourceStatus::EndOfInput);
        };
        let end = range.end.min(range.start + BATCH_RECORDS as u64);
        self.read += end - range.start;
        out.records.extend((range.start..end).map(&self.make));
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
            let mut payload = start.to_le_bytes().to_vec();
            payload.extend_from_slice(&end.to_le_bytes());
            vec![SourceSplit {
                name: format!("{start}..{end}"),
                payload,
            }]
        })
        .collect()
}

fn ranges(splits: &[SourceSplit]) -> Result<Vec<Range<u64>>, OperatorError> {
    splits
        .iter()
        .map(|split| {
            let (start, rest) = split.payload.split_first_chunk::<8>()?;
            let end = rest.first_chunk::<8>()?;
            let (start, end) = (u64::from_le_bytes(*start), u64::from_le_bytes(*end));
            (start <= end).then_some(start..end)
        })
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
