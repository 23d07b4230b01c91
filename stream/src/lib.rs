//! Stream processing jobs as native programs: sources, transformations by key and by event time, sinks.
//!
//! A job is an executable whose `main` describes a dataflow. Run by itself it executes in its own process; `spindle run` asks the
//! same executable for its plan and has it executed on a cluster. This crate may not decide where a task runs or when it
//! restarts.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     spindle_stream::main("squares", |env| {
//!         env.generate(10, |n| n).map(|n| n * n).print();
//!         Ok(())
//!     })
//! }
//! ```

/// The allocator of a job's executable: a dataflow takes and frees memory on many threads, which glibc's takes twice as long for.
/// A program that wants another one turns the feature `mimalloc` off.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod async_io;
mod backend;
mod builtin;
mod connected;
pub mod connector;
pub mod connectors;
pub mod context;
mod data_stream;
mod data_stream_sink;
mod embedded;
mod environment;
mod function;
mod graph;
mod joined;
mod keyed;
mod mini_cluster;
mod process;
mod program;
pub mod testing;
#[cfg(test)]
mod tests;
mod windowed;

pub use async_io::AsyncOptions;
pub use builtin::MAX_COLLECTED_BYTES;
pub use connected::{
    BroadcastConnectedStreams, ConnectedStreams, IntervalJoined, KeyedBroadcastConnectedStreams,
    KeyedConnectedStreams,
};
pub use data_stream::DataStream;
pub use data_stream_sink::DataStreamSink;
pub use environment::StreamEnvironment;
pub use function::*;
pub use joined::{Either, JoinedStreams, KeyedJoin, WindowedJoin};
pub use keyed::KeyedStream;
pub use program::{ProgramError, Result, main};
pub use spindle_common::resource::{ByteSize, SlotProfile};
pub use spindle_common::time::{EventTime, Watermark};
pub use spindle_dataflow::operator::{
    AggregateFunction, ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, Count,
    CountTrigger, DeltaTrigger, EndOfWindow, EventTimeTrigger, Fold, GlobalWindows as Global,
    MaxBy, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, SessionWindows as Session,
    SlidingWindows as Sliding, TimeWindow, Trigger, TriggerContext, TriggerResult,
    TumblingWindows as Tumbling, WatermarkGenerator, WatermarkStrategy, WindowContext,
    WindowOutput, WindowTime, Windows,
};
pub use spindle_dataflow::record::{Key, Record};
pub use windowed::WindowedStream;
