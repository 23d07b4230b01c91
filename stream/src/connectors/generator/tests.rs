use std::sync::Arc;
use std::time::{Duration, Instant};

use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{SourceReader, SourceStatus};
use spindle_hadoop::conf::Configuration;

use super::*;
use crate::context::IoContext;

fn readers<T: 'static>(source: &impl Source<T>, parallelism: u32) -> Vec<Box<dyn SourceReader<T>>> {
    let io = Arc::new(IoContext::new(Configuration::new(), "test".to_owned()));
    let plan = PlanContext {
        io: Arc::clone(&io),
        parallelism,
    };
    let lists = source.plan(&plan).unwrap();
    assert_eq!(lists.len(), parallelism as usize);
    (0..)
        .zip(lists)
        .map(|(subtask, splits)| {
            let io = Arc::clone(&io);
            let context = SourceContext {
                io,
                subtask,
                parallelism,
            };
            source.reader(splits, context).unwrap()
        })
        .collect()
}

fn all<T>(reader: &mut dyn SourceReader<T>) -> Vec<T> {
    let mut batch = Batch::new();
    while reader.read(&mut batch).unwrap() == SourceStatus::More {}
    batch.records
}

#[test]
fn every_number_is_made_once_by_the_subtask_whose_turn_it_is() {
    for count in [0, 1, 2, 3, 7, 5000] {
        for parallelism in 1..5 {
            let source = GeneratorSource::new(|n| n).count(count);
            let mut numbers = Vec::new();
            for (subtask, mut reader) in (0..).zip(readers(&source, parallelism)) {
                let made = all(&mut *reader);
                assert!(made.iter().all(|n| n % u64::from(parallelism) == subtask));
                assert!(made.is_sorted());
                assert_eq!(reader.progress(), Some(1.0));
                numbers.extend(made);
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_dealt_out_to_fewer_goes_on_in_the_order_of_the_numbers() {
    let source = GeneratorSource::new(|n| n).count(5000);
    let mut positions = Vec::new();
    for (steps, mut reader) in (0..).zip(readers(&source, 3)) {
        for _ in 0..steps {
            reader.read(&mut Batch::new()).unwrap();
        }
        positions.extend(reader.snapshot().unwrap().unwrap());
    }
    let mut reader = readers(&source, 1).remove(0);
    reader.restore(positions).unwrap();
    let mut made = Vec::new();
    let mut batch = Batch::new();
    // Event time may follow the numbers: in no batch is one that comes too late.
    while reader.read(&mut batch).unwrap() == SourceStatus::More {
        made.append(&mut batch.records);
    }
    made.append(&mut batch.records);
    assert!(made.is_sorted());
    let batch = BATCH_RECORDS as u64;
    let left = (0..5000).filter(|n| n / 3 >= (n % 3) * batch);
    assert_eq!(made, left.collect::<Vec<_>>());
}

#[test]
fn without_a_count_there_is_no_end_and_no_progress() {
    let mut reader = readers(&GeneratorSource::new(|n| n), 2).remove(1);
    let mut batch = Batch::new();
    for _ in 0..3 {
        assert_eq!(reader.read(&mut batch), Ok(SourceStatus::More));
    }
    assert_eq!(
        batch.records,
        (0..3 * BATCH_RECORDS as u64)
            .map(|n| 2 * n + 1)
            .collect::<Vec<_>>()
    );
    assert_eq!(reader.progress(), None);
}

#[test]
fn a_rate_is_never_exceeded_and_a_reader_that_waits_comes_back() {
    let source = GeneratorSource::new(|n| n).per_second(40.0);
    let begin = Instant::now();
    let mut reader = readers(&source, 2).remove(1);
    let mut batch = Batch::new();
    while batch.len() < 4 {
        let asked = Instant::now();
        assert_eq!(reader.read(&mut batch), Ok(SourceStatus::More));
        // Not a measure of speed: a reader that waits for the next record would take seconds at lower rates.
        assert!(asked.elapsed() < Duration::from_secs(5));
        // The subtask's first record is due after 25 ms, then one every 50 ms.
        let due = (begin.elapsed().as_millis() + 25) / 50;
        assert!(batch.len() as u128 <= due, "{} of {due}", batch.len());
    }
    assert_eq!(batch.records, [1, 3, 5, 7]);
}

#[test]
fn a_rate_that_is_none_is_refused() {
    let io = Arc::new(IoContext::new(Configuration::new(), "test".to_owned()));
    let plan = PlanContext { io, parallelism: 1 };
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let source = GeneratorSource::new(|n| n).per_second(rate);
        let refused = source.plan(&plan).unwrap_err().to_string();
        assert!(refused.contains("records a second"), "{refused}");
    }
}
