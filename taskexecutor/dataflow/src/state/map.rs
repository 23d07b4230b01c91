//! A map for each key.

use std::any::type_name;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use crate::codec::{self, Malformed};
use crate::operator::{FunctionResult, KeyedContext, ProcessContext};
use crate::record::{Key, Record};
use crate::snapshot::schema;
use crate::state::keyed::Column;
use crate::state::ttl::kind;
use crate::state::{Place, StateTtl};

/// An ordered map for each key; with a time to live, each entry has its own. Flink: `MapState`.
#[derive(Debug)]
pub struct MapState<M, V> {
    index: u32,
    entries: PhantomData<fn() -> (M, V)>,
}

impl<M, V> Clone for MapState<M, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, V> Copy for MapState<M, V> {}

impl<M: Record + Ord, V: Record> MapState<M, V> {
    pub(crate) const fn new(index: u32) -> Self {
        Self {
            index,
            entries: PhantomData,
        }
    }

    /// What the current key's map has under `at`.
    pub fn get<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c KeyedContext<'_, K, O>,
        at: &M,
    ) -> Option<&'c V> {
        let (column, place, now) = ctx.column::<Maps<M, V>>(self.index);
        let (value, stamp) = column.map(place)?.get(at)?;
        column.sees(stamp, now).then_some(value)
    }

    /// What the current key's map has under `at`, to be changed: that counts as writing it.
    pub fn get_mut<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c mut KeyedContext<'_, K, O>,
        at: &M,
    ) -> Option<&'c mut V> {
        let (column, place, now) = ctx.column_mut::<Maps<M, V>>(self.index);
        let ttl = column.ttl;
        let map = column.groups[place.group as usize].get_mut(place.slot as usize)?;
        let (value, stamp) = map.get_mut(at)?;
        if ttl.is_some_and(|ttl| !ttl.read(stamp, now)) {
            return None;
        }
        stamp.set(now);
        Some(value)
    }

    /// What the current key's map has under `at`, to be changed; made if there is nothing.
    pub fn get_or_insert_with<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c mut KeyedContext<'_, K, O>,
        at: M,
        make: impl FnOnce() -> V,
    ) -> &'c mut V {
        let (column, place, now) = ctx.column_mut::<Maps<M, V>>(self.index);
        let ttl = column.ttl;
        match column.map_mut(place).entry(at) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                &mut entry.insert((make(), Cell::new(now))).0
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                let (value, stamp) = entry.into_mut();
                if ttl.is_some_and(|ttl| !ttl.read(stamp, now)) {
                    *value = make();
                }
                stamp.set(now);
                value
            }
        }
    }

    /// Puts a value into the current key's map, and returns what was there.
    pub fn insert<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        at: M,
        value: V,
    ) -> Option<V> {
        let (column, place, now) = ctx.column_mut::<Maps<M, V>>(self.index);
        let (earlier, stamp) = column.map_mut(place).insert(at, (value, Cell::new(now)))?;
        column.sees(&stamp, now).then_some(earlier)
    }

    /// Removes a value from the current key's map, and returns it.
    pub fn remove<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        at: &M,
    ) -> Option<V> {
        let (column, place, now) = ctx.column_mut::<Maps<M, V>>(self.index);
        let map = column.groups[place.group as usize].get_mut(place.slot as usize)?;
        let (value, stamp) = map.remove(at)?;
        let seen = column.sees(&stamp, now);
        ctx.cleared();
        seen.then_some(value)
    }

    /// Whether the current key's map has something under `at`.
    pub fn contains<K: Key, O: 'static>(&self, ctx: &KeyedContext<'_, K, O>, at: &M) -> bool {
        self.get(ctx, at).is_some()
    }

    /// The current key's map, in order.
    pub fn iter<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c KeyedContext<'_, K, O>,
    ) -> impl Iterator<Item = (&'c M, &'c V)> + use<'c, K, O, M, V> {
        let (column, place, now) = ctx.column::<Maps<M, V>>(self.index);
        let entries = column.map(place).into_iter().flatten();
        entries
            .filter_map(move |(at, (value, stamp))| column.sees(stamp, now).then_some((at, value)))
    }

    /// A part of the current key's map, in order.
    ///
    /// # Panics
    /// If the range ends before it begins.
    pub fn range<'c, K: Key, O: 'static, R: RangeBounds<M>>(
        &self,
        ctx: &'c KeyedContext<'_, K, O>,
        range: R,
    ) -> impl Iterator<Item = (&'c M, &'c V)> + use<'c, K, O, R, M, V> {
        let (column, place, now) = ctx.column::<Maps<M, V>>(self.index);
        let entries = column.map(place).map(|map| map.range(range));
        entries
            .into_iter()
            .flatten()
            .filter_map(move |(at, (value, stamp))| column.sees(stamp, now).then_some((at, value)))
    }

    /// Calls a function for a part of the current key's map, with what it needs to emit.
    pub(crate) fn with_range<'a, K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'a, K, O>,
        range: impl RangeBounds<M>,
        mut call: impl FnMut(&M, &V, &mut ProcessContext<'a, O>) -> FunctionResult,
    ) -> FunctionResult {
        let timestamp = ctx.base.timestamp();
        let (base, column, place, now) = ctx.apart::<Maps<M, V>>(self.index);
        let entries = column.map(place).map(|map| map.range(range));
        let mut entries = entries.into_iter().flatten();
        let result = entries.try_for_each(|(at, (value, stamp))| {
            if column.sees(stamp, now) {
                call(at, value, base)
            } else {
                Ok(())
            }
        });
        base.timestamp = timestamp;
        result
    }

    /// Whether the current key's map has nothing.
    pub fn is_empty<K: Key, O: 'static>(&self, ctx: &KeyedContext<'_, K, O>) -> bool {
        self.iter(ctx).next().is_none()
    }

    /// Removes the entries of the current key's map that do not satisfy a predicate.
    pub fn retain<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        mut keep: impl FnMut(&M, &mut V) -> bool,
    ) {
        let (column, place, _) = ctx.column_mut::<Maps<M, V>>(self.index);
        column
            .map_mut(place)
            .retain(|at, (value, _)| keep(at, value));
        ctx.cleared();
    }

    /// Removes the current key's map.
    pub fn clear<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) {
        let (column, place, _) = ctx.column_mut::<Maps<M, V>>(self.index);
        if let Some(map) = column.groups[place.group as usize].get_mut(place.slot as usize) {
            map.clear();
        }
        ctx.cleared();
    }
}

/// Values, each with when it was written; that is of use only if they expire.
type Entries<M, V> = BTreeMap<M, (V, Cell<i64>)>;

/// The maps of all keys. One without entries is none.
pub(crate) struct Maps<M, V> {
    groups: Vec<Vec<Entries<M, V>>>,
    ttl: Option<StateTtl>,
}

impl<M, V> Maps<M, V> {
    pub(crate) fn new(groups: usize, ttl: Option<StateTtl>) -> Self {
        Self {
            groups: (0..groups).map(|_| Vec::new()).collect(),
            ttl,
        }
    }

    fn sees(&self, stamp: &Cell<i64>, now: i64) -> bool {
        self.ttl.is_none_or(|ttl| ttl.read(stamp, now))
    }

    fn map(&self, place: Place) -> Option<&Entries<M, V>> {
        self.groups[place.group as usize].get(place.slot as usize)
    }

    fn map_mut(&mut self, place: Place) -> &mut Entries<M, V> {
        let maps = &mut self.groups[place.group as usize];
        let slot = place.slot as usize;
        if slot >= maps.len() {
            maps.resize_with(slot + 1, BTreeMap::new);
        }
        &mut maps[slot]
    }
}

impl<M: Record + Ord, V: Record> Column for Maps<M, V> {
    fn is_empty(&self, place: Place) -> bool {
        self.map(place).is_none_or(BTreeMap::is_empty)
    }

    fn sweep(&mut self, from: Place, slots: usize, now: i64, emptied: &mut Vec<Place>) -> usize {
        let Some(ttl) = self.ttl else {
            return 0;
        };
        let maps = &mut self.groups[from.group as usize];
        let first = from.slot as usize;
        for (slot, map) in (from.slot..).zip(maps.iter_mut().skip(first).take(slots)) {
            if map.is_empty() {
                continue;
            }
            map.retain(|_, (_, stamp)| !ttl.expired(stamp.get(), now));
            if map.is_empty() {
                emptied.push(Place { slot, ..from });
            }
        }
        maps.len().saturating_sub(first).min(slots)
    }

    fn expires(&self) -> bool {
        self.ttl.is_some()
    }

    fn schema(&self) -> String {
        let types = [type_name::<M>(), type_name::<V>()];
        schema(kind("map", self.ttl), &types)
    }

    fn write(&self, place: Place, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let entries = self.map(place).into_iter().flatten();
        let count = entries.clone().count() as u64;
        codec::encode(&count, out)?;
        for (at, (value, stamp)) in entries {
            codec::encode(at, out)?;
            codec::encode(value, out)?;
            if self.ttl.is_some() {
                codec::encode(&stamp.get(), out)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, place: Place, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let expires = self.ttl.is_some();
        let count: u64 = codec::decode(bytes)?;
        let map = self.map_mut(place);
        for _ in 0..count {
            let (at, value) = (codec::decode(bytes)?, codec::decode(bytes)?);
            let stamp = if expires { codec::decode(bytes)? } else { 0 };
            map.insert(at, (value, Cell::new(stamp)));
        }
        Ok(())
    }
    fn clear(&mut self, place: Place) {
        if let Some(map) = self.groups[place.group as usize].get_mut(place.slot as usize) {
            map.clear();
        }
    }

    fn slot_bytes(&self) -> usize {
        size_of::<Entries<M, V>>()
    }

    fn changes_when_read(&self) -> bool {
        self.ttl.is_some_and(StateTtl::changes_when_read)
    }
}
