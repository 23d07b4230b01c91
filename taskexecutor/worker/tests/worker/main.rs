//! Workers in one process, over loopback, with tasks made up for the test.
#![expect(clippy::unwrap_used, reason = "tests, and what they are made of")]

mod exchange;
mod slots;
mod snapshots;
mod support;
mod tasks;
mod unaligned;
