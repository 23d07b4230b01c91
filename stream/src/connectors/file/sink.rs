//! Files as a sink: one part file per subtask, moved into place when the whole job has written all of its output.
//!
//! ```text
//! <output>/.spindle-staging/<job>/<subtask>-<attempt>/part-00003.csv    while it is written, and until the job commits
//! <output>/part-00003.csv                                               from then on
//! ```
//! **Invariant:** what is visible in the output directory is complete. A staged file is closed, and so durable, before its task
//! says that it has finished; it is moved only once all tasks have.

use std::fmt::{self, Display};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, Sink};
use spindle_hadoop::fs::{
    CreateOptions, FileStatus, FileSystem, FileWriter, FsError, FsPath, Scheme,
};

use super::encode::{CsvEncoder, CsvRows, EXTENSIONS, Encode, JsonObjects, TextLines};
use super::error::{plan_error, task_error};
use super::input::is_hidden;
use crate::connector::{SinkFactory, SinkPlan};
use crate::context::{IoContext, PlanContext, PlanError, SinkContext};

/// Below the output directory, so that moving a file never leaves its file system. Known before the job's id is.
const STAGING: &str = ".spindle-staging";
/// Permission bits of the directories that are made.
const DIRECTORY_MODE: u32 = 0o755;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Writes part files into a directory, `part-00000` for the first subtask. Flink: `FileSink`, bounded.
///
/// They appear when the whole job has succeeded, and are replaced, never added to, if it has to start again. The directory must
/// not hold anything visible before, unless [`Self::overwrite`] allows it. No two sinks can share a directory, nor two
/// jobs at the same time: the one that ends later fails.
#[derive(Debug, Clone)]
pub struct FileSink<F> {
    uri: String,
    overwrite: bool,
    pub(super) format: F,
}

impl FileSink<TextLines> {
    /// One line of text for each record, into `part-<subtask>.txt`.
    pub fn text(uri: impl Into<String>) -> Self {
        Self::new(uri, TextLines(()))
    }
}

impl FileSink<CsvRows> {
    /// One row for each record, under a header with the names of its fields, into `part-<subtask>.csv`.
    ///
    /// Each part file has the header, so each can be read by itself. Where a subtask gets no record, the names are those by which
    /// the record is read (`Deserialize`), and a record that is no struct, such as a map, leaves an empty file.
    pub fn csv(uri: impl Into<String>) -> Self {
        Self::new(uri, CsvRows(()))
    }
}

impl FileSink<JsonObjects> {
    /// One line of JSON for each record, into `part-<subtask>.jsonl`.
    ///
    /// ```
    /// use spindle_stream::connectors::file::FileSink;
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let uri = format!("file://{}/out", directory.path().display());
    /// # let part = directory.path().join("out/part-00000.jsonl");
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().generate(3, |n| (n, "a".repeat(n as usize))).sink_to(FileSink::json_lines(uri));
    /// harness.run().unwrap();
    /// assert_eq!(std::fs::read_to_string(part).unwrap(), "[0,\"\"]\n[1,\"a\"]\n[2,\"aa\"]\n");
    /// ```
    pub fn json_lines(uri: impl Into<String>) -> Self {
        Self::new(uri, JsonObjects(()))
    }
}

impl<F> FileSink<F> {
    pub(super) fn new(uri: impl Into<String>, format: F) -> Self {
        Self {
            uri: uri.into(),
            overwrite: false,
            format,
        }
    }

    /// Whether the part files of an earlier job may be replaced, all of them. Anything else in the directory is still refused.
    #[must_use]
    pub const fn overwrite(mut self, allowed: bool) -> Self {
        self.overwrite = allowed;
        self
    }

    pub(super) fn check(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        let fs = context.io.file_system();
        let fs = fs.map_err(|error| plan_error(&error))?;
        let output = fs.resolve(&self.uri).map_err(|error| plan_error(&error))?;
        let staging = output.join(STAGING).map_err(|error| plan_error(&error))?;
        context.io.block_on(self.check_output(&fs, &output))?;
        Ok(SinkPlan {
            staging: vec![staging.to_string()],
        })
    }

    async fn check_output(&self, fs: &FileSystem, output: &FsPath) -> Result<(), PlanError> {
        let there = match fs.stat(output).await {
            Ok(status) => status,
            Err(FsError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(plan_error(&error)),
        };
        if !there.is_dir {
            return Err(PlanError::Input(format!(
                "output `{output}` is a file: choose a directory, which need not exist"
            )));
        }
        let entries = fs.list(output).await.map_err(|error| plan_error(&error))?;
        let mut visible = entries.iter().filter(|entry| !is_hidden(&entry.path));
        if !self.overwrite {
            return match visible.next() {
                None => Ok(()),
                Some(_) => Err(PlanError::Input(format!(
                    "output `{output}` already exists: remove it or choose another"
                ))),
            };
        }
        match visible.find(|entry| entry.is_dir || part_of(&entry.path).is_none()) {
            None => Ok(()),
            Some(foreign) => Err(PlanError::Input(format!(
                "output `{output}` holds `{}`, which is no part file of an earlier job: remove it or choose another output",
                foreign.path.name().unwrap_or_default()
            ))),
        }
    }

    pub(super) fn open<T: 'static>(
        &self,
        context: &SinkContext,
        encoder: impl Encode<T>,
    ) -> Result<Box<dyn Sink<T>>, OperatorError> {
        PartFile::create(&self.uri, self.overwrite, context, encoder)
            .map(|file| Box::new(file) as Box<dyn Sink<T>>)
    }
}

impl<T: Display + 'static> SinkFactory<T> for FileSink<TextLines> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        self.open(&context, self.format)
    }
}

impl<T: Serialize + 'static> SinkFactory<T> for FileSink<JsonObjects> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        self.open(&context, self.format)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> SinkFactory<T> for FileSink<CsvRows> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        self.open(&context, CsvEncoder { header: true })
    }
}

/// Name of the part file of a subtask.
fn part_name(subtask: u32, extension: &str) -> String {
    format!("part-{subtask:05}.{extension}")
}

/// The subtask whose part file has this path, if it is a part file.
fn part_of(path: &FsPath) -> Option<u32> {
    let name = path.name()?;
    let (part, extension) = name.split_once('.')?;
    let subtask = part.strip_prefix("part-")?.parse().ok()?;
    (EXTENSIONS.contains(&extension) && name == part_name(subtask, extension)).then_some(subtask)
}

/// The part file of one attempt of one subtask.
struct PartFile<E> {
    io: Arc<IoContext>,
    fs: FileSystem,
    encoder: E,
    buffer: Vec<u8>,
    written: u64,
    state: State,
    staged: FsPath,
    target: FsPath,
    /// What subtask 0 removes before it commits: other part files than those of this many subtasks with this extension.
    replaces: Option<(u32, &'static str)>,
}

enum State {
    Writing(FileWriter),
    /// Closed, as it then was.
    Staged(FileStatus),
    Broken,
}

impl<E> fmt::Debug for PartFile<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartFile({})", self.target)
    }
}

impl<E> PartFile<E> {
    fn create<T>(
        uri: &str,
        overwrite: bool,
        context: &SinkContext,
        encoder: E,
    ) -> Result<Self, OperatorError>
    where
        E: Encode<T>,
    {
        let create = || {
            let fs = context.io.file_system()?;
            let output = fs.resolve(uri)?;
            let execution = &context.execution;
            let name = part_name(execution.subtask, E::EXTENSION);
            let attempt = output.join(&format!(
                "{STAGING}/{}/{}-{}",
                context.job, execution.subtask, execution.attempt
            ))?;
            let staged = attempt.join(&name)?;
            // Not to be replaced: no other attempt writes there, unless another sink has the same directory.
            let options = CreateOptions::default();
            let writer = context.io.block_on(async {
                // Directories that HDFS makes for a new file could be written by anybody.
                fs.mkdirs(&attempt, DIRECTORY_MODE).await?;
                fs.create(&staged, &options).await
            })?;
            let first = overwrite && execution.subtask == 0;
            Ok(Self {
                io: Arc::clone(&context.io),
                encoder,
                buffer: Vec::new(),
                written: 0,
                state: State::Writing(writer),
                target: output.join(&name)?,
                staged,
                fs,
                replaces: first.then_some((context.parallelism, E::EXTENSION)),
            })
        };
        create().map_err(|error: FsError| {
            if let FsError::AlreadyExists { path, .. } = error {
                OperatorError::permanent(format!(
                    "`{path}` already exists: do two sinks of the job write into `{uri}`?"
                ))
            } else {
                task_error(&error)
            }
        })
    }

    /// Writes what was gathered.
    fn write_out(&mut self) -> Result<(), OperatorError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let State::Writing(writer) = &mut self.state else {
            return Err(out_of_order("written", &self.target));
        };
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.written += bytes.len() as u64;
        let written = self.io.block_on(writer.write_bytes(bytes));
        written.map_err(|error| task_error(&error))
    }

    fn close(&mut self) -> Result<(), FsError> {
        let State::Writing(mut writer) = std::mem::replace(&mut self.state, State::Broken) else {
            return Ok(());
        };
        let status = self.io.block_on(async {
            // HDFS has a closed file on its DataNodes; a local one may still be nowhere but in memory.
            if self.staged.scheme() == Scheme::File {
                writer.hsync().await?;
            }
            writer.close().await?;
            self.fs.stat(&self.staged).await
        })?;
        self.state = State::Staged(status);
        Ok(())
    }

    /// Moves the staged file to its place, or finds that this has happened.
    async fn move_into_place(&self, staged: &FileStatus) -> Result<(), FsError> {
        let moved = self.fs.rename(&self.staged, &self.target, true).await;
        let Err(error) = moved else {
            return Ok(());
        };
        // An earlier try may have succeeded without our hearing of it. A file keeps length and time when it is moved.
        match self.fs.stat(&self.target).await {
            Ok(there)
                if (there.len, there.mtime_ms) == (staged.len, staged.mtime_ms)
                    && !self.fs.exists(&self.staged).await? =>
            {
                Ok(())
            }
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Removes the part files of an earlier job that no subtask of this one replaces.
    async fn remove_stale(&self, parallelism: u32, extension: &str) -> Result<(), FsError> {
        let Some(output) = self.target.parent() else {
            return Ok(());
        };
        for entry in self.fs.list(&output).await? {
            let Some(subtask) = part_of(&entry.path) else {
                continue;
            };
            let name = entry.path.name();
            let ours =
                subtask < parallelism && name == Some(part_name(subtask, extension).as_str());
            if !ours {
                self.fs.delete(&entry.path, false).await?;
            }
        }
        Ok(())
    }
}

impl<T, E: Encode<T>> Sink<T> for PartFile<E> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        let encoded = self.encoder.encode(&batch.records, &mut self.buffer);
        encoded.map_err(|error| {
            OperatorError::permanent(format!(
                "cannot write a record into `{}`: {error}",
                self.target
            ))
        })?;
        if self.buffer.len() >= BUFFER {
            self.write_out()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        let ended = self.encoder.end(&mut self.buffer);
        ended.map_err(|error| {
            OperatorError::permanent(format!("cannot end `{}`: {error}", self.target))
        })?;
        self.write_out()?;
        self.close().map_err(|error| task_error(&error))?;
        Ok(true)
    }

    fn commit(&mut self) -> Result<(), OperatorError> {
        let State::Staged(staged) = &self.state else {
            return Err(out_of_order("committed", &self.target));
        };
        let commit = async {
            if let Some((parallelism, extension)) = self.replaces {
                self.remove_stale(parallelism, extension).await?;
            }
            self.move_into_place(staged).await
        };
        self.io.block_on(commit).map_err(|error| task_error(&error))
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}

fn out_of_order(what: &str, target: &FsPath) -> OperatorError {
    OperatorError::permanent(format!(
        "`{target}` is {what} at a time when it cannot be: the task calls its sink in the wrong order"
    ))
}
