//! The decisions of the control plane as pure state machines: Dispatcher, JobMaster, ResourceManager.
//!
//! [`JobManager`] is the one machine that a driver runs: it takes [`message::Input`]s and returns [`message::Effect`]s. This
//! crate may not use tokio, do I/O, read a clock or draw random numbers: the same inputs give the same effects, byte for byte.

pub mod checkpoint;
pub mod config;
mod dispatcher;
mod execution_graph;
mod heartbeat;
mod job_manager;
mod job_master;
pub mod machine;
pub mod message;
mod resource_manager;

pub use config::{ClusterMode, JobManagerConfig};
pub use job_manager::JobManager;
pub use machine::{Machine, Outbox};
