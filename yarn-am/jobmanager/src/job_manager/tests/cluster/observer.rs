//! What the JobManager may know, seen at its border, and the rules that its effects have to keep.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::execution::{ExecutionState, JobStatus};
use spindle_common::gateway::{TaskDeployment, ToJobManager, ToTaskExecutor};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobVertexId, ResourceId};

use crate::job_manager::tests::script::job;
use crate::message::{
    ConnectionId, Effect, FinalStatus, Input, ResourceEffect, ResourceEvent, View,
};

#[derive(Debug)]
struct Lease {
    connection: ConnectionId,
    offered: bool,
}

#[derive(Debug)]
pub(super) struct Observer {
    parallelism: u32,
    slots_per_task_manager: u32,
    pub(super) terminated: Option<FinalStatus>,
    launched: BTreeSet<ResourceId>,
    registrations: BTreeMap<ConnectionId, ResourceId>,
    registered: BTreeMap<ConnectionId, ResourceId>,
    leases: BTreeMap<AllocationId, Lease>,
    /// The attempts that run or may run.
    running: BTreeMap<(JobVertexId, u32), (ExecutionAttemptId, AllocationId, ConnectionId)>,
    newest: BTreeMap<(JobVertexId, u32), u32>,
    reported: BTreeMap<ExecutionAttemptId, ExecutionState>,
    staging_removed: bool,
}

impl Observer {
    pub(super) fn new(parallelism: u32, slots_per_task_manager: u32) -> Self {
        Self {
            parallelism,
            slots_per_task_manager,
            terminated: None,
            launched: BTreeSet::new(),
            registrations: BTreeMap::new(),
            registered: BTreeMap::new(),
            leases: BTreeMap::new(),
            running: BTreeMap::new(),
            newest: BTreeMap::new(),
            reported: BTreeMap::new(),
            staging_removed: false,
        }
    }

    /// Whether a container was launched and its TaskExecutor has not registered.
    pub(super) fn expects(&self, resource: &ResourceId) -> bool {
        self.launched.contains(resource) && !self.registered.values().any(|r| r == resource)
    }

    pub(super) fn refused(&self, connection: ConnectionId, effects: &[Effect]) {
        let told = effects
            .iter()
            .any(|e| matches!(e, Effect::Disconnect { connection: c, .. } if *c == connection));
        let ended = self.terminated.is_some();
        assert!(told || ended, "an impostor's stream stays open");
    }

    pub(super) fn before(&mut self, input: &Input) {
        match input {
            Input::TaskExecutor {
                connection,
                message,
            } => self.message(*connection, message),
            Input::Disconnected { connection, .. } => self.lost(*connection),
            Input::Resource(ResourceEvent::Completed { resource, .. }) => {
                self.lost_resource(resource);
            }
            Input::Resource(ResourceEvent::LaunchFailed { resource, .. }) => {
                if self.expects(resource) {
                    self.launched.remove(resource);
                }
            }
            Input::Resource(
                ResourceEvent::Allocated(_)
                | ResourceEvent::Refused { .. }
                | ResourceEvent::Nodes { .. },
            )
            | Input::Submit(_)
            | Input::NoMoreJobs
            | Input::CancelJob { .. }
            | Input::ShutDown { .. }
            | Input::ClientReleased
            | Input::Tick => {}
        }
    }

    fn message(&mut self, connection: ConnectionId, message: &ToJobManager) {
        if let ToJobManager::Register(registration) = message {
            let resource = registration.resource.clone();
            self.registrations.insert(connection, resource);
        }
        if !self.registered.contains_key(&connection) {
            return;
        }
        match message {
            ToJobManager::OfferSlot { allocation, .. } => {
                if let Some(lease) = self.leases.get_mut(allocation)
                    && lease.connection == connection
                {
                    lease.offered = true;
                }
            }
            ToJobManager::SlotUnavailable { allocation, .. } => {
                self.leases.remove(allocation);
            }
            ToJobManager::WorkerLost { .. } => {
                self.leases
                    .retain(|_, lease| lease.connection != connection);
                let leases = &self.leases;
                self.running.retain(|_, (_, a, _)| leases.contains_key(a));
            }
            ToJobManager::TaskState(update) => {
                let id = update.execution;
                let place = (id.vertex, id.subtask);
                let runs = self.running.get(&place);
                if !runs.is_some_and(|(runs, _, on)| *runs == id && *on == connection) {
                    return;
                }
                // An old message that comes again tells nothing.
                let reported = self.reported.entry(id).or_insert(update.state);
                *reported = update.state.max(*reported);
                if update.state.is_terminal() {
                    self.running.remove(&place);
                }
            }
            ToJobManager::Register(_) | ToJobManager::Heartbeat(_) => {}
        }
    }

    fn lost(&mut self, connection: ConnectionId) {
        if let Some(resource) = self.registered.remove(&connection) {
            self.launched.remove(&resource);
        }
        self.leases
            .retain(|_, lease| lease.connection != connection);
        self.running.retain(|_, (_, _, on)| *on != connection);
    }

    fn lost_resource(&mut self, resource: &ResourceId) {
        let of =
            |(connection, r): (&ConnectionId, &ResourceId)| (r == resource).then_some(*connection);
        if let Some(connection) = self.registered.iter().find_map(of) {
            self.lost(connection);
        }
        self.launched.remove(resource);
    }

    pub(super) fn effect(&mut self, effect: &Effect) {
        assert_eq!(self.terminated, None, "{effect:?} after the end");
        match effect {
            Effect::Send {
                connection,
                message,
            } => self.sent(*connection, message),
            Effect::Disconnect { connection, .. } => self.lost(*connection),
            Effect::Resource(ResourceEffect::Launch { resource }) => {
                let starting = self.launched.len() - self.registered.len();
                let lacking = self.parallelism as usize - self.leases.len();
                assert!(
                    starting * (self.slots_per_task_manager as usize) < lacking,
                    "{resource} is launched beside {starting} for {lacking} slots"
                );
                assert!(self.launched.insert(resource.clone()), "launched twice");
            }
            Effect::Resource(ResourceEffect::Stop { resource }) => self.lost_resource(resource),
            Effect::RemoveStaging { .. } => {
                assert!(
                    self.running.is_empty(),
                    "staging is removed under running tasks"
                );
                assert!(!self.staging_removed, "staging is removed twice");
                self.staging_removed = true;
            }
            Effect::Terminate { status, .. } => {
                assert!(self.leases.is_empty(), "slots are held at the end");
                assert!(self.staging_removed, "staging stays behind");
                self.terminated = Some(*status);
            }
            Effect::Resource(ResourceEffect::Plan(_) | ResourceEffect::Release { .. })
            | Effect::Transition(_) => {}
        }
    }

    fn sent(&mut self, connection: ConnectionId, message: &ToTaskExecutor) {
        match message {
            ToTaskExecutor::Registered { .. } => {
                let resource = self.registrations[&connection].clone();
                assert!(self.expects(&resource), "{resource} is not expected");
                self.registered.insert(connection, resource);
            }
            ToTaskExecutor::RequestSlot(request) => {
                assert!(self.registered.contains_key(&connection));
                let lease = Lease {
                    connection,
                    offered: false,
                };
                let before = self.leases.insert(request.allocation, lease);
                assert!(before.is_none(), "an allocation id is used twice");
            }
            ToTaskExecutor::FreeSlot { allocation } => {
                self.leases.remove(allocation);
            }
            ToTaskExecutor::SubmitTask(task) => self.submitted(connection, task),
            ToTaskExecutor::CommitTask { execution, .. } => {
                for vertex in ["src", "sink"].map(JobVertexId::of_uid) {
                    for subtask in 0..self.parallelism {
                        let id = ExecutionAttemptId {
                            vertex,
                            subtask,
                            attempt: execution.attempt,
                        };
                        let state = self.reported.get(&id);
                        assert!(
                            matches!(
                                state,
                                Some(ExecutionState::AwaitingCommit | ExecutionState::Finished)
                            ),
                            "{execution} is to commit while {id} is {state:?}"
                        );
                    }
                }
            }
            ToTaskExecutor::CancelTask { .. } | ToTaskExecutor::ShutDown { .. } => {}
        }
    }

    fn submitted(&mut self, connection: ConnectionId, task: &TaskDeployment) {
        let id = task.execution;
        let lease = self.leases.get(&task.allocation);
        assert!(
            lease.is_some_and(|lease| lease.offered && lease.connection == connection),
            "{id} is sent to a slot that is not held: {lease:?}"
        );
        let place = (id.vertex, id.subtask);
        let newest = self.newest.insert(place, id.attempt);
        assert!(
            newest < Some(id.attempt),
            "attempt {} is not new",
            id.attempt
        );
        let before = self
            .running
            .insert(place, (id, task.allocation, connection));
        assert_eq!(before, None, "two attempts of one subtask run");
    }

    pub(super) fn after(&self, input: &Input, effects: &[Effect], view: &View) {
        if let (Input::Resource(ResourceEvent::Allocated(granted)), None) = (input, self.terminated)
        {
            for container in granted {
                let decided = effects.iter().filter(|effect| {
                    matches!(effect, Effect::Resource(ResourceEffect::Launch { resource } | ResourceEffect::Release { resource })
                        if *resource == container.resource)
                });
                assert_eq!(decided.count(), 1, "{container:?} is launched or released");
            }
        }
        let Some(job) = view.jobs.get(&job(1)) else {
            return;
        };
        let wanted = if job.status.is_terminal() {
            0
        } else {
            self.parallelism
        };
        let lacking = wanted.saturating_sub(self.leases.len() as u32);
        let coming = view.containers_pending + view.containers_starting;
        assert!(
            view.containers_pending == 0 || (coming - 1) * self.slots_per_task_manager < lacking,
            "{coming} containers are coming for {lacking} slots"
        );
        assert!((0.0..=1.0).contains(&view.progress));
        assert_eq!(view.progress == 1.0, job.status == JobStatus::Finished);
        if job.status == JobStatus::Finished {
            let attempt = job.tasks[0].execution.attempt;
            for task in &job.tasks {
                assert_eq!(task.execution.attempt, attempt);
                let reported = self.reported.get(&task.execution);
                assert_eq!(reported, Some(&ExecutionState::Finished), "{task:?}");
            }
        }
        if let Some(status) = self.terminated {
            let wanted = match job.status {
                JobStatus::Finished => FinalStatus::Succeeded,
                JobStatus::Canceled => FinalStatus::Killed,
                JobStatus::Failed => FinalStatus::Failed,
                other @ (JobStatus::Created
                | JobStatus::Running
                | JobStatus::Restarting
                | JobStatus::Failing
                | JobStatus::Cancelling) => panic!("the cluster ended while its job is {other:?}"),
            };
            assert_eq!(status, wanted);
        }
    }
}
