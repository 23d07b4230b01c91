//! State by key: a running count, which is a look-up in the key table and little else.

use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::collector::Collector as _;
use spindle_dataflow::key::{ByRef, ByValue, KeySelector};
use spindle_dataflow::operator::Scan;
use spindle_dataflow::record::Record;

use crate::data::{Nowhere, context, keys, throughput, whole, words};

fn count<T: Record + std::hash::Hash + Eq + Sync>(
    criterion: &mut Criterion,
    of: &str,
    selector: Arc<dyn KeySelector<T, T>>,
    records: impl Fn(u64) -> Vec<T>,
) {
    let count = |count: &mut u64, _: T| {
        *count += 1;
        *count
    };
    let mut operator = Scan::new(
        &context(),
        selector,
        Arc::new(|| 0),
        Arc::new(count),
        Box::new(Nowhere),
    );
    let mut next = 0;
    let mut batch = || {
        next += BATCH_RECORDS as u64;
        Batch::from(records(next))
    };
    let mut group = criterion.benchmark_group("running count of 10,000 keys");
    group.throughput(throughput());
    group.bench_function(of, |bencher| {
        bencher.iter_batched_ref(
            &mut batch,
            |batch| operator.push(batch).expect("counting does not fail"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

pub(crate) fn bench(criterion: &mut Criterion) {
    count(
        criterion,
        "numbers",
        Arc::new(ByValue(|number: &u64| *number)),
        keys,
    );
    count(criterion, "words", Arc::new(ByRef(whole)), words);
}
