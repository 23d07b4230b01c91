//! Between tasks: records, watermarks and the end of input as bytes in buffers, on the way out and on the way in.

mod codec;
mod merge;
mod partition;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::{
    BUFFER_BYTES, BUFFER_RECORDS, CodecError, Element, Elements, Encoder, RECORD_BYTES,
};
pub use merge::WatermarkMerge;
pub use partition::{Broadcast, Forward, HashPartitioner, Partitioner, Rebalance, Route};
pub use writer::ExchangeWriter;
