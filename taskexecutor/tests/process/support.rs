//! A JobManager with one TaskExecutor.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use spindle_common::deployment::{
    JOB_EXECUTABLE, LOG_VARIABLE, SECRET_ENTRY, TASK_EXECUTOR_ENTRY, TaskExecutorSpec,
};
use spindle_common::execution::{ExecutionState, FailureCause};
use spindle_common::gateway::{
    SlotRequest, TaskDeployment, TaskExecutorReport, TaskStateUpdate, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{AllocationId, FencingToken, JobId};
use spindle_common::job_graph::{ProgramArtifact, ProgramSpec};
use spindle_hadoop::token::{Credentials, TOKEN_FILE_VARIABLE};
use spindle_rpc::{Secret, TaskExecutorStream, serve_job_manager};
use spindle_taskexecutor::boot;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::program::{BEHAVIOUR, dataflow, task};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn job_id(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

/// What the TaskExecutor is started in.
pub(crate) struct Container {
    pub(crate) slots: u32,
    pub(crate) memory_bytes: u64,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            slots: 1,
            memory_bytes: 1 << 30,
        }
    }
}

/// A slot for a job.
#[derive(Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) allocation: u64,
    pub(crate) slot: u32,
    pub(crate) job: u8,
}

pub(crate) struct JobManager {
    _server: JoinSet<()>,
    pub(crate) stream: TaskExecutorStream,
    pub(crate) process: Child,
    pub(crate) directory: tempfile::TempDir,
    /// Settings of its jobs.
    pub(crate) config: Vec<(String, String)>,
    /// What its jobs bring along, if they do.
    pub(crate) artifact: Option<ProgramArtifact>,
}

impl JobManager {
    /// Starts a TaskExecutor with one slot, and takes its registration.
    pub(crate) async fn start() -> Self {
        Self::start_in(Container::default()).await
    }

    pub(crate) async fn start_in(container: Container) -> Self {
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
        let process = spawn(directory.path(), &address, &secret, &container);
        let mut stream = timeout(PATIENCE, streams.recv()).await.unwrap().unwrap();
        let ToJobManager::Register(registration) = stream.incoming.recv().await.unwrap() else {
            panic!("the first message is no registration");
        };
        assert_eq!(
            (registration.resource.as_str(), registration.slots),
            ("container_1", container.slots)
        );
        assert_eq!(Some(registration.pid), process.id());
        let jm = Self {
            _server: server,
            stream,
            process,
            directory,
            config: Vec::new(),
            artifact: None,
        };
        jm.tell(ToTaskExecutor::Registered {
            heartbeat_interval_ms: 50,
        })
        .await;
        jm
    }

    pub(crate) async fn tell(&self, message: ToTaskExecutor) {
        self.stream.outgoing.send(message).await.unwrap();
    }

    /// The next message that is wanted; others are passed over.
    pub(crate) async fn next<T>(
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

    pub(crate) async fn request(&self, lease: Lease, behaviour: &str) {
        let args = ["worker_program", "--exact", "--nocapture"];
        let mut config = self.config.clone();
        config.push((BEHAVIOUR.to_owned(), behaviour.to_owned()));
        self.tell(ToTaskExecutor::RequestSlot(SlotRequest {
            allocation: AllocationId(lease.allocation),
            slot: lease.slot,
            job: job_id(lease.job),
            program: ProgramSpec {
                executable: JOB_EXECUTABLE.to_owned(),
                args: args.map(str::to_owned).to_vec(),
                artifact: self.artifact.clone(),
            },
            graph_fingerprint: dataflow("").graph.fingerprint(),
            config,
            profile: None,
        }))
        .await;
    }

    /// Leases the slot, runs a task in it, and returns the worker's process id.
    pub(crate) async fn run_task(&mut self, lease: Lease, behaviour: &str) -> u32 {
        self.request(lease, behaviour).await;
        self.deploy_until(lease, ExecutionState::Running).await;
        self.pid_of(lease.job).await
    }

    /// Waits for the slot, runs a task in it, and waits for the task's state.
    pub(crate) async fn deploy_until(
        &mut self,
        lease: Lease,
        state: ExecutionState,
    ) -> TaskStateUpdate {
        let allocation = AllocationId(lease.allocation);
        let offered = |message| {
            matches!(message, ToJobManager::OfferSlot { allocation: of, .. } if of == allocation)
                .then_some(())
        };
        self.next("the offer of the slot", offered).await;
        self.tell(ToTaskExecutor::SubmitTask(Box::new(TaskDeployment {
            job: job_id(lease.job),
            allocation,
            execution: task(),
            parallelism: 1,
            max_parallelism: 1,
            splits: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            restore: None,
        })))
        .await;
        self.state_of(lease.job, state).await
    }

    /// The process id of a job's worker.
    pub(crate) async fn pid_of(&mut self, job: u8) -> u32 {
        let pid = |message| {
            let ToJobManager::Heartbeat(report) = message else {
                return None;
            };
            let worker = report
                .workers
                .iter()
                .find(|worker| worker.job == job_id(job));
            worker.map(|worker| worker.pid)
        };
        self.next("a heartbeat with the job's worker", pid).await
    }

    pub(crate) async fn task_state(&mut self, state: ExecutionState) {
        let is_it = |message| {
            matches!(message, ToJobManager::TaskState(update) if update.state == state)
                .then_some(())
        };
        self.next("a task state", is_it).await;
    }

    /// Waits for the state of a job's task, which must not fail in another way.
    pub(crate) async fn state_of(&mut self, job: u8, state: ExecutionState) -> TaskStateUpdate {
        let is_it = |message| {
            if let ToJobManager::WorkerLost { job: lost, cause } = &message {
                assert_ne!(*lost, job_id(job), "{cause}");
            }
            let ToJobManager::TaskState(update) = message else {
                return None;
            };
            if update.job != job_id(job) {
                return None;
            }
            assert!(
                !update.state.is_terminal() || update.state == state,
                "{update:?}"
            );
            (update.state == state).then_some(update)
        };
        self.next(&format!("{state:?} of job {job}"), is_it).await
    }

    /// Why the worker of a job was lost. No other may be.
    pub(crate) async fn lost(&mut self, job: u8) -> FailureCause {
        let lost = |message| {
            let ToJobManager::WorkerLost { job: lost, cause } = message else {
                return None;
            };
            assert_eq!(lost, job_id(job), "{cause}");
            Some(cause)
        };
        self.next("the loss of the worker", lost).await
    }

    /// The lease that cannot be had, and why.
    pub(crate) async fn refused(&mut self) -> (AllocationId, FailureCause) {
        let refused = |message| {
            if let ToJobManager::SlotUnavailable {
                allocation, cause, ..
            } = message
            {
                Some((allocation, cause))
            } else {
                None
            }
        };
        self.next("the refusal", refused).await
    }

    pub(crate) async fn cancel(&self, job: u8) {
        self.tell(ToTaskExecutor::CancelTask {
            job: job_id(job),
            execution: task(),
        })
        .await;
    }

    pub(crate) async fn free(&self, allocation: u64) {
        self.tell(ToTaskExecutor::FreeSlot {
            allocation: AllocationId(allocation),
        })
        .await;
    }

    pub(crate) async fn shut_down(&mut self) {
        self.tell(ToTaskExecutor::ShutDown {
            reason: "the test is over".to_owned(),
        })
        .await;
        assert_eq!(self.ended().await.code(), Some(0));
    }

    /// The next heartbeat that tells of a worker.
    pub(crate) async fn heartbeat(&mut self) -> TaskExecutorReport {
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
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join(boot::LOG_FILE)).unwrap()
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.process.wait())
            .await
            .expect("the TaskExecutor ends")
            .unwrap()
    }
}

pub(crate) fn spawn(
    directory: &Path,
    job_manager: &str,
    secret: &Secret,
    container: &Container,
) -> Child {
    let spec = TaskExecutorSpec {
        job_manager: job_manager.to_owned(),
        fencing: 1,
        resource: "container_1".to_owned(),
        node: "localhost:1".to_owned(),
        host: "127.0.0.1".to_owned(),
        memory_bytes: container.memory_bytes,
        slots: container.slots,
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

pub(crate) fn kill(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits until a process that is not our child is gone, or has at least ended.
pub(crate) async fn gone(pid: u32) {
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
