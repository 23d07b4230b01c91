//! Identifiers, each a type of its own.
//!
//! Text forms: [`JobId`] and [`JobVertexId`] print as 32 hexadecimal digits, as Flink's do; [`ResourceId`] is whatever names a
//! TaskManager to its resource provider (on YARN the container id).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointId;

/// How many checkpoints of a job an attempt of the JobManager can take.
const CHECKPOINTS_OF_AN_ATTEMPT: u64 = 1_000_000;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: expected {expected}")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
    /// The kind of id that was wanted.
    pub kind: &'static str,
    /// The form it has.
    pub expected: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u128);

        impl $name {
            /// The id of these 16 bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The 16 bytes of this id, most significant first.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong = || ParseIdError {
                    text: text.to_owned(),
                    kind: $kind,
                    expected: "32 hexadecimal digits",
                };
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(wrong());
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
            }
        }
    };
}

hex_id! {
    /// One submitted job. Flink: `JobID`.
    JobId, "job id"
}
hex_id! {
    /// One vertex of a job graph, stable over submissions of the same program. Flink: `JobVertexID`.
    JobVertexId, "job vertex id"
}

impl JobVertexId {
    /// The id of the vertex whose first operator has this uid.
    pub fn of_uid(uid: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(uid.as_bytes()))
    }
}

/// The lease of one slot by one job. Flink: `AllocationID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllocationId(pub u64);

impl fmt::Display for AllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names a TaskManager. On YARN the container id, in an embedded cluster `local-<n>`. Flink: `ResourceID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId(String);

impl ResourceId {
    /// The id with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The machine a TaskManager runs on, as its resource provider names it. On YARN `host:port` of the NodeManager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeName(String);

impl NodeName {
    /// The node with this name.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One try to run one parallel subtask of a vertex. Flink: `ExecutionAttemptID`.
///
/// Prints as `<vertex>_<subtask>_<attempt>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionAttemptId {
    /// The vertex.
    pub vertex: JobVertexId,
    /// Index of the parallel subtask, from 0.
    pub subtask: u32,
    /// Number of the attempt, never used twice for one subtask of one job: each attempt of the JobManager counts on from its
    /// [`FencingToken::first_execution_attempt`].
    pub attempt: u32,
}

impl fmt::Display for ExecutionAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.vertex, self.subtask, self.attempt)
    }
}

/// The attempt of the JobManager that a message comes from. A TaskExecutor obeys only the highest it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken(pub u64);

impl FencingToken {
    /// Where this attempt of the JobManager begins to number the attempts of a subtask: 0 for the first, 65536 further on for each
    /// one that follows. A JobManager knows nothing of how far the one before it had come.
    pub fn first_execution_attempt(self) -> u32 {
        let before = self.0.saturating_sub(1).saturating_mul(1 << 16);
        u32::try_from(before).unwrap_or(u32::MAX << 16)
    }

    /// The attempt that gave an execution its number.
    pub const fn of_execution_attempt(attempt: u32) -> Self {
        Self((attempt >> 16) as u64 + 1)
    }

    /// Where this attempt begins to number the checkpoints of a job: it never uses a number of an earlier one, not even if that still runs
    /// somewhere.
    pub const fn first_checkpoint(self) -> CheckpointId {
        CheckpointId(self.0.saturating_sub(1) * CHECKPOINTS_OF_AN_ATTEMPT + 1)
    }

    /// The attempt that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_prints_as_32_digits_and_reads_back() {
        let id =
            JobId::from_bytes(*b"\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn each_attempt_of_the_job_manager_numbers_executions_of_its_own() {
        let first = |token| FencingToken(token).first_execution_attempt();
        assert_eq!((first(0), first(1)), (0, 0));
        assert_eq!((first(2), first(3)), (1 << 16, 2 << 16));
        assert_eq!(first(u64::MAX), 0xffff_0000);
        for token in [FencingToken(1), FencingToken(2), FencingToken(9)] {
            let next = token.next().first_execution_attempt();
            for attempt in [token.first_execution_attempt(), next - 1] {
                assert_eq!(FencingToken::of_execution_attempt(attempt), token);
            }
        }
        assert_eq!(FencingToken(1).first_checkpoint(), CheckpointId(1));
        assert_eq!(FencingToken(3).first_checkpoint(), CheckpointId(2_000_001));
    }

    #[test]
    fn what_is_no_job_id_is_refused_with_the_form_it_should_have() {
        for text in [
            "",
            "12",
            "+00102030405060708090a0b0c0d0e0f",
            "zz0102030405060708090a0b0c0d0e0f",
        ] {
            let error = text.parse::<JobId>().unwrap_err();
            assert!(
                error.to_string().contains("32 hexadecimal digits"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_vertex_id_depends_on_nothing_but_the_uid() {
        assert_eq!(
            JobVertexId::of_uid("source").to_string(),
            "e836c87d821f68cda6423e2e23454dca"
        );
        assert_ne!(JobVertexId::of_uid("source"), JobVertexId::of_uid("sink"));
    }
}
