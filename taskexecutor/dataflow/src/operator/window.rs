//! Windows: which records are gathered together, and when what comes of them is handed on.
//!
//! There are two operators. Tumbling and sliding windows that fire once, at their end, are gathered by pane and fire as a whole: no
//! timer, no walk of a tree and no allocation for a record. All others (sessions, global windows, other triggers, allowed lateness) are kept
//! key by key with the state and the timers of their trigger. [`window_operator`] chooses when a task is built.
//!
//! A window of processing time fires once its last millisecond is over. At the end of input, each timer of processing time that still
//! waits fires a last time, so that nothing that was gathered is lost: before the last watermark goes on, behind which whoever goes by
//! event time would not look at it any more.

mod aligned;
mod assign;
mod function;
mod general;
mod late;
mod open;
mod panes;
#[cfg(test)]
mod tests;
mod trigger;

use std::sync::Arc;

pub use assign::{
    AlignedWindows, GlobalWindows, SessionWindows, SlidingWindows, TimeWindow, TumblingWindows,
    WindowTime, Windows,
};
pub use function::{
    Contents, Contextual, Results, ToList, WindowContext, WindowFunction, WindowOutput,
};
pub use trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger,
    EndOfWindow, EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, Trigger,
    TriggerContext, TriggerResult,
};

use crate::collector::Collector;
use crate::key::KeySelector;
use crate::operator::OperatorContext;
use crate::operator::aggregate::AggregateFunction;
use crate::record::{Key, Record};
use aligned::AlignedOperator;
use general::GeneralOperator;

const NO_EVENT_TIME: &str = "got records without event time: assign_timestamps has to come before the window, or the window has to be on processing time";

/// What is known of windows before it is known what becomes of them.
pub struct WindowSpec<K, T> {
    /// What tells the key of a record.
    pub selector: Arc<dyn KeySelector<K, T>>,
    /// What divides records into windows.
    pub windows: Windows<T>,
    /// How much longer than to its end a window of event time is kept for late records.
    pub lateness_ms: i64,
    /// Name of the side output for records that are later than that.
    pub late: Option<Arc<str>>,
}

impl<K, T> Clone for WindowSpec<K, T> {
    fn clone(&self) -> Self {
        Self {
            selector: Arc::clone(&self.selector),
            windows: self.windows.clone(),
            lateness_ms: self.lateness_ms,
            late: self.late.clone(),
        }
    }
}

/// The operator that gathers records with `function` by key and window, has `trigger` say when a window fires, makes its output with
/// `window_function`, and feeds `next`.
pub fn window_operator<K, T, A, W, Tr, O>(
    context: &OperatorContext,
    spec: &WindowSpec<K, T>,
    function: Arc<A>,
    window_function: Arc<W>,
    trigger: Arc<Tr>,
    next: Box<dyn Collector<O>>,
) -> Box<dyn Collector<T>>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    match spec.windows {
        Windows::Aligned(windows)
            if spec.lateness_ms == 0 && trigger.fires_at_end_by(windows.time) =>
        {
            Box::new(AlignedOperator::new(
                context,
                windows,
                spec,
                function,
                window_function,
                next,
            ))
        }
        Windows::Aligned(_) | Windows::Session(_) | Windows::Global => Box::new(
            GeneralOperator::new(context, spec, function, window_function, trigger, next),
        ),
    }
}
