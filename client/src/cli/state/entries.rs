//! The entries of an operator's states.

use serde_json::{Value, json};
use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{Distribution, OperatorSnapshot, StateChunk, StateSnapshot};
use spindle_storage::SnapshotStorage;

use super::failed;
use crate::entries::{Layout, Rest};
use crate::error::CliError;
use crate::output::{self, Format};

/// Whose entries, and how many.
pub(super) struct Wanted<'a> {
    pub(super) operator: &'a str,
    /// None for all states of the operator.
    pub(super) state: Option<&'a str>,
    pub(super) limit: usize,
}

/// Prints them.
pub(super) async fn print(
    storage: &SnapshotStorage,
    path: &str,
    metadata: &SnapshotMetadata,
    wanted: &Wanted<'_>,
    format: Format,
) -> Result<(), CliError> {
    let (operator, states) = find(metadata, wanted)?;
    for state in states {
        if format == Format::Text {
            output::print(&format!(
                "{} (uid {}), {}: {}",
                operator.name, operator.uid, state.name, state.schema
            ));
        }
        let layout = Layout::of(&state.schema);
        let mut left = wanted.limit;
        for chunk in &state.chunks {
            if left == 0 {
                break;
            }
            let content = read(storage, path, operator, state, chunk).await?;
            let found = layout.read(&content, left);
            left -= found.entries.len();
            for entry in &found.entries {
                output::print(&line(operator, state, chunk, entry, format));
            }
            if let Some(rest) = &found.rest {
                let unread = chunk.entries.saturating_sub(found.entries.len() as u64);
                output::print(&not_read(operator, state, chunk, rest, unread, format));
            }
        }
    }
    Ok(())
}

fn find<'m>(
    metadata: &'m SnapshotMetadata,
    wanted: &Wanted<'_>,
) -> Result<(&'m OperatorMetadata, Vec<&'m StateSnapshot>), CliError> {
    let mut operators = metadata.operators.iter();
    let Some(operator) = operators.find(|operator| operator.uid == wanted.operator) else {
        let uids = metadata.operators.iter().map(|it| it.uid.as_str());
        return Err(CliError::usage(format!(
            "the snapshot has no state of an operator with the uid `{}`",
            wanted.operator
        ))
        .hint(there("uids", uids)));
    };
    let Some(name) = wanted.state else {
        return Ok((operator, operator.states.iter().collect()));
    };
    let named: Vec<_> = operator
        .states
        .iter()
        .filter(|it| it.name == name)
        .collect();
    if named.is_empty() {
        let names = operator.states.iter().map(|it| it.name.as_str());
        return Err(CliError::usage(format!(
            "operator `{}` has no state `{name}`",
            operator.name
        ))
        .hint(there("states", names)));
    }
    Ok((operator, named))
}

fn there<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return format!("there are no {what}");
    }
    format!("{what}: {}", names.join(", "))
}

/// The bytes of one chunk, as they were written.
async fn read(
    storage: &SnapshotStorage,
    path: &str,
    operator: &OperatorMetadata,
    state: &StateSnapshot,
    chunk: &StateChunk,
) -> Result<Vec<u8>, CliError> {
    let one = OperatorSnapshot {
        uid: operator.uid.clone(),
        states: vec![StateSnapshot {
            chunks: vec![chunk.clone()],
            ..state.clone()
        }],
    };
    let directory = path.strip_suffix("/_metadata").unwrap_or(path);
    let read = Box::pin(storage.read_states(directory, &[one])).await;
    let operators = read.map_err(failed)?;
    let states = operators.into_iter().flat_map(|operator| operator.states);
    let mut chunks = states.flat_map(|state| state.chunks);
    Ok(chunks.next().map(|chunk| chunk.content).unwrap_or_default())
}

/// What the index of a chunk is.
const fn index(state: &StateSnapshot) -> &'static str {
    match state.distribution {
        Distribution::KeyGroup => "key_group",
        Distribution::Split
        | Distribution::Union
        | Distribution::Broadcast
        | Distribution::InFlight => "subtask",
    }
}

fn line(
    operator: &OperatorMetadata,
    state: &StateSnapshot,
    chunk: &StateChunk,
    entry: &Value,
    format: Format,
) -> String {
    match format {
        Format::Text => {
            let fields: Vec<String> = entry.as_object().map_or_else(Vec::new, |fields| {
                let field = |(name, value): (&String, &Value)| format!("{name} {value}");
                fields.iter().map(field).collect()
            });
            format!("  {} {}: {}", index(state).replace('_', " "), chunk.index, fields.join(", "))
        }
        Format::Json => json!({
            "operator": operator.uid, "state": state.name, (index(state)): chunk.index, "entry": entry,
        })
        .to_string(),
    }
}

fn not_read(
    operator: &OperatorMetadata,
    state: &StateSnapshot,
    chunk: &StateChunk,
    rest: &Rest,
    entries: u64,
    format: Format,
) -> String {
    let Rest { why, bytes, first } = rest;
    match format {
        Format::Text => format!(
            "  {} {}: {entries} entries in {bytes} bytes cannot be read: {why}; they begin with {first}",
            index(state).replace('_', " "),
            chunk.index
        ),
        Format::Json => json!({
            "operator": operator.uid, "state": state.name, (index(state)): chunk.index,
            "unread": {"entries": entries, "bytes": bytes, "first": first, "why": why},
        })
        .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::checkpoint::StateHandle;

    use super::*;

    fn state() -> StateSnapshot {
        StateSnapshot {
            name: "values".to_owned(),
            distribution: Distribution::KeyGroup,
            schema: "value by key<u8, u8>".to_owned(),
            chunks: vec![StateChunk {
                index: 7,
                entries: 2,
                content: StateHandle::Inline(vec![1, 2, 3, 4]),
            }],
        }
    }

    fn metadata() -> SnapshotMetadata {
        SnapshotMetadata {
            job: spindle_common::id::JobId::from_bytes([1; 16]),
            checkpoint: spindle_common::checkpoint::CheckpointId(3),
            kind: spindle_common::checkpoint::SnapshotKind::Checkpoint,
            timestamp_ms: 0,
            operators: vec![OperatorMetadata {
                uid: "sum".to_owned(),
                name: "Sum".to_owned(),
                parallelism: 1,
                max_parallelism: 128,
                states: vec![state()],
                finished: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        let metadata = metadata();
        let of = |operator, state| {
            let wanted = Wanted {
                operator,
                state,
                limit: 1,
            };
            find(&metadata, &wanted).map(|(_, states)| states.len())
        };
        assert_eq!(of("sum", None).unwrap(), 1);
        assert_eq!(of("sum", Some("values")).unwrap(), 1);
        let error = of("count", None).unwrap_err();
        assert_eq!(error.hint_text(), Some("uids: sum"));
        let error = of("sum", Some("value")).unwrap_err();
        assert_eq!(error.hint_text(), Some("states: values"));
    }

    #[test]
    fn entries_are_lines_for_people_and_for_programs() {
        let (metadata, state) = (metadata(), state());
        let (operator, chunk) = (&metadata.operators[0], &state.chunks[0]);
        let entry = json!({"key": 1, "value": 2});
        let of = |format| line(operator, &state, chunk, &entry, format);
        assert_eq!(of(Format::Text), "  key group 7: key 1, value 2");
        assert_eq!(
            of(Format::Json),
            "{\"entry\":{\"key\":1,\"value\":2},\"key_group\":7,\"operator\":\"sum\",\"state\":\"values\"}"
        );
        let rest = Rest {
            why: "it is a secret".to_owned(),
            bytes: 4,
            first: "01020304".to_owned(),
        };
        let text = not_read(operator, &state, chunk, &rest, 2, Format::Text);
        assert_eq!(
            text,
            "  key group 7: 2 entries in 4 bytes cannot be read: it is a secret; they begin with 01020304"
        );
    }
}
