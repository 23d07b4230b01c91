//! Containers from YARN: one task that heartbeats and starts and stops containers as the JobManager wants.

use std::sync::Arc;
use std::time::Duration;

use spindle_cluster::{Outcome, ResourceDriver};
use spindle_common::id::ResourceId;
use spindle_hadoop::ipc::ExceptionClass;
use spindle_hadoop::proto::yarn as pb;
use spindle_hadoop::yarn::{
    AmError, ApplicationMasterClient, NmError, NodeManagerClient, Registration,
};
use spindle_jobmanager::message::{FinalStatus, ResourceEffect, ResourceEvent, View};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::allocation::{Allocation, Held};
use crate::launcher::Launcher;
use crate::manifest::Manifest;
use crate::process::report;

/// Heartbeats are never closer than this.
const CLOSEST: Duration = Duration::from_millis(50);
/// Containers started or stopped at the same time.
const PARALLEL_CALLS: usize = 16;
/// Tries to start a container while its NodeManager is not ready, and the pause between.
const LAUNCH_TRIES: u32 = 10;
const LAUNCH_PAUSE: Duration = Duration::from_millis(500);
/// How long a ResourceManager may be away (`yarn.resourcemanager.connect.max-wait.ms`).
const RM_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Hands the JobManager's wishes to the task that carries them out.
pub(crate) struct YarnDriver {
    wishes: mpsc::UnboundedSender<ResourceEffect>,
}

impl ResourceDriver for YarnDriver {
    fn apply(&mut self, effect: ResourceEffect) {
        // Its end ends the process; there is nobody to tell.
        if self.wishes.send(effect).is_err() {
            tracing::debug!("the YARN driver is over");
        }
    }
}

/// Settings of the driver.
#[derive(Debug, Clone)]
pub(crate) struct YarnDriverConfig {
    /// Time between heartbeats when calm.
    pub(crate) calm: Duration,
    /// Time between heartbeats while containers are awaited.
    pub(crate) waiting: Duration,
}

/// Why the driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum YarnDriverError {
    /// The ResourceManager has given this attempt up.
    #[error("the ResourceManager ended this attempt")]
    AttemptOver(#[source] Option<AmError>),
    /// It does not answer any more.
    #[error("the ResourceManager did not answer for {0:?}")]
    Away(Duration, #[source] AmError),
}

/// The task.
pub(crate) struct YarnActor {
    pub(crate) master: ApplicationMasterClient,
    pub(crate) registration: Registration,
    pub(crate) nodes: Arc<NodeManagerClient>,
    pub(crate) allocation: Allocation,
    pub(crate) launcher: Launcher,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) config: YarnDriverConfig,
    pub(crate) events: mpsc::UnboundedSender<ResourceEvent>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    wishes: mpsc::UnboundedReceiver<ResourceEffect>,
    calls: JoinSet<Call>,
    slots: Arc<Semaphore>,
    away_since: Option<Instant>,
}

/// What has become of a call to a NodeManager.
enum Call {
    Started(ResourceId),
    NotStarted(ResourceId, String),
    Stopped,
    NotStopped(ResourceId),
}

impl YarnActor {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that the task holds"
    )]
    pub(crate) fn new(
        master: ApplicationMasterClient,
        registration: Registration,
        nodes: NodeManagerClient,
        allocation: Allocation,
        launcher: Launcher,
        manifest: Arc<Manifest>,
        config: YarnDriverConfig,
        events: mpsc::UnboundedSender<ResourceEvent>,
        view: watch::Receiver<Arc<View>>,
    ) -> (Self, YarnDriver) {
        let (sender, wishes) = mpsc::unbounded_channel();
        let actor = Self {
            master,
            registration,
            nodes: Arc::new(nodes),
            allocation,
            launcher,
            manifest,
            config,
            events,
            view,
            wishes,
            calls: JoinSet::new(),
            slots: Arc::new(Semaphore::new(PARALLEL_CALLS)),
            away_since: None,
        };
        (actor, YarnDriver { wishes: sender })
    }

    /// Heartbeats until the future is dropped; comes back only when it cannot go on.
    pub(crate) async fn run(&mut self) -> YarnDriverError {
        loop {
            if let Err(error) = self.heartbeat().await {
                return error;
            }
            let beat = Instant::now();
            loop {
                let interval = if self.allocation.has_news() {
                    CLOSEST
                } else if self.allocation.is_waiting() {
                    self.config.waiting
                } else {
                    self.config.calm
                };
                tokio::select! {
                    Some(wish) = self.wishes.recv() => self.wish(wish),
                    Some(call) = self.calls.join_next() => self.called(call),
                    () = sleep_until(beat + interval) => break,
                }
            }
        }
    }

    /// Ends the application at the ResourceManager.
    ///
    /// # Errors
    /// If it does not take the outcome.
    pub(crate) async fn finish(&mut self, outcome: &Outcome) -> Result<(), AmError> {
        let status = match outcome.status {
            FinalStatus::Succeeded => pb::FinalApplicationStatus::AppSucceeded,
            FinalStatus::Failed => pb::FinalApplicationStatus::AppFailed,
            FinalStatus::Killed => pb::FinalApplicationStatus::AppKilled,
        };
        self.master.finish(status, &outcome.diagnostics, "").await
    }

    async fn heartbeat(&mut self) -> Result<(), YarnDriverError> {
        let progress = self.view.borrow().progress;
        let request = self.allocation.request(progress);
        let answer = match self.master.allocate(request).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(error).await,
        };
        if let Some(since) = self.away_since.take() {
            tracing::info!(away = ?since.elapsed(), "the ResourceManager is back");
        }
        if answer.a_m_command.is_some() {
            match answer.a_m_command() {
                pb::AmCommand::AmShutdown => return Err(YarnDriverError::AttemptOver(None)),
                pb::AmCommand::AmResync => return self.register_again().await,
            }
        }
        for event in self.allocation.answer(&answer) {
            self.tell(event);
        }
        Ok(())
    }

    async fn failed(&mut self, error: AmError) -> Result<(), YarnDriverError> {
        match error {
            AmError::NotRegistered(_) => self.register_again().await,
            AmError::AttemptOver(_) => Err(YarnDriverError::AttemptOver(Some(error))),
            AmError::RefusedAsk(_) => {
                let mut reason = format!("YARN refused what was asked for: {}", report(&error));
                if let Some(setting) = self.allocation.refused() {
                    reason = format!("{reason}; {setting}");
                }
                tracing::warn!(reason, "ask refused");
                self.tell(ResourceEvent::Refused {
                    profile: None,
                    reason,
                });
                sleep(self.config.calm).await;
                Ok(())
            }
            // The client repeats a request without answer by itself; saying all again is safe whatever became of it.
            other @ (AmError::NoToken
            | AmError::AlreadyRegistered(_)
            | AmError::NotUnregistered(_)
            | AmError::Ipc(_)
            | _) => {
                let since = *self.away_since.get_or_insert_with(Instant::now);
                tracing::warn!(error = report(&other), "heartbeat failed");
                if since.elapsed() > RM_PATIENCE {
                    return Err(YarnDriverError::Away(since.elapsed(), other));
                }
                self.allocation.send_again();
                sleep(self.config.waiting).await;
                Ok(())
            }
        }
    }

    async fn register_again(&mut self) -> Result<(), YarnDriverError> {
        tracing::info!("the ResourceManager restarted: registering again");
        match self.master.register(self.registration.clone()).await {
            Ok(answer) => self.allocation.registered(&answer),
            Err(error @ AmError::AttemptOver(_)) => {
                return Err(YarnDriverError::AttemptOver(Some(error)));
            }
            Err(error) => {
                // The next heartbeat finds out whether it happened.
                tracing::warn!(error = report(&error), "registering again failed");
                self.allocation.send_again();
                sleep(self.config.waiting).await;
            }
        }
        Ok(())
    }

    fn wish(&mut self, wish: ResourceEffect) {
        match wish {
            ResourceEffect::Plan(plan) => {
                tracing::debug!(asks = ?plan.asks, avoid = ?plan.avoid, most_per_node = plan.most_per_node, "plan");
                for refusal in self.allocation.plan(plan) {
                    self.tell(refusal);
                }
            }
            ResourceEffect::Launch { resource, slots } => self.launch(resource, slots),
            ResourceEffect::Stop { resource } => self.stop(resource),
            ResourceEffect::Release { resource } => self.allocation.release(&resource),
        }
    }

    fn launch(&mut self, resource: ResourceId, slots: u32) {
        let Some(held) = self.allocation.held(&resource).cloned() else {
            // It was over before it was launched, which the JobManager hears or has heard.
            tracing::info!(container_id = %resource, "not launched: the container is gone");
            return;
        };
        let request = match self.launcher.request(&held, slots) {
            Ok(request) => request,
            Err(error) => return self.not_started(resource, report(&error)),
        };
        tracing::info!(container_id = %resource, node = %held.node, "launching a TaskExecutor");
        let (nodes, slots) = (Arc::clone(&self.nodes), Arc::clone(&self.slots));
        let manifest = Arc::clone(&self.manifest);
        self.calls.spawn(async move {
            // Nothing is made before it is written down.
            manifest.write_or_warn().await;
            let _slot = slots.acquire().await;
            match start(&nodes, &held, request).await {
                Ok(()) => Call::Started(resource),
                Err(reason) => Call::NotStarted(resource, reason),
            }
        });
    }

    fn stop(&mut self, resource: ResourceId) {
        let Some(held) = self.allocation.held(&resource).cloned() else {
            return;
        };
        tracing::info!(container_id = %resource, node = %held.node, "stopping a container");
        let (nodes, slots) = (Arc::clone(&self.nodes), Arc::clone(&self.slots));
        self.calls.spawn(async move {
            let _slot = slots.acquire().await;
            match nodes.stop_containers(&held.node, &[held.container]).await {
                Ok(stopped) if stopped.failed.is_empty() => Call::Stopped,
                Ok(stopped) => {
                    let failure = &stopped.failed[0].exception;
                    tracing::info!(container_id = %resource, %failure, "not stopped by its NodeManager");
                    Call::NotStopped(resource)
                }
                Err(error) => {
                    tracing::warn!(container_id = %resource, error = report(&error), "not stopped by its NodeManager");
                    Call::NotStopped(resource)
                }
            }
        });
    }

    fn called(&mut self, call: Result<Call, tokio::task::JoinError>) {
        match call {
            Ok(Call::Started(resource)) => self.allocation.started(&resource),
            Ok(Call::NotStarted(resource, reason)) => self.not_started(resource, reason),
            Ok(Call::Stopped) => {}
            // The ResourceManager ends it at its next talk with the node.
            Ok(Call::NotStopped(resource)) => self.allocation.release(&resource),
            Err(error) => tracing::error!(%error, "a call to a NodeManager ended badly"),
        }
    }

    fn not_started(&mut self, resource: ResourceId, reason: String) {
        tracing::warn!(container_id = %resource, reason, "a TaskExecutor could not be launched");
        self.allocation.release(&resource);
        self.tell(ResourceEvent::LaunchFailed { resource, reason });
    }

    fn tell(&self, event: ResourceEvent) {
        tracing::debug!(?event, "container event");
        // Its end ends the process.
        if self.events.send(event).is_err() {
            tracing::debug!("the cluster is over");
        }
    }
}

/// Starts one container; the NodeManager may still be recovering.
async fn start(
    nodes: &NodeManagerClient,
    held: &Held,
    request: pb::StartContainerRequest,
) -> Result<(), String> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (passing, reason) = match nodes
            .start_containers(&held.node, vec![request.clone()])
            .await
        {
            Ok(done) => match done.failed.first() {
                None => return Ok(()),
                Some(failure) => (failure.class().is_passing(), failure.exception.to_string()),
            },
            Err(error) => {
                let passing = matches!(
                    &error,
                    NmError::Ipc(cause) if cause.class().is_some_and(ExceptionClass::is_passing)
                );
                (passing, report(&error))
            }
        };
        if !passing || tries == LAUNCH_TRIES {
            return Err(reason);
        }
        sleep(LAUNCH_PAUSE).await;
    }
}
