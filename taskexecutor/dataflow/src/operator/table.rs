//! A hash table that takes the hash a key already has and remembers the order in which keys came.

use std::marker::PhantomData;

use hashbrown::HashTable;

use crate::state::pages::{Pages, SharedPages};

/// Keys with their values. The index holds places in `entries`, so that a walk is in order of arrival and never meets the
/// order of hashes.
#[derive(Debug)]
pub(crate) struct KeyTable<K, V, L = Vec<Entry<K, V>>> {
    index: HashTable<u32>,
    entries: L,
    types: PhantomData<fn() -> (K, V)>,
}

/// One that a snapshot can share. It costs a look at whether the entry is shared.
pub(crate) type SharedTable<K, V> = KeyTable<K, V, Pages<Entry<K, V>>>;

/// Where the entries stand.
pub(crate) trait Entries<E>: Default {
    fn len(&self) -> usize;
    fn at(&self, place: usize) -> &E;
    fn at_mut(&mut self, place: usize) -> &mut E;
    fn push(&mut self, entry: E);
}

impl<E> Entries<E> for Vec<E> {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn at(&self, place: usize) -> &E {
        &self[place]
    }

    #[inline]
    fn at_mut(&mut self, place: usize) -> &mut E {
        &mut self[place]
    }

    #[inline]
    fn push(&mut self, entry: E) {
        self.push(entry);
    }
}

impl<E: Clone> Entries<E> for Pages<E> {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn at(&self, place: usize) -> &E {
        self.at(place)
    }

    #[inline]
    fn at_mut(&mut self, place: usize) -> &mut E {
        self.at_mut(place)
    }

    fn push(&mut self, entry: E) {
        self.push(entry);
    }
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry<K, V> {
    hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
}

impl<K, V, L: Default> Default for KeyTable<K, V, L> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            entries: L::default(),
            types: PhantomData,
        }
    }
}

impl<K: Eq + Clone, V, L: Entries<Entry<K, V>>> KeyTable<K, V, L> {
    /// The place of a key, if it is there.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &K) -> Option<u32> {
        let found = self.index.find(hash, |&place| {
            let entry = self.entries.at(place as usize);
            entry.hash == hash && entry.key == *key
        });
        found.copied()
    }

    /// The place of a key, which gets a value if there is none. Places stay until the table is drained.
    #[inline]
    pub(crate) fn place(&mut self, hash: u64, key: &K, make: impl FnOnce() -> V) -> u32 {
        if let Some(place) = self.find(hash, key) {
            return place;
        }
        self.insert(hash, key.clone(), make())
    }

    /// The place of a key that is not there yet. Apart from [`Self::place`], so that the look-up becomes a part of what calls it.
    #[cold]
    #[inline(never)]
    pub(crate) fn insert(&mut self, hash: u64, key: K, value: V) -> u32 {
        let Self { index, entries, .. } = self;
        let place = u32::try_from(entries.len()).expect("a key group holds less than 2^32 keys");
        index.insert_unique(hash, place, |&other| entries.at(other as usize).hash);
        entries.push(Entry { hash, key, value });
        place
    }

    /// The value at a place.
    #[inline]
    pub(crate) fn value(&mut self, place: u32) -> &mut V {
        &mut self.entries.at_mut(place as usize).value
    }

    /// The value of a key, made if there is none.
    #[cfg(test)]
    pub(crate) fn get_or_insert_with(
        &mut self,
        hash: u64,
        key: &K,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        let place = self.place(hash, key, make);
        self.value(place)
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Hash, key and value at a place.
    #[inline]
    pub(crate) fn entry(&self, place: u32) -> (u64, &K, &V) {
        let entry = self.entries.at(place as usize);
        (entry.hash, &entry.key, &entry.value)
    }
}

impl<K: Clone, V: Clone> SharedTable<K, V> {
    /// All keys with their values as they are now, in order of arrival: for a snapshot, which is written while this changes.
    pub(crate) fn share(&mut self) -> SharedPages<Entry<K, V>> {
        self.entries.share()
    }
}

impl<K, V> KeyTable<K, V> {
    /// All keys with their values, in order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|entry| (&entry.key, &entry.value))
    }

    /// Forgets all, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
    }

    /// Takes all out, in order of arrival, and keeps the memory.
    #[cfg(test)]
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.index.clear();
        self.entries.drain(..).map(|entry| (entry.key, entry.value))
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::key_group::key_hash;

    use super::*;

    #[test]
    fn keys_come_out_in_the_order_they_came() {
        let mut table = KeyTable::<u64, u64>::default();
        for key in [5_u64, 3, 5, 9, 3, 1] {
            *table.get_or_insert_with(key_hash(&key), &key, || 0) += 1;
        }
        assert_eq!(
            table.drain().collect::<Vec<_>>(),
            [(5, 2), (3, 2), (9, 1), (1, 1)]
        );
        assert_eq!(table.drain().count(), 0);
    }

    #[test]
    fn keys_of_one_hash_stay_apart() {
        let mut table = KeyTable::<u64, u64>::default();
        for key in 0..1000 {
            *table.get_or_insert_with(7, &key, || 0) += key;
        }
        assert!(table.drain().all(|(key, value)| key == value));
    }
}
