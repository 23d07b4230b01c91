//! Records to bytes in buffers and back.

use std::hint::black_box;

use criterion::Criterion;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::channel::Buffer;
use spindle_dataflow::exchange::{Elements, Encoder};
use spindle_dataflow::record::Record;

use crate::data::{keys, rows, throughput};

fn encode<T: Record>(records: &[T], encoder: &mut Encoder) -> Vec<Buffer> {
    let mut buffers = Vec::new();
    for record in records {
        encoder.record(record, None).expect("the record encodes");
        if encoder.is_full() {
            buffers.extend(encoder.take());
        }
    }
    buffers.extend(encoder.take());
    buffers
}

fn decode<T: Record>(buffers: &[Buffer], batch: &mut Batch<T>) {
    for buffer in buffers {
        let mut elements = Elements::<T>::of(&buffer.bytes);
        while elements
            .next(batch)
            .expect("what was encoded decodes")
            .is_some()
        {
            black_box(&*batch);
        }
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(throughput());
    let (numbers, rows) = (keys(0), rows(0));
    let mut encoder = Encoder::default();
    group.bench_function("encode numbers", |bencher| {
        bencher.iter(|| black_box(encode(&numbers, &mut encoder)));
    });
    group.bench_function("encode rows", |bencher| {
        bencher.iter(|| black_box(encode(&rows, &mut encoder)));
    });
    let (numbers, rows) = (encode(&numbers, &mut encoder), encode(&rows, &mut encoder));
    let (mut number_batch, mut row_batch) = (Batch::<u64>::new(), Batch::new());
    group.bench_function("decode numbers", |bencher| {
        bencher.iter(|| decode(&numbers, &mut number_batch));
    });
    group.bench_function("decode rows", |bencher| {
        bencher.iter(|| decode::<crate::data::Row>(&rows, &mut row_batch));
    });
    group.finish();
}
