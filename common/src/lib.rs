//! The words of Spindle: ids, the job graph, key groups, time, resources, configuration and the messages that its processes
//! exchange.
//!
//! Everything here is plain data and pure functions. This crate may not have a runtime, open a socket or a file, or read a clock.

pub mod checkpoint;
pub mod config;
pub mod deployment;
pub mod execution;
pub mod gateway;
pub mod id;
pub mod job_graph;
pub mod key_group;
pub mod program;
pub mod resource;
pub mod time;

/// Version of the messages between TaskExecutor and worker, and of the plan a job executable writes.
///
/// A job executable built against another version is refused at submission.
pub const PROTOCOL_VERSION: u32 = 4;
