//! The generated types. They never leave this crate.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]

tonic::include_proto!("spindle");
