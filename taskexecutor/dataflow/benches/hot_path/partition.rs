//! Which consumer a keyed record goes to.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use spindle_dataflow::exchange::{HashPartitioner, Partitioner};
use spindle_dataflow::key::{ByRef, ByValue};

use crate::data::{keys, throughput, whole, words};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("partition by key among two");
    group.throughput(throughput());
    let mut targets = Vec::new();
    let numbers = keys(0);
    let mut by_number = HashPartitioner::new(Arc::new(ByValue(|number: &u64| *number)), 128);
    group.bench_function("numbers", |bencher| {
        bencher.iter(|| {
            targets.clear();
            by_number.route(&numbers, 2, &mut targets);
            black_box(&targets);
        });
    });
    let words = words(0);
    let mut by_word = HashPartitioner::new(Arc::new(ByRef(whole)), 128);
    group.bench_function("words", |bencher| {
        bencher.iter(|| {
            targets.clear();
            by_word.route(&words, 2, &mut targets);
            black_box(&targets);
        });
    });
    group.finish();
}
