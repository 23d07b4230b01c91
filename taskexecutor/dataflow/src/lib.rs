//! The hot path: batches, operators, windows, watermarks and keyed state in memory, and the task that runs a chain of them.
//!
//! What moves buffers between tasks and what opens files is behind traits ([`channel::InputGate`], [`channel::ResultPartition`],
//! sources and sinks). This crate may not use tokio, do I/O or read a clock.

pub mod attribution;
pub mod batch;
pub mod chain;
pub mod channel;
pub mod codec;
pub mod collector;
pub mod connector;
pub mod exchange;
pub mod key;
pub mod mailbox;
pub mod operator;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod task;
mod task_time;
pub mod timer;

pub use attribution::{apart, current_operator};
