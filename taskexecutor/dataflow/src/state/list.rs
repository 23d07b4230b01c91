//! A list for each key.

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

/// A list for each key; with a time to live, each entry has its own. Flink: `ListState`.
#[derive(Debug)]
pub struct ListState<V> {
    index: u32,
    values: PhantomData<fn() -> V>,
}

impl<V> Clone for ListState<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for ListState<V> {}

impl<V: Record> ListState<V> {
    pub(crate) const fn new(index: u32) -> Self {
        Self {
            index,
            values: PhantomData,
        }
    }

    /// The entries of the current key's list, in the order they were added.
    pub fn iter<'c, K: Key, O: 'static>(
        &self,
        ctx: &'c KeyedContext<'_, K, O>,
    ) -> impl Iterator<Item = &'c V> + use<'c, K, O, V> {
        let (column, place, now) = ctx.column::<Lists<V>>(self.index);
        column.iter(place, now)
    }

    /// Appends to the current key's list.
    pub fn push<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>, value: V) {
        let (column, place, now) = ctx.column_mut::<Lists<V>>(self.index);
        column.extend(place, now, Some(value));
    }

    /// Appends several entries to the current key's list.
    pub fn extend<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        values: impl IntoIterator<Item = V>,
    ) {
        let (column, place, now) = ctx.column_mut::<Lists<V>>(self.index);
        column.extend(place, now, values);
    }

    /// Puts these entries in the place of the current key's list. Flink: `update`.
    pub fn set<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        values: impl IntoIterator<Item = V>,
    ) {
        self.clear(ctx);
        self.extend(ctx, values);
    }

    /// Removes the current key's list, and returns it.
    pub fn take<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) -> Vec<V> {
        let (column, place, now) = ctx.column_mut::<Lists<V>>(self.index);
        let values = column.take(place, now);
        ctx.cleared();
        values
    }

    /// Removes the entries of the current key's list that do not satisfy a predicate.
    pub fn retain<K: Key, O: 'static>(
        &self,
        ctx: &mut KeyedContext<'_, K, O>,
        keep: impl FnMut(&V) -> bool,
    ) {
        let (column, place, _) = ctx.column_mut::<Lists<V>>(self.index);
        column.retain(place, keep);
        ctx.cleared();
    }

    /// Removes the current key's list.
    pub fn clear<K: Key, O: 'static>(&self, ctx: &mut KeyedContext<'_, K, O>) {
        self.take(ctx);
    }
}

/// The lists of all keys. One without entries is none.
pub(crate) struct Lists<V> {
    groups: Vec<Vec<List<V>>>,
    ttl: Option<StateTtl>,
}

struct List<V> {
    values: Vec<V>,
    /// When each was written, if they expire.
    stamps: Vec<Cell<i64>>,
}

impl<V> List<V> {
    fn retain(&mut self, mut keep: impl FnMut(&V, Option<i64>) -> bool) {
        let mut stamps = std::mem::take(&mut self.stamps);
        let (mut at, mut kept) = (0, 0);
        self.values.retain(|value| {
            let keep = keep(value, stamps.get(at).map(Cell::get));
            if keep && !stamps.is_empty() {
                stamps.swap(kept, at);
                kept += 1;
            }
            at += 1;
            keep
        });
        stamps.truncate(kept);
        self.stamps = stamps;
        if self.values.is_empty() {
            *self = Self::default();
        }
    }
}

impl<V> Default for List<V> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            stamps: Vec::new(),
        }
    }
}

impl<V> Lists<V> {
    pub(crate) fn new(groups: usize, ttl: Option<StateTtl>) -> Self {
        Self {
            groups: (0..groups).map(|_| Vec::new()).collect(),
            ttl,
        }
    }

    fn iter(&self, place: Place, now: i64) -> impl Iterator<Item = &V> {
        let list = self.groups[place.group as usize].get(place.slot as usize);
        let entries = list.into_iter().flat_map(|list| {
            let stamps = list.stamps.iter().map(Some);
            list.values
                .iter()
                .zip(stamps.chain(std::iter::repeat(None)))
        });
        entries.filter_map(move |(value, stamp)| {
            let seen = match (&self.ttl, stamp) {
                (Some(ttl), Some(stamp)) => ttl.read(stamp, now),
                (None, _) | (_, None) => true,
            };
            seen.then_some(value)
        })
    }

    fn extend(&mut self, place: Place, now: i64, values: impl IntoIterator<Item = V>) {
        let lists = &mut self.groups[place.group as usize];
        let slot = place.slot as usize;
        if slot >= lists.len() {
            lists.resize_with(slot + 1, List::default);
        }
        let list = &mut lists[slot];
        list.values.extend(values);
        if self.ttl.is_some() {
            list.stamps
                .resize_with(list.values.len(), || Cell::new(now));
        }
    }

    fn take(&mut self, place: Place, now: i64) -> Vec<V> {
        let ttl = self.ttl;
        let Some(list) = self.groups[place.group as usize].get_mut(place.slot as usize) else {
            return Vec::new();
        };
        if let Some(ttl) = ttl {
            list.retain(|_, stamp| stamp.is_none_or(|stamp| ttl.read(&Cell::new(stamp), now)));
        }
        std::mem::take(list).values
    }

    fn retain(&mut self, place: Place, mut keep: impl FnMut(&V) -> bool) {
        if let Some(list) = self.groups[place.group as usize].get_mut(place.slot as usize) {
            list.retain(|value, _| keep(value));
        }
    }
}

impl<V: Record> Column for Lists<V> {
    fn is_empty(&self, place: Place) -> bool {
        let list = self.groups[place.group as usize].get(place.slot as usize);
        list.is_none_or(|list| list.values.is_empty())
    }

    fn sweep(&mut self, from: Place, slots: usize, now: i64, emptied: &mut Vec<Place>) -> usize {
        let Some(ttl) = self.ttl else {
            return 0;
        };
        let lists = &mut self.groups[from.group as usize];
        let first = from.slot as usize;
        for (slot, list) in (from.slot..).zip(lists.iter_mut().skip(first).take(slots)) {
            if list.values.is_empty() {
                continue;
            }
            list.retain(|_, stamp| stamp.is_none_or(|stamp| !ttl.expired(stamp, now)));
            if list.values.is_empty() {
                emptied.push(Place { slot, ..from });
            }
        }
        lists.len().saturating_sub(first).min(slots)
    }

    fn expires(&self) -> bool {
        self.ttl.is_some()
    }

    fn schema(&self) -> String {
        schema(kind("list", self.ttl), &[type_name::<V>()])
    }

    fn write(&self, place: Place, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let list = &self.groups[place.group as usize][place.slot as usize];
        if self.ttl.is_some() {
            codec::encode(&list.stamps, out)?;
        }
        codec::encode(&list.values, out)
    }

    fn read(&mut self, place: Place, bytes: &mut &[u8]) -> Result<(), Malformed> {
        let stamps = match self.ttl {
            Some(_) => codec::decode(bytes)?,
            None => Vec::new(),
        };
        self.extend(place, 0, codec::decode::<Vec<V>>(bytes)?);
        let list = &mut self.groups[place.group as usize][place.slot as usize];
        if stamps.len() != list.stamps.len() {
            return Err(Malformed::Length(stamps.len()));
        }
        list.stamps = stamps;
        Ok(())
    }
    fn clear(&mut self, place: Place) {
        if let Some(list) = self.groups[place.group as usize].get_mut(place.slot as usize) {
            *list = List::default();
        }
    }

    fn slot_bytes(&self) -> usize {
        size_of::<List<V>>()
    }

    fn changes_when_read(&self) -> bool {
        self.ttl.is_some_and(StateTtl::changes_when_read)
    }
}
