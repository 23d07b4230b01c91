//! Keys of records, a batch at a time.

use spindle_common::key_group::key_hash;

use crate::record::Key;

/// Tells the key of each record: [`ByValue`] and [`ByRef`].
pub trait KeySelector<K, T>: Send + Sync {
    /// Appends the hash of each record's key, and gives the keys, in order. `made` is empty, and only there to hold keys.
    fn select<'a>(
        &self,
        records: &'a [T],
        hashes: &mut Vec<u64>,
        made: &'a mut Vec<K>,
    ) -> Keys<'a, K>;

    /// Appends the hash of each record's key.
    fn hashes(&self, records: &[T], hashes: &mut Vec<u64>);
}

/// The keys of a batch.
#[derive(Debug)]
pub enum Keys<'a, K> {
    /// Made for it.
    Made(&'a [K]),
    /// Parts of its records.
    Parts(Vec<&'a K>),
}

impl<K> Keys<'_, K> {
    /// The key of the record with this index.
    #[inline]
    pub fn get(&self, index: usize) -> &K {
        match self {
            Self::Made(keys) => &keys[index],
            Self::Parts(keys) => keys[index],
        }
    }
}

/// A function that makes a record's key.
#[derive(Debug, Clone, Copy)]
pub struct ByValue<F>(pub F);

impl<K: Key, T, F: Fn(&T) -> K + Send + Sync> KeySelector<K, T> for ByValue<F> {
    fn select<'a>(
        &self,
        records: &'a [T],
        hashes: &mut Vec<u64>,
        made: &'a mut Vec<K>,
    ) -> Keys<'a, K> {
        made.extend(records.iter().map(&self.0));
        hashes.extend(made.iter().map(key_hash));
        Keys::Made(made)
    }

    fn hashes(&self, records: &[T], hashes: &mut Vec<u64>) {
        hashes.extend(records.iter().map(|record| key_hash(&(self.0)(record))));
    }
}

/// A function that points at a record's key within the record.
#[derive(Debug, Clone, Copy)]
pub struct ByRef<F>(pub F);

impl<K: Key, T, F: Fn(&T) -> &K + Send + Sync> KeySelector<K, T> for ByRef<F> {
    fn select<'a>(
        &self,
        records: &'a [T],
        hashes: &mut Vec<u64>,
        _: &'a mut Vec<K>,
    ) -> Keys<'a, K> {
        let mut keys = Vec::with_capacity(records.len());
        hashes.extend(records.iter().map(|record| {
            let key = (self.0)(record);
            keys.push(key);
            key_hash(key)
        }));
        Keys::Parts(keys)
    }

    fn hashes(&self, records: &[T], hashes: &mut Vec<u64>) {
        hashes.extend(records.iter().map(|record| key_hash((self.0)(record))));
    }
}

/// The memory that selecting takes, to be used again.
#[derive(Debug)]
pub(crate) struct KeyScratch<K> {
    hashes: Vec<u64>,
    made: Vec<K>,
}

impl<K> Default for KeyScratch<K> {
    fn default() -> Self {
        Self {
            hashes: Vec::new(),
            made: Vec::new(),
        }
    }
}

impl<K> KeyScratch<K> {
    /// The keys of these records and their hashes.
    pub(crate) fn select<'a, T>(
        &'a mut self,
        selector: &dyn KeySelector<K, T>,
        records: &'a [T],
    ) -> (Keys<'a, K>, &'a [u64]) {
        self.hashes.clear();
        self.made.clear();
        let keys = selector.select(records, &mut self.hashes, &mut self.made);
        (keys, &self.hashes)
    }
}
