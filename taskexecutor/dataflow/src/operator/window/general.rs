//! Windows of any kind with any trigger. Flink: `WindowOperator`.

mod now;
mod state;

use std::sync::Arc;

use spindle_common::time::{EventTime, Watermark};

use super::function::{WindowContext, WindowFunction, WindowOutput};
use super::late::LateRecords;
use super::open::{Open, Wake, Wakes, clock};
use super::trigger::{Trigger, TriggerResult};
use super::{TimeWindow, WindowSpec, WindowTime, Windows};
use crate::attribution::attribute;
use crate::batch::Batch;
use crate::chain::Clock;
use crate::collector::{Collector, Control, Output};
use crate::connector::OperatorError;
use crate::key::{KeyScratch, KeySelector};
use crate::operator::OperatorContext;
use crate::operator::aggregate::AggregateFunction;
use crate::operator::groups::Groups;
use crate::record::{Key, Record};
use crate::snapshot::{Restored, Snapshot, StateOwner};
use crate::state::table::SlotTable;
use crate::task::TaskError;
use now::{Now, fixed};

/// The open windows of a key, by start.
type OpenWindows<A, S> = Vec<Open<A, S>>;

/// The keys of each key group, with their windows.
type KeyedWindows<K, A, S> = Groups<SlotTable<K, OpenWindows<A, S>>>;

/// The functions that the program gave.
struct Functions<A, W, Tr> {
    aggregate: Arc<A>,
    window: Arc<W>,
    trigger: Arc<Tr>,
}

/// Gathers records by key and window, and asks a trigger when a window fires.
pub(super) struct GeneralOperator<K, T, A: AggregateFunction<T>, W, Tr: Trigger<T>, O> {
    owner: StateOwner,
    name: Arc<str>,
    windows: Windows<T>,
    selector: Arc<dyn KeySelector<K, T>>,
    functions: Functions<A, W, Tr>,
    groups: KeyedWindows<K, A::Accumulator, Tr::State>,
    group_count: usize,
    keys: KeyScratch<K>,
    /// Key group and place of each record's key.
    places: Vec<(u32, u32)>,
    assigned: Vec<TimeWindow>,
    /// Keys that may have no window.
    unused: Vec<(u32, u32)>,
    late: LateRecords<T>,
    now: Now,
    clock: Clock,
    out: Output<O>,
}

impl<K, T, A, W, Tr, O> GeneralOperator<K, T, A, W, Tr, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    pub(super) fn new(
        context: &OperatorContext,
        spec: &WindowSpec<K, T>,
        function: Arc<A>,
        window_function: Arc<W>,
        trigger: Arc<Tr>,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        let groups = Groups::of(context);
        Self {
            owner: StateOwner::of(context),
            name: Arc::clone(&context.name),
            windows: spec.windows.clone(),
            selector: Arc::clone(&spec.selector),
            functions: Functions {
                aggregate: function,
                window: window_function,
                trigger,
            },
            group_count: groups.len(),
            groups,
            keys: KeyScratch::default(),
            places: Vec::new(),
            assigned: Vec::new(),
            unused: Vec::new(),
            late: LateRecords::new(context, spec.late.as_deref()),
            now: Now {
                watermark: Watermark::MIN,
                processing: EventTime::MIN,
                ends_by: spec.windows.time(),
                lateness: spec.lateness_ms,
                wakes: [Wakes::default(), Wakes::default()],
                next_id: 0,
            },
            clock: context.clock.clone(),
            out: Output::new(next),
        }
    }

    fn look_at_clock(&mut self) {
        self.now.processing = self.now.processing.max(self.clock.processing_time());
    }

    fn add(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let needs_time = match &self.windows {
            Windows::Aligned(_) | Windows::Session(_) => self.now.ends_by == WindowTime::Event,
            Windows::Global => false,
        };
        if needs_time && !batch.is_empty() && !batch.has_timestamps() {
            return Err(OperatorError::permanent(super::NO_EVENT_TIME).of(&self.name));
        }
        self.look_at_clock();
        let (keys, hashes) = self.keys.select(&*self.selector, &batch.records);
        self.places.clear();
        for (index, &hash) in hashes.iter().enumerate() {
            let group = self.groups.place(hash).map_err(|e| e.of(&self.name))?;
            let (place, _) = self.groups.at(group).slot(hash, keys.get(index));
            self.places.push((group as u32, place));
        }
        for (index, (record, timestamp)) in batch.drain().enumerate() {
            let at = self.places[index];
            self.element(at, record, timestamp)?;
        }
        for (group, place) in std::mem::take(&mut self.unused) {
            self.forget_unused(group, place);
        }
        self.late.hand_on()?;
        self.out.hand_on()
    }

    fn forget_unused(&mut self, group: u32, place: u32) {
        let slots = self.groups.at(group as usize);
        if slots.get(place).is_some_and(|(_, open)| open.is_empty()) {
            slots.remove(place);
        }
    }

    fn element(
        &mut self,
        (group, place): (u32, u32),
        record: T,
        timestamp: Option<EventTime>,
    ) -> Result<(), TaskError> {
        let Self {
            windows,
            functions,
            groups,
            assigned,
            now,
            out,
            ..
        } = self;
        let time = match now.ends_by {
            WindowTime::Event => timestamp.unwrap_or(now.processing),
            WindowTime::Processing => now.processing,
        };
        let (key, open) = groups
            .at(group as usize)
            .get(place)
            .expect("a key stays until the batch is through");
        assigned.clear();
        windows.assign(&record, time.0, assigned);
        let mut record = Some(record);
        let mut left = assigned.len();
        let mut taken = false;
        for &window in &*assigned {
            left -= 1;
            let found = match windows {
                Windows::Session(_) => session(open, window, functions, now),
                Windows::Aligned(_) | Windows::Global => fixed(open, window, now),
            };
            let Some(found) = found else { continue };
            let found = &mut open[found];
            taken = true;
            let Some(it) = record.take() else { break };
            let result = functions.trigger.on_element(
                &it,
                time,
                found.window,
                &mut found.state,
                &mut now.context(&mut found.timers),
            );
            let aggregate = &functions.aggregate;
            let accumulator = found.accumulator.get_or_insert_with(|| aggregate.create());
            // The last window gets the record itself.
            if left == 0 {
                aggregate.take(accumulator, it);
            } else {
                aggregate.add(accumulator, &it);
                record = Some(it);
            }
            apply(result, key, found, functions, now, out)?;
            now.queue(found, group, place);
        }
        if open.is_empty() {
            self.unused.push((group, place));
        }
        if taken {
            return Ok(());
        }
        let late = self.now.ends_by == WindowTime::Event
            && time.0.saturating_add(self.now.lateness) <= self.now.watermark.0.0;
        match record {
            Some(record) if late => self.late.take(|| record, timestamp),
            Some(_) | None => Ok(()),
        }
    }

    /// Wakes all windows that a clock has reached.
    fn advance(&mut self, by: WindowTime, until: i64) -> Result<(), TaskError> {
        while let Some((time, list)) = self.now.wakes[clock(by)].pop(until) {
            for &wake in &list {
                self.wake(by, time, wake)?;
            }
            self.now.wakes[clock(by)].recycle(list);
        }
        Ok(())
    }

    fn wake(&mut self, by: WindowTime, time: i64, wake: Wake) -> Result<(), TaskError> {
        let slots = self.groups.at(wake.group as usize);
        let Some((key, windows)) = slots.get(wake.place) else {
            return Ok(());
        };
        let Some(at) = windows.iter().position(|open| open.id == wake.id) else {
            return Ok(());
        };
        let open = &mut windows[at];
        if open.queued[clock(by)] != Some(time) {
            return Ok(());
        }
        open.queued[clock(by)] = None;
        let (functions, now) = (&self.functions, &mut self.now);
        if open.timers.delete(by, time) {
            on_timer(by, time, key, open, functions, now, &mut self.out)?;
        }
        let over = now.forgotten(open.window).is_some_and(|end| end <= time);
        if by == now.ends_by && over {
            windows.remove(at);
            if windows.is_empty() {
                slots.remove(wake.place);
            }
        } else {
            now.queue(open, wake.group, wake.place);
        }
        Ok(())
    }

    /// Each timer of processing time that waits fires a last time.
    fn fire_waiting(&mut self) -> Result<(), TaskError> {
        let by = WindowTime::Processing;
        for group in 0..self.group_count {
            let slots = self.groups.at(group);
            for place in 0..slots.slots() {
                let Some((key, windows)) = slots.get(place) else {
                    continue;
                };
                for open in windows {
                    let Some(time) = open.timers.earliest(by) else {
                        continue;
                    };
                    open.timers.clear();
                    let (functions, now) = (&self.functions, &mut self.now);
                    on_timer(by, time, key, open, functions, now, &mut self.out)?;
                }
            }
        }
        Ok(())
    }
}

/// The session of a key that a record's own session grows together with; none if it is over.
fn session<T, A, W, Tr>(
    open: &mut OpenWindows<A::Accumulator, Tr::State>,
    window: TimeWindow,
    functions: &Functions<A, W, Tr>,
    now: &mut Now,
) -> Option<usize>
where
    A: AggregateFunction<T>,
    Tr: Trigger<T>,
{
    let at = open.partition_point(|other| other.window.end < window.start);
    let touching = open[at..]
        .iter()
        .take_while(|other| other.window.touches(window))
        .count();
    if touching == 0 {
        if now.is_late(window) {
            return None;
        }
        let new = now.open(window);
        open.insert(at, new);
        return Some(at);
    }
    let last = &open[at + touching - 1];
    let grown = open[at].window.cover(window).cover(last.window);
    if grown == open[at].window {
        return Some(at);
    }
    let absorbed = open.drain(at + 1..at + touching);
    let absorbed: Vec<_> = absorbed
        .map(|other| (other.accumulator, other.state))
        .collect();
    let session = &mut open[at];
    session.window = grown;
    session.timers.clear();
    let mut states = Vec::new();
    for (accumulator, state) in absorbed {
        states.push(state);
        match (&mut session.accumulator, accumulator) {
            (Some(into), Some(other)) => functions.aggregate.merge(into, &other),
            (none @ None, other) => *none = other,
            (Some(_), None) => {}
        }
    }
    functions.trigger.on_merge(
        grown,
        &mut session.state,
        states,
        &mut now.context(&mut session.timers),
    );
    Some(at)
}

fn on_timer<K, T, A, W, Tr, O>(
    by: WindowTime,
    time: i64,
    key: &K,
    open: &mut Open<A::Accumulator, Tr::State>,
    functions: &Functions<A, W, Tr>,
    now: &Now,
    out: &mut Output<O>,
) -> Result<(), TaskError>
where
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    let (trigger, window) = (&functions.trigger, open.window);
    let context = &mut now.context(&mut open.timers);
    let (time, state) = (EventTime(time), &mut open.state);
    let result = match by {
        WindowTime::Event => trigger.on_event_time(time, window, state, context),
        WindowTime::Processing => trigger.on_processing_time(time, window, state, context),
    };
    apply(result, key, open, functions, now, out)
}

/// Does what the trigger says.
fn apply<K, T, A, W, Tr, O>(
    result: TriggerResult,
    key: &K,
    open: &mut Open<A::Accumulator, Tr::State>,
    functions: &Functions<A, W, Tr>,
    now: &Now,
    out: &mut Output<O>,
) -> Result<(), TaskError>
where
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    if let (true, Some(accumulator)) = (result.fires(), &open.accumulator) {
        let context = WindowContext {
            key,
            window: open.window,
            watermark: now.watermark,
            processing_time: now.processing,
        };
        let mut output = WindowOutput::new(out, open.window);
        let aggregate = &*functions.aggregate;
        functions
            .window
            .fire(aggregate, &context, accumulator, &mut output);
        output.finish()?;
    }
    if result.purges() {
        open.accumulator = None;
    }
    Ok(())
}

impl<K, T, A, W, Tr, O> Control for GeneralOperator<K, T, A, W, Tr, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        if watermark > self.now.watermark {
            self.now.watermark = watermark;
            let first = self.now.wakes[clock(WindowTime::Event)].first();
            if first.is_some_and(|first| first <= watermark.0.0) {
                self.look_at_clock();
                let name = Arc::clone(&self.name);
                attribute(&name, || self.advance(WindowTime::Event, watermark.0.0))?;
                self.out.hand_on()?;
            }
            if watermark == Watermark::MAX {
                // Behind the last watermark nobody would wait for it.
                let name = Arc::clone(&self.name);
                attribute(&name, || self.fire_waiting())?;
                self.out.hand_on()?;
            }
        }
        self.out.downstream().watermark(watermark)
    }

    fn processing_time(&mut self, now: EventTime) -> Result<(), TaskError> {
        self.now.processing = self.now.processing.max(now);
        // More may come in this millisecond.
        let until = self.now.processing.0.saturating_sub(1);
        let name = Arc::clone(&self.name);
        attribute(&name, || self.advance(WindowTime::Processing, until))?;
        self.out.hand_on()?;
        self.out.downstream().processing_time(now)
    }

    fn deadline(&mut self) -> Option<EventTime> {
        let first = self.now.wakes[clock(WindowTime::Processing)].first();
        let own = first.map(|first| EventTime(first.saturating_add(1)));
        let behind = self.out.downstream().deadline();
        [own, behind].into_iter().flatten().min()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.write(into)?;
        self.out.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.read(from)?;
        self.out.restore(from)
    }

    fn end(&mut self) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || self.fire_waiting())?;
        self.out.hand_on()?;
        self.out.downstream().end()
    }
}

impl<K, T, A, W, Tr, O> Collector<T> for GeneralOperator<K, T, A, W, Tr, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || self.add(batch))
    }
}
