//! The keyed state of one subtask: keys, columns, timers.

use std::any::{Any, type_name};
use std::sync::Arc;

use spindle_common::key_group::key_hash;
use spindle_common::time::EventTime;

use crate::codec::{self, Malformed};
use crate::key::Keys;
use crate::operator::OperatorContext;
use crate::operator::groups::Groups;
use crate::record::Key;
use crate::snapshot::{Restored, Snapshot, StateOwner};
use crate::state::Place;
use crate::state::residence::Residence;
use crate::state::store::StateStores;
use crate::state::table::SlotTable;
use crate::task::TaskError;
use crate::timer::Timers;

/// Slots that are looked through for expired state with each batch, for each state, however small the batch is.
const SWEPT_AT_LEAST: usize = 64;

/// Slots that may be free: more are not remembered before they are looked at, where that is possible.
const MAYBE_FREE: usize = 1024;

/// Names of the states that the timers of event time and of processing time are. No state that a function declares has such a name.
const TIMERS: [&str; 2] = ["(timers of event time)", "(timers of processing time)"];

/// One state of all keys: a column for each key group.
pub(crate) trait Column: Any {
    /// Whether this key has nothing in it.
    fn is_empty(&self, place: Place) -> bool;

    /// Looks through the group from a slot on, at most so many slots, for what has expired, and adds the keys that lost all they had to
    /// `emptied`. Returns how many slots there were.
    fn sweep(&mut self, from: Place, slots: usize, now: i64, emptied: &mut Vec<Place>) -> usize;

    /// Whether it has a time to live.
    fn expires(&self) -> bool;

    /// What it is, and of which types.
    fn schema(&self) -> String;

    /// Appends what it has for a key that is not [empty](Self::is_empty).
    fn write(&self, place: Place, out: &mut Vec<u8>) -> Result<(), Malformed>;

    /// Takes what [`Self::write`] has appended for the key in this place.
    fn read(&mut self, place: Place, bytes: &mut &[u8]) -> Result<(), Malformed>;

    /// Leaves this key with nothing.
    fn clear(&mut self, place: Place);

    /// Memory that a key without anything takes, in bytes.
    fn slot_bytes(&self) -> usize;

    /// Whether reading changes what is written.
    fn changes_when_read(&self) -> bool;
}

/// A declared state.
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) column: Box<dyn Column>,
    /// How far the sweep has come.
    swept: Place,
}

impl Declared {
    pub(crate) const fn new(name: String, column: Box<dyn Column>) -> Self {
        Self {
            name,
            column,
            swept: Place { group: 0, slot: 0 },
        }
    }
}

/// What a function reaches of the state: the columns at the current place, and the timers.
pub(crate) struct Keyed {
    pub(crate) states: Vec<Declared>,
    pub(crate) event_timers: Timers,
    pub(crate) processing_timers: Timers,
    /// That of the current key.
    pub(crate) place: Place,
    /// Processing time, by which state expires.
    pub(crate) now: i64,
    maybe_free: Vec<Place>,
    /// What of it stands in a store, if there is one.
    pub(crate) residence: Option<Box<Residence>>,
}

impl Keyed {
    /// The current key may have lost all it had.
    #[inline]
    pub(crate) fn cleared(&mut self) {
        self.maybe_free.push(self.place);
    }

    fn expires(&self) -> bool {
        self.states.iter().any(|state| state.column.expires())
    }

    fn is_free(&self, place: Place) -> bool {
        let in_memory = |residence: &Residence| residence.is_in_memory(place);
        self.residence.as_deref().is_none_or(in_memory)
            && self.states.iter().all(|state| state.column.is_empty(place))
            && !self.event_timers.has_any(place)
            && !self.processing_timers.has_any(place)
    }

    fn sweep(&mut self, slots: usize) {
        let groups = self.event_timers.groups() as u32;
        let states = (0..).zip(&mut self.states);
        for (index, state) in states.filter(|(_, state)| state.column.expires()) {
            let mut left = slots;
            for _ in 0..groups {
                let before = self.maybe_free.len();
                let looked = state
                    .column
                    .sweep(state.swept, left, self.now, &mut self.maybe_free);
                if let Some(residence) = &mut self.residence {
                    let emptied = &self.maybe_free[before..];
                    emptied
                        .iter()
                        .for_each(|&place| residence.changed(place, index));
                }
                if looked == left {
                    state.swept.slot += looked as u32;
                    break;
                }
                left -= looked;
                state.swept = Place {
                    group: (state.swept.group + 1) % groups,
                    slot: 0,
                };
            }
        }
    }
}

/// The keyed state of one subtask.
pub(crate) struct KeyedStore<K> {
    pub(crate) tables: Groups<SlotTable<K>>,
    pub(crate) keyed: Keyed,
    expires: bool,
    stores: Option<Arc<dyn StateStores>>,
}

impl<K: Key> KeyedStore<K> {
    /// The state of the operator's key groups: these states, all empty. With `stores` it need not fit into memory.
    pub(crate) fn new(
        context: &OperatorContext,
        states: Vec<Declared>,
        stores: Option<Arc<dyn StateStores>>,
    ) -> Self {
        let tables = Groups::of(context);
        let groups = tables.len();
        let keyed = Keyed {
            states,
            event_timers: Timers::new(groups),
            processing_timers: Timers::new(groups),
            place: Place { group: 0, slot: 0 },
            now: i64::MIN,
            maybe_free: Vec::new(),
            residence: None,
        };
        Self {
            tables,
            expires: keyed.expires(),
            keyed,
            stores,
        }
    }

    /// A batch or a timer's turn begins: what has expired by `clock` is gone.
    pub(crate) fn begin(&mut self, clock: impl FnOnce() -> EventTime) {
        if self.expires {
            self.keyed.now = clock().0;
        }
    }

    /// Appends the place of each record's key, with its state in memory. Places hold until [`Self::finish`].
    pub(crate) fn places(
        &mut self,
        owner: &StateOwner,
        keys: &Keys<'_, K>,
        hashes: &[u64],
        places: &mut Vec<Place>,
    ) -> Result<(), TaskError> {
        for (index, &hash) in hashes.iter().enumerate() {
            let group = self.tables.place(hash).map_err(|e| e.of(owner.name()))?;
            let (slot, new) = self.tables.at(group).slot(hash, keys.get(index));
            let place = Place {
                group: group as u32,
                slot,
            };
            if new {
                self.keyed.maybe_free.push(place);
            }
            places.push(place);
        }
        if self.keyed.residence.is_some() {
            self.load(owner, places)?;
        }
        Ok(())
    }

    /// Brings the state of the keys in these places into memory, if it is not there.
    pub(crate) fn load(&mut self, owner: &StateOwner, places: &[Place]) -> Result<(), TaskError> {
        let Self { tables, keyed, .. } = self;
        let Some(mut residence) = keyed.residence.take() else {
            return Ok(());
        };
        let key = |place: Place| tables.get(place.group as usize).key(place.slot);
        let loaded = residence.load(owner, places, key, &mut keyed.states);
        keyed.residence = Some(residence);
        loaded
    }

    /// Within a turn of many timers: frees what a function left without state, and lets go of what is too much for memory. No places may be
    /// kept.
    pub(crate) fn relieve(&mut self, owner: &StateOwner) -> Result<(), TaskError> {
        if self.keyed.maybe_free.len() >= MAYBE_FREE {
            self.free(owner)?;
        }
        self.evict(owner)
    }

    /// After a batch of this many records: removes some of what has expired, frees the slots of keys without state and timers, and lets go of
    /// what is too much for memory.
    pub(crate) fn finish(&mut self, owner: &StateOwner, records: usize) -> Result<(), TaskError> {
        if self.expires {
            self.keyed.sweep(records.max(SWEPT_AT_LEAST));
        }
        self.free(owner)?;
        self.evict(owner)
    }

    fn free(&mut self, owner: &StateOwner) -> Result<(), TaskError> {
        let Self { tables, keyed, .. } = self;
        let mut maybe_free = std::mem::take(&mut keyed.maybe_free);
        if keyed.residence.is_some() {
            // A place may be in it twice, and the store hears of it once.
            maybe_free.sort_unstable();
            maybe_free.dedup();
            maybe_free.retain(|&place| keyed.is_free(place));
        }
        if let Some(residence) = &mut keyed.residence {
            let key = |place: Place| tables.get(place.group as usize).key(place.slot);
            residence.forget(owner, &maybe_free, key, &keyed.states)?;
        }
        for place in maybe_free.drain(..) {
            if keyed.is_free(place) || keyed.residence.is_some() {
                tables.at(place.group as usize).remove(place.slot);
            }
        }
        keyed.maybe_free = maybe_free;
        Ok(())
    }

    /// Lets go of the state of keys that were not used lately, if there is too much of it. Keys with timers stay.
    fn evict(&mut self, owner: &StateOwner) -> Result<(), TaskError> {
        let Self { tables, keyed, .. } = self;
        let Some(residence) = &mut keyed.residence else {
            return Ok(());
        };
        if !residence.is_full() {
            return Ok(());
        }
        let key = |place: Place| tables.get(place.group as usize).key(place.slot);
        let gone = residence.evict(owner, key, &mut keyed.states)?;
        for place in gone {
            let timers = [&keyed.event_timers, &keyed.processing_timers];
            if !timers.iter().any(|timers| timers.has_any(place)) {
                tables.at(place.group as usize).remove(place.slot);
            }
        }
        Ok(())
    }

    /// Writes all states and timers.
    pub(crate) fn write(
        &mut self,
        owner: &StateOwner,
        into: &mut Snapshot,
    ) -> Result<(), TaskError> {
        let key = type_name::<K>();
        if let Some(mut residence) = self.keyed.residence.take() {
            let key = |place: Place| self.tables.get(place.group as usize).key(place.slot);
            let written = residence.write(owner, into, key, &self.keyed.states);
            self.keyed.residence = Some(residence);
            written?;
        } else {
            for state in &self.keyed.states {
                let schema = format!("{} by {key}", state.column.schema());
                into.keyed(owner, &state.name, schema, |group, out| {
                    let mut entries = 0;
                    self.each_key(group, |place, key| {
                        if !state.column.is_empty(place) {
                            entries += 1;
                            codec::encode(key, out)?;
                            state.column.write(place, out)?;
                        }
                        Ok(())
                    })?;
                    Ok(entries)
                })?;
            }
        }
        let timers = [&self.keyed.event_timers, &self.keyed.processing_timers];
        for (name, timers) in TIMERS.into_iter().zip(timers) {
            into.keyed(owner, name, format!("timers by {key}"), |group, out| {
                let mut entries = 0;
                self.each_key(group, |place, key| {
                    let times = timers.times(place);
                    if !times.is_empty() {
                        entries += 1;
                        codec::encode(key, out)?;
                        codec::encode(&times, out)?;
                    }
                    Ok(())
                })?;
                Ok(entries)
            })?;
        }
        Ok(())
    }

    fn each_key(
        &self,
        group: usize,
        mut call: impl FnMut(Place, &K) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let table = self.tables.get(group);
        for slot in table.used() {
            let place = Place {
                group: group as u32,
                slot,
            };
            let key = table.key(slot).expect("a used slot has a key");
            call(place, key)?;
        }
        Ok(())
    }

    /// Takes what [`Self::write`] wrote. States that are declared now and were not then begin empty.
    pub(crate) fn read(&mut self, owner: &StateOwner, from: &Restored) -> Result<(), TaskError> {
        let by = type_name::<K>();
        if let Some(stores) = &self.stores {
            let residence =
                Residence::restore::<K>(owner, &**stores, &mut self.keyed.states, from)?;
            self.keyed.residence = Some(Box::new(residence));
        }
        let Self { tables, keyed, .. } = self;
        let mut place_of = |group: usize, bytes: &mut &[u8]| {
            let key: K = codec::decode(bytes)?;
            let (slot, _) = tables.at(group).slot(key_hash(&key), &key);
            Ok::<_, Malformed>(Place {
                group: group as u32,
                slot,
            })
        };
        if keyed.residence.is_none() {
            for state in &mut keyed.states {
                let schema = format!("{} by {by}", state.column.schema());
                from.keyed(owner, &state.name, &schema, |group, bytes| {
                    let place = place_of(group, bytes)?;
                    state.column.read(place, bytes)
                })?;
            }
        }
        let timers = [&mut keyed.event_timers, &mut keyed.processing_timers];
        for (name, timers) in TIMERS.into_iter().zip(timers) {
            from.keyed(owner, name, &format!("timers by {by}"), |group, bytes| {
                let place = place_of(group, bytes)?;
                let times: Vec<i64> = codec::decode(bytes)?;
                for time in times {
                    timers.register(place, EventTime(time));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// All places that have a key, by key group and slot.
    pub(crate) fn all(&self) -> Vec<Place> {
        let groups = (0..).zip(self.tables.iter());
        groups
            .flat_map(|(group, table)| table.used().map(move |slot| Place { group, slot }))
            .collect()
    }
}
