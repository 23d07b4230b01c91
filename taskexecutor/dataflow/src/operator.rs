//! The operators: each takes batches ([`crate::collector::Collector`]) and calls the next of its chain.

use std::sync::Arc;

use crate::chain::Clock;
use crate::collector::SideOutputs;
use crate::task::TaskMetrics;

mod aggregate;
mod groups;
mod keyed;
mod sink;
mod stateless;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod window;

pub use aggregate::{AggregateFunction, Count, Fold, MaxBy, Reduce};
pub use keyed::{RunningAggregate, Scan};
pub use sink::SinkOperator;
pub use stateless::{Filter, FlatMap, Map};
pub use time::{AssignTimestamps, WatermarkStrategy};
pub use window::{TimeWindow, TumblingWindows, WindowFunction, WindowOperator};

/// Which operator of which subtask one is.
#[derive(Clone)]
pub struct OperatorContext {
    /// The operator's name.
    pub name: Arc<str>,
    /// Index of the subtask.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The counters of the task.
    pub metrics: Arc<TaskMetrics>,
    /// The clocks.
    pub clock: Clock,
    /// Where it puts what is not its main output.
    pub sides: SideOutputs,
}
