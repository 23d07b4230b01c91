//! Micro-benchmarks of the structures that every record passes: `cargo bench -p spindle-dataflow`.
//!
//! Each measures one batch of [`BATCH_RECORDS`] records, and reports records a second. They run in one thread, so allocation is
//! cheaper here than in a worker: they compare one layout with another, `scripts/bench engine` measures the engine.

mod codec;
mod data;
mod keyed;
mod partition;
mod window;

use criterion::{Criterion, criterion_group, criterion_main};
use spindle_dataflow::batch::BATCH_RECORDS;

fn all(criterion: &mut Criterion) {
    assert_eq!(data::rows(0).len(), BATCH_RECORDS);
    codec::bench(criterion);
    partition::bench(criterion);
    keyed::bench(criterion);
    window::bench(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
