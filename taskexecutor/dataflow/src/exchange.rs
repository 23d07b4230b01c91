//! Between tasks: records, watermarks and the end of input as bytes in buffers, on the way out and on the way in.

mod codec;
mod local;
mod merge;
mod partition;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::{
    BUFFER_BYTES, BUFFER_RECORDS, CodecError, Element, Elements, Encoder, Event, RECORD_BYTES,
};
pub(crate) use codec::{barrier_of, is_barrier};
pub use local::LocalElements;
pub use merge::{ChannelTime, Merged, WatermarkMerge};
pub use partition::{
    Broadcast, Custom, Forward, Global, HashPartitioner, Partitioner, Rebalance, Route, Shuffle,
};
pub use writer::ExchangeWriter;
