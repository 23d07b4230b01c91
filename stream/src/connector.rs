//! What a source and a sink have to be for the API: planned once, then made anew for each subtask.
//!
//! A sink of a program's own:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use spindle_stream::connector::{Batch, OperatorError, Sink, SinkFactory};
//! use spindle_stream::context::SinkContext;
//!
//! struct Total(Arc<AtomicU64>);
//!
//! impl SinkFactory<u64> for Total {
//!     fn sink(&self, _: SinkContext) -> Result<Box<dyn Sink<u64>>, OperatorError> {
//!         Ok(Box::new(Self(Arc::clone(&self.0))))
//!     }
//! }
//!
//! impl Sink<u64> for Total {
//!     fn write(&mut self, batch: &mut Batch<u64>) -> Result<(), OperatorError> {
//!         self.0.fetch_add(batch.records.iter().sum(), Ordering::Relaxed);
//!         Ok(())
//!     }
//!
//!     fn finish(&mut self) -> Result<bool, OperatorError> {
//!         Ok(false)
//!     }
//! }
//!
//! let total = Arc::new(AtomicU64::new(0));
//! let mut harness = spindle_stream::testing::Harness::new(2);
//! harness.env().generate(5, |n| n).sink_to(Total(Arc::clone(&total)));
//! harness.run().unwrap();
//! assert_eq!(total.load(Ordering::Relaxed), 10);
//! ```

pub use spindle_common::job_graph::SourceSplit;
pub use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
pub use spindle_dataflow::connector::{OperatorError, Sink, SourceReader, SourceStatus};

use crate::context::{PlanContext, PlanError, SinkContext, SourceContext};

/// A source of records. Flink: `Source`.
pub trait Source<T>: Send + Sync + 'static {
    /// Divides the input between the subtasks: one list per subtask, `context.parallelism` of them, each read in order.
    /// Called where the job is submitted, never in a task.
    ///
    /// # Errors
    /// If the input does not exist or cannot be reached.
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError>;

    /// Makes the reader of one subtask, which reads these splits in order. Called in the task's thread.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError>;
}

/// What is known of a sink before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkPlan {
    /// Directories, as URIs, that it writes unfinished files into. They are removed when the job ends.
    pub staging: Vec<String>,
}

/// A sink for records. Flink: `Sink`.
pub trait SinkFactory<T>: Send + Sync + 'static {
    /// Checks what can be checked before the job runs, such as that the output does not exist yet. Called where the job is
    /// submitted, never in a task.
    ///
    /// # Errors
    /// If the output cannot be written there.
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        let _ = context;
        Ok(SinkPlan::default())
    }

    /// Makes the sink of one subtask. Called in the task's thread.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError>;
}
