//! Files in and out, on the local file system, against naive readings of the same files.

mod csv;
mod json;
mod monitor;
mod packed;
#[cfg(feature = "parquet")]
mod parquet;
mod read;
mod restored_sink;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, SourceStatus};
use spindle_hadoop::conf::Configuration;
use tempfile::TempDir;

use crate::connector::Source;
use crate::context::{IoContext, PlanContext, PlanError, SourceContext};

/// A directory of its own, with access to it.
struct Fixture {
    directory: TempDir,
    io: Arc<IoContext>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            io: Arc::new(IoContext::new(Configuration::new(), "test".to_owned())),
        }
    }

    /// The same for a job that begins with a snapshot.
    fn resumed(self) -> Self {
        Self {
            io: self.io_of_resumed(),
            ..self
        }
    }

    /// The outside, for a job that begins with a snapshot.
    fn io_of_resumed(&self) -> Arc<IoContext> {
        let path = ("execution.state-recovery.path".to_owned(), "/sp".to_owned());
        let io = IoContext::new(Configuration::new(), "test".to_owned());
        Arc::new(io.of_job(&[path]).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The path as a job's user would write it.
    fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.uri(name)
    }

    fn plan_context(&self, parallelism: u32) -> PlanContext {
        PlanContext {
            io: Arc::clone(&self.io),
            parallelism,
        }
    }

    /// What all subtasks read, one list per subtask.
    fn read<T: 'static>(
        &self,
        source: &impl Source<T>,
        parallelism: u32,
    ) -> Result<Vec<Vec<T>>, OperatorError> {
        let lists = source.plan(&self.plan_context(parallelism)).unwrap();
        assert_eq!(lists.len(), parallelism as usize);
        (0..)
            .zip(lists)
            .map(|(subtask, splits)| {
                let context = SourceContext {
                    io: Arc::clone(&self.io),
                    subtask,
                    parallelism,
                };
                let mut reader = source.reader(splits, context)?;
                let mut batch = Batch::new();
                while reader.read(&mut batch)? == SourceStatus::More {
                    let share = reader.progress().unwrap();
                    assert!((0.0..=1.0).contains(&share), "{share}");
                }
                assert_eq!(reader.progress(), Some(1.0));
                Ok(batch.records)
            })
            .collect()
    }

    fn refusal<T>(&self, source: &impl Source<T>) -> PlanError {
        source.plan(&self.plan_context(2)).unwrap_err()
    }
}

/// The names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
