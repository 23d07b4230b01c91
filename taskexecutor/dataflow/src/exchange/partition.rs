//! Which consumer a record goes to, decided a batch at a time.

use std::sync::Arc;

use spindle_common::key_group::{KeyGroup, key_group, subtask_of};

use crate::key::KeySelector;

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
pub trait Partitioner<T> {
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

/// All to the first consumer. Flink: `GlobalPartitioner`.
#[derive(Debug, Default)]
pub struct Global;

impl<T> Partitioner<T> for Global {
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

/// Each record to a consumer by chance. Flink: `ShufflePartitioner`.
///
/// The chances come from a xorshift generator seeded by the subtask, so a run can be repeated.
#[derive(Debug)]
pub struct Shuffle {
    state: u64,
}

impl Shuffle {
    /// One for the producer with this index.
    pub const fn new(subtask: u32) -> Self {
        Self {
            state: (subtask as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }
}

impl<T> Partitioner<T> for Shuffle {
    fn route(&mut self, records: &[T], consumers: usize, targets: &mut Vec<u64>) -> Route {
        if consumers == 1 {
            return Route::One(0);
        }
        targets.extend(records.iter().map(|_| {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            ((self.state >> 32) * consumers as u64) >> 32
        }));
        Route::Listed
    }
}

/// As a function of the user's says, given the record and the number of consumers. Flink: `CustomPartitionerWrapper`.
pub struct Custom<F>(pub Arc<F>);

impl<T, F: Fn(&T, usize) -> usize> Partitioner<T> for Custom<F> {
    fn route(&mut self, records: &[T], consumers: usize, targets: &mut Vec<u64>) -> Route {
        targets.extend(records.iter().map(|record| {
            let target = (self.0)(record, consumers);
            assert!(
                target < consumers,
                "the partitioner chose consumer {target} of {consumers}, counted from 0"
            );
            target as u64
        }));
        Route::Listed
    }
}

/// By the key group of the record's key.
pub struct HashPartitioner<K, T> {
    selector: Arc<dyn KeySelector<K, T>>,
    max_parallelism: u32,
    /// The consumer of each key group, for this many consumers.
    owners: Vec<u32>,
    consumers: u32,
}

impl<K, T> HashPartitioner<K, T> {
    /// By the keys of `selector`, over this many key groups.
    pub const fn new(selector: Arc<dyn KeySelector<K, T>>, max_parallelism: u32) -> Self {
        Self {
            selector,
            max_parallelism,
            owners: Vec::new(),
            consumers: 0,
        }
    }
}

impl<K, T> Partitioner<T> for HashPartitioner<K, T> {
    fn route(&mut self, records: &[T], consumers: usize, targets: &mut Vec<u64>) -> Route {
        if consumers == 1 {
            return Route::One(0);
        }
        let max_parallelism = self.max_parallelism;
        if self.consumers as usize != consumers {
            self.consumers = consumers as u32;
            let owner = |group| subtask_of(KeyGroup(group), self.consumers, max_parallelism);
            self.owners = (0..max_parallelism).map(owner).collect();
        }
        self.selector.hashes(records, targets);
        for target in targets {
            let group = key_group(*target, max_parallelism).0;
            *target = u64::from(self.owners[group as usize]);
        }
        Route::Listed
    }
}
