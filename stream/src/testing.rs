//! Runs a job in this process without any cluster, for tests: a thread for each task, queues for exchanges, no restarts.
//!
//! ```
//! let mut harness = spindle_stream::testing::Harness::new(1);
//! harness.env().generate(10, |n| n).filter(|n| n % 3 == 0).collect("thirds");
//! assert_eq!(harness.run().unwrap().collected::<u64>("thirds"), [0, 3, 6, 9]);
//! ```
//!
//! [`Harness::run_until_killed`] and [`Harness::run_from`] have it checkpointed, killed and restored:
//!
//! ```
//! use spindle_stream::testing::{Harness, JobSnapshot, Kill};
//!
//! let job = |parallelism| {
//!     let mut harness = Harness::new(parallelism);
//!     let numbers = harness.env().generate(20_000, |n| n).set_parallelism(2);
//!     numbers.key_by(|n| n % 10).scan(|| 0, |sum, n| { *sum += n; *sum }).collect("sums");
//!     harness
//! };
//! // A batch has 512 numbers, so each of the two that read does 20 steps.
//! let kill = Kill::after(12).checkpoint_after(7);
//! let left = job(2).run_until_killed(&JobSnapshot::default(), &kill).unwrap();
//! assert!(left.checkpoint().is_some());
//! let sums = job(3).run_from(&left).unwrap().collected::<u64>("sums");
//! assert_eq!(sums.len(), 20_000);
//! assert_eq!(sums.iter().max(), Some(&(0..20_000).filter(|n| n % 10 == 9).sum()));
//! ```

mod checkpoint;
mod gate;
mod local;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use spindle_common::execution::FailureCause;
use spindle_common::gateway::TaskMetricsSnapshot;
use spindle_common::job_graph::JobGraph;
use spindle_dataflow::task::Dataflow;
use spindle_hadoop::conf::Configuration;

use crate::context::IoContext;
use crate::environment::StreamEnvironment;
use crate::graph::Planning;

pub use checkpoint::{JobSnapshot, Kill};
pub use local::run;

/// A job to be built and run in a test.
pub struct Harness {
    env: StreamEnvironment,
}

/// What a job that succeeded left.
#[derive(Debug, Default)]
pub struct Finished {
    /// What sinks collected, by name, as JSON lines; one entry per sink and subtask.
    pub collected: Vec<(String, Vec<u8>)>,
    /// The counters of each task, by index of its vertex, then subtask.
    pub metrics: Vec<(usize, TaskMetricsSnapshot)>,
}

impl Harness {
    /// A job of this parallelism, without operators yet.
    pub fn new(parallelism: u32) -> Self {
        let io = IoContext::new(Configuration::new(), "test".to_owned());
        Self {
            env: StreamEnvironment::new(parallelism, Arc::new(io)),
        }
    }

    /// The environment that the job is built in.
    pub const fn env(&mut self) -> &mut StreamEnvironment {
        &mut self.env
    }

    /// The job's graph, or in words why it has none.
    ///
    /// # Errors
    /// If a source or sink cannot be planned, or the graph breaks a rule.
    pub fn graph(&self) -> Result<JobGraph, String> {
        self.dataflow().map(|dataflow| dataflow.graph)
    }

    /// The job's dataflow, or in words why it has none.
    ///
    /// # Errors
    /// If a source or sink cannot be planned, or the graph breaks a rule.
    pub fn dataflow(&self) -> Result<Dataflow, String> {
        self.env
            .build("test", Planning::Plan)
            .map_err(|error| error.to_string())
    }

    /// Runs the job to its end.
    ///
    /// # Errors
    /// The first failure of a task.
    ///
    /// # Panics
    /// If the job has no graph.
    pub fn run(&self) -> Result<Finished, FailureCause> {
        self.run_from(&JobSnapshot::default())
    }

    /// Runs the job to its end from what is left of it: the same job, though it may be of another parallelism.
    ///
    /// # Errors
    /// The first failure of a task, such as state that is not that of its operators.
    ///
    /// # Panics
    /// If the job has no graph.
    pub fn run_from(&self, left: &JobSnapshot) -> Result<Finished, FailureCause> {
        let dataflow = self.dataflow().expect("the job has a graph");
        local::run_from(&dataflow, left, None).map(|(finished, _)| finished)
    }

    /// Runs the job from what is left of it until it is killed, and returns what is left then: the newest checkpoint that was complete.
    /// Whatever its tasks have done since then is lost, other than what its sinks have written outside.
    ///
    /// # Errors
    /// The first failure of a task, other than by the kill.
    ///
    /// # Panics
    /// If the job has no graph.
    pub fn run_until_killed(
        &self,
        left: &JobSnapshot,
        kill: &Kill,
    ) -> Result<JobSnapshot, FailureCause> {
        let dataflow = self.dataflow().expect("the job has a graph");
        local::run_from(&dataflow, left, Some(kill)).map(|(_, left)| left)
    }
}

impl Finished {
    /// What the sink with this name collected, subtask by subtask.
    ///
    /// # Panics
    /// If it is of another type.
    pub fn collected<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        self.collected
            .iter()
            .filter(|(sink, _)| sink == name)
            .flat_map(|(_, lines)| lines.split(|byte| *byte == b'\n'))
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("the records have the type asked for"))
            .collect()
    }

    /// Records that came too late for their window, in all tasks together.
    pub fn late_records_dropped(&self) -> u64 {
        let of = |(_, metrics): &(usize, TaskMetricsSnapshot)| metrics.late_records_dropped;
        self.metrics.iter().map(of).sum()
    }
}
