//! What the end-to-end suites share: a real Hadoop on this machine, the programs of a release build, and eyes on processes.
//!
//! Nothing depends on this crate.

pub mod durable;
pub mod hadoop;
pub mod process;
pub mod spindle;
