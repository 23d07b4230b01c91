//! Snapshots of any shape.

use proptest::collection::vec;
use proptest::prelude::*;
use spindle_common::checkpoint::*;
use spindle_common::gateway::{TaskCheckpoint, TaskCheckpointOutcome};

use super::{checkpoint, execution, job, text};

pub(super) fn barrier() -> impl Strategy<Value = CheckpointBarrier> {
    let kind = prop_oneof![
        Just(SnapshotKind::Checkpoint),
        Just(SnapshotKind::Savepoint),
        Just(SnapshotKind::StopWithSavepoint),
        Just(SnapshotKind::Drain),
    ];
    let alignment = prop_oneof![
        Just(BarrierAlignment::Aligned),
        Just(BarrierAlignment::AtLeastOnce),
        any::<u64>().prop_map(|timeout_ms| BarrierAlignment::Unaligned { timeout_ms }),
    ];
    (checkpoint(), any::<i64>(), kind, text(), alignment).prop_map(
        |(id, timestamp_ms, kind, directory, alignment)| CheckpointBarrier {
            id,
            timestamp_ms,
            kind,
            directory: directory.into(),
            alignment,
        },
    )
}

fn handle() -> impl Strategy<Value = StateHandle> {
    let file = (text(), any::<(u64, u64, u32)>()).prop_map(|(path, (offset, length, checksum))| {
        StateHandle::File(FileRange {
            path,
            offset,
            length,
            checksum,
        })
    });
    prop_oneof![vec(any::<u8>(), 0..20).prop_map(StateHandle::Inline), file,]
}

fn operators() -> impl Strategy<Value = Vec<OperatorSnapshot>> {
    let distribution = prop_oneof![
        Just(Distribution::KeyGroup),
        Just(Distribution::Split),
        Just(Distribution::Union),
        Just(Distribution::Broadcast),
        Just(Distribution::InFlight),
    ];
    let chunk =
        (any::<(u32, u64)>(), handle()).prop_map(|((index, entries), content)| StateChunk {
            index,
            entries,
            content,
        });
    let state = (text(), distribution, text(), vec(chunk, 0..3)).prop_map(
        |(name, distribution, schema, chunks)| StateSnapshot {
            name,
            distribution,
            schema,
            chunks,
        },
    );
    vec(
        (text(), vec(state, 0..3)).prop_map(|(uid, states)| OperatorSnapshot { uid, states }),
        0..3,
    )
}

pub(super) fn restore() -> impl Strategy<Value = TaskRestore> {
    (job(), checkpoint(), text(), operators(), any::<bool>()).prop_map(
        |(job, checkpoint, directory, operators, finished)| TaskRestore {
            job,
            checkpoint,
            directory,
            operators,
            finished,
        },
    )
}

pub(super) fn task_checkpoint() -> impl Strategy<Value = TaskCheckpoint> {
    let acknowledged = (operators(), any::<bool>(), any::<([u64; 8], bool)>());
    let acknowledged = acknowledged.prop_map(|(operators, finished, (n, unaligned))| {
        TaskCheckpointOutcome::Acknowledged {
            snapshot: SubtaskSnapshot {
                operators,
                finished,
            },
            stats: SubtaskCheckpointStats {
                start_delay_ms: n[0],
                alignment_us: n[1],
                sync_us: n[2],
                async_us: n[3],
                state_bytes: n[4],
                written_bytes: n[5],
                persisted_bytes: n[6],
                processed_bytes: n[7],
                unaligned,
            },
        }
    });
    let outcome = prop_oneof![
        acknowledged,
        text().prop_map(|reason| TaskCheckpointOutcome::Declined { reason }),
    ];
    (job(), execution(), checkpoint(), outcome).prop_map(|(job, execution, checkpoint, outcome)| {
        TaskCheckpoint {
            job,
            execution,
            checkpoint,
            outcome,
        }
    })
}
