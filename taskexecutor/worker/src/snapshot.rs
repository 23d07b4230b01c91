//! What a task writes at a barrier is written to where it is durable, beside the task, and what it begins with is read before it begins.
//!
//! State leaves the task's thread at once. The storage may be slow or away: then a snapshot is declined, and the task never notices.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use spindle_common::checkpoint::{
    CheckpointBarrier, CheckpointId, SnapshotKind, SubtaskCheckpointStats, SubtaskSnapshot,
    TaskRestore,
};
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{FromWorker, TaskCheckpoint, TaskCheckpointOutcome};
use spindle_common::id::{ExecutionAttemptId, JobId};
use spindle_dataflow::snapshot::Content;
use spindle_dataflow::task::SnapshotWriter;
use spindle_storage::{Finish, SnapshotStorage, StorageError, WriteOptions, WrittenState};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::backend::EarlierStores;
use crate::exchange::queue::lock;
use crate::files::{self, FetchError, Files, Share};
use crate::net::report;
use crate::signal::Signal;

/// Snapshots of one task that may be under way. The state of each waits in memory, so there is a bound; whoever has more checkpoints at the
/// same time has a storage that does not keep up.
const MOST_UNDER_WAY: usize = 4;

/// What a worker runs beside its tasks. It ends with the worker.
#[derive(Debug)]
pub(crate) struct Background {
    runtime: Handle,
    running: Mutex<JoinSet<()>>,
}

impl Background {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            running: Mutex::default(),
        }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut running = lock(&self.running);
        while running.try_join_next().is_some() {}
        running.spawn_on(work, &self.runtime)
    }

    pub(crate) fn end(&self) {
        lock(&self.running).abort_all();
    }
}

/// Where and how all tasks of a worker write.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    /// Absent where nothing can be written.
    pub(crate) storage: Option<SnapshotStorage>,
    /// With less state than this a task writes no file.
    pub(crate) memory_threshold: u64,
}

/// The snapshots of one task.
#[derive(Debug)]
pub(crate) struct Snapshots {
    job: JobId,
    execution: ExecutionAttemptId,
    shelf: Shelf,
    signal: Arc<Signal>,
    out: mpsc::Sender<FromWorker>,
    background: Arc<Background>,
    /// What stops each that is being written.
    under_way: Mutex<BTreeMap<CheckpointId, oneshot::Sender<()>>>,
    /// Files of its stores that are in snapshots.
    files: Mutex<Files>,
}

impl Snapshots {
    pub(crate) fn new(
        job: JobId,
        execution: ExecutionAttemptId,
        shelf: Shelf,
        signal: Arc<Signal>,
        out: mpsc::Sender<FromWorker>,
        background: Arc<Background>,
    ) -> Self {
        Self {
            job,
            execution,
            shelf,
            signal,
            out,
            background,
            under_way: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// Leaves a snapshot that is being written, and its file.
    pub(crate) fn stop(&self, checkpoint: CheckpointId) {
        lock(&self.files).abort(checkpoint);
        self.written(checkpoint);
    }

    fn written(&self, checkpoint: CheckpointId) {
        // Its end is what the other side waits for.
        drop(lock(&self.under_way).remove(&checkpoint));
    }

    /// Takes notice that a checkpoint is complete.
    pub(crate) fn complete(&self, checkpoint: CheckpointId) {
        lock(&self.files).complete(checkpoint);
    }

    /// Leaves all.
    pub(crate) fn stop_all(&self) {
        lock(&self.under_way).clear();
    }

    /// Whether something is being written; the task's thread is woken when it no longer is.
    pub(crate) fn is_under_way(&self) -> bool {
        !lock(&self.under_way).is_empty()
    }

    /// Reads what a task begins with. Its thread is woken when the answer is there, or will not come.
    ///
    /// Files of stores come into `directory`; without one the task has no stores.
    pub(crate) fn read(
        self: &Arc<Self>,
        mut restore: TaskRestore,
        share: Share,
        directory: Option<PathBuf>,
    ) -> (Receiver<Restored>, AbortHandle) {
        let (sender, receiver) = sync_channel(1);
        let reply = Reply {
            sender: Some(sender),
            signal: Arc::clone(&self.signal),
        };
        let own = Arc::clone(self);
        let read = async move {
            let stores = files::split(&mut restore);
            let read = async {
                let storage = own.shelf.storage.clone().ok_or(StorageError::NoStorage)?;
                let state = Box::pin(storage.restore(&restore)).await?;
                let fetch = files::fetch(&storage, &restore, stores, &share, directory.as_deref());
                let (stores, files) = Box::pin(fetch).await?;
                *lock(&own.files) = files;
                Ok(Beginning { state, stores })
            };
            let read = read.await;
            reply.send(read.map_err(|error| unreadable(&restore, &error)));
        };
        (receiver, self.background.spawn(read))
    }

    /// Tells the JobManager that the task is not part of a checkpoint.
    pub(crate) fn decline(&self, checkpoint: CheckpointId, reason: String) {
        let outcome = TaskCheckpointOutcome::Declined { reason };
        self.background.spawn(tell(
            self.out.clone(),
            TaskCheckpoint {
                job: self.job,
                execution: self.execution,
                checkpoint,
                outcome,
            },
        ));
    }

    fn write(
        self: &Arc<Self>,
        barrier: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
        stats: SubtaskCheckpointStats,
    ) {
        let Some(storage) = self.shelf.storage.clone() else {
            return self.decline(barrier.id, StorageError::NoStorage.to_string());
        };
        let (stop, stopped) = oneshot::channel();
        {
            let mut under_way = lock(&self.under_way);
            if under_way.len() >= MOST_UNDER_WAY {
                let oldest = under_way.keys().next().copied();
                drop(under_way);
                let oldest = oldest.unwrap_or(barrier.id);
                return self.decline(
                    barrier.id,
                    format!(
                        "{MOST_UNDER_WAY} snapshots of the task are still being written, the oldest for checkpoint {oldest}: the storage is too slow for them"
                    ),
                );
            }
            under_way.insert(barrier.id, stop);
        }
        let (own, barrier) = (Arc::clone(self), barrier.clone());
        self.background.spawn(async move {
            own.write_beside(storage, &barrier, state, stats, stopped)
                .await;
            own.written(barrier.id);
            own.signal.wake();
        });
    }

    async fn write_beside(
        &self,
        storage: SnapshotStorage,
        barrier: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
        stats: SubtaskCheckpointStats,
        stopped: oneshot::Receiver<()>,
    ) {
        let started = Instant::now();
        let name = file_name(self.execution);
        let options = WriteOptions {
            memory_threshold: self.shelf.memory_threshold,
            finish: match barrier.kind {
                SnapshotKind::Checkpoint => Finish::Durable,
                SnapshotKind::Savepoint | SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => {
                    Finish::Closed
                }
            },
        };
        let directory = &barrier.directory;
        let (state, plan) = lock(&self.files).plan(barrier, state);
        let write = Box::pin(storage.write_state_made(directory, &name, state, bytes, &options));
        let written = tokio::select! {
            written = write => Some(written),
            _ = stopped => None,
        };
        let outcome = match written {
            Some(Ok(WrittenState {
                snapshot,
                state_bytes,
            })) => {
                let (snapshot, referred) = lock(&self.files).written(barrier, plan, snapshot);
                TaskCheckpointOutcome::Acknowledged {
                    snapshot,
                    stats: SubtaskCheckpointStats {
                        async_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                        state_bytes: state_bytes + referred,
                        written_bytes: state_bytes,
                        ..stats
                    },
                }
            }
            Some(Err(error)) => {
                lock(&self.files).abort(barrier.id);
                let reason = error.report();
                tracing::warn!(execution = %self.execution, checkpoint_id = %barrier.id, reason, "snapshot not written");
                TaskCheckpointOutcome::Declined { reason }
            }
            None => {
                // If it cannot be removed now, it goes with the directory.
                if let Err(error) = storage.discard_file(&barrier.directory, &name).await {
                    tracing::debug!(execution = %self.execution, checkpoint_id = %barrier.id, %error, "half a snapshot is left");
                }
                return;
            }
        };
        let told = TaskCheckpoint {
            job: self.job,
            execution: self.execution,
            checkpoint: barrier.id,
            outcome,
        };
        tell(self.out.clone(), told).await;
    }
}

/// Makes the bytes of a chunk, where that takes nobody's time who also serves others.
async fn bytes(content: Content) -> Result<Vec<u8>, String> {
    let made = match content {
        Content::Bytes(bytes) => return Ok(bytes),
        later @ (Content::Later(_) | Content::File(_)) => {
            tokio::task::spawn_blocking(|| later.into_bytes()).await
        }
    };
    match made {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(error) => Err(format!("what writes a state panicked: {error}")),
    }
}

/// What a task begins with.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    pub(crate) state: SubtaskSnapshot<Vec<u8>>,
    pub(crate) stores: EarlierStores,
}

/// What a task begins with, or why it cannot be had.
pub(crate) type Restored = Result<Beginning, FailureCause>;

/// A task's own end of its snapshots.
pub(crate) struct Writer(pub(crate) Arc<Snapshots>);

impl SnapshotWriter for Writer {
    fn write(
        &mut self,
        barrier: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
        stats: SubtaskCheckpointStats,
    ) {
        self.0.write(barrier, state, stats);
    }

    fn decline(&mut self, checkpoint: CheckpointId, reason: String) {
        self.0.decline(checkpoint, reason);
    }
}

/// An answer to a task's thread, which is woken for it, and also if there is none.
struct Reply {
    sender: Option<SyncSender<Restored>>,
    signal: Arc<Signal>,
}

impl Reply {
    fn send(mut self, restored: Restored) {
        if let Some(sender) = self.sender.take() {
            // A task that was cancelled does not wait any more.
            let _ = sender.try_send(restored);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        drop(self.sender.take());
        self.signal.wake();
    }
}

/// The file of one subtask in the directory of a snapshot; another attempt has another.
fn file_name(execution: ExecutionAttemptId) -> String {
    let ExecutionAttemptId {
        vertex,
        subtask,
        attempt,
    } = execution;
    format!("{vertex}-{subtask}-{attempt}")
}

fn unreadable(restore: &TaskRestore, error: &FetchError) -> FailureCause {
    let (class, why) = match error {
        FetchError::Storage(error) if error.is_damage() => (FailureClass::Fallback, error.report()),
        FetchError::Storage(error) => (FailureClass::Restart, error.report()),
        FetchError::Local { .. } => (FailureClass::Restart, report(error)),
        FetchError::Unusable(why) => (FailureClass::FailJob, why.clone()),
    };
    FailureCause {
        class,
        operator: None,
        message: format!(
            "failed to restore from checkpoint {}: {why}",
            restore.checkpoint
        ),
    }
}

pub(crate) async fn tell(out: mpsc::Sender<FromWorker>, told: TaskCheckpoint) {
    // Nobody listens any more only when the worker ends.
    let _ = out.send(FromWorker::TaskCheckpoint(told)).await;
}
