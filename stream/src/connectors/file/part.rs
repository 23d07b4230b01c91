//! The part files of one attempt of one subtask: written, closed, and moved into place when it is time.

mod name;
mod place;
pub(super) mod rolling;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use spindle_common::checkpoint::CheckpointId;
use spindle_common::id::{FencingToken, JobId};
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, Sink};
use spindle_hadoop::fs::{
    CreateOptions, FileStatus, FileSystem, FileWriter, FsError, FsPath, Scheme,
};
use tokio::task::JoinSet;

use super::encode::Encode;
use super::error::task_error;
use super::sink::STAGING;
use crate::context::{IoContext, SinkContext};
pub(super) use name::is_part;
use name::{Part, Since, numbered_name, part_name, part_of};
use place::{Closing, Prepared, make_visible, move_into_place};
use rolling::{Rolling, RollingPolicy};

/// Permission bits of the directories that are made.
const DIRECTORY_MODE: u32 = 0o755;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Makes an encoder for a new file.
pub(super) type MakeEncoder<E> = Box<dyn Fn() -> Result<E, String> + Send>;

/// How part files are written, whatever is in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether part files of an earlier job are replaced.
    pub(super) overwrite: bool,
    pub(super) rolling: RollingPolicy,
}

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
    extension: String,
    output: FsPath,
    /// Where this attempt writes.
    attempt: FsPath,
    /// Files that were begun, the open one included.
    files: u64,
    open: Open,
    /// Whether the open file has records.
    has_records: bool,
    /// What was written into the open file.
    in_file: u64,
    rolling: Rolling,
    /// Files that are full, and durable, since the last checkpoint: in-progress no more, and not yet pending. Oldest first.
    full: Vec<FsPath>,
    /// Files that are durable and not yet closed, by their path.
    closing: HashMap<String, Closing>,
    /// Files on the way to their places.
    moving: JoinSet<Result<(), FsError>>,
    /// At the end of input: what is to be moved where.
    ended: Option<Vec<(FileStatus, FsPath)>>,
    /// Whether all there is at the end of input is a file without records.
    ends_empty: bool,
    /// What subtask 0 removes before it commits: part files of earlier jobs, that is others than this job's and the last ones of this
    /// many subtasks.
    replaces: Option<u32>,
    /// Whether there may be a last part file of this subtask that is void: an earlier job's, or an earlier attempt's for an end that was none.
    void_last: bool,
    /// What the next attempt of the JobManager calls its first checkpoint. What is shown for that, or a later one, is not this task's to remove,
    /// which may not know yet that its own JobManager has been replaced.
    of_next: CheckpointId,
    /// Whether there may be part files that an earlier attempt of this subtask has shown for checkpoints after this one, which was restored.
    void_after: Option<CheckpointId>,
}

enum Open {
    /// None: one was closed, and nothing came since.
    None,
    Writing(FileWriter, FsPath),
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
        manner: Manner,
        context: &SinkContext,
        make: MakeEncoder<E>,
    ) -> Result<Self, OperatorError>
    where
        E: Encode<T>,
    {
        let encoder = make().map_err(OperatorError::permanent)?;
        let extension = encoder.extension();
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
            extension,
            output,
            attempt,
            files: 0,
            open: Open::None,
            has_records: false,
            in_file: 0,
            rolling: Rolling::by(manner.rolling),
            full: Vec::new(),
            closing: HashMap::new(),
            moving: JoinSet::new(),
            ended: None,
            ends_empty: false,
            replaces: (manner.overwrite && subtask == 0).then_some(context.parallelism),
            void_last: manner.overwrite || context.execution.attempt > 0,
            of_next: FencingToken::of_execution_attempt(context.execution.attempt)
                .next()
                .first_checkpoint(),
            void_after: (context.execution.attempt > 0)
                .then(|| context.restored_from.unwrap_or(CheckpointId(0))),
        };
        files.open()?;
        Ok(files)
    }

    /// Begins a new file.
    fn open(&mut self) -> Result<(), OperatorError> {
        let name = part_name(self.subtask, &self.extension);
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
            Ok(Open::Writing(writer, staged))
        };
        self.open = create().map_err(|error: FsError| {
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
        if let Open::None = self.open {
            self.open()?;
        }
        let Open::Writing(writer, _) = &mut self.open else {
            return Err(self.out_of_order("written"));
        };
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.written += bytes.len() as u64;
        self.in_file += bytes.len() as u64;
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

    /// Ends the open file, makes it durable and has it closed meanwhile. The next record goes into another.
    fn roll<T>(&mut self) -> Result<(), OperatorError>
    where
        E: Encode<T>,
    {
        self.end_content()?;
        if let Open::None = self.open {
            // An encoder may have kept all to itself until now, and may still.
            self.open()?;
        }
        let Open::Writing(mut writer, staged) = std::mem::replace(&mut self.open, Open::Broken)
        else {
            return Err(self.out_of_order("closed"));
        };
        let durable = self.io.block_on(writer.hsync());
        durable.map_err(|error| task_error(&error))?;
        let closed = self.io.handle().spawn(writer.close());
        self.closing.insert(staged.to_string(), closed);
        self.full.push(staged);
        self.open = Open::None;
        self.has_records = false;
        self.in_file = 0;
        self.rolling.reset();
        self.encoder = (self.make)().map_err(OperatorError::permanent)?;
        Ok(())
    }

    /// Closes the open file at the end of input.
    fn close(&mut self) -> Result<(), FsError> {
        let Open::Writing(mut writer, staged) = std::mem::replace(&mut self.open, Open::Broken)
        else {
            return Ok(());
        };
        self.io.block_on(async {
            // HDFS has a closed file on its DataNodes; a local one may still be nowhere but in memory.
            if staged.scheme() == Scheme::File {
                writer.hsync().await?;
            }
            writer.close().await
        })?;
        self.full.push(staged);
        self.open = Open::None;
        Ok(())
    }

    /// What a commit needs of these files, which a checkpoint has.
    fn prepared(
        &self,
        files: Vec<FsPath>,
        checkpoint: CheckpointId,
    ) -> Result<Vec<Vec<u8>>, OperatorError> {
        let since = Since::Checkpoint(checkpoint);
        let prepare = |(n, staged): (usize, FsPath)| {
            let name = numbered_name(self.subtask, since, n, self.job, &self.extension);
            let target = self.output.join(&name);
            let target = target.map_err(|error| task_error(&error))?;
            let file = Prepared {
                staged: staged.to_string(),
                target: target.to_string(),
            };
            Ok(serde_json::to_vec(&file).expect("two texts are always JSON"))
        };
        files.into_iter().enumerate().map(prepare).collect()
    }

    /// Where the files shall be that were written after the last checkpoint, once all are closed.
    fn ended(&mut self) -> Result<Vec<(FileStatus, FsPath)>, FsError> {
        let full = std::mem::take(&mut self.full);
        let more = full.len().saturating_sub(1);
        let resumes = self.io.resumes();
        let mut ended = Vec::with_capacity(full.len());
        for (n, staged) in full.into_iter().enumerate() {
            let name = if n == more && !resumes {
                part_name(self.subtask, &self.extension)
            } else {
                // The last one is the one without a number.
                let n = if n == more { 0 } else { n + 1 };
                numbered_name(self.subtask, Since::End, n, self.job, &self.extension)
            };
            let target = self.output.join(&name)?;
            let closing = self.closing.remove(&staged.to_string());
            let status = self.io.block_on(async {
                if let Some(closing) = closing
                    && let Ok(closed) = closing.await
                {
                    closed?;
                }
                self.fs.stat(&staged).await
            })?;
            ended.push((status, target));
        }
        Ok(ended)
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
        let own = |path: &FsPath| match part_of(path) {
            Some(Part::Last { subtask }) => {
                subtask < parallelism
                    && path.name() == Some(part_name(subtask, &self.extension).as_str())
            }
            Some(Part::OfJob { job, .. }) => job == self.job,
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

    /// Removes part files of this subtask that are void, but not these: once, before this attempt has a checkpoint of its own. The last one
    /// may be another job's, and stays until this attempt shows something.
    fn remove_void(&mut self, shows: bool, but: &[FsPath]) -> Result<(), OperatorError> {
        let void_after = self.void_after.take();
        let void_last = shows && std::mem::take(&mut self.void_last);
        if void_after.is_none() && !void_last {
            return Ok(());
        }
        let is_void = |path: &FsPath| match part_of(path) {
            // A job that was begun with a snapshot has none of this name: it is of the job before, which has ended well.
            Some(Part::Last { subtask }) => {
                void_last && subtask == self.subtask && !self.io.resumes()
            }
            Some(Part::OfJob {
                subtask,
                job,
                since,
            }) => {
                let is_later = void_after.is_some_and(|restored| match since {
                    Since::Checkpoint(shown) => restored < shown && shown < self.of_next,
                    Since::End => true,
                });
                is_later && subtask == self.subtask && job == self.job
            }
            None => false,
        };
        let remove = async {
            for entry in self.fs.list(&self.output).await? {
                if is_void(&entry.path) && !but.contains(&entry.path) {
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

impl<T, E: Encode<T>> Sink<T> for PartFiles<E> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.rolling.is_old(Instant::now) {
            self.roll()?;
        }
        let encoded = self.encoder.encode(&batch.records, &mut self.buffer);
        encoded.map_err(|error| {
            OperatorError::permanent(format!(
                "cannot write a record into a part file of `{}`: {error}",
                self.output
            ))
        })?;
        self.has_records = true;
        self.rolling.wrote(Instant::now);
        let bytes = || self.in_file + self.buffer.len() as u64 + self.encoder.held();
        if self.rolling.is_full(bytes) {
            self.roll()?;
        } else if self.buffer.len() >= BUFFER {
            self.write_out()?;
        }
        Ok(())
    }

    fn prepare_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>, OperatorError> {
        // What an earlier checkpoint has promised is kept before the next one forgets it.
        self.settle()?;
        self.remove_void(false, &[])?;
        if self.has_records {
            self.roll()?;
        }
        let full = std::mem::take(&mut self.full);
        self.prepared(full, checkpoint)
    }

    fn commit_prepared(&mut self, prepared: &[Vec<u8>]) -> Result<(), OperatorError> {
        self.remove_stale()?;
        self.remove_void(true, &[])?;
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
        let first = self.files == 1 && matches!(self.open, Open::Writing(..));
        self.ends_empty = first && !self.has_records;
        if self.has_records || first {
            self.end_content()?;
            self.close().map_err(|error| task_error(&error))?;
        }
        let ended = self.ended().map_err(|error| task_error(&error))?;
        let has_more = self.void_last || self.void_after.is_some() || !ended.is_empty();
        self.ended = Some(ended);
        Ok(has_more)
    }

    fn prepare_finished(
        &mut self,
        checkpoint: CheckpointId,
    ) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        self.settle()?;
        self.remove_void(false, &[])?;
        // A file without records is there for people, at the end: nothing is lost with it.
        if self.ends_empty {
            return Ok(Some(Vec::new()));
        }
        let ended = self.ended.replace(Vec::new()).unwrap_or_default();
        let ended = ended.into_iter().map(|(staged, _)| staged.path);
        self.prepared(ended.collect(), checkpoint).map(Some)
    }

    fn commit(&mut self) -> Result<(), OperatorError> {
        self.settle()?;
        self.remove_stale()?;
        let Some(ended) = self.ended.take() else {
            return Err(self.out_of_order("committed"));
        };
        let targets: Vec<FsPath> = ended.iter().map(|(_, target)| target.clone()).collect();
        self.remove_void(true, &targets)?;
        let commit = async {
            for (staged, target) in &ended {
                move_into_place(&self.fs, staged, target).await?;
            }
            Ok(())
        };
        let committed = self.io.block_on(commit);
        self.ended = Some(ended);
        committed.map_err(|error: FsError| task_error(&error))
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}
