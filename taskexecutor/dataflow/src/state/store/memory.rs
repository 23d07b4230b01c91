//! Stores in memory: the model of what a store has to do, for tests.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codec;
use crate::state::store::{
    Bytes, Changes, EachEntry, Earlier, Entries, Frozen, Opened, StateStore, StateStores,
    StoreError, StoreFile,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store in an ordered map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    map: Mutex<Map>,
    changes: AtomicU64,
}

/// What [`MemoryStore::freeze`] gives.
#[derive(Debug, Clone)]
struct MemoryFrozen {
    map: Arc<Map>,
    files: Vec<StoreFile>,
}

impl MemoryStore {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.map().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map().is_empty()
    }
}

fn scan(map: &Map, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError> {
    let from = map.range(prefix.to_vec()..);
    from.take_while(|(key, _)| key.starts_with(prefix))
        .try_for_each(|(key, value)| each(key, value))
}

impl Entries for MemoryStore {
    fn scan(&self, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError> {
        scan(&self.map(), prefix, each)
    }
}

impl Entries for MemoryFrozen {
    fn scan(&self, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError> {
        scan(&self.map, prefix, each)
    }
}

impl Frozen for MemoryFrozen {
    fn files(&self) -> &[StoreFile] {
        &self.files
    }

    /// All entries.
    fn read(&self, _: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        codec::encode(&*self.map, &mut bytes)?;
        Ok(bytes)
    }
}

impl StateStore for MemoryStore {
    fn get_many(&self, keys: &Bytes) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let map = self.map();
        Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
    }

    fn change(&self, changes: &Changes) -> Result<(), StoreError> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        let mut map = self.map();
        for (key, value) in changes.iter() {
            match value {
                Some(value) => drop(map.insert(key.to_vec(), value.to_vec())),
                None => drop(map.remove(key)),
            }
        }
        Ok(())
    }

    fn remove(&self, prefix: &[u8]) -> Result<(), StoreError> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.map().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn freeze(&self) -> Result<Arc<dyn Frozen>, StoreError> {
        let map = Arc::new(self.map().clone());
        let file = StoreFile {
            name: format!("entries-{}", self.changes.load(Ordering::Relaxed)),
            immutable: true,
        };
        Ok(Arc::new(MemoryFrozen {
            map,
            files: vec![file],
        }))
    }
}

/// Stores in memory for one task, of whose operators one has a store.
#[derive(Debug, Default)]
pub struct MemoryStores {
    table_bytes: usize,
    incremental: bool,
    earlier: Vec<EarlierMap>,
}

/// What is left of a store in memory.
#[derive(Debug, Clone)]
pub struct EarlierMap {
    /// What was written beside it.
    pub manifest: Vec<u8>,
    /// What its only file has.
    pub file: Vec<u8>,
}

impl MemoryStores {
    /// Empty ones, with this much before each.
    pub fn new(table_bytes: usize) -> Self {
        Self {
            table_bytes,
            ..Self::default()
        }
    }

    /// Ones whose checkpoints are what the stores freeze.
    #[must_use]
    pub fn incremental(mut self) -> Self {
        self.incremental = true;
        self
    }

    /// Ones that begin with this. A single one is opened, several are copied.
    #[must_use]
    pub fn beginning_with(mut self, earlier: Vec<EarlierMap>) -> Self {
        self.earlier = earlier;
        self
    }
}

impl StateStores for MemoryStores {
    fn incremental(&self) -> bool {
        self.incremental
    }

    fn table_bytes(&self) -> usize {
        self.table_bytes
    }

    fn open(&self, _: &str, _: RangeInclusive<u32>) -> Result<Opened, StoreError> {
        let mut store = MemoryStore::default();
        let single = self.earlier.len() == 1;
        let mut earlier = Vec::new();
        for EarlierMap { manifest, file } in &self.earlier {
            let content = MemoryStore {
                map: Mutex::new(codec::decode(&mut &file[..])?),
                changes: AtomicU64::new(0),
            };
            let mut entries: Option<Arc<dyn Entries>> = None;
            if single {
                store = content;
            } else {
                entries = Some(Arc::new(content));
            }
            earlier.push(Earlier {
                manifest: manifest.clone(),
                entries,
            });
        }
        Ok(Opened {
            store: Arc::new(store),
            earlier,
        })
    }
}
