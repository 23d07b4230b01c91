//! A directory that is watched for new files.
//!
//! Each subtask looks through the directory by itself and reads the files whose path falls to it: by a hash of the path, so that
//! nobody has to deal them out.
//!
//! **Invariant:** nothing is left out in silence. A file that is longer after it was read than when it was taken fails the job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use spindle_common::job_graph::SourceSplit;
use spindle_common::key_group::{key_group, key_hash};
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};
use spindle_hadoop::fs::{FileStatus, FileSystem, FsError, FsPath};

use super::error::task_error;
use super::format::{Decode, Format, ReadSettings, RecordPosition};
use super::input::{self, is_hidden};
use super::split::FileSplit;
use crate::connector::Source;
use crate::connectors::idle::Idle;
use crate::context::{IoContext, PlanContext, PlanError, SourceContext};

/// Reads the files of a directory, and those that come into it later, each once, by
/// [`FileSource::monitor_continuously`](super::FileSource::monitor_continuously).
///
/// A file is taken when two looks, one interval apart, have found it with the same length and modification time: so it appears one
/// to two intervals after it was finished, also if it was moved into place. An empty file has nothing to read and is waited for.
/// Names that start with `.` or `_` are not looked at, nor are directories. Files that are found at the same time are read in the
/// order of their modification times.
///
/// Whoever writes slowly, or to HDFS, where the length stands still while a block is written, has to write under a hidden name
/// and rename the file when it is complete. A file that grows after it was taken fails the job, with that advice; one that is only
/// touched is not read again; one that is deleted is forgotten, so that a new file may have its name.
///
/// Each subtask reads whole files, those whose paths hash to it, and asks the file system for the list of all in every interval.
///
/// ```
/// use std::time::Duration;
/// use spindle_stream::connectors::file::FileSource;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let uri = format!("file://{}", directory.path().display());
/// # std::fs::write(directory.path().join("1.jsonl"), "1\n2\n").unwrap();
/// # std::fs::write(directory.path().join("2.jsonl"), "3\n").unwrap();
/// # std::fs::write(directory.path().join("_SUCCESS"), "").unwrap();
/// let arriving = FileSource::json_lines::<u64>(uri)
///     .monitor_continuously(Duration::from_millis(100))
///     .until("_SUCCESS");
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness.env().source("arriving", arriving).collect("numbers");
/// assert_eq!(harness.run().unwrap().collected::<u64>("numbers"), [1, 2, 3]);
/// ```
#[derive(Debug, Clone)]
pub struct MonitoredFiles<F> {
    uri: String,
    interval: Duration,
    until: Option<String>,
    settings: ReadSettings,
    format: F,
}

impl<F> MonitoredFiles<F> {
    pub(super) const fn new(
        uri: String,
        interval: Duration,
        settings: ReadSettings,
        format: F,
    ) -> Self {
        Self {
            uri,
            interval,
            until: None,
            settings,
            format,
        }
    }

    /// Ends when a file of this name, such as the `_SUCCESS` that Hadoop's jobs leave, is in the directory and all other files were read.
    /// They are taken as they are then.
    #[must_use]
    pub fn until(mut self, name: impl Into<String>) -> Self {
        self.until = Some(name.into());
        self
    }

    /// A reader for one subtask, to be put back where another was with [`DirectoryReader::go_on`].
    ///
    /// # Errors
    /// If the splits are not this source's.
    #[expect(private_bounds, reason = "the formats are those of this module")]
    pub fn directory_reader<T>(
        &self,
        splits: &[SourceSplit],
        context: SourceContext,
    ) -> Result<DirectoryReader<T>, OperatorError>
    where
        F: Format<T>,
    {
        let fs = context.io.file_system();
        let fs = fs.map_err(|error| task_error(&error))?;
        let [split] = splits else {
            return Err(OperatorError::permanent(format!(
                "a subtask that watches a directory has 1 split, this one has {}",
                splits.len()
            )));
        };
        let directory = fs.resolve(&String::from_utf8_lossy(&split.payload));
        Ok(DirectoryReader {
            directory: directory.map_err(|error| task_error(&error))?,
            fs,
            decoder: Box::new(self.format.decoder(&context.io, &self.settings)),
            io: context.io,
            subtask: context.subtask,
            parallelism: context.parallelism,
            interval: self.interval,
            until: self.until.clone(),
            done: BTreeMap::new(),
            open: None,
            resumed: VecDeque::new(),
            ready: VecDeque::new(),
            candidates: BTreeMap::new(),
            looking: JoinSet::new(),
            next_look: Instant::now(),
            complete: false,
            idle: Idle::new(),
            looks: 0,
            bytes: 0,
        })
    }
}

impl<T: 'static, F: Format<T>> Source<T> for MonitoredFiles<F> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        let directory = input::directory(&self.uri, context)?.to_string();
        let split = |subtask| SourceSplit {
            name: format!("{directory} ({subtask}/{})", context.parallelism),
            payload: directory.clone().into_bytes(),
        };
        Ok((1..=context.parallelism).map(|n| vec![split(n)]).collect())
    }

    fn reader(
        &self,
        splits: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<T>>, OperatorError> {
        Ok(Box::new(self.directory_reader(&splits, context)?))
    }
}

/// What a file was when it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// Length in bytes.
    pub len: u64,
    /// Last modification, milliseconds since the epoch.
    pub mtime_ms: u64,
}

/// A file that was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// Its name in the directory.
    pub name: String,
    /// What it was when it was opened.
    pub mark: FileMark,
    /// Its next record.
    pub next: RecordPosition,
}

/// How far a subtask has come, for a snapshot. Those of several subtasks can be put together, and given to as many or to
/// others: each takes from it what is its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DirectoryPosition {
    /// The files that were read and are still in the directory, by name.
    pub done: BTreeMap<String, FileMark>,
    /// Those that are being read.
    pub open: Vec<OpenFile>,
}

/// Reads the files of a directory that fall to one subtask.
pub struct DirectoryReader<T> {
    io: Arc<IoContext>,
    fs: FileSystem,
    directory: FsPath,
    subtask: u32,
    parallelism: u32,
    interval: Duration,
    until: Option<String>,
    decoder: Box<dyn Decode<T>>,
    done: BTreeMap<String, FileMark>,
    /// What the decoder reads.
    open: Option<(String, FileMark)>,
    /// What somebody else had begun to read.
    resumed: VecDeque<OpenFile>,
    /// What is to be read next.
    ready: VecDeque<(String, FileMark)>,
    /// What the last look found for the first time, or changed.
    candidates: BTreeMap<String, FileMark>,
    /// At most one look at the directory, under way.
    looking: JoinSet<Result<Vec<FileStatus>, FsError>>,
    next_look: Instant,
    /// No more files will come.
    complete: bool,
    idle: Idle,
    /// How often it was looked through.
    looks: u64,
    /// Bytes of the files that were read.
    bytes: u64,
}

impl<T: 'static> DirectoryReader<T> {
    /// How far it has come.
    pub fn position(&self) -> DirectoryPosition {
        let open = self.open.as_ref().map(|(name, mark)| OpenFile {
            name: name.clone(),
            mark: *mark,
            next: self.decoder.position(),
        });
        DirectoryPosition {
            done: self.done.clone(),
            open: open
                .into_iter()
                .chain(self.resumed.iter().cloned())
                .collect(),
        }
    }

    /// How often the directory was looked through.
    pub const fn looks(&self) -> u64 {
        self.looks
    }

    /// Goes on where others were.
    pub fn go_on(&mut self, position: DirectoryPosition) {
        let DirectoryPosition { done, open } = position;
        self.done = done
            .into_iter()
            .filter(|(name, _)| self.owns(name))
            .collect();
        self.resumed = open
            .into_iter()
            .filter(|file| self.owns(&file.name))
            .collect();
    }

    /// Whether a file falls to this subtask.
    fn owns(&self, name: &str) -> bool {
        let path = format!("{}/{name}", self.directory);
        key_group(key_hash(path.as_str()), self.parallelism).0 == self.subtask
    }

    /// Starts a look at the directory when it is time for it, and takes what one has found. Waits for a short while if there
    /// is nothing to do before.
    fn look(&mut self, may_wait: bool) -> Result<(), OperatorError> {
        let now = Instant::now();
        if self.looking.is_empty() && !self.complete {
            if now >= self.next_look {
                let (fs, directory) = (self.fs.clone(), self.directory.clone());
                let look = async move { fs.list(&directory).await };
                self.looking.spawn_on(look, self.io.handle());
            } else if may_wait {
                let wait = self.idle.next_wait(Some(self.next_look - now));
                self.io.block_on(async { tokio::time::sleep(wait).await });
                return Ok(());
            }
        }
        let found = if may_wait {
            let wait = self.idle.next_wait(None);
            let found = async { tokio::time::timeout(wait, self.looking.join_next()).await };
            self.io.block_on(found).ok().flatten()
        } else {
            self.looking.try_join_next()
        };
        let Some(found) = found else {
            return Ok(());
        };
        let found = found.map_err(|error| {
            OperatorError::transient(format!("cannot look through `{}`: {error}", self.directory))
        })?;
        let found = found.map_err(|error| self.cannot_look(&error))?;
        self.next_look = Instant::now() + self.interval;
        self.looks += 1;
        self.take(found)
    }

    fn cannot_look(&self, error: &FsError) -> OperatorError {
        let error = task_error(error);
        // It was there when the job was planned, and may be again.
        OperatorError::transient(format!(
            "cannot look through `{}` for new files: {error}",
            self.directory
        ))
    }

    /// Compares what a look has found with what is known.
    fn take(&mut self, found: Vec<FileStatus>) -> Result<(), OperatorError> {
        let until = self.until.as_deref();
        self.complete = until.is_some()
            && found
                .iter()
                .any(|file| !file.is_dir && file.path.name() == until);
        let mut there = BTreeMap::new();
        for file in found {
            let Some(name) = file.path.name() else {
                continue;
            };
            let mine = !file.is_dir && !is_hidden(&file.path) && until != Some(name);
            if mine && self.owns(name) {
                let mark = FileMark {
                    len: file.len,
                    mtime_ms: file.mtime_ms,
                };
                there.insert(name.to_owned(), mark);
            }
        }
        self.done.retain(|name, _| there.contains_key(name));
        let known = |name: &str| {
            self.open.as_ref().is_some_and(|(open, _)| open == name)
                || self.resumed.iter().any(|file| file.name == name)
        };
        let mut ready = Vec::new();
        let mut candidates = BTreeMap::new();
        for (name, mark) in there {
            if let Some(done) = self.done.get_mut(&name) {
                if done.len != mark.len {
                    return Err(grown(&self.directory, &name, done.len, mark.len));
                }
                if *done != mark {
                    tracing::warn!(directory = %self.directory, name, "a file that was read already was touched, and is not read again");
                    *done = mark;
                }
            } else if known(&name) || mark.len == 0 {
                // Looked at when it is read to its end, or has something to read.
            } else if self.complete || self.candidates.get(&name) == Some(&mark) {
                ready.push((name.clone(), mark));
                candidates.insert(name, mark);
            } else {
                candidates.insert(name, mark);
            }
        }
        ready.sort_by(|(a, a_mark), (b, b_mark)| (a_mark.mtime_ms, a).cmp(&(b_mark.mtime_ms, b)));
        self.candidates = candidates;
        self.ready = ready.into();
        Ok(())
    }

    /// Opens the next file; false if there is none.
    fn open_next(&mut self) -> Result<bool, OperatorError> {
        loop {
            let (name, mark, from) = match (self.resumed.pop_front(), self.ready.pop_front()) {
                (Some(file), ready) => {
                    ready
                        .into_iter()
                        .for_each(|ready| self.ready.push_front(ready));
                    (file.name, file.mark, Some(file.next))
                }
                (None, Some((name, mark))) => (name, mark, None),
                (None, None) => return Ok(false),
            };
            let path = self
                .directory
                .join(&name)
                .map_err(|error| task_error(&error))?;
            match self.io.block_on(self.fs.stat(&path)) {
                Ok(_) => {}
                Err(FsError::NotFound { .. }) => {
                    tracing::warn!(%path, "a new file was deleted before it could be read");
                    continue;
                }
                Err(error) => return Err(task_error(&error)),
            }
            let split = FileSplit {
                file: path.to_string(),
                file_len: mark.len,
                start: 0,
                end: mark.len,
            };
            self.decoder.open(&split, from)?;
            self.open = Some((name, mark));
            return Ok(true);
        }
    }

    /// The open file was read to its end: it must be what it was when it was opened.
    fn finish(&mut self, name: String, mark: FileMark) -> Result<(), OperatorError> {
        let path = self
            .directory
            .join(&name)
            .map_err(|error| task_error(&error))?;
        match self.io.block_on(self.fs.stat(&path)) {
            Ok(status) if status.len != mark.len => {
                return Err(grown(&self.directory, &name, mark.len, status.len));
            }
            Ok(_) => {}
            Err(FsError::NotFound { .. }) => {
                tracing::warn!(%path, "a file was deleted while it was read; all of it was read");
            }
            Err(error) => return Err(task_error(&error)),
        }
        self.bytes += mark.len;
        self.done.insert(name, mark);
        Ok(())
    }
}

fn grown(directory: &FsPath, name: &str, was: u64, is: u64) -> OperatorError {
    OperatorError::permanent(format!(
        "`{directory}/{name}` changed after it was taken for complete: it had {was} bytes and has {is} now; write files that a job watches for under a name that starts with `.` or `_`, and rename them when they are complete"
    ))
}

impl<T: 'static> SourceReader<T> for DirectoryReader<T> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        self.look(false)?;
        if self.open.is_none() && !self.open_next()? {
            if self.complete && self.looking.is_empty() {
                return Ok(SourceStatus::EndOfInput);
            }
            self.look(true)?;
            return Ok(SourceStatus::More);
        }
        self.idle.reset();
        if !self.decoder.decode(&mut out.records, BATCH_RECORDS)?
            && let Some((name, mark)) = self.open.take()
        {
            self.finish(name, mark)?;
        }
        Ok(SourceStatus::More)
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        let position = serde_json::to_vec(&self.position());
        Ok(Some(vec![
            position.expect("names and numbers are always JSON"),
        ]))
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        let mut all = DirectoryPosition::default();
        for entry in entries {
            let one: DirectoryPosition = serde_json::from_slice(&entry).map_err(|error| {
                OperatorError::permanent(format!(
                    "the snapshot does not say what was read of `{}`: {error}",
                    self.directory
                ))
            })?;
            all.done.extend(one.done);
            all.open.extend(one.open);
        }
        self.go_on(all);
        Ok(())
    }

    fn is_given_all(&self) -> bool {
        true
    }

    fn state_type(&self) -> &'static str {
        "files of a directory"
    }

    fn bytes_read(&self) -> u64 {
        self.bytes + self.open.as_ref().map_or(0, |_| self.decoder.file_offset())
    }
}
