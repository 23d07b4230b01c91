//! What makes the tasks of a vertex: the chain, put together from its ends to its head.

use std::sync::Arc;

use spindle_dataflow::attribution::forget_operator;
use spindle_dataflow::channel::ResultPartition;
use spindle_dataflow::operator::OperatorContext;
use spindle_dataflow::task::{Task, TaskContext, TaskError, TaskFactory};

use super::{Erased, Exchange, Logic, StreamType};
use crate::context::{IoContext, SinkContext, SourceContext};

/// One operator of a chain.
pub(super) struct ChainNode {
    pub(super) name: Arc<str>,
    pub(super) logic: Logic,
    pub(super) output: Option<Arc<dyn StreamType>>,
    /// Places in the chain of those that read it.
    pub(super) readers: Vec<usize>,
    /// The edges it feeds: index of the partition, and how records choose their consumer.
    pub(super) exits: Vec<(usize, Exchange)>,
}

/// A vertex. The first of the chain is its head.
pub(super) struct VertexFactory {
    pub(super) chain: Vec<ChainNode>,
    /// What comes through the gate; none for a source.
    pub(super) input: Option<Arc<dyn StreamType>>,
    pub(super) io: Arc<IoContext>,
}

impl TaskFactory for VertexFactory {
    fn build(&self, mut task: TaskContext) -> Result<Box<dyn Task>, TaskError> {
        forget_operator();
        let mut partitions: Vec<_> = std::mem::take(&mut task.partitions)
            .into_iter()
            .map(Some)
            .collect();
        match (&self.chain[0].logic, &self.input) {
            (Logic::Source(source), _) => {
                let first = self.output(0, &task, &mut partitions)?;
                let context = operator(&self.chain[0], &task);
                let at = SourceContext {
                    io: Arc::clone(&self.io),
                    subtask: task.execution.subtask,
                    parallelism: task.parallelism,
                };
                source.task(&context, task, at, first)
            }
            (Logic::Transform(_) | Logic::Sink(_), input) => {
                let input = input.as_ref().expect("what is no source reads a stream");
                let first = self.collector(0, &task, &mut partitions)?;
                Ok(input.gate_task(task, first))
            }
        }
    }
}

type Partitions = Vec<Option<Box<dyn ResultPartition>>>;

impl VertexFactory {
    /// The collector of an operator's input.
    fn collector(
        &self,
        place: usize,
        task: &TaskContext,
        partitions: &mut Partitions,
    ) -> Result<Erased, TaskError> {
        let node = &self.chain[place];
        let context = operator(node, task);
        match &node.logic {
            Logic::Transform(make) => Ok(make(&context, self.output(place, task, partitions)?)),
            Logic::Sink(sink) => sink.collector(
                &context,
                SinkContext {
                    io: Arc::clone(&self.io),
                    job: task.job,
                    execution: task.execution,
                    parallelism: task.parallelism,
                },
            ),
            Logic::Source(_) => unreachable!("a source heads its chain"),
        }
    }

    /// The collector of an operator's output.
    fn output(
        &self,
        place: usize,
        task: &TaskContext,
        partitions: &mut Partitions,
    ) -> Result<Erased, TaskError> {
        let node = &self.chain[place];
        let output = node.output.as_ref().expect("only sinks hand nothing on");
        let mut branches = Vec::new();
        for &reader in &node.readers {
            branches.push(self.collector(reader, task, partitions)?);
        }
        let context = operator(node, task);
        for (partition, exchange) in &node.exits {
            let partition = partitions
                .get_mut(*partition)
                .and_then(Option::take)
                .expect("the worker gives a partition for each edge that the vertex feeds");
            branches.push(output.writer(&context, partition, exchange));
        }
        Ok(output.fan_out(branches))
    }
}

fn operator(node: &ChainNode, task: &TaskContext) -> OperatorContext {
    OperatorContext {
        name: Arc::clone(&node.name),
        subtask: task.execution.subtask,
        parallelism: task.parallelism,
        max_parallelism: task.max_parallelism,
        metrics: Arc::clone(&task.metrics),
    }
}
