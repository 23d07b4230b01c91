//! Plans, submissions and what they consist of.

use spindle_common::PROTOCOL_VERSION;
use spindle_common::id::{JobId, JobVertexId};
use spindle_common::job_graph::{
    JobEdge, JobGraph, JobSubmission, JobVertex, OperatorDescriptor, OperatorKind, Partitioning,
    ProgramArtifact, ProgramSpec, SourceSplit,
};
use spindle_common::resource::{ByteSize, SlotProfile};

use super::{ConvertError, each, id, nested, unknown};
use crate::proto;

impl From<&SourceSplit> for proto::SourceSplit {
    fn from(split: &SourceSplit) -> Self {
        Self {
            name: split.name.clone(),
            payload: split.payload.clone(),
        }
    }
}

impl From<proto::SourceSplit> for SourceSplit {
    fn from(split: proto::SourceSplit) -> Self {
        Self {
            name: split.name,
            payload: split.payload,
        }
    }
}

impl From<&OperatorDescriptor> for proto::Operator {
    fn from(operator: &OperatorDescriptor) -> Self {
        Self {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            kind: match operator.kind {
                OperatorKind::Source => proto::OperatorKind::Source,
                OperatorKind::Transform => proto::OperatorKind::Transform,
                OperatorKind::Sink => proto::OperatorKind::Sink,
            }
            .into(),
        }
    }
}

impl TryFrom<proto::Operator> for OperatorDescriptor {
    type Error = ConvertError;

    fn try_from(operator: proto::Operator) -> Result<Self, ConvertError> {
        let kind = match proto::OperatorKind::try_from(operator.kind) {
            Ok(proto::OperatorKind::Source) => OperatorKind::Source,
            Ok(proto::OperatorKind::Transform) => OperatorKind::Transform,
            Ok(proto::OperatorKind::Sink) => OperatorKind::Sink,
            Ok(proto::OperatorKind::Unspecified) | Err(_) => {
                return Err(unknown("Operator", "kind", operator.kind));
            }
        };
        Ok(Self {
            uid: operator.uid,
            name: operator.name,
            kind,
        })
    }
}

impl From<&JobVertex> for proto::JobVertex {
    fn from(vertex: &JobVertex) -> Self {
        Self {
            id: vertex.id.to_bytes().to_vec(),
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            operators: vertex.operators.iter().map(Into::into).collect(),
            splits: vertex
                .splits
                .iter()
                .map(|splits| proto::SplitList {
                    splits: splits.iter().map(Into::into).collect(),
                })
                .collect(),
            staging: vertex.staging.clone(),
            slot_sharing_group: vertex.slot_sharing_group.clone(),
        }
    }
}

impl TryFrom<proto::JobVertex> for JobVertex {
    type Error = ConvertError;

    fn try_from(vertex: proto::JobVertex) -> Result<Self, ConvertError> {
        Ok(Self {
            id: id(&vertex.id, JobVertexId::from_bytes, "JobVertex", "id")?,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            operators: each(vertex.operators)?,
            splits: vertex
                .splits
                .into_iter()
                .map(|list| list.splits.into_iter().map(Into::into).collect())
                .collect(),
            staging: vertex.staging,
            slot_sharing_group: vertex.slot_sharing_group,
        })
    }
}

impl From<&JobEdge> for proto::JobEdge {
    fn from(edge: &JobEdge) -> Self {
        Self {
            source: edge.source.to_bytes().to_vec(),
            target: edge.target.to_bytes().to_vec(),
            partitioning: match edge.partitioning {
                Partitioning::Forward => proto::Partitioning::Forward,
                Partitioning::Hash => proto::Partitioning::Hash,
                Partitioning::Rebalance => proto::Partitioning::Rebalance,
                Partitioning::Rescale => proto::Partitioning::Rescale,
                Partitioning::Shuffle => proto::Partitioning::Shuffle,
                Partitioning::Broadcast => proto::Partitioning::Broadcast,
                Partitioning::Global => proto::Partitioning::Global,
                Partitioning::Custom => proto::Partitioning::Custom,
            }
            .into(),
        }
    }
}

impl TryFrom<proto::JobEdge> for JobEdge {
    type Error = ConvertError;

    fn try_from(edge: proto::JobEdge) -> Result<Self, ConvertError> {
        let partitioning = match proto::Partitioning::try_from(edge.partitioning) {
            Ok(proto::Partitioning::Forward) => Partitioning::Forward,
            Ok(proto::Partitioning::Hash) => Partitioning::Hash,
            Ok(proto::Partitioning::Rebalance) => Partitioning::Rebalance,
            Ok(proto::Partitioning::Rescale) => Partitioning::Rescale,
            Ok(proto::Partitioning::Shuffle) => Partitioning::Shuffle,
            Ok(proto::Partitioning::Broadcast) => Partitioning::Broadcast,
            Ok(proto::Partitioning::Global) => Partitioning::Global,
            Ok(proto::Partitioning::Custom) => Partitioning::Custom,
            Ok(proto::Partitioning::Unspecified) | Err(_) => {
                return Err(unknown("JobEdge", "partitioning", edge.partitioning));
            }
        };
        Ok(Self {
            source: id(&edge.source, JobVertexId::from_bytes, "JobEdge", "source")?,
            target: id(&edge.target, JobVertexId::from_bytes, "JobEdge", "target")?,
            partitioning,
        })
    }
}

impl From<SlotProfile> for proto::SlotProfile {
    fn from(profile: SlotProfile) -> Self {
        Self {
            memory_bytes: profile.memory.as_bytes(),
            cpu_millis: profile.cpu_millis,
        }
    }
}

impl From<proto::SlotProfile> for SlotProfile {
    fn from(profile: proto::SlotProfile) -> Self {
        Self {
            memory: ByteSize::from_bytes(profile.memory_bytes),
            cpu_millis: profile.cpu_millis,
        }
    }
}

impl From<&JobGraph> for proto::JobGraph {
    fn from(graph: &JobGraph) -> Self {
        Self {
            name: graph.name.clone(),
            vertices: graph.vertices.iter().map(Into::into).collect(),
            edges: graph.edges.iter().map(Into::into).collect(),
            slot_profiles: graph
                .slot_profiles
                .iter()
                .map(|(group, profile)| (group.clone(), (*profile).into()))
                .collect(),
        }
    }
}

impl TryFrom<proto::JobGraph> for JobGraph {
    type Error = ConvertError;

    fn try_from(graph: proto::JobGraph) -> Result<Self, ConvertError> {
        Ok(Self {
            name: graph.name,
            vertices: each(graph.vertices)?,
            edges: each(graph.edges)?,
            slot_profiles: graph
                .slot_profiles
                .into_iter()
                .map(|(group, profile)| (group, profile.into()))
                .collect(),
        })
    }
}

impl TryFrom<proto::Plan> for JobGraph {
    type Error = ConvertError;

    fn try_from(plan: proto::Plan) -> Result<Self, ConvertError> {
        nested(plan.graph, "Plan", "graph")
    }
}

impl From<&ProgramArtifact> for proto::ProgramArtifact {
    fn from(artifact: &ProgramArtifact) -> Self {
        Self {
            uri: artifact.uri.clone(),
            size: artifact.size,
            sha256: artifact.sha256.clone(),
        }
    }
}

impl From<proto::ProgramArtifact> for ProgramArtifact {
    fn from(artifact: proto::ProgramArtifact) -> Self {
        Self {
            uri: artifact.uri,
            size: artifact.size,
            sha256: artifact.sha256,
        }
    }
}

impl From<&ProgramSpec> for proto::Program {
    fn from(program: &ProgramSpec) -> Self {
        Self {
            executable: program.executable.clone(),
            args: program.args.clone(),
            artifact: program.artifact.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Program> for ProgramSpec {
    type Error = ConvertError;

    fn try_from(program: proto::Program) -> Result<Self, ConvertError> {
        Ok(Self {
            executable: program.executable,
            args: program.args,
            artifact: program.artifact.map(Into::into),
        })
    }
}

pub(super) fn settings_out(config: &[(String, String)]) -> Vec<proto::Setting> {
    config
        .iter()
        .map(|(key, value)| proto::Setting {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

pub(super) fn settings_in(config: Vec<proto::Setting>) -> Vec<(String, String)> {
    config
        .into_iter()
        .map(|setting| (setting.key, setting.value))
        .collect()
}

impl From<&JobSubmission> for proto::JobSubmission {
    fn from(submission: &JobSubmission) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            job: submission.job.to_bytes().to_vec(),
            graph: Some((&submission.graph).into()),
            program: Some((&submission.program).into()),
            config: settings_out(&submission.config),
        }
    }
}

impl TryFrom<proto::JobSubmission> for JobSubmission {
    type Error = ConvertError;

    fn try_from(submission: proto::JobSubmission) -> Result<Self, ConvertError> {
        const NAME: &str = "JobSubmission";
        Ok(Self {
            job: id(&submission.job, JobId::from_bytes, NAME, "job")?,
            graph: nested(submission.graph, NAME, "graph")?,
            program: nested(submission.program, NAME, "program")?,
            config: settings_in(submission.config),
        })
    }
}
