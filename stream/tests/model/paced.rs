//! A source that takes its time, so that there is something to kill: each of its subtasks does a number of steps, however much it has to read.
//! Some do fewer than others, so that there are checkpoints of jobs of which a part has ended.

use std::ops::Range;
use std::sync::Arc;

use spindle_stream::connector::{
    Batch, OperatorError, Source, SourceReader, SourceSplit, SourceStatus,
};
use spindle_stream::context::{PlanContext, PlanError, SourceContext};

/// The most steps that a subtask's reader does, whether from the beginning or from a snapshot.
pub(crate) const STEPS: u64 = 12;
/// How many those do that stand beside each other.
const STEPS_OF: [u64; 4] = [STEPS, STEPS / 2, STEPS, 3];

pub(crate) struct Paced<T>(Arc<Vec<T>>);

impl<T> Paced<T> {
    pub(crate) fn new(records: Vec<T>) -> Self {
        Self(Arc::new(records))
    }
}

impl<T: Clone + Send + Sync + 'static> Source<T> for Paced<T> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        let (count, parts) = (self.0.len(), context.parallelism as usize);
        let split = |part: usize| {
            let range = count * part / parts..count * (part + 1) / parts;
            vec![SourceSplit {
                name: format!("{range:?}"),
                payload: serde_json::to_vec(&range).unwrap(),
            }]
        };
        Ok((0..parts).map(split).collect())
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        let place = context.subtask as usize + self.0.len();
        let mut reader = Reader {
            records: Arc::clone(&self.0),
            ranges: Vec::new(),
            steps: STEPS_OF[place % STEPS_OF.len()] as usize,
        };
        reader.restore(splits.into_iter().map(|split| split.payload).collect())?;
        Ok(Box::new(reader))
    }
}

struct Reader<T> {
    records: Arc<Vec<T>>,
    ranges: Vec<Range<usize>>,
    /// How many are left.
    steps: usize,
}

impl<T: Clone + Send + Sync> SourceReader<T> for Reader<T> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        let left: usize = self.ranges.iter().map(ExactSizeIterator::len).sum();
        let mut count = left.div_ceil(self.steps);
        for range in &mut self.ranges {
            let end = range.end.min(range.start + count);
            count -= end - range.start;
            out.records
                .extend_from_slice(&self.records[range.start..end]);
            range.start = end;
        }
        self.ranges.retain(|range| !range.is_empty());
        self.steps -= 1;
        Ok(if self.steps == 0 {
            SourceStatus::EndOfInput
        } else {
            SourceStatus::More
        })
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        let entries = self.ranges.iter().map(|it| serde_json::to_vec(it).unwrap());
        Ok(Some(entries.collect()))
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let ranges = entries.iter().map(|it| serde_json::from_slice(it).unwrap());
        self.ranges = ranges.collect();
        // No record is to come after those that are much later.
        self.ranges.sort_by_key(|range| range.start);
        Ok(())
    }
}
