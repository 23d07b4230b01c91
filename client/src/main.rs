//! `spindle`, the command line: turns a job's executable into a job on a cluster and watches it to its end.
//!
//! Checks come first and side effects last: what is wrong with the command, the configuration, the job's file, its input or the
//! cluster's limits is said before anything is uploaded. This crate decides nothing about running jobs.

mod cli;
mod doctor;
mod entries;
mod error;
mod gc;
mod job_file;
mod output;
mod plan;
mod rest;
mod settings;
mod yarn;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
