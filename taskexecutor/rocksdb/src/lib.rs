//! Keyed state in RocksDB: on this machine's disk, larger than memory, and frozen at a barrier as files that never change.
//!
//! Implements [`spindle_dataflow::state::store`] and nothing else: it does not know of checkpoints, networks or jobs. Each operator of each
//! attempt of a task has a database of its own, without a write-ahead log, since what is newer than the last checkpoint is void after a failure.
//!
//! ```text
//! <directory>/db-<n>/              the database of an operator
//! <directory>/frozen-<n>-<m>/      hard links to its files at a barrier, until they are written elsewhere
//! ```

mod database;
mod stores;
#[cfg(test)]
mod tests;

pub use stores::{RocksDbOptions, RocksDbStores};
