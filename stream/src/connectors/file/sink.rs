//! Files as a sink: part files, moved into place when it is sure that they will not be written again.
//!
//! ```text
//! <output>/.spindle-staging/<job>/<subtask>-<attempt>/…    while it is written, and until it is committed
//! <output>/part-00003-17-<job>.csv                         what subtask 3 wrote before checkpoint 17, once that is complete,
//! <output>/part-00003-17-1-<job>.csv                       and the next file, where one was full
//! <output>/part-00003.csv                                  what it wrote after the last checkpoint, once the job has succeeded,
//! <output>/part-00003-end-1-<job>.csv                      and those before, where one was full
//! <output>/part-00003-end-<job>.csv                        the last one of a job that was begun with a snapshot
//! ```
//! **Invariant:** what is visible in the output directory is complete, and will not be written again. A staged file is durable before its task
//! acknowledges a checkpoint, or says that it has finished; it is moved once the checkpoint is complete, or all tasks have finished.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use spindle_dataflow::connector::{OperatorError, Sink};
use spindle_hadoop::fs::{FileSystem, FsError, FsPath};

use super::compression::Packing;
use super::encode::{CsvEncoder, CsvRows, Encode, JsonObjects, TextLines};
use super::error::plan_error;
use super::input::is_hidden;
use super::pack::Packed;
use super::part::rolling::RollingPolicy;
use super::part::{MakeEncoder, Manner, PartFiles, is_part};
use crate::connector::{SinkFactory, SinkPlan};
use crate::context::{PlanContext, PlanError, SinkContext};

/// Below the output directory, so that moving a file never leaves its file system. Known before the job's id is.
pub(super) const STAGING: &str = ".spindle-staging";

/// Writes part files into a directory, `part-00000` for the first subtask. Flink: `FileSink`.
///
/// They appear with each checkpoint that is complete, and the last ones when the whole job has succeeded: every record in exactly one of
/// them, whatever fails in between. Without checkpoints all appear at the end. There are more of them if [`Self::rolling`] says so. The directory must
/// not hold anything visible before, unless [`Self::overwrite`] allows it. A job that begins with a snapshot goes on with the output of the job
/// that took it: its directory may hold part files, which stay, whatever [`Self::overwrite`] says. No two sinks can share a directory, nor two
/// jobs at the same time: the one that ends later fails.
#[derive(Debug, Clone)]
pub struct FileSink<F> {
    uri: String,
    overwrite: bool,
    rolling: RollingPolicy,
    packing: Option<Packing>,
    pub(super) format: F,
}

/// Formats that can be packed as a whole: text, CSV and JSON. Parquet packs its pages.
pub trait PlainFormat: sealed::Sealed {}

impl<F: sealed::Sealed> PlainFormat for F {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::TextLines {}
    impl Sealed for super::CsvRows {}
    impl Sealed for super::JsonObjects {}
}

impl<F: PlainFormat> FileSink<F> {
    /// Packs each part file, which is `part-00000.csv.gz` then, or `….zst`. [`FileSource`](super::FileSource) reads them as they are.
    ///
    /// ```
    /// use spindle_stream::connectors::file::{FileSink, FileSource, Packing};
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let uri = format!("file://{}/out", directory.path().display());
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// harness.env().generate(1000, |n| n).sink_to(FileSink::text(&uri).packed(Packing::Zstd));
    /// harness.run().unwrap();
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().source("read", FileSource::lines(&uri)).collect("lines");
    /// assert_eq!(harness.run().unwrap().collected::<String>("lines").len(), 1000);
    /// ```
    #[must_use]
    pub const fn packed(mut self, packing: Packing) -> Self {
        self.packing = Some(packing);
        self
    }
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
            rolling: RollingPolicy::on_checkpoint(),
            packing: None,
            format,
        }
    }

    /// Whether the part files of an earlier job may be replaced, all of them. Anything else in the directory is still refused.
    #[must_use]
    pub const fn overwrite(mut self, allowed: bool) -> Self {
        self.overwrite = allowed;
        self
    }

    /// When a part file is full, and the next one is begun; at checkpoints only if it is not called.
    #[must_use]
    pub const fn rolling(mut self, policy: RollingPolicy) -> Self {
        self.rolling = policy;
        self
    }

    pub(super) fn check(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        let fs = context.io.file_system();
        let fs = fs.map_err(|error| plan_error(&error))?;
        let output = fs.resolve(&self.uri).map_err(|error| plan_error(&error))?;
        let staging = output.join(STAGING).map_err(|error| plan_error(&error))?;
        let resumes = context.io.resumes();
        context
            .io
            .block_on(self.check_output(&fs, &output, resumes))?;
        Ok(SinkPlan {
            staging: vec![staging.to_string()],
        })
    }

    async fn check_output(
        &self,
        fs: &FileSystem,
        output: &FsPath,
        resumes: bool,
    ) -> Result<(), PlanError> {
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
        if !self.overwrite && !resumes {
            return match visible.next() {
                None => Ok(()),
                Some(_) => Err(PlanError::Input(format!(
                    "output `{output}` already exists: remove it or choose another"
                ))),
            };
        }
        match visible.find(|entry| entry.is_dir || !is_part(&entry.path)) {
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
        make: MakeEncoder<impl Encode<T>>,
    ) -> Result<Box<dyn Sink<T>>, OperatorError> {
        let manner = Manner {
            overwrite: self.overwrite && !context.io.resumes(),
            rolling: self.rolling,
        };
        PartFiles::create(&self.uri, manner, context, make)
            .map(|files| Box::new(files) as Box<dyn Sink<T>>)
    }

    fn open_packed<T: 'static, E: Encode<T>>(
        &self,
        context: &SinkContext,
        records: impl Fn() -> E + Send + 'static,
    ) -> Result<Box<dyn Sink<T>>, OperatorError> {
        let packing = self.packing;
        let make = move || Packed::new(records(), packing);
        self.open(context, Box::new(make))
    }
}

impl<T: Display + 'static> SinkFactory<T> for FileSink<TextLines> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        let format = self.format;
        self.open_packed(&context, move || format)
    }
}

impl<T: Serialize + 'static> SinkFactory<T> for FileSink<JsonObjects> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        let format = self.format;
        self.open_packed(&context, move || format)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> SinkFactory<T> for FileSink<CsvRows> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.check(context)
    }

    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        self.open_packed(&context, || CsvEncoder { header: true })
    }
}
