//! Which of the checkpoints that an earlier attempt of the JobManager left is the one to start from.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{CheckpointId, SnapshotKind};
use spindle_common::id::JobId;

use super::acknowledged::CompletedCheckpoint;

/// What was seen in a job's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Directories with whole metadata, as URIs.
    pub complete: Vec<(String, Arc<SnapshotMetadata>)>,
    /// Directories whose metadata is not what was written, and why.
    pub damaged: Vec<(String, String)>,
    /// Directories without metadata: never completed, half removed, or still written to by an attempt that was thought dead.
    pub incomplete: Vec<String>,
}

/// What follows from it.
#[derive(Debug, PartialEq)]
pub(super) struct Resolution {
    /// Those to start from, the newest last.
    pub(super) complete: VecDeque<CompletedCheckpoint>,
    /// What has to be gone before anything starts: it could become a checkpoint behind the back of tasks.
    pub(super) condemned: Vec<(CheckpointId, String)>,
    /// What is left alone, and why.
    pub(super) skipped: Vec<(Option<CheckpointId>, String)>,
}

/// Which snapshot is the true one.
pub(super) fn resolve(job: JobId, observed: &Observed) -> Resolution {
    let mut complete = Vec::new();
    let mut skipped = Vec::new();
    for (directory, metadata) in &observed.complete {
        let id = metadata.checkpoint;
        let why = match metadata.kind {
            _ if metadata.job != job => format!("it is of job {}", metadata.job),
            _ if number_of(directory) != Some(id) => "it was written for another place".to_owned(),
            SnapshotKind::Savepoint | SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => {
                "it is a savepoint".to_owned()
            }
            SnapshotKind::Checkpoint => {
                complete.push(CompletedCheckpoint {
                    id,
                    directory: directory.clone(),
                    metadata: Arc::clone(metadata),
                });
                continue;
            }
        };
        skipped.push((Some(id), format!("{directory} is passed over: {why}")));
    }
    for (directory, why) in &observed.damaged {
        let what = format!("{directory} is passed over: {why}");
        skipped.push((number_of(directory), what));
    }
    let mut condemned = Vec::new();
    for directory in &observed.incomplete {
        match number_of(directory) {
            Some(id) => condemned.push((id, directory.clone())),
            None => skipped.push((None, format!("{directory} is no directory of a checkpoint"))),
        }
    }
    complete.sort_by_key(|one| one.id);
    condemned.sort();
    Resolution {
        complete: complete.into(),
        condemned,
        skipped,
    }
}

/// The number that a directory has in its name.
fn number_of(directory: &str) -> Option<CheckpointId> {
    let (_, name) = directory.trim_end_matches('/').rsplit_once('/')?;
    let number = name.strip_prefix("chk-")?.parse().ok()?;
    Some(CheckpointId(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(job: u8, id: u64, kind: SnapshotKind) -> Arc<SnapshotMetadata> {
        Arc::new(SnapshotMetadata {
            job: JobId::from_bytes([job; 16]),
            checkpoint: CheckpointId(id),
            kind,
            timestamp_ms: 0,
            operators: Vec::new(),
        })
    }

    #[test]
    fn the_newest_whole_checkpoint_of_the_job_is_the_one_and_nothing_may_become_another() {
        let of = |path: &str, job, id, kind| (path.to_owned(), metadata(job, id, kind));
        let checkpoint = SnapshotKind::Checkpoint;
        let observed = Observed {
            complete: vec![
                of("hdfs:///j/chk-10", 1, 10, checkpoint),
                of("hdfs:///j/chk-9", 1, 9, checkpoint),
                of("hdfs:///j/chk-11", 2, 11, checkpoint),
                of("hdfs:///j/chk-12", 1, 3, checkpoint),
                of("hdfs:///j/chk-13", 1, 13, SnapshotKind::Savepoint),
            ],
            damaged: vec![("hdfs:///j/chk-14".to_owned(), "its checksum".to_owned())],
            incomplete: vec!["hdfs:///j/chk-15".to_owned(), "hdfs:///j/chk-x".to_owned()],
        };
        let resolution = resolve(JobId::from_bytes([1; 16]), &observed);
        let ids: Vec<u64> = resolution.complete.iter().map(|one| one.id.0).collect();
        assert_eq!(ids, [9, 10]);
        let condemned = (CheckpointId(15), "hdfs:///j/chk-15".to_owned());
        assert_eq!(resolution.condemned, [condemned]);
        let skipped: Vec<_> = resolution
            .skipped
            .iter()
            .map(|(id, _)| id.map(|id| id.0))
            .collect();
        assert_eq!(skipped, [Some(11), Some(3), Some(13), Some(14), None]);
    }
}
