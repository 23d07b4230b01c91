//! The driver: one task that feeds the machine and starts what it asks for. It decides nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use spindle_common::execution::JobStatus;
use spindle_common::gateway::{Inquiry, ToJobManager, ToTaskExecutor};
use spindle_common::id::JobId;
use spindle_jobmanager::JobManager;
use spindle_jobmanager::machine::{Machine, Outbox};
use spindle_jobmanager::message::{
    ConnectionId, Effect, FinalStatus, Input, ResourceEffect, ResourceEvent, Transition, View,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::checkpoints::CheckpointFiles;
use crate::clock::Clock;
use crate::connection::{Connections, report};
use crate::handle::{ClusterHandle, Event};
use crate::inquiries::{Inquiries, Reply};
use crate::record::Recorder;

/// Events that may wait for the driver; beyond that who sends them waits.
const INBOX: usize = 1024;
/// Events handled before the view is shown again.
const TURN: usize = 256;
/// How long the end waits for removals and records.
const LAST_EFFECTS: Duration = Duration::from_secs(15);
/// How long it waits for TaskExecutors to take their last messages: one that hangs must not hold it up.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// The machine that a driver drives.
pub trait ControlPlane: Machine<Input = Input, Effect = Effect> + Send {
    /// What can be seen of it.
    fn view(&self) -> View;
}

impl ControlPlane for JobManager {
    fn view(&self) -> View {
        self.view()
    }
}

/// Who provides containers. What comes of an effect is told through [`ClusterHandle::resource_events`].
pub trait ResourceDriver: Send {
    /// Begins what is asked, without waiting for it.
    fn apply(&mut self, effect: ResourceEffect);
}

/// Removes a job's staging directories; says in the log what it could not remove.
pub type StagingRemoval = Box<dyn FnMut(JobId, Vec<String>) -> BoxFuture<'static, ()> + Send>;

/// What the process provides to carry effects out.
pub struct Effects {
    /// For containers.
    pub resources: Box<dyn ResourceDriver>,
    /// For staging directories.
    pub remove_staging: StagingRemoval,
    /// For checkpoints.
    pub checkpoints: CheckpointFiles,
    /// File for the last inputs, written when a job has failed.
    pub record: Option<PathBuf>,
}

/// How a cluster ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub status: FinalStatus,
    /// One sentence an admin can act on.
    pub diagnostics: String,
}

/// A machine with its inbox, not yet running.
pub struct ClusterDriver<M> {
    machine: M,
    clock: Clock,
    inbox: mpsc::Receiver<Event>,
    events: mpsc::UnboundedReceiver<ResourceEvent>,
    view: watch::Sender<Arc<View>>,
    handle: ClusterHandle,
    recorder: Recorder,
    connections: Connections,
    inquiries: Inquiries,
    running: JoinSet<()>,
    overflowed: Vec<Input>,
    outcome: Option<Outcome>,
}

impl<M: ControlPlane> ClusterDriver<M> {
    /// A driver for `machine`, and its handle.
    pub fn new(machine: M, clock: Clock) -> (Self, ClusterHandle) {
        let (inbox, inbox_receiver) = mpsc::channel(INBOX);
        let (resources, events) = mpsc::unbounded_channel();
        let (view, view_receiver) = watch::channel(Arc::new(machine.view()));
        let handle = ClusterHandle {
            inbox,
            resources,
            view: view_receiver,
            clock,
            before_submission: None,
        };
        let driver = Self {
            machine,
            clock,
            inbox: inbox_receiver,
            events,
            view,
            handle: handle.clone(),
            recorder: Recorder::default(),
            connections: Connections::default(),
            inquiries: Inquiries::default(),
            running: JoinSet::new(),
            overflowed: Vec::new(),
            outcome: None,
        };
        (driver, handle)
    }

    /// Runs until the machine says that the cluster is over, and last messages and removals are through.
    pub async fn run(mut self, mut effects: Effects) -> Outcome {
        let outcome = loop {
            let event = self.wait().await;
            self.take(event, &mut effects);
            for _ in 1..TURN {
                let Ok(event) = self.inbox.try_recv() else {
                    break;
                };
                self.take(event, &mut effects);
            }
            self.view.send_replace(Arc::new(self.machine.view()));
            self.connections.reap();
            while self.running.try_join_next().is_some() {}
            if let Some(outcome) = self.outcome.take() {
                break outcome;
            }
        };
        // Readers must not wait for an inbox that nobody empties.
        drop(self.inbox);
        let messages = tokio::time::timeout(LAST_MESSAGES, self.connections.drain());
        if messages.await.is_err() {
            tracing::warn!("a TaskExecutor did not take its last messages");
        }
        let last = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_EFFECTS, last).await.is_err() {
            tracing::warn!("the cluster ends before all its last effects are through");
        }
        outcome
    }

    #[cfg(test)]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.inbox.try_recv().ok()
    }

    async fn wait(&mut self) -> Event {
        let deadline = self.machine.deadline().map(|at| self.clock.instant(at));
        let tick = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.inbox.recv() => event,
            Some(event) = self.events.recv() => Event::Input(Input::Resource(event)),
            () = tick => Event::Input(Input::Tick),
        }
    }

    fn take(&mut self, event: Event, effects: &mut Effects) {
        match event {
            Event::Attach(newcomer) => self.connections.open(newcomer, self.handle.inbox.clone()),
            Event::Inquire {
                connection,
                what,
                reply,
            } => self.inquire(connection, what, reply),
            Event::Input(Input::TaskExecutor {
                connection,
                message: ToJobManager::Inquired { inquiry, answer },
            }) => self.inquiries.answered(connection, inquiry, answer),
            Event::Input(input) => self.feed(input, effects),
        }
        while let Some(input) = self.overflowed.pop() {
            self.feed(input, effects);
        }
    }

    /// Without a number or a connection the reply is dropped, which tells whoever asked.
    fn inquire(&mut self, connection: ConnectionId, what: Inquiry, reply: Reply) {
        if let Some(inquiry) = self.inquiries.ask(connection, reply) {
            let message = ToTaskExecutor::Inquire { inquiry, what };
            if !self.connections.has(connection) {
                self.inquiries.close(connection);
            } else if self.connections.send(connection, message).is_err() {
                self.overflow(connection);
            }
        }
    }

    fn overflow(&mut self, connection: ConnectionId) {
        self.inquiries.close(connection);
        let reason = "it does not take its messages".to_owned();
        let lost = Input::Disconnected { connection, reason };
        self.overflowed.push(lost);
    }

    fn feed(&mut self, input: Input, effects: &mut Effects) {
        if let Input::Disconnected { connection, .. } = &input {
            self.connections.close(*connection);
            self.inquiries.close(*connection);
        }
        let now = self.clock.now();
        tracing::trace!(?input, "input");
        self.recorder.note(now, &input);
        let mut wanted = Vec::new();
        let mut sink = |effect| wanted.push(effect);
        self.machine.handle(now, input, &mut Outbox::new(&mut sink));
        for effect in wanted {
            self.start(effect, effects);
        }
    }

    fn start(&mut self, effect: Effect, effects: &mut Effects) {
        match effect {
            Effect::Send {
                connection,
                message,
            } => {
                if self.connections.send(connection, message).is_err() {
                    self.overflow(connection);
                }
            }
            Effect::Disconnect { connection, reason } => {
                tracing::info!(connection = connection.0, reason, "stream ended");
                self.connections.close(connection);
                self.inquiries.close(connection);
            }
            Effect::Resource(effect) => effects.resources.apply(effect),
            Effect::Checkpoint { job, effect } => {
                let done = (effects.checkpoints)(job, effect);
                let inbox = self.handle.inbox.clone();
                self.running.spawn(async move {
                    if let Some(event) = done.await {
                        let answer = Event::Input(Input::Checkpoint { job, event });
                        // A cluster that is over wants none.
                        drop(inbox.send(answer).await);
                    }
                });
            }
            Effect::RemoveStaging { job, directories } => {
                let removal = (effects.remove_staging)(job, directories);
                self.running.spawn(removal);
            }
            Effect::KeepStaging { job } => {
                // Nothing of it is to be removed, and so it is off the list of what is.
                let removal = (effects.remove_staging)(job, Vec::new());
                self.running.spawn(removal);
            }
            Effect::Transition(transition) => {
                log(&transition);
                if let Transition::Job { to, .. } = transition
                    && to == JobStatus::Failed
                {
                    self.write_record(effects);
                }
            }
            Effect::Terminate {
                status,
                diagnostics,
            } => {
                self.outcome.get_or_insert(Outcome {
                    status,
                    diagnostics,
                });
            }
        }
    }

    fn write_record(&mut self, effects: &Effects) {
        let Some(path) = effects.record.clone() else {
            return;
        };
        let recorder = self.recorder.clone();
        self.running.spawn_blocking(move || {
            match recorder.write(&path) {
                Ok(()) => tracing::info!(file = %path.display(), "recorded the last inputs"),
                Err(error) => tracing::warn!(error = report(&error), "the last inputs are lost"),
            };
        });
    }
}

/// Each transition, once.
fn log(transition: &Transition) {
    match transition {
        Transition::Job {
            job,
            from,
            to,
            cause,
        } => {
            let (from, to) = (from.rest_name(), to.rest_name());
            match cause {
                Some(cause) => tracing::warn!(job_id = %job, from, to, %cause, "job state changed"),
                None => tracing::info!(job_id = %job, from, to, "job state changed"),
            }
        }
        Transition::Task {
            job,
            execution,
            from,
            to,
            cause,
        } => {
            let cause = cause.as_ref().map(tracing::field::display);
            tracing::info!(job_id = %job, vertex = %execution.vertex, subtask = execution.subtask,
                attempt = execution.attempt, ?from, ?to, cause, "task state changed");
        }
        Transition::Checkpoint {
            job,
            checkpoint,
            what,
        } => match checkpoint {
            Some(id) => tracing::info!(job_id = %job, checkpoint_id = %id, what, "checkpoint"),
            None => tracing::info!(job_id = %job, what, "checkpoints"),
        },
        Transition::TaskManager { resource, what } => {
            tracing::info!(resource_id = %resource, what, "task manager");
        }
        Transition::Stale { what } => tracing::debug!(what, "dropped a stale message"),
    }
}

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a script answers the inputs that its test is about"
)]
mod tests;
