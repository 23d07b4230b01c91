//! What becomes of a window that fires.

use spindle_common::time::{EventTime, Watermark};

use crate::collector::Output;
use crate::operator::window::TimeWindow;
use crate::record::Record;
use crate::task::TaskError;

use super::super::AggregateFunction;

/// Which window fires, and when. Flink: `ProcessWindowFunction.Context`.
#[derive(Debug, Clone, Copy)]
pub struct WindowContext<'a, K> {
    /// The key.
    pub key: &'a K,
    /// The window.
    pub window: TimeWindow,
    /// The watermark as the operator sees it.
    pub watermark: Watermark,
    /// Processing time as the operator last read it: with windows of event time not newer than the last batch.
    pub processing_time: EventTime,
}

/// Takes what a window function makes. The event time of all of it is the window's last instant.
pub struct WindowOutput<'a, O> {
    out: &'a mut Output<O>,
    time: EventTime,
    result: Result<(), TaskError>,
}

impl<'a, O: 'static> WindowOutput<'a, O> {
    pub(super) const fn new(out: &'a mut Output<O>, window: TimeWindow) -> Self {
        Self {
            out,
            time: window.max_timestamp(),
            result: Ok(()),
        }
    }

    /// Hands a record on.
    #[inline]
    pub fn emit(&mut self, record: O) {
        if self.result.is_ok() {
            self.result = self.out.push(record, Some(self.time));
        }
    }

    pub(super) fn finish(self) -> Result<(), TaskError> {
        self.result
    }
}

/// Makes the output of a window that fires, from what it has gathered. The built-in ones: [`Results`], [`Contextual`], [`Contents`].
pub trait WindowFunction<K, T, A: AggregateFunction<T>, O>: Send + Sync + 'static {
    /// Hands on what comes of a window.
    fn fire(
        &self,
        function: &A,
        context: &WindowContext<'_, K>,
        accumulator: &A::Accumulator,
        out: &mut WindowOutput<'_, O>,
    );
}

/// One record for each window, made of key, window and result.
pub struct Results<F>(pub F);

impl<K, T, A, O, F> WindowFunction<K, T, A, O> for Results<F>
where
    A: AggregateFunction<T>,
    O: 'static,
    F: Fn(&K, TimeWindow, A::Output) -> O + Send + Sync + 'static,
{
    #[inline]
    fn fire(
        &self,
        function: &A,
        context: &WindowContext<'_, K>,
        accumulator: &A::Accumulator,
        out: &mut WindowOutput<'_, O>,
    ) {
        let result = function.result(accumulator);
        out.emit((self.0)(context.key, context.window, result));
    }
}

/// Any number of records for each window, made of its context and result.
pub struct Contextual<F>(pub F);

impl<K, T, A, O, F> WindowFunction<K, T, A, O> for Contextual<F>
where
    A: AggregateFunction<T>,
    O: 'static,
    F: Fn(&WindowContext<'_, K>, A::Output, &mut WindowOutput<'_, O>) + Send + Sync + 'static,
{
    fn fire(
        &self,
        function: &A,
        context: &WindowContext<'_, K>,
        accumulator: &A::Accumulator,
        out: &mut WindowOutput<'_, O>,
    ) {
        (self.0)(context, function.result(accumulator), out);
    }
}

/// Any number of records for each window, made of its context and accumulator.
pub struct Contents<F>(pub F);

impl<K, T, A, O, F> WindowFunction<K, T, A, O> for Contents<F>
where
    A: AggregateFunction<T>,
    O: 'static,
    F: Fn(&WindowContext<'_, K>, &A::Accumulator, &mut WindowOutput<'_, O>) + Send + Sync + 'static,
{
    fn fire(
        &self,
        _: &A,
        context: &WindowContext<'_, K>,
        accumulator: &A::Accumulator,
        out: &mut WindowOutput<'_, O>,
    ) {
        (self.0)(context, accumulator, out);
    }
}

/// An [`AggregateFunction`] that keeps all records, in the order in which they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct ToList;

impl<T: Record> AggregateFunction<T> for ToList {
    type Accumulator = Vec<T>;
    type Output = Vec<T>;

    const KEEPS_RECORDS: bool = true;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, accumulator: &mut Vec<T>, record: &T) {
        accumulator.push(record.clone());
    }

    fn take(&self, accumulator: &mut Vec<T>, record: T) {
        accumulator.push(record);
    }

    fn merge(&self, accumulator: &mut Vec<T>, other: &Vec<T>) {
        accumulator.extend_from_slice(other);
    }

    fn result(&self, accumulator: &Vec<T>) -> Vec<T> {
        accumulator.clone()
    }
}
