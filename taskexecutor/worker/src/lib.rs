//! What a job's own executable runs in worker mode: a thread for the tasks of a slot, the exchange of buffers between tasks in one process
//! and over TCP, snapshots of their state, reports of what the tasks do. The embedded mini cluster runs the same in its own process.
//!
//! This crate may not own slots or decide where a task runs: it does what its TaskExecutor says ([`Worker::handle`]) and tells what
//! became of it ([`spindle_common::gateway::FromWorker`]).

mod backend;
mod config;
mod exchange;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod net;
mod panics;
pub mod process;
mod signal;
mod slot;
mod snapshot;
mod task_run;
mod worker;

pub use backend::{EarlierStores, MakeStores, StateBackend};
pub use config::{InvalidWorkerConfig, WorkerConfig};
pub use worker::{Worker, WorkerStartError};
