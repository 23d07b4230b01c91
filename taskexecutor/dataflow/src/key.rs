//! Keys of records, a batch at a time.

use spindle_common::key_group::{key_group, key_hash, subtask_of};

use crate::record::Key;

/// Tells the key of each record. Implemented for functions from a record to its key.
pub trait KeySelector<K, T>: Send + Sync {
    /// Appends each record's key and its hash.
    fn keys(&self, records: &[T], keys: &mut Vec<(u64, K)>);

    /// Appends the hash of each record's key.
    fn hashes(&self, records: &[T], hashes: &mut Vec<u64>);
}

impl<K: Key, T, F: Fn(&T) -> K + Send + Sync> KeySelector<K, T> for F {
    fn keys(&self, records: &[T], keys: &mut Vec<(u64, K)>) {
        keys.extend(records.iter().map(|record| {
            let key = self(record);
            (key_hash(&key), key)
        }));
    }

    fn hashes(&self, records: &[T], hashes: &mut Vec<u64>) {
        hashes.extend(records.iter().map(|record| key_hash(&self(record))));
    }
}

/// Turns key hashes into the subtasks that own them, in place.
pub(crate) fn owners(hashes: &mut [u64], parallelism: u32, max_parallelism: u32) {
    for hash in hashes {
        let group = key_group(*hash, max_parallelism);
        *hash = u64::from(subtask_of(group, parallelism, max_parallelism));
    }
}
