//! Event time: which one a record has, and how far it has come.

mod strategy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::chain::Clock;
use crate::collector::{Collector, Control};
use crate::operator::OperatorContext;
use crate::operator::context::WATERMARK;
use crate::snapshot::{Restored, Snapshot, StateOwner};
use crate::task::TaskError;
use strategy::Generation;
pub use strategy::{WatermarkGenerator, WatermarkStrategy};

/// Gives each record its event time, and the stream its watermarks: after each batch, or between records where the strategy looks at
/// each. Watermarks from upstream end here, but for the last. A watermark never goes back.
pub struct AssignTimestamps<F, T> {
    owner: StateOwner,
    name: Arc<str>,
    timestamp_of: Arc<F>,
    generation: Generation<T>,
    /// When the generator is asked next.
    period: Option<Period>,
    idleness: Option<Idleness>,
    /// Whether all upstream is idle.
    upstream_idle: bool,
    /// What was told downstream.
    idle: bool,
    sent: Watermark,
    clock: Clock,
    /// The part of a batch before a watermark.
    part: Batch<T>,
    next: Box<dyn Collector<T>>,
}

struct Period {
    interval_ms: i64,
    due: EventTime,
}

struct Idleness {
    timeout_ms: i64,
    /// When the last record went through.
    active: EventTime,
    idle: bool,
}

impl Idleness {
    const fn due(&self) -> Option<EventTime> {
        if self.idle {
            return None;
        }
        Some(EventTime(self.active.0.saturating_add(self.timeout_ms)))
    }
}

impl<F, T: 'static> AssignTimestamps<F, T> {
    /// The operator that takes a record's event time from `timestamp_of` and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        strategy: &WatermarkStrategy<T>,
        timestamp_of: Arc<F>,
        next: Box<dyn Collector<T>>,
    ) -> Self {
        let clock = context.clock.clone();
        let period = strategy.interval_ms().map(|interval_ms| Period {
            interval_ms,
            due: EventTime(clock.processing_time().0.saturating_add(interval_ms)),
        });
        let idleness = strategy.idle_timeout_ms().map(|timeout_ms| Idleness {
            timeout_ms,
            active: clock.processing_time(),
            idle: false,
        });
        Self {
            owner: StateOwner::of(context),
            name: Arc::clone(&context.name),
            timestamp_of,
            generation: strategy.generation(),
            period,
            idleness,
            upstream_idle: false,
            idle: false,
            sent: Watermark::MIN,
            clock,
            part: Batch::new(),
            next,
        }
    }

    fn send(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        if watermark > self.sent {
            self.sent = watermark;
            self.next.watermark(watermark)?;
        }
        Ok(())
    }

    fn tell_idle(&mut self) -> Result<(), TaskError> {
        let idle = self.upstream_idle || self.idleness.as_ref().is_some_and(|it| it.idle);
        if idle != self.idle {
            self.idle = idle;
            self.next.idle(idle)?;
        }
        Ok(())
    }

    fn wake(&mut self) -> Result<(), TaskError> {
        match &mut self.idleness {
            Some(idleness) if idleness.idle => {
                idleness.idle = false;
                self.tell_idle()
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Looks at each record, and hands on what came before a watermark and the watermark.
    fn each(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let Generation::Each(generator) = &mut self.generation else {
            return self.next.push(batch);
        };
        let mut marks = Vec::new();
        let mut highest = self.sent;
        attribute(&self.name, || {
            let records = batch.records.iter().zip(&batch.timestamps);
            for (index, (record, time)) in records.enumerate() {
                if let Some(mark) = generator.on_event(record, *time)
                    && mark > highest
                {
                    highest = mark;
                    marks.push((index + 1, mark));
                }
            }
        });
        let mut taken = 0;
        for (behind, mark) in marks {
            if behind - taken == batch.len() {
                self.next.push(batch)?;
                batch.clear();
            } else {
                let here = ..behind - taken;
                self.part.clear();
                self.part.records.extend(batch.records.drain(here));
                self.part.timestamps.extend(batch.timestamps.drain(here));
                self.next.push(&mut self.part)?;
            }
            taken = behind;
            self.send(mark)?;
        }
        if !batch.is_empty() {
            self.next.push(batch)?;
        }
        Ok(())
    }
}

impl<F, T: 'static> Control for AssignTimestamps<F, T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(&mut *self.next)
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        if watermark == Watermark::MAX {
            self.wake()?;
            return self.send(watermark);
        }
        Ok(())
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.upstream_idle = idle;
        self.tell_idle()
    }

    fn processing_time(&mut self, now: EventTime) -> Result<(), TaskError> {
        if let Some(period) = &mut self.period
            && now >= period.due
        {
            period.due = EventTime(now.0.saturating_add(period.interval_ms));
            if let Generation::Each(generator) = &mut self.generation
                && let Some(mark) = attribute(&self.name, || generator.on_periodic(now))
            {
                self.send(mark)?;
            }
        }
        if let Some(idleness) = &mut self.idleness
            && idleness.due().is_some_and(|due| now >= due)
        {
            idleness.idle = true;
            self.tell_idle()?;
        }
        self.next.processing_time(now)
    }

    fn deadline(&mut self) -> Option<EventTime> {
        let period = self.period.as_ref().map(|period| period.due);
        let idleness = self.idleness.as_ref().and_then(Idleness::due);
        [period, idleness, self.next.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let latest = match &self.generation {
            Generation::Bounded { latest, .. } => *latest,
            Generation::Each(_) => None,
        };
        into.progress(&self.owner, WATERMARK, &(self.sent, latest))?;
        self.next.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        if let Some((sent, reached)) = from.progress(&self.owner, WATERMARK)? {
            self.sent = sent;
            if let Generation::Bounded { latest, .. } = &mut self.generation {
                *latest = reached;
            }
        }
        self.next.restore(from)
    }

    fn end(&mut self) -> Result<(), TaskError> {
        // Nothing is due any more.
        self.period = None;
        self.idleness = None;
        self.next.end()
    }
}

impl<T: 'static, F: Fn(&T) -> EventTime> Collector<T> for AssignTimestamps<F, T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.wake()?;
        attribute(&self.name, || {
            batch.timestamps.clear();
            batch.timestamps.extend(
                batch
                    .records
                    .iter()
                    .map(|record| (self.timestamp_of)(record)),
            );
        });
        match &mut self.generation {
            Generation::Bounded { bound_ms, latest } => {
                *latest = (*latest).max(batch.timestamps.iter().max().copied());
                let behind = bound_ms.saturating_add(1);
                let mark =
                    latest.map(|latest| Watermark(EventTime(latest.0.saturating_sub(behind))));
                self.next.push(batch)?;
                if let Some(mark) = mark {
                    self.send(mark)?;
                }
            }
            Generation::Each(_) => self.each(batch)?,
        }
        // The time that those downstream took does not count as idle.
        if let Some(idleness) = &mut self.idleness {
            idleness.active = idleness.active.max(self.clock.processing_time());
        }
        Ok(())
    }
}
