//! What a source and a sink have to be for the API: planned once, then made anew for each subtask.

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::connector::{OperatorError, Sink, SourceReader};

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
