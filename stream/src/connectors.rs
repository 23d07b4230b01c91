//! Where records come from and where they go: connectors that ship with Spindle.
//!
//! | source | ends | |
//! | --- | --- | --- |
//! | [`FileSource`](file::FileSource) | yes | files on HDFS or a local disk: lines, CSV, JSON lines, Parquet; packed with gzip or zstd |
//! | [`FileSource::monitor_continuously`](file::FileSource::monitor_continuously) | if told when | the same, as files come into a directory |
//! | [`GeneratorSource`](generator::GeneratorSource) | with a count | records made from numbers, at a rate |
//! | [`SocketSource`](socket::SocketSource) | with the connection | lines from a TCP connection |
//!
//! [`FileSink`](file::FileSink) writes text, CSV, JSON lines and Parquet. Parquet needs the crate's feature `parquet`. What needs
//! nothing from outside is on [`StreamEnvironment`](crate::StreamEnvironment) and [`DataStream`](crate::DataStream): collections,
//! printing, collecting.

pub mod file;
pub mod generator;
mod idle;
mod net;
pub mod socket;
