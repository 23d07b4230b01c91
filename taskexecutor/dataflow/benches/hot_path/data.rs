//! What the benchmarks are fed with, and where it ends.

use std::sync::Arc;

use criterion::Throughput;
use spindle_common::time::{EventTime, MonoTime};
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::chain::Clock;
use spindle_dataflow::collector::{Collector, Control, SideOutputs};
use spindle_dataflow::mailbox::Mailbox;
use spindle_dataflow::operator::OperatorContext;
use spindle_dataflow::task::TaskError;

/// Different keys.
pub(crate) const KEYS: u64 = 10_000;

/// A word and two numbers.
pub(crate) type Row = (String, u64, i64);

pub(crate) const fn throughput() -> Throughput {
    Throughput::Elements(BATCH_RECORDS as u64)
}

/// The key of the record with this number, evenly drawn.
pub(crate) const fn key(index: u64) -> u64 {
    let hash = (index ^ (index >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 32) % KEYS
}

/// A batch of keys, from this record on.
pub(crate) fn keys(from: u64) -> Vec<u64> {
    (from..from + BATCH_RECORDS as u64).map(key).collect()
}

/// A batch of words, from this record on.
pub(crate) fn words(from: u64) -> Vec<String> {
    let word = |key| format!("word{key:05}");
    keys(from).into_iter().map(word).collect()
}

/// A word is its own key.
pub(crate) fn whole(word: &String) -> &String {
    word
}

/// A batch of rows, from this record on.
pub(crate) fn rows(from: u64) -> Vec<Row> {
    let numbered = words(from).into_iter().zip(from..);
    numbered
        .map(|(word, n)| (word, n * 1_000_003, n as i64))
        .collect()
}

/// The only subtask of an operator.
pub(crate) fn context() -> OperatorContext {
    OperatorContext {
        uid: Arc::from("uid"),
        name: Arc::from("measured"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
        mailbox: Mailbox::default(),
        sides: SideOutputs::default(),
        stores: None,
    }
}

/// Takes batches and drops them.
pub(crate) struct Nowhere;

impl Control for Nowhere {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }
}

impl<T> Collector<T> for Nowhere {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        batch.clear();
        Ok(())
    }
}
