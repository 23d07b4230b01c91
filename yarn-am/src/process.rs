//! The process: reads what YARN and the client tell it, brings the parts up, and ends with the outcome.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use spindle_cluster::rest::RestConfig;
use spindle_cluster::{Clock, ClusterDriver, ClusterHandle, Effects, JobDirectories, Outcome};
use spindle_common::config::{Config, options};
use spindle_common::deployment::{DeploymentMode, JOB_EXECUTABLE};
use spindle_common::id::{FencingToken, JobId};
use spindle_common::job_graph::{JobGraph, JobSubmission, ProgramSpec};
use spindle_common::time::MonoTime;
use spindle_hadoop::fs::FileSystem;
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::proto::yarn as pb;
use spindle_hadoop::token::Credentials;
use spindle_hadoop::yarn::{
    ApplicationMasterClient, FailoverPolicy, NodeManagerClient, Registration, ResourceManagers,
};
use spindle_jobmanager::message::FinalStatus;
use spindle_jobmanager::{ClusterMode, JobManager, JobManagerConfig};
use spindle_storage::SnapshotStorage;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::allocation::Allocation;
use crate::doors::{Doors, access};
use crate::endings::{self, Endings};
use crate::environment::Environment;
use crate::job_records::{Found, JobRecords};
use crate::launcher::Launcher;
use crate::manifest::Manifest;
use crate::plan::Program;
use crate::staging::Leftover;
use crate::told::Told;
use crate::yarn_driver::{YarnActor, YarnDriverConfig, YarnDriverError};
use crate::{net, staging};

const LOG_FILE: &str = "jobmanager.log";
/// The last inputs of a failed job's JobManager, beside the log.
const RECORD_FILE: &str = "jobmanager-inputs.jsonl";
const WORKER_THREADS: usize = 2;
/// The ResourceManager is tried this long in one call; between calls the JobManager's wishes are looked at.
const RM_ROUND: Duration = Duration::from_secs(5);
/// TaskExecutors report at least this often: their reports carry the counters that people watch.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const NM_PATIENCE: Duration = Duration::from_secs(15);
/// How long people wait at most for the jobs of an earlier attempt to be taken up.
const GOES_ON: Duration = Duration::from_secs(10);
/// How long an attempt that YARN has ended looks whether the application is over too. KILL may come before, soon after TERM.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// How long the end waits for files of checkpoints to be closed.
const LAST_CLOSES: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Runs the ApplicationMaster until its application is over.
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // YARN shows the end of this file with the failed attempt.
            let text = format!("the ApplicationMaster failed: {}", chain(&error));
            tracing::error!("{text}");
            drop(writeln!(std::io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let credentials = Credentials::from_environment()?;
    let told = Told::read(&credentials)?;
    log_to(&environment, &told.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let ended = runtime.block_on(Box::pin(run(environment, credentials, told)));
    // What still runs, such as a look-up of a name, must not hold the end up.
    runtime.shutdown_background();
    ended
}

fn log_to(environment: &Environment, config: &Config) -> anyhow::Result<()> {
    let path = environment.log_dir.join(LOG_FILE);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("failed to open the log `{}`", path.display()))?;
    let level = config.get(&options::LOG_LEVEL);
    let filter = tracing_subscriber::EnvFilter::try_new(&level)
        .with_context(|| format!("env.log.level `{level}` is no level"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Arc::new(file))
        .try_init()
        .map_err(|error| anyhow!("failed to start the log: {error}"))
}

async fn run(environment: Environment, credentials: Credentials, told: Told) -> anyhow::Result<()> {
    let attempt = environment.container.attempt;
    tracing::info!(container_id = %environment.container, name = told.spec.name, user = told.spec.user, "ApplicationMaster starts");
    let ipc = ClientConfig::from_configuration(&told.hadoop)?;
    let fs = FileSystem::new(&told.hadoop, &told.spec.user)?;
    let job_manager = told.config.job_manager();
    let rpc = net::bind(
        &environment.host,
        &job_manager.rpc_ports,
        "jobmanager.rpc.port",
    )
    .await?;
    let rest = net::bind(&environment.host, &job_manager.rest_ports, "rest.port").await?;
    let (rpc_port, rest_port) = (rpc.local_addr()?.port(), rest.local_addr()?.port());

    let registration = Registration {
        host: environment.host.clone(),
        rpc_port: i32::from(rest_port),
        tracking_url: format!("http://{}:{rest_port}/", environment.host),
    };
    let mut master = ApplicationMasterClient::new(
        ResourceManagers::schedulers(&told.hadoop.resource_managers()?)?,
        &credentials,
        ipc.clone(),
        FailoverPolicy {
            max_wait: RM_ROUND,
            ..FailoverPolicy::default()
        },
    )?;
    let registered = master
        .register(registration.clone())
        .await
        .context("failed to register with the ResourceManager")?;
    let mut allocation = Allocation::new(
        environment.node.clone(),
        told.config.get(&options::YARN_TASKMANAGER_NODE_LABEL),
    );
    allocation.registered(&registered);

    let access = match access(&told, &registered).await {
        Ok(access) => access,
        Err(error) => {
            let diagnostics = format!("the ApplicationMaster could not start: {}", chain(&error));
            let status = pb::FinalApplicationStatus::AppFailed;
            master.finish(status, &diagnostics, "").await?;
            return Ok(());
        }
    };

    let fencing = FencingToken(u64::from(attempt.attempt));
    let attached = told.spec.attached;
    let mode = match &told.spec.mode {
        DeploymentMode::PerJob => ClusterMode::PerJob { attached },
        DeploymentMode::Session => ClusterMode::Session,
        DeploymentMode::Application { .. } => ClusterMode::Application { attached },
    };
    let mut settings = JobManagerConfig::of(&told.config, mode, fencing);
    settings.heartbeat_interval = settings.heartbeat_interval.min(REPORT_INTERVAL);
    let home = staging::checkpoints_beside(&told.spec.staging);
    settings.checkpoints.directory.get_or_insert(home);
    let clock = Clock::start();
    settings.epoch_ms = clock.epoch_ms(MonoTime::ZERO);
    let (driver, cluster) = ClusterDriver::new(JobManager::new(settings), clock);
    let yarn = told.config.yarn();
    let task_manager = told.config.task_manager();
    let launcher = Launcher {
        job_manager: format!("{}:{rpc_port}", environment.host),
        fencing: fencing.0,
        env: task_manager.env,
        log: (told.config.is_set(&options::LOG_LEVEL))
            .then(|| told.config.get(&options::LOG_LEVEL)),
        resources: told.spec.task_executor_resources.clone(),
        hadoop: told.spec.hadoop.clone(),
        user: told.spec.user.clone(),
        credentials: credentials.clone(),
        acls: registered.application_ac_ls,
    };
    let nodes = NodeManagerClient::new(
        master.nm_tokens().clone(),
        ipc,
        FailoverPolicy {
            max_wait: NM_PATIENCE,
            ..FailoverPolicy::default()
        },
    );
    let manifest = Arc::new(Manifest::new(fs.clone(), &told.spec.staging)?);
    let (mut actor, resources) = YarnActor::new(
        master,
        registration,
        nodes,
        allocation,
        launcher,
        Arc::clone(&manifest),
        YarnDriverConfig {
            calm: yarn.heartbeat_interval,
            waiting: yarn.request_interval,
        },
        cluster.resource_events(),
        cluster.watch(),
    );
    let application = matches!(told.spec.mode, DeploymentMode::Application { .. });
    let records = JobRecords::new(fs.clone(), &told.spec.staging, attempt.attempt, application)?;
    let records = Arc::new(records);
    let found = if attempt.attempt > 1 && told.submission.is_none() {
        records.find().await?
    } else {
        Found::default()
    };
    if attempt.attempt > 1 && !resumes(&told) {
        // What an attempt before this left half done, of jobs that nobody goes on with, is in the way of others.
        let goes_on =
            |leftover: &Leftover| found.open.iter().any(|it| Some(it.job) == leftover.job());
        match manifest.left_by_others().await {
            Ok(mut leftovers) => {
                leftovers.retain(|leftover| !goes_on(leftover));
                staging::remove(fs.clone(), leftovers).await;
            }
            Err(error) => tracing::warn!(error = report(&error), "the manifest cannot be read"),
        }
    }
    let storage = SnapshotStorage::new(fs.clone());
    let directories = JobDirectories::new(storage.clone(), fencing);
    let endings = Endings {
        records: Arc::clone(&records),
        view: cluster.watch(),
        directories: directories.clone(),
    };
    let removal = (fs.clone(), Arc::clone(&manifest), endings.clone());
    let effects = Effects {
        resources: Box::new(resources),
        remove_staging: Box::new(move |job, directories| {
            let (fs, manifest, endings) = removal.clone();
            Box::pin(async move {
                if directories.is_empty() {
                    // Whoever looks into it after this process must not remove that either.
                    manifest.keep(job);
                    manifest.write_or_warn().await;
                    return;
                }
                if endings.settle(job).await {
                    staging::remove(fs, Leftover::of_job(job, directories)).await;
                    manifest.forget(job);
                }
            })
        }),
        checkpoints: (endings.clone()).before(directories.files()),
        record: Some(environment.log_dir.join(RECORD_FILE)),
    };

    let noted = (Arc::clone(&manifest), Arc::clone(&records));
    let known = cluster.watch();
    let is_session = told.spec.mode == DeploymentMode::Session;
    let handle = cluster
        .clone()
        .with_before_submission(Arc::new(move |submission| {
            let (manifest, records) = noted.clone();
            let mut record = None;
            // A submission that comes twice must not bring back what is removed already.
            if !known.borrow().jobs.contains_key(&submission.job) {
                manifest.note(submission.job, &submission.graph);
                let is_new = is_session && !records.has(submission.job);
                record = is_new.then(|| submission.clone());
            }
            Box::pin(async move {
                let written = async {
                    if let Some(submission) = record {
                        records.write_or_warn(&submission).await;
                    }
                };
                tokio::join!(written, manifest.write_or_warn());
            })
        }));
    let mut doors = JoinSet::new();
    Doors { rpc, rest }.open(
        &mut doors,
        &handle,
        all_known(&cluster, found.open.iter().map(|it| it.job).collect()),
        told.secret.clone(),
        fencing,
        RestConfig {
            name: told.spec.name.clone(),
            access,
            proxy_base: environment.proxy_base.clone(),
            accepts_jobs: told.spec.mode == DeploymentMode::Session,
            log_directory: Some(environment.log_dir.clone()),
            configuration: told.spec.config.clone(),
            snapshots: Some(storage.clone()),
        },
    );
    let resumed = resumes(&told);
    if let Some(submission) = told.submission {
        manifest.note(submission.job, &submission.graph);
        manifest.is_written().await;
        if attempt.attempt > 1 && !resumed {
            // The client may have been killed before it wrote the manifest.
            staging::remove(fs.clone(), manifest.leftovers()).await;
        }
        cluster.submit(submission).await?;
    }
    let planned = async {
        if let Some((status, diagnostics)) = endings::outcome(&found).filter(|_| application) {
            return Err(Outcome {
                status,
                diagnostics,
            });
        }
        let goes_on = !found.open.is_empty();
        for submission in &found.open {
            manifest.note(submission.job, &submission.graph);
        }
        for submission in found.open {
            tracing::info!(job_id = %submission.job, name = submission.graph.name, "goes on after an earlier attempt");
            handle
                .submit(submission)
                .await
                .map_err(|gone| no_jobs(&gone))?;
        }
        if application && goes_on {
            handle.no_more_jobs().await.map_err(|gone| no_jobs(&gone))?;
        } else if let DeploymentMode::Application { args } = &told.spec.mode {
            let directory = std::env::current_dir().map_err(|error| no_jobs(&error))?;
            let program = Program::new(
                directory,
                environment.log_dir.clone(),
                args.clone(),
                told.spec.config.clone(),
                told.spec.hadoop.clone(),
                told.spec.user.clone(),
            );
            let graph = program.plan(&credentials).await;
            let graph = graph.map_err(|error| no_jobs(&error))?;
            let submission = submission_of(graph, args.clone(), &told.spec.config);
            hand_in(submission, &manifest, &records, &cluster).await;
        }
        Ok(())
    };
    let nothing_to_run = async {
        match planned.await {
            Ok(()) => std::future::pending().await,
            Err(outcome) => outcome,
        }
    };

    let mut terminated = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let over = tokio::select! {
        outcome = driver.run(effects) => Over::Outcome(outcome),
        error = actor.run() => Over::Attempt(error),
        _ = terminated.recv() => Over::Terminated,
        Some(door) = doors.join_next() => Over::Door(door),
        outcome = nothing_to_run => Over::Outcome(outcome),
        never = endings.watch() => match never {},
    };
    let outcome = match over {
        Over::Outcome(outcome) => outcome,
        Over::Door(door) => Outcome {
            status: FinalStatus::Failed,
            diagnostics: match door {
                Ok(reason) => reason,
                Err(error) => format!("a server of the ApplicationMaster ended: {error}"),
            },
        },
        Over::Attempt(_) | Over::Terminated => {
            let last = async {
                let (hadoop, user) = (&told.hadoop, &told.spec.user);
                while !staging::application_is_over(hadoop, user, attempt.application).await {
                    tokio::time::sleep(LAST_PAUSE).await;
                }
                remove_all(fs, &manifest, told.spec.staging).await;
            };
            drop(tokio::time::timeout(LAST_MOMENTS, last).await);
            return match over {
                Over::Attempt(error) => Err(error.into()),
                Over::Terminated | Over::Outcome(_) | Over::Door(_) => {
                    Err(anyhow!("ended by SIGTERM"))
                }
            };
        }
    };
    // Files that are durable and still open are closed while there is somebody who can.
    drop(tokio::time::timeout(LAST_CLOSES, storage.settle()).await);
    tracing::info!(status = ?outcome.status, diagnostics = outcome.diagnostics, "application is over");
    // The outcome first: an attempt after this one would need what is staged.
    actor
        .finish(&outcome)
        .await
        .context("failed to report the outcome to the ResourceManager")?;
    remove_all(fs, &manifest, told.spec.staging).await;
    tracing::info!("ApplicationMaster ends");
    Ok(())
}

/// Whether a job that an attempt before this has run goes on from its newest checkpoint. What its sinks hold back until then is theirs.
fn resumes(told: &Told) -> bool {
    let has_checkpoints = |submission: &JobSubmission| {
        let config = Config::from_pairs(&submission.config);
        config.is_ok_and(|config| config.checkpoints().interval.is_some())
    };
    told.submission.as_ref().is_some_and(has_checkpoints)
}

/// Returns when all these jobs are there to be seen: nobody is to be told that there is no such job.
fn all_known(cluster: &ClusterHandle, jobs: Vec<JobId>) -> impl Future<Output = ()> + use<> {
    let mut view = cluster.watch();
    async move {
        let there = view.wait_for(|view| jobs.iter().all(|job| view.jobs.contains_key(job)));
        // A cluster that ends meanwhile says so itself.
        drop(tokio::time::timeout(GOES_ON, there).await);
    }
}

/// How an application ends whose program has no jobs, for this reason.
fn no_jobs(error: &dyn std::error::Error) -> Outcome {
    Outcome {
        status: FinalStatus::Failed,
        diagnostics: report(error),
    }
}

/// The one job of an application's program.
fn submission_of(graph: JobGraph, args: Vec<String>, config: &[(String, String)]) -> JobSubmission {
    let job = JobId::from_bytes(*uuid::Uuid::new_v4().as_bytes());
    tracing::info!(job_id = %job, name = graph.name, "the program's job");
    let program = ProgramSpec {
        executable: JOB_EXECUTABLE.to_owned(),
        args,
        artifact: None,
    };
    JobSubmission {
        job,
        graph,
        program,
        config: config.to_vec(),
    }
}

/// Hands in the job of an application's program, once no failure makes it forgotten: else the next attempt would plan another. The job waits
/// for its containers meanwhile; the first of them waits for the manifest.
async fn hand_in(
    submission: JobSubmission,
    manifest: &Manifest,
    records: &JobRecords,
    cluster: &ClusterHandle,
) {
    manifest.note(submission.job, &submission.graph);
    records.write_or_warn(&submission).await;
    let handed_in = async {
        cluster.submit(submission).await?;
        cluster.no_more_jobs().await
    };
    if let (Err(error), ()) = tokio::join!(handed_in, manifest.write_or_warn()) {
        tracing::info!(%error, "the program's job comes too late");
    }
}

/// Removes what the application leaves outside its containers.
async fn remove_all(fs: FileSystem, manifest: &Manifest, staging: String) {
    manifest.close().await;
    let mut leftovers = manifest.leftovers();
    leftovers.push(Leftover::Whole(staging));
    staging::remove(fs, leftovers).await;
}

enum Over {
    Outcome(Outcome),
    Attempt(YarnDriverError),
    Terminated,
    Door(Result<String, tokio::task::JoinError>),
}

/// An error with its causes, in one line.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

fn chain(error: &anyhow::Error) -> String {
    report(error.as_ref())
}
