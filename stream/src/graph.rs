//! From the program's operators to the job graph: which of them chain, and what makes their tasks.
//!
//! An operator chains to the one it reads if nothing but a forward exchange is between them and both have the same parallelism.
//! So a vertex is a tree of operators: a stream may have several readers.

mod erased;
mod vertex;

use std::sync::Arc;

use spindle_common::id::JobVertexId;
use spindle_common::job_graph::{
    InvalidJobGraph, JobEdge, JobGraph, JobVertex, OperatorDescriptor, OperatorKind, Partitioning,
};
use spindle_common::key_group::DEFAULT_MAX_PARALLELISM;
use spindle_dataflow::task::{Dataflow, TaskFactory};

use crate::context::{IoContext, PlanContext, PlanError};
pub(crate) use erased::{Erased, Exchange, Logic, StreamType, TypeOf};
use vertex::{ChainNode, VertexFactory};

/// An operator's place in the program, from 0.
pub(crate) type NodeId = usize;

/// One operator, as the program wrote it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    /// The job's default, if absent.
    pub(crate) parallelism: Option<u32>,
    /// What it reads, and how records get from there to here. None for a source.
    pub(crate) input: Option<(NodeId, Exchange)>,
    pub(crate) logic: Logic,
    /// What it hands on. None for a sink.
    pub(crate) output: Option<Arc<dyn StreamType>>,
}

/// The program so far.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: u32,
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

impl Graph {
    pub(crate) fn new(parallelism: u32, io: Arc<IoContext>) -> Self {
        Self {
            nodes: Vec::new(),
            parallelism,
            max_parallelism: DEFAULT_MAX_PARALLELISM,
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

    fn uid_of(&self, node: NodeId) -> String {
        let it = &self.nodes[node];
        it.uid
            .clone()
            .unwrap_or_else(|| format!("{node}-{}", it.name))
    }

    /// The exchange that really is between a node and what it reads; none if they chain.
    fn edge_of(&self, node: NodeId) -> Option<(NodeId, Exchange)> {
        let (from, exchange) = self.nodes[node].input.as_ref()?;
        let same = self.parallelism_of(*from) == self.parallelism_of(node);
        match exchange {
            Exchange::Forward if same => None,
            Exchange::Forward => Some((*from, Exchange::Rebalance)),
            Exchange::Rebalance | Exchange::Broadcast | Exchange::Hash(_) => {
                Some((*from, exchange.clone()))
            }
        }
    }

    /// The dataflow of a job with this name.
    ///
    /// # Errors
    /// If a source or sink cannot be planned, or the graph breaks a rule.
    pub(crate) fn build(&self, name: &str, planning: Planning) -> Result<Dataflow, BuildError> {
        // Which vertex an operator is in; a vertex is known by its first operator.
        let mut heads: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        for node in 0..self.nodes.len() {
            let head = match (&self.nodes[node].input, self.edge_of(node)) {
                (Some((from, _)), None) => heads[*from],
                (Some(_), Some(_)) | (None, _) => node,
            };
            heads.push(head);
        }
        let id_of = |node: NodeId| JobVertexId::of_uid(&self.uid_of(heads[node]));
        let mut graph = JobGraph {
            name: name.to_owned(),
            vertices: Vec::new(),
            edges: Vec::new(),
        };
        let mut leaving: Vec<(NodeId, Exchange)> = Vec::new();
        for node in 0..self.nodes.len() {
            if let Some((from, exchange)) = self.edge_of(node) {
                graph.edges.push(JobEdge {
                    source: id_of(from),
                    target: id_of(node),
                    partitioning: exchange.partitioning(),
                });
                leaving.push((from, exchange));
            }
        }
        let mut factories: Vec<Arc<dyn TaskFactory>> = Vec::new();
        for head in (0..self.nodes.len()).filter(|node| heads[*node] == *node) {
            let members: Vec<NodeId> = (head..self.nodes.len())
                .filter(|node| heads[*node] == head)
                .collect();
            graph.vertices.push(self.vertex(&members, planning)?);
            factories.push(Arc::new(self.factory(&members, &leaving)));
        }
        match planning {
            Planning::Plan => graph.validate()?,
            Planning::Skip => {}
        }
        Ok(Dataflow { graph, factories })
    }

    fn vertex(&self, members: &[NodeId], planning: Planning) -> Result<JobVertex, BuildError> {
        let parallelism = self.parallelism_of(members[0]);
        let mut vertex = JobVertex {
            id: JobVertexId::of_uid(&self.uid_of(members[0])),
            parallelism,
            max_parallelism: self.max_parallelism,
            operators: Vec::new(),
            splits: Vec::new(),
            staging: Vec::new(),
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
                (Planning::Skip, _) | (Planning::Plan, Logic::Transform(_)) => {}
            }
        }
        Ok(vertex)
    }

    fn factory(&self, members: &[NodeId], leaving: &[(NodeId, Exchange)]) -> VertexFactory {
        let place = |node: NodeId| members.iter().position(|member| *member == node);
        let mut chain: Vec<ChainNode> = members
            .iter()
            .map(|&member| ChainNode {
                name: Arc::from(self.nodes[member].name.as_str()),
                logic: self.nodes[member].logic.clone(),
                output: self.nodes[member].output.clone(),
                readers: Vec::new(),
                exits: Vec::new(),
            })
            .collect();
        for (at, &member) in members.iter().enumerate().skip(1) {
            let reads = self.nodes[member].input.as_ref();
            if let Some(from) = reads.and_then(|(from, _)| place(*from)) {
                chain[from].readers.push(at);
            }
        }
        // The worker hands over partitions by ascending edge index, which is the order here.
        let mine = leaving
            .iter()
            .filter_map(|(from, exchange)| Some((place(*from)?, exchange)));
        for (partition, (from, exchange)) in mine.enumerate() {
            chain[from].exits.push((partition, exchange.clone()));
        }
        let input = self.nodes[members[0]]
            .input
            .as_ref()
            .and_then(|(from, _)| self.nodes[*from].output.clone());
        VertexFactory {
            chain,
            input,
            io: Arc::clone(&self.io),
        }
    }
}

impl Logic {
    const fn kind(&self) -> OperatorKind {
        match self {
            Self::Source(_) => OperatorKind::Source,
            Self::Transform(_) => OperatorKind::Transform,
            Self::Sink(_) => OperatorKind::Sink,
        }
    }
}

impl Exchange {
    const fn partitioning(&self) -> Partitioning {
        match self {
            Self::Forward => Partitioning::Forward,
            Self::Rebalance => Partitioning::Rebalance,
            Self::Broadcast => Partitioning::Broadcast,
            Self::Hash(_) => Partitioning::Hash,
        }
    }
}
