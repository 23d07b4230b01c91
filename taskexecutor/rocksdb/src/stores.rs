//! What the worker gives to a task.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spindle_dataflow::state::store::{
    Earlier, EarlierFiles, Entries, Opened, StateStores, StoreError,
};

use crate::database::{Database, Reader, Settings, failed};

/// How a task's state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksDbOptions {
    /// Memory for the entries that stand before one database, in bytes.
    pub table_bytes: usize,
    /// Memory for blocks that were read, for all databases of a task, in bytes.
    pub block_cache_bytes: usize,
    /// Memory for what was written and is in no file yet, in bytes. There may be two of them for each database.
    pub write_buffer_bytes: usize,
    /// Whether checkpoints consist of the files.
    pub incremental: bool,
}

/// A directory that goes when nobody uses it any more.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "state of a task that has ended was not removed");
        }
    }
}

/// The databases of one attempt of a task.
pub struct RocksDbStores {
    options: RocksDbOptions,
    settings: Settings,
    directory: Arc<Directory>,
    opened: AtomicU64,
    /// By operator.
    earlier: Mutex<BTreeMap<String, Vec<EarlierFiles>>>,
}

impl std::fmt::Debug for RocksDbStores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksDbStores")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl RocksDbStores {
    /// Databases in a directory, which is removed when neither they nor what was frozen of them is used any more. Of the operators in
    /// `earlier` they begin with the content of these.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn new(
        directory: &Path,
        options: RocksDbOptions,
        earlier: BTreeMap<String, Vec<EarlierFiles>>,
    ) -> Result<Self, StoreError> {
        let made = fs::create_dir_all(directory);
        made.map_err(|why| failed("make the directory", directory, why))?;
        Ok(Self {
            settings: Settings::new(&options),
            options,
            directory: Arc::new(Directory {
                path: directory.to_owned(),
            }),
            opened: AtomicU64::new(0),
            earlier: Mutex::new(earlier),
        })
    }
}

impl StateStores for RocksDbStores {
    fn incremental(&self) -> bool {
        self.options.incremental
    }

    fn table_bytes(&self) -> usize {
        self.options.table_bytes
    }

    fn open(&self, uid: &str, _: RangeInclusive<u32>) -> Result<Opened, StoreError> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path.join(format!("db-{number}"));
        let had = {
            let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
            earlier.remove(uid).unwrap_or_default()
        };
        let mut earlier = Vec::new();
        if let [single] = &had[..] {
            let moved = fs::rename(&single.directory, &path);
            moved.map_err(|why| failed("take over the RocksDB in", &single.directory, why))?;
            earlier.push(Earlier {
                manifest: single.manifest.clone(),
                entries: None,
            });
        } else {
            for one in had {
                let reader = Reader::open(one.directory, &self.settings)?;
                earlier.push(Earlier {
                    manifest: one.manifest,
                    entries: Some(Arc::new(reader) as Arc<dyn Entries>),
                });
            }
        }
        let directory = Arc::clone(&self.directory);
        let store = Database::open(path, &self.settings, directory)?;
        Ok(Opened {
            store: Arc::new(store),
            earlier,
        })
    }
}
