//! Which slot of a key group a key has, and what is in it.

use hashbrown::HashTable;

/// Keys and their slots. It takes the hash that a key already has; slots of keys that were removed are given out again.
///
/// A value may stand beside the key. Where several belong to a key, they stand in columns of their own, at the index of the slot.
#[derive(Debug)]
pub(crate) struct SlotTable<K, V = ()> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    /// Absent while the slot is free.
    entry: Option<(K, V)>,
}

impl<K, V> Default for SlotTable<K, V> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Eq + Clone, V: Default> SlotTable<K, V> {
    /// The slot of a key, and whether it was given to it just now.
    #[inline]
    pub(crate) fn slot(&mut self, hash: u64, key: &K) -> (u32, bool) {
        let slots = &self.slots;
        let found = self.index.find(hash, |&slot| {
            let Slot { hash: it, entry } = &slots[slot as usize];
            *it == hash && entry.as_ref().is_some_and(|(other, _)| other == key)
        });
        match found {
            Some(&slot) => (slot, false),
            None => (self.insert(hash, key.clone()), true),
        }
    }

    fn insert(&mut self, hash: u64, key: K) -> u32 {
        let new = Slot {
            hash,
            entry: Some((key, V::default())),
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
        let entry = self.slots[slot as usize].entry.as_ref();
        entry.map(|(key, _)| key)
    }

    /// The key in a slot and the value beside it; none if the slot is free or was never given out.
    pub(crate) fn get(&mut self, slot: u32) -> Option<(&K, &mut V)> {
        let entry = self.slots.get_mut(slot as usize)?.entry.as_mut()?;
        Some((&entry.0, &mut entry.1))
    }

    /// Removes the key in a slot, and frees the slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Slot { hash, entry } = &mut self.slots[slot as usize];
        if entry.take().is_some() {
            if let Ok(entry) = self.index.find_entry(*hash, |&other| other == slot) {
                entry.remove();
            }
            self.free.push(slot);
        }
    }

    /// Slots that were given out; some may be free.
    pub(crate) const fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots that have a key, ascending.
    pub(crate) fn used(&self) -> impl Iterator<Item = u32> {
        let used = (0..).zip(&self.slots);
        used.filter_map(|(at, slot)| slot.entry.is_some().then_some(at))
    }
}
