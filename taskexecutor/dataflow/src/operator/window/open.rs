//! What windows gather that fire key by key.
//!
//! ```text
//! key group ── key ── its open windows, by start ── accumulator, trigger state, timers
//! wakes, one queue for each clock: instant ── (key group, place of the key, id of the window)
//! ```
//! A window is in each queue at most once in earnest, for the earliest of its timers. A timer that moves to a later instant, as that of a
//! session does with each record, leaves the queue alone: the window is put in again when the old instant comes.

use std::collections::BTreeMap;

use super::trigger::Timers;
use super::{TimeWindow, WindowTime};

/// A window of a key.
pub(super) struct Open<A, S> {
    /// Unlike that of any other window of the operator.
    pub(super) id: u64,
    pub(super) window: TimeWindow,
    /// Absent once purged.
    pub(super) accumulator: Option<A>,
    pub(super) state: S,
    pub(super) timers: Timers,
    /// The instant at which it is in the queue of event time, and in that of processing time.
    pub(super) queued: [Option<i64>; 2],
}

impl<A, S: Default> Open<A, S> {
    pub(super) fn new(id: u64, window: TimeWindow) -> Self {
        Self {
            id,
            window,
            accumulator: None,
            state: S::default(),
            timers: Timers::default(),
            queued: [None; 2],
        }
    }
}

/// Which window has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    pub(super) group: u32,
    pub(super) place: u32,
    pub(super) id: u64,
}

/// What has something to do, and when.
#[derive(Default)]
pub(super) struct Wakes {
    at: BTreeMap<i64, Vec<Wake>>,
    spare: Vec<Vec<Wake>>,
}

impl Wakes {
    pub(super) fn push(&mut self, time: i64, wake: Wake) {
        let spare = &mut self.spare;
        let list = self.at.entry(time);
        list.or_insert_with(|| spare.pop().unwrap_or_default())
            .push(wake);
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.at.first_key_value().map(|(time, _)| *time)
    }

    /// All of the earliest instant, if that is not after `until`.
    pub(super) fn pop(&mut self, until: i64) -> Option<(i64, Vec<Wake>)> {
        let first = self.at.first_entry()?;
        (*first.key() <= until).then(|| first.remove_entry())
    }

    /// A list that is done with.
    pub(super) fn recycle(&mut self, mut list: Vec<Wake>) {
        if self.spare.len() < 16 && list.capacity() <= 4096 {
            list.clear();
            self.spare.push(list);
        }
    }
}

/// Place of a clock in [`Open::queued`].
pub(super) const fn clock(time: WindowTime) -> usize {
    match time {
        WindowTime::Event => 0,
        WindowTime::Processing => 1,
    }
}
