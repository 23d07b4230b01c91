//! Timers by key: de-duplicated, deletable, fired in order of time, and of registration where times are equal.
//!
//! ```text
//! wheel   3 levels of 256 lists: times that differ from `now` in the last byte (1 ms a list), the last two (256 ms), the last three
//! far     the rest, a list for each 2^24 ms (4.7 hours)
//! past    what is due already: an ordered map of lists
//! sets    key group ── slot ── the times registered for it
//! ```
//! A list says only where a timer stands in the order; whether it exists is said by the set of its slot. So a timer is found, registered twice
//! or deleted without looking into a list: what is deleted stays there, marked in its set, until its time has come or there is more of it
//! than of what lives. The sets are what a snapshot writes.

use std::collections::{BTreeMap, VecDeque};

use spindle_common::time::EventTime;

use crate::state::Place;

mod set;
#[cfg(test)]
mod tests;
mod wheel;

use set::Set;
use wheel::{LEVELS, Wheel};

/// Deleted timers that may stay in the lists whatever the number of those that live.
const DEAD_AT_LEAST: usize = 4096;

/// The clock that a timer goes by. Flink: `TimeDomain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// Watermarks.
    EventTime,
    /// This machine's clock.
    ProcessingTime,
}

/// A timer that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// The time it was registered for.
    pub time: EventTime,
    /// The clock that this time is of.
    pub domain: TimeDomain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    time: i64,
    place: Place,
}

/// The timers of one subtask and one clock.
#[derive(Debug)]
pub(crate) struct Timers {
    /// All timers up to here are in `firing` or `past`, all after it in `wheel` or `far`.
    now: i64,
    wheel: Wheel,
    far: BTreeMap<i64, Vec<Entry>>,
    past: BTreeMap<i64, VecDeque<Entry>>,
    /// What fires at `now`, from `fired` on.
    firing: Vec<Entry>,
    fired: usize,
    sets: Vec<Vec<Set>>,
    live: usize,
    dead: usize,
}

impl Timers {
    /// No timers yet, for this number of key groups.
    pub(crate) fn new(groups: usize) -> Self {
        Self {
            now: i64::MIN,
            wheel: Wheel::default(),
            far: BTreeMap::new(),
            past: BTreeMap::new(),
            firing: Vec::new(),
            fired: 0,
            sets: (0..groups).map(|_| Vec::new()).collect(),
            live: 0,
            dead: 0,
        }
    }

    /// Number of key groups.
    pub(crate) const fn groups(&self) -> usize {
        self.sets.len()
    }

    /// Has a timer fire for the key in this place; nothing happens if there is such a timer.
    pub(crate) fn register(&mut self, place: Place, time: EventTime) {
        let sets = &mut self.sets[place.group as usize];
        let slot = place.slot as usize;
        if slot >= sets.len() {
            sets.resize_with(slot + 1, Set::default);
        }
        match sets[slot].insert(time.0) {
            set::Inserted::New => {
                self.live += 1;
                self.list(Entry {
                    time: time.0,
                    place,
                });
            }
            set::Inserted::Revived => {
                self.live += 1;
                self.dead -= 1;
            }
            set::Inserted::Known => {}
        }
    }

    /// Has a timer not fire; nothing happens if there is no such timer.
    pub(crate) fn delete(&mut self, place: Place, time: EventTime) {
        let set = self.sets[place.group as usize].get_mut(place.slot as usize);
        if set.is_some_and(|set| set.mark_deleted(time.0)) {
            self.live -= 1;
            self.dead += 1;
            if self.dead > self.live.max(DEAD_AT_LEAST) {
                self.forget_dead();
            }
        }
    }

    /// Whether a key has timers.
    pub(crate) fn has_any(&self, place: Place) -> bool {
        let set = self.sets[place.group as usize].get(place.slot as usize);
        set.is_some_and(Set::has_live)
    }

    /// The times for which a key has timers, ascending.
    pub(crate) fn times(&self, place: Place) -> Vec<i64> {
        let set = self.sets[place.group as usize].get(place.slot as usize);
        set.map(Set::live).unwrap_or_default()
    }

    /// When the next timer fires, or earlier; none if there are none.
    pub(crate) fn next_time(&self) -> Option<EventTime> {
        if self.live == 0 {
            return None;
        }
        let firing = (self.fired < self.firing.len()).then_some(self.now);
        let due = self.past.keys().next().copied().or(firing);
        let next = due.or_else(|| self.wheel.next_start(self.now));
        let next = next.or_else(|| self.far.keys().next().map(|span| span << (8 * LEVELS)));
        next.map(EventTime)
    }

    /// Takes out the next timer that is due at `time`. To be called until there is none: timers that are registered in between, for this time
    /// or an earlier one, come too.
    pub(crate) fn pop(&mut self, time: EventTime) -> Option<(EventTime, Place)> {
        loop {
            if let Some(entry) = self
                .pop_entry(time.0)
                .or_else(|| self.turn(time.0).then(|| self.pop_entry(time.0)).flatten())
            {
                let set = &mut self.sets[entry.place.group as usize][entry.place.slot as usize];
                if set.remove(entry.time) {
                    self.live -= 1;
                    return Some((EventTime(entry.time), entry.place));
                }
                self.dead -= 1;
            } else {
                self.now = self.now.max(time.0);
                return None;
            }
        }
    }

    fn pop_entry(&mut self, limit: i64) -> Option<Entry> {
        let firing = self.fired < self.firing.len();
        if let Some(mut first) = self.past.first_entry()
            && *first.key() <= limit
            && !(firing && self.now <= *first.key())
        {
            let entry = first.get_mut().pop_front();
            if first.get().is_empty() {
                first.remove();
            }
            return entry;
        }
        let entry = self.firing.get(self.fired).copied()?;
        self.fired += 1;
        Some(entry)
    }

    /// Goes on to the next time that has timers and is not after `limit`, and lays them out to be fired.
    fn turn(&mut self, limit: i64) -> bool {
        loop {
            self.firing.clear();
            self.fired = 0;
            if let Some(at) = self.wheel.next(self.now) {
                if at.start > limit {
                    return false;
                }
                self.now = at.start;
                self.wheel.take(at, &mut self.firing);
                if at.level == 0 {
                    return true;
                }
            } else {
                let Some(first) = self.far.first_entry() else {
                    return false;
                };
                let start = *first.key() << (8 * LEVELS);
                if start > limit {
                    return false;
                }
                self.now = start;
                self.firing = first.remove();
            }
            for entry in self.firing.drain(..) {
                self.wheel.add(self.now, entry);
            }
        }
    }

    fn list(&mut self, entry: Entry) {
        if entry.time <= self.now {
            self.past.entry(entry.time).or_default().push_back(entry);
        } else if !self.wheel.add(self.now, entry) {
            let span = entry.time >> (8 * LEVELS);
            self.far.entry(span).or_default().push(entry);
        }
    }

    /// Removes what is deleted from all lists and sets.
    fn forget_dead(&mut self) {
        let sets = &mut self.sets;
        let mut keep = |entry: &Entry| {
            let set = &mut sets[entry.place.group as usize][entry.place.slot as usize];
            !set.remove_deleted(entry.time)
        };
        self.firing.drain(..self.fired);
        self.fired = 0;
        self.firing.retain(&mut keep);
        self.wheel.retain(&mut keep);
        self.far.retain(|_, list| {
            list.retain(&mut keep);
            !list.is_empty()
        });
        self.past.retain(|_, list| {
            list.retain(&mut keep);
            !list.is_empty()
        });
        self.dead = 0;
    }
}
