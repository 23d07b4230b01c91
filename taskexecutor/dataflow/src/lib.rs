//! The hot path: batches, operators, windows, watermarks and keyed state in memory, and the task that runs a chain of them.
//!
//! What moves buffers between tasks and what opens files is behind traits ([`channel::InputGate`], [`channel::ResultPartition`],
//! sources and sinks). This crate may not use tokio, do I/O or read a clock.

pub mod channel;
pub mod task;
