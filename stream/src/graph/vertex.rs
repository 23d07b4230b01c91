//! What makes the tasks of a vertex: the chain, put together from its ends to its head.

use std::sync::Arc;
use std::time::Duration;

use spindle_dataflow::attribution::forget_operator;
use spindle_dataflow::chain::{GateTask, Inputs, Port, TaskParts};
use spindle_dataflow::channel::ResultPartition;
use spindle_dataflow::collector::SideOutputs;
use spindle_dataflow::operator::OperatorContext;
use spindle_dataflow::snapshot::{Restored, StateOwner};
use spindle_dataflow::task::{Task, TaskContext, TaskError, TaskFactory};

use super::{Erased, Exchange, Logic, NodeOutput, StreamType};
use crate::context::{IoContext, SinkContext, SourceContext};

/// One operator of a chain.
pub(super) struct ChainNode {
    pub(super) uid: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) logic: Logic,
    pub(super) waits: bool,
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

/// An edge that feeds a vertex.
pub(super) struct Entry {
    /// The input of the head that it leads to.
    pub(super) port: usize,
    pub(super) records: Arc<dyn StreamType>,
    pub(super) exchange: Exchange,
}

/// A vertex. The first of the chain is its head.
pub(super) struct VertexFactory {
    pub(super) chain: Vec<ChainNode>,
    /// One for each edge that feeds it. Empty for a source.
    pub(super) inputs: Vec<Entry>,
    /// The job's, if absent.
    pub(super) buffer_timeout: Option<Duration>,
    pub(super) io: Arc<IoContext>,
}

impl TaskFactory for VertexFactory {
    fn waits(&self) -> bool {
        self.chain.iter().any(|node| node.waits)
    }

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
        let reader = operator(head, &task, SideOutputs::default());
        let port = |(port, first)| {
            let edges = self.inputs.iter().enumerate();
            let leading = edges.filter(|(_, entry)| entry.port == port);
            let edges: Vec<_> = leading
                .clone()
                .map(|(edge, entry)| (edge, &entry.exchange))
                .collect();
            let input = leading.map(|(_, entry)| entry).next();
            let input = input.expect("each input of an operator reads a stream");
            input.records.port(first, &edges, &reader)
        };
        let ports: Vec<Box<dyn Port>> = (0..).zip(firsts).map(port).collect();
        let edges = task.channels.iter().enumerate();
        let edges = edges.flat_map(|(edge, &channels)| std::iter::repeat_n(edge, channels));
        let inputs = Inputs {
            gate: task
                .gate
                .expect("the worker gives a gate to a vertex that is no source"),
            ports,
            ports_of_edges: self.inputs.iter().map(|entry| entry.port).collect(),
            edges: edges.collect(),
            owner: StateOwner::of(&reader),
            unaligned: self.may_be_unaligned(),
        };
        let task = GateTask::new(
            inputs,
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
    /// One edge that has to be aligned aligns all: a task writes its state once.
    fn may_be_unaligned(&self) -> bool {
        self.inputs
            .iter()
            .all(|entry| entry.exchange.may_be_unaligned())
    }

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
                    restored_from: task.restored_from,
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
            let next = self.collector(reader, task, partitions)?;
            let reader = operator(&self.chain[reader], task, SideOutputs::default());
            branches.push(of.records.replayed(&reader, &task.restored, next));
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
        stores: task.stores.clone(),
    }
}
