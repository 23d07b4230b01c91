//! The part files of one attempt of one subtask: written, closed, and moved into place when it is time.

mod name;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spindle_common::checkpoint::CheckpointId;
use spindle_common::id::JobId;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, Sink};
use spindle_hadoop::fs::{
    CreateOptions, FileStatus, FileSystem, FileWriter, FsError, FsPath, Scheme,
};
use tokio::task::{JoinHandle, JoinSet};

use super::encode::Encode;
use super::error::task_error;
use super::sink::STAGING;
use crate::context::{IoContext, SinkContext};
pub(super) use name::is_part;
use name::{Part, part_name, part_of, resumed_part_name, rolled_name};

/// Permission bits of the directories that are made.
const DIRECTORY_MODE: u32 = 0o755;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;
/// How long HDFS may take to close a file that a dead process left open.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const RECOVERY_LOOK: Duration = Duration::from_millis(100);

/// A part file that is closed, or being closed, and not yet in its place. As a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Prepared {
    staged: String,
    target: String,
}

/// Makes an encoder for a new file.
pub(super) type MakeEncoder<E> = Box<dyn Fn() -> Result<E, String> + Send>;

/// The part files of one attempt of one subtask.
pub(super) struct PartFiles<E> {
    io: Arc<IoContext>,
    fs: FileSystem,
    make: MakeEncoder<E>,
    encoder: E,
    buffer: Vec<u8>,
    written: u64,
    job: JobId,
    subtask: u32,
    extension: &'static str,
    output: FsPath,
    /// Where this attempt writes.
    attempt: FsPath,
    /// Files that were begun, the open one included.
    files: u64,
    state: State,
    /// Whether the open file has records.
    has_records: bool,
    /// Files that are durable and not yet closed, by their path.
    closing: HashMap<String, JoinHandle<Result<(), FsError>>>,
    /// Files on the way to their places.
    moving: JoinSet<Result<(), FsError>>,
    /// What subtask 0 removes before it commits: part files of earlier jobs, that is others than this job's and the last ones of this
    /// many subtasks.
    replaces: Option<u32>,
}

enum State {
    /// No file is open: one was closed at a checkpoint, and nothing came since.
    Between,
    Writing(FileWriter, FsPath),
    /// Closed at the end of input, as it then was.
    Staged(FileStatus),
    Broken,
}

impl<E> fmt::Debug for PartFiles<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartFiles({} of {})", self.subtask, self.output)
    }
}

impl<E> PartFiles<E> {
    pub(super) fn create<T>(
        uri: &str,
        overwrite: bool,
        context: &SinkContext,
        make: MakeEncoder<E>,
    ) -> Result<Self, OperatorError>
    where
        E: Encode<T>,
    {
        let encoder = make().map_err(OperatorError::permanent)?;
        let paths = || {
            let fs = context.io.file_system()?;
            let output = fs.resolve(uri)?;
            let execution = &context.execution;
            let attempt = output.join(&format!(
                "{STAGING}/{}/{}-{}",
                context.job, execution.subtask, execution.attempt
            ))?;
            // Directories that HDFS makes for a new file could be written by anybody.
            context.io.block_on(fs.mkdirs(&attempt, DIRECTORY_MODE))?;
            Ok((fs, output, attempt))
        };
        let (fs, output, attempt) = paths().map_err(|error: FsError| task_error(&error))?;
        let subtask = context.execution.subtask;
        let mut files = Self {
            io: Arc::clone(&context.io),
            fs,
            make,
            encoder,
            buffer: Vec::new(),
            written: 0,
            job: context.job,
            subtask,
            extension: E::EXTENSION,
            output,
            attempt,
            files: 0,
            state: State::Between,
            has_records: false,
            closing: HashMap::new(),
            moving: JoinSet::new(),
            replaces: (overwrite && subtask == 0).then_some(context.parallelism),
        };
        files.open()?;
        Ok(files)
    }

    /// Begins a new file.
    fn open(&mut self) -> Result<(), OperatorError> {
        let name = part_name(self.subtask, self.extension);
        let name = match self.files {
            0 => name,
            more => format!("{more}-{name}"),
        };
        self.files += 1;
        let create = || {
            let staged = self.attempt.join(&name)?;
            // Not to be replaced: no other attempt writes there, unless another sink has the same directory.
            let options = CreateOptions::default();
            let writer = self.io.block_on(self.fs.create(&staged, &options))?;
            Ok(State::Writing(writer, staged))
        };
        self.state = create().map_err(|error: FsError| {
            if let FsError::AlreadyExists { path, .. } = error {
                OperatorError::permanent(format!(
                    "`{path}` already exists: do two sinks of the job write into `{}`?",
                    self.output
                ))
            } else {
                task_error(&error)
            }
        })?;
        Ok(())
    }

    /// Writes what was gathered.
    fn write_out(&mut self) -> Result<(), OperatorError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let State::Between = self.state {
            self.open()?;
        }
        let State::Writing(writer, _) = &mut self.state else {
            return Err(self.out_of_order("written"));
        };
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.written += bytes.len() as u64;
        let written = self.io.block_on(writer.write_bytes(bytes));
        written.map_err(|error| task_error(&error))
    }

    /// Ends the open file's content.
    fn end_content<T>(&mut self) -> Result<(), OperatorError>
    where
        E: Encode<T>,
    {
        let ended = self.encoder.end(&mut self.buffer);
        ended.map_err(|error| {
            OperatorError::permanent(format!(
                "cannot end a part file of `{}`: {error}",
                self.output
            ))
        })?;
        self.write_out()
    }

    fn close(&mut self) -> Result<(), FsError> {
        let State::Writing(mut writer, staged) = std::mem::replace(&mut self.state, State::Broken)
        else {
            return Ok(());
        };
        let status = self.io.block_on(async {
            // HDFS has a closed file on its DataNodes; a local one may still be nowhere but in memory.
            if staged.scheme() == Scheme::File {
                writer.hsync().await?;
            }
            writer.close().await?;
            self.fs.stat(&staged).await
        })?;
        self.state = State::Staged(status);
        Ok(())
    }

    /// Makes the open file durable, has it closed meanwhile, and says where it is and shall be.
    fn roll(&mut self, checkpoint: CheckpointId) -> Result<Prepared, FsError> {
        let name = rolled_name(self.subtask, checkpoint, self.job, self.extension);
        let target = self.output.join(&name)?;
        let State::Writing(mut writer, staged) = std::mem::replace(&mut self.state, State::Broken)
        else {
            unreachable!("a file that has records is open");
        };
        self.io.block_on(writer.hsync())?;
        let closed = self.io.handle().spawn(writer.close());
        self.closing.insert(staged.to_string(), closed);
        self.state = State::Between;
        Ok(Prepared {
            staged: staged.to_string(),
            target: target.to_string(),
        })
    }

    /// Waits for all files that are on the way to their places.
    fn settle(&mut self) -> Result<(), OperatorError> {
        let moving = &mut self.moving;
        let all = async {
            while let Some(moved) = moving.join_next().await {
                moved
                    .map_err(|error| OperatorError::transient(error.to_string()))?
                    .map_err(|error| task_error(&error))?;
            }
            Ok(())
        };
        self.io.block_on(all)
    }

    /// Removes the part files of an earlier job that none of this one replaces. Once.
    fn remove_stale(&mut self) -> Result<(), OperatorError> {
        let Some(parallelism) = self.replaces.take() else {
            return Ok(());
        };
        let job = self.job.to_string();
        let own = |path: &FsPath| match part_of(path) {
            Some(Part::Last { subtask }) => {
                subtask < parallelism
                    && path.name() == Some(part_name(subtask, self.extension).as_str())
            }
            Some(Part::OfJob { job: of }) => of == job,
            None => true,
        };
        let remove = async {
            for entry in self.fs.list(&self.output).await? {
                if !own(&entry.path) {
                    self.fs.delete(&entry.path, false).await?;
                }
            }
            Ok(())
        };
        self.io
            .block_on(remove)
            .map_err(|error: FsError| task_error(&error))
    }

    fn out_of_order(&self, what: &str) -> OperatorError {
        OperatorError::permanent(format!(
            "a part file of `{}` is {what} at a time when it cannot be: the task calls its sink in the wrong order",
            self.output
        ))
    }
}

/// Moves a staged file to its place, or finds that this has happened.
async fn move_into_place(
    fs: &FileSystem,
    staged: &FileStatus,
    target: &FsPath,
) -> Result<(), FsError> {
    let Err(error) = fs.rename(&staged.path, target, true).await else {
        return Ok(());
    };
    // An earlier try may have succeeded without our hearing of it. A file keeps length and time when it is moved.
    match fs.stat(target).await {
        Ok(there)
            if (there.len, there.mtime_ms) == (staged.len, staged.mtime_ms)
                && !fs.exists(&staged.path).await? =>
        {
            Ok(())
        }
        Ok(_) | Err(_) => Err(error),
    }
}

/// Makes a prepared file visible, once it is closed, or finds that this has happened: nothing else has its name.
async fn make_visible(
    fs: FileSystem,
    prepared: Prepared,
    closing: Option<JoinHandle<Result<(), FsError>>>,
) -> Result<(), FsError> {
    let (staged, target) = (fs.resolve(&prepared.staged)?, fs.resolve(&prepared.target)?);
    match closing {
        Some(closing) => {
            if let Ok(closed) = closing.await {
                closed?;
            }
        }
        None => close_abandoned(&fs, &staged).await?,
    }
    match fs.rename(&staged, &target, true).await {
        Err(FsError::NotFound { .. }) if fs.exists(&target).await? => Ok(()),
        moved => moved,
    }
}

/// Sees to it that a file is closed whose writer may be dead.
async fn close_abandoned(fs: &FileSystem, staged: &FsPath) -> Result<(), FsError> {
    if staged.scheme() == Scheme::File {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match fs.recover_lease(staged).await {
            Ok(true) | Err(FsError::NotFound { .. }) => return Ok(()),
            Ok(false) if begun.elapsed() < RECOVERY_LIMIT => {
                tokio::time::sleep(RECOVERY_LOOK).await;
            }
            // Renamed all the same, it would be seen incomplete.
            Ok(false) => {
                return Err(FsError::InvalidPath {
                    text: staged.to_string(),
                    reason: "HDFS has not closed it within a minute, though its writer is gone",
                });
            }
            Err(error) => return Err(error),
        }
    }
}

impl<T, E: Encode<T>> Sink<T> for PartFiles<E> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        let encoded = self.encoder.encode(&batch.records, &mut self.buffer);
        encoded.map_err(|error| {
            OperatorError::permanent(format!(
                "cannot write a record into a part file of `{}`: {error}",
                self.output
            ))
        })?;
        self.has_records |= !batch.is_empty();
        if self.buffer.len() >= BUFFER {
            self.write_out()?;
        }
        Ok(())
    }

    fn prepare_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>, OperatorError> {
        // What an earlier checkpoint has promised is kept before the next one forgets it.
        self.settle()?;
        if !std::mem::take(&mut self.has_records) {
            return Ok(Vec::new());
        }
        self.end_content()?;
        if let State::Between = self.state {
            // An encoder may have kept all to itself until now, and may still.
            self.open()?;
        }
        let prepared = self.roll(checkpoint).map_err(|error| task_error(&error))?;
        self.encoder = (self.make)().map_err(OperatorError::permanent)?;
        Ok(vec![
            serde_json::to_vec(&prepared).expect("two texts are always JSON"),
        ])
    }

    fn commit_prepared(&mut self, prepared: &[Vec<u8>]) -> Result<(), OperatorError> {
        self.remove_stale()?;
        for prepared in prepared {
            let prepared: Prepared = serde_json::from_slice(prepared).map_err(|error| {
                OperatorError::permanent(format!(
                    "the snapshot names no part file of `{}`: {error}",
                    self.output
                ))
            })?;
            let closing = self.closing.remove(&prepared.staged);
            let visible = make_visible(self.fs.clone(), prepared, closing);
            self.moving.spawn_on(visible, self.io.handle());
        }
        Ok(())
    }

    fn state_type(&self) -> &'static str {
        "part files"
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        self.settle()?;
        // Without a checkpoint there is a file in any case, even an empty one.
        let first = self.files == 1 && matches!(self.state, State::Writing(..));
        if self.has_records || first {
            self.end_content()?;
            if let State::Between = self.state {
                return Ok(false);
            }
            self.close().map_err(|error| task_error(&error))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn prepare_finished(
        &mut self,
        checkpoint: CheckpointId,
    ) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        self.settle()?;
        let State::Staged(staged) = &self.state else {
            return Ok(Some(Vec::new()));
        };
        // A file without records is there for people, at the end: nothing is lost with it.
        if !std::mem::take(&mut self.has_records) {
            return Ok(Some(Vec::new()));
        }
        let name = rolled_name(self.subtask, checkpoint, self.job, self.extension);
        let target = self.output.join(&name);
        let target = target.map_err(|error| task_error(&error))?;
        let prepared = Prepared {
            staged: staged.path.to_string(),
            target: target.to_string(),
        };
        self.state = State::Between;
        let prepared = serde_json::to_vec(&prepared).expect("two texts are always JSON");
        Ok(Some(vec![prepared]))
    }

    fn commit(&mut self) -> Result<(), OperatorError> {
        self.settle()?;
        self.remove_stale()?;
        let staged = match &self.state {
            State::Staged(staged) => staged,
            State::Between => return Ok(()),
            State::Writing(..) | State::Broken => return Err(self.out_of_order("committed")),
        };
        let commit = async {
            let name = if self.io.resumes() {
                resumed_part_name(self.subtask, self.job, self.extension)
            } else {
                part_name(self.subtask, self.extension)
            };
            let target = self.output.join(&name)?;
            move_into_place(&self.fs, staged, &target).await
        };
        self.io.block_on(commit).map_err(|error| task_error(&error))
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}
