//! How a task spends its time: at work, waiting for input, or waiting for those that read its output.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spindle_common::time::MonoTime;

use crate::chain::Clock;

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Input: the task is idle.
    Input,
    /// Credit, or room in a queue of its output: the task is back-pressured.
    Output,
}

/// The times of one task. Its lock is taken when the task waits anyway, never for a record or a buffer that is there.
pub struct TaskTime {
    clock: Option<Clock>,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    began: Option<MonoTime>,
    ended: Option<MonoTime>,
    waits: Option<(Waiting, MonoTime)>,
    idle: Duration,
    backpressured: Duration,
}

/// The totals so far; together the time since the task began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeTotals {
    /// At work.
    pub busy: Duration,
    /// Waiting for input.
    pub idle: Duration,
    /// Waiting for those that read its output.
    pub backpressured: Duration,
}

impl TaskTime {
    /// Times by this clock; without one all are zero.
    pub(crate) fn new(clock: Option<Clock>) -> Self {
        Self {
            clock,
            spent: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task begins.
    pub fn begin(&self) {
        if let Some(clock) = &self.clock {
            self.lock().began.get_or_insert_with(|| clock.now());
        }
    }

    /// The task is over.
    pub fn end(&self) {
        if let Some(clock) = &self.clock {
            self.lock().ended.get_or_insert_with(|| clock.now());
        }
    }

    /// Runs `code`, which waits.
    pub fn wait<R>(&self, waiting: Waiting, code: impl FnOnce() -> R) -> R {
        self.rest(waiting);
        let result = code();
        self.resume();
        result
    }

    /// The task waits from now on, until it is to [`Self::resume`].
    pub fn rest(&self, waiting: Waiting) {
        if let Some(clock) = &self.clock {
            self.lock().waits = Some((waiting, clock.now()));
        }
    }

    /// The task waits no more, if it did.
    pub fn resume(&self) {
        if let Some(clock) = &self.clock {
            let mut spent = self.lock();
            if let Some((waiting, since)) = spent.waits.take() {
                spent.add(waiting, clock.now().since(since));
            }
        }
    }

    /// The task has waited for this long.
    pub fn add(&self, waiting: Waiting, waited: Duration) {
        self.lock().add(waiting, waited);
    }

    /// What was spent until now, a wait that goes on included.
    pub fn totals(&self) -> TimeTotals {
        let spent = self.lock();
        let (Some(clock), Some(began)) = (&self.clock, spent.began) else {
            return TimeTotals::default();
        };
        let now = spent.ended.unwrap_or_else(|| clock.now());
        let (mut idle, mut backpressured) = (spent.idle, spent.backpressured);
        match spent.waits {
            Some((Waiting::Input, since)) => idle += now.since(since),
            Some((Waiting::Output, since)) => backpressured += now.since(since),
            None => {}
        }
        TimeTotals {
            busy: now.since(began).saturating_sub(idle + backpressured),
            idle,
            backpressured,
        }
    }
}

impl Spent {
    fn add(&mut self, waiting: Waiting, waited: Duration) {
        match waiting {
            Waiting::Input => self.idle += waited,
            Waiting::Output => self.backpressured += waited,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use spindle_common::time::EventTime;

    use super::*;

    #[test]
    fn a_wait_counts_while_it_goes_on_and_all_adds_up() {
        let now = Arc::new(AtomicU64::new(5));
        let read = Arc::clone(&now);
        let clock = Clock::new(
            move || MonoTime::from_millis(read.load(Ordering::Relaxed)),
            || EventTime(0),
        );
        let time = TaskTime::new(Some(clock));
        let at = |ms| now.store(ms, Ordering::Relaxed);
        let totals = |time: &TaskTime| {
            let totals = time.totals();
            [totals.busy, totals.idle, totals.backpressured].map(|spent| spent.as_millis())
        };
        assert_eq!(totals(&time), [0, 0, 0]);
        time.begin();
        at(15);
        time.wait(Waiting::Output, || {
            at(45);
            assert_eq!(totals(&time), [10, 0, 30]);
            at(50);
        });
        time.wait(Waiting::Input, || at(57));
        at(60);
        assert_eq!(totals(&time), [13, 7, 35]);
        time.end();
        at(100);
        assert_eq!(totals(&time), [13, 7, 35]);
    }
}
