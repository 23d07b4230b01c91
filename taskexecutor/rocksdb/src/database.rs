//! One database, and what of it was frozen.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};
use spindle_dataflow::state::store::{
    Bytes, Changes, EachEntry, Entries, Frozen, StateStore, StoreError, StoreFile,
};

use crate::stores::{Directory, RocksDbOptions};

const DEFAULT: &str = "default";
/// Tells without a read, in all but one case of a hundred, that a table does not have a key.
const BLOOM_BITS: f64 = 10.0;
/// Read ahead of a scan, in bytes.
const READ_AHEAD: usize = 2 << 20;

/// An error of RocksDB, or of the files around it.
pub(crate) fn failed(doing: impl fmt::Display, path: &Path, why: impl fmt::Display) -> StoreError {
    StoreError {
        doing: format!("{doing} `{}`", path.display()),
        reason: why.to_string(),
    }
}

/// The settings of a database. The cache is shared by all that have the same.
#[derive(Clone)]
pub(crate) struct Settings {
    options: Options,
}

impl Settings {
    pub(crate) fn new(given: &RocksDbOptions) -> Self {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(given.block_cache_bytes));
        table.set_bloom_filter(BLOOM_BITS, false);
        // Index and filters are part of what the cache bounds.
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(given.write_buffer_bytes);
        options.set_max_write_buffer_number(2);
        options.set_max_background_jobs(2);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(1);
        options.set_stats_dump_period_sec(0);
        Self { options }
    }
}

/// A database, which is the state of one operator.
pub(crate) struct Database {
    db: DB,
    path: PathBuf,
    settings: Settings,
    frozen: AtomicU64,
    /// Goes after the database.
    directory: Arc<Directory>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens what is in a directory, which may be empty or not there.
    pub(crate) fn open(
        path: PathBuf,
        settings: &Settings,
        directory: Arc<Directory>,
    ) -> Result<Self, StoreError> {
        let family = ColumnFamilyDescriptor::new(DEFAULT, settings.options.clone());
        let db = DB::open_cf_descriptors(&settings.options, &path, [family]);
        let db = db.map_err(|why| failed("open the RocksDB in", &path, why))?;
        Ok(Self {
            db,
            path,
            settings: settings.clone(),
            frozen: AtomicU64::new(0),
            directory,
        })
    }

    fn family(&self) -> &ColumnFamily {
        self.db.cf_handle(DEFAULT).expect("it was opened with it")
    }

    fn unread(&self, why: impl fmt::Display) -> StoreError {
        failed("read from the RocksDB in", &self.path, why)
    }

    fn unwritten(&self, why: impl fmt::Display) -> StoreError {
        failed("write to the RocksDB in", &self.path, why)
    }
}

/// What was written since the last checkpoint is void after a failure.
fn without_log() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

impl Entries for Database {
    fn scan(&self, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError> {
        scan(&self.db, prefix, each, |why| self.unread(why))
    }
}

impl StateStore for Database {
    fn get_many(&self, keys: &Bytes) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        // Sorted ones that lie in one block are read once.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&at| keys.get(at));
        let sorted = order.iter().map(|&at| keys.get(at));
        let found = self.db.batched_multi_get_cf(self.family(), sorted, true);
        let mut values = vec![None; keys.len()];
        for (at, value) in order.into_iter().zip(found) {
            let value = value.map_err(|why| self.unread(why))?;
            values[at] = value.map(|value| value.to_vec());
        }
        Ok(values)
    }

    fn change(&self, changes: &Changes) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (key, value) in changes.iter() {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let written = self.db.write_opt(batch, &without_log());
        written.map_err(|why| self.unwritten(why))
    }

    fn remove(&self, prefix: &[u8]) -> Result<(), StoreError> {
        let Some(end) = end_of(prefix) else {
            return Err(self.unwritten("there is no end of what begins with nothing"));
        };
        let family = self.family();
        let removed = self
            .db
            .delete_range_cf_opt(family, prefix, &end[..], &without_log());
        removed.map_err(|why| self.unwritten(why))
    }

    fn freeze(&self) -> Result<Arc<dyn Frozen>, StoreError> {
        let number = self.frozen.fetch_add(1, Ordering::Relaxed);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("frozen-{name}-{number}");
        let path = self.path.with_file_name(name);
        let not_frozen = |why: &dyn fmt::Display| failed("freeze the RocksDB in", &self.path, why);
        let checkpoint = Checkpoint::new(&self.db).map_err(|why| not_frozen(&why))?;
        // What is in memory is written first, as there is no log of it.
        let linked = checkpoint.create_checkpoint(&path);
        linked.map_err(|why| not_frozen(&why))?;
        let files = files(&path).map_err(|why| not_frozen(&why))?;
        Ok(Arc::new(FrozenDatabase {
            reader: Mutex::new(None),
            files,
            path,
            settings: self.settings.clone(),
            _directory: Arc::clone(&self.directory),
        }))
    }
}

/// The files of a database that nobody has open.
fn files(directory: &Path) -> std::io::Result<Vec<StoreFile>> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        files.push(StoreFile {
            // A table is written once, and its number is never used again.
            immutable: name.ends_with(".sst"),
            name,
        });
    }
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// A database as it was. Opened only if somebody reads its entries.
struct FrozenDatabase {
    reader: Mutex<Option<Arc<DB>>>,
    files: Vec<StoreFile>,
    path: PathBuf,
    settings: Settings,
    _directory: Arc<Directory>,
}

impl fmt::Debug for FrozenDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenDatabase")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FrozenDatabase {
    fn reader(&self) -> Result<Arc<DB>, StoreError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = &*reader {
            return Ok(Arc::clone(reader));
        }
        let db = DB::open_for_read_only(&self.settings.options, &self.path, false);
        let db = db.map_err(|why| failed("open the RocksDB in", &self.path, why))?;
        Ok(Arc::clone(reader.insert(Arc::new(db))))
    }
}

impl Entries for FrozenDatabase {
    fn scan(&self, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError> {
        let unread = |why: rocksdb::Error| failed("read from the RocksDB in", &self.path, why);
        scan(&*self.reader()?, prefix, each, unread)
    }
}

impl Frozen for FrozenDatabase {
    fn files(&self) -> &[StoreFile] {
        &self.files
    }

    fn read(&self, file: usize) -> Result<Vec<u8>, StoreError> {
        let path = self.path.join(&self.files[file].name);
        fs::read(&path).map_err(|why| failed("read the file", &path, why))
    }
}

impl Drop for FrozenDatabase {
    fn drop(&mut self) {
        let reader = self
            .reader
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        drop(reader.take());
        if let Err(error) = fs::remove_dir_all(&self.path) {
            // It goes with the task's directory.
            tracing::debug!(path = %self.path.display(), %error, "files of a snapshot were not removed");
        }
    }
}

/// An earlier database, of which entries are copied.
pub(crate) struct Reader {
    db: DB,
    path: PathBuf,
}

impl Reader {
    pub(crate) fn open(path: PathBuf, settings: &Settings) -> Result<Self, StoreError> {
        let db = DB::open_for_read_only(&settings.options, &path, false);
        let db = db.map_err(|why| failed("open the RocksDB in", &path, why))?;
        Ok(Self { db, path })
    }
}

impl Entries for Reader {
    fn scan(&self, prefix: &[u8], each: EachEntry<'_>) -> Result<(), StoreError> {
        let unread = |why: rocksdb::Error| failed("read from the RocksDB in", &self.path, why);
        scan(&self.db, prefix, each, unread)
    }
}

/// The first bytes that come after all that begin with these; none if there is no end.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

fn scan(
    db: &DB,
    prefix: &[u8],
    each: EachEntry<'_>,
    unread: impl Fn(rocksdb::Error) -> StoreError,
) -> Result<(), StoreError> {
    let mut options = ReadOptions::default();
    options.set_readahead_size(READ_AHEAD);
    options.fill_cache(false);
    if let Some(end) = end_of(prefix) {
        options.set_iterate_upper_bound(end);
    }
    let mut entries: DBRawIterator<'_> = db.raw_iterator_opt(options);
    entries.seek(prefix);
    while let Some((key, value)) = entries.item() {
        each(key, value)?;
        entries.next();
    }
    entries.status().map_err(unread)
}
