//! The ApplicationMaster: the process that YARN starts for an application, which embeds the JobManager.
//!
//! It registers, asks for containers and starts TaskExecutors in them, heartbeats, and reports the outcome. What is wanted is the
//! JobManager's decision, and never made here; what YARN's rules make of it is [`allocation`], a pure part.

pub mod allocation;
mod doors;
mod endings;
mod environment;
pub mod exit_status;
mod job_records;
mod launcher;
mod manifest;
mod net;
mod plan;
mod process;
mod settings;
mod staging;
mod told;
mod yarn_driver;

pub use process::main;
