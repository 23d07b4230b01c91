//! Carries out what [`crate::task_executor`] decides: streams, processes, the clock.

mod error;
mod log;
mod workers;

use std::collections::{BTreeMap, HashMap};
use std::future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spindle_common::deployment::TaskExecutorSpec;
use spindle_common::execution::FailureCause;
use spindle_common::gateway::{
    FromWorker, Inquiry, InquiryAnswer, TaskExecutorRegistration, ToJobManager, ToTaskExecutor,
    ToWorker, WorkerHello,
};
use spindle_common::id::{FencingToken, JobId, NodeName, ResourceId};
use spindle_common::job_graph::ProgramArtifact;
use spindle_common::time::MonoTime;
use spindle_rpc::{
    ConnectError, Incoming, JobManagerConnection, Secret, WorkerStream, connect_job_manager,
    serve_workers,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};

pub use self::error::ShellError;
use self::log::{log, log_loss};
use crate::task_executor::{Effect, Input, TaskExecutor, WorkerId};
use crate::worker_process::Supervision;

/// How long to try to reach the JobManager, which may be slower to start than its containers.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PAUSE: Duration = Duration::from_millis(300);
/// How long a worker's stream may take from its opening to its hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// How long the JobManager may take to read a message before it counts as lost.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long killed workers may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// How often the memory of the workers is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(150);
const EVENTS: usize = 128;
/// Questions that are answered at the same time: each answer may be as large as a log file's end.
const MAX_INQUIRIES: usize = 4;

/// How the process was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its JobManager.
    ShutDown,
    /// By a signal.
    Terminated,
}

/// An error with its causes, in one line.
pub fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Runs a TaskExecutor until it is told to end. However it ends, no worker is left.
///
/// # Errors
/// If it cannot begin, or its JobManager is lost.
pub async fn run(
    spec: TaskExecutorSpec,
    secret: Secret,
    log_dir: PathBuf,
) -> Result<End, ShellError> {
    let mut terminated = signal(SignalKind::terminate()).map_err(ShellError::Signal)?;
    let terminated = async {
        terminated.recv().await;
    };
    serve(spec, secret, log_dir, terminated).await
}

async fn serve(
    spec: TaskExecutorSpec,
    secret: Secret,
    log_dir: PathBuf,
    terminated: impl Future<Output = ()>,
) -> Result<End, ShellError> {
    tokio::pin!(terminated);
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(ShellError::Listen)?;
    let workers_at = listener
        .local_addr()
        .map_err(ShellError::Listen)?
        .to_string();
    let (accepted, mut streams) = mpsc::channel(1);
    let mut server = std::pin::pin!(serve_workers(
        listener,
        secret.clone(),
        FencingToken(spec.fencing),
        accepted
    ));
    let connected = tokio::select! {
        connected = connect(&spec, &secret) => connected?,
        () = &mut terminated => return Ok(End::Terminated),
    };
    let JobManagerConnection {
        outgoing,
        mut incoming,
        ..
    } = connected;
    let (events, mut happened) = mpsc::channel(EVENTS);
    let mut shell = Shell {
        machine: TaskExecutor::new(spec.slots, spec.memory_bytes),
        started: Instant::now(),
        workers: BTreeMap::new(),
        processes: JoinSet::new(),
        streams: JoinSet::new(),
        fetches: JoinSet::new(),
        fetching: HashMap::new(),
        inquiries: JoinSet::new(),
        events,
        outgoing,
        workers_at,
        log_dir,
        secret,
        spec,
    };
    shell.tell(shell.registration()).await?;
    let mut watch = tokio::time::interval(WATCH_INTERVAL);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = loop {
        let deadline = shell.machine.deadline();
        let tick = shell.until(deadline);
        let input = tokio::select! {
            message = incoming.recv() => match message {
                Ok(ToTaskExecutor::Inquire { inquiry, what }) => {
                    shell.inquire(inquiry, what);
                    continue;
                }
                Ok(message) => Input::JobManager(message),
                Err(end) => break Err(shell.job_manager_lost(report(&end))),
            },
            Some(event) = happened.recv() => match shell.input_of(event) {
                Some(input) => input,
                None => continue,
            },
            Some(ended) = shell.processes.join_next() => match ended {
                Ok((worker, how)) => {
                    shell.workers.remove(&worker);
                    Input::WorkerEnded(worker, how)
                }
                Err(_) => continue,
            },
            Some(fetched) = shell.fetches.join_next_with_id() => match shell.fetched(fetched) {
                Some(input) => input,
                None => continue,
            },
            _ = watch.tick(), if !shell.workers.is_empty() => shell.memory(),
            Some(stream) = streams.recv() => {
                shell.welcome(stream);
                continue;
            }
            Some(_) = shell.streams.join_next() => continue,
            Some(answered) = shell.inquiries.join_next() => {
                if let Ok(answer) = answered
                    && let Err(error) = shell.tell(answer).await
                {
                    break Err(error);
                }
                continue;
            }
            served = &mut server => break served.map(|()| End::Terminated).map_err(ShellError::Serve),
            () = tick => Input::Tick,
            () = &mut terminated => break Ok(End::Terminated),
        };
        match shell.step(input).await {
            Ok(None) => {}
            Ok(Some(end)) => break Ok(end),
            Err(error) => break Err(error),
        }
    };
    shell.kill_all().await;
    end
}

/// Tries again while nobody answers.
async fn connect(
    spec: &TaskExecutorSpec,
    secret: &Secret,
) -> Result<JobManagerConnection, ShellError> {
    let address = &spec.job_manager;
    let until = Instant::now() + CONNECT_PATIENCE;
    loop {
        match connect_job_manager(address, secret, FencingToken(spec.fencing)).await {
            Ok(connection) => return Ok(connection),
            Err(ConnectError::Unreachable { .. }) if Instant::now() < until => {
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            Err(cause) => {
                return Err(ShellError::Connect {
                    address: address.clone(),
                    cause: Box::new(cause),
                });
            }
        }
    }
}

/// What the streams of workers bring.
enum Event {
    Hello(WorkerHello, Box<WorkerStream>),
    Message(WorkerId, FromWorker),
    Disconnected(WorkerId, String),
}

/// What is known of a worker's process.
struct Supervised {
    job: JobId,
    pid: u32,
    supervision: Arc<Supervision>,
    /// Unbounded, so that a worker that does not read holds up nobody else; what goes in is bounded by the tasks of its job.
    outgoing: Option<mpsc::UnboundedSender<ToWorker>>,
}

type Fetched = Result<(), FailureCause>;

struct Shell {
    machine: TaskExecutor,
    started: Instant,
    workers: BTreeMap<WorkerId, Supervised>,
    processes: JoinSet<(WorkerId, String)>,
    streams: JoinSet<()>,
    fetches: JoinSet<Fetched>,
    fetching: HashMap<task::Id, ProgramArtifact>,
    inquiries: JoinSet<ToJobManager>,
    events: mpsc::Sender<Event>,
    outgoing: mpsc::Sender<ToJobManager>,
    workers_at: String,
    log_dir: PathBuf,
    secret: Secret,
    spec: TaskExecutorSpec,
}

impl Shell {
    fn now(&self) -> MonoTime {
        MonoTime::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn until(&self, deadline: Option<MonoTime>) -> impl Future<Output = ()> + use<> {
        let at =
            deadline.map(|deadline| self.started + Duration::from_micros(deadline.as_micros()));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        }
    }

    fn registration(&self) -> ToJobManager {
        ToJobManager::Register(TaskExecutorRegistration {
            resource: ResourceId::new(self.spec.resource.clone()),
            fencing: FencingToken(self.spec.fencing),
            node: NodeName::new(self.spec.node.clone()),
            host: self.spec.host.clone(),
            slots: self.spec.slots,
            pid: std::process::id(),
        })
    }

    /// Feeds the machine and does what it says; returns how the process ends, when it does.
    async fn step(&mut self, input: Input) -> Result<Option<End>, ShellError> {
        let mut effects = Vec::new();
        log(&input);
        self.machine.handle(self.now(), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Tell(message) => {
                    log_loss(&message);
                    self.tell(message).await?;
                }
                Effect::Heartbeat(tasks) => {
                    let report = self.report(tasks);
                    self.tell(ToJobManager::Heartbeat(report)).await?;
                }
                Effect::FetchProgram(artifact) => self.fetch(artifact),
                Effect::StartWorker {
                    worker,
                    job,
                    program,
                    config,
                    memory_limit_bytes,
                } => self.start(worker, job, &program, config, memory_limit_bytes),
                Effect::LimitWorker {
                    worker,
                    memory_limit_bytes,
                } => {
                    if let Some(worker) = self.workers.get(&worker) {
                        worker.supervision.limit(worker.pid, memory_limit_bytes);
                    }
                }
                Effect::TellWorker(worker, message) => {
                    // If it is gone, its end comes as an input.
                    if let Some(outgoing) = self
                        .workers
                        .get(&worker)
                        .and_then(|worker| worker.outgoing.as_ref())
                    {
                        let _ = outgoing.send(message);
                    }
                }
                Effect::KillWorker(worker) => {
                    tracing::info!(worker = worker.0, "killing a worker");
                    if let Some(worker) = self.workers.get(&worker) {
                        worker.supervision.kill();
                    }
                }
                Effect::Exit { reason } => {
                    tracing::info!(reason, "shutting down");
                    return Ok(Some(End::ShutDown));
                }
            }
        }
        Ok(None)
    }

    /// Answers a question beside everything else: files may be slow.
    fn inquire(&mut self, inquiry: u64, what: Inquiry) {
        if self.inquiries.len() >= MAX_INQUIRIES {
            let answer = InquiryAnswer::Failed("too many questions at once".to_owned());
            self.inquiries
                .spawn(async move { ToJobManager::Inquired { inquiry, answer } });
            return;
        }
        let own = (std::process::id(), "the TaskExecutor".to_owned());
        let workers = self.workers.values();
        let workers =
            workers.map(|worker| (worker.pid, format!("the worker of job {}", worker.job)));
        let processes: Vec<_> = std::iter::once(own).chain(workers).collect();
        let log_dir = self.log_dir.clone();
        self.inquiries
            .spawn_blocking(move || ToJobManager::Inquired {
                inquiry,
                answer: crate::inquiry::answer(&what, &log_dir, &processes),
            });
    }

    async fn tell(&self, message: ToJobManager) -> Result<(), ShellError> {
        match timeout(SEND_PATIENCE, self.outgoing.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.job_manager_lost("it takes no messages any more".to_owned())),
            Err(_) => Err(self.job_manager_lost("it does not read its messages".to_owned())),
        }
    }

    fn job_manager_lost(&self, reason: String) -> ShellError {
        ShellError::JobManagerLost {
            address: self.spec.job_manager.clone(),
            reason,
        }
    }

    /// Somebody who has the secret opened a stream: waits for who it is.
    fn welcome(&mut self, mut stream: WorkerStream) {
        let events = self.events.clone();
        self.streams.spawn(async move {
            match timeout(HELLO_PATIENCE, stream.incoming.recv()).await {
                Ok(Ok(FromWorker::Hello(hello))) => {
                    let _ = events.send(Event::Hello(hello, Box::new(stream))).await;
                }
                other => tracing::warn!(peer = %stream.peer, first = ?other, "a stream did not begin with a hello"),
            }
        });
    }

    fn input_of(&mut self, event: Event) -> Option<Input> {
        match event {
            Event::Message(worker, message) => Some(Input::Worker(worker, message)),
            Event::Disconnected(worker, reason) => {
                // Ends our direction of the stream: a worker that is to end waits for that.
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.outgoing = None;
                }
                Some(Input::WorkerDisconnected(worker, reason))
            }
            Event::Hello(hello, stream) => {
                let known = |(_, worker): &(&WorkerId, &mut Supervised)| {
                    worker.pid == hello.pid && worker.outgoing.is_none()
                };
                let Some((&id, worker)) = self.workers.iter_mut().find(known) else {
                    tracing::warn!(pid = hello.pid, job = %hello.job, "a process that is no worker of ours said hello");
                    return None;
                };
                let (sender, messages) = mpsc::unbounded_channel();
                worker.outgoing = Some(sender);
                let WorkerStream {
                    incoming, outgoing, ..
                } = *stream;
                self.streams.spawn(forward(messages, outgoing));
                self.streams
                    .spawn(listen(id, incoming, self.events.clone()));
                Some(Input::Worker(id, FromWorker::Hello(hello)))
            }
        }
    }
}

async fn forward(
    mut messages: mpsc::UnboundedReceiver<ToWorker>,
    outgoing: mpsc::Sender<ToWorker>,
) {
    while let Some(message) = messages.recv().await {
        if outgoing.send(message).await.is_err() {
            return;
        }
    }
}

async fn listen(worker: WorkerId, mut incoming: Incoming<FromWorker>, events: mpsc::Sender<Event>) {
    loop {
        let (event, last) = match incoming.recv().await {
            Ok(message) => (Event::Message(worker, message), false),
            Err(end) => (Event::Disconnected(worker, report(&end)), true),
        };
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
