//! Which keys of a function have their state in memory, and what of it the store does not have yet.
//!
//! Columns hold the keys that are worked on, as where all state is in memory. When they take too much, those that were not used since the hand
//! came by last are written back and let go. A key with timers keeps its slot, without the rest.

use std::any::type_name;
use std::mem::size_of;
use std::sync::Arc;

use crate::codec::{self, Malformed};
use crate::record::Key;
use crate::snapshot::{Restored, Snapshot, StateOwner};
use crate::state::Place;
use crate::state::keyed::Declared;
use crate::state::store::{
    self, Bytes, FrozenState, Kept, StateStore, StateStores, StoreError, StoredState, Writing,
    take_over,
};
use crate::task::TaskError;

/// States of a function are bits of a number.
const MOST_STATES: usize = 64;

/// What the table of keys takes for a key beside the key itself, in bytes.
const SLOT: usize = 24;

/// How much room is made when there is none, as a share of all: making room for one key at a time would be a look at all that are used for each.
const ROOM: usize = 8;

/// What is known of the key in a slot. The states are bits, by their index.
#[derive(Debug, Clone, Copy, Default)]
struct Resident {
    /// Its state is in the columns.
    in_memory: bool,
    /// Since the hand came by.
    used: bool,
    /// States that the store has for it.
    stored: u64,
    /// States that the store does not have as they are.
    changed: u64,
}

/// What the store holds of one state.
struct Stored {
    name: String,
    schema: String,
    state: StoredState,
    /// Number of keys, by key group from the subtask's first.
    entries: Vec<u64>,
}

/// The state of a function's keys, in memory and in a store.
pub(crate) struct Residence {
    store: Arc<dyn StateStore>,
    incremental: bool,
    states: Vec<Stored>,
    /// By key group and slot.
    slots: Vec<Vec<Resident>>,
    /// Number of keys in memory.
    in_memory: usize,
    hand: Place,
    table_bytes: usize,
    /// What a key takes without what its key and states own.
    slot_bytes: usize,
    /// Bytes of keys with their states that were read and written, and how many those were: what they own is guessed by it.
    seen: (u64, u64),
    /// States that reading changes.
    changed_when_read: u64,
    wanted: Bytes,
}

impl Residence {
    /// A store for these states, with what the snapshot has of them, be it from a store or from memory.
    pub(crate) fn restore<K: Key>(
        owner: &StateOwner,
        stores: &dyn StateStores,
        declared: &mut [Declared],
        from: &Restored,
    ) -> Result<Self, TaskError> {
        let failed = |error: StoreError| owner.store_failed(&error);
        if declared.len() > MOST_STATES {
            return Err(failed(StoreError {
                doing: format!("keep {} states of a function in a store", declared.len()),
                reason: format!("there is room for {MOST_STATES}"),
            }));
        }
        let groups = owner.groups();
        let opened = stores.open(owner.uid(), groups.clone()).map_err(failed)?;
        let mut states = Vec::new();
        for one in &*declared {
            states.push(Stored {
                name: one.name.clone(),
                schema: format!("{} by {}", one.column.schema(), type_name::<K>()),
                state: StoredState::new(&one.name).map_err(failed)?,
                entries: vec![0; groups.clone().count()],
            });
        }
        let mut kept: Vec<_> = states
            .iter_mut()
            .map(|state| Kept {
                name: &state.name,
                schema: state.schema.clone(),
                entries: &mut state.entries,
            })
            .collect();
        take_over(owner, &opened, &mut kept)?;
        let mut writing = Writing::to(&*opened.store);
        for (one, into) in declared.iter_mut().zip(&mut states) {
            from.keyed(owner, &into.name, &into.schema, |group, bytes| {
                let whole = *bytes;
                let _: K = codec::decode(bytes)?;
                let key = &whole[..whole.len() - bytes.len()];
                let rest = *bytes;
                // Only the column knows where a state ends; nothing is in it yet.
                let place = Place {
                    group: group as u32,
                    slot: 0,
                };
                one.column.read(place, bytes)?;
                one.column.clear(place);
                let value = &rest[..rest.len() - bytes.len()];
                into.entries[group] += 1;
                let group = groups.start() + group as u32;
                into.state.put_bytes(group, key, value, writing.changes())?;
                Ok(writing.relieve()?)
            })?;
        }
        writing.finish().map_err(failed)?;
        drop(writing);
        let columns = declared.iter().map(|one| one.column.slot_bytes());
        let when_read = (0..).zip(&*declared);
        let when_read = when_read.filter(|(_, one)| one.column.changes_when_read());
        Ok(Self {
            store: opened.store,
            incremental: stores.incremental(),
            states,
            slots: groups.map(|_| Vec::new()).collect(),
            in_memory: 0,
            hand: Place { group: 0, slot: 0 },
            table_bytes: stores.table_bytes(),
            slot_bytes: size_of::<K>() + SLOT + size_of::<Resident>() + columns.sum::<usize>(),
            seen: (0, 0),
            changed_when_read: when_read.fold(0, |all, (index, _)| all | 1 << index),
            wanted: Bytes::default(),
        })
    }

    /// Whether the state of the key in a place is in the columns.
    pub(crate) fn is_in_memory(&self, place: Place) -> bool {
        let slots = &self.slots[place.group as usize];
        slots
            .get(place.slot as usize)
            .is_some_and(|slot| slot.in_memory)
    }

    fn slot(&mut self, place: Place) -> &mut Resident {
        let slots = &mut self.slots[place.group as usize];
        let slot = place.slot as usize;
        if slot >= slots.len() {
            slots.resize_with(slot + 1, Resident::default);
        }
        &mut slots[slot]
    }

    /// A state of a key that is in memory is about to be another one.
    #[inline]
    pub(crate) fn changed(&mut self, place: Place, state: u32) {
        self.slots[place.group as usize][place.slot as usize].changed |= 1 << state;
    }

    /// Has the states of the keys in these places in the columns, for a use of them.
    pub(crate) fn load<'k, K: Key>(
        &mut self,
        owner: &StateOwner,
        places: &[Place],
        key: impl Fn(Place) -> Option<&'k K>,
        declared: &mut [Declared],
    ) -> Result<(), TaskError> {
        let first = *owner.groups().start();
        let changed = self.changed_when_read;
        let mut missing = Vec::new();
        self.wanted.clear();
        for &place in places {
            let slot = self.slot(place);
            slot.used = true;
            slot.changed |= changed;
            if slot.in_memory {
                continue;
            }
            slot.in_memory = true;
            missing.push(place);
            let key = key(place).expect("a place of a record or a timer has a key");
            for state in &self.states {
                let group = first + place.group;
                let put = self
                    .wanted
                    .push_with(|out| state.state.put_key(group, key, out));
                put.map_err(|why| owner.unwritable(&state.name, &why))?;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.in_memory += missing.len();
        let found = self.store.get_many(&self.wanted);
        let mut found = found
            .map_err(|error| owner.store_failed(&error))?
            .into_iter();
        for place in missing {
            let mut bytes = 0;
            for (index, (one, value)) in declared.iter_mut().zip(&mut found).enumerate() {
                let Some(value) = value else {
                    continue;
                };
                bytes += value.len();
                let mut rest = &value[..];
                let read = one.column.read(place, &mut rest);
                let all = match rest.len() {
                    0 => Ok(()),
                    more => Err(Malformed::Length(more)),
                };
                read.and(all)
                    .map_err(|why| owner.unreadable(&one.name, &why))?;
                self.slot(place).stored |= 1 << index;
            }
            self.saw(bytes);
        }
        Ok(())
    }

    const fn saw(&mut self, bytes: usize) {
        self.seen.0 += bytes as u64;
        self.seen.1 += 1;
    }

    /// Number of keys that may be in memory.
    fn most(&self) -> usize {
        let owned = self.seen.0.checked_div(self.seen.1).unwrap_or(0) as usize;
        self.table_bytes / (self.slot_bytes + owned)
    }

    /// Whether more keys are in memory than may be.
    pub(crate) fn is_full(&self) -> bool {
        self.in_memory > self.most()
    }

    /// Puts what is changed of the key in a place into the store.
    fn write_back<K: Key>(
        &mut self,
        owner: &StateOwner,
        place: Place,
        key: &K,
        declared: &[Declared],
        writing: &mut Writing<'_>,
    ) -> Result<(), TaskError> {
        let mut slot = *self.slot(place);
        let group = owner.groups().start() + place.group;
        let mut left = slot.changed;
        let mut bytes = 0;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            let bit = 1 << index;
            let (state, column) = (&mut self.states[index], &declared[index].column);
            let put_key = |out: &mut Vec<u8>| state.state.put_key(group, key, out);
            let entries = &mut state.entries[place.group as usize];
            let changes = writing.changes();
            let before = changes.bytes();
            let made = match (column.is_empty(place), slot.stored & bit != 0) {
                (true, false) => Ok(()),
                (true, true) => {
                    *entries -= 1;
                    changes.remove(put_key)
                }
                (false, stored) => {
                    *entries += u64::from(!stored);
                    changes.put(put_key, |out| column.write(place, out))
                }
            };
            bytes += changes.bytes() - before;
            made.map_err(|why| owner.unwritable(&state.name, &why))?;
            slot.stored = if column.is_empty(place) {
                slot.stored & !bit
            } else {
                slot.stored | bit
            };
        }
        if bytes > 0 {
            self.saw(bytes);
        }
        slot.changed = 0;
        *self.slot(place) = slot;
        writing
            .relieve()
            .map_err(|error| owner.store_failed(&error))
    }

    /// The keys in these places have lost all they had, and their slots.
    pub(crate) fn forget<'k, K: Key>(
        &mut self,
        owner: &StateOwner,
        places: &[Place],
        key: impl Fn(Place) -> Option<&'k K>,
        declared: &[Declared],
    ) -> Result<(), TaskError> {
        let store = Arc::clone(&self.store);
        let mut writing = Writing::to(&*store);
        for &place in places {
            let stored = self.slot(place).stored;
            self.slot(place).changed = stored;
            if let Some(key) = key(place) {
                self.write_back(owner, place, key, declared, &mut writing)?;
            }
            self.in_memory -= 1;
            *self.slot(place) = Resident::default();
        }
        writing.finish().map_err(|error| owner.store_failed(&error))
    }

    /// Lets go of keys that were not used lately until there is room, and returns their places.
    pub(crate) fn evict<'k, K: Key>(
        &mut self,
        owner: &StateOwner,
        key: impl Fn(Place) -> Option<&'k K>,
        declared: &mut [Declared],
    ) -> Result<Vec<Place>, TaskError> {
        let store = Arc::clone(&self.store);
        let mut writing = Writing::to(&*store);
        let mut gone = Vec::new();
        let most = self.most();
        let keep = most - most / ROOM;
        while self.in_memory > keep {
            let Some(slot) = self.slots[self.hand.group as usize].get_mut(self.hand.slot as usize)
            else {
                let groups = self.slots.len() as u32;
                self.hand = Place {
                    group: (self.hand.group + 1) % groups,
                    slot: 0,
                };
                continue;
            };
            let place = self.hand;
            self.hand.slot += 1;
            if !slot.in_memory || std::mem::take(&mut slot.used) {
                continue;
            }
            let key = key(place).expect("a key in memory has a slot");
            self.write_back(owner, place, key, declared, &mut writing)?;
            declared.iter_mut().for_each(|one| one.column.clear(place));
            *self.slot(place) = Resident::default();
            self.in_memory -= 1;
            gone.push(place);
        }
        writing
            .finish()
            .map_err(|error| owner.store_failed(&error))?;
        Ok(gone)
    }

    /// Writes all states: the files of the store, or all entries as of memory, from what is frozen now.
    pub(crate) fn write<'k, K: Key>(
        &mut self,
        owner: &StateOwner,
        into: &mut Snapshot,
        key: impl Fn(Place) -> Option<&'k K>,
        declared: &[Declared],
    ) -> Result<(), TaskError> {
        let store = Arc::clone(&self.store);
        let mut writing = Writing::to(&*store);
        for group in 0..self.slots.len() {
            for slot in 0..self.slots[group].len() {
                if self.slots[group][slot].changed == 0 {
                    continue;
                }
                let place = Place {
                    group: group as u32,
                    slot: slot as u32,
                };
                let key = key(place).expect("a key in memory has a slot");
                self.write_back(owner, place, key, declared, &mut writing)?;
            }
        }
        writing
            .finish()
            .map_err(|error| owner.store_failed(&error))?;
        let frozen = self.store.freeze();
        let frozen = frozen.map_err(|error| owner.store_failed(&error))?;
        let states = self.states.iter().map(|one| FrozenState {
            name: &one.name,
            schema: &one.schema,
            state: &one.state,
            entries: &one.entries,
        });
        let states: Vec<_> = states.collect();
        store::write(owner, into, self.incremental, &frozen, &states)
    }
}
