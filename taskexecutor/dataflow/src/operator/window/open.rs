//! What windows gather that fire key by key.
//!
//! ```text
//! key group ── key ── its open windows, by start ── accumulator, trigger state, timers
//! wakes, one queue for each clock: instant ── (key group, place of the key, id of the window)
//! ```
//! A window is in each queue at most once in earnest, for the earliest of its timers. A timer that moves to a later instant, as that of a
//! session does with each record, leaves the queue alone: the window is put in again when the old instant comes.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use super::trigger::Timers;
use super::{TimeWindow, WindowTime};

/// Keys of one key group, each at a place that stays until it is removed.
pub(super) struct KeySlots<K, V> {
    index: HashTable<u32>,
    slots: Vec<Option<KeySlot<K, V>>>,
    free: Vec<u32>,
}

struct KeySlot<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> Default for KeySlots<K, V> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Eq + Clone, V: Default> KeySlots<K, V> {
    /// The place of a key, which is made if it is not there.
    pub(super) fn place(&mut self, hash: u64, key: &K) -> u32 {
        let Self { index, slots, free } = self;
        let same = |place: &u32| {
            let slot = &slots[*place as usize];
            slot.as_ref()
                .is_some_and(|slot| slot.hash == hash && slot.key == *key)
        };
        if let Some(&place) = index.find(hash, same) {
            return place;
        }
        let place = free.pop().unwrap_or_else(|| {
            slots.push(None);
            u32::try_from(slots.len() - 1).expect("a key group holds less than 2^32 keys")
        });
        slots[place as usize] = Some(KeySlot {
            hash,
            key: key.clone(),
            value: V::default(),
        });
        let hash_of = |other: &u32| slots[*other as usize].as_ref().map_or(0, |slot| slot.hash);
        index.insert_unique(hash, place, hash_of);
        place
    }

    /// What is at a place, if there still is something.
    pub(super) fn get(&mut self, place: u32) -> Option<(&K, &mut V)> {
        let slot = self.slots.get_mut(place as usize)?.as_mut()?;
        Some((&slot.key, &mut slot.value))
    }

    /// Number of places: some may be empty.
    pub(super) const fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn remove(&mut self, place: u32) {
        let Some(slot) = self.slots[place as usize].take() else {
            return;
        };
        if let Ok(entry) = self.index.find_entry(slot.hash, |other| *other == place) {
            entry.remove();
        }
        self.free.push(place);
    }
}

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
