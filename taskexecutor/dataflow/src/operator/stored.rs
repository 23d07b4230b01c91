//! Running values that do not all fit into memory: a table that writes back, before a store.
//!
//! ```text
//! young   what was used lately              full: it is written back and becomes the old one, and what the old one had is let go
//! old     what was used before that         used again: copied to the young one
//! store   all but what is changed in young
//! ```
//! A key that is used once in each turn of the tables never leaves memory, at the price of one look-up; nothing is kept for each use. Entries stay
//! where they are while a batch is worked on.

use std::mem::{needs_drop, size_of};
use std::sync::Arc;

use spindle_common::key_group::key_group;

use crate::codec;
use crate::connector::OperatorError;
use crate::key::Keys;
use crate::operator::table::{Entry, KeyTable};
use crate::record::{Key, Record};
use crate::snapshot::{Restored, Snapshot, StateOwner, from_bytes};
use crate::state::store::{
    self, Bytes, FrozenState, Kept, Opened, StateStore, StateStores, StoreError, StoredState,
    Writing, take_over,
};
use crate::task::TaskError;

/// What the index takes for an entry beside the entry itself, in bytes: a place and a byte of control, and the room that is free.
const INDEX: usize = 8;

/// A value in memory.
#[derive(Debug, Clone)]
struct Cached<V> {
    value: V,
    /// The store has another one or none.
    changed: bool,
}

/// A value for each key, most of them in a store.
pub(crate) struct StoredTable<K, V> {
    owner: StateOwner,
    name: &'static str,
    schema: String,
    store: Arc<dyn StateStore>,
    state: StoredState,
    incremental: bool,
    young: KeyTable<K, Cached<V>>,
    old: KeyTable<K, Cached<V>>,
    /// Places in the young table whose value is changed.
    changed: Vec<u32>,
    /// Number of keys, by key group from the subtask's first.
    entries: Vec<u64>,
    /// Memory for both tables.
    table_bytes: usize,
    /// What keys and values took that were read and written, and how many those were: what they own beside the table is guessed by it.
    seen: (u64, u64),
    /// Keys of a batch that are in neither table: which of its records, and the key in the store.
    missing: Vec<usize>,
    wanted: Bytes,
}

impl<K: Key, V: Record> StoredTable<K, V> {
    /// The table of an operator's only state, with what the stores of the snapshot have that the task begins with.
    pub(crate) fn open(
        owner: &StateOwner,
        stores: &dyn StateStores,
        name: &'static str,
        schema: String,
    ) -> Result<Self, TaskError> {
        let failed = |error: StoreError| owner.store_failed(&error);
        let opened = stores.open(owner.uid(), owner.groups()).map_err(failed)?;
        let mut entries = vec![0; owner.groups().count()];
        let mut kept = [Kept {
            name,
            schema: schema.clone(),
            entries: &mut entries,
        }];
        take_over(owner, &opened, &mut kept)?;
        let Opened { store, .. } = opened;
        Ok(Self {
            owner: owner.clone(),
            name,
            schema,
            store,
            state: StoredState::new(name).map_err(failed)?,
            incremental: stores.incremental(),
            young: KeyTable::default(),
            old: KeyTable::default(),
            changed: Vec::new(),
            entries,
            table_bytes: stores.table_bytes(),
            seen: (0, 0),
            missing: Vec::new(),
            wanted: Bytes::default(),
        })
    }

    /// Brings the values of these keys into the young table, those of new keys made by `create`, and appends their places in it. They hold until
    /// [`Self::relieve`].
    pub(crate) fn find(
        &mut self,
        keys: &Keys<'_, K>,
        hashes: &[u64],
        create: impl Fn() -> V,
        places: &mut Vec<(u32, u32)>,
    ) -> Result<(), TaskError> {
        self.missing.clear();
        self.wanted.clear();
        let first = places.len();
        for (index, &hash) in hashes.iter().enumerate() {
            let key = keys.get(index);
            let place = match self.young.find(hash, key) {
                Some(place) => place,
                None => match self.old.find(hash, key) {
                    Some(place) => {
                        let cached = self.old.entry(place).2.clone();
                        self.young.insert(hash, key.clone(), cached)
                    }
                    None => {
                        let group = self.group(hash)?;
                        let put = |out: &mut Vec<u8>| self.state.put_key(group, key, out);
                        let put = self.wanted.push_with(put);
                        put.map_err(|why| self.owner.unwritable(self.name, &why))?;
                        self.missing.push(index);
                        u32::MAX
                    }
                },
            };
            places.push((0, place));
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        let found = self.store.get_many(&self.wanted);
        let found = found.map_err(|error| self.owner.store_failed(&error))?;
        let missing = std::mem::take(&mut self.missing);
        for ((at, &index), value) in missing.iter().enumerate().zip(found) {
            let (hash, key) = (hashes[index], keys.get(index));
            // It may be in the batch twice.
            let place = match (self.young.find(hash, key), value) {
                (Some(place), _) => place,
                (None, Some(bytes)) => {
                    let value: V =
                        from_bytes(&bytes).map_err(|why| self.owner.unreadable(self.name, &why))?;
                    self.saw(self.wanted.get(at).len() + bytes.len());
                    let changed = false;
                    self.young
                        .insert(hash, key.clone(), Cached { value, changed })
                }
                (None, None) => {
                    let group = self.group(hash)? - *self.owner.groups().start();
                    self.entries[group as usize] += 1;
                    let (value, changed) = (create(), true);
                    let place = self
                        .young
                        .insert(hash, key.clone(), Cached { value, changed });
                    self.changed.push(place);
                    place
                }
            };
            places[first + index].1 = place;
        }
        self.missing = missing;
        Ok(())
    }

    /// The value in a place, to be changed.
    #[inline]
    pub(crate) fn value(&mut self, place: u32) -> &mut V {
        let cached = self.young.value(place);
        if !cached.changed {
            cached.changed = true;
            self.changed.push(place);
        }
        &mut cached.value
    }

    fn group(&self, hash: u64) -> Result<u32, TaskError> {
        let group = key_group(hash, self.owner.max_parallelism()).0;
        if self.owner.groups().contains(&group) {
            return Ok(group);
        }
        let error = OperatorError::permanent(format!(
            "got a record of key group {group}, which another subtask owns: the key is not the same in all processes"
        ));
        Err(error.of(self.owner.name()))
    }

    const fn saw(&mut self, bytes: usize) {
        self.seen.0 += bytes as u64;
        self.seen.1 += 1;
    }

    /// Memory that an entry takes, in bytes.
    fn entry_bytes(&self) -> usize {
        let owned = if needs_drop::<(K, V)>() {
            self.seen.0.checked_div(self.seen.1).unwrap_or(0) as usize
        } else {
            0
        };
        size_of::<Entry<K, Cached<V>>>() + INDEX + owned
    }

    /// After a batch: lets go of what was not used lately, if there is more in memory than there may be.
    pub(crate) fn relieve(&mut self) -> Result<(), TaskError> {
        if self.young.len() * self.entry_bytes() > self.table_bytes / 2 {
            self.write_back()?;
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        Ok(())
    }

    /// Puts all that is changed into the store.
    fn write_back(&mut self) -> Result<(), TaskError> {
        let mut writing = Writing::to(&*self.store);
        for &place in &self.changed {
            let (hash, key, cached) = self.young.entry(place);
            let group = key_group(hash, self.owner.max_parallelism()).0;
            let changes = writing.changes();
            let before = changes.bytes();
            let put = changes.put(
                |out| self.state.put_key(group, key, out),
                |out| codec::encode(&cached.value, out),
            );
            put.map_err(|why| self.owner.unwritable(self.name, &why))?;
            self.seen.0 += (changes.bytes() - before) as u64;
            self.seen.1 += 1;
            let relieved = writing.relieve();
            relieved.map_err(|error| self.owner.store_failed(&error))?;
        }
        let finished = writing.finish();
        finished.map_err(|error| self.owner.store_failed(&error))?;
        for place in self.changed.drain(..) {
            self.young.value(place).changed = false;
        }
        Ok(())
    }

    /// Writes the state: its files, or all entries as of memory, from what is frozen now.
    pub(crate) fn write(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.write_back()?;
        let frozen = self.store.freeze();
        let frozen = frozen.map_err(|error| self.owner.store_failed(&error))?;
        let state = FrozenState {
            name: self.name,
            schema: &self.schema,
            state: &self.state,
            entries: &self.entries,
        };
        store::write(&self.owner, into, self.incremental, &frozen, &[state])
    }

    /// Takes what a state in memory or in a store has written entry by entry.
    pub(crate) fn read(&mut self, from: &Restored) -> Result<(), TaskError> {
        let Self {
            owner,
            name,
            schema,
            store,
            state,
            entries,
            ..
        } = self;
        let mut writing = Writing::to(&**store);
        let first = *owner.groups().start();
        from.keyed(owner, name, schema, |group, bytes| {
            let whole = *bytes;
            let _: K = codec::decode(bytes)?;
            let key = &whole[..whole.len() - bytes.len()];
            let rest = *bytes;
            let _: V = codec::decode(bytes)?;
            let value = &rest[..rest.len() - bytes.len()];
            entries[group] += 1;
            state.put_bytes(first + group as u32, key, value, writing.changes())?;
            Ok(writing.relieve()?)
        })?;
        let finished = writing.finish();
        finished.map_err(|error| owner.store_failed(&error))
    }
}
