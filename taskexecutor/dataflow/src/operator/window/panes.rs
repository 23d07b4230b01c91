//! What aligned windows gather: for each pane the accumulators of its keys.
//!
//! ```text
//! pane (the stretch that size and slide have in common) ── key group ── key (in order of arrival) ── accumulator
//! ```
//! A record goes into one pane, however many windows hold it; a window that fires merges its panes. No timer is set for a key: a window
//! fires as a whole, key group by key group. The pane of the last record is kept at hand, and emptied panes are used again.

use std::collections::VecDeque;

use hashbrown::HashTable;

use spindle_common::key_group::key_hash;

use super::assign::{AlignedWindows, FAR, far};
use crate::codec::{self, Malformed};
use crate::operator::table::KeyTable;
use crate::record::{Key, Record};

use super::TimeWindow;

/// Emptied panes that wait to be used again, at most this many: the memory of a backlog is given back.
const SPARE_PANES: usize = 4;

/// The accumulators of one pane.
struct Pane<K, A> {
    /// One per key group of the subtask.
    tables: Vec<KeyTable<K, A>>,
    /// The key groups that have keys.
    used: Vec<u32>,
}

/// Where the record of a time goes.
pub(super) enum Home {
    /// Into a pane.
    Pane(u32),
    /// Nowhere: all its windows have fired.
    Late,
    /// Nowhere: it falls between two windows.
    Between,
}

/// The pane of the last record.
#[derive(Clone, Copy)]
struct Cursor {
    start: i64,
    end: i64,
    slot: u32,
}

const NOWHERE: Cursor = Cursor {
    start: i64::MAX,
    end: i64::MIN,
    slot: 0,
};

/// What aligned windows have gathered.
pub(super) struct Panes<K, A> {
    windows: AlignedWindows,
    key_groups: usize,
    /// Start and slot of each open pane, by start.
    open: VecDeque<(i64, u32)>,
    slots: Vec<Pane<K, A>>,
    /// Slots without pane.
    free: Vec<u32>,
    cursor: Cursor,
    /// Windows that ended at or before this instant have fired.
    passed: i64,
    /// One per key group once any is restored: windows that ended at or before this instant have fired for it, in the subtask that had it.
    fired: Vec<i64>,
    merged: Merged<A>,
}

/// The keys of several panes together, of one key group.
struct Merged<A> {
    index: HashTable<u32>,
    entries: Vec<Entry<A>>,
    /// The key groups that any of the panes has.
    groups: Vec<u32>,
}

/// A merged accumulator; its key stands in the pane where it came first.
struct Entry<A> {
    hash: u64,
    slot: u32,
    place: u32,
    value: A,
}

impl<K: Eq + Clone, A: Clone> Panes<K, A> {
    pub(super) const fn new(windows: AlignedWindows, key_groups: usize) -> Self {
        Self {
            windows,
            key_groups,
            open: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            cursor: NOWHERE,
            passed: i64::MIN,
            fired: Vec::new(),
            merged: Merged {
                index: HashTable::new(),
                entries: Vec::new(),
                groups: Vec::new(),
            },
        }
    }

    /// The pane of an instant, which is opened if it is not there.
    #[inline]
    pub(super) fn home(&mut self, time: i64) -> Home {
        if self.cursor.start <= time && time < self.cursor.end {
            return Home::Pane(self.cursor.slot);
        }
        self.find(far(time))
    }

    #[cold]
    fn find(&mut self, time: i64) -> Home {
        let last = self.windows.last_start(time) + self.windows.size;
        if last <= time {
            return if time <= self.passed {
                Home::Late
            } else {
                Home::Between
            };
        }
        if last - 1 <= self.passed {
            return Home::Late;
        }
        let start = self.windows.pane_start(time);
        let slot = self.open(start);
        self.cursor = Cursor {
            start,
            end: start + self.windows.pane,
            slot,
        };
        Home::Pane(slot)
    }

    /// The slot of the pane that begins at this instant, which is opened if it is not there.
    fn open(&mut self, start: i64) -> u32 {
        let at = self.open.partition_point(|pane| pane.0 < start);
        match self.open.get(at) {
            Some(&(found, slot)) if found == start => slot,
            Some(_) | None => {
                let slot = self.slot();
                self.open.insert(at, (start, slot));
                slot
            }
        }
    }

    fn slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let mut tables = Vec::new();
            tables.resize_with(self.key_groups, KeyTable::default);
            self.slots.push(Pane {
                tables,
                used: Vec::new(),
            });
            (self.slots.len() - 1) as u32
        })
    }

    /// The place of a key in its group's table, which gets an accumulator if there is none.
    #[inline]
    pub(super) fn place(
        &mut self,
        slot: u32,
        group: usize,
        hash: u64,
        key: &K,
        create: impl FnOnce() -> A,
    ) -> u32 {
        let pane = &mut self.slots[slot as usize];
        let mut new = false;
        let place = pane.tables[group].place(hash, key, || {
            new = true;
            create()
        });
        if new && place == 0 {
            pane.used.push(group as u32);
        }
        place
    }

    #[inline]
    pub(super) fn value(&mut self, slot: u32, group: usize, place: u32) -> &mut A {
        self.slots[slot as usize].tables[group].value(place)
    }

    /// First instant after the window that fires next; none if nothing is open.
    pub(super) fn next_end(&self) -> Option<i64> {
        self.next_window().map(|window| window.end.0)
    }

    fn next_window(&self) -> Option<TimeWindow> {
        let (oldest, _) = self.open.front()?;
        // The last window of the farthest instant may end up to twice as far.
        let unfired = self.passed.saturating_add(1).min(3 * FAR).max(*oldest);
        let start = self.windows.first_ending_after(unfired);
        Some(TimeWindow::new(start, start + self.windows.size))
    }

    /// Hands all windows that end at or before this instant to `emit`: by window, then key group, then order of the keys' arrival.
    pub(super) fn fire<E>(
        &mut self,
        until: i64,
        merge: impl Fn(&mut A, &A),
        mut emit: impl FnMut(TimeWindow, &K, &A) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(window) = self.next_window() {
            if window.max_timestamp().0 > until {
                break;
            }
            self.fire_one(window, &merge, &mut emit)?;
            self.passed = window.max_timestamp().0;
            self.drop_before(window.start.0 + self.windows.slide);
        }
        self.passed = self.passed.max(until);
        Ok(())
    }

    fn fire_one<E>(
        &mut self,
        window: TimeWindow,
        merge: &impl Fn(&mut A, &A),
        emit: &mut impl FnMut(TimeWindow, &K, &A) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self {
            open,
            slots,
            fired,
            merged,
            ..
        } = self;
        let panes = open.partition_point(|pane| pane.0 < window.end.0);
        merged.groups.clear();
        for &(_, slot) in open.range(..panes) {
            merged.groups.extend(&slots[slot as usize].used);
        }
        merged.groups.sort_unstable();
        merged.groups.dedup();
        for at in 0..merged.groups.len() {
            let group = merged.groups[at] as usize;
            let fired = fired.get(group);
            if fired.is_some_and(|fired| window.max_timestamp().0 <= *fired) {
                continue;
            }
            let mut holders = open.range(..panes).filter_map(|&(_, slot)| {
                let table = &slots[slot as usize].tables[group];
                (table.len() > 0).then_some((slot, table))
            });
            let (Some(first), second) = (holders.next(), holders.next()) else {
                continue;
            };
            if second.is_none() {
                for (key, value) in first.1.iter() {
                    emit(window, key, value)?;
                }
                continue;
            }
            merged.index.clear();
            merged.entries.clear();
            for (slot, table) in [first].into_iter().chain(second).chain(holders) {
                merged.add(
                    slot,
                    table,
                    |slot| &slots[slot as usize].tables[group],
                    merge,
                );
            }
            for entry in &merged.entries {
                let (_, key, _) = slots[entry.slot as usize].tables[group].entry(entry.place);
                emit(window, key, &entry.value)?;
            }
        }
        merged.entries.clear();
        Ok(())
    }

    /// Forgets the panes that begin before this instant.
    fn drop_before(&mut self, start: i64) {
        while let Some(&(pane, slot)) = self.open.front() {
            if pane >= start {
                break;
            }
            self.open.pop_front();
            let spare = self.free.len() < SPARE_PANES;
            let pane = &mut self.slots[slot as usize];
            for group in pane.used.drain(..) {
                let table = &mut pane.tables[group as usize];
                if spare {
                    table.clear();
                } else {
                    *table = KeyTable::default();
                }
            }
            self.free.push(slot);
            self.cursor = NOWHERE;
        }
    }
}

impl<K: Key, A: Record> Panes<K, A> {
    /// Appends what is there of a key group, and returns how many entries that is: start of the pane, key, accumulator.
    pub(super) fn write(&self, group: usize, out: &mut Vec<u8>) -> Result<u64, Malformed> {
        let mut entries = 0;
        for &(start, slot) in &self.open {
            for (key, accumulator) in self.slots[slot as usize].tables[group].iter() {
                codec::encode(&start, out)?;
                codec::encode(key, out)?;
                codec::encode(accumulator, out)?;
                entries += 1;
            }
        }
        Ok(entries)
    }

    /// Takes one entry of a key group.
    pub(super) fn read(&mut self, group: usize, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let start: i64 = codec::decode(bytes)?;
        let key: K = codec::decode(bytes)?;
        let accumulator = codec::decode(bytes)?;
        // A pane that has fired in part, as those of sliding windows have, is still one for the windows to come.
        let slot = self.open(start);
        self.place(slot, group, key_hash(&key), &key, || accumulator);
        Ok(())
    }

    /// Appends until when windows have fired for a key group, and returns the number of entries: none if nothing of it waits to fire.
    pub(super) fn write_fired(&self, group: usize, out: &mut Vec<u8>) -> Result<u64, Malformed> {
        let mut slots = self
            .open
            .iter()
            .map(|&(_, slot)| &self.slots[slot as usize]);
        if slots.all(|pane| pane.tables[group].len() == 0) {
            return Ok(0);
        }
        let before = self.fired.get(group).copied().unwrap_or(i64::MIN);
        codec::encode(&self.passed.max(before), out)?;
        Ok(1)
    }

    /// Takes until when windows have fired for a key group.
    pub(super) fn read_fired(&mut self, group: usize, bytes: &mut &[u8]) -> Result<(), Malformed> {
        self.fired.resize(self.key_groups, i64::MIN);
        self.fired[group] = codec::decode(bytes)?;
        Ok(())
    }

    /// Windows that ended at or before this instant have fired.
    pub(super) const fn passed(&self) -> i64 {
        self.passed
    }

    /// See [`Self::passed`].
    pub(super) fn pass(&mut self, passed: i64) {
        self.passed = self.passed.max(passed);
    }
}

impl<A: Clone> Merged<A> {
    fn add<'a, K: Eq + Clone + 'a>(
        &mut self,
        slot: u32,
        table: &KeyTable<K, A>,
        table_of: impl Fn(u32) -> &'a KeyTable<K, A>,
        merge: &impl Fn(&mut A, &A),
    ) where
        A: 'a,
    {
        let Self { index, entries, .. } = self;
        for place in 0..table.len() as u32 {
            let (hash, key, value) = table.entry(place);
            let found = index.find(hash, |&at| {
                let entry = &entries[at as usize];
                entry.hash == hash && table_of(entry.slot).entry(entry.place).1 == key
            });
            if let Some(&at) = found {
                merge(&mut entries[at as usize].value, value);
                continue;
            }
            let at = entries.len() as u32;
            index.insert_unique(hash, at, |&other| entries[other as usize].hash);
            entries.push(Entry {
                hash,
                slot,
                place,
                value: value.clone(),
            });
        }
    }
}
