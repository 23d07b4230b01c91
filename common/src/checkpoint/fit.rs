//! Whether a job can begin with a snapshot.

use std::collections::BTreeSet;

use crate::checkpoint::Distribution;
use crate::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use crate::job_graph::{JobGraph, JobVertex};

/// Why it cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It has state that nobody would get.
    #[error("it has state of operators that the job does not have: {}", operators.join(", "))]
    Unclaimed {
        /// Name and uid of each, for people.
        operators: Vec<String>,
    },
    /// Keyed state cannot be dealt out among other key groups than its own.
    #[error(
        "state `{state}` of operator `{operator}` was written in {written} key groups and the job has {wanted}"
    )]
    KeyGroups {
        /// Name of the operator.
        operator: String,
        /// Name of the state.
        state: String,
        /// Key groups of the snapshot.
        written: u32,
        /// Key groups of the job's operator.
        wanted: u32,
    },
}

impl Misfit {
    /// What to do about it, in the job's settings.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unclaimed { .. } => {
                "allow state that is not restored (-n, or execution.state-recovery.ignore-unclaimed-state), to leave it behind"
                    .to_owned()
            }
            Self::KeyGroups { written, .. } => format!("set pipeline.max-parallelism to {written}"),
        }
    }
}

impl SnapshotMetadata {
    /// Whether the operators of `graph`, by their uids, can begin with this snapshot; `allow_unclaimed` lets it have state of others, which is
    /// left behind. Whether state is of the type that an operator has now, only its task can tell.
    ///
    /// # Errors
    /// The first thing that speaks against it.
    pub fn fits(&self, graph: &JobGraph, allow_unclaimed: bool) -> Result<(), Misfit> {
        let of_graph = |uid: &str| {
            let mut vertices = graph.vertices.iter();
            vertices.find(|vertex| vertex.operators.iter().any(|o| o.uid == uid))
        };
        let mut unclaimed = BTreeSet::new();
        for operator in &self.operators {
            match of_graph(&operator.uid) {
                Some(vertex) => key_groups_fit(operator, vertex)?,
                None if allow_unclaimed || operator.states.is_empty() => {}
                None => {
                    unclaimed.insert(format!("`{}` (uid `{}`)", operator.name, operator.uid));
                }
            }
        }
        if unclaimed.is_empty() {
            return Ok(());
        }
        Err(Misfit::Unclaimed {
            operators: unclaimed.into_iter().collect(),
        })
    }
}

fn key_groups_fit(operator: &OperatorMetadata, vertex: &JobVertex) -> Result<(), Misfit> {
    let mut states = operator.states.iter();
    match states.find(|state| state.distribution == Distribution::KeyGroup) {
        Some(state) if operator.max_parallelism != vertex.max_parallelism => {
            Err(Misfit::KeyGroups {
                operator: operator.name.clone(),
                state: state.name.clone(),
                written: operator.max_parallelism,
                wanted: vertex.max_parallelism,
            })
        }
        Some(_) | None => Ok(()),
    }
}
