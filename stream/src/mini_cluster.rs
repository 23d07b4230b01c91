//! The embedded cluster: the JobManager's own machines, and one TaskManager with all slots, in this process.
//!
//! The same decisions as on YARN, restarts and the two-phase end included; only containers and processes are missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use spindle_cluster::{
    CheckpointFiles, Clock, ClusterDriver, ClusterHandle, Effects, Outcome, ResourceDriver,
    TaskExecutorLink, checkpoint_files, no_checkpoint_files,
};
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{
    FromWorker, InquiryAnswer, SlotRequest, TaskExecutorRegistration, TaskExecutorReport,
    ToJobManager, ToTaskExecutor, ToWorker,
};
use spindle_common::id::{AllocationId, FencingToken, JobId, NodeName, ResourceId};
use spindle_common::job_graph::JobSubmission;
use spindle_common::time::MonoTime;
use spindle_dataflow::task::Dataflow;
use spindle_hadoop::fs::FileSystem;
use spindle_jobmanager::message::{Container, JobView, ResourceEffect, ResourceEvent};
use spindle_jobmanager::{JobManager, JobManagerConfig};
use spindle_rpc::Secret;
use spindle_storage::SnapshotStorage;
use spindle_worker::{Worker, WorkerConfig};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backend;
use crate::context::IoContext;

/// The one job of an embedded cluster.
pub(crate) const JOB: JobId = JobId::from_bytes(*b"embedded cluster");

const HOST: &str = "127.0.0.1";
/// Messages that may wait between the JobManager and the TaskExecutor.
const QUEUE: usize = 1024;
/// Between two signs of life while no task runs.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_millis(500);

/// How an embedded job ended.
pub(crate) struct Ended {
    /// How the cluster ended, with the cause in words.
    pub(crate) outcome: Outcome,
    /// What was known of the job at its end.
    pub(crate) job: Option<JobView>,
}

/// Runs one job to its end.
///
/// # Errors
/// If the process cannot have a socket or random numbers, or Hadoop's configuration makes no sense.
pub(crate) async fn run(
    dataflow: Dataflow,
    mut submission: JobSubmission,
    config: JobManagerConfig,
    io: Arc<IoContext>,
) -> Result<Ended, std::io::Error> {
    let job = submission.job;
    let secret = Secret::generate()?;
    // One process has what it has: nobody limits its slots.
    submission.graph.slot_profiles.clear();
    let slots = submission.graph.slots();
    let config = JobManagerConfig {
        slots_per_task_manager: slots,
        ..config
    };
    let fencing = config.fencing;
    let profile = config.profile;
    let fs = FileSystem::new(io.hadoop(), io.user()).map_err(std::io::Error::other)?;
    let storage = SnapshotStorage::new(fs);
    let io_of_checkpoints = Arc::clone(&io);
    let temporary = std::env::temp_dir().join(format!("spindle-{}", std::process::id()));
    let clock = Clock::start();
    let mut config = JobManagerConfig {
        epoch_ms: clock.epoch_ms(MonoTime::ZERO),
        ..config
    };
    let directory = format!("file://{}", temporary.display());
    config.checkpoints.directory.get_or_insert(directory);
    let (driver, handle) = ClusterDriver::new(JobManager::new(config), clock);
    let resources = LocalResources {
        executor: EmbeddedTaskExecutor {
            dataflow: dataflow.clone(),
            secret,
            slots,
            fencing,
            storage: storage.clone(),
        },
        profile,
        started: 0,
        cluster: handle.clone(),
        runtime: Handle::current(),
        running: JoinSet::new(),
    };
    let effects = Effects {
        resources: Box::new(resources),
        remove_staging: Box::new(move |_, directories| {
            Box::pin(remove_all(Arc::clone(&io), directories))
        }),
        checkpoints: checkpoints_in(io_of_checkpoints, fencing),
        record: None,
    };
    // The inbox has room: nothing is in it yet.
    if handle.submit(submission).await.is_err() {
        return Err(std::io::Error::other(
            "the embedded cluster ended before its job was handed in",
        ));
    }
    let outcome = driver.run(effects).await;
    storage.settle().await;
    // It is there only if it was used, and empty then.
    drop(std::fs::remove_dir(temporary));
    let job = handle.view().jobs.get(&job).map(|job| JobView::clone(job));
    Ok(Ended { outcome, job })
}

/// Connectors' file systems live on a runtime of their own, and so do those of checkpoints.
fn checkpoints_in(io: Arc<IoContext>, fencing: FencingToken) -> CheckpointFiles {
    let mut files: Option<CheckpointFiles> = None;
    Box::new(move |job, effect| {
        if files.is_none() {
            match io.file_system() {
                Ok(fs) => files = Some(checkpoint_files(SnapshotStorage::new(fs), fencing)),
                Err(error) => tracing::warn!(%error, "checkpoints have no file system"),
            }
        }
        let done = match &mut files {
            Some(files) => files(job, effect),
            None => no_checkpoint_files()(job, effect),
        };
        let io = Arc::clone(&io);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || io.block_on(done));
            done.await.ok().flatten()
        })
    })
}

async fn remove_all(io: Arc<IoContext>, directories: Vec<String>) {
    // Connectors' file systems live on a runtime of their own.
    let removal = tokio::task::spawn_blocking(move || {
        for directory in directories {
            let removed = io.file_system().and_then(|fs| {
                let path = fs.resolve(&directory)?;
                io.block_on(fs.delete(&path, true))
            });
            if let Err(error) = removed {
                tracing::warn!(directory, %error, "unfinished output could not be removed");
            }
        }
    });
    if let Err(error) = removal.await {
        tracing::warn!(%error, "removing unfinished output was interrupted");
    }
}

/// Grants what is asked, at once: a container is a name, a TaskExecutor is a task of this process.
struct LocalResources {
    executor: EmbeddedTaskExecutor,
    profile: spindle_common::resource::ResourceProfile,
    started: u32,
    cluster: ClusterHandle,
    runtime: Handle,
    running: JoinSet<()>,
}

impl ResourceDriver for LocalResources {
    fn apply(&mut self, effect: ResourceEffect) {
        match effect {
            ResourceEffect::Plan(plan) => {
                let grant = |number| Container {
                    resource: ResourceId::new(format!("local-{number}")),
                    node: NodeName::new(HOST),
                    profile: self.profile,
                    asked: self.profile,
                };
                let pending = plan.pending();
                let granted: Vec<_> = (self.started..self.started + pending).map(grant).collect();
                self.started += pending;
                if !granted.is_empty() {
                    // A cluster that is over needs no container.
                    drop(
                        self.cluster
                            .resource_events()
                            .send(ResourceEvent::Allocated(granted)),
                    );
                }
            }
            ResourceEffect::Launch { resource, .. } => {
                let (executor, cluster, runtime) = (
                    self.executor.clone(),
                    self.cluster.clone(),
                    self.runtime.clone(),
                );
                self.running.spawn_on(
                    async move {
                        let events = cluster.resource_events();
                        let reason = executor.serve(resource.clone(), cluster, &runtime).await;
                        drop(events.send(ResourceEvent::Completed {
                            resource,
                            reason,
                            platform: false,
                        }));
                    },
                    &self.runtime,
                );
            }
            // A TaskExecutor ends with its link, and there is nothing else to give back.
            ResourceEffect::Stop { .. } | ResourceEffect::Release { .. } => {}
        }
    }
}

/// The TaskExecutor of this process: no slot is refused, and the one worker is a part of it.
#[derive(Clone)]
struct EmbeddedTaskExecutor {
    dataflow: Dataflow,
    secret: Secret,
    slots: u32,
    fencing: FencingToken,
    storage: SnapshotStorage,
}

struct RunningWorker {
    job: JobId,
    worker: Worker,
    reports: mpsc::Receiver<FromWorker>,
    allocations: BTreeSet<AllocationId>,
}

impl EmbeddedTaskExecutor {
    /// Serves until the JobManager lets it go; why it ended.
    async fn serve(self, resource: ResourceId, cluster: ClusterHandle, runtime: &Handle) -> String {
        let (to_job_manager, incoming) = mpsc::channel(QUEUE);
        let (outgoing, mut orders) = mpsc::channel(QUEUE);
        let registration = TaskExecutorRegistration {
            resource,
            fencing: self.fencing,
            node: NodeName::new(HOST),
            host: HOST.to_owned(),
            slots: self.slots,
            pid: std::process::id(),
        };
        let gone = "the embedded cluster is over".to_owned();
        if cluster
            .attach(TaskExecutorLink { incoming, outgoing })
            .await
            .is_err()
        {
            return gone;
        }
        drop(cluster);
        let mut said = to_job_manager
            .send(ToJobManager::Register(registration))
            .await;
        let mut running: Option<RunningWorker> = None;
        while said.is_ok() {
            let report = async {
                match &mut running {
                    Some(worker) => worker.reports.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(ToTaskExecutor::ShutDown { reason }) => return reason,
                    Some(order) => {
                        if let Some(answer) = self.obey(order, &mut running, runtime) {
                            said = to_job_manager.send(answer).await;
                        }
                    }
                    None => return gone,
                },
                Some(report) = report => match report {
                    FromWorker::TaskState(update) => said = to_job_manager.send(ToJobManager::TaskState(update)).await,
                    FromWorker::TaskCheckpoint(done) => said = to_job_manager.send(ToJobManager::TaskCheckpoint(done)).await,
                    FromWorker::Report(tasks) => {
                        let report = TaskExecutorReport { tasks, ..TaskExecutorReport::default() };
                        said = to_job_manager.send(ToJobManager::Heartbeat(report)).await;
                    }
                    FromWorker::Hello(_) => {}
                },
                () = tokio::time::sleep(HEARTBEAT) => {
                    said = to_job_manager.send(ToJobManager::Heartbeat(TaskExecutorReport::default())).await;
                }
            }
        }
        gone
    }

    /// Does what the JobManager says; the answer, if there is one.
    fn obey(
        &self,
        order: ToTaskExecutor,
        running: &mut Option<RunningWorker>,
        runtime: &Handle,
    ) -> Option<ToJobManager> {
        match order {
            ToTaskExecutor::Registered { .. } | ToTaskExecutor::ShutDown { .. } => {}
            ToTaskExecutor::RequestSlot(request) => {
                return Some(self.offer(request, running, runtime));
            }
            ToTaskExecutor::FreeSlot { allocation } => {
                if let Some(worker) = running {
                    worker.allocations.remove(&allocation);
                    if worker.allocations.is_empty() {
                        *running = None;
                    }
                }
            }
            ToTaskExecutor::Inquire { inquiry, .. } => {
                let why = "an embedded cluster keeps no log files of its own".to_owned();
                let answer = InquiryAnswer::Failed(why);
                return Some(ToJobManager::Inquired { inquiry, answer });
            }
            ToTaskExecutor::SubmitTask(task) => tell(running, ToWorker::SubmitTask(task)),
            ToTaskExecutor::CancelTask { execution, .. } => {
                tell(running, ToWorker::CancelTask { execution })
            }
            ToTaskExecutor::CommitTask { execution, .. } => {
                tell(running, ToWorker::CommitTask { execution })
            }
            ToTaskExecutor::TriggerCheckpoint {
                execution, barrier, ..
            } => tell(running, ToWorker::TriggerCheckpoint { execution, barrier }),
            ToTaskExecutor::CheckpointComplete {
                execution,
                checkpoint,
                ..
            } => {
                let message = ToWorker::CheckpointComplete {
                    execution,
                    checkpoint,
                };
                tell(running, message);
            }
            ToTaskExecutor::CheckpointAborted {
                execution,
                checkpoint,
                ..
            } => {
                let message = ToWorker::CheckpointAborted {
                    execution,
                    checkpoint,
                };
                tell(running, message);
            }
        }
        None
    }

    fn offer(
        &self,
        request: SlotRequest,
        running: &mut Option<RunningWorker>,
        runtime: &Handle,
    ) -> ToJobManager {
        let SlotRequest {
            allocation,
            job,
            config,
            ..
        } = request;
        let worker = match running {
            Some(worker) => worker,
            None => match self.start(job, &config, runtime) {
                Ok(worker) => running.insert(worker),
                Err(message) => {
                    let cause = FailureCause {
                        class: FailureClass::FailJob,
                        operator: None,
                        message,
                    };
                    return ToJobManager::SlotUnavailable {
                        allocation,
                        job,
                        cause,
                    };
                }
            },
        };
        worker.allocations.insert(allocation);
        ToJobManager::OfferSlot {
            allocation,
            job: worker.job,
            data_address: worker.worker.data_address().to_owned(),
        }
    }

    fn start(
        &self,
        job: JobId,
        settings: &[(String, String)],
        runtime: &Handle,
    ) -> Result<RunningWorker, String> {
        let config = WorkerConfig::new(job, HOST.to_owned(), self.secret.clone())
            .with_settings(settings)
            .map_err(|error| error.to_string())?
            .with_storage(self.storage.clone())
            .with_backend(backend::of_job(settings)?);
        let (worker, reports) = Worker::start(self.dataflow.clone(), config, runtime)
            .map_err(|error| error.to_string())?;
        Ok(RunningWorker {
            job,
            worker,
            reports,
            allocations: BTreeSet::new(),
        })
    }
}

fn tell(running: &Option<RunningWorker>, message: ToWorker) {
    // Without a worker its loss has been reported, and this message crossed it on the way.
    if let Some(running) = running {
        running.worker.handle(message);
    }
}
