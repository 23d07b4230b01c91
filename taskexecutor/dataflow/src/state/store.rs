//! Where keyed state is that does not fit into memory: bytes under bytes, in their order.
//!
//! ```text
//! key      length of the state's name: u8, its name, key group: u16 big-endian, the record's key
//! value    what the state has for that key
//! ```
//! Keys and values are those of a snapshot's chunk, so that a key group of a state can be written to a snapshot as it stands. An operator has a
//! store of its own, which is made when it begins and gone when its task is. What it works on stands in front of the store, in a table that
//! writes back when it is full and at barriers: the store never sees most of what happens to a key.
//!
//! Nothing here touches a disk: [`StateStores`] is how the worker gives stores to a task.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::codec::{self, Malformed};

mod changes;
mod manifest;
mod memory;

pub(crate) use changes::Writing;
pub use changes::{Bytes, Changes};
pub use manifest::Manifest;
pub(crate) use manifest::{FrozenState, Kept, take_over, write};
pub use memory::{EarlierMap, MemoryStore, MemoryStores};

/// What a store could not do, on what and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to {doing}: {reason}")]
pub struct StoreError {
    /// What was tried, and on what.
    pub doing: String,
    /// Why it did not work.
    pub reason: String,
}

impl From<Malformed> for StoreError {
    fn from(why: Malformed) -> Self {
        Self {
            doing: "read an entry of a store".to_owned(),
            reason: why.to_string(),
        }
    }
}

impl From<StoreError> for Malformed {
    fn from(why: StoreError) -> Self {
        Self::Custom(why.to_string())
    }
}

/// Takes a key and its value.
pub type EachEntry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// Something that has entries.
pub trait Entries: Send + Sync {
    /// Calls this for each entry whose key begins with these bytes, in the order of the keys.
    ///
    /// # Errors
    /// What the call says, or that the entries cannot be read.
    fn scan(&self, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError>;
}

/// The entries of one operator in one subtask. Used by the task's thread alone; what it freezes is read by others.
pub trait StateStore: Entries {
    /// The values under these keys, in the order of the keys given.
    ///
    /// # Errors
    /// If they cannot be read.
    fn get_many(&self, keys: &Bytes) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Makes these changes, all or none.
    ///
    /// # Errors
    /// If they cannot be made.
    fn change(&self, changes: &Changes) -> Result<(), StoreError>;

    /// Removes all entries whose key begins with these bytes.
    ///
    /// # Errors
    /// If they cannot be removed.
    fn remove(&self, prefix: &[u8]) -> Result<(), StoreError>;

    /// The entries as they are now, which stay as they are for as long as what this returns is held.
    ///
    /// # Errors
    /// If they cannot be held.
    fn freeze(&self) -> Result<Arc<dyn Frozen>, StoreError>;
}

/// Entries that do not change any more, in files.
pub trait Frozen: Entries + Debug {
    /// The files that the entries are in.
    fn files(&self) -> &[StoreFile];

    /// The bytes of the file with this index.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&self, file: usize) -> Result<Vec<u8>, StoreError>;
}

/// A file of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFile {
    /// What the store calls it.
    pub name: String,
    /// Whether a file of this store that has this name has these bytes for ever, so that it need not be written twice.
    pub immutable: bool,
}

/// The files of a store of an earlier task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierFiles {
    /// What was written beside them.
    pub manifest: Vec<u8>,
    /// Where they are: a directory that is the new task's own, and may be used up.
    pub directory: PathBuf,
}

/// What the worker keeps the state of one task in.
pub trait StateStores: Send + Sync {
    /// Whether checkpoints consist of the store's files. If not, they are written out of it as of memory.
    fn incremental(&self) -> bool;

    /// Memory for the entries that stand in front of one store, in bytes.
    fn table_bytes(&self) -> usize;

    /// Makes the store of an operator. To be called once for each.
    ///
    /// # Errors
    /// If it cannot be made, or earlier ones cannot be read.
    fn open(&self, uid: &str, groups: RangeInclusive<u32>) -> Result<Opened, StoreError>;
}

/// A store that was made.
pub struct Opened {
    /// It.
    pub store: Arc<dyn StateStore>,
    /// The stores that the snapshot has which the task begins with, as far as they have key groups of it. A single one is the new store.
    pub earlier: Vec<Earlier>,
}

/// A store as it was at a barrier.
pub struct Earlier {
    /// What was written beside its files.
    pub manifest: Vec<u8>,
    /// Its entries; none if the new store has them already.
    pub entries: Option<Arc<dyn Entries>>,
}

/// One state in a store, by its name.
#[derive(Debug, Clone)]
pub(crate) struct StoredState {
    prefix: Vec<u8>,
}

impl StoredState {
    pub(crate) fn new(name: &str) -> Result<Self, StoreError> {
        let length = u8::try_from(name.len()).map_err(|_| StoreError {
            doing: format!("keep state `{name}` in a store"),
            reason: "its name has more than 255 bytes".to_owned(),
        })?;
        let mut prefix = vec![length];
        prefix.extend_from_slice(name.as_bytes());
        Ok(Self { prefix })
    }

    /// What the keys of a key group begin with.
    pub(crate) fn group(&self, group: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + 2);
        self.put_group(group, &mut key);
        key
    }

    fn put_group(&self, group: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        // There are 32,768 key groups at most.
        out.extend_from_slice(&(group as u16).to_be_bytes());
    }

    /// Appends the key of an entry.
    pub(crate) fn put_key<K: Serialize>(
        &self,
        group: u32,
        key: &K,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        self.put_group(group, out);
        codec::encode(key, out)
    }

    /// Writes an entry whose bytes there are.
    pub(crate) fn put_bytes(
        &self,
        group: u32,
        key: &[u8],
        value: &[u8],
        changes: &mut Changes,
    ) -> Result<(), Malformed> {
        let put_key = |out: &mut Vec<u8>| {
            self.put_group(group, out);
            out.extend_from_slice(key);
            Ok(())
        };
        let put_value = |out: &mut Vec<u8>| {
            out.extend_from_slice(value);
            Ok(())
        };
        changes.put(put_key, put_value)
    }
}
