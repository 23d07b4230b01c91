//! Plans and submissions as bytes: what a program's plan mode writes to its caller, and what a client hands to the Dispatcher.
//!
//! Both begin with [`PROTOCOL_VERSION`], which is checked before anything else is read.

use prost::Message;
use spindle_common::PROTOCOL_VERSION;
use spindle_common::job_graph::{JobGraph, JobSubmission};

use crate::convert::ConvertError;
use crate::proto;

/// Why bytes are no plan or no submission.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Another version of Spindle wrote them.
    #[error(
        "the job was built for protocol version {found}, this is version {expected}: build it against the same spindle-stream"
    )]
    Version {
        /// The version they bear; 0 if none.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// They are no protobuf message of this kind.
    #[error("the bytes are no {what}")]
    Bytes {
        /// `plan` or `job submission`.
        what: &'static str,
        /// What the decoder said.
        #[source]
        cause: prost::DecodeError,
    },
    /// A message in them cannot be.
    #[error("the {what} is malformed")]
    Content {
        /// `plan` or `job submission`.
        what: &'static str,
        /// Which message and field.
        #[source]
        cause: ConvertError,
    },
}

/// The bytes of a plan: a job graph and the version of who wrote it.
pub fn encode_plan(graph: &JobGraph) -> Vec<u8> {
    proto::Plan {
        protocol_version: PROTOCOL_VERSION,
        graph: Some(graph.into()),
    }
    .encode_to_vec()
}

/// Reads what [`encode_plan`] wrote.
///
/// # Errors
/// If the bytes are of another version, or no plan. The graph itself is not validated.
pub fn decode_plan(bytes: &[u8]) -> Result<JobGraph, DecodeError> {
    let what = "plan";
    check_version(bytes, what)?;
    let plan = proto::Plan::decode(bytes).map_err(|cause| DecodeError::Bytes { what, cause })?;
    JobGraph::try_from(plan).map_err(|cause| DecodeError::Content { what, cause })
}

/// The bytes of a submission, with the version of who wrote it.
pub fn encode_submission(submission: &JobSubmission) -> Vec<u8> {
    proto::JobSubmission::from(submission).encode_to_vec()
}

/// Reads what [`encode_submission`] wrote.
///
/// # Errors
/// If the bytes are of another version, or no submission. The graph itself is not validated.
pub fn decode_submission(bytes: &[u8]) -> Result<JobSubmission, DecodeError> {
    let what = "job submission";
    check_version(bytes, what)?;
    let submission =
        proto::JobSubmission::decode(bytes).map_err(|cause| DecodeError::Bytes { what, cause })?;
    JobSubmission::try_from(submission).map_err(|cause| DecodeError::Content { what, cause })
}

fn check_version(bytes: &[u8], what: &'static str) -> Result<(), DecodeError> {
    let found = proto::Versioned::decode(bytes)
        .map_err(|cause| DecodeError::Bytes { what, cause })?
        .protocol_version;
    if found == PROTOCOL_VERSION {
        Ok(())
    } else {
        Err(DecodeError::Version {
            found,
            expected: PROTOCOL_VERSION,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn graph() -> JobGraph {
        JobGraph {
            name: "empty".to_owned(),
            vertices: Vec::new(),
            edges: Vec::new(),
            slot_profiles: BTreeMap::new(),
        }
    }

    #[test]
    fn a_plan_of_another_version_is_refused_with_both_versions() {
        let bytes = proto::Plan {
            protocol_version: PROTOCOL_VERSION + 1,
            graph: None,
        }
        .encode_to_vec();
        assert_eq!(
            decode_plan(&bytes),
            Err(DecodeError::Version {
                found: PROTOCOL_VERSION + 1,
                expected: PROTOCOL_VERSION,
            })
        );
    }

    #[test]
    fn no_bytes_at_all_are_no_plan() {
        assert!(matches!(
            decode_plan(&[]),
            Err(DecodeError::Version { found: 0, .. })
        ));
    }

    #[test]
    fn a_truncated_plan_is_refused() {
        let bytes = encode_plan(&graph());
        assert!(matches!(
            decode_plan(&bytes[..bytes.len() - 1]),
            Err(DecodeError::Bytes { what: "plan", .. })
        ));
        assert_eq!(decode_plan(&bytes), Ok(graph()));
    }

    #[test]
    fn a_plan_without_a_graph_names_the_missing_field() {
        let bytes = proto::Plan {
            protocol_version: PROTOCOL_VERSION,
            graph: None,
        }
        .encode_to_vec();
        let Err(DecodeError::Content { cause, .. }) = decode_plan(&bytes) else {
            panic!("it was taken");
        };
        assert_eq!(cause.to_string(), "field `graph` of `Plan` is missing");
    }
}
