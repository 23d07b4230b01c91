//! The last inputs of the machine, kept to be run again when a job has failed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spindle_common::gateway::{TaskStateUpdate, ToJobManager};
use spindle_common::time::MonoTime;
use spindle_jobmanager::machine::{Machine, Outbox};
use spindle_jobmanager::message::{Effect, Input};

/// Inputs kept.
const KEPT: usize = 1000;

/// One input and when it was handled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When.
    pub at: MonoTime,
    /// What.
    pub input: Input,
}

/// A record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file.
    #[error("failed to access the recorded inputs in `{}`", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A line of it.
    #[error("line {line} of the recorded inputs in `{}` is no input", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
}

/// The newest inputs, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    inputs: VecDeque<Recorded>,
}

impl Recorder {
    pub(crate) fn note(&mut self, at: MonoTime, input: &Input) {
        if self.inputs.len() == KEPT {
            self.inputs.pop_front();
        }
        let input = without_rows(input);
        self.inputs.push_back(Recorded { at, input });
    }

    /// Writes all as JSON lines, over what the file held.
    pub(crate) fn write(&self, path: &Path) -> Result<(), RecordError> {
        let write = || {
            let mut file = BufWriter::new(std::fs::File::create(path)?);
            for recorded in &self.inputs {
                serde_json::to_writer(&mut file, recorded)?;
                file.write_all(b"\n")?;
            }
            file.flush()
        };
        write().map_err(|cause| RecordError::File {
            path: path.to_owned(),
            cause,
        })
    }
}

/// A copy that has no collected rows: nothing is decided by them, and a thousand of them may be more than all else in memory.
fn without_rows(input: &Input) -> Input {
    if let Input::TaskExecutor {
        connection,
        message: ToJobManager::TaskState(update),
    } = input
    {
        let bare = TaskStateUpdate {
            collected: Vec::new(),
            cause: update.cause.clone(),
            ..*update
        };
        return Input::TaskExecutor {
            connection: *connection,
            message: ToJobManager::TaskState(bare),
        };
    }
    input.clone()
}

/// Reads the inputs that a driver wrote when a job failed.
///
/// # Errors
/// If the file cannot be read, or a line of it is no input.
pub fn read_record(path: &Path) -> Result<Vec<Recorded>, RecordError> {
    let broken = |cause| RecordError::File {
        path: path.to_owned(),
        cause,
    };
    let file = BufReader::new(std::fs::File::open(path).map_err(broken)?);
    let mut inputs = Vec::new();
    for (line, text) in (1..).zip(file.lines()) {
        let recorded =
            serde_json::from_str(&text.map_err(broken)?).map_err(|cause| RecordError::Line {
                path: path.to_owned(),
                line,
                cause,
            })?;
        inputs.push(recorded);
    }
    Ok(inputs)
}

/// Feeds recorded inputs to a machine, and gives the effects of each.
pub fn replay<M>(machine: &mut M, inputs: impl IntoIterator<Item = Recorded>) -> Vec<Vec<Effect>>
where
    M: Machine<Input = Input, Effect = Effect>,
{
    let handle = |recorded: Recorded| {
        let mut effects = Vec::new();
        let mut sink = |effect| effects.push(effect);
        machine.handle(recorded.at, recorded.input, &mut Outbox::new(&mut sink));
        effects
    };
    inputs.into_iter().map(handle).collect()
}
