mod scatter;

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use spindle_common::checkpoint::{BarrierAlignment, CheckpointBarrier, CheckpointId, SnapshotKind};
use spindle_common::key_group::{key_group, key_hash, subtask_of};
use spindle_common::time::{EventTime, Watermark};

use super::*;
use crate::batch::Batch;
use crate::channel::{Buffer, ResultPartition};
use crate::collector::{Collector as _, Control as _};
use crate::key::ByValue;
use crate::task::{TaskError, TaskMetrics};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    numbers: Vec<i64>,
    flag: Option<bool>,
}

#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Record(Record, Option<i64>),
    Watermark(i64),
    Idle(bool),
    Barrier(u64),
}

fn barrier(id: u64) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: -5,
        kind: SnapshotKind::Savepoint,
        directory: Arc::from("hdfs://nn/savepoints/1"),
        alignment: BarrierAlignment::Aligned,
    }
}

fn record() -> impl Strategy<Value = Record> {
    let numbers = prop::collection::vec(any::<i64>(), 0..5);
    (".{0,300}", numbers, any::<Option<bool>>()).prop_map(|(name, numbers, flag)| Record {
        name,
        numbers,
        flag,
    })
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let one = prop_oneof![
        8 => (record(), any::<Option<i64>>()).prop_map(|(record, time)| Sent::Record(record, time)),
        1 => any::<i64>().prop_map(Sent::Watermark),
        1 => any::<bool>().prop_map(Sent::Idle),
        1 => any::<u64>().prop_map(Sent::Barrier),
    ];
    prop::collection::vec(one, 0..200)
}

fn encode(all: &[Sent]) -> Vec<Buffer> {
    let mut encoder = Encoder::default();
    let mut buffers = Vec::new();
    for sent in all {
        match sent {
            Sent::Record(record, time) => {
                encoder.record(record, time.map(EventTime)).unwrap();
                if encoder.is_full() {
                    buffers.extend(encoder.take());
                }
            }
            Sent::Watermark(time) => encoder.event(Event::Watermark(Watermark(EventTime(*time)))),
            Sent::Idle(idle) => encoder.event(Event::Idle(*idle)),
            Sent::Barrier(id) => {
                encoder.event(Event::Barrier(barrier(*id)));
                buffers.extend(encoder.take());
            }
        }
    }
    encoder.event(Event::End);
    buffers.extend(encoder.take());
    assert!(encoder.is_empty());
    buffers
}

/// What is in a buffer, and whether it is the last.
fn decode(buffer: &Buffer) -> Result<(Vec<Sent>, bool), CodecError> {
    let mut all = Vec::new();
    let mut ended = false;
    let mut batch = Batch::new();
    let mut elements = Elements::<Record>::of(&buffer.bytes);
    while let Some(element) = elements.next(&mut batch)? {
        match element {
            // What is left in the batch is overwritten by the next records.
            Element::Records => {
                let times = batch.timestamps.iter().map(|time| Some(time.0));
                let times = times.chain(std::iter::repeat(None));
                let records = batch.records.iter().cloned().zip(times);
                all.extend(records.map(|(record, time)| Sent::Record(record, time)));
            }
            Element::Event(Event::Watermark(watermark)) => {
                all.push(Sent::Watermark(watermark.0.0));
            }
            Element::Event(Event::Idle(idle)) => all.push(Sent::Idle(idle)),
            Element::Event(Event::End) => ended = true,
            Element::Event(Event::Barrier(came)) => {
                all.push(Sent::Barrier(came.id.0));
            }
        }
    }
    Ok((all, ended))
}

proptest! {
    #[test]
    fn what_is_encoded_comes_out_in_order_and_ends_once(all in sent()) {
        let buffers = encode(&all);
        let mut out = Vec::new();
        for (at, buffer) in buffers.iter().enumerate() {
            let (elements, ended) = decode(buffer).unwrap();
            prop_assert_eq!(ended, at + 1 == buffers.len());
            let records = elements.iter().filter(|sent| matches!(sent, Sent::Record(..))).count();
            prop_assert_eq!(records, buffer.records as usize);
            out.extend(elements);
        }
        prop_assert_eq!(out, all);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let buffer = Buffer::encoded(bytes, 0);
        // Either is right; neither panics.
        let _ = decode(&buffer);
    }

    #[test]
    fn a_truncated_or_damaged_buffer_is_never_more_than_an_error(
        all in sent(), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut buffer = encode(&all).swap_remove(0);
        let whole = buffer.bytes.len();
        let place = at.index(whole);
        buffer.bytes[place] = byte;
        let _ = decode(&buffer);
        buffer.bytes.truncate(cut.index(whole));
        let _ = decode(&buffer);
    }
}

#[test]
fn a_buffer_exceeds_its_size_by_one_record_at_most() {
    let mut encoder = Encoder::default();
    let mut buffers = Vec::new();
    for n in 0..3000_usize {
        let text = if n == 1500 {
            "x".repeat(BUFFER_BYTES * 2)
        } else {
            "y".repeat(n % 100)
        };
        encoder.record(&text, None).unwrap();
        if encoder.is_full() {
            buffers.extend(encoder.take());
        }
    }
    buffers.extend(encoder.take());
    assert_eq!(
        buffers.iter().map(|buffer| buffer.records).sum::<u32>(),
        3000
    );
    for buffer in &buffers {
        assert!(buffer.bytes.len() < BUFFER_BYTES + 101 || buffer.bytes.len() > 2 * BUFFER_BYTES);
    }
    assert!(
        buffers
            .iter()
            .any(|buffer| buffer.bytes.len() > BUFFER_BYTES)
    );
}

#[test]
fn records_without_bytes_are_bounded_by_their_number() {
    let mut encoder = Encoder::default();
    while !encoder.is_full() {
        encoder.record(&(), None).unwrap();
    }
    assert_eq!(encoder.take().unwrap().records, BUFFER_RECORDS);
    let mut bytes = vec![1];
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    let error = Elements::<()>::of(&bytes)
        .next(&mut Batch::new())
        .unwrap_err();
    assert_eq!(error, CodecError::Count(u32::MAX));
}

#[test]
fn an_unknown_tag_and_a_cut_element_are_named() {
    let next = |bytes: &[u8]| Elements::<u64>::of(bytes).next(&mut Batch::new());
    assert_eq!(next(&[9]), Err(CodecError::Tag(9)));
    assert_eq!(next(&[3, 0, 0]), Err(CodecError::Truncated("watermark")));
    assert_eq!(
        next(&[1, 2]),
        Err(CodecError::Truncated("block of records"))
    );
    assert_eq!(next(&[]), Ok(None));
}

type Emitted = Arc<Mutex<Vec<Vec<Buffer>>>>;

/// Keeps what is emitted, by subpartition.
struct Kept(Emitted);

impl ResultPartition for Kept {
    fn subpartitions(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn emit(&mut self, subpartition: usize, buffer: Buffer) -> Result<(), TaskError> {
        self.0.lock().unwrap()[subpartition].push(buffer);
        Ok(())
    }
}

fn writer(
    consumers: usize,
    partitioner: Box<dyn Partitioner<u64>>,
) -> (ExchangeWriter<u64>, Emitted) {
    let kept = Arc::new(Mutex::new(
        (0..consumers).map(|_| Vec::new()).collect::<Vec<_>>(),
    ));
    let partition = Box::new(Kept(Arc::clone(&kept)));
    let metrics: Arc<TaskMetrics> = Arc::default();
    (
        ExchangeWriter::new(Arc::from("map"), partition, partitioner, metrics),
        kept,
    )
}

fn numbers(buffers: &[Buffer]) -> Vec<u64> {
    let mut all = Vec::new();
    for buffer in buffers {
        let mut elements = Elements::<u64>::of(&buffer.bytes);
        let mut batch = Batch::new();
        while let Some(element) = elements.next(&mut batch).unwrap() {
            if element == Element::Records {
                all.append(&mut batch.records);
            }
        }
    }
    all
}

#[test]
fn a_keyed_record_goes_to_the_subtask_that_owns_its_key_group() {
    let selector = Arc::new(ByValue(|n: &u64| n % 100));
    let (mut writer, kept) = writer(3, Box::new(HashPartitioner::new(selector, 128)));
    writer
        .push(&mut Batch::from((0..1000).collect::<Vec<_>>()))
        .unwrap();
    assert!(
        kept.lock().unwrap().iter().all(Vec::is_empty),
        "nothing is full yet"
    );
    writer.flush().unwrap();
    let kept = kept.lock().unwrap();
    for (consumer, buffers) in kept.iter().enumerate() {
        let got = numbers(buffers);
        assert!(!got.is_empty());
        let owner = |n: u64| subtask_of(key_group(key_hash(&(n % 100)), 128), 3, 128);
        assert!(got.iter().all(|n| owner(*n) as usize == consumer));
    }
    assert_eq!(
        kept.iter()
            .map(|buffers| numbers(buffers).len())
            .sum::<usize>(),
        1000
    );
}

#[test]
fn a_rebalancing_producer_deals_out_evenly_across_batches() {
    let (mut writer, kept) = writer(3, Box::new(Rebalance::new(1)));
    for n in 0..10 {
        writer.push(&mut Batch::from(vec![n, n])).unwrap();
    }
    writer.flush().unwrap();
    let counts: Vec<usize> = kept
        .lock()
        .unwrap()
        .iter()
        .map(|buffers| numbers(buffers).len())
        .collect();
    assert_eq!(counts, [6, 7, 7]);
}

#[test]
fn a_watermark_and_the_end_reach_every_consumer() {
    let (mut writer, kept) = writer(2, Box::new(Forward));
    writer.push(&mut Batch::from(vec![1, 2])).unwrap();
    writer.watermark(Watermark(EventTime(5))).unwrap();
    writer.end().unwrap();
    let kept = kept.lock().unwrap();
    let elements = |buffers: &[Buffer]| {
        let mut elements = Elements::<u64>::of(&buffers[0].bytes);
        std::iter::from_fn(|| elements.next(&mut Batch::new()).unwrap()).collect::<Vec<_>>()
    };
    let watermark = Element::Event(Event::Watermark(Watermark(EventTime(5))));
    let end = Element::Event(Event::End);
    assert_eq!(
        elements(&kept[0]),
        [Element::Records, watermark.clone(), end.clone()]
    );
    assert_eq!(elements(&kept[1]), [watermark, end]);
}

#[test]
fn watermarks_without_records_fill_no_buffer_beyond_its_size() {
    let (mut writer, kept) = writer(1, Box::new(Forward));
    for ms in 0..20_000 {
        writer.watermark(Watermark(EventTime(ms))).unwrap();
    }
    let kept = kept.lock().unwrap();
    assert!(kept[0].len() >= 5);
    let largest = kept[0].iter().map(|buffer| buffer.bytes.len()).max();
    assert!(largest.unwrap() < BUFFER_BYTES + 9, "{largest:?}");
}

#[test]
fn a_record_too_large_to_travel_is_refused_with_its_size() {
    let record = "x".repeat(RECORD_BYTES);
    let error = Encoder::default().record(&record, None).unwrap_err();
    assert!(error.to_string().contains("is the most"), "{error}");
}

type Shared = Arc<Mutex<Vec<Buffer>>>;

/// Keeps what is emitted to the one consumer, which is in the same process, and gives buffers back.
struct Local {
    kept: Shared,
    read: Shared,
}

impl ResultPartition for Local {
    fn subpartitions(&self) -> usize {
        1
    }

    fn emit(&mut self, _: usize, buffer: Buffer) -> Result<(), TaskError> {
        self.kept.lock().unwrap().push(buffer);
        Ok(())
    }

    fn is_local(&self, _: usize) -> bool {
        true
    }

    fn recycled(&mut self, _: usize) -> Option<Buffer> {
        self.read.lock().unwrap().pop()
    }
}

#[test]
fn plain_records_go_to_a_task_of_the_same_process_as_they_are_and_texts_encoded() {
    let (kept, read): (Shared, Shared) = Default::default();
    let local = || {
        Box::new(Local {
            kept: Arc::clone(&kept),
            read: Arc::clone(&read),
        })
    };
    let name: Arc<str> = Arc::from("map");
    let mut writer = ExchangeWriter::<u64>::new(
        Arc::clone(&name),
        local(),
        Box::new(Forward),
        Arc::default(),
    );
    writer.push(&mut Batch::from(vec![1, 2])).unwrap();
    writer.flush().unwrap();
    assert_eq!(kept.lock().unwrap().pop().unwrap().records, 2);
    writer.push(&mut Batch::from(vec![3])).unwrap();
    writer.watermark(Watermark(EventTime(5))).unwrap();
    writer.push(&mut Batch::from(vec![4])).unwrap();
    writer.flush().unwrap();
    let buffer = kept.lock().unwrap().pop().unwrap();
    assert_eq!((buffer.records, buffer.size), (2, 16));
    let objects = buffer.objects.unwrap();
    let mut elements = objects.downcast::<LocalElements<u64>>().unwrap();
    assert_eq!(elements.batch.records, [3, 4]);
    assert_eq!(
        elements.events,
        [(1, Event::Watermark(Watermark(EventTime(5))))]
    );
    // Memory that was read is filled again.
    elements.clear();
    let place = elements.batch.records.as_ptr();
    read.lock().unwrap().push(Buffer {
        objects: Some(crate::channel::Objects(elements)),
        ..Buffer::default()
    });
    writer.push(&mut Batch::from(vec![5])).unwrap();
    writer.flush().unwrap();
    writer.push(&mut Batch::from(vec![6])).unwrap();
    writer.flush().unwrap();
    let again = kept.lock().unwrap().pop().unwrap().objects.unwrap();
    let again = again.downcast::<LocalElements<u64>>().unwrap();
    assert_eq!(
        (again.batch.records.as_ptr(), &again.batch.records[..]),
        (place, &[6][..])
    );
    // Records with and without event time do not share a buffer.
    writer.push(&mut Batch::from(vec![7])).unwrap();
    let timed = &mut Batch {
        records: vec![8],
        timestamps: vec![EventTime(1)],
    };
    writer.push(timed).unwrap();
    writer.flush().unwrap();
    assert_eq!(kept.lock().unwrap().len(), 3);

    kept.lock().unwrap().clear();
    let mut texts = ExchangeWriter::<String>::new(name, local(), Box::new(Forward), Arc::default());
    for _ in 0..2 {
        texts.push(&mut Batch::from(vec!["a".to_owned()])).unwrap();
        texts.flush().unwrap();
    }
    assert!(
        kept.lock()
            .unwrap()
            .iter()
            .all(|buffer| buffer.objects.is_none())
    );
}
