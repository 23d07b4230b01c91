//! Workers of this process, each with one subtask of every vertex, and what a JobManager does for their checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spindle_common::checkpoint::metadata::{OperatorMetadata, SnapshotMetadata};
use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, Distribution, OperatorSnapshot,
    SnapshotKind, StateChunk, StateHandle, StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
    TaskRestore,
};
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{FromWorker, TaskCheckpointOutcome, ToWorker};
use spindle_common::id::ExecutionAttemptId;
use spindle_common::job_graph::{JobGraph, JobVertex};
use spindle_common::key_group::key_groups_of;
use spindle_dataflow::task::Dataflow;
use spindle_rpc::Secret;
use spindle_storage::{Finish, SnapshotStorage, checkpoint_directory};
use spindle_worker::{StateBackend, Worker, WorkerConfig};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::two_workers::{JOB, attempt, deployment};

/// A checkpoint is acknowledged by all within this time.
const PATIENCE: Duration = Duration::from_secs(120);
/// Reports that wait before a worker does.
const REPORTS: usize = 64;

/// The workers that run the job.
pub(crate) struct Cluster {
    workers: Vec<Worker>,
    addresses: Vec<String>,
    reports: mpsc::Receiver<FromWorker>,
    graph: JobGraph,
    storage: SnapshotStorage,
    directory: String,
    beside: JoinSet<()>,
}

/// A complete checkpoint.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: CheckpointId,
    pub(crate) took: Duration,
    pub(crate) sync_us: u64,
    pub(crate) async_us: u64,
    pub(crate) bytes: u64,
    pub(crate) written: u64,
    directory: String,
    operators: Vec<OperatorMetadata>,
}

/// What all subtasks wrote, by uid of the operator and name of the state.
type States = BTreeMap<String, BTreeMap<String, StateSnapshot>>;

impl Cluster {
    /// Workers without tasks, which write checkpoints below a directory.
    pub(crate) fn start(
        dataflow: &Dataflow,
        storage: &SnapshotStorage,
        workers: u32,
        directory: &str,
        backend: Option<&StateBackend>,
    ) -> Result<Self, String> {
        let secret = Secret::generate().map_err(|error| format!("there is no secret: {error}"))?;
        let (sender, reports) = mpsc::channel(REPORTS);
        let mut cluster = Self {
            workers: Vec::new(),
            addresses: Vec::new(),
            reports,
            graph: dataflow.graph.clone(),
            storage: storage.clone(),
            directory: directory.to_owned(),
            beside: JoinSet::new(),
        };
        for _ in 0..workers {
            let config = WorkerConfig {
                storage: Some(storage.clone()),
                backend: backend.cloned(),
                ..WorkerConfig::new(JOB, "127.0.0.1".to_owned(), secret.clone())
            };
            let started = Worker::start(dataflow.clone(), config, &Handle::current());
            let (worker, mut reports) =
                started.map_err(|error| format!("cannot start a worker: {error}"))?;
            cluster.addresses.push(worker.data_address().to_owned());
            cluster.workers.push(worker);
            let sender = sender.clone();
            cluster.beside.spawn(async move {
                while let Some(report) = reports.recv().await {
                    if sender.send(report).await.is_err() {
                        break;
                    }
                }
            });
        }
        Ok(cluster)
    }

    /// Runs the tasks, from a checkpoint if there is one.
    pub(crate) fn deploy(&self, from: Option<&Taken>) -> Result<(), String> {
        // Consumers first: a source's records then find them.
        for vertex in self.graph.vertices.iter().rev() {
            for (subtask, worker) in (0..).zip(&self.workers) {
                let mut task = deployment(&self.graph, vertex.id, subtask, &self.addresses)?;
                task.restore = from.map(|taken| taken.of(vertex, subtask));
                worker.handle(ToWorker::SubmitTask(Box::new(task)));
            }
        }
        Ok(())
    }

    fn tasks(&self) -> impl Iterator<Item = (&Worker, &JobVertex, ExecutionAttemptId)> {
        self.graph.vertices.iter().flat_map(|vertex| {
            let subtasks = (0..).zip(&self.workers);
            subtasks.map(move |(subtask, worker)| (worker, vertex, attempt(vertex.id, subtask)))
        })
    }

    /// Takes a checkpoint, as the JobManager does.
    pub(crate) async fn checkpoint(&mut self, id: CheckpointId) -> Result<Taken, String> {
        let began = Instant::now();
        let directory = checkpoint_directory(&self.directory, id);
        let made = self.storage.create(&directory).await;
        let directory = made.map_err(|error| error.report())?;
        let epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let timestamp_ms = i64::try_from(epoch.as_millis()).unwrap_or(i64::MAX);
        let barrier = CheckpointBarrier {
            id,
            timestamp_ms,
            kind: SnapshotKind::Checkpoint,
            directory: Arc::from(directory.as_str()),
            alignment: BarrierAlignment::Aligned,
        };
        let is_source = |vertex: &JobVertex| self.graph.edges.iter().all(|e| e.target != vertex.id);
        for (worker, _, execution) in self.tasks().filter(|task| is_source(task.1)) {
            let barrier = barrier.clone();
            worker.handle(ToWorker::TriggerCheckpoint { execution, barrier });
        }
        let acknowledged = timeout(PATIENCE, self.acknowledged(id)).await;
        let (states, all) = acknowledged.map_err(|_| {
            format!(
                "checkpoint {id} is not acknowledged within {} s",
                PATIENCE.as_secs()
            )
        })??;
        let operators = self.operators(states);
        let metadata = SnapshotMetadata {
            job: JOB,
            checkpoint: id,
            kind: SnapshotKind::Checkpoint,
            timestamp_ms,
            operators: operators.clone(),
        };
        let committed = self
            .storage
            .commit(&directory, &metadata, 1, Finish::Durable)
            .await;
        committed.map_err(|error| error.report())?;
        let took = began.elapsed();
        for (worker, _, execution) in self.tasks() {
            let checkpoint = id;
            worker.handle(ToWorker::CheckpointComplete {
                execution,
                checkpoint,
            });
        }
        let most = |of: fn(&SubtaskCheckpointStats) -> u64| all.iter().map(of).max().unwrap_or(0);
        Ok(Taken {
            id,
            took,
            sync_us: most(|stats| stats.sync_us),
            async_us: most(|stats| stats.async_us),
            bytes: all.iter().map(|stats| stats.state_bytes).sum(),
            written: all.iter().map(|stats| stats.written_bytes).sum(),
            directory,
            operators,
        })
    }

    /// Waits until all tasks have acknowledged a checkpoint.
    async fn acknowledged(
        &mut self,
        id: CheckpointId,
    ) -> Result<(States, Vec<SubtaskCheckpointStats>), String> {
        let mut missing: BTreeSet<_> = self.tasks().map(|(_, _, execution)| execution).collect();
        let (mut states, mut all) = (States::new(), Vec::new());
        while !missing.is_empty() {
            match self.reports.recv().await.ok_or("the workers ended")? {
                FromWorker::TaskCheckpoint(told) if told.checkpoint == id => match told.outcome {
                    TaskCheckpointOutcome::Acknowledged { snapshot, stats } => {
                        if missing.remove(&told.execution) {
                            add(&mut states, snapshot);
                            all.push(stats);
                        }
                    }
                    TaskCheckpointOutcome::Declined { reason } => return Err(reason),
                },
                FromWorker::TaskState(update) if update.state == ExecutionState::Failed => {
                    let cause = update.cause.map(|cause| cause.to_string());
                    return Err(cause.unwrap_or_else(|| "a task failed".to_owned()));
                }
                FromWorker::Hello(_)
                | FromWorker::TaskState(_)
                | FromWorker::TaskCheckpoint(_)
                | FromWorker::Report(_) => {}
            }
        }
        Ok((states, all))
    }

    fn operators(&self, mut states: States) -> Vec<OperatorMetadata> {
        let vertices = self.graph.vertices.iter();
        let operators =
            vertices.flat_map(|vertex| vertex.operators.iter().map(move |o| (vertex, o)));
        operators
            .filter_map(|(vertex, operator)| {
                Some(OperatorMetadata {
                    states: states.remove(&operator.uid)?.into_values().collect(),
                    uid: operator.uid.clone(),
                    name: operator.name.clone(),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.max_parallelism,
                    finished: Vec::new(),
                })
            })
            .collect()
    }

    /// Deletes a checkpoint beside what goes on, unless this newer one refers to it.
    pub(crate) fn discard(&mut self, taken: &Taken, newer: &Taken) {
        let states = newer.operators.iter().flat_map(|operator| &operator.states);
        let inside = format!("{}/", taken.directory);
        let refers = |chunk: &StateChunk| match &chunk.content {
            StateHandle::Inline(_) => false,
            StateHandle::File(range) => range.path.starts_with(&inside),
        };
        if states.flat_map(|state| &state.chunks).any(refers) {
            return;
        }
        let (storage, directory) = (self.storage.clone(), taken.directory.clone());
        // What is left goes with the directory of all.
        self.beside.spawn(async move {
            drop(storage.discard(&directory).await);
        });
    }

    /// Ends all tasks and waits for that.
    pub(crate) async fn stop(mut self) {
        for (worker, _, execution) in self.tasks() {
            worker.handle(ToWorker::CancelTask { execution });
        }
        while self.workers.iter().any(|worker| worker.running_tasks() > 0) {
            // Its last report comes before a task is gone.
            drop(timeout(Duration::from_millis(10), self.reports.recv()).await);
        }
    }
}

fn add(states: &mut States, snapshot: SubtaskSnapshot) {
    for operator in snapshot.operators {
        let of = states.entry(operator.uid).or_default();
        for state in operator.states {
            match of.get_mut(&state.name) {
                Some(all) => {
                    all.chunks.extend(state.chunks);
                    all.chunks.sort_by_key(|chunk| chunk.index);
                }
                None => {
                    of.insert(state.name.clone(), state);
                }
            }
        }
    }
}

impl Taken {
    /// What a subtask of a vertex begins with.
    fn of(&self, vertex: &JobVertex, subtask: u32) -> TaskRestore {
        let groups = key_groups_of(subtask, vertex.parallelism, vertex.max_parallelism);
        let own = |state: &StateSnapshot| {
            let mut state = state.clone();
            if state.distribution == Distribution::KeyGroup {
                state.chunks.retain(|chunk| groups.contains(&chunk.index));
            }
            state
        };
        let of_vertex =
            |operator: &&OperatorMetadata| vertex.operators.iter().any(|o| o.uid == operator.uid);
        let operators = self.operators.iter().filter(of_vertex);
        TaskRestore {
            job: JOB,
            checkpoint: self.id,
            directory: self.directory.clone(),
            operators: operators
                .map(|operator| OperatorSnapshot {
                    uid: operator.uid.clone(),
                    states: operator.states.iter().map(own).collect(),
                })
                .collect(),
            finished: false,
        }
    }
}
