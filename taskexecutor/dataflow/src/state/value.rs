//! One value for each key.

use std::any::type_name;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::codec::{self, Malformed};
use crate::operator::KeyedContext;
use crate::record::{Key, Record};
use crate::snapshot::schema;
use crate::state::keyed::Column;
use crate::state::ttl::kind;
use crate::state::{Place, StateTtl};

/// A value for each key. Flink: `ValueState`.
#[derive(Debug)]
pub struct ValueState<V> {
    index: u32,
    values: PhantomData<fn() -> V>,
}

impl<V> Clone for ValueState<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for ValueState<V> {}

impl<V: Record> ValueState<V> {
    pub(crate) const fn new(index: u32) -> Self {
        Self {
            index,
            values: PhantomData,
        }
    }

    /// The current key's value.
    #[inline]
    pub fn get<'c, K: Key, O: 'static>(&self, ctx: &'c KeyedContext<'_, K, O>) -> Option<&'c V> {
        let (column, place, now) = ctx.column::<Values<V>>(self.index);
        column.get(place, now)
    }

    /// The current key's value, to be changed: that counts as writing it.
    #[inline]
    pub fn get_mut<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c mut KeyedContext<'_, K, O>,
    ) -> Option<&'c mut V> {
        let (column, place, now) = ctx.column_mut::<Values<V>>(self.index);
        column.get_mut(place, now)
    }

    /// The current key's value, to be changed; made if there is none.
    #[inline]
    pub fn get_or_insert_with<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c mut KeyedContext<'_, K, O>,
        make: impl FnOnce() -> V,
    ) -> &'c mut V {
        let (column, place, now) = ctx.column_mut::<Values<V>>(self.index);
        column.get_or_insert_with(place, now, make)
    }

    /// Gives the current key a value.
    #[inline]
    pub fn set<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>, value: V) {
        let (column, place, now) = ctx.column_mut::<Values<V>>(self.index);
        *column.cell(place, now) = Some(value);
    }

    /// Puts what the function makes of the current key's value in its place.
    #[inline]
    pub(crate) fn fold<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        function: impl FnOnce(Option<V>) -> V,
    ) {
        let (column, place, now) = ctx.column_mut::<Values<V>>(self.index);
        let seen = column.get(place, now).is_some();
        let cell = column.cell(place, now);
        let earlier = cell.take().filter(|_| seen);
        *cell = Some(function(earlier));
    }

    /// Removes the current key's value, and returns it.
    pub fn take<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) -> Option<V> {
        let (column, place, now) = ctx.column_mut::<Values<V>>(self.index);
        let seen = column.get(place, now).is_some();
        let value = column.groups[place.group as usize]
            .values
            .get_mut(place.slot as usize)?
            .take()?;
        ctx.cleared();
        seen.then_some(value)
    }

    /// Removes the current key's value.
    pub fn clear<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) {
        self.take(ctx);
    }
}

/// The values of all keys.
pub(crate) struct Values<V> {
    groups: Vec<GroupValues<V>>,
    ttl: Option<StateTtl>,
}

struct GroupValues<V> {
    values: Vec<Option<V>>,
    /// When each was written, if they expire.
    stamps: Vec<Cell<i64>>,
}

impl<V> Values<V> {
    pub(crate) fn new(groups: usize, ttl: Option<StateTtl>) -> Self {
        let empty = |_| GroupValues {
            values: Vec::new(),
            stamps: Vec::new(),
        };
        Self {
            groups: (0..groups).map(empty).collect(),
            ttl,
        }
    }

    #[inline]
    fn get(&self, place: Place, now: i64) -> Option<&V> {
        let group = &self.groups[place.group as usize];
        let slot = place.slot as usize;
        let value = group.values.get(slot)?.as_ref()?;
        match &self.ttl {
            Some(ttl) if !ttl.read(&group.stamps[slot], now) => None,
            Some(_) | None => Some(value),
        }
    }

    /// Where a value is about to be written.
    #[inline]
    fn cell(&mut self, place: Place, now: i64) -> &mut Option<V> {
        let group = &mut self.groups[place.group as usize];
        let slot = place.slot as usize;
        if slot >= group.values.len() {
            group.values.resize_with(slot + 1, || None);
        }
        if self.ttl.is_some() {
            if slot >= group.stamps.len() {
                group.stamps.resize_with(slot + 1, Cell::default);
            }
            group.stamps[slot].set(now);
        }
        &mut group.values[slot]
    }

    #[inline]
    fn get_mut(&mut self, place: Place, now: i64) -> Option<&mut V> {
        self.get(place, now)?;
        self.cell(place, now).as_mut()
    }

    #[inline]
    fn get_or_insert_with(&mut self, place: Place, now: i64, make: impl FnOnce() -> V) -> &mut V {
        let expired = self.ttl.is_some() && self.get(place, now).is_none();
        let cell = self.cell(place, now);
        if expired {
            *cell = None;
        }
        cell.get_or_insert_with(make)
    }
}

impl<V: Record> Column for Values<V> {
    fn is_empty(&self, place: Place) -> bool {
        let values = &self.groups[place.group as usize].values;
        values.get(place.slot as usize).is_none_or(Option::is_none)
    }

    fn sweep(&mut self, from: Place, slots: usize, now: i64, emptied: &mut Vec<Place>) -> usize {
        let Some(ttl) = self.ttl else {
            return 0;
        };
        let group = &mut self.groups[from.group as usize];
        let first = from.slot as usize;
        let both = group.values.iter_mut().zip(&group.stamps);
        for (slot, (value, stamp)) in (from.slot..).zip(both.skip(first).take(slots)) {
            if value.is_some() && ttl.expired(stamp.get(), now) {
                *value = None;
                emptied.push(Place { slot, ..from });
            }
        }
        group.values.len().saturating_sub(first).min(slots)
    }

    fn expires(&self) -> bool {
        self.ttl.is_some()
    }

    fn schema(&self) -> String {
        schema(kind("value", self.ttl), &[type_name::<V>()])
    }

    fn write(&self, place: Place, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let group = &self.groups[place.group as usize];
        let slot = place.slot as usize;
        if self.ttl.is_some() {
            codec::encode(&group.stamps[slot].get(), out)?;
        }
        codec::encode(&group.values[slot], out)
    }

    fn read(&mut self, place: Place, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let stamp = match self.ttl {
            Some(_) => codec::decode(bytes)?,
            None => 0,
        };
        *self.cell(place, stamp) = codec::decode(bytes)?;
        Ok(())
    }
    fn clear(&mut self, place: Place) {
        if let Some(value) = self.groups[place.group as usize]
            .values
            .get_mut(place.slot as usize)
        {
            *value = None;
        }
    }

    fn slot_bytes(&self) -> usize {
        size_of::<Option<V>>() + size_of::<Cell<i64>>()
    }

    fn changes_when_read(&self) -> bool {
        self.ttl.is_some_and(StateTtl::changes_when_read)
    }
}
