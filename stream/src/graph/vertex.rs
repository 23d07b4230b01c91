//! What makes the tasks of a vertex: the chain, put together from its ends to its head.

use std::sync::Arc;
use std::time::Duration;

use spindle_dataflow::attribution::forget_operator;
use spindle_dataflow::chain::{GateTask, Port, TaskParts};
use spindle_dataflow::channel::ResultPartition;
use spindle_dataflow::collector::SideOutputs;
use spindle_dataflow::operator::OperatorContext;
use spindle_dataflow::snapshot::Restored;
use spindle_dataflow::task::{Task, TaskContext, TaskError, TaskFactory};

use super::{Erased, Exchange, Logic, NodeOutput, StreamType};
use crate::context::{IoContext, SinkContext, SourceContext};

/// One operator of a chain.
pub(super) struct ChainNode {
    pub(super) uid: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) logic: Logic,
    pub(super) outputs: Vec<NodeOutput>,
    /// Which of its outputs is read within the chain, and the place of the one that reads it.
    pub(super) readers: Vec<(usize, usize)>,
    pub(super) exits: Vec<Exit>,
}

/// An edge that an operator feeds.
pub(super) struct Exit {
    /// Which of its outputs.
    pub(super) output: usize,
    /// Index of the task's partition.
    pub(super) partition: usize,
    pub(super) exchange: Exchange,
    /// Number of key groups of the consumer.
    pub(super) max_parallelism: u32,
}

/// A vertex. The first of the chain is its head.
pub(super) struct VertexFactory {
    pub(super) chain: Vec<ChainNode>,
    /// For each edge that feeds it: the input of the head that it leads to, and what comes in. Empty for a source.
    pub(super) inputs: Vec<(usize, Arc<dyn StreamType>)>,
    /// The job's, if absent.
    pub(super) buffer_timeout: Option<Duration>,
    pub(super) io: Arc<IoContext>,
}

impl TaskFactory for VertexFactory {
    fn build(&self, mut task: TaskContext) -> Result<Box<dyn Task>, TaskError> {
        forget_operator();
        task.buffer_timeout = self.buffer_timeout.unwrap_or(task.buffer_timeout);
        let mut partitions: Partitions = std::mem::take(&mut task.partitions)
            .into_iter()
            .map(Some)
            .collect();
        let head = &self.chain[0];
        let firsts = match &head.logic {
            Logic::Source(source) => {
                let (context, first) = self.output(0, &task, &mut partitions)?;
                let at = SourceContext {
                    io: Arc::clone(&self.io),
                    subtask: task.execution.subtask,
                    parallelism: task.parallelism,
                };
                return source.task(&context, task, at, first);
            }
            Logic::TwoInputs(make) => {
                let (context, next) = self.output(0, &task, &mut partitions)?;
                Vec::from(make(&context, next))
            }
            Logic::Transform(_) | Logic::Sink(_) => {
                vec![self.collector(0, &task, &mut partitions)?]
            }
        };
        let ports: Vec<Box<dyn Port>> = (0..)
            .zip(firsts)
            .map(|(port, first)| {
                let input = self.inputs.iter().find(|(at, _)| *at == port);
                let (_, records) = input.expect("each input of an operator reads a stream");
                records.port(first)
            })
            .collect();
        let port_of = self.inputs.iter().zip(&task.channels);
        let port_of =
            port_of.flat_map(|((port, _), &channels)| std::iter::repeat_n(*port, channels));
        let task = GateTask::new(
            task.gate
                .expect("the worker gives a gate to a vertex that is no source"),
            ports,
            port_of.collect(),
            &Restored::new(task.restored),
            TaskParts {
                metrics: task.metrics,
                clock: task.clock,
                buffer_timeout: task.buffer_timeout,
                snapshots: task.snapshots,
            },
        )?;
        Ok(Box::new(task))
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
        match &node.logic {
            Logic::Transform(make) => {
                let (context, next) = self.output(place, task, partitions)?;
                Ok(make(&context, next))
            }
            Logic::Sink(sink) => sink.collector(
                &operator(node, task, SideOutputs::default()),
                SinkContext {
                    io: Arc::clone(&self.io),
                    job: task.job,
                    execution: task.execution,
                    parallelism: task.parallelism,
                },
            ),
            Logic::Source(_) | Logic::TwoInputs(_) => {
                unreachable!("an operator that does not read one stream heads its chain")
            }
        }
    }

    /// What an operator is made with, and the collector of its main output.
    fn output(
        &self,
        place: usize,
        task: &TaskContext,
        partitions: &mut Partitions,
    ) -> Result<(OperatorContext, Erased), TaskError> {
        let node = &self.chain[place];
        let (main, sides) = node
            .outputs
            .split_first()
            .expect("only sinks hand nothing on");
        let next = self.readers(place, 0, main, task, partitions)?;
        let mut outputs = SideOutputs::default();
        for (side, output) in (1..).zip(sides) {
            let next = self.readers(place, side, output, task, partitions)?;
            output
                .records
                .side_output(&mut outputs, Arc::clone(&output.name), next);
        }
        let next = main.records.beside(&outputs, next);
        Ok((operator(node, task, outputs), next))
    }

    /// All that reads one output.
    fn readers(
        &self,
        place: usize,
        output: usize,
        of: &NodeOutput,
        task: &TaskContext,
        partitions: &mut Partitions,
    ) -> Result<Erased, TaskError> {
        let node = &self.chain[place];
        let mut branches = Vec::new();
        for &(_, reader) in node.readers.iter().filter(|(read, _)| *read == output) {
            branches.push(self.collector(reader, task, partitions)?);
        }
        let context = operator(node, task, SideOutputs::default());
        for exit in node.exits.iter().filter(|exit| exit.output == output) {
            let partition = partitions
                .get_mut(exit.partition)
                .and_then(Option::take)
                .expect("the worker gives a partition for each edge that the vertex feeds");
            let writer =
                of.records
                    .writer(&context, partition, &exit.exchange, exit.max_parallelism);
            branches.push(writer);
        }
        Ok(of.records.fan_out(branches))
    }
}

fn operator(node: &ChainNode, task: &TaskContext, sides: SideOutputs) -> OperatorContext {
    OperatorContext {
        uid: Arc::clone(&node.uid),
        name: Arc::clone(&node.name),
        subtask: task.execution.subtask,
        parallelism: task.parallelism,
        max_parallelism: task.max_parallelism,
        metrics: Arc::clone(&task.metrics),
        clock: task.clock.clone(),
        mailbox: task.mailbox.clone(),
        sides,
    }
}
