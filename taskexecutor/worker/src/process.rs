//! A job's executable in worker mode, from its first line of input to its end.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use spindle_common::PROTOCOL_VERSION;
use spindle_common::deployment::LOG_VARIABLE;
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{FromWorker, ToWorker, WorkerHello};
use spindle_common::id::FencingToken;
use spindle_common::program::WorkerInit;
use spindle_dataflow::task::Dataflow;
use spindle_rpc::{
    ConnectError, Incoming, ParseSecretError, Secret, WorkerConnection, connect_task_executor,
};
use spindle_storage::SnapshotStorage;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::backend::StateBackend;
use crate::config::WorkerConfig;
use crate::net::report;
use crate::worker::Worker;

/// Threads that carry frames and messages; tasks have their own.
const IO_THREADS: usize = 2;
/// What is logged if nobody asks for something else.
const DEFAULT_LOG: &str = "warn";
const IO_STACK_BYTES: usize = 512 * 1024;
/// How long cancelled tasks get to come to an end when the process has to.
const END_GRACE: Duration = Duration::from_secs(2);
/// How long after the end of standard input the process ends in any case.
const ORPHAN_GRACE: Duration = Duration::from_secs(4);
/// How long the TaskExecutor may take to end the stream, too, once it was told that nothing follows.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// What a job's executable runs, and where its state is if not in memory.
pub type Program = (Dataflow, Option<StateBackend>);

/// Why a worker process ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerProcessError {
    /// The first line of input has no secret.
    #[error("cannot use the secret that the TaskExecutor gave")]
    Secret(#[from] ParseSecretError),
    /// No threads.
    #[error("failed to start the threads for network and files")]
    Runtime(#[source] std::io::Error),
    /// The TaskExecutor does not answer.
    #[error("failed to open a stream to the TaskExecutor")]
    Connect(#[from] Box<ConnectError>),
    /// The TaskExecutor is gone.
    #[error("lost the TaskExecutor at `{address}`: {reason}")]
    TaskExecutor {
        /// Where it was.
        address: String,
        /// What happened.
        reason: String,
    },
}

/// Runs tasks of a job as the TaskExecutor says until it says to end, its connection breaks, or standard input ends. Blocks; builds
/// its own runtime. `dataflow` is what the program built, with where its state is if not in memory, or why it could not: the TaskExecutor is told
/// either.
///
/// Reads the rest of standard input, whose first line `init` came from. Does not return, but ends the process, if a task hangs in
/// user code at the end. Logs what [`LOG_VARIABLE`] asks for, else warnings, to standard error, unless the program has a
/// subscriber of its own.
///
/// # Errors
/// If the process ends for any other reason than that it was told to.
pub fn run(
    dataflow: Result<Program, FailureCause>,
    init: WorkerInit,
) -> Result<(), WorkerProcessError> {
    let filter =
        EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let orphaned = watch_input();
    let runtime = Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("worker-io")
        .thread_stack_size(IO_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(WorkerProcessError::Runtime)?;
    let (result, hung) = runtime.block_on(serve(dataflow, init, orphaned));
    if hung {
        tracing::error!("a task did not stop when it was told to; ending the process");
        std::process::exit(i32::from(result.is_err()));
    }
    runtime.shutdown_background();
    result
}

/// Standard input stays open as long as the TaskExecutor lives. The receiver is told when it ends; should the process not have
/// ended some time after that, it is ended.
fn watch_input() -> oneshot::Receiver<()> {
    let (ended, orphaned) = oneshot::channel();
    let watch = move || {
        let mut bytes = [0; 64];
        let mut input = std::io::stdin();
        loop {
            match input.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        let _ = ended.send(());
        thread::sleep(ORPHAN_GRACE);
        std::process::exit(1);
    };
    // Without this thread the end of the stream tells the same, if later.
    let _ = thread::Builder::new()
        .name("worker-input".to_owned())
        .stack_size(64 * 1024)
        .spawn(watch);
    orphaned
}

/// Returns also whether a task still runs that should not.
async fn serve(
    dataflow: Result<Program, FailureCause>,
    init: WorkerInit,
    orphaned: oneshot::Receiver<()>,
) -> (Result<(), WorkerProcessError>, bool) {
    let connection = match connect(&init).await {
        Ok(connection) => connection,
        Err(error) => return (Err(error), false),
    };
    let WorkerConnection {
        outgoing,
        mut incoming,
    } = connection;
    let (graph, started) = match start(dataflow, &init) {
        Ok((fingerprint, worker, reports)) => (Ok(fingerprint), Some((worker, reports))),
        Err(cause) => (Err(cause), None),
    };
    let hello = WorkerHello {
        protocol_version: PROTOCOL_VERSION,
        job: init.job,
        pid: std::process::id(),
        data_address: started
            .as_ref()
            .map_or_else(String::new, |(worker, _)| worker.data_address().to_owned()),
        graph,
    };
    let _ = outgoing.send(FromWorker::Hello(hello)).await;
    let (worker, mut reports) = started.unzip();
    let reason = {
        let forward = forward(&mut reports, &outgoing);
        tokio::select! {
            told = obey(worker.as_ref(), &mut incoming) => told,
            reason = forward => Some(reason),
            ended = orphaned => Some(match ended {
                Ok(()) => "it closed our standard input".to_owned(),
                Err(_) => "its end cannot be watched".to_owned(),
            }),
        }
    };
    let hung = match (worker, reports) {
        (Some(worker), Some(reports)) => !end(&worker, reports, &outgoing).await,
        _ => false,
    };
    drop(outgoing);
    if reason.is_none() {
        // An exit while messages are under way would look like a loss.
        let ended = async { while incoming.recv().await.is_ok() {} };
        let _ = timeout(FAREWELL_PATIENCE, ended).await;
    }
    let result = reason.map_or(Ok(()), |reason| {
        Err(WorkerProcessError::TaskExecutor {
            address: init.task_executor,
            reason,
        })
    });
    (result, hung)
}

async fn connect(init: &WorkerInit) -> Result<WorkerConnection, WorkerProcessError> {
    let secret = Secret::from_hex(&init.secret)?;
    let attempt = FencingToken(init.fencing);
    connect_task_executor(&init.task_executor, &secret, attempt)
        .await
        .map_err(|error| Box::new(error).into())
}

type Started = (u64, Worker, mpsc::Receiver<FromWorker>);

/// # Errors
/// Why the job cannot run in this process, for the TaskExecutor.
fn start(
    dataflow: Result<Program, FailureCause>,
    init: &WorkerInit,
) -> Result<Started, FailureCause> {
    let because = |class, error: &dyn std::error::Error| FailureCause {
        class,
        operator: None,
        message: report(error),
    };
    let (dataflow, backend) = dataflow?;
    let fingerprint = dataflow.graph.fingerprint();
    let secret =
        Secret::from_hex(&init.secret).map_err(|error| because(FailureClass::FailJob, &error))?;
    let storage = SnapshotStorage::of_hadoop(&init.hadoop, &init.user)
        .map_err(|error| because(FailureClass::FailJob, &error))?;
    let config = WorkerConfig::new(init.job, init.host.clone(), secret)
        .with_settings(&init.config)
        .map_err(|error| because(FailureClass::FailJob, &error))?
        .with_storage(storage)
        .with_backend(backend);
    let (worker, reports) = Worker::start(dataflow, config, &Handle::current())
        .map_err(|error| because(FailureClass::Restart, &error))?;
    Ok((fingerprint, worker, reports))
}

/// Does what the TaskExecutor says until it says to end; returns why not, if it is gone.
async fn obey(worker: Option<&Worker>, incoming: &mut Incoming<ToWorker>) -> Option<String> {
    loop {
        match (incoming.recv().await, worker) {
            (Ok(ToWorker::ShutDown), _) => return None,
            (Ok(message), Some(worker)) => worker.handle(message),
            (Ok(_), None) => {}
            (Err(end), _) => return Some(report(&end)),
        }
    }
}

/// Tells the TaskExecutor what the worker reports; returns when it cannot.
async fn forward(
    reports: &mut Option<mpsc::Receiver<FromWorker>>,
    outgoing: &mpsc::Sender<FromWorker>,
) -> String {
    let Some(reports) = reports else {
        return std::future::pending().await;
    };
    while let Some(message) = reports.recv().await {
        if outgoing.send(message).await.is_err() {
            // Why, the other direction of the stream will tell in a moment.
            break;
        }
    }
    tokio::time::sleep(END_GRACE).await;
    "it takes no messages any more".to_owned()
}

/// Cancels all tasks, waits for them and for what they wrote; returns whether they have ended.
async fn end(
    worker: &Worker,
    mut reports: mpsc::Receiver<FromWorker>,
    outgoing: &mpsc::Sender<FromWorker>,
) -> bool {
    worker.handle(ToWorker::ShutDown);
    let until = Instant::now() + END_GRACE;
    while worker.running_tasks() > 0 {
        if Instant::now() >= until {
            return false;
        }
        // A task's last message comes just before its end.
        if let Ok(Some(message)) = timeout(Duration::from_millis(20), reports.recv()).await {
            let _ = outgoing.try_send(message);
        }
    }
    // What is not closed now, whoever reads it next has to close, which takes longer.
    let left = until.saturating_duration_since(Instant::now());
    let _ = timeout(left, worker.settle()).await;
    true
}
