//! From the program's operators to the job graph: which of them chain, and what makes their tasks.
//!
//! An operator chains to the one it reads if that is all it reads, nothing but a forward exchange is between them, and both have the same
//! parallelism. An exchange between one subtask and one is a forward exchange, whatever the program calls it. So a vertex is
//! a tree of operators: a stream may have several readers, and an operator several outputs.

mod erased;
mod vertex;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use spindle_common::id::JobVertexId;
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, InvalidJobGraph, JobEdge, JobGraph, JobVertex, OperatorDescriptor,
    OperatorKind, Partitioning,
};
use spindle_common::key_group::DEFAULT_MAX_PARALLELISM;
use spindle_common::resource::SlotProfile;
use spindle_dataflow::task::{Dataflow, TaskFactory};

use crate::context::{IoContext, PlanContext, PlanError};
pub(crate) use erased::{Erased, Exchange, Logic, StreamType, TypeOf};
use vertex::{ChainNode, Entry, Exit, VertexFactory};

/// An operator's place in the program, from 0.
pub(crate) type NodeId = usize;

/// One operator, as the program wrote it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    /// The job's default, if absent.
    pub(crate) parallelism: Option<u32>,
    /// The job's default, if absent.
    pub(crate) max_parallelism: Option<u32>,
    /// The job's default, if absent.
    pub(crate) buffer_timeout: Option<Duration>,
    pub(crate) chaining: Chaining,
    /// The slot sharing group; that of what it reads, if absent.
    pub(crate) slot_sharing_group: Option<String>,
    /// What it reads; nothing for a source.
    pub(crate) inputs: Vec<Input>,
    pub(crate) logic: Logic,
    /// Whether it waits for the outside in the midst of its work.
    pub(crate) waits: bool,
    /// What it hands on: the main output first, then side outputs. None for a sink.
    pub(crate) outputs: Vec<NodeOutput>,
}

/// Whether an operator may share a thread with its neighbours. Flink: `ChainingStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chaining {
    Always,
    /// Not with what it reads.
    Head,
    Never,
}

/// One stream that an operator reads.
pub(crate) struct Input {
    pub(crate) from: Upstream,
    /// Which input of the operator it is: streams in union come in through the same one.
    pub(crate) port: usize,
}

/// An output of an operator, and how records get from there to their reader.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) node: NodeId,
    pub(crate) output: usize,
    pub(crate) exchange: Exchange,
}

#[derive(Clone)]
pub(crate) struct NodeOutput {
    /// Empty for the main output.
    pub(crate) name: Arc<str>,
    pub(crate) records: Arc<dyn StreamType>,
}

impl Node {
    pub(crate) fn new(
        name: &str,
        inputs: Vec<Input>,
        logic: Logic,
        output: Option<Arc<dyn StreamType>>,
    ) -> Self {
        let waits = match &logic {
            Logic::Source(source) => source.waits(),
            Logic::Sink(sink) => sink.waits(),
            Logic::Transform(_) | Logic::TwoInputs(_) => false,
        };
        let main = |records| NodeOutput {
            name: Arc::from(""),
            records,
        };
        Self {
            name: name.to_owned(),
            uid: None,
            parallelism: None,
            max_parallelism: None,
            buffer_timeout: None,
            chaining: Chaining::Always,
            slot_sharing_group: None,
            inputs,
            logic,
            waits,
            outputs: output.map(main).into_iter().collect(),
        }
    }
}

/// The program so far.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: u32,
    /// Whether operators share threads at all.
    pub(crate) chaining: bool,
    /// What the slots of slot sharing groups have.
    pub(crate) slot_profiles: BTreeMap<String, SlotProfile>,
    pub(crate) io: Arc<IoContext>,
}

/// Why a program has no graph.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("{error}")]
    Plan {
        operator: String,
        #[source]
        error: PlanError,
    },
    #[error(transparent)]
    Invalid(#[from] InvalidJobGraph),
}

/// What a build is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planning {
    /// Submission: sources are planned, sinks are checked.
    Plan,
    /// A worker: splits come with each task's deployment.
    Skip,
}

/// An exchange between two vertices.
struct Leaving {
    from: NodeId,
    output: usize,
    exchange: Exchange,
    /// Of the reader.
    max_parallelism: u32,
}

impl Graph {
    pub(crate) const fn new(parallelism: u32, io: Arc<IoContext>) -> Self {
        Self {
            nodes: Vec::new(),
            parallelism,
            max_parallelism: DEFAULT_MAX_PARALLELISM,
            chaining: true,
            slot_profiles: BTreeMap::new(),
            io,
        }
    }

    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn parallelism_of(&self, node: NodeId) -> u32 {
        self.nodes[node].parallelism.unwrap_or(self.parallelism)
    }

    fn max_parallelism_of(&self, node: NodeId) -> u32 {
        self.nodes[node]
            .max_parallelism
            .unwrap_or(self.max_parallelism)
    }

    /// The slot sharing group of each node: its own, else the one that all that it reads are in, else the default one.
    fn slot_sharing_groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut read = node.inputs.iter().map(|input| groups[input.from.node]);
            let first = read.next().unwrap_or(DEFAULT_SLOT_SHARING_GROUP);
            let shared = if read.all(|group| group == first) {
                first
            } else {
                DEFAULT_SLOT_SHARING_GROUP
            };
            groups.push(node.slot_sharing_group.as_deref().unwrap_or(shared));
        }
        groups
    }

    fn uid_of(&self, node: NodeId) -> String {
        let it = &self.nodes[node];
        it.uid
            .clone()
            .unwrap_or_else(|| format!("{node}-{}", it.name))
    }

    /// The exchange that really is between a node and one that it reads.
    fn exchange(&self, node: NodeId, from: &Upstream) -> Exchange {
        let (producers, consumers) = (self.parallelism_of(from.node), self.parallelism_of(node));
        if producers == 1 && consumers == 1 {
            return Exchange::Forward;
        }
        if from.exchange.partitioning() == Partitioning::Forward && producers != consumers {
            return Exchange::Rebalance;
        }
        from.exchange.clone()
    }

    /// The operator that a node shares its thread with, if there is one: the one it reads.
    fn chained_to(&self, node: NodeId, groups: &[&str]) -> Option<NodeId> {
        let it = &self.nodes[node];
        let [only] = &it.inputs[..] else {
            return None;
        };
        let from = &self.nodes[only.from.node];
        let exchange = self.exchange(node, &only.from);
        let chains = self.chaining
            && exchange.partitioning() == Partitioning::Forward
            && it.chaining == Chaining::Always
            && from.chaining != Chaining::Never
            && groups[node] == groups[only.from.node]
            && self.max_parallelism_of(node) == self.max_parallelism_of(only.from.node);
        chains.then_some(only.from.node)
    }

    /// The dataflow of a job with this name.
    ///
    /// # Errors
    /// If a source or sink cannot be planned, or the graph breaks a rule.
    pub(crate) fn build(&self, name: &str, planning: Planning) -> Result<Dataflow, BuildError> {
        // Which vertex an operator is in; a vertex is known by its first operator.
        let mut heads: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        let groups = self.slot_sharing_groups();
        for node in 0..self.nodes.len() {
            let chained_to = self.chained_to(node, &groups);
            heads.push(chained_to.map_or(node, |from| heads[from]));
        }
        let id_of = |node: NodeId| JobVertexId::of_uid(&self.uid_of(heads[node]));
        let mut graph = JobGraph {
            name: name.to_owned(),
            vertices: Vec::new(),
            edges: Vec::new(),
            slot_profiles: self.slot_profiles.clone(),
        };
        // The inputs of a vertex are those of its head, so its edges stand one behind the other, in the order of the inputs.
        let mut leaving = Vec::new();
        for node in (0..self.nodes.len()).filter(|node| heads[*node] == *node) {
            for input in &self.nodes[node].inputs {
                let exchange = self.exchange(node, &input.from);
                graph.edges.push(JobEdge {
                    source: id_of(input.from.node),
                    target: id_of(node),
                    partitioning: exchange.partitioning(),
                });
                leaving.push(Leaving {
                    from: input.from.node,
                    output: input.from.output,
                    exchange,
                    max_parallelism: self.max_parallelism_of(node),
                });
            }
        }
        let mut factories: Vec<Arc<dyn TaskFactory>> = Vec::new();
        for head in (0..self.nodes.len()).filter(|node| heads[*node] == *node) {
            let members: Vec<NodeId> = (head..self.nodes.len())
                .filter(|node| heads[*node] == head)
                .collect();
            let group = groups[head];
            graph.vertices.push(self.vertex(&members, group, planning)?);
            factories.push(Arc::new(self.factory(&members, &leaving)));
        }
        match planning {
            Planning::Plan => graph.validate()?,
            Planning::Skip => {}
        }
        Ok(Dataflow { graph, factories })
    }

    fn vertex(
        &self,
        members: &[NodeId],
        group: &str,
        planning: Planning,
    ) -> Result<JobVertex, BuildError> {
        let parallelism = self.parallelism_of(members[0]);
        let mut vertex = JobVertex {
            id: JobVertexId::of_uid(&self.uid_of(members[0])),
            parallelism,
            max_parallelism: self.max_parallelism_of(members[0]),
            operators: Vec::new(),
            splits: Vec::new(),
            staging: Vec::new(),
            slot_sharing_group: group.to_owned(),
        };
        let context = PlanContext {
            io: Arc::clone(&self.io),
            parallelism,
        };
        for &member in members {
            let node = &self.nodes[member];
            let failed = |error| BuildError::Plan {
                operator: node.name.clone(),
                error,
            };
            vertex.operators.push(OperatorDescriptor {
                uid: self.uid_of(member),
                name: node.name.clone(),
                kind: node.logic.kind(),
            });
            match (planning, &node.logic) {
                (Planning::Plan, Logic::Source(source)) => {
                    vertex.splits = source.plan(&context).map_err(failed)?;
                }
                (Planning::Plan, Logic::Sink(sink)) => {
                    vertex
                        .staging
                        .extend(sink.plan(&context).map_err(failed)?.staging);
                }
                (Planning::Skip, _)
                | (Planning::Plan, Logic::Transform(_) | Logic::TwoInputs(_)) => {}
            }
        }
        Ok(vertex)
    }

    fn factory(&self, members: &[NodeId], leaving: &[Leaving]) -> VertexFactory {
        let place = |node: NodeId| members.iter().position(|member| *member == node);
        let mut chain: Vec<ChainNode> = members
            .iter()
            .map(|&member| ChainNode {
                uid: Arc::from(self.uid_of(member)),
                name: Arc::from(self.nodes[member].name.as_str()),
                logic: self.nodes[member].logic.clone(),
                waits: self.nodes[member].waits,
                outputs: self.nodes[member].outputs.clone(),
                readers: Vec::new(),
                exits: Vec::new(),
            })
            .collect();
        for (at, &member) in members.iter().enumerate().skip(1) {
            let from = &self.nodes[member].inputs[0].from;
            let reads = place(from.node).expect("all but the first chain to one of the others");
            chain[reads].readers.push((from.output, at));
        }
        // The worker hands over partitions by ascending edge index, which is the order here.
        let mine = leaving
            .iter()
            .filter_map(|leaving| Some((place(leaving.from)?, leaving)));
        for (partition, (from, leaving)) in mine.enumerate() {
            chain[from].exits.push(Exit {
                output: leaving.output,
                partition,
                exchange: leaving.exchange.clone(),
                max_parallelism: leaving.max_parallelism,
            });
        }
        let inputs = self.nodes[members[0]].inputs.iter().map(|input| {
            let from = &self.nodes[input.from.node].outputs[input.from.output];
            Entry {
                port: input.port,
                records: Arc::clone(&from.records),
                exchange: self.exchange(members[0], &input.from),
            }
        });
        VertexFactory {
            inputs: inputs.collect(),
            buffer_timeout: members
                .iter()
                .filter_map(|&member| self.nodes[member].buffer_timeout)
                .min(),
            chain,
            io: Arc::clone(&self.io),
        }
    }
}

impl Logic {
    const fn kind(&self) -> OperatorKind {
        match self {
            Self::Source(_) => OperatorKind::Source,
            Self::Transform(_) | Self::TwoInputs(_) => OperatorKind::Transform,
            Self::Sink(_) => OperatorKind::Sink,
        }
    }
}

impl Exchange {
    const fn partitioning(&self) -> Partitioning {
        match self {
            Self::Forward => Partitioning::Forward,
            Self::Rebalance => Partitioning::Rebalance,
            Self::Rescale => Partitioning::Rescale,
            Self::Shuffle => Partitioning::Shuffle,
            Self::Broadcast => Partitioning::Broadcast,
            Self::Global => Partitioning::Global,
            Self::Hash(_) => Partitioning::Hash,
            Self::Custom(_) => Partitioning::Custom,
        }
    }
}
