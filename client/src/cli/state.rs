//! `spindle state`: what is in a snapshot.

mod entries;

use clap::Args;
use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{Distribution, SnapshotKind, StateHandle, StateSnapshot};
use spindle_storage::{Discovered, SnapshotStorage, StorageError};

use super::{OutputArgs, runtime};
use crate::error::{CliError, Exit};
use crate::output::{self, Format};
use crate::settings::Settings;

/// Arguments of `spindle state`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, 2 there is no snapshot, or it is damaged, 3 HDFS cannot be reached."
)]
pub(crate) struct StateArgs {
    /// A snapshot: the directory of a checkpoint or savepoint. Or a directory of checkpoints, which are then listed.
    #[arg(value_name = "PATH")]
    path: String,
    /// Read all state, too, and compare its checksums.
    #[arg(long)]
    verify: bool,
    /// Print entries of this operator's states: its uid.
    #[arg(long, value_name = "UID", conflicts_with = "verify")]
    operator: Option<String>,
    /// Print entries of this state of the operator only.
    #[arg(long, value_name = "NAME", requires = "operator")]
    state: Option<String>,
    /// How many entries of each state, at most.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "operator")]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

impl StateArgs {
    pub(crate) const fn format(&self) -> Format {
        self.output.output
    }
}

/// Prints what the metadata of a snapshot says; the exit code.
pub(crate) fn state(args: &StateArgs) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop_if_there()?.unwrap_or_default();
    let user = spindle_hadoop::user::current().map_err(|cause| {
        CliError::usage("cannot tell who you are to Hadoop")
            .because(cause)
            .hint("set HADOOP_USER_NAME")
    })?;
    runtime()?.block_on(async {
        let storage = SnapshotStorage::of_hadoop(&hadoop.to_pairs(), &user).map_err(failed)?;
        let metadata = match storage.read_metadata(&args.path).await {
            Ok(metadata) => metadata,
            Err(error @ StorageError::NoMetadata { .. }) => {
                let found = storage.discover(&args.path).await.map_err(failed)?;
                return list(&found, args.format()).ok_or_else(|| failed(error));
            }
            Err(error) => return Err(failed(error)),
        };
        if let Some(operator) = &args.operator {
            let wanted = entries::Wanted {
                operator,
                state: args.state.as_deref(),
                limit: args.limit,
            };
            entries::print(&storage, &args.path, &metadata, &wanted, args.format()).await?;
            return Ok(0);
        }
        if args.verify {
            let verified = storage.verify(&args.path, &metadata).await;
            verified.map_err(failed)?;
        }
        let text = match args.format() {
            Format::Text => describe(&args.path, &metadata, args.verify),
            Format::Json => json(&args.path, &metadata, args.verify).to_string(),
        };
        output::print(&text);
        Ok(0)
    })
}

fn failed(error: StorageError) -> CliError {
    let is_usage = matches!(
        error,
        StorageError::Path { .. } | StorageError::Hadoop { .. }
    );
    let exit = if is_usage || error.is_damage() {
        Exit::Usage
    } else {
        Exit::Cluster
    };
    CliError::new(exit, "cannot use this snapshot").because(error)
}

/// The snapshots of a directory, newest first; nothing if there are none.
fn list(found: &Discovered, format: Format) -> Option<u8> {
    let mut rows = Vec::new();
    for snapshot in &found.complete {
        let metadata = &snapshot.metadata;
        let bytes: u64 = metadata.chunks().map(|chunk| chunk.content.len()).sum();
        rows.push((
            &snapshot.directory,
            format!("complete, {}", kind(metadata.kind)),
            output::time(metadata.timestamp_ms),
            bytes.to_string(),
        ));
    }
    for (directory, error) in &found.damaged {
        let status = format!("damaged: {}", error.report());
        rows.push((directory, status, String::new(), String::new()));
    }
    for directory in &found.incomplete {
        let status = "not completed".to_owned();
        rows.push((directory, status, String::new(), String::new()));
    }
    if rows.is_empty() {
        return None;
    }
    match format {
        Format::Text => {
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|(directory, status, time, bytes)| {
                    vec![time, bytes, directory.clone(), status]
                })
                .collect();
            let headings = ["triggered (UTC)", "bytes", "snapshot", "status"];
            output::print(&output::table(&headings, &rows));
        }
        Format::Json => {
            for snapshot in &found.complete {
                let line = json(&snapshot.directory, &snapshot.metadata, false);
                output::print(&line.to_string());
            }
            for (directory, error) in &found.damaged {
                let line = serde_json::json!({"path": directory, "damaged": error.report()});
                output::print(&line.to_string());
            }
            for directory in &found.incomplete {
                let line = serde_json::json!({"path": directory, "incomplete": true});
                output::print(&line.to_string());
            }
        }
    }
    Some(0)
}

const fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Checkpoint => "checkpoint",
        SnapshotKind::Savepoint => "savepoint",
        SnapshotKind::StopWithSavepoint => "savepoint at a stop",
        SnapshotKind::Drain => "savepoint at the end of all windows",
    }
}

const fn distribution(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::KeyGroup => "by key",
        Distribution::Split => "dealt out",
        Distribution::Union => "all to each",
        Distribution::Broadcast => "the same for each",
        Distribution::InFlight => "under way to each",
    }
}

/// Entries, bytes, and how many of them are in files of their own.
fn sizes(state: &StateSnapshot) -> (u64, u64, u64) {
    let (mut entries, mut bytes, mut in_files) = (0, 0, 0);
    for chunk in &state.chunks {
        entries += chunk.entries;
        bytes += chunk.content.len();
        match &chunk.content {
            StateHandle::Inline(_) => {}
            StateHandle::File(range) => in_files += range.length,
        }
    }
    (entries, bytes, in_files)
}

fn describe(path: &str, metadata: &SnapshotMetadata, verified: bool) -> String {
    let mut text = format!(
        "{path}: {} {} of job {}, triggered {} UTC",
        kind(metadata.kind),
        metadata.checkpoint,
        metadata.job,
        output::time(metadata.timestamp_ms)
    );
    if verified {
        text += ", all of it is there as it was written";
    }
    for operator in &metadata.operators {
        text += &format!(
            "\n\n{} (uid {}), parallelism {}, max {}\n",
            operator.name, operator.uid, operator.parallelism, operator.max_parallelism
        );
        let rows: Vec<Vec<String>> = operator
            .states
            .iter()
            .map(|state| {
                let (entries, bytes, _) = sizes(state);
                vec![
                    state.name.clone(),
                    entries.to_string(),
                    bytes.to_string(),
                    distribution(state.distribution).to_owned(),
                    state.schema.clone(),
                ]
            })
            .collect();
        let headings = ["state", "entries", "bytes", "distribution", "schema"];
        text += &output::table(&headings, &rows);
    }
    if metadata.operators.is_empty() {
        text += "\n\nno operator has state";
    }
    text
}

fn json(path: &str, metadata: &SnapshotMetadata, verified: bool) -> serde_json::Value {
    let state = |state: &StateSnapshot| {
        let (entries, bytes, in_files) = sizes(state);
        serde_json::json!({
            "name": state.name, "schema": state.schema, "distribution": format!("{:?}", state.distribution),
            "chunks": state.chunks.len(), "entries": entries, "bytes": bytes, "bytes_in_files": in_files,
        })
    };
    let operator = |operator: &OperatorMetadata| {
        serde_json::json!({
            "uid": operator.uid, "name": operator.name,
            "parallelism": operator.parallelism, "max_parallelism": operator.max_parallelism,
            "states": operator.states.iter().map(state).collect::<Vec<_>>(),
        })
    };
    serde_json::json!({
        "path": path,
        "job_id": metadata.job.to_string(),
        "checkpoint_id": metadata.checkpoint.0,
        "kind": format!("{:?}", metadata.kind),
        "timestamp_ms": metadata.timestamp_ms,
        "verified": verified,
        "operators": metadata.operators.iter().map(operator).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use spindle_common::checkpoint::{CheckpointId, FileRange, StateChunk};
    use spindle_common::id::JobId;

    use super::*;

    fn metadata() -> SnapshotMetadata {
        let range = FileRange {
            path: "count-0-0".to_owned(),
            offset: 0,
            length: 100,
            checksum: 1,
        };
        let chunk = |index, content| StateChunk {
            index,
            entries: 4,
            content,
        };
        let state = |name: &str, distribution, chunks| StateSnapshot {
            name: name.to_owned(),
            distribution,
            schema: "value<u64>".to_owned(),
            chunks,
        };
        SnapshotMetadata {
            job: JobId::from_bytes([1; 16]),
            checkpoint: CheckpointId(3),
            kind: SnapshotKind::Savepoint,
            timestamp_ms: 1_764_000_000_000,
            operators: vec![OperatorMetadata {
                uid: "count".to_owned(),
                name: "Count".to_owned(),
                parallelism: 2,
                max_parallelism: 128,
                states: vec![
                    state(
                        "value",
                        Distribution::KeyGroup,
                        vec![
                            chunk(0, StateHandle::File(range)),
                            chunk(1, StateHandle::Inline(vec![0; 5])),
                        ],
                    ),
                    state("positions", Distribution::Split, Vec::new()),
                ],
                finished: Vec::new(),
            }],
        }
    }

    #[test]
    fn people_see_operators_and_their_states() {
        let expected = "\
hdfs:///s: savepoint 3 of job 01010101010101010101010101010101, triggered 2025-11-24 16:00:00 UTC

Count (uid count), parallelism 2, max 128
state      entries  bytes  distribution  schema
value      8        105    by key        value<u64>
positions  0        0      dealt out     value<u64>";
        assert_eq!(describe("hdfs:///s", &metadata(), false), expected);
        assert!(describe("s", &metadata(), true).contains("as it was written"));
    }

    #[test]
    fn programs_see_the_same() {
        let seen = json("hdfs:///s", &metadata(), true);
        assert_eq!(seen["checkpoint_id"], 3);
        assert_eq!(seen["verified"], true);
        let state = &seen["operators"][0]["states"][0];
        let sizes = (&state["bytes"], &state["bytes_in_files"], &state["entries"]);
        assert_eq!(sizes, (&105.into(), &100.into(), &8.into()));
    }

    #[test]
    fn damage_is_not_the_cluster_s_fault() {
        let error = StorageError::NoMetadata {
            path: "file:///x/_metadata".to_owned(),
        };
        let error = failed(error);
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message().contains("file:///x/_metadata"));
    }
}
