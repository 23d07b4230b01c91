//! Which slot of a key group a key has.

use hashbrown::HashTable;

/// Keys and their slots. It takes the hash that a key already has; slots of keys that were removed are given out again.
#[derive(Debug)]
pub(crate) struct SlotTable<K> {
    index: HashTable<u32>,
    slots: Vec<Slot<K>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<K> {
    hash: u64,
    /// Absent while the slot is free.
    key: Option<K>,
}

impl<K> Default for SlotTable<K> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Eq + Clone> SlotTable<K> {
    /// The slot of a key, and whether it was given to it just now.
    #[inline]
    pub(crate) fn slot(&mut self, hash: u64, key: &K) -> (u32, bool) {
        let slots = &self.slots;
        let found = self.index.find(hash, |&slot| {
            let slot = &slots[slot as usize];
            slot.hash == hash && slot.key.as_ref() == Some(key)
        });
        match found {
            Some(&slot) => (slot, false),
            None => (self.insert(hash, key.clone()), true),
        }
    }

    fn insert(&mut self, hash: u64, key: K) -> u32 {
        let new = Slot {
            hash,
            key: Some(key),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                self.slots.push(new);
                u32::try_from(self.slots.len() - 1).expect("a key group holds less than 2^32 keys")
            }
        };
        self.index
            .insert_unique(hash, slot, |&other| self.slots[other as usize].hash);
        slot
    }

    /// The key in a slot; none if the slot is free.
    #[inline]
    pub(crate) fn key(&self, slot: u32) -> Option<&K> {
        self.slots[slot as usize].key.as_ref()
    }

    /// Removes the key in a slot, and frees the slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Slot { hash, key } = &mut self.slots[slot as usize];
        if key.take().is_some() {
            if let Ok(entry) = self.index.find_entry(*hash, |&other| other == slot) {
                entry.remove();
            }
            self.free.push(slot);
        }
    }

    /// Slots that have a key, ascending.
    pub(crate) fn used(&self) -> impl Iterator<Item = u32> {
        let used = (0..).zip(&self.slots);
        used.filter_map(|(at, slot)| slot.key.is_some().then_some(at))
    }
}
