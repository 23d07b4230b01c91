//! Where records come from and where they go: connectors that ship with Spindle.

pub mod file;
pub mod generator;
mod idle;
mod net;
pub mod socket;
