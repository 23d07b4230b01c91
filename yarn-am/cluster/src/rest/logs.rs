//! The log files of this process. A file is shown only if a listing of its directory names it: no name leads elsewhere.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use spindle_common::gateway::MAX_SHOWN_LOG;

use super::Failure;

/// The regular files in the directory; Flink: `LogListInfo`.
pub(super) fn list(directory: Option<&Path>) -> Result<Value, Failure> {
    let mut logs = Vec::new();
    for entry in entries(directory)? {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let since = metadata.modified().ok();
        let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        logs.push((
            name.clone(),
            json!({
                "name": name,
                "size": metadata.len(),
                "mtime": since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            }),
        ));
    }
    logs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let logs: Vec<Value> = logs.into_iter().map(|(_, log)| log).collect();
    Ok(json!({"logs": logs}))
}

/// The file of this name, or its end.
pub(super) fn show(directory: Option<&Path>, name: &str) -> Result<String, Failure> {
    let entry = entries(directory)?.find(|entry| entry.file_name().to_str() == Some(name));
    let Some(entry) = entry else {
        return Err(Failure::not_found(format!("there is no log file `{name}`")));
    };
    let unreadable =
        |error: std::io::Error| Failure::not_found(format!("`{name}` cannot be read: {error}"));
    let mut file = std::fs::File::open(entry.path()).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let from = length.saturating_sub(MAX_SHOWN_LOG);
    file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_SHOWN_LOG)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(end_of(from, &bytes))
}

/// The end of a file as it is shown: from a byte of it on.
pub(super) fn end_of(from: u64, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match from {
        0 => text.into_owned(),
        _ => format!("… {from} bytes before this are not shown\n{text}"),
    }
}

/// The main log: `jobmanager.log`, else the first file that ends in `.log`.
pub(super) fn main(directory: Option<&Path>) -> Result<String, Failure> {
    let mut names: Vec<String> = entries(directory)?
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".log"))
        .collect();
    names.sort_by_key(|name| (name != "jobmanager.log", name.clone()));
    match names.first() {
        Some(name) => show(directory, name),
        None => Err(Failure::not_found("there is no log file yet")),
    }
}

/// Regular files only: a link may lead anywhere.
fn entries(directory: Option<&Path>) -> Result<impl Iterator<Item = std::fs::DirEntry>, Failure> {
    let Some(directory) = directory else {
        return Err(Failure::not_found("this cluster keeps no log files"));
    };
    let entries = std::fs::read_dir(directory).map_err(|error| {
        Failure::not_found(format!("the directory of the logs cannot be read: {error}"))
    })?;
    Ok(entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())))
}
