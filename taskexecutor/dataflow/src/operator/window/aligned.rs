//! Tumbling and sliding windows that fire once, at their end.

use std::any::type_name;
use std::sync::Arc;

use spindle_common::checkpoint::BarrierAlignment;
use spindle_common::time::{EventTime, Watermark};

use super::assign::AlignedWindows;
use super::function::{WindowContext, WindowFunction, WindowOutput};
use super::late::LateRecords;
use super::panes::{Home, Panes};
use super::{WindowSpec, WindowTime};
use crate::attribution::attribute;
use crate::batch::Batch;
use crate::chain::Clock;
use crate::collector::{Collector, Control, Output};
use crate::connector::OperatorError;
use crate::key::{KeyScratch, KeySelector};
use crate::operator::OperatorContext;
use crate::operator::aggregate::AggregateFunction;
use crate::operator::context::WATERMARK;
use crate::operator::groups::Groups;
use crate::record::{Key, Record};
use crate::snapshot::{Restored, Snapshot, StateOwner, schema};
use crate::task::TaskError;

/// Name of the state of the panes.
const PANES: &str = "panes";

/// Name of the state that says until when windows have fired. Of processing time, and at barriers that are not aligned: subtasks have come to different
/// instants then, but see the same watermark at one that is.
const FIRED: &str = "fired";

/// Where a record went that belongs to no window any more.
const NO_SLOT: u32 = u32::MAX;

fn schema_of_fired() -> String {
    schema("instant by key group", &[type_name::<i64>()])
}

/// Aggregates records by key and pane, and fires a window when its time is over.
pub(super) struct AlignedOperator<K, T, A: AggregateFunction<T>, W, O> {
    owner: StateOwner,
    name: Arc<str>,
    time: WindowTime,
    selector: Arc<dyn KeySelector<K, T>>,
    function: Arc<A>,
    window_function: Arc<W>,
    groups: Groups<()>,
    panes: Panes<K, A::Accumulator>,
    keys: KeyScratch<K>,
    /// Slot, key group and place of the accumulator of each record.
    places: Vec<(u32, u32, u32)>,
    late_at: Vec<u32>,
    late: LateRecords<T>,
    watermark: Watermark,
    clock: Clock,
    /// Processing time when it was last looked at: it does not go back.
    now: EventTime,
    out: Output<O>,
}

impl<K, T, A, W, O> AlignedOperator<K, T, A, W, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    O: 'static,
{
    pub(super) fn new(
        context: &OperatorContext,
        windows: AlignedWindows,
        spec: &WindowSpec<K, T>,
        function: Arc<A>,
        window_function: Arc<W>,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        let groups = Groups::of(context);
        Self {
            owner: StateOwner::of(context),
            name: Arc::clone(&context.name),
            time: windows.time,
            selector: Arc::clone(&spec.selector),
            function,
            window_function,
            panes: Panes::new(windows, groups.len()),
            groups,
            keys: KeyScratch::default(),
            places: Vec::new(),
            late_at: Vec::new(),
            late: LateRecords::new(context, spec.late.as_deref()),
            watermark: Watermark::MIN,
            clock: context.clock.clone(),
            now: EventTime::MIN,
            out: Output::new(next),
        }
    }

    fn schema() -> String {
        schema(
            "accumulator by pane and key",
            &[type_name::<K>(), type_name::<A::Accumulator>()],
        )
    }

    fn add(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        match self.time {
            WindowTime::Event if batch.has_timestamps() || batch.is_empty() => {}
            WindowTime::Event => {
                let error = OperatorError::permanent(super::NO_EVENT_TIME);
                return Err(error.of(&self.name));
            }
            WindowTime::Processing => {
                self.look_at_clock();
                // They are in no window of event time, so what they had does not matter any more.
                batch.timestamps.clear();
                batch.timestamps.resize(batch.records.len(), self.now);
            }
        }
        if A::KEEPS_RECORDS {
            self.hand_over(batch)
        } else {
            self.show(batch)
        }
    }

    /// Shows each record to its accumulator.
    fn show(&mut self, batch: &Batch<T>) -> Result<(), TaskError> {
        let (keys, hashes) = self.keys.select(&*self.selector, &batch.records);
        let records = batch.records.iter().zip(&batch.timestamps);
        for ((index, &hash), (record, &time)) in hashes.iter().enumerate().zip(records) {
            let slot = match self.panes.home(time.0) {
                Home::Pane(slot) => slot,
                Home::Late => {
                    self.late_at.push(index as u32);
                    continue;
                }
                Home::Between => continue,
            };
            let group = self.groups.place(hash).map_err(|e| e.of(&self.name))?;
            let create = || self.function.create();
            let place = self.panes.place(slot, group, hash, keys.get(index), create);
            self.function
                .add(self.panes.value(slot, group, place), record);
        }
        for index in self.late_at.drain(..) {
            let index = index as usize;
            let time = batch.timestamps[index];
            self.late
                .take(|| batch.records[index].clone(), Some(time))?;
        }
        self.late.hand_on()
    }

    /// Gives each record to its accumulator.
    fn hand_over(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let (keys, hashes) = self.keys.select(&*self.selector, &batch.records);
        self.places.clear();
        for ((index, &hash), &time) in hashes.iter().enumerate().zip(&batch.timestamps) {
            let slot = match self.panes.home(time.0) {
                Home::Pane(slot) => slot,
                Home::Late => {
                    self.places.push((NO_SLOT, 1, 0));
                    continue;
                }
                Home::Between => {
                    self.places.push((NO_SLOT, 0, 0));
                    continue;
                }
            };
            let group = self.groups.place(hash).map_err(|e| e.of(&self.name))?;
            let create = || self.function.create();
            let place = self.panes.place(slot, group, hash, keys.get(index), create);
            self.places.push((slot, group as u32, place));
        }
        for (&(slot, group, place), (record, time)) in self.places.iter().zip(batch.drain()) {
            if slot != NO_SLOT {
                let accumulator = self.panes.value(slot, group as usize, place);
                self.function.take(accumulator, record);
            } else if group == 1 {
                self.late.take(|| record, time)?;
            }
        }
        self.late.hand_on()
    }

    fn look_at_clock(&mut self) {
        self.now = self.now.max(self.clock.processing_time());
    }

    /// Hands on all windows that end at or before this instant.
    fn fire(&mut self, until: i64) -> Result<(), TaskError> {
        if self.panes.next_end().is_none_or(|end| end - 1 > until) {
            // Nothing fires, but what is late from now on is.
            return self.panes.fire(until, |_, _| {}, |_, _, _| Ok(()));
        }
        self.look_at_clock();
        let name = Arc::clone(&self.name);
        let Self {
            panes,
            function,
            window_function,
            watermark,
            now,
            out,
            ..
        } = self;
        attribute(&name, || {
            panes.fire(
                until,
                |into, other| function.merge(into, other),
                |window, key, accumulator| {
                    let context = WindowContext {
                        key,
                        window,
                        watermark: *watermark,
                        processing_time: *now,
                    };
                    let mut output = WindowOutput::new(out, window);
                    window_function.fire(function, &context, accumulator, &mut output);
                    output.finish()
                },
            )
        })?;
        self.out.hand_on()
    }
}

impl<K, T, A, W, O> Control for AlignedOperator<K, T, A, W, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    O: 'static,
{
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        if watermark > self.watermark {
            self.watermark = watermark;
            match self.time {
                WindowTime::Event => self.fire(watermark.0.0)?,
                // Behind the last watermark nobody would wait for it.
                WindowTime::Processing if watermark == Watermark::MAX => self.fire(i64::MAX)?,
                WindowTime::Processing => {}
            }
        }
        self.out.downstream().watermark(watermark)
    }

    fn processing_time(&mut self, now: EventTime) -> Result<(), TaskError> {
        if self.time == WindowTime::Processing {
            self.now = self.now.max(now);
            // More may come in this millisecond.
            self.fire(self.now.0.saturating_sub(1))?;
        }
        self.out.downstream().processing_time(now)
    }

    fn deadline(&mut self) -> Option<EventTime> {
        let own = match self.time {
            WindowTime::Event => None,
            WindowTime::Processing => self.panes.next_end().map(EventTime),
        };
        let behind = self.out.downstream().deadline();
        [own, behind].into_iter().flatten().min()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let schema = Self::schema();
        let panes = &self.panes;
        into.keyed(&self.owner, PANES, schema, |group, out| {
            panes.write(group, out)
        })?;
        let aligned = into.barrier().alignment == BarrierAlignment::Aligned;
        if self.time == WindowTime::Processing || !aligned {
            into.keyed(&self.owner, FIRED, schema_of_fired(), |group, out| {
                panes.write_fired(group, out)
            })?;
        }
        let progress = (self.watermark, self.panes.passed());
        into.progress(&self.owner, WATERMARK, &progress)?;
        self.out.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        let Self {
            owner,
            panes,
            watermark,
            ..
        } = self;
        if let Some((reached, passed)) = from.progress(owner, WATERMARK)? {
            *watermark = reached;
            panes.pass(passed);
        }
        from.keyed(owner, PANES, &Self::schema(), |group, bytes| {
            panes.read(group, bytes)
        })?;
        from.keyed(owner, FIRED, &schema_of_fired(), |group, bytes| {
            panes.read_fired(group, bytes)
        })?;
        self.out.restore(from)
    }

    fn end(&mut self) -> Result<(), TaskError> {
        if self.time == WindowTime::Processing {
            self.fire(i64::MAX)?;
        }
        self.out.downstream().end()
    }
}

impl<K, T, A, W, O> Collector<T> for AlignedOperator<K, T, A, W, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    O: 'static,
{
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || self.add(batch))
    }
}
