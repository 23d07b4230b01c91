//! The job graph: what a client submits. Vertices are chains of operators, edges are exchanges.
//!
//! A program builds the same graph in the client (plan mode) and in each worker; [`JobGraph::fingerprint`] tells whether it did.
//! Flink: `JobGraph`.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, JobVertexId};
use crate::resource::SlotProfile;

/// The slot sharing group of vertices that name none.
pub const DEFAULT_SLOT_SHARING_GROUP: &str = "default";

/// The dataflow of one job, ready to be scheduled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobGraph {
    /// Name of the job, for people.
    pub name: String,
    /// In topological order: each vertex after all that feed it.
    pub vertices: Vec<JobVertex>,
    /// The exchanges. An edge is referred to by its index here.
    pub edges: Vec<JobEdge>,
    /// What the slots of a slot sharing group have, by its name. Those of other groups are the TaskManagers' equal parts.
    pub slot_profiles: BTreeMap<String, SlotProfile>,
}

/// Vertices whose subtasks share slots: a slot holds one subtask of each at most. Flink: `SlotSharingGroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotSharingGroup<'a> {
    /// Its name.
    pub name: &'a str,
    /// Slots it needs.
    pub slots: u32,
    /// What each of them has, if that was said.
    pub profile: Option<SlotProfile>,
}

/// A chain of operators that runs as one task per subtask. Flink: `JobVertex`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobVertex {
    /// Derived from the uid of its first operator.
    pub id: JobVertexId,
    /// Number of parallel subtasks, at least 1.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// The operators, upstream first; at least one.
    pub operators: Vec<OperatorDescriptor>,
    /// What a source reads: one list per subtask, index = subtask. Empty for a vertex that is no source.
    pub splits: Vec<Vec<SourceSplit>>,
    /// Directories that the vertex's sinks write unfinished files into, as URIs. They are removed when the job ends.
    pub staging: Vec<String>,
    /// Name of the slot sharing group.
    pub slot_sharing_group: String,
}

/// One operator of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorDescriptor {
    /// Stable identity, unique in the job: given by the user or derived from the operator's place in the graph.
    pub uid: String,
    /// Name for people, such as `Map` or `read flights`.
    pub name: String,
    /// What it is.
    pub kind: OperatorKind,
}

/// The role of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorKind {
    /// Brings records in.
    Source,
    /// Turns records into records.
    Transform,
    /// Takes records out.
    Sink,
}

/// A piece of a source's input, opaque to all but the source itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSplit {
    /// For people: what it is, such as `hdfs:///data/flights.csv:0+33554432`.
    pub name: String,
    /// The source's own encoding.
    pub payload: Vec<u8>,
}

/// An exchange between two vertices. Flink: `JobEdge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEdge {
    /// Producer.
    pub source: JobVertexId,
    /// Consumer.
    pub target: JobVertexId,
    /// How records choose their consumer.
    pub partitioning: Partitioning,
}

/// How the records of an edge choose the subtask that gets them. Flink: `StreamPartitioner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioning {
    /// Subtask i to subtask i; both sides have the same parallelism.
    Forward,
    /// By the key group of the record's key.
    Hash,
    /// Round robin.
    Rebalance,
    /// Round robin among a part of the consumers: each pair of subtasks that have a channel are near each other in index.
    Rescale,
    /// By chance.
    Shuffle,
    /// Each record to all.
    Broadcast,
    /// All to the first subtask.
    Global,
    /// As a function of the user's says.
    Custom,
}

impl Partitioning {
    /// The name that people and the REST API know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Hash => "HASH",
            Self::Rebalance => "REBALANCE",
            Self::Rescale => "RESCALE",
            Self::Shuffle => "SHUFFLE",
            Self::Broadcast => "BROADCAST",
            Self::Global => "GLOBAL",
            Self::Custom => "CUSTOM",
        }
    }

    /// The consumers that a producer has a channel to, ascending.
    pub fn consumers_of(self, producer: u32, producers: u32, consumers: u32) -> Range<u32> {
        match self {
            Self::Forward => producer..producer + 1,
            Self::Rescale => near(producer, producers, consumers),
            Self::Hash
            | Self::Rebalance
            | Self::Shuffle
            | Self::Broadcast
            | Self::Global
            | Self::Custom => 0..consumers,
        }
    }

    /// The producers that a consumer has a channel from, ascending.
    pub fn producers_of(self, consumer: u32, producers: u32, consumers: u32) -> Range<u32> {
        match self {
            Self::Rescale => near(consumer, consumers, producers),
            Self::Forward
            | Self::Hash
            | Self::Rebalance
            | Self::Shuffle
            | Self::Broadcast
            | Self::Global
            | Self::Custom => self.consumers_of(consumer, consumers, producers),
        }
    }
}

/// Which of `there` subtasks on the other side the one with this index of `here` has a channel with: a share of them if they are
/// more, else the one whose share holds it.
fn near(index: u32, here: u32, there: u32) -> Range<u32> {
    let (index, here, there) = (u64::from(index), u64::from(here), u64::from(there));
    let (start, end) = if there >= here {
        (
            (index * there).div_ceil(here),
            ((index + 1) * there).div_ceil(here),
        )
    } else {
        let one = index * there / here;
        (one, one + 1)
    };
    start as u32..end as u32
}

impl JobVertex {
    /// The names of its operators, joined by ` -> `.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self
            .operators
            .iter()
            .map(|operator| operator.name.as_str())
            .collect();
        names.join(" -> ")
    }

    /// Whether it brings records in.
    pub fn is_source(&self) -> bool {
        self.operators
            .first()
            .is_some_and(|first| first.kind == OperatorKind::Source)
    }
}

/// Why a job graph cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJobGraph {
    /// Nothing to run.
    #[error("the job has no operators: a source and a sink at least are needed")]
    Empty,
    /// Two operators cannot be told apart.
    #[error("two operators have the uid `{uid}`: give each a uid of its own")]
    DuplicateUid {
        /// The uid.
        uid: String,
    },
    /// More subtasks than key groups, or none.
    #[error(
        "operator `{operator}` has parallelism {parallelism}, which is not between 1 and its maximum parallelism {max_parallelism}"
    )]
    Parallelism {
        /// Name of the operator.
        operator: String,
        /// What was asked.
        parallelism: u32,
        /// The limit.
        max_parallelism: u32,
    },
    /// An edge that leads nowhere or backwards.
    #[error("the edge from {from} to {to} does not lead from an earlier to a later vertex")]
    Edge {
        /// Producer.
        from: JobVertexId,
        /// Consumer.
        to: JobVertexId,
    },
    /// A forward edge between different parallelisms.
    #[error("the forward edge from {from} to {to} joins different parallelisms")]
    Forward {
        /// Producer.
        from: JobVertexId,
        /// Consumer.
        to: JobVertexId,
    },
    /// Slots of nothing.
    #[error(
        "the slots of slot sharing group `{group}` are to have {profile}: both have to be more than nothing"
    )]
    Profile {
        /// Name of the group.
        group: String,
        /// What was declared.
        profile: SlotProfile,
    },
    /// A source without one list of splits per subtask.
    #[error("source `{operator}` has {lists} lists of splits for parallelism {parallelism}")]
    Splits {
        /// Name of the operator.
        operator: String,
        /// Lists there.
        lists: usize,
        /// Lists wanted.
        parallelism: u32,
    },
}

impl JobGraph {
    /// The vertex with this id.
    pub fn vertex(&self, id: JobVertexId) -> Option<&JobVertex> {
        self.vertices.iter().find(|vertex| vertex.id == id)
    }

    /// Indices into [`Self::edges`] of the edges that feed a vertex, ascending.
    pub fn inputs_of(&self, id: JobVertexId) -> impl Iterator<Item = (u32, &JobEdge)> {
        (0..)
            .zip(&self.edges)
            .filter(move |(_, edge)| edge.target == id)
    }

    /// Indices into [`Self::edges`] of the edges that a vertex feeds, ascending.
    pub fn outputs_of(&self, id: JobVertexId) -> impl Iterator<Item = (u32, &JobEdge)> {
        (0..)
            .zip(&self.edges)
            .filter(move |(_, edge)| edge.source == id)
    }

    /// Slots needed: each holds one subtask of every vertex of its slot sharing group.
    pub fn slots(&self) -> u32 {
        let groups = self.slot_sharing_groups().into_iter();
        groups.fold(0, |sum, group| sum.saturating_add(group.slots))
    }

    /// The slot sharing groups, in the order of their first vertices.
    pub fn slot_sharing_groups(&self) -> Vec<SlotSharingGroup<'_>> {
        let mut groups: Vec<SlotSharingGroup<'_>> = Vec::new();
        for vertex in &self.vertices {
            let (name, slots) = (vertex.slot_sharing_group.as_str(), vertex.parallelism);
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.slots = group.slots.max(slots),
                None => groups.push(SlotSharingGroup {
                    name,
                    slots,
                    profile: self.slot_profiles.get(name).copied(),
                }),
            }
        }
        groups
    }

    /// Number of subtasks of all vertices.
    pub fn tasks(&self) -> u32 {
        self.vertices.iter().map(|vertex| vertex.parallelism).sum()
    }

    /// Stable digest of everything but the splits: equal in the client and in each worker, if the program is deterministic.
    pub fn fingerprint(&self) -> u64 {
        let mut text = String::new();
        for vertex in &self.vertices {
            text += &format!(
                "{} {} {} {:?}\n",
                vertex.id, vertex.parallelism, vertex.max_parallelism, vertex.slot_sharing_group
            );
            for operator in &vertex.operators {
                text += &format!(
                    " {:?} {:?} {:?}\n",
                    operator.kind, operator.uid, operator.name
                );
            }
        }
        for edge in &self.edges {
            text += &format!(
                "{} {} {}\n",
                edge.source,
                edge.target,
                edge.partitioning.name()
            );
        }
        for (group, profile) in &self.slot_profiles {
            text += &format!(
                "{group:?} {} {}\n",
                profile.memory.as_bytes(),
                profile.cpu_millis
            );
        }
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// The first operator by which another graph differs from this one, for the error of a program that is not deterministic.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let mine = self.vertices.iter().flat_map(|vertex| {
            vertex
                .operators
                .iter()
                .map(move |operator| (vertex, operator))
        });
        let mut theirs = other.vertices.iter().flat_map(|vertex| {
            vertex
                .operators
                .iter()
                .map(move |operator| (vertex, operator))
        });
        for (vertex, operator) in mine {
            match theirs.next() {
                Some((v, o))
                    if o == operator
                        && v.id == vertex.id
                        && v.parallelism == vertex.parallelism => {}
                Some((_, o)) => {
                    return Some(format!(
                        "operator `{}` (uid {}) became `{}` (uid {})",
                        operator.name, operator.uid, o.name, o.uid
                    ));
                }
                None => {
                    return Some(format!(
                        "operator `{}` (uid {}) is missing",
                        operator.name, operator.uid
                    ));
                }
            }
        }
        if let Some((_, o)) = theirs.next() {
            return Some(format!("operator `{}` (uid {}) was added", o.name, o.uid));
        }
        let groups = |graph: &Self| -> Vec<_> {
            let groups = graph.vertices.iter().map(|v| v.slot_sharing_group.clone());
            groups.collect()
        };
        if groups(self) != groups(other) || self.slot_profiles != other.slot_profiles {
            return Some("the slot sharing groups differ".to_owned());
        }
        (self.fingerprint() != other.fingerprint())
            .then(|| "the edges between operators differ".to_owned())
    }

    /// Checks what the control plane relies on.
    ///
    /// # Errors
    /// The first rule that the graph breaks.
    pub fn validate(&self) -> Result<(), InvalidJobGraph> {
        if self.vertices.is_empty()
            || self
                .vertices
                .iter()
                .any(|vertex| vertex.operators.is_empty())
        {
            return Err(InvalidJobGraph::Empty);
        }
        let mut uids = BTreeSet::new();
        for vertex in &self.vertices {
            for operator in &vertex.operators {
                if !uids.insert(operator.uid.as_str()) {
                    return Err(InvalidJobGraph::DuplicateUid {
                        uid: operator.uid.clone(),
                    });
                }
            }
            if vertex.parallelism == 0 || vertex.parallelism > vertex.max_parallelism {
                return Err(InvalidJobGraph::Parallelism {
                    operator: vertex.name(),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.max_parallelism,
                });
            }
            if vertex.is_source() && vertex.splits.len() != vertex.parallelism as usize {
                return Err(InvalidJobGraph::Splits {
                    operator: vertex.name(),
                    lists: vertex.splits.len(),
                    parallelism: vertex.parallelism,
                });
            }
        }
        for (group, profile) in &self.slot_profiles {
            if profile.memory.as_bytes() == 0 || profile.cpu_millis == 0 {
                return Err(InvalidJobGraph::Profile {
                    group: group.clone(),
                    profile: *profile,
                });
            }
        }
        for edge in &self.edges {
            let place = |id| self.vertices.iter().position(|vertex| vertex.id == id);
            let (from, to) = (edge.source, edge.target);
            let (Some(source), Some(target)) = (place(from), place(to)) else {
                return Err(InvalidJobGraph::Edge { from, to });
            };
            if source >= target {
                return Err(InvalidJobGraph::Edge { from, to });
            }
            if edge.partitioning == Partitioning::Forward
                && self.vertices[source].parallelism != self.vertices[target].parallelism
            {
                return Err(InvalidJobGraph::Forward { from, to });
            }
        }
        Ok(())
    }
}

/// How to start a job's own executable, the program: in plan mode at the client, in worker mode at a TaskExecutor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSpec {
    /// Name of the executable in the container's working directory.
    pub executable: String,
    /// Its arguments, as the user gave them.
    pub args: Vec<String>,
    /// Where a TaskExecutor gets the executable. Without it, it is in the container's working directory from the start.
    pub artifact: Option<ProgramArtifact>,
}

/// An executable in a file system that all containers reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramArtifact {
    /// Where it is, as a full URI.
    pub uri: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
}

/// A job as it is handed to the Dispatcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSubmission {
    /// Chosen by the client.
    pub job: JobId,
    /// What to run.
    pub graph: JobGraph,
    /// The program that runs it.
    pub program: ProgramSpec,
    /// Settings of this job over those of the cluster: key and value as written.
    pub config: Vec<(String, String)>,
}
