//! Which files an input path means.

use spindle_common::job_graph::SourceSplit;
use spindle_hadoop::fs::{FileStatus, FileSystem, FsError, FsPath};

use super::error::plan_error;
use super::split::{Cutting, FileSplit, InputFile, divide};
use crate::context::{PlanContext, PlanError};

/// Names that are listed when a path does not exist.
const NEIGHBOURS: usize = 10;

/// Finds the files and divides them between the subtasks.
pub(super) fn plan(
    uri: &str,
    cutting: Cutting,
    context: &PlanContext,
    input_file: impl Fn(String, u64) -> InputFile,
) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
    let fs = context
        .io
        .file_system()
        .map_err(|error| plan_error(&error))?;
    let files = context.io.block_on(find(&fs, uri))?;
    let files: Vec<_> = files
        .into_iter()
        .map(|file| input_file(file.path.to_string(), file.len))
        .collect();
    let lists = divide(&files, context.parallelism, cutting);
    let encode = |list: Vec<FileSplit>| list.iter().map(FileSplit::encode).collect();
    Ok(lists.into_iter().map(encode).collect())
}

/// Whether a file with this name is no input, but somebody's mark or unfinished work.
pub(super) fn is_hidden(path: &FsPath) -> bool {
    path.name().is_some_and(|name| name.starts_with(['.', '_']))
}

/// The directory that is to be watched.
pub(super) fn directory(uri: &str, context: &PlanContext) -> Result<FsPath, PlanError> {
    let fs = context.io.file_system();
    let fs = fs.map_err(|error| plan_error(&error))?;
    let path = fs.resolve(uri).map_err(|error| plan_error(&error))?;
    context.io.block_on(async {
        match fs.stat(&path).await {
            Ok(status) if status.is_dir => Ok(path),
            Ok(_) => Err(PlanError::Input(format!(
                "input `{path}` is a file: only a directory can be watched for new files"
            ))),
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => {
                let neighbours = neighbours(&fs, &path).await?;
                Err(PlanError::Input(format!(
                    "directory `{path}`, which is to be watched for new files, does not exist{neighbours}"
                )))
            }
            Err(error) => Err(plan_error(&error)),
        }
    })
}

async fn find(fs: &FileSystem, uri: &str) -> Result<Vec<FileStatus>, PlanError> {
    let path = fs.resolve(uri).map_err(|error| plan_error(&error))?;
    match fs.stat(&path).await {
        // Also a name that only looks like a pattern.
        Ok(status) if !status.is_dir => return Ok(vec![status]),
        Ok(_) => return files_of(fs, &path).await,
        Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => {}
        Err(error) => return Err(plan_error(&error)),
    }
    if !FileSystem::is_glob(uri) {
        let neighbours = neighbours(fs, &path).await?;
        return Err(PlanError::Input(format!(
            "input `{path}` does not exist{neighbours}"
        )));
    }
    let mut files = Vec::new();
    for found in fs.glob(uri).await.map_err(|error| plan_error(&error))? {
        if is_hidden(&found.path) {
            continue;
        }
        if found.is_dir {
            files.extend(files_of(fs, &found.path).await?);
        } else {
            files.push(found);
        }
    }
    if files.is_empty() {
        return Err(PlanError::Input(format!(
            "input pattern `{path}` matches no file"
        )));
    }
    // A directory and a file in it may both have matched.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

/// The visible files of a directory.
async fn files_of(fs: &FileSystem, directory: &FsPath) -> Result<Vec<FileStatus>, PlanError> {
    let entries = fs.list(directory).await;
    let mut entries = entries.map_err(|error| plan_error(&error))?;
    entries.retain(|entry| !is_hidden(&entry.path));
    if !entries.is_empty() && entries.iter().all(|entry| entry.is_dir) {
        return Err(PlanError::Input(format!(
            "input `{directory}` holds only directories, and what is in them is not read: did you mean `{directory}/*`?"
        )));
    }
    entries.retain(|entry| !entry.is_dir);
    Ok(entries)
}

/// What is there instead, as the end of a sentence.
async fn neighbours(fs: &FileSystem, missing: &FsPath) -> Result<String, PlanError> {
    let Some(parent) = missing.parent() else {
        return Ok(String::new());
    };
    let entries = match fs.list(&parent).await {
        Ok(entries) => entries,
        Err(error) if error.is_unreachable() => return Err(plan_error(&error)),
        // It only would have helped.
        Err(FsError::NotFound { .. }) => return Ok(format!(", and neither does `{parent}`")),
        Err(_) => return Ok(String::new()),
    };
    let mut names: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.path.name())
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        return Ok(format!(": `{parent}` is empty"));
    }
    let more = names.len().saturating_sub(NEIGHBOURS);
    names.truncate(NEIGHBOURS);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Ok(format!(": `{parent}` holds {}{more}", names.join(", ")))
}
