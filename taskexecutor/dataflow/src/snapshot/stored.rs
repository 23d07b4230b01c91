//! What a snapshot has of a store: its entries, or its files.

use std::sync::Arc;

use spindle_common::checkpoint::{Distribution, StateChunk, StateSnapshot};

use crate::codec::Malformed;
use crate::connector::OperatorError;
use crate::snapshot::{Snapshot, StateOwner, to_bytes};
use crate::state::store::{Frozen, FrozenState, Manifest, StoreError, StoreFile};
use crate::task::TaskError;

/// Name of the state that an operator's store is, where that is written as its files. Each subtask gets those of all, and takes what has key
/// groups of it.
pub const STORE: &str = "(store)";
const STORE_SCHEMA: &str = "files of RocksDB";

/// A file of a store.
#[derive(Debug, Clone)]
pub struct FrozenFile {
    owner: StateOwner,
    store: Arc<dyn Frozen>,
    file: usize,
}

impl FrozenFile {
    /// The operator whose store it is of.
    pub fn uid(&self) -> &str {
        self.owner.uid()
    }

    /// What it is called, and whether it stays as it is.
    pub fn file(&self) -> &StoreFile {
        &self.store.files()[self.file]
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, TaskError> {
        let bytes = self.store.read(self.file);
        bytes.map_err(|error| self.owner.store_failed(&error))
    }
}

/// The bytes of a chunk.
#[derive(Debug)]
pub enum Content {
    /// They are there.
    Bytes(Vec<u8>),
    /// They are made from what was shared at the barrier, in any thread. What the task does meanwhile does not change them.
    Later(Later),
    /// They are in a file on this machine, for as long as the store is held that was frozen at the barrier.
    File(FrozenFile),
}

/// What makes the bytes of a chunk.
pub struct Later(pub(super) Box<dyn FnOnce() -> Result<Vec<u8>, TaskError> + Send>);

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}

impl Content {
    /// The bytes. Reads a file, if they are in one.
    ///
    /// # Errors
    /// If a key or a value says that it cannot be written, or the file cannot be read.
    pub fn into_bytes(self) -> Result<Vec<u8>, TaskError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Later(Later(make)) => make(),
            Self::File(file) => file.read(),
        }
    }
}

impl StateOwner {
    /// What the operator keeps its state in does not work: another one may.
    pub(crate) fn store_failed(&self, error: &StoreError) -> TaskError {
        OperatorError::transient(format!("{error} (operator `{}`)", self.uid)).of(&self.name)
    }
}

impl Snapshot {
    /// Writes the files of an operator's store, which has so many entries: what says what is in it, then each file.
    ///
    /// ```text
    /// index    first key group · 2^16 + number of the chunk: the manifest has 0, the files follow
    /// ```
    pub(crate) fn files(
        &mut self,
        owner: &StateOwner,
        manifest: &Manifest,
        entries: u64,
        frozen: &Arc<dyn Frozen>,
    ) -> Result<(), TaskError> {
        let files = frozen.files().len();
        if files >= 1 << 16 {
            return Err(owner.failed("write", STORE, format!("it has {files} files")));
        }
        let first = owner.groups().start() << 16;
        let manifest = to_bytes(manifest).map_err(|why| owner.unwritable(STORE, &why))?;
        let mut chunks = vec![StateChunk {
            index: first,
            entries,
            content: Content::Bytes(manifest),
        }];
        chunks.extend((0..files).map(|file| StateChunk {
            index: first + 1 + file as u32,
            entries: 0,
            content: Content::File(FrozenFile {
                owner: owner.clone(),
                store: Arc::clone(frozen),
                file,
            }),
        }));
        self.add(
            owner,
            StateSnapshot {
                name: STORE.to_owned(),
                distribution: Distribution::Union,
                schema: STORE_SCHEMA.to_owned(),
                chunks,
            },
        );
        Ok(())
    }

    /// Writes a state by key that stands in a store.
    pub(crate) fn frozen(
        &mut self,
        owner: &StateOwner,
        one: &FrozenState<'_>,
        frozen: &Arc<dyn Frozen>,
    ) {
        let first = *owner.groups().start();
        self.keyed_later(owner, one.name, one.schema.to_owned(), |place| {
            let (frozen, prefix) = (Arc::clone(frozen), one.state.group(first + place as u32));
            let expected = one.entries[place];
            let write = move |out: &mut Vec<u8>| {
                let mut found = 0;
                frozen.scan(&prefix, &mut |key, value| {
                    out.extend_from_slice(&key[prefix.len()..]);
                    out.extend_from_slice(value);
                    found += 1;
                    Ok(())
                })?;
                if found == expected {
                    Ok(())
                } else {
                    Err(Malformed::Custom(format!(
                        "a key group has {found} entries in the store, and should have {expected}"
                    )))
                }
            };
            (expected, write)
        });
    }
}
