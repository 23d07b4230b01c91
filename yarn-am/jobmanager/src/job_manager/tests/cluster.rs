//! A JobManager amid a simulated cluster that grants, loses, delays, crashes and lies dead, by chance.
//!
//! The TaskExecutors here obey the protocol of `spindle_common::gateway`; what the JobManager knows is recorded where it
//! knows it from: at its border.

mod chance;
mod checkpoints;
mod executor;
mod observer;
mod properties;
mod storage;
mod zombie;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{TaskExecutorRegistration, TaskExecutorReport, ToJobManager};
use spindle_common::id::{
    ExecutionAttemptId, FencingToken, JobId, JobVertexId, NodeName, ResourceId,
};
use spindle_common::job_graph::Partitioning;
use spindle_common::resource::{ByteSize, ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;

use super::script::job;
use super::{sink_of_its_own, submission};
use crate::config::{ClusterMode, JobManagerConfig};
use crate::job_manager::JobManager;
use crate::machine::{Machine, Outbox};
use crate::message::{
    CheckpointEvent, ConnectionId, Container, ContainerAsk, Effect, FinalStatus, Input,
    ResourceEffect, ResourceEvent,
};
use crate::resource_manager::Sizes;
use chance::{Action, Sink, savepoint};
use checkpoints::Checkpoints;
use executor::Executor;
use observer::Observer;
use storage::{Storage, Store};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Launched,
    /// Its process will never register.
    Hanging,
    Up(ConnectionId),
    Down,
}

struct Cluster {
    manager: JobManager,
    config: JobManagerConfig,
    now: MonoTime,
    pending: Vec<ContainerAsk>,
    /// As asked for, by container, and in how many equal parts it is launched.
    sizes: BTreeMap<ResourceId, ResourceProfile>,
    slots: BTreeMap<ResourceId, u32>,
    /// How all jobs are wired: [`Partitioning::Hash`], or [`Partitioning::Forward`], where a sink subtask reads one source subtask.
    edges: Partitioning,
    /// Jobs handed in.
    jobs: u8,
    next: u64,
    places: BTreeMap<ResourceId, Place>,
    executors: BTreeMap<ConnectionId, Executor>,
    /// Subtasks of each job's source, and those of them that have read all.
    sources: BTreeMap<JobId, u32>,
    ended_sources: BTreeSet<(JobId, ExecutionAttemptId)>,
    /// What the transport and the resource provider will tell.
    world: VecDeque<Input>,
    observer: Observer,
    checkpoints: Checkpoints,
    inputs: Vec<(MonoTime, Input)>,
    effects: Vec<Effect>,
}

impl Cluster {
    fn new(config: JobManagerConfig, parallelism: u32) -> Self {
        Self::with_edges(config, parallelism, Partitioning::Hash)
    }

    fn with_edges(config: JobManagerConfig, parallelism: u32, edges: Partitioning) -> Self {
        let store = Store::new(config.fencing);
        Self::with(config, parallelism, edges, store)
    }

    /// The JobManager dies and its containers with it; YARN starts the next attempt, which gets the same first job.
    fn next_attempt(mut self, n: usize, parallelism: u32) -> Self {
        self.checkpoints.store.abandon(n);
        self.beside(parallelism)
    }

    /// YARN starts the next attempt, as it takes this one for dead. It gets the same first job, and containers of its own.
    fn beside(&self, parallelism: u32) -> Self {
        let fencing = FencingToken(self.config.fencing.0 + 1);
        let config = JobManagerConfig {
            fencing,
            ..self.config.clone()
        };
        let store = self.checkpoints.store.of_next();
        Self::with(config, parallelism, self.edges, store)
    }

    fn with(config: JobManagerConfig, parallelism: u32, edges: Partitioning, store: Store) -> Self {
        let mut checkpoints = Checkpoints::new(&config.checkpoints, store);
        checkpoints.one_to_one = edges == Partitioning::Forward;
        let mut this = Self {
            manager: JobManager::new(config.clone()),
            observer: Observer::new(&config),
            checkpoints,
            config,
            now: MonoTime::ZERO,
            pending: Vec::new(),
            sizes: BTreeMap::new(),
            slots: BTreeMap::new(),
            edges,
            jobs: 0,
            next: 0,
            places: BTreeMap::new(),
            executors: BTreeMap::new(),
            sources: BTreeMap::new(),
            ended_sources: BTreeSet::new(),
            world: VecDeque::new(),
            inputs: Vec::new(),
            effects: Vec::new(),
        };
        this.input(Input::Resource(ResourceEvent::Nodes { count: 3 }));
        this.submit(parallelism, Sink::Shares);
        this
    }

    fn submit(&mut self, parallelism: u32, sink: Sink) {
        self.jobs += 1;
        let mut submission = submission(parallelism, self.jobs);
        submission.graph.edges[0].partitioning = self.edges;
        self.sources.insert(submission.job, parallelism);
        let profile = |cores, mib| Some(SlotProfile::new(cores, ByteSize::from_mib(mib)));
        match sink {
            Sink::Shares => {}
            Sink::HasOwn => sink_of_its_own(&mut submission, None),
            Sink::HasSmall => sink_of_its_own(&mut submission, profile(0.2, 200)),
            Sink::HasLarge => sink_of_its_own(&mut submission, profile(2.0, 1500)),
        }
        self.input(Input::Submit(Box::new(submission)));
    }

    fn input(&mut self, input: Input) {
        self.observer.before(&input);
        self.checkpoints.before(&input);
        self.inputs.push((self.now, input.clone()));
        let mut effects = Vec::new();
        let sink = &mut |effect| effects.push(effect);
        self.manager
            .handle(self.now, input.clone(), &mut Outbox::new(sink));
        for effect in &effects {
            self.observer.effect(effect);
            self.checkpoints.effect(effect);
        }
        let view = self.manager.view();
        self.observer.after(self.now, &input, &effects, &view);
        self.checkpoints.after(self.now, &input, &effects, &view);
        if self.observer.terminated.is_some() {
            assert_eq!(
                self.manager.deadline(),
                None,
                "nothing is due after the end"
            );
        }
        for effect in effects.clone() {
            self.carry_out(effect);
        }
        self.effects.extend(effects);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send {
                connection,
                message,
            } => {
                if let Some(executor) = self.executors.get_mut(&connection) {
                    executor.inbox.push_back(message);
                }
            }
            Effect::Disconnect { connection, .. } => {
                if let Some(executor) = self.executors.get_mut(&connection) {
                    executor.cut();
                }
            }
            Effect::Resource(ResourceEffect::Plan(plan)) => self.pending = plan.asks,
            Effect::Resource(ResourceEffect::Launch { resource, slots }) => {
                self.slots.insert(resource.clone(), slots);
                self.places.insert(resource, Place::Launched);
            }
            Effect::Resource(ResourceEffect::Stop { resource }) => {
                self.kill(&resource, "stopped as asked", false);
            }
            Effect::Resource(ResourceEffect::Release { .. })
            | Effect::Checkpoint { .. }
            | Effect::RemoveStaging { .. }
            | Effect::KeepStaging { .. }
            | Effect::Transition(_)
            | Effect::Terminate { .. } => {}
        }
    }

    /// A container ends; the JobManager will hear of it, on both ways, at some time.
    fn kill(&mut self, resource: &ResourceId, reason: &str, platform: bool) {
        let Some(place) = self.places.insert(resource.clone(), Place::Down) else {
            return;
        };
        if place == Place::Down {
            return;
        }
        if let Place::Up(connection) = place
            && let Some(executor) = self.executors.get_mut(&connection)
        {
            executor.die();
            self.world.push_back(Input::Disconnected {
                connection,
                reason: reason.to_owned(),
            });
        }
        self.world
            .push_back(Input::Resource(ResourceEvent::Completed {
                resource: resource.clone(),
                reason: reason.to_owned(),
                platform,
            }));
    }

    /// Grants containers of one of the sizes that are asked for.
    fn grant(&mut self, which: usize, count: u32) {
        let which = which % self.pending.len().max(1);
        let ask = self.pending.get_mut(which);
        let size = ask.as_ref().map_or(self.config.profile, |ask| ask.profile);
        if let Some(ask) = ask {
            ask.pending = ask.pending.saturating_sub(count);
        }
        self.pending.retain(|ask| ask.pending > 0);
        let containers: Vec<Container> = (0..count)
            .map(|_| {
                self.next += 1;
                let resource = ResourceId::new(format!("c{}", self.next));
                self.sizes.insert(resource.clone(), size);
                Container {
                    resource,
                    node: NodeName::new(format!("n{}", self.next % 3)),
                    profile: size,
                    asked: size,
                }
            })
            .collect();
        self.input(Input::Resource(ResourceEvent::Allocated(containers)));
    }

    fn in_place(&self, wanted: impl Fn(Place) -> bool) -> Vec<ResourceId> {
        let places = self.places.iter();
        places
            .filter(|(_, place)| wanted(**place))
            .map(|(resource, _)| resource.clone())
            .collect()
    }

    fn boot(&mut self, resource: &ResourceId) {
        self.next += 1;
        let connection = ConnectionId(self.next);
        let registration = self.registration(resource, self.config.fencing);
        let part = Sizes::of(&self.config).equal_part();
        let memory = self.sizes[resource].for_slots().memory;
        let executor = Executor::new(resource.clone(), registration, memory, part.memory);
        self.executors.insert(connection, executor);
        self.places.insert(resource.clone(), Place::Up(connection));
    }

    fn registration(
        &self,
        resource: &ResourceId,
        fencing: FencingToken,
    ) -> TaskExecutorRegistration {
        TaskExecutorRegistration {
            resource: resource.clone(),
            fencing,
            node: NodeName::new("n"),
            host: "localhost".to_owned(),
            slots: self.slots.get(resource).copied().unwrap_or(1),
            pid: 1,
        }
    }

    fn connections(&self, wanted: impl Fn(&Executor) -> bool) -> Vec<ConnectionId> {
        let executors = self.executors.iter();
        executors
            .filter(|(_, executor)| wanted(executor))
            .map(|(connection, _)| *connection)
            .collect()
    }

    fn deliver_to_manager(&mut self, connection: ConnectionId) {
        let executor = self.executors.get_mut(&connection).unwrap();
        if let Some(message) = executor.send() {
            self.input(Input::TaskExecutor {
                connection,
                message,
            });
        }
    }

    fn deliver_to_executor(&mut self, connection: ConnectionId) {
        let executor = self.executors.get_mut(&connection).unwrap();
        if executor.receive() {
            let resource = executor.resource.clone();
            self.kill(&resource, "exit code 0", false);
        }
    }

    /// A task of this TaskExecutor does something about a barrier. Sinks get theirs when the last source has sent it.
    fn pass_barrier(&mut self, connection: ConnectionId, n: usize, declines: bool) {
        let executor = self.executors.get_mut(&connection).unwrap();
        let Some((job, source, id)) = executor.pass_barrier(n, declines) else {
            return;
        };
        if source.vertex != JobVertexId::of_uid("src") {
            return;
        }
        for executor in self.executors.values_mut() {
            for (of, sink) in executor.sinks() {
                let mut consumers = (self.edges).consumers_of(
                    source.subtask,
                    self.sources[&job],
                    self.sources[&job],
                );
                if of == job
                    && sink.attempt == source.attempt
                    && consumers.any(|consumer| consumer == sink.subtask)
                {
                    executor.barrier(job, sink, id);
                }
            }
        }
    }

    /// Has tasks of a TaskExecutor go on.
    fn work(
        &mut self,
        connection: ConnectionId,
        work: impl FnOnce(&mut Executor, &dyn Fn(JobId, ExecutionAttemptId) -> bool),
    ) {
        let Some(executor) = self.executors.get_mut(&connection) else {
            return;
        };
        let (ended, sources, edges) = (&self.ended_sources, &self.sources, self.edges);
        work(executor, &|job, sink| {
            let mut producers = edges.producers_of(sink.subtask, sources[&job], sources[&job]);
            producers.all(|subtask| {
                let vertex = JobVertexId::of_uid("src");
                ended.contains(&(
                    job,
                    ExecutionAttemptId {
                        vertex,
                        subtask,
                        ..sink
                    },
                ))
            })
        });
        self.ended_sources.extend(executor.ended_sources());
    }

    fn storage(&mut self, n: usize, how: Storage) {
        if let Some((job, event)) = self.checkpoints.store.act(n, how) {
            self.input(Input::Checkpoint { job, event });
        }
    }

    fn wait(&mut self, time: Duration) {
        for executor in self.executors.values_mut() {
            executor.heartbeat();
        }
        self.now = self.now + time;
        if self.manager.deadline().is_some_and(|at| at <= self.now) {
            self.input(Input::Tick);
        }
    }

    fn act(&mut self, action: Action) {
        fn pick<T: Clone>(of: &[T], n: usize) -> Option<T> {
            (!of.is_empty()).then(|| of[n % of.len()].clone())
        }
        let alive = |e: &Executor| e.alive;
        match action {
            Action::Grant(n) => {
                if let Some(ask) = pick(&self.pending, n) {
                    self.grant(n, 1 + (n / 7) as u32 % ask.pending);
                }
            }
            Action::Boot(n) => {
                if let Some(r) = pick(&self.in_place(|p| p == Place::Launched), n) {
                    self.boot(&r);
                }
            }
            Action::ToManager(n) => {
                if let Some(c) = pick(&self.connections(Executor::can_send), n) {
                    self.deliver_to_manager(c);
                }
            }
            Action::ToExecutor(n) => {
                if let Some(c) = pick(&self.connections(Executor::can_receive), n) {
                    self.deliver_to_executor(c);
                }
            }
            Action::Work(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.work(c, |executor, all_read| executor.work(n, all_read));
                }
            }
            Action::World(n) => {
                if !self.world.is_empty() {
                    let input = self.world.remove(n % self.world.len()).unwrap();
                    self.input(input);
                }
            }
            Action::Barrier(n) | Action::Decline(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.pass_barrier(c, n, matches!(action, Action::Decline(_)));
                }
            }
            Action::Storage(n) => self.storage(n, Storage::Does),
            Action::StorageFails(n) => self.storage(n, Storage::Fails),
            Action::StorageDoesInSecret(n) => self.storage(n, Storage::DoesInSecret),
            Action::Trigger(n) => {
                self.next += 1;
                self.input(Input::Checkpoint {
                    job: job(1 + (n % usize::from(self.jobs)) as u8),
                    event: CheckpointEvent::Trigger {
                        request: self.next,
                        savepoint: savepoint(n, self.next),
                    },
                });
            }
            Action::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Action::GrantTooMuch => {
                let pending = self.pending.first().map_or(0, |ask| ask.pending);
                self.grant(0, pending + 1);
            }
            Action::KillContainer(n) => {
                let up = self.in_place(|place| matches!(place, Place::Up(_)));
                if let Some(resource) = pick(&up, n) {
                    self.kill(&resource, "killed by signal 9", n % 5 == 0);
                }
            }
            Action::KillWorker(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.executors.get_mut(&c).unwrap().lose_worker(n);
                }
            }
            Action::FailStart(n) => {
                let Some(resource) = pick(&self.in_place(|p| p == Place::Launched), n) else {
                    return;
                };
                if n % 2 == 0 {
                    self.kill(&resource, "exit code 127", n % 4 == 0);
                } else {
                    self.places.insert(resource.clone(), Place::Down);
                    let reason = "connection refused".to_owned();
                    let event = ResourceEvent::LaunchFailed { resource, reason };
                    self.world.push_back(Input::Resource(event));
                }
            }
            Action::HangStart(n) => {
                if let Some(resource) = pick(&self.in_place(|p| p == Place::Launched), n) {
                    self.places.insert(resource, Place::Hanging);
                }
            }
            Action::FailTask(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    let cause = FailureCause {
                        class: if n % 20 == 0 {
                            FailureClass::FailJob
                        } else {
                            FailureClass::Restart
                        },
                        operator: Some("src".to_owned()),
                        message: "panicked".to_owned(),
                    };
                    self.executors.get_mut(&c).unwrap().fail_task(n, cause);
                }
            }
            Action::GoSilent(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.executors.get_mut(&c).unwrap().silent = true;
                }
            }
            Action::IgnoreCancel(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.executors.get_mut(&c).unwrap().ignores_cancel = true;
                }
            }
            Action::IgnoreCommit(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.executors.get_mut(&c).unwrap().ignores_commit = true;
                }
            }
            Action::Submit(parallelism, sink) => match self.config.mode {
                ClusterMode::Session | ClusterMode::Application { .. } if self.jobs < 5 => {
                    self.submit(parallelism, sink);
                }
                ClusterMode::PerJob { .. }
                | ClusterMode::Session
                | ClusterMode::Application { .. } => {}
            },
            Action::RefuseSlots(n) => {
                if let Some(c) = pick(&self.connections(alive), n) {
                    self.executors.get_mut(&c).unwrap().refusals += 1;
                }
            }
            Action::RepeatMessage(n) => {
                let mut old = self.inputs.iter().map(|(_, input)| input).filter(|input| {
                    matches!(
                        input,
                        Input::TaskExecutor {
                            message: ToJobManager::TaskState(_)
                                | ToJobManager::TaskCheckpoint(_)
                                | ToJobManager::OfferSlot { .. }
                                | ToJobManager::Register(_),
                            ..
                        } | Input::Resource(
                            ResourceEvent::Completed { .. } | ResourceEvent::LaunchFailed { .. }
                        ) | Input::Submit(_)
                    )
                });
                let count = old.clone().count();
                if count > 0
                    && let Some(input) = old.nth(n % count).cloned()
                {
                    self.input(input);
                }
            }
            Action::Impostor(n) => {
                self.next += 1;
                let connection = ConnectionId(self.next);
                let resources = self.in_place(|_| true);
                let message = match pick(&resources, n) {
                    Some(r) if n % 2 == 0 => {
                        ToJobManager::Register(self.registration(&r, FencingToken(77)))
                    }
                    Some(r) if matches!(self.places[&r], Place::Up(_) | Place::Down) => {
                        // Only what is up or down has a stream, or had one, that this is the second of.
                        if self.observer.expects(&r) {
                            return;
                        }
                        ToJobManager::Register(self.registration(&r, self.config.fencing))
                    }
                    _ => ToJobManager::Heartbeat(TaskExecutorReport::default()),
                };
                self.input(Input::TaskExecutor {
                    connection,
                    message,
                });
                self.observer.refused(connection, &self.effects);
            }
            Action::Cancel(n) => self.input(Input::CancelJob {
                job: job(1 + (n % usize::from(self.jobs)) as u8),
                reason: "by chance".to_owned(),
            }),
        }
    }

    /// All that there is to be done is done, once.
    fn round(&mut self, lingers: bool, storage: bool) {
        while let Some(ask) = self.pending.first() {
            self.grant(0, ask.pending);
        }
        for resource in self.in_place(|place| place == Place::Launched) {
            self.boot(&resource);
        }
        while let Some(input) = self.world.pop_front() {
            self.input(input);
        }
        while storage && self.checkpoints.store.wanted() > 0 {
            self.storage(0, Storage::Does);
        }
        for connection in self.connections(|_| true) {
            while self.executors[&connection].can_receive() {
                self.deliver_to_executor(connection);
            }
            for n in 0..8 {
                self.pass_barrier(connection, n, false);
            }
            if let Some(executor) = self.executors.get_mut(&connection) {
                executor.refusals = 0;
                executor.lingers = lingers;
            }
            self.work(connection, Executor::work_on_all);
            while self.executors[&connection].can_send() {
                self.deliver_to_manager(connection);
            }
        }
    }

    /// Nothing breaks until all tasks run, or a good while.
    fn bring_up(&mut self, storage: bool) {
        for _ in 0..20 {
            self.round(true, storage);
            self.wait(Duration::from_millis(100));
        }
    }

    /// From now on all goes well, but what is broken stays broken. Answers how the cluster ended.
    fn go_well(&mut self) -> FinalStatus {
        if matches!(self.config.mode, ClusterMode::Application { .. }) {
            self.input(Input::NoMoreJobs);
        }
        let mut idle = 0;
        for _ in 0..3000 {
            if let Some(status) = self.observer.terminated {
                self.after_the_end();
                return status;
            }
            if self.config.mode == ClusterMode::Session && self.observer.all_jobs_are_over() {
                idle += 1;
                // What hangs is silent for ten seconds before it is given up, or it starts for a minute.
                if idle == 200 {
                    let view = self.manager.view();
                    assert!(view.task_managers.is_empty(), "idle: {view:?}");
                    assert_eq!((view.containers_pending, view.containers_starting), (0, 0));
                    self.input(Input::ShutDown {
                        reason: "no job is left".to_owned(),
                    });
                }
            }
            self.round(false, true);
            self.wait(Duration::from_millis(500));
        }
        panic!(
            "a job never ends: {:#?}\n{:?}",
            self.manager.view(),
            self.manager
        );
    }

    fn after_the_end(&mut self) {
        self.input(Input::Tick);
        self.input(Input::ShutDown {
            reason: "again".to_owned(),
        });
        while let Some(input) = self.world.pop_front() {
            self.input(input);
        }
    }

    fn replay_is_the_same(&self) {
        let mut manager = JobManager::new(self.config.clone());
        let mut effects = Vec::new();
        for (now, input) in &self.inputs {
            let sink = &mut |effect| effects.push(effect);
            manager.handle(*now, input.clone(), &mut Outbox::new(sink));
        }
        assert!(
            effects == self.effects,
            "the same inputs give the same effects"
        );
        assert_eq!(manager.view(), self.manager.view());
    }
}
