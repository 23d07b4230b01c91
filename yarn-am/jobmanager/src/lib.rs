//! The decisions of the control plane as pure state machines: Dispatcher, JobMaster, ResourceManager.
//!
//! [`JobManager`] is the one machine that a driver runs: it takes [`Input`]s and returns [`Effect`]s. This crate may not use
//! tokio, do I/O, read a clock or draw random numbers: the same inputs give the same effects, byte for byte.

pub mod machine;
pub mod message;
