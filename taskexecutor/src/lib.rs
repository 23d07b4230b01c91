//! The process of a TaskManager's container: it registers with its JobManager, leases its slots to jobs, fetches the
//! programs of jobs, runs one worker process for each job that has one, and passes messages between JobManager and workers.
//!
//! This crate may not run user code, and a decision is made in [`task_executor`] alone: [`shell`] carries it out.

pub mod boot;
mod inquiry;
mod memory;
mod program;
pub mod shell;
pub mod task_executor;
mod worker_process;
