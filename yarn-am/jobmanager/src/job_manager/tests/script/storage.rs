//! What the storage of checkpoints answers in a story.

use std::sync::Arc;

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{
    CheckpointId, Distribution, SnapshotKind, StateChunk, StateHandle, StateSnapshot,
};

use super::{job, number};
use crate::checkpoint::Observed;
use crate::message::CheckpointEvent;

/// The answer that a line stands for, if it is one.
pub(super) fn answer(command: &str, rest: &str) -> Option<CheckpointEvent> {
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let reason = after.to_owned();
    Some(match command {
        "prepared" => CheckpointEvent::Prepared {
            id: number(first),
            directory: match after {
                "" => format!("hdfs://nn/cp/{}/chk-{first}", job(1)),
                directory => directory.to_owned(),
            },
        },
        "notprepared" => CheckpointEvent::PrepareFailed {
            id: number(first),
            reason,
        },
        // The numbers of those that are whole.
        "discovered" => CheckpointEvent::Discovered {
            observed: Box::new(observed(rest)),
        },
        "notdiscovered" => CheckpointEvent::DiscoverFailed {
            reason: rest.to_owned(),
        },
        "persisted" => CheckpointEvent::MetadataPersisted { id: number(first) },
        "notpersisted" => CheckpointEvent::MetadataFailed {
            id: number(first),
            reason,
        },
        "confirmed" => CheckpointEvent::Confirmed,
        "notconfirmed" => CheckpointEvent::ConfirmFailed {
            reason: rest.to_owned(),
        },
        "superseded" => CheckpointEvent::Superseded {
            reason: rest.to_owned(),
        },
        "discarded" => CheckpointEvent::Discarded { id: number(first) },
        "notdiscarded" => CheckpointEvent::DiscardFailed {
            id: number(first),
            reason,
        },
        "loaded" => CheckpointEvent::Loaded {
            directory: first.to_owned(),
            metadata: loaded(after),
        },
        "notloaded" | "nosnapshot" => CheckpointEvent::LoadFailed {
            reason: rest.to_owned(),
            lost: command == "nosnapshot",
        },
        _ => return None,
    })
}

/// Reads such as `1 2 damaged 3 incomplete 4`.
fn observed(text: &str) -> Observed {
    let mut observed = Observed::default();
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        let directory = |n: &str| format!("hdfs://nn/cp/{}/chk-{n}", job(1));
        match word {
            "damaged" => {
                let why = "its checksum is wrong".to_owned();
                let number = words.next().unwrap();
                observed.damaged.push((directory(number), why));
            }
            "incomplete" => observed.incomplete.push(directory(words.next().unwrap())),
            n => observed.complete.push((
                directory(n),
                Arc::new(SnapshotMetadata {
                    job: job(1),
                    checkpoint: number(n),
                    kind: SnapshotKind::Checkpoint,
                    timestamp_ms: 0,
                    operators: Vec::new(),
                }),
            )),
        }
    }
    observed
}

/// A savepoint of another job, number 17: each word is an operator's uid and what its one state holds, with a colon between.
fn loaded(words: &str) -> Arc<SnapshotMetadata> {
    let operators = words.split(' ').filter_map(|word| word.split_once(':'));
    let operator = |(uid, content): (&str, &str)| OperatorMetadata {
        finished: Vec::new(),
        uid: uid.to_owned(),
        name: uid.to_owned(),
        parallelism: 1,
        max_parallelism: 128,
        states: vec![StateSnapshot {
            name: "state".to_owned(),
            distribution: Distribution::Union,
            schema: "progress<text>".to_owned(),
            chunks: vec![StateChunk {
                index: 0,
                entries: 1,
                content: StateHandle::Inline(content.as_bytes().to_vec()),
            }],
        }],
    };
    Arc::new(SnapshotMetadata {
        job: job(9),
        checkpoint: CheckpointId(17),
        kind: SnapshotKind::Savepoint,
        timestamp_ms: 0,
        operators: operators.map(operator).collect(),
    })
}
