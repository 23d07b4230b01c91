//! Which consumer a record goes to, decided a batch at a time.

use std::sync::Arc;

use crate::key::{KeySelector, owners};

/// Where the records of a batch go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// All to this consumer.
    One(usize),
    /// Each to every consumer.
    All,
    /// Each to the consumer listed for it.
    Listed,
}

/// Chooses consumers. Flink: `StreamPartitioner`.
pub trait Partitioner<T>: Send {
    /// Where these records go, of `consumers` there are. `targets` is empty; with [`Route::Listed`] it gets one entry per record.
    fn route(&mut self, records: &[T], consumers: usize, targets: &mut Vec<u64>) -> Route;
}

/// To the one consumer there is.
#[derive(Debug, Default)]
pub struct Forward;

impl<T> Partitioner<T> for Forward {
    fn route(&mut self, _: &[T], _: usize, _: &mut Vec<u64>) -> Route {
        Route::One(0)
    }
}

/// Each record to all.
#[derive(Debug, Default)]
pub struct Broadcast;

impl<T> Partitioner<T> for Broadcast {
    fn route(&mut self, _: &[T], _: usize, _: &mut Vec<u64>) -> Route {
        Route::All
    }
}

/// Records in turn. Starts with the consumer that is the producer's own index, so that producers do not march in step.
#[derive(Debug)]
pub struct Rebalance {
    next: u64,
}

impl Rebalance {
    /// One for the producer with this index.
    pub const fn new(subtask: u32) -> Self {
        Self {
            next: subtask as u64,
        }
    }
}

impl<T> Partitioner<T> for Rebalance {
    fn route(&mut self, records: &[T], consumers: usize, targets: &mut Vec<u64>) -> Route {
        if consumers == 1 {
            return Route::One(0);
        }
        let consumers = consumers as u64;
        targets.extend((self.next..).take(records.len()).map(|n| n % consumers));
        self.next = (self.next + records.len() as u64) % consumers;
        Route::Listed
    }
}

/// By the key group of the record's key.
pub struct HashPartitioner<K, T> {
    selector: Arc<dyn KeySelector<K, T>>,
    max_parallelism: u32,
}

impl<K, T> HashPartitioner<K, T> {
    /// By the keys of `selector`, over this many key groups.
    pub const fn new(selector: Arc<dyn KeySelector<K, T>>, max_parallelism: u32) -> Self {
        Self {
            selector,
            max_parallelism,
        }
    }
}

impl<K, T> Partitioner<T> for HashPartitioner<K, T> {
    fn route(&mut self, records: &[T], consumers: usize, targets: &mut Vec<u64>) -> Route {
        if consumers == 1 {
            return Route::One(0);
        }
        self.selector.hashes(records, targets);
        owners(targets, consumers as u32, self.max_parallelism);
        Route::Listed
    }
}
