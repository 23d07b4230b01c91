//! What a source and a sink have to be for the API: planned once, then made anew for each subtask.
//!
//! A sink of a program's own:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use spindle_stream::connector::{Batch, OperatorError, Sink, SinkFactory};
//! use spindle_stream::context::SinkContext;
//!
//! struct Total(Arc<AtomicU64>);
//!
//! impl SinkFactory<u64> for Total {
//!     fn sink(&self, _: SinkContext) -> Result<Box<dyn Sink<u64>>, OperatorError> {
//!         Ok(Box::new(Self(Arc::clone(&self.0))))
//!     }
//! }
//!
//! impl Sink<u64> for Total {
//!     fn write(&mut self, batch: &mut Batch<u64>) -> Result<(), OperatorError> {
//!         self.0.fetch_add(batch.records.iter().sum(), Ordering::Relaxed);
//!         Ok(())
//!     }
//!
//!     fn finish(&mut self) -> Result<bool, OperatorError> {
//!         Ok(false)
//!     }
//! }
//!
//! let total = Arc::new(AtomicU64::new(0));
//! let mut harness = spindle_stream::testing::Harness::new(2);
//! harness.env().generate(5, |n| n).sink_to(Total(Arc::clone(&total)));
//! harness.run().unwrap();
//! assert_eq!(total.load(Ordering::Relaxed), 10);
//! ```
//!
//! A source that can go on from a checkpoint, and a sink that writes each record once: as a connector for Kafka is written, with offsets of
//! partitions and with transactions. Here the broker is a value in memory, and the job is killed and goes on at another parallelism.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//! use spindle_stream::connector::{
//!     BATCH_RECORDS, Batch, CheckpointId, OperatorError, Sink, SinkFactory, Source, SourceReader, SourceSplit, SourceStatus,
//! };
//! use spindle_stream::context::{PlanContext, PlanError, SinkContext, SourceContext};
//! use spindle_stream::testing::{Harness, JobSnapshot, Kill};
//!
//! #[derive(Default)]
//! struct Broker {
//!     partitions: Vec<Vec<u64>>,
//!     /// By their ids, those that were begun and not committed.
//!     transactions: BTreeMap<String, Vec<u64>>,
//!     committed: Vec<u64>,
//! }
//!
//! struct Topic(Arc<Mutex<Broker>>);
//!
//! impl Source<u64> for Topic {
//!     // Where the job is submitted: each partition goes to a subtask, to be read from its beginning.
//!     fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
//!         let mut lists = vec![Vec::new(); context.parallelism as usize];
//!         for partition in 0..self.0.lock().unwrap().partitions.len() {
//!             let subtask = partition % lists.len();
//!             lists[subtask].push(SourceSplit {
//!                 name: format!("partition {partition}"),
//!                 payload: serde_json::to_vec(&(partition, 0)).unwrap(),
//!             });
//!         }
//!         Ok(lists)
//!     }
//!
//!     fn reader(&self, splits: Vec<SourceSplit>, _: SourceContext) -> Result<Box<dyn SourceReader<u64>>, OperatorError> {
//!         let mut reader = Partitions { broker: Arc::clone(&self.0), offsets: Vec::new() };
//!         reader.restore(splits.into_iter().map(|split| split.payload).collect())?;
//!         Ok(Box::new(reader))
//!     }
//! }
//!
//! struct Partitions {
//!     broker: Arc<Mutex<Broker>>,
//!     /// Partition, and the offset of the next record.
//!     offsets: Vec<(usize, usize)>,
//! }
//!
//! impl SourceReader<u64> for Partitions {
//!     fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
//!         let broker = self.broker.lock().unwrap();
//!         for (partition, offset) in &mut self.offsets {
//!             let before = out.len();
//!             let records = broker.partitions[*partition].iter().skip(*offset);
//!             out.records.extend(records.take(BATCH_RECORDS - before));
//!             *offset += out.len() - before;
//!         }
//!         let is_read = |(partition, offset): &(usize, usize)| *offset == broker.partitions[*partition].len();
//!         Ok(if self.offsets.iter().all(is_read) { SourceStatus::EndOfInput } else { SourceStatus::More })
//!     }
//!
//!     // An entry for each partition, so that they can be dealt out among any number of subtasks.
//!     fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
//!         Ok(Some(self.offsets.iter().map(|one| serde_json::to_vec(one).unwrap()).collect()))
//!     }
//!
//!     // What is given here is all that this subtask reads, whatever `reader` was given.
//!     fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
//!         let offsets: Result<_, _> = entries.iter().map(|entry| serde_json::from_slice(entry)).collect();
//!         self.offsets = offsets.map_err(|error| OperatorError::permanent(format!("no offset of a partition: {error}")))?;
//!         Ok(())
//!     }
//!
//!     // Not the name of a type, which may be moved.
//!     fn state_type(&self) -> &'static str {
//!         "offsets of partitions"
//!     }
//! }
//!
//! struct Transactions(Arc<Mutex<Broker>>);
//!
//! impl SinkFactory<u64> for Transactions {
//!     fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<u64>>, OperatorError> {
//!         // No two attempts share a transaction.
//!         let execution = context.execution;
//!         let prefix = format!("{}-{}-{}", context.job, execution.subtask, execution.attempt);
//!         Ok(Box::new(Producer { broker: Arc::clone(&self.0), prefix, begun: 0, open: None }))
//!     }
//! }
//!
//! struct Producer {
//!     broker: Arc<Mutex<Broker>>,
//!     prefix: String,
//!     begun: u64,
//!     open: Option<String>,
//! }
//!
//! impl Producer {
//!     /// That there is no such transaction any more says that it was committed before.
//!     fn commit_one(&self, id: &str) {
//!         let mut broker = self.broker.lock().unwrap();
//!         let records = broker.transactions.remove(id).unwrap_or_default();
//!         broker.committed.extend(records);
//!     }
//! }
//!
//! impl Sink<u64> for Producer {
//!     fn write(&mut self, batch: &mut Batch<u64>) -> Result<(), OperatorError> {
//!         let id = self.open.get_or_insert_with(|| {
//!             self.begun += 1;
//!             format!("{}-{}", self.prefix, self.begun)
//!         });
//!         let mut broker = self.broker.lock().unwrap();
//!         broker.transactions.entry(id.clone()).or_default().append(&mut batch.records);
//!         Ok(())
//!     }
//!
//!     // A barrier: what was written is durable, and not to be seen. What a later process needs to commit it is part of the snapshot.
//!     fn prepare_commit(&mut self, _: CheckpointId) -> Result<Vec<Vec<u8>>, OperatorError> {
//!         Ok(self.open.take().map(String::into_bytes).into_iter().collect())
//!     }
//!
//!     // The checkpoint is complete. Comes again after a failure, for what may be committed already.
//!     fn commit_prepared(&mut self, prepared: &[Vec<u8>]) -> Result<(), OperatorError> {
//!         prepared.iter().for_each(|id| self.commit_one(&String::from_utf8_lossy(id)));
//!         Ok(())
//!     }
//!
//!     fn state_type(&self) -> &'static str {
//!         "transactions"
//!     }
//!
//!     // The end of the input; and once all tasks have come to it, the last commit.
//!     fn finish(&mut self) -> Result<bool, OperatorError> {
//!         Ok(self.open.is_some())
//!     }
//!
//!     fn commit(&mut self) -> Result<(), OperatorError> {
//!         self.open.iter().for_each(|id| self.commit_one(id));
//!         Ok(())
//!     }
//! }
//!
//! let partitions = vec![(0..9000).collect(), (9000..20_000).collect(), (20_000..30_000).collect()];
//! let broker = Arc::new(Mutex::new(Broker { partitions, ..Broker::default() }));
//! let job = |parallelism| {
//!     let mut harness = Harness::new(parallelism);
//!     let records = harness.env().source("topic", Topic(Arc::clone(&broker)));
//!     records.sink_to(Transactions(Arc::clone(&broker)));
//!     harness
//! };
//! let kill = Kill::after(12).checkpoint_after(7);
//! let left = job(2).run_until_killed(&JobSnapshot::default(), &kill).unwrap();
//! assert!(left.checkpoint().is_some());
//! job(3).run_from(&left).unwrap();
//! let mut committed = broker.lock().unwrap().committed.clone();
//! committed.sort();
//! assert_eq!(committed, Vec::from_iter(0..30_000));
//! ```
//!
//! What is left to a connector beside that: to abort, when a sink is made, the transactions of attempts before it that nobody will commit; and to
//! refuse a snapshot whose transactions the broker has given up on.

pub use spindle_common::checkpoint::CheckpointId;
pub use spindle_common::job_graph::SourceSplit;
pub use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
pub use spindle_dataflow::connector::{OperatorError, Sink, SourceReader, SourceStatus};

use crate::context::{PlanContext, PlanError, SinkContext, SourceContext};

/// A source of records. Flink: `Source`.
pub trait Source<T>: Send + Sync + 'static {
    /// Divides the input between the subtasks: one list per subtask, `context.parallelism` of them, each read in order.
    /// Called where the job is submitted, never in a task.
    ///
    /// # Errors
    /// If the input does not exist or cannot be reached.
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError>;

    /// Makes the reader of one subtask, which reads these splits in order. Called in the task's thread.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError>;

    /// Whether its readers wait for the outside, as for a file or an answer. Each then has a thread of its own; of those that do not, all that a
    /// slot holds take turns on one, and what they hand each other costs less.
    fn waits(&self) -> bool {
        true
    }
}

/// What is known of a sink before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkPlan {
    /// Directories, as URIs, that it writes unfinished files into. They are removed when the job ends.
    pub staging: Vec<String>,
}

/// A sink for records. Flink: `Sink`.
pub trait SinkFactory<T>: Send + Sync + 'static {
    /// Checks what can be checked before the job runs, such as that the output does not exist yet. Called where the job is
    /// submitted, never in a task.
    ///
    /// # Errors
    /// If the output cannot be written there.
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        let _ = context;
        Ok(SinkPlan::default())
    }

    /// Makes the sink of one subtask. Called in the task's thread.
    ///
    /// # Errors
    /// What went wrong, saying on what.
    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError>;

    /// Whether its sinks wait for the outside: see [`Source::waits`].
    fn waits(&self) -> bool {
        true
    }
}
