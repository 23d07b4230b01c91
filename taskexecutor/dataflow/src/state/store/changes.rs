//! Byte strings by the many, and changes made of them.

use crate::codec::Malformed;
use crate::state::store::{StateStore, StoreError};

/// Several byte strings in one.
#[derive(Debug, Default, Clone)]
pub struct Bytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Bytes {
    /// Appends what `write` does.
    ///
    /// # Errors
    /// What `write` says.
    pub fn push_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        write(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Number of strings.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string in a place.
    pub fn get(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }

    /// All, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Entries to be written and removed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Keys and values, in turn.
    both: Bytes,
    removed: Vec<bool>,
}

impl Changes {
    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.removed.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.removed.is_empty()
    }

    /// Keys, with the values that they get, or none if they are removed. Of equal keys the last one counts.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.removed.iter().enumerate().map(|(at, removed)| {
            let value = (!removed).then(|| self.both.get(2 * at + 1));
            (self.both.get(2 * at), value)
        })
    }

    /// Gives a key a value, as these write them.
    ///
    /// # Errors
    /// What they say.
    pub fn put(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.both.push_with(key)?;
        self.both.push_with(value)?;
        self.removed.push(false);
        Ok(())
    }

    /// Removes a key, as this writes it.
    ///
    /// # Errors
    /// What it says.
    pub fn remove(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.both.push_with(key)?;
        self.both.push_with(|_| Ok(()))?;
        self.removed.push(true);
        Ok(())
    }

    /// Bytes of keys and values.
    pub(crate) const fn bytes(&self) -> usize {
        self.both.bytes.len()
    }

    fn clear(&mut self) {
        self.both.clear();
        self.removed.clear();
    }
}

/// Gathers changes, and makes them when they are many.
pub(crate) struct Writing<'a> {
    store: &'a dyn StateStore,
    changes: Changes,
}

/// Changes that are made together where nothing else says how many: enough to be cheap, and little memory.
const CHANGES: usize = 1 << 20;

impl<'a> Writing<'a> {
    pub(crate) fn to(store: &'a dyn StateStore) -> Self {
        Self {
            store,
            changes: Changes::default(),
        }
    }

    /// What is changed next is added to.
    pub(crate) const fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Makes the changes, if they are many.
    pub(crate) fn relieve(&mut self) -> Result<(), StoreError> {
        if self.changes.bytes() >= CHANGES {
            self.finish()?;
        }
        Ok(())
    }

    /// Makes all.
    pub(crate) fn finish(&mut self) -> Result<(), StoreError> {
        if !self.changes.is_empty() {
            self.store.change(&self.changes)?;
            self.changes.clear();
        }
        Ok(())
    }
}
