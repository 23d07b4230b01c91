//! What the JobManager may know, seen at its border, and the rules that its effects have to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spindle_common::execution::{ExecutionState, JobStatus};
use spindle_common::gateway::{TaskDeployment, ToJobManager, ToTaskExecutor};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId, ResourceId};
use spindle_common::resource::ResourceProfile;
use spindle_common::time::MonoTime;

use crate::config::{ClusterMode, JobManagerConfig};
use crate::execution_graph::slot_counts;
use crate::message::{
    CheckpointEffect, CheckpointEvent, ConnectionId, ContainerAsk, Effect, FinalStatus, Input,
    ResourceEffect, ResourceEvent, Transition, View,
};
use crate::resource_manager::{ContainerCounts, Limits, SlotCounts, total};

#[derive(Debug)]
struct Lease {
    connection: ConnectionId,
    job: JobId,
    offered: bool,
}

#[derive(Debug)]
struct Job {
    /// Of each vertex.
    parallelism: u32,
    slots: SlotCounts,
    status: JobStatus,
    staging_removed: bool,
    /// Whether it may have a snapshot whose prepared output lies in staging.
    has_snapshot: bool,
}

type Place = (JobId, JobVertexId, u32);

#[derive(Debug)]
pub(super) struct Observer {
    mode: ClusterMode,
    slots_per_task_manager: u32,
    limits: Limits,
    /// As the newest plan says.
    asks: Vec<ContainerAsk>,
    /// Those granted, with the size that was asked.
    sizes: BTreeMap<ResourceId, ResourceProfile>,
    idle_timeout: Duration,
    redundant_task_managers: u32,
    pub(super) terminated: Option<FinalStatus>,
    /// Those that were handed in; their ids ascend in the order of submission.
    jobs: BTreeMap<JobId, Job>,
    /// The one job that the newest input is about, if it is about one.
    about: Option<JobId>,
    launched: BTreeSet<ResourceId>,
    registrations: BTreeMap<ConnectionId, ResourceId>,
    registered: BTreeMap<ConnectionId, ResourceId>,
    leases: BTreeMap<AllocationId, Lease>,
    /// The attempts that run or may run.
    running: BTreeMap<Place, (ExecutionAttemptId, AllocationId, ConnectionId)>,
    newest: BTreeMap<Place, u32>,
    reported: BTreeMap<(JobId, ExecutionAttemptId), ExecutionState>,
    idle_since: BTreeMap<ResourceId, MonoTime>,
}

impl Observer {
    pub(super) fn new(config: &JobManagerConfig) -> Self {
        let slots = config.slots_per_task_manager;
        Self {
            mode: config.mode,
            slots_per_task_manager: slots,
            limits: Limits::of(config),
            asks: Vec::new(),
            sizes: BTreeMap::new(),
            idle_timeout: config.idle_timeout,
            redundant_task_managers: config.redundant_task_managers,
            terminated: None,
            jobs: BTreeMap::new(),
            about: None,
            launched: BTreeSet::new(),
            registrations: BTreeMap::new(),
            registered: BTreeMap::new(),
            leases: BTreeMap::new(),
            running: BTreeMap::new(),
            newest: BTreeMap::new(),
            reported: BTreeMap::new(),
            idle_since: BTreeMap::new(),
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

    pub(super) fn all_jobs_are_over(&self) -> bool {
        self.jobs.values().all(|job| job.status.is_terminal())
    }

    pub(super) fn is_over(&self, job: JobId) -> bool {
        let job = self.jobs.get(&job);
        self.terminated.is_some() || job.is_some_and(|job| job.status.is_terminal())
    }

    pub(super) fn statuses(&self) -> Vec<(JobId, JobStatus)> {
        let jobs = self.jobs.iter();
        jobs.map(|(&id, job)| (id, job.status)).collect()
    }

    /// Whether the limits leave room for a job.
    pub(super) fn fits(&self, job: JobId) -> bool {
        self.limits.forbid(&self.jobs[&job].slots).is_none()
    }

    pub(super) fn before(&mut self, input: &Input) {
        self.about = None;
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
            Input::Checkpoint {
                job,
                event: CheckpointEvent::Discovered { observed },
            } if !observed.complete.is_empty() => {
                self.jobs.get_mut(job).expect("a job").has_snapshot = true;
            }
            Input::Submit(submission) => {
                self.about = Some(submission.job);
                if self.terminated.is_none() {
                    self.jobs.entry(submission.job).or_insert_with(|| Job {
                        parallelism: submission.graph.vertices[0].parallelism,
                        slots: slot_counts(&submission.graph),
                        status: JobStatus::Created,
                        staging_removed: false,
                        has_snapshot: false,
                    });
                }
            }
            Input::CancelJob { job, .. } | Input::Checkpoint { job, .. } => self.about = Some(*job),
            Input::Resource(ResourceEvent::Allocated(granted)) => {
                let sizes = granted.iter().map(|one| (one.resource.clone(), one.asked));
                self.sizes.extend(sizes);
            }
            Input::Resource(ResourceEvent::Refused { .. } | ResourceEvent::Nodes { .. })
            | Input::NoMoreJobs
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
            ToJobManager::OfferSlot {
                allocation, job, ..
            } => {
                self.about = Some(*job);
                if let Some(lease) = self.leases.get_mut(allocation)
                    && lease.connection == connection
                {
                    lease.offered = true;
                }
            }
            ToJobManager::SlotUnavailable {
                allocation, job, ..
            } => {
                self.about = Some(*job);
                self.leases.remove(allocation);
            }
            ToJobManager::WorkerLost { job, .. } => {
                self.about = Some(*job);
                self.leases
                    .retain(|_, lease| lease.connection != connection || lease.job != *job);
                let leases = &self.leases;
                self.running.retain(|_, (_, a, _)| leases.contains_key(a));
            }
            ToJobManager::TaskState(update) => {
                self.about = Some(update.job);
                let id = update.execution;
                let place = (update.job, id.vertex, id.subtask);
                let runs = self.running.get(&place);
                if !runs.is_some_and(|(runs, _, on)| *runs == id && *on == connection) {
                    return;
                }
                // An old message that comes again tells nothing.
                let reported = self.reported.entry((update.job, id));
                let reported = reported.or_insert(update.state);
                *reported = update.state.max(*reported);
                if update.state.is_terminal() {
                    self.running.remove(&place);
                }
            }
            ToJobManager::Register(_)
            | ToJobManager::Heartbeat(_)
            | ToJobManager::TaskCheckpoint(_)
            | ToJobManager::Inquired { .. } => {}
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

    /// Slots that jobs want that are not over.
    fn wanted(&self) -> u32 {
        let alive = self.jobs.values().filter(|job| !job.status.is_terminal());
        alive.map(|job| total(&job.slots)).sum()
    }

    /// TaskManagers that are to be there beyond the need.
    fn redundant(&self) -> u32 {
        match self.wanted() {
            0 => 0,
            _ => self.redundant_task_managers,
        }
    }

    /// Slots that are to be there and are leased to nobody.
    fn lacking(&self) -> u32 {
        let lacking = self.wanted().saturating_sub(self.leases.len() as u32);
        lacking + self.redundant() * self.slots_per_task_manager
    }

    /// Whether every slot is an equal part, so that any container serves any slot.
    fn all_are_equal_parts(&self) -> bool {
        let mut profiles = self.jobs.values().flat_map(|job| job.slots.keys());
        profiles.all(Option::is_none)
    }

    /// Whether a container that comes beside others, all of them still empty, may be needed.
    fn may_be_needed(&self, others: u32, lacking: u32) -> bool {
        if self.all_are_equal_parts() {
            others * self.slots_per_task_manager < lacking
        } else {
            lacking > 0
        }
    }

    /// Those that are there and those that are asked for break no limit.
    fn check_limits(&self) {
        let mut all = ContainerCounts::new();
        for resource in &self.launched {
            *all.entry(self.sizes[resource]).or_default() += 1;
        }
        for ask in &self.asks {
            *all.entry(ask.profile).or_default() += ask.pending;
        }
        let broken = self.limits.broken_by(&all);
        assert_eq!(broken, None, "{all:?} are there or asked for");
    }

    fn touches(&self, job: JobId, effect: &Effect) {
        let alone = self.about.is_none_or(|about| about == job);
        assert!(alone, "what is about {:?} does {effect:?}", self.about);
    }

    pub(super) fn effect(&mut self, effect: &Effect) {
        assert_eq!(self.terminated, None, "{effect:?} after the end");
        match effect {
            Effect::Send {
                connection,
                message,
            } => {
                match message {
                    ToTaskExecutor::CancelTask { job, .. } => self.touches(*job, effect),
                    ToTaskExecutor::FreeSlot { allocation } => {
                        if let Some(lease) = self.leases.get(allocation) {
                            self.touches(lease.job, effect);
                        }
                    }
                    ToTaskExecutor::Registered { .. }
                    | ToTaskExecutor::RequestSlot(_)
                    | ToTaskExecutor::SubmitTask(_)
                    | ToTaskExecutor::CommitTask { .. }
                    | ToTaskExecutor::TriggerCheckpoint { .. }
                    | ToTaskExecutor::CheckpointComplete { .. }
                    | ToTaskExecutor::CheckpointAborted { .. }
                    | ToTaskExecutor::Inquire { .. }
                    | ToTaskExecutor::ShutDown { .. } => {}
                }
                self.sent(*connection, message);
            }
            Effect::Disconnect { connection, reason } => {
                if reason.starts_with("a task did not") {
                    let leases = self.leases.values();
                    let on = leases.filter(|lease| lease.connection == *connection);
                    let jobs: BTreeSet<JobId> = on.map(|lease| lease.job).collect();
                    assert!(
                        jobs.len() < 2,
                        "one of {jobs:?} costs all their TaskManager"
                    );
                }
                self.lost(*connection);
            }
            Effect::Resource(ResourceEffect::Launch { resource, .. }) => {
                let starting = self.launched.len() - self.registered.len();
                let lacking = self.lacking();
                assert!(
                    self.may_be_needed(starting as u32, lacking),
                    "{resource} is launched beside {starting} for {lacking} slots"
                );
                assert!(self.launched.insert(resource.clone()), "launched twice");
            }
            Effect::Resource(ResourceEffect::Stop { resource }) => self.lost_resource(resource),
            Effect::Checkpoint {
                job,
                effect:
                    CheckpointEffect::PersistMetadata { .. } | CheckpointEffect::PersistAnchor { .. },
            } => self.jobs.get_mut(job).expect("a job").has_snapshot = true,
            Effect::RemoveStaging { job, .. } => {
                let runs = |(of, _, _): &Place| of == job;
                assert!(
                    !self.running.keys().any(runs),
                    "staging is removed under running tasks"
                );
                let job = self.jobs.get_mut(job).expect("a job that was handed in");
                assert!(!job.staging_removed, "staging is removed twice");
                job.staging_removed = true;
            }
            Effect::Terminate { status, .. } => {
                assert!(self.leases.is_empty(), "slots are held at the end");
                let mut jobs = self.jobs.values();
                assert!(
                    jobs.all(|job| job.staging_removed
                        || job.has_snapshot && job.status != JobStatus::Finished),
                    "staging stays behind"
                );
                self.terminated = Some(*status);
            }
            Effect::Transition(Transition::Job { job, to, .. }) => {
                if *to != JobStatus::Running {
                    self.touches(*job, effect);
                }
                self.jobs.get_mut(job).expect("a job").status = *to;
            }
            Effect::Transition(Transition::Task { job, to, .. }) => {
                if *to > ExecutionState::Deploying {
                    self.touches(*job, effect);
                }
            }
            Effect::Resource(ResourceEffect::Plan(plan)) => {
                assert!(plan.asks.iter().all(|ask| ask.pending > 0));
                assert!(plan.asks.is_sorted_by_key(|ask| ask.profile));
                self.asks.clone_from(&plan.asks);
            }
            Effect::Resource(ResourceEffect::Release { .. })
            | Effect::KeepStaging { .. }
            | Effect::Checkpoint {
                effect:
                    CheckpointEffect::Prepare { .. }
                    | CheckpointEffect::Load { .. }
                    | CheckpointEffect::Discover { .. }
                    | CheckpointEffect::Confirm { .. }
                    | CheckpointEffect::Discard { .. }
                    | CheckpointEffect::RemoveAll { .. },
                ..
            }
            | Effect::Transition(Transition::Checkpoint { .. })
            | Effect::Transition(Transition::TaskManager { .. } | Transition::Stale { .. }) => {}
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
                    job: request.job,
                    offered: false,
                };
                let before = self.leases.insert(request.allocation, lease);
                assert!(before.is_none(), "an allocation id is used twice");
            }
            ToTaskExecutor::FreeSlot { allocation } => {
                self.leases.remove(allocation);
                self.running.retain(|_, (_, held, _)| held != allocation);
            }
            ToTaskExecutor::SubmitTask(task) => self.submitted(connection, task),
            ToTaskExecutor::CommitTask { job, execution } => {
                for vertex in ["src", "sink"].map(JobVertexId::of_uid) {
                    for subtask in 0..self.jobs[job].parallelism {
                        let id = ExecutionAttemptId {
                            vertex,
                            subtask,
                            attempt: execution.attempt,
                        };
                        let state = self.reported.get(&(*job, id));
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
            ToTaskExecutor::ShutDown { .. } => {
                let used = self.leases.values().any(|l| l.connection == connection);
                assert!(!used, "a TaskManager is shut down that is in use");
            }
            ToTaskExecutor::CancelTask { .. }
            | ToTaskExecutor::TriggerCheckpoint { .. }
            | ToTaskExecutor::CheckpointComplete { .. }
            | ToTaskExecutor::CheckpointAborted { .. }
            | ToTaskExecutor::Inquire { .. } => {}
        }
    }

    fn submitted(&mut self, connection: ConnectionId, task: &TaskDeployment) {
        let id = task.execution;
        let lease = self.leases.get(&task.allocation);
        assert!(
            lease.is_some_and(|lease| {
                lease.offered && lease.connection == connection && lease.job == task.job
            }),
            "{id} is sent to a slot that is not held: {lease:?}"
        );
        let place = (task.job, id.vertex, id.subtask);
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

    pub(super) fn after(&mut self, now: MonoTime, input: &Input, effects: &[Effect], view: &View) {
        if let (Input::Resource(ResourceEvent::Allocated(granted)), None) = (input, self.terminated)
        {
            for container in granted {
                let decided = effects.iter().filter(|effect| {
                    matches!(effect, Effect::Resource(ResourceEffect::Launch { resource, .. } | ResourceEffect::Release { resource })
                        if *resource == container.resource)
                });
                assert_eq!(decided.count(), 1, "{container:?} is launched or released");
            }
        }
        let lacking = self.lacking();
        let coming = view.containers_pending + view.containers_starting;
        let pending = view.containers_pending;
        assert!(
            pending == 0 || pending <= lacking && self.may_be_needed(coming - 1, lacking),
            "{coming} containers are coming for {lacking} slots"
        );
        self.check_limits();
        self.check_jobs(view);
        self.check_order(effects, view);
        match (self.terminated, self.mode) {
            (Some(status), _) => self.check_end(status),
            (None, ClusterMode::Session | ClusterMode::Application { .. }) => {
                self.check_idle(now, view);
            }
            (None, ClusterMode::PerJob { .. }) => {}
        }
    }

    fn check_jobs(&self, view: &View) {
        let finished = |status: JobStatus| status == JobStatus::Finished;
        let all = view.jobs.values().all(|job| finished(job.status));
        assert!((0.0..=1.0).contains(&view.progress));
        assert_eq!(view.progress == 1.0, all && !view.jobs.is_empty());
        for (&id, job) in &view.jobs {
            assert_eq!(job.status, self.jobs[&id].status);
            let attempt = job.tasks[0].execution.attempt;
            for task in job.tasks.iter().filter(|_| finished(job.status)) {
                assert_eq!(task.execution.attempt, attempt);
                let reported = self.reported.get(&(id, task.execution));
                assert_eq!(reported, Some(&ExecutionState::Finished), "{task:?}");
            }
        }
        for (id, job) in self.jobs.iter().filter(|(_, j)| !j.status.is_terminal()) {
            assert!(view.jobs.contains_key(id), "{job:?} is forgotten");
        }
    }

    /// No job gets a slot while one before it lacks some; job ids ascend in the order of submission.
    fn check_order(&self, effects: &[Effect], view: &View) {
        for effect in effects {
            if let Effect::Send {
                message: ToTaskExecutor::RequestSlot(request),
                ..
            } = effect
            {
                for (id, before) in view.jobs.range(..request.job) {
                    let lacks = before.waiting_for.as_deref();
                    let lacks = lacks.filter(|what| *what != "its workers to start");
                    assert_eq!(lacks, None, "{} passes {id}", request.job);
                }
            }
        }
    }

    fn check_idle(&mut self, now: MonoTime, view: &View) {
        let waits = view.jobs.values().any(|job| job.waiting_for.is_some());
        let managers = view.task_managers.iter();
        let idle = managers.filter(|(_, m)| !waits && m.free_slots == m.slots);
        let (mut spared, usual) = (self.redundant(), self.limits.sizes.container);
        let idle = idle.filter(|(resource, _)| {
            let spare = spared > 0 && self.sizes[*resource] == usual;
            spared -= u32::from(spare);
            !spare
        });
        let since = |(resource, _): (&ResourceId, _)| {
            let since = self.idle_since.get(resource).copied().unwrap_or(now);
            (resource.clone(), since)
        };
        self.idle_since = idle.map(since).collect();
        for (resource, since) in &self.idle_since {
            let idle = now.since(*since);
            assert!(idle < self.idle_timeout, "{resource} is idle for {idle:?}");
        }
    }

    fn check_end(&self, status: FinalStatus) {
        let ended = |wanted| self.jobs.values().any(|job| job.status == wanted);
        assert!(
            self.all_jobs_are_over(),
            "the cluster ended before its jobs"
        );
        let of_jobs = if ended(JobStatus::Failed) {
            FinalStatus::Failed
        } else if ended(JobStatus::Canceled) {
            FinalStatus::Killed
        } else {
            FinalStatus::Succeeded
        };
        match self.mode {
            ClusterMode::PerJob { .. } | ClusterMode::Application { .. } => {
                assert_eq!(status, of_jobs);
            }
            ClusterMode::Session => assert_eq!(status, FinalStatus::Succeeded),
        }
    }
}
