//! Sources and sinks that need nothing from outside.

mod sinks;
mod sources;

pub use sinks::MAX_COLLECTED_BYTES;
pub(crate) use sinks::{CollectSink, PrintSink};
pub(crate) use sources::{CollectionSource, GeneratorSource};
