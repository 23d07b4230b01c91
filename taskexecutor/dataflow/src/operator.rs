//! The operators: each takes batches ([`crate::collector::Collector`]) and calls the next of its chain.

use std::sync::Arc;

use crate::chain::Clock;
use crate::collector::SideOutputs;
use crate::mailbox::Mailbox;
use crate::state::store::StateStores;
use crate::task::TaskMetrics;

mod aggregate;
mod async_map;
mod broadcast;
mod co_process;
pub(crate) mod context;
pub(crate) mod groups;
mod interval_join;
mod keyed;
mod keyed_process;
mod process;
mod sink;
mod stateless;
mod stored;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod two_inputs;
mod window;

pub use aggregate::{AggregateFunction, Count, Fold, MaxBy, Reduce};
pub use async_map::{Answer, AnswerOrder, Ask, AsyncDriver, AsyncMap, Request};
pub use broadcast::{
    BroadcastProcess, BroadcastProcessFunction, KeyedBroadcastContext, KeyedBroadcastProcess,
    KeyedBroadcastProcessFunction,
};
pub use co_process::{CoProcess, CoProcessFunction, KeyedCoProcess, KeyedCoProcessFunction};
pub use context::{BroadcastContext, KeyedContext, ProcessContext, with_causes};
pub use interval_join::{Interval, IntervalJoin, LateOutputs};
pub use keyed::{RunningAggregate, Scan};
pub use keyed_process::{KeyedProcess, KeyedProcessFunction};
pub use process::{FunctionResult, Process, ProcessFunction};
pub use sink::SinkOperator;
pub use stateless::{Filter, FlatMap, Map};
pub use time::{AssignTimestamps, WatermarkGenerator, WatermarkStrategy};
pub use window::{
    AlignedWindows, Contents, Contextual, ContinuousEventTimeTrigger,
    ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger, EndOfWindow, EventTimeTrigger,
    GlobalWindows, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, Results, SessionWindows,
    SlidingWindows, TimeWindow, ToList, Trigger, TriggerContext, TriggerResult, TumblingWindows,
    WindowContext, WindowFunction, WindowOutput, WindowSpec, WindowTime, Windows, window_operator,
};

/// Which operator of which subtask one is.
#[derive(Clone)]
pub struct OperatorContext {
    /// Its stable identity: state is found again by it.
    pub uid: Arc<str>,
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
    /// How the task's thread is reached from outside.
    pub mailbox: Mailbox,
    /// Where it puts what is not its main output.
    pub sides: SideOutputs,
    /// What it keeps the state of keys in; none if in memory.
    pub stores: Option<Arc<dyn StateStores>>,
}
