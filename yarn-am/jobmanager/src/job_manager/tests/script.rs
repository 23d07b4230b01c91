//! Plays a story: one line an input, its effects printed below it.

mod describe;
mod storage;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use spindle_common::checkpoint::{
    CheckpointId, Distribution, OperatorSnapshot, SnapshotKind, StateChunk, StateHandle,
    StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{
    TaskCheckpoint, TaskCheckpointOutcome, TaskExecutorRegistration, TaskExecutorReport,
    TaskMetricsSnapshot, TaskReport, TaskStateUpdate, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{
    AllocationId, ExecutionAttemptId, FencingToken, JobId, JobVertexId, NodeName, ResourceId,
};
use spindle_common::job_graph::Partitioning;
use spindle_common::resource::{ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;

use self::describe::describe;
use super::{sink_of_its_own, submission};
use crate::config::JobManagerConfig;
use crate::job_manager::JobManager;
use crate::machine::{Machine, Outbox};
use crate::message::{
    CheckpointEvent, ConnectionId, Container, Effect, Input, ResourceEffect, ResourceEvent,
    SavepointRequest,
};

/// Plays a story and answers it with the effects below each line.
pub(super) fn check(config: JobManagerConfig, story: &str) -> String {
    let mut script = Script::new(config);
    script.play(story);
    script.transcript
}

pub(super) struct Script {
    pub(super) manager: JobManager,
    now: MonoTime,
    slots_per_task_manager: u32,
    nodes: BTreeMap<String, NodeName>,
    connections: BTreeMap<String, ConnectionId>,
    next_connection: u64,
    leases: BTreeMap<AllocationId, JobId>,
    /// The largest size that was ever asked for.
    largest: Option<ResourceProfile>,
    /// Equal parts of each container, as it was launched with.
    slots: BTreeMap<ResourceId, u32>,
    quiet: bool,
    transcript: String,
}

impl Script {
    pub(super) fn new(config: JobManagerConfig) -> Self {
        Self {
            slots_per_task_manager: config.slots_per_task_manager,
            manager: JobManager::new(config),
            now: MonoTime::ZERO,
            nodes: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            leases: BTreeMap::new(),
            largest: None,
            slots: BTreeMap::new(),
            quiet: false,
            transcript: String::new(),
        }
    }

    pub(super) fn play(&mut self, story: &str) {
        for line in story.lines().map(str::trim).filter(|l| !l.is_empty()) {
            match line {
                "quietly" => self.quiet = true,
                "loudly" => self.quiet = false,
                _ => {
                    self.print(line);
                    self.line(line);
                }
            }
        }
    }

    fn print(&mut self, line: &str) {
        if !self.quiet {
            self.transcript += line;
            self.transcript += "\n";
        }
    }

    fn line(&mut self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let resource = ResourceId::new(first);
        let reason = after.to_owned();
        let input = match command {
            "submit" => {
                let (job, setting) = after.split_once(' ').unwrap_or((after, ""));
                let mut submission = submission(first.parse().unwrap(), job.parse().unwrap_or(1));
                let setting = setting.split_once('=');
                match setting {
                    // The sink's slots have so many cores and so much memory each.
                    Some(("sink", profile)) => {
                        let (cores, memory) = profile.split_once('/').unwrap();
                        let profile =
                            SlotProfile::new(cores.parse().unwrap(), memory.parse().unwrap());
                        sink_of_its_own(&mut submission, Some(profile));
                    }
                    Some(("group", _)) => sink_of_its_own(&mut submission, None),
                    // Each sink subtask reads the one source subtask beside it.
                    Some(("edge", "forward")) => {
                        submission.graph.edges[0].partitioning = Partitioning::Forward;
                    }
                    Some(_) => {
                        let settings = after.split(' ').filter_map(|word| word.split_once('='));
                        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
                        submission.config = settings.map(owned).collect();
                    }
                    None => {}
                }
                Input::Submit(Box::new(submission))
            }
            "nomore" => Input::NoMoreJobs,
            "nodes" => Input::Resource(ResourceEvent::Nodes {
                count: first.parse().unwrap(),
            }),
            "grant" => {
                let containers = rest.split(' ').map(|text| self.container(text)).collect();
                Input::Resource(ResourceEvent::Allocated(containers))
            }
            "register" => {
                self.next_connection += 1;
                let connection = ConnectionId(self.next_connection);
                if after != "again" {
                    self.connections.insert(first.to_owned(), connection);
                }
                let fencing = after.strip_prefix("fencing=").unwrap_or("1");
                let node = self.nodes.get(first).cloned();
                let slots = self.slots.get(&resource).copied();
                let registration = TaskExecutorRegistration {
                    resource,
                    fencing: FencingToken(fencing.parse().unwrap()),
                    node: node.unwrap_or_else(|| NodeName::new("nowhere")),
                    host: first.to_owned(),
                    slots: slots.unwrap_or(self.slots_per_task_manager),
                    pid: 1,
                };
                Input::TaskExecutor {
                    connection,
                    message: ToJobManager::Register(registration),
                }
            }
            "stranger" => Input::TaskExecutor {
                connection: ConnectionId(99),
                message: ToJobManager::Heartbeat(TaskExecutorReport::default()),
            },
            "offer" => {
                let allocation = AllocationId(after.parse().unwrap());
                self.from(
                    first,
                    ToJobManager::OfferSlot {
                        allocation,
                        job: self
                            .leases
                            .get(&allocation)
                            .copied()
                            .unwrap_or_else(|| job(1)),
                        data_address: format!("{first}:7000"),
                    },
                )
            }
            "unavailable" => {
                let (allocation, message) = after.split_once(' ').unwrap();
                self.from(
                    first,
                    ToJobManager::SlotUnavailable {
                        allocation: AllocationId(allocation.parse().unwrap()),
                        job: job(1),
                        cause: cause(FailureClass::Restart, None, message),
                    },
                )
            }
            "workerlost" => self.from(
                first,
                ToJobManager::WorkerLost {
                    job: job(1),
                    cause: cause(FailureClass::Restart, None, after),
                },
            ),
            "heartbeat" => {
                let report = after.split_once(' ').map(|(task, progress)| TaskReport {
                    job: job(1),
                    execution: execution(task),
                    metrics: TaskMetricsSnapshot {
                        progress: Some(progress.parse().unwrap()),
                        ..TaskMetricsSnapshot::default()
                    },
                });
                let report = TaskExecutorReport {
                    tasks: report.into_iter().collect(),
                    ..TaskExecutorReport::default()
                };
                self.from(first, ToJobManager::Heartbeat(report))
            }
            "state" => {
                let (task, state) = after.split_once(' ').unwrap();
                let (of, task) = self.task_of(first, task);
                let mut update = self.update(task, state);
                update.job = of;
                self.tell(first, update);
                return;
            }
            "fail" => {
                let (task, what) = after.split_once(' ').unwrap();
                let (class, message) = what.split_once(' ').unwrap();
                let class = match class {
                    "Retry" => FailureClass::Retry,
                    "Restart" => FailureClass::Restart,
                    "Fallback" => FailureClass::Fallback,
                    "FailCluster" => FailureClass::FailCluster,
                    _ => FailureClass::FailJob,
                };
                let (of, task) = self.task_of(first, task);
                let mut update = self.update(task, "Failed");
                update.job = of;
                let operator = task.split('/').next();
                update.cause = Some(cause(class, operator, message));
                self.tell(first, update);
                return;
            }
            "trigger" => checkpoint_event(CheckpointEvent::Trigger {
                request: first.parse().unwrap(),
                savepoint: savepoint_request(after),
            }),
            // From whom, which task, which checkpoint, and what is in its one state.
            // One that has ended answers with what it has to commit.
            "ack" | "ended" | "decline" => {
                let mut words = after.splitn(3, ' ');
                let task = execution(words.next().unwrap());
                let checkpoint = number(words.next().unwrap());
                let rest = words.next().unwrap_or_default();
                let outcome = match command {
                    "ack" => acknowledged(task, rest, false),
                    "ended" => acknowledged(task, rest, true),
                    _ => TaskCheckpointOutcome::Declined {
                        reason: rest.to_owned(),
                    },
                };
                self.from(
                    first,
                    ToJobManager::TaskCheckpoint(TaskCheckpoint {
                        job: job(1),
                        execution: task,
                        checkpoint,
                        outcome,
                    }),
                )
            }
            "all" => {
                self.all(first);
                return;
            }
            "disconnect" => Input::Disconnected {
                connection: self.connections[first],
                reason: "connection reset".to_owned(),
            },
            "launchfailed" => Input::Resource(ResourceEvent::LaunchFailed { resource, reason }),
            "completed" | "lost" => Input::Resource(ResourceEvent::Completed {
                resource,
                reason,
                platform: command == "lost",
            }),
            "refused" => Input::Resource(ResourceEvent::Refused {
                profile: None,
                reason: rest.to_owned(),
            }),
            "refusedlarge" => Input::Resource(ResourceEvent::Refused {
                profile: self.largest,
                reason: rest.to_owned(),
            }),
            "canceljob" => Input::CancelJob {
                job: job(first.parse().unwrap()),
                reason,
            },
            "cancel" => Input::CancelJob {
                job: job(1),
                reason: rest.to_owned(),
            },
            "shutdown" => Input::ShutDown {
                reason: rest.to_owned(),
            },
            "released" => Input::ClientReleased,
            "wait" => {
                self.wait(first.parse().unwrap());
                return;
            }
            "checkpoints" => {
                self.checkpoints();
                return;
            }
            "view" => {
                self.view();
                return;
            }
            _ => match storage::answer(command, rest) {
                Some(event) => checkpoint_event(event),
                None => panic!("no such command: {line}"),
            },
        };
        self.input(input);
    }

    fn container(&mut self, text: &str) -> Container {
        let (resource, node) = text.split_once('@').unwrap();
        // A plus behind the node stands for the largest size that was asked for.
        let (node, large) = node
            .strip_suffix('+')
            .map_or((node, false), |node| (node, true));
        let node = NodeName::new(node);
        self.nodes.insert(resource.to_owned(), node.clone());
        let usual = JobManagerConfig::default().profile;
        let size = if large { self.largest } else { None }.unwrap_or(usual);
        Container {
            resource: ResourceId::new(resource),
            node,
            profile: size,
            asked: size,
        }
    }

    fn from(&self, resource: &str, message: ToJobManager) -> Input {
        Input::TaskExecutor {
            connection: self.connections[resource],
            message,
        }
    }

    /// Reads `job:task`; without the job it is the one that has tasks on the TaskManager, the last if several have.
    fn task_of<'a>(&self, resource: &str, text: &'a str) -> (JobId, &'a str) {
        if let Some((number, task)) = text.split_once(':') {
            return (job(number.parse().unwrap()), task);
        }
        let on = ResourceId::new(resource);
        let jobs = self.manager.view().jobs;
        let of = jobs.iter().rev().find_map(|(id, job)| {
            let mut tasks = job.tasks.iter();
            tasks
                .any(|task| task.resource.as_ref() == Some(&on))
                .then_some(*id)
        });
        (of.unwrap_or_else(|| job(1)), text)
    }

    pub(super) fn update(&self, task: &str, state: &str) -> TaskStateUpdate {
        TaskStateUpdate {
            job: job(1),
            execution: execution(task),
            state: parse_state(state),
            cause: None,
            metrics: TaskMetricsSnapshot::default(),
            collected: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, resource: &str, update: TaskStateUpdate) {
        let input = self.from(resource, ToJobManager::TaskState(update));
        self.input(input);
    }

    /// Every task that is somewhere and not over reports a state.
    fn all(&mut self, state: &str) {
        let jobs = self.manager.view().jobs;
        for (job, task) in jobs
            .iter()
            .flat_map(|(id, j)| j.tasks.iter().map(move |t| (id, t)))
        {
            if let (false, Some(resource)) = (task.state.is_terminal(), &task.resource) {
                let update = TaskStateUpdate {
                    job: *job,
                    execution: task.execution,
                    state: parse_state(state),
                    cause: None,
                    metrics: TaskMetricsSnapshot::default(),
                    collected: Vec::new(),
                };
                self.tell(resource.as_str(), update);
            }
        }
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        let mut ticks = 0;
        while let Some(deadline) = self.manager.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.input(Input::Tick);
            ticks += 1;
            assert!(ticks < 100, "a deadline that a tick does not move");
        }
        self.now = until;
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        let sink = &mut |effect| effects.push(effect);
        self.manager.handle(self.now, input, &mut Outbox::new(sink));
        for effect in &effects {
            if let Effect::Send {
                message: ToTaskExecutor::RequestSlot(request),
                ..
            } = effect
            {
                self.leases.insert(request.allocation, request.job);
            }
            if let Effect::Resource(ResourceEffect::Plan(plan)) = effect {
                let asked = plan.asks.iter().map(|ask| ask.profile);
                self.largest = self.largest.into_iter().chain(asked).max();
            }
            if let Effect::Resource(ResourceEffect::Launch { resource, slots }) = effect {
                self.slots.insert(resource.clone(), *slots);
            }
        }
        let names: BTreeMap<_, _> = self.connections.iter().map(|(n, c)| (*c, n)).collect();
        let name = |connection: ConnectionId| match names.get(&connection) {
            Some(name) => (*name).clone(),
            None => format!("connection {}", connection.0),
        };
        let mut lines: Vec<String> = Vec::new();
        for effect in effects {
            let line = describe(&effect, name);
            match lines.last_mut() {
                // Changes of the same kind share a line.
                Some(last) if joins(last, &line) => {
                    let (_, task) = line.split_once(": ").unwrap();
                    *last += " ";
                    *last += task;
                }
                _ => lines.push(line),
            }
        }
        for line in lines {
            self.print(&format!("    {line}"));
        }
    }

    fn view(&mut self) {
        let view = self.manager.view();
        for job in view.jobs.values() {
            let mut line = format!("    job {:?}, restarts {}:", job.status, job.restarts);
            for task in &job.tasks {
                let on = task.resource.as_ref().map_or("-", ResourceId::as_str);
                write!(line, " {}={:?}@{on}", short(task.execution), task.state).unwrap();
            }
            self.print(&line);
            if let Some(waiting_for) = &job.waiting_for {
                self.print(&format!("        waits for {}", readable(waiting_for)));
            }
        }
        for (resource, manager) in &view.task_managers {
            self.print(&format!(
                "    {resource} on {}: {} of {} slots free",
                manager.node, manager.free_slots, manager.slots
            ));
        }
        self.print(&format!(
            "    containers: {} pending, {} starting; progress {}; stale messages {}",
            view.containers_pending, view.containers_starting, view.progress, view.stale_messages
        ));
    }
}

impl Script {
    /// What became of what was asked for, and of all the rest.
    fn checkpoints(&mut self) {
        let view = self.manager.view();
        let seen = view.jobs[&job(1)].checkpoints.clone().unwrap();
        for (request, answer) in &seen.triggers {
            self.print(&format!(
                "    request {request}: {}",
                readable(&format!("{answer:?}"))
            ));
        }
        for one in &seen.history {
            let failure = one.failure.as_deref().unwrap_or_default();
            self.print(&format!(
                "    {:?} {}: {:?} {failure}",
                one.kind, one.id, one.status
            ));
        }
    }
}

fn joins(last: &str, line: &str) -> bool {
    let kind = |text: &str| text.split_once(": ").map(|(kind, _)| kind.to_owned());
    line.starts_with("tasks ")
        && kind(last) == kind(line)
        && !line.contains('(')
        && !last.contains('(')
}

pub(super) fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn number(text: &str) -> CheckpointId {
    CheckpointId(text.parse().unwrap())
}

/// What is asked for: nothing said is a checkpoint, else the kind and where.
fn savepoint_request(words: &str) -> Option<SavepointRequest> {
    let mut words = words.split(' ').filter(|word| !word.is_empty());
    let kind = match words.next()? {
        "stop" => SnapshotKind::StopWithSavepoint,
        "drain" => SnapshotKind::Drain,
        _ => SnapshotKind::Savepoint,
    };
    Some(SavepointRequest {
        kind,
        directory: words.next().map(str::to_owned),
        suffix: "0123456789ab".to_owned(),
    })
}

fn checkpoint_event(event: CheckpointEvent) -> Input {
    Input::Checkpoint { job: job(1), event }
}

/// A task wrote these bytes: a source its positions, a sink what it has to commit.
fn acknowledged(task: ExecutionAttemptId, content: &str, finished: bool) -> TaskCheckpointOutcome {
    let name = short(task);
    let uid = name.split('/').next().unwrap().to_owned();
    TaskCheckpointOutcome::Acknowledged {
        snapshot: SubtaskSnapshot {
            operators: vec![OperatorSnapshot {
                uid,
                states: vec![StateSnapshot {
                    name: "state".to_owned(),
                    distribution: Distribution::Union,
                    schema: "progress<text>".to_owned(),
                    chunks: vec![StateChunk {
                        index: task.subtask,
                        entries: 1,
                        content: StateHandle::Inline(content.as_bytes().to_vec()),
                    }],
                }],
            }],
            finished,
        },
        stats: SubtaskCheckpointStats::default(),
    }
}

fn cause(class: FailureClass, operator: Option<&str>, message: &str) -> FailureCause {
    FailureCause {
        class,
        operator: operator.map(str::to_owned),
        message: message.to_owned(),
    }
}

fn parse_state(text: &str) -> ExecutionState {
    match text {
        "Initializing" => ExecutionState::Initializing,
        "Running" => ExecutionState::Running,
        "AwaitingCommit" => ExecutionState::AwaitingCommit,
        "Finished" => ExecutionState::Finished,
        "Canceled" => ExecutionState::Canceled,
        "Failed" => ExecutionState::Failed,
        _ => panic!("no such state: {text}"),
    }
}

/// Reads `vertex/subtask.attempt`.
fn execution(text: &str) -> ExecutionAttemptId {
    let (vertex, rest) = text.split_once('/').unwrap();
    let (subtask, attempt) = rest.split_once('.').unwrap();
    ExecutionAttemptId {
        vertex: JobVertexId::of_uid(vertex),
        subtask: subtask.parse().unwrap(),
        attempt: attempt.parse().unwrap(),
    }
}

fn short(id: ExecutionAttemptId) -> String {
    let name = if id.vertex == JobVertexId::of_uid("src") {
        "src"
    } else {
        "sink"
    };
    format!("{name}/{}.{}", id.subtask, id.attempt)
}

fn readable(text: &str) -> String {
    let long = |uid| JobVertexId::of_uid(uid).to_string();
    let text = text
        .replace(&long("src"), "src")
        .replace(&long("sink"), "sink");
    (1..=9).fold(text, |text, n| {
        text.replace(&format!("0{n}").repeat(16), &format!("#{n}"))
    })
}
