//! One job: its executions, its slots, its failures, its end. Flink: `JobMaster`.

mod checkpoints;
mod failover;
mod restart;
mod tasks;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use spindle_common::config::RestartConfig;
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass, JobStatus};
use spindle_common::gateway::{
    TaskCheckpoint, TaskMetricsSnapshot, TaskStateUpdate, ToTaskExecutor,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, ResourceId};
use spindle_common::job_graph::JobGraph;
use spindle_common::time::MonoTime;

use crate::checkpoint::{CheckpointCoordinator, CheckpointInput, CheckpointSettings};
use crate::execution_graph::{ExecutionGraph, HeldSlot, TERMINAL, slot_counts};
use crate::job_master::restart::RestartBackoff;
use crate::machine::{Machine, Outbox};
use crate::message::{CheckpointEffect, CheckpointEvent, JobView, Transition};
use crate::resource_manager::SlotCounts;

/// What can happen to a JobMaster.
#[derive(Debug)]
pub(crate) enum JobMasterInput {
    Start,
    SlotOffered(HeldSlot),
    /// Slots that were asked for or held are gone.
    SlotsLost {
        allocations: BTreeSet<AllocationId>,
        cause: FailureCause,
        /// Whether the job's worker failed, so that it counts as a failure even if no task ran.
        worker_failed: bool,
        /// Until when the cause may be named better, if it may.
        naming: Option<MonoTime>,
    },
    /// What a cause was that is known by this message.
    CauseNamed {
        known_as: String,
        cause: FailureCause,
    },
    TaskState {
        from: ResourceId,
        update: Box<TaskStateUpdate>,
    },
    TaskCheckpoint {
        from: ResourceId,
        done: Box<TaskCheckpoint>,
    },
    Checkpoint(CheckpointEvent),
    TaskMetrics {
        execution: ExecutionAttemptId,
        metrics: TaskMetricsSnapshot,
    },
    Cancel {
        reason: String,
    },
    /// The job cannot go on for a reason outside of it.
    Fail(FailureCause),
    Tick,
}

/// What a JobMaster wants done.
#[derive(Debug)]
pub(crate) enum JobMasterEffect {
    /// How many slots are wanted from now on.
    Demand(SlotDemand),
    /// All slots are there and tasks are sent to them.
    Deployed,
    Send {
        to: ResourceId,
        message: Box<ToTaskExecutor>,
    },
    /// A TaskManager does not do as told.
    Abandon {
        resource: ResourceId,
        reason: String,
    },
    RemoveStaging(Vec<String>),
    /// What is staged belongs to a snapshot, too.
    KeepStaging,
    Checkpoint(CheckpointEffect),
    /// To itself: too many checkpoints failed.
    FailJob(FailureCause),
    Transition(Transition),
    /// No slot is needed any more.
    SlotsFree,
    /// The last of all.
    Over {
        status: JobStatus,
        /// Whether it failed of what no job of the cluster gets over.
        fails_cluster: bool,
        summary: String,
    },
}

/// How many slots a job wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SlotDemand {
    /// These in all, those asked for and held included.
    Total(SlotCounts),
    /// Those asked for and held, and no others.
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WaitingForSlots,
    Running {
        /// Once all tasks were told to commit: until when one of them at least has to have done it.
        committing: Option<MonoTime>,
    },
    /// All tasks were told to stop.
    Stopping {
        then: Then,
        deadline: MonoTime,
    },
    /// All tasks have stopped; the restart is not due yet.
    BackingOff {
        until: MonoTime,
    },
    Over,
}

/// What follows when all tasks have stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Restart { delay: Duration },
    Fail,
    Cancel,
}

/// How a job is to be run.
#[derive(Debug)]
pub(crate) struct Behaviour {
    pub(crate) restart: RestartConfig,
    /// Without them it has no checkpoints.
    pub(crate) checkpoints: Option<CheckpointSettings>,
    pub(crate) cancellation_timeout: Duration,
}

/// A lost TaskManager of which the resource provider may still tell how it ended.
#[derive(Debug)]
struct Naming {
    known_as: String,
    until: MonoTime,
}

/// Runs one job.
#[derive(Debug)]
pub(crate) struct JobMaster {
    job: JobId,
    graph: ExecutionGraph,
    /// The graph without splits, for people.
    shown: Arc<JobGraph>,
    slots: BTreeMap<AllocationId, HeldSlot>,
    phase: Phase,
    status: JobStatus,
    timestamps: BTreeMap<JobStatus, MonoTime>,
    started: MonoTime,
    ended: Option<MonoTime>,
    restarts: u32,
    backoff: RestartBackoff,
    checkpoints: Option<CheckpointCoordinator>,
    cancellation_timeout: Duration,
    /// Newest failure.
    cause: Option<FailureCause>,
    naming: Option<Naming>,
    cancel_reason: Option<String>,
    collected: BTreeMap<String, Vec<u8>>,
    /// What can be seen of it once it is over.
    archived: Option<Arc<JobView>>,
}

type Out<'a, 'b> = &'a mut Outbox<'b, JobMasterEffect>;

impl JobMaster {
    pub(crate) fn new(
        job: JobId,
        graph: JobGraph,
        first_attempt: u32,
        behaviour: Behaviour,
        now: MonoTime,
    ) -> Self {
        let mut shown = graph.clone();
        for vertex in &mut shown.vertices {
            vertex.splits.clear();
        }
        let shown = Arc::new(shown);
        let checkpoints = behaviour
            .checkpoints
            .map(|settings| CheckpointCoordinator::new(job, Arc::clone(&shown), settings));
        Self {
            job,
            graph: ExecutionGraph::new(graph, first_attempt, now),
            shown,
            slots: BTreeMap::new(),
            phase: Phase::WaitingForSlots,
            status: JobStatus::Created,
            timestamps: BTreeMap::from([(JobStatus::Created, now)]),
            started: now,
            ended: None,
            restarts: 0,
            backoff: RestartBackoff::new(behaviour.restart),
            checkpoints,
            cancellation_timeout: behaviour.cancellation_timeout,
            cause: None,
            naming: None,
            cancel_reason: None,
            collected: BTreeMap::new(),
            archived: None,
        }
    }

    fn start(&mut self, now: MonoTime, out: Out<'_, '_>) {
        match self.graph.graph().validate() {
            Ok(()) => {
                self.checkpoint(now, CheckpointInput::Start, out);
                self.wait_for_slots(now, out);
            }
            Err(error) => {
                let cause = FailureCause {
                    class: FailureClass::FailJob,
                    operator: None,
                    message: error.to_string(),
                };
                self.fail(now, cause, out);
            }
        }
    }

    fn wait_for_slots(&mut self, now: MonoTime, out: Out<'_, '_>) {
        self.phase = Phase::WaitingForSlots;
        for index in 0..self.graph.executions().len() {
            self.move_task(now, index, ExecutionState::Scheduled, None, out);
        }
        let demand = SlotDemand::Total(slot_counts(self.graph.graph()));
        out.push(JobMasterEffect::Demand(demand));
        self.deploy_if_all_slots_are_there(now, out);
    }

    fn deploy_if_all_slots_are_there(&mut self, now: MonoTime, out: Out<'_, '_>) {
        if self.phase != Phase::WaitingForSlots || !self.knows_newest_checkpoint() {
            return;
        }
        let Some(slots) = self.graph.assign(self.slots.values()) else {
            return;
        };
        let mut deployments = self.graph.deployments(self.job, &slots);
        if let Err(why) = self.restore(now, &mut deployments) {
            let cause = FailureCause {
                class: FailureClass::FailJob,
                operator: None,
                message: why,
            };
            self.fail(now, cause, out);
            return;
        }
        self.phase = Phase::Running { committing: None };
        self.move_job(now, JobStatus::Running, None, out);
        out.push(JobMasterEffect::Deployed);
        for (index, deployment) in deployments.into_iter().enumerate() {
            let slot = &slots[self.graph.slot_of(deployment.execution)];
            let to = slot.resource.clone();
            self.graph.execution_mut(index).slot = Some((slot.allocation, to.clone()));
            self.move_task(now, index, ExecutionState::Deploying, None, out);
            let message = Box::new(ToTaskExecutor::SubmitTask(Box::new(deployment)));
            out.push(JobMasterEffect::Send { to, message });
        }
    }

    fn end(&mut self, now: MonoTime, status: JobStatus, out: Out<'_, '_>) {
        self.phase = Phase::Over;
        self.ended = Some(now);
        self.slots.clear();
        let cause = self.cause.clone();
        let cause = cause.filter(|_| status == JobStatus::Failed);
        let fails_cluster = (cause.as_ref()).is_some_and(|c| c.class == FailureClass::FailCluster);
        self.move_job(now, status, cause, out);
        self.checkpoint(now, CheckpointInput::JobOver(status), out);
        let vertices = &self.graph.graph().vertices;
        let staging: Vec<String> = vertices.iter().flat_map(|v| v.staging.clone()).collect();
        // What a snapshot has prepared lies there, and is committed by the job that begins with it.
        let checkpoints = self.checkpoints.as_ref();
        let prepared = status != JobStatus::Finished
            && checkpoints.is_some_and(CheckpointCoordinator::leaves_snapshots);
        if prepared {
            out.push(JobMasterEffect::KeepStaging);
        } else if !staging.is_empty() {
            out.push(JobMasterEffect::RemoveStaging(staging));
        }
        out.push(JobMasterEffect::SlotsFree);
        self.archived = Some(Arc::new(self.seen()));
        self.collected.clear();
        self.graph.shrink();
        let summary = self.summary();
        out.push(JobMasterEffect::Over {
            status,
            fails_cluster,
            summary,
        });
    }

    fn tick(&mut self, now: MonoTime, out: Out<'_, '_>) {
        if self.checkpoint_deadline().is_some_and(|at| at <= now) {
            self.checkpoint(now, CheckpointInput::Tick, out);
        }
        if self.own_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase {
            Phase::BackingOff { .. } => {
                self.restarts += 1;
                self.graph.restart(now);
                self.wait_for_slots(now, out);
            }
            Phase::Stopping { .. } if self.graph.all_in(TERMINAL) => {
                self.naming = None;
                self.go_on_if_stopped(now, out);
            }
            // Losing those that are stuck ends their tasks; should one be missed, it is tried again after the same time.
            Phase::Stopping { then, .. } => {
                let deadline = self.time_for_tasks(now);
                self.phase = Phase::Stopping { then, deadline };
                self.abandon_stuck("stop", out);
            }
            Phase::Running { committing } => {
                let committing = committing.map(|_| self.time_for_tasks(now));
                self.phase = Phase::Running { committing };
                self.abandon_stuck("commit its output", out);
            }
            Phase::WaitingForSlots | Phase::Over => {}
        }
    }

    /// Until when tasks have to have done what they were told.
    fn time_for_tasks(&self, now: MonoTime) -> MonoTime {
        now + self.cancellation_timeout.max(Duration::from_secs(1))
    }

    /// Gives the TaskManagers up whose tasks have not done as they were told.
    fn abandon_stuck(&self, what: &str, out: Out<'_, '_>) {
        let executions = self.graph.executions().iter();
        let stuck: BTreeSet<ResourceId> = executions
            .filter(|execution| !execution.state.is_terminal())
            .filter_map(|execution| execution.resource().cloned())
            .collect();
        for resource in stuck {
            let seconds = self.cancellation_timeout.as_secs();
            let reason = format!("a task did not {what} within {seconds} s");
            out.push(JobMasterEffect::Abandon { resource, reason });
        }
    }

    /// When something is due that is no checkpoint's.
    fn own_deadline(&self) -> Option<MonoTime> {
        match self.phase {
            Phase::Stopping { deadline, .. } => match &self.naming {
                Some(naming) if self.graph.all_in(TERMINAL) => Some(naming.until),
                // All it waits for is the storage's answer.
                None if self.graph.all_in(TERMINAL) => None,
                Some(_) | None => Some(deadline),
            },
            Phase::BackingOff { until } => Some(until),
            Phase::Running { committing } => committing,
            Phase::WaitingForSlots | Phase::Over => None,
        }
    }

    /// Whether all it lacks is slots.
    pub(crate) fn waits_for_slots(&self) -> bool {
        self.phase == Phase::WaitingForSlots
    }

    fn move_job(
        &mut self,
        now: MonoTime,
        to: JobStatus,
        cause: Option<FailureCause>,
        out: Out<'_, '_>,
    ) {
        let from = std::mem::replace(&mut self.status, to);
        self.timestamps.insert(to, now);
        let job = self.job;
        if from != to {
            let transition = Transition::Job {
                job,
                from,
                to,
                cause,
            };
            out.push(JobMasterEffect::Transition(transition));
        }
    }

    fn move_task(
        &mut self,
        now: MonoTime,
        index: usize,
        to: ExecutionState,
        cause: Option<FailureCause>,
        out: Out<'_, '_>,
    ) {
        let from = self.graph.enter(now, index, to);
        out.push(JobMasterEffect::Transition(Transition::Task {
            job: self.job,
            execution: self.graph.executions()[index].id,
            from,
            to,
            cause,
        }));
    }
}

impl Machine for JobMaster {
    type Input = JobMasterInput;
    type Effect = JobMasterEffect;

    fn handle(
        &mut self,
        now: MonoTime,
        input: JobMasterInput,
        out: &mut Outbox<'_, JobMasterEffect>,
    ) {
        match input {
            JobMasterInput::Start => self.start(now, out),
            JobMasterInput::SlotOffered(slot) => {
                if self.phase != Phase::Over {
                    self.slots.insert(slot.allocation, slot);
                    self.deploy_if_all_slots_are_there(now, out);
                }
            }
            JobMasterInput::SlotsLost {
                allocations,
                cause,
                worker_failed,
                naming,
            } => {
                if let Some(until) = naming {
                    let known_as = cause.message.clone();
                    self.naming = Some(Naming { known_as, until });
                }
                self.slots_lost(now, &allocations, cause, worker_failed, out);
            }
            JobMasterInput::CauseNamed { known_as, cause } => {
                self.cause_named(now, &known_as, cause, out);
            }
            JobMasterInput::TaskState { from, update } => {
                self.task_state(now, &from, *update, out);
            }
            JobMasterInput::TaskCheckpoint { from, done } => {
                self.task_checkpoint(now, &from, done, out);
            }
            JobMasterInput::Checkpoint(event) => self.checkpoint_event(now, event, out),
            JobMasterInput::TaskMetrics { execution, metrics } => {
                if let Some(index) = self.graph.index_of(execution) {
                    let execution = self.graph.execution_mut(index);
                    if !execution.state.is_terminal() {
                        execution.report(now, metrics);
                    }
                }
            }
            JobMasterInput::Cancel { reason } => self.cancel(now, reason, out),
            JobMasterInput::Fail(cause) => self.fail(now, cause, out),
            JobMasterInput::Tick => self.tick(now, out),
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        let of_checkpoints = self.checkpoint_deadline();
        self.own_deadline().into_iter().chain(of_checkpoints).min()
    }
}
