//! To the terminal, and to whoever submitted the job.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, Sink};

use crate::connector::SinkFactory;
use crate::context::SinkContext;

/// The most that one subtask of [`crate::DataStream::collect`] may gather, in bytes of JSON: it travels in one message.
pub const MAX_COLLECTED_BYTES: usize = 4 << 20;

/// Writes lines to standard output.
pub(crate) struct PrintSink<T> {
    format: fn(&T, &mut String) -> std::fmt::Result,
}

impl<T> PrintSink<T> {
    pub(crate) const fn new(format: fn(&T, &mut String) -> std::fmt::Result) -> Self {
        Self { format }
    }
}

impl<T: 'static> SinkFactory<T> for PrintSink<T> {
    fn sink(&self, context: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        let prefix = if context.parallelism > 1 {
            format!("{}> ", context.execution.subtask + 1)
        } else {
            String::new()
        };
        Ok(Box::new(Printer {
            format: self.format,
            prefix,
            text: String::new(),
            written: 0,
        }))
    }
}

struct Printer<T> {
    format: fn(&T, &mut String) -> std::fmt::Result,
    prefix: String,
    text: String,
    written: u64,
}

impl<T> Sink<T> for Printer<T> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        self.text.clear();
        for record in &batch.records {
            self.text.push_str(&self.prefix);
            (self.format)(record, &mut self.text)
                .map_err(|_| OperatorError::permanent("a record cannot be formatted"))?;
            let _ = writeln!(self.text);
        }
        self.written += self.text.len() as u64;
        // One call per batch, so lines of several subtasks do not mix.
        std::io::stdout()
            .lock()
            .write_all(self.text.as_bytes())
            .map_err(|error| {
                OperatorError::permanent(format!("cannot write to standard output: {error}"))
            })
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        Ok(false)
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}

/// Gathers JSON lines.
pub(crate) struct CollectSink {
    name: String,
}

impl CollectSink {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }
}

impl<T: Serialize + 'static> SinkFactory<T> for CollectSink {
    fn sink(&self, _: SinkContext) -> Result<Box<dyn Sink<T>>, OperatorError> {
        Ok(Box::new(Collected {
            name: self.name.clone(),
            lines: Vec::new(),
        }))
    }

    fn waits(&self) -> bool {
        false
    }
}

struct Collected {
    name: String,
    lines: Vec<u8>,
}

impl<T: Serialize> Sink<T> for Collected {
    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, OperatorError> {
        Ok(vec![self.lines.clone()])
    }

    fn restore(&mut self, entries: Vec<Vec<u8>>) -> Result<(), OperatorError> {
        self.lines = entries.concat();
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        for record in &batch.records {
            serde_json::to_writer(&mut self.lines, record).map_err(|error| {
                OperatorError::permanent(format!("cannot write a record as JSON: {error}"))
            })?;
            self.lines.push(b'\n');
            if self.lines.len() > MAX_COLLECTED_BYTES {
                return Err(OperatorError::permanent(format!(
                    "collected more than {} MiB: write large results to a sink",
                    MAX_COLLECTED_BYTES >> 20
                )));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        Ok(false)
    }

    fn bytes_written(&self) -> u64 {
        self.lines.len() as u64
    }

    fn take_collected(&mut self) -> Option<(String, Vec<u8>)> {
        Some((self.name.clone(), std::mem::take(&mut self.lines)))
    }
}
