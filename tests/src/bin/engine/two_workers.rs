//! Two workers in this process, each with one subtask of every vertex: half of what an exchange carries goes over TCP, as between
//! two containers.

use std::collections::BTreeSet;
use std::time::Duration;

use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    FromWorker, InputChannelDescriptor, InputGateDescriptor, ResultPartitionDescriptor,
    TaskDeployment, ToWorker,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId};
use spindle_common::job_graph::JobGraph;
use spindle_rpc::Secret;
use spindle_stream::StreamEnvironment;
use spindle_stream::testing::Harness;
use spindle_worker::{Worker, WorkerConfig};
use tokio::sync::mpsc;

/// What a job has that sets none.
pub(crate) const BUFFER_TIMEOUT: Duration = Duration::from_millis(100);

const WORKERS: u32 = 2;
/// The job.
pub(crate) const JOB: JobId = JobId::from_bytes(*b"two workers  run");

/// Runs a job to its end on two workers.
pub(crate) fn run(
    job: impl FnOnce(&mut StreamEnvironment),
    buffer_timeout: Duration,
) -> Result<(), String> {
    let mut harness = Harness::new(WORKERS);
    job(harness.env());
    let dataflow = harness.dataflow()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let secret = Secret::generate().map_err(|error| format!("there is no secret: {error}"))?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let config = WorkerConfig {
            buffer_timeout,
            ..WorkerConfig::new(JOB, "127.0.0.1".to_owned(), secret.clone())
        };
        let started = Worker::start(dataflow.clone(), config, runtime.handle());
        workers.push(started.map_err(|error| format!("cannot start a worker: {error}"))?);
    }
    let addresses: Vec<String> = workers
        .iter()
        .map(|(worker, _)| worker.data_address().to_owned())
        .collect();
    let graph = &dataflow.graph;
    // Consumers first: a source's clock starts with its first record.
    for vertex in graph.vertices.iter().rev() {
        for ((worker, _), subtask) in workers.iter().zip(0..WORKERS) {
            let task = deployment(graph, vertex.id, subtask, &addresses)?;
            worker.handle(ToWorker::SubmitTask(Box::new(task)));
        }
    }
    let [(_, first), (_, second)] = workers.as_mut_slice() else {
        return Err(format!("there are {} workers, not two", workers.len()));
    };
    let tasks = graph.vertices.len();
    runtime.block_on(async {
        tokio::try_join!(until_done(tasks, first), until_done(tasks, second)).map(|_| ())
    })
}

/// The attempt that runs a subtask.
pub(crate) fn attempt(vertex: JobVertexId, subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        vertex,
        subtask,
        attempt: 0,
    }
}

/// A subtask as its worker is told of it, where each worker has one subtask of every vertex.
pub(crate) fn deployment(
    graph: &JobGraph,
    id: JobVertexId,
    subtask: u32,
    addresses: &[String],
) -> Result<TaskDeployment, String> {
    let vertex = graph.vertices.iter().find(|vertex| vertex.id == id);
    let vertex = vertex.ok_or("the graph lacks one of its vertices")?;
    let workers = addresses.len() as u32;
    if vertex.parallelism != workers {
        return Err(format!(
            "`{}` has {} subtasks; {workers} workers take one each",
            vertex.name(),
            vertex.parallelism
        ));
    }
    let edges = || (0_u32..).zip(&graph.edges);
    let inputs = edges()
        .filter(|(_, edge)| edge.target == id)
        .map(|(index, edge)| InputGateDescriptor {
            edge: index,
            channels: edge
                .partitioning
                .producers_of(subtask, workers, workers)
                .map(|producer| InputChannelDescriptor {
                    producer: attempt(edge.source, producer),
                    data_address: addresses[producer as usize].clone(),
                })
                .collect(),
        })
        .collect();
    let outputs = edges()
        .filter(|(_, edge)| edge.source == id)
        .map(|(index, edge)| ResultPartitionDescriptor {
            edge: index,
            consumers: edge
                .partitioning
                .consumers_of(subtask, workers, workers)
                .collect(),
        })
        .collect();
    Ok(TaskDeployment {
        job: JOB,
        allocation: AllocationId(u64::from(subtask)),
        execution: attempt(id, subtask),
        parallelism: vertex.parallelism,
        max_parallelism: vertex.max_parallelism,
        splits: vertex
            .splits
            .get(subtask as usize)
            .cloned()
            .unwrap_or_default(),
        inputs,
        outputs,
        restore: None,
    })
}

/// Waits until this many tasks of a worker have done their work.
async fn until_done(tasks: usize, reports: &mut mpsc::Receiver<FromWorker>) -> Result<(), String> {
    let mut done = BTreeSet::new();
    while done.len() < tasks {
        let report = reports.recv().await.ok_or("a worker ended early")?;
        let FromWorker::TaskState(update) = report else {
            continue;
        };
        match update.state {
            ExecutionState::Finished | ExecutionState::AwaitingCommit => {
                done.insert(update.execution);
            }
            ExecutionState::Failed | ExecutionState::Canceled => {
                let cause = update.cause.map(|cause| cause.to_string());
                return Err(format!(
                    "task {} {}: {}",
                    update.execution,
                    update.state.rest_name(),
                    cause.unwrap_or_default()
                ));
            }
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Initializing
            | ExecutionState::Running
            | ExecutionState::Canceling => {}
        }
    }
    Ok(())
}
