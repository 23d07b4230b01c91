//! The process itself, against a JobManager made up for the test, over real streams. Its worker is this test's own executable, started
//! again with the test `worker_program` alone.
#![expect(clippy::unwrap_used, reason = "tests, and what they are made of")]

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spindle_common::deployment::{
    JOB_EXECUTABLE, LOG_VARIABLE, SECRET_ENTRY, TASK_EXECUTOR_ENTRY, TaskExecutorSpec,
};
use spindle_common::execution::{ExecutionState, FailureClass};
use spindle_common::gateway::{
    SlotRequest, TaskDeployment, TaskExecutorReport, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, FencingToken, JobId, JobVertexId};
use spindle_common::job_graph::{
    JobGraph, JobVertex, OperatorDescriptor, OperatorKind, ProgramSpec,
};
use spindle_common::program::{MODE_VARIABLE, WORKER_MODE, WorkerInit};
use spindle_dataflow::task::{Dataflow, Step, Task, TaskContext, TaskError, TaskFactory};
use spindle_hadoop::token::{Credentials, TOKEN_FILE_VARIABLE};
use spindle_rpc::{Secret, TaskExecutorStream, serve_job_manager};
use spindle_taskexecutor::boot;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const BEHAVIOUR: &str = "test.behaviour";

fn job() -> JobId {
    JobId::from_bytes([5; 16])
}

fn task() -> ExecutionAttemptId {
    ExecutionAttemptId {
        vertex: JobVertexId::of_uid("only"),
        subtask: 0,
        attempt: 0,
    }
}

// ---- the worker

/// Runs until it is cancelled, or does not even listen to that.
struct Endless {
    deaf: bool,
}

impl Task for Endless {
    fn step(&mut self) -> Result<Step, TaskError> {
        loop {
            std::thread::park_timeout(Duration::from_millis(5));
            if !self.deaf {
                return Ok(Step::Continue);
            }
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

impl TaskFactory for Endless {
    fn build(&self, _: TaskContext) -> Result<Box<dyn Task>, TaskError> {
        tracing::debug!("a task is built");
        Ok(Box::new(Self { deaf: self.deaf }))
    }
}

fn dataflow(deaf: bool) -> Dataflow {
    let operator = OperatorDescriptor {
        uid: "only".to_owned(),
        name: "only".to_owned(),
        kind: OperatorKind::Source,
    };
    let vertex = JobVertex {
        id: task().vertex,
        parallelism: 1,
        max_parallelism: 1,
        operators: vec![operator],
        splits: vec![Vec::new()],
        staging: Vec::new(),
    };
    let graph = JobGraph {
        name: "test".to_owned(),
        vertices: vec![vertex],
        edges: Vec::new(),
    };
    Dataflow {
        graph,
        factories: vec![Arc::new(Endless { deaf })],
    }
}

/// The worker's program, when a TaskExecutor runs it; by itself it shows that its graph is one.
#[test]
fn worker_program() {
    if std::env::var(MODE_VARIABLE).as_deref() != Ok(WORKER_MODE) {
        assert_eq!(dataflow(false).graph.validate(), Ok(()));
        return;
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let init: WorkerInit = serde_json::from_str(&line).unwrap();
    let behaviour = init
        .config
        .iter()
        .find(|(key, _)| key == BEHAVIOUR)
        .map(|(_, value)| value.clone());
    if behaviour.as_deref() == Some("exit") {
        eprintln!("cannot open the flux capacitor");
        std::process::exit(7);
    }
    let ended =
        spindle_worker::process::run(Ok(dataflow(behaviour.as_deref() == Some("deaf"))), init);
    std::process::exit(i32::from(ended.is_err()));
}

// ---- the JobManager

struct JobManager {
    _server: JoinSet<()>,
    stream: TaskExecutorStream,
    process: Child,
    directory: tempfile::TempDir,
}

impl JobManager {
    /// Starts a TaskExecutor with one slot, and takes its registration.
    async fn start() -> Self {
        let secret = Secret::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (accepted, mut streams) = mpsc::channel(1);
        let mut server = JoinSet::new();
        let served = secret.clone();
        server.spawn(async move {
            serve_job_manager(listener, served, FencingToken(1), accepted)
                .await
                .unwrap()
        });
        let directory = tempfile::tempdir().unwrap();
        let process = spawn(directory.path(), &address, &secret);
        let mut stream = timeout(PATIENCE, streams.recv()).await.unwrap().unwrap();
        let ToJobManager::Register(registration) = stream.incoming.recv().await.unwrap() else {
            panic!("the first message is no registration");
        };
        assert_eq!(
            (registration.resource.as_str(), registration.slots),
            ("container_1", 1)
        );
        assert_eq!(Some(registration.pid), process.id());
        let jm = Self {
            _server: server,
            stream,
            process,
            directory,
        };
        jm.tell(ToTaskExecutor::Registered {
            heartbeat_interval_ms: 50,
        })
        .await;
        jm
    }

    async fn tell(&self, message: ToTaskExecutor) {
        self.stream.outgoing.send(message).await.unwrap();
    }

    /// The next message that is wanted; others are passed over.
    async fn next<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(ToJobManager) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                let message = self.stream.incoming.recv().await.unwrap();
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("waited for {what}"))
    }

    async fn request(&self, allocation: u64, behaviour: &str) {
        let args = ["worker_program", "--exact", "--nocapture"];
        self.tell(ToTaskExecutor::RequestSlot(SlotRequest {
            allocation: AllocationId(allocation),
            slot: 0,
            job: job(),
            program: ProgramSpec {
                executable: JOB_EXECUTABLE.to_owned(),
                args: args.map(str::to_owned).to_vec(),
                artifact: None,
            },
            graph_fingerprint: dataflow(false).graph.fingerprint(),
            config: vec![(BEHAVIOUR.to_owned(), behaviour.to_owned())],
        }))
        .await;
    }

    /// Leases the slot, runs a task in it, and returns the worker's process id.
    async fn run_task(&mut self, allocation: u64, behaviour: &str) -> u32 {
        self.request(allocation, behaviour).await;
        let offered = |message| matches!(message, ToJobManager::OfferSlot { .. }).then_some(());
        self.next("the offer of the slot", offered).await;
        self.tell(ToTaskExecutor::SubmitTask(Box::new(TaskDeployment {
            job: job(),
            allocation: AllocationId(allocation),
            execution: task(),
            parallelism: 1,
            max_parallelism: 1,
            splits: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        })))
        .await;
        self.task_state(ExecutionState::Running).await;
        let report = self.heartbeat().await;
        report.workers[0].pid
    }

    async fn task_state(&mut self, state: ExecutionState) {
        let is_it = |message| {
            matches!(message, ToJobManager::TaskState(update) if update.state == state)
                .then_some(())
        };
        self.next("a task state", is_it).await;
    }

    /// The next heartbeat that tells of a worker.
    async fn heartbeat(&mut self) -> TaskExecutorReport {
        let is_it = |message| {
            if let ToJobManager::Heartbeat(report) = message
                && !report.workers.is_empty()
            {
                Some(report)
            } else {
                None
            }
        };
        self.next("a heartbeat with a worker", is_it).await
    }

    /// What the TaskExecutor has logged.
    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join(boot::LOG_FILE)).unwrap()
    }

    async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.process.wait())
            .await
            .expect("the TaskExecutor ends")
            .unwrap()
    }
}

fn spawn(directory: &Path, job_manager: &str, secret: &Secret) -> Child {
    let spec = TaskExecutorSpec {
        job_manager: job_manager.to_owned(),
        fencing: 1,
        resource: "container_1".to_owned(),
        node: "localhost:1".to_owned(),
        host: "127.0.0.1".to_owned(),
        memory_bytes: 1 << 30,
        slots: 1,
        hadoop: Vec::new(),
        user: "tester".to_owned(),
    };
    let hex = secret.to_hex();
    let bytes = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
    let mut credentials = Credentials::new();
    credentials.add_secret(SECRET_ENTRY, bytes.collect());
    credentials.add_secret(TASK_EXECUTOR_ENTRY, serde_json::to_vec(&spec).unwrap());
    std::fs::write(directory.join("tokens"), credentials.encode()).unwrap();
    std::os::unix::fs::symlink(
        std::env::current_exe().unwrap(),
        directory.join(JOB_EXECUTABLE),
    )
    .unwrap();
    Command::new(env!("CARGO_BIN_EXE_spindle-taskexecutor"))
        .current_dir(directory)
        .env(TOKEN_FILE_VARIABLE, "tokens")
        .env("LOG_DIRS", directory)
        .env(
            LOG_VARIABLE,
            "info,spindle_taskexecutor=debug,process=debug",
        )
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn kill(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits until a process that is not our child is gone, or has at least ended.
async fn gone(pid: u32) {
    let start = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        if state.is_empty() || state.starts_with('Z') {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "process {pid} is still there: {stat}"
        );
        tokio::task::yield_now().await;
    }
}

// ---- the tests

#[tokio::test]
async fn a_killed_worker_is_told_in_words_and_the_slot_can_be_leased_again() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(1, "").await;
    let report = jm.heartbeat().await;
    assert!(
        report.resident_bytes > 0 && report.workers[0].resident_bytes > 0,
        "{report:?}"
    );
    let resident = report.resident_bytes + report.workers[0].resident_bytes;
    assert!(
        resident < 40 << 20,
        "{resident} bytes are too much for a tiny job"
    );
    kill("-KILL", pid);
    let lost = |message| {
        if let ToJobManager::WorkerLost { cause, .. } = message {
            Some(cause)
        } else {
            None
        }
    };
    let cause = jm.next("the loss of the worker", lost).await;
    assert_eq!(cause.class, FailureClass::Restart);
    assert!(
        cause.message.contains("killed by signal 9 (SIGKILL)"),
        "{cause}"
    );
    let second = jm.run_task(2, "").await;
    assert_ne!(second, pid);
    jm.tell(ToTaskExecutor::ShutDown {
        reason: "the test is over".to_owned(),
    })
    .await;
    assert_eq!(jm.ended().await.code(), Some(0));
    gone(second).await;
}

#[tokio::test]
async fn a_worker_that_does_not_start_is_told_with_the_end_of_its_error_log() {
    let mut jm = JobManager::start().await;
    jm.request(1, "exit").await;
    let unavailable = |message| {
        if let ToJobManager::SlotUnavailable {
            allocation, cause, ..
        } = message
        {
            Some((allocation, cause))
        } else {
            None
        }
    };
    let (allocation, cause) = jm.next("the refusal", unavailable).await;
    assert_eq!(allocation, AllocationId(1));
    assert!(cause.message.contains("exited with code 7"), "{cause}");
    assert!(
        cause.message.ends_with("cannot open the flux capacitor"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_task_is_cancelled_and_a_worker_without_a_slot_ends() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(1, "").await;
    jm.tell(ToTaskExecutor::CancelTask {
        job: job(),
        execution: task(),
    })
    .await;
    jm.task_state(ExecutionState::Canceled).await;
    jm.tell(ToTaskExecutor::FreeSlot {
        allocation: AllocationId(1),
    })
    .await;
    gone(pid).await;
    jm.tell(ToTaskExecutor::ShutDown {
        reason: "the test is over".to_owned(),
    })
    .await;
    assert_eq!(jm.ended().await.code(), Some(0));
    let log = jm.log();
    assert!(log.contains("the peer ended the stream"), "{log}");
    assert!(!log.contains("the connection was lost"), "{log}");
}

#[tokio::test]
async fn the_worker_of_a_task_executor_that_shuts_down_ends_its_stream_well() {
    let mut jm = JobManager::start().await;
    jm.run_task(1, "").await;
    jm.tell(ToTaskExecutor::ShutDown {
        reason: "the test is over".to_owned(),
    })
    .await;
    assert_eq!(jm.ended().await.code(), Some(0));
    let log = jm.log();
    assert!(log.contains("the peer ended the stream"), "{log}");
    assert!(!log.contains("the connection was lost"), "{log}");
}

#[tokio::test]
async fn it_and_its_workers_log_what_the_environment_asks_for() {
    let mut jm = JobManager::start().await;
    jm.run_task(1, "").await;
    jm.tell(ToTaskExecutor::FreeSlot {
        allocation: AllocationId(9),
    })
    .await;
    jm.tell(ToTaskExecutor::ShutDown {
        reason: "the test is over".to_owned(),
    })
    .await;
    assert_eq!(jm.ended().await.code(), Some(0));
    let log = jm.log();
    assert!(log.contains("dropped the end of an unknown lease"), "{log}");
    let errors = format!("worker-{}.err", job());
    let log = std::fs::read_to_string(jm.directory.path().join(errors)).unwrap();
    assert!(log.contains("a task is built"), "{log}");
}

#[tokio::test]
async fn without_its_job_manager_it_ends_and_leaves_no_worker() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(1, "deaf").await;
    let (outgoing, _) = mpsc::channel(1);
    jm.stream.outgoing = outgoing;
    assert_eq!(jm.ended().await.code(), Some(1));
    gone(pid).await;
}

#[tokio::test]
async fn terminated_by_a_signal_it_leaves_no_worker() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(1, "deaf").await;
    kill("-TERM", jm.process.id().unwrap());
    assert_eq!(jm.ended().await.code(), Some(143));
    gone(pid).await;
}

#[tokio::test]
async fn a_worker_whose_task_executor_was_killed_ends_by_itself() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(1, "deaf").await;
    jm.process.start_kill().unwrap();
    jm.ended().await;
    gone(pid).await;
}

#[tokio::test]
async fn with_another_secret_it_ends_naming_the_job_manager() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (accepted, _streams) = mpsc::channel(1);
    let mut server = JoinSet::new();
    let served = Secret::generate().unwrap();
    server.spawn(async move {
        serve_job_manager(listener, served, FencingToken(1), accepted)
            .await
            .unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let process = spawn(directory.path(), &address, &Secret::generate().unwrap());
    let output = timeout(PATIENCE, process.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains(&address) && words.contains("secret"),
        "{words}"
    );
}
