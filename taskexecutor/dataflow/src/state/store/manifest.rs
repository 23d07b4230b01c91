//! What is written of a store, and how a store takes over what was.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spindle_common::checkpoint::SnapshotKind;

use crate::codec::Malformed;
use crate::snapshot::{STORE, Snapshot, StateOwner, from_bytes};
use crate::state::store::{Earlier, Frozen, Opened, StoreError, StoredState, Writing};
use crate::task::TaskError;

/// What is written beside the files of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of key groups of the operator.
    pub max_parallelism: u32,
    first_group: u32,
    last_group: u32,
    /// Names of the files, in the order in which they are written.
    pub files: Vec<String>,
    states: Vec<StateManifest>,
}

/// One state in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StateManifest {
    name: String,
    schema: String,
    /// Number of entries, by key group from the first.
    entries: Vec<u64>,
}

impl Manifest {
    /// Takes the bytes that a snapshot has.
    ///
    /// # Errors
    /// In words, if they are none of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        from_bytes(bytes).map_err(|why: Malformed| why.to_string())
    }

    /// The key groups of the store.
    pub fn groups(&self) -> RangeInclusive<u32> {
        self.first_group..=self.last_group
    }
}

/// What a state has in a store that was frozen.
pub(crate) struct FrozenState<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: &'a str,
    pub(crate) state: &'a StoredState,
    /// Number of entries, by key group from the operator's first.
    pub(crate) entries: &'a [u64],
}

/// Writes the states of an operator, all of which are in its store: as the store's files if the snapshot is a checkpoint and checkpoints are so,
/// else entry by entry as of memory.
///
/// # Errors
/// If there is no number for so many files.
pub(crate) fn write(
    owner: &StateOwner,
    into: &mut Snapshot,
    incremental: bool,
    frozen: &Arc<dyn Frozen>,
    states: &[FrozenState<'_>],
) -> Result<(), TaskError> {
    if !incremental || into.barrier().kind != SnapshotKind::Checkpoint {
        for one in states {
            into.frozen(owner, one, frozen);
        }
        return Ok(());
    }
    let groups = owner.groups();
    let manifest = Manifest {
        max_parallelism: owner.max_parallelism(),
        first_group: *groups.start(),
        last_group: *groups.end(),
        files: frozen
            .files()
            .iter()
            .map(|file| file.name.clone())
            .collect(),
        states: states
            .iter()
            .map(|one| StateManifest {
                name: one.name.to_owned(),
                schema: one.schema.to_owned(),
                entries: one.entries.to_vec(),
            })
            .collect(),
    };
    let entries = states.iter().flat_map(|one| one.entries).sum();
    into.files(owner, &manifest, entries, frozen)
}

/// A state that an operator keeps in its store.
pub(crate) struct Kept<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: String,
    /// Number of entries, by key group from the operator's first.
    pub(crate) entries: &'a mut [u64],
}

/// Takes over what earlier stores have of the key groups of an operator, and leaves nothing else in its store.
///
/// # Errors
/// If a state is another one than it was, or the stores cannot be read or written.
pub(crate) fn take_over(
    owner: &StateOwner,
    opened: &Opened,
    kept: &mut [Kept<'_>],
) -> Result<(), TaskError> {
    for earlier in &opened.earlier {
        let manifest: Manifest =
            from_bytes(&earlier.manifest).map_err(|why| owner.unreadable(STORE, &why))?;
        for had in &manifest.states {
            let now = kept.iter_mut().find(|kept| kept.name == had.name);
            if let Some(now) = &now
                && now.schema != had.schema
            {
                return Err(owner.other_schema(&had.name, &had.schema, &now.schema));
            }
            copy(owner, opened, earlier, &manifest, had, now)
                .map_err(|error| owner.store_failed(&error))?;
        }
    }
    Ok(())
}

fn copy(
    owner: &StateOwner,
    opened: &Opened,
    earlier: &Earlier,
    manifest: &Manifest,
    had: &StateManifest,
    mut now: Option<&mut Kept<'_>>,
) -> Result<(), StoreError> {
    let own = owner.groups();
    let state = StoredState::new(&had.name)?;
    let mut writing = Writing::to(&*opened.store);
    for (group, &entries) in manifest.groups().zip(&had.entries) {
        let wanted = own.contains(&group) && now.is_some();
        if wanted && let Some(now) = &mut now {
            now.entries[(group - own.start()) as usize] += entries;
        }
        let prefix = state.group(group);
        match &earlier.entries {
            None if wanted => {}
            None => opened.store.remove(&prefix)?,
            Some(from) if wanted => {
                from.scan(&prefix, &mut |key, value| {
                    state.put_bytes(group, &key[prefix.len()..], value, writing.changes())?;
                    writing.relieve()
                })?;
            }
            Some(_) => {}
        }
    }
    writing.finish()
}
