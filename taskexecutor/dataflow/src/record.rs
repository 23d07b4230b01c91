//! What records, keys and state have to be.

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Anything that can flow through a job or be kept as state. Implemented for every type that has the traits named here.
///
/// `Clone` is used only where a stream has several consumers in one chain, and for state that changes while a snapshot of it is written;
/// `Sync` only for the latter; serde only where records leave their task.
pub trait Record: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Record for T {}

/// Anything that records can be grouped by. Its [`Hash`] decides on the subtask, so it has to be the same in all processes.
pub trait Key: Hash + Eq + Record {}

impl<K: Hash + Eq + Record> Key for K {}
