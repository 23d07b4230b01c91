//! One job: its executions, its slots, its failures, its end. Flink: `JobMaster`.

mod restart;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spindle_common::execution::{ExecutionState, FailureCause, FailureClass, JobStatus};
use spindle_common::gateway::{TaskMetricsSnapshot, TaskStateUpdate, ToTaskExecutor};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, ResourceId};
use spindle_common::job_graph::JobGraph;
use spindle_common::time::MonoTime;

use crate::config::RestartStrategy;
use crate::execution_graph::{ExecutionGraph, HeldSlot};
use crate::job_master::restart::RestartBackoff;
use crate::machine::{Machine, Outbox};
use crate::message::Transition;

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
    },
    TaskState {
        from: ResourceId,
        update: Box<TaskStateUpdate>,
    },
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
    Transition(Transition),
    /// No slot is needed any more.
    SlotsFree,
    /// The last of all.
    Over {
        status: JobStatus,
        summary: String,
    },
}

/// How many slots a job wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotDemand {
    /// This many in all, those asked for and held included.
    Total(u32),
    /// Those asked for and held, and no others.
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WaitingForSlots,
    Running {
        committing: bool,
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

/// Runs one job.
#[derive(Debug)]
pub(crate) struct JobMaster {
    job: JobId,
    graph: ExecutionGraph,
    /// The graph without splits, for people.
    shown: JobGraph,
    slots: BTreeMap<AllocationId, HeldSlot>,
    phase: Phase,
    status: JobStatus,
    timestamps: BTreeMap<JobStatus, MonoTime>,
    started: MonoTime,
    ended: Option<MonoTime>,
    restarts: u32,
    backoff: RestartBackoff,
    cancellation_timeout: Duration,
    /// Newest failure.
    cause: Option<FailureCause>,
    cancel_reason: Option<String>,
    collected: BTreeMap<String, Vec<u8>>,
}

type Out<'a, 'b> = &'a mut Outbox<'b, JobMasterEffect>;

impl JobMaster {
    pub(crate) fn new(
        job: JobId,
        graph: JobGraph,
        restart: RestartStrategy,
        cancellation_timeout: Duration,
        now: MonoTime,
    ) -> Self {
        let mut shown = graph.clone();
        for vertex in &mut shown.vertices {
            vertex.splits.clear();
        }
        Self {
            job,
            graph: ExecutionGraph::new(graph, now),
            shown,
            slots: BTreeMap::new(),
            phase: Phase::WaitingForSlots,
            status: JobStatus::Created,
            timestamps: BTreeMap::from([(JobStatus::Created, now)]),
            started: now,
            ended: None,
            restarts: 0,
            backoff: RestartBackoff::new(restart),
            cancellation_timeout,
            cause: None,
            cancel_reason: None,
            collected: BTreeMap::new(),
        }
    }

    fn start(&mut self, now: MonoTime, out: Out<'_, '_>) {
        match self.graph.graph().validate() {
            Ok(()) => self.wait_for_slots(now, out),
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
        let demand = SlotDemand::Total(self.graph.graph().slots());
        out.push(JobMasterEffect::Demand(demand));
        self.deploy_if_all_slots_are_there(now, out);
    }

    fn deploy_if_all_slots_are_there(&mut self, now: MonoTime, out: Out<'_, '_>) {
        let wanted = self.graph.graph().slots() as usize;
        if self.phase != Phase::WaitingForSlots || self.slots.len() < wanted {
            return;
        }
        let slots: Vec<HeldSlot> = self.slots.values().take(wanted).cloned().collect();
        self.phase = Phase::Running { committing: false };
        self.move_job(now, JobStatus::Running, None, out);
        out.push(JobMasterEffect::Deployed);
        let deployments = self.graph.deployments(self.job, &slots);
        for (index, deployment) in deployments.into_iter().enumerate() {
            let slot = &slots[deployment.execution.subtask as usize];
            let to = slot.resource.clone();
            self.graph.executions_mut()[index].slot = Some((slot.allocation, to.clone()));
            self.move_task(now, index, ExecutionState::Deploying, None, out);
            let message = Box::new(ToTaskExecutor::SubmitTask(Box::new(deployment)));
            out.push(JobMasterEffect::Send { to, message });
        }
    }

    fn slots_lost(
        &mut self,
        now: MonoTime,
        allocations: &BTreeSet<AllocationId>,
        cause: FailureCause,
        worker_failed: bool,
        out: Out<'_, '_>,
    ) {
        self.slots.retain(|held, _| !allocations.contains(held));
        let mut task_lost = false;
        for index in 0..self.graph.executions().len() {
            let execution = &self.graph.executions()[index];
            let lost = matches!(&execution.slot, Some((held, _)) if allocations.contains(held));
            if lost && !execution.state.is_terminal() {
                task_lost = true;
                let cause = Some(cause.clone());
                self.move_task(now, index, ExecutionState::Failed, cause, out);
            }
        }
        match self.phase {
            Phase::Running { .. } if task_lost => self.fail(now, cause, out),
            Phase::WaitingForSlots if worker_failed => self.fail(now, cause, out),
            // What ended with the slot had done its work: the job needs no other slot for it.
            Phase::Running { .. } => out.push(JobMasterEffect::Demand(SlotDemand::Hold)),
            Phase::Stopping { .. } => self.go_on_if_stopped(now, out),
            Phase::WaitingForSlots | Phase::BackingOff { .. } | Phase::Over => {}
        }
    }

    fn task_state(
        &mut self,
        now: MonoTime,
        from: &ResourceId,
        update: TaskStateUpdate,
        out: Out<'_, '_>,
    ) {
        let TaskStateUpdate {
            execution: id,
            state,
            cause,
            metrics,
            collected,
            ..
        } = update;
        let current = self
            .graph
            .index_of(id)
            .filter(|&index| self.graph.executions()[index].resource() == Some(from));
        let Some(index) = current else {
            out.push(stale(format!(
                "{state:?} of {id}, which does not run on {from}"
            )));
            return;
        };
        let execution = &mut self.graph.executions_mut()[index];
        let old = execution.state;
        if !follows(old, state) {
            // Before it heard of the cancellation, a task may have gone on: no sign of anything wrong.
            if old != ExecutionState::Canceling || state < ExecutionState::Initializing {
                out.push(stale(format!("{state:?} of {id}, which is {old:?}")));
            }
            return;
        }
        execution.metrics = metrics;
        if state == ExecutionState::Finished {
            execution.collected = collected;
        }
        self.move_task(now, index, state, cause.clone(), out);
        match self.phase {
            Phase::Running { committing } => match state {
                ExecutionState::Failed | ExecutionState::Canceled => {
                    let cause = cause.unwrap_or_else(|| self.unexplained(id, state));
                    self.fail(now, cause, out);
                }
                ExecutionState::AwaitingCommit | ExecutionState::Finished => {
                    self.task_done(now, committing, out);
                }
                ExecutionState::Created
                | ExecutionState::Scheduled
                | ExecutionState::Deploying
                | ExecutionState::Initializing
                | ExecutionState::Running
                | ExecutionState::Canceling => {}
            },
            Phase::Stopping { then, deadline } => {
                if let Some(cause) = cause.filter(|cause| is_final(cause.class))
                    && matches!(then, Then::Restart { .. })
                {
                    self.cause = Some(cause.clone());
                    let then = Then::Fail;
                    self.phase = Phase::Stopping { then, deadline };
                    self.move_job(now, JobStatus::Failing, Some(cause), out);
                }
                self.go_on_if_stopped(now, out);
            }
            Phase::WaitingForSlots | Phase::BackingOff { .. } | Phase::Over => {}
        }
    }

    fn unexplained(&self, id: ExecutionAttemptId, state: ExecutionState) -> FailureCause {
        let vertex = self.graph.graph().vertex(id.vertex);
        let name = vertex.map_or_else(|| id.to_string(), |vertex| vertex.name());
        FailureCause {
            class: FailureClass::Restart,
            operator: None,
            message: format!(
                "task `{name}` ({}) ended {} without a reason",
                id.subtask,
                state.rest_name()
            ),
        }
    }

    fn task_done(&mut self, now: MonoTime, committing: bool, out: Out<'_, '_>) {
        if self.graph.all_in(ExecutionState::Finished) {
            self.collected = self.graph.collected();
            self.end(now, JobStatus::Finished, out);
        } else if !committing && self.graph.all_done() {
            self.phase = Phase::Running { committing: true };
            for execution in self.graph.executions() {
                if execution.state == ExecutionState::AwaitingCommit
                    && let Some(to) = execution.resource().cloned()
                {
                    let message = Box::new(ToTaskExecutor::CommitTask {
                        job: self.job,
                        execution: execution.id,
                    });
                    out.push(JobMasterEffect::Send { to, message });
                }
            }
        }
    }

    fn fail(&mut self, now: MonoTime, cause: FailureCause, out: Out<'_, '_>) {
        let then = match self.phase {
            Phase::Over
            | Phase::Stopping {
                then: Then::Cancel | Then::Fail,
                ..
            } => return,
            Phase::WaitingForSlots
            | Phase::Running { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopping {
                then: Then::Restart { .. },
                ..
            } => {
                if is_final(cause.class) {
                    Then::Fail
                } else {
                    self.backoff
                        .failed(now)
                        .map_or(Then::Fail, |delay| Then::Restart { delay })
                }
            }
        };
        self.cause = Some(cause.clone());
        let status = match then {
            Then::Restart { .. } => JobStatus::Restarting,
            Then::Fail | Then::Cancel => JobStatus::Failing,
        };
        self.move_job(now, status, Some(cause), out);
        self.stop_tasks(now, then, out);
    }

    fn cancel(&mut self, now: MonoTime, reason: String, out: Out<'_, '_>) {
        match self.phase {
            Phase::Over
            | Phase::Stopping {
                then: Then::Cancel | Then::Fail,
                ..
            } => {}
            Phase::WaitingForSlots
            | Phase::Running { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopping {
                then: Then::Restart { .. },
                ..
            } => {
                let cause = FailureCause {
                    class: FailureClass::FailJob,
                    operator: None,
                    message: reason.clone(),
                };
                self.cancel_reason = Some(reason);
                self.move_job(now, JobStatus::Cancelling, Some(cause), out);
                self.stop_tasks(now, Then::Cancel, out);
            }
        }
    }

    fn stop_tasks(&mut self, now: MonoTime, then: Then, out: Out<'_, '_>) {
        out.push(JobMasterEffect::Demand(SlotDemand::Hold));
        let deadline = match self.phase {
            Phase::Stopping { deadline, .. } => deadline,
            Phase::WaitingForSlots
            | Phase::Running { .. }
            | Phase::BackingOff { .. }
            | Phase::Over => now + self.cancellation_timeout,
        };
        self.phase = Phase::Stopping { then, deadline };
        for index in 0..self.graph.executions().len() {
            let execution = &self.graph.executions()[index];
            let (id, to) = (execution.id, execution.resource().cloned());
            if execution.state.is_terminal() || execution.state == ExecutionState::Canceling {
                continue;
            }
            let Some(to) = to else {
                self.move_task(now, index, ExecutionState::Canceled, None, out);
                continue;
            };
            self.move_task(now, index, ExecutionState::Canceling, None, out);
            let message = Box::new(ToTaskExecutor::CancelTask {
                job: self.job,
                execution: id,
            });
            out.push(JobMasterEffect::Send { to, message });
        }
        self.go_on_if_stopped(now, out);
    }

    fn go_on_if_stopped(&mut self, now: MonoTime, out: Out<'_, '_>) {
        let Phase::Stopping { then, .. } = self.phase else {
            return;
        };
        if !self.graph.all_terminal() {
            return;
        }
        match then {
            Then::Restart { delay } => self.phase = Phase::BackingOff { until: now + delay },
            Then::Fail => self.end(now, JobStatus::Failed, out),
            Then::Cancel => self.end(now, JobStatus::Canceled, out),
        }
    }

    fn end(&mut self, now: MonoTime, status: JobStatus, out: Out<'_, '_>) {
        self.phase = Phase::Over;
        self.ended = Some(now);
        self.slots.clear();
        let cause = self.cause.clone();
        let cause = cause.filter(|_| status == JobStatus::Failed);
        self.move_job(now, status, cause, out);
        let vertices = &self.graph.graph().vertices;
        let staging: Vec<String> = vertices.iter().flat_map(|v| v.staging.clone()).collect();
        if !staging.is_empty() {
            out.push(JobMasterEffect::RemoveStaging(staging));
        }
        out.push(JobMasterEffect::SlotsFree);
        let summary = self.summary();
        out.push(JobMasterEffect::Over { status, summary });
    }

    fn tick(&mut self, now: MonoTime, out: Out<'_, '_>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase {
            Phase::BackingOff { .. } => {
                self.restarts += 1;
                self.graph.restart(now);
                self.wait_for_slots(now, out);
            }
            Phase::Stopping { then, .. } => {
                let executions = self.graph.executions().iter();
                let stuck: BTreeSet<ResourceId> = executions
                    .filter(|execution| !execution.state.is_terminal())
                    .filter_map(|execution| execution.resource().cloned())
                    .collect();
                // Losing them ends their tasks; should one be missed, it is tried again after the same time.
                let deadline = now + self.cancellation_timeout.max(Duration::from_secs(1));
                self.phase = Phase::Stopping { then, deadline };
                for resource in stuck {
                    let reason = format!(
                        "a task did not stop within {} s",
                        self.cancellation_timeout.as_secs()
                    );
                    out.push(JobMasterEffect::Abandon { resource, reason });
                }
            }
            Phase::WaitingForSlots | Phase::Running { .. } | Phase::Over => {}
        }
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
        let execution = &mut self.graph.executions_mut()[index];
        let from = std::mem::replace(&mut execution.state, to);
        execution.timestamps.insert(to, now);
        out.push(JobMasterEffect::Transition(Transition::Task {
            job: self.job,
            execution: execution.id,
            from,
            to,
            cause,
        }));
    }
}

/// Whether a task that is in the state `old` may report the state `new`.
fn follows(old: ExecutionState, new: ExecutionState) -> bool {
    match old {
        ExecutionState::Deploying
        | ExecutionState::Initializing
        | ExecutionState::Running
        | ExecutionState::AwaitingCommit => {
            new > old && new >= ExecutionState::Initializing && new != ExecutionState::Canceling
        }
        ExecutionState::Canceling => new.is_terminal(),
        ExecutionState::Created
        | ExecutionState::Scheduled
        | ExecutionState::Finished
        | ExecutionState::Canceled
        | ExecutionState::Failed => false,
    }
}

const fn is_final(class: FailureClass) -> bool {
    match class {
        FailureClass::Retry | FailureClass::Restart => false,
        FailureClass::FailJob | FailureClass::FailCluster => true,
    }
}

fn stale(what: String) -> JobMasterEffect {
    JobMasterEffect::Transition(Transition::Stale { what })
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
            } => self.slots_lost(now, &allocations, cause, worker_failed, out),
            JobMasterInput::TaskState { from, update } => {
                self.task_state(now, &from, *update, out);
            }
            JobMasterInput::TaskMetrics { execution, metrics } => {
                if let Some(index) = self.graph.index_of(execution) {
                    let execution = &mut self.graph.executions_mut()[index];
                    if !execution.state.is_terminal() {
                        execution.metrics = metrics;
                    }
                }
            }
            JobMasterInput::Cancel { reason } => self.cancel(now, reason, out),
            JobMasterInput::Fail(cause) => self.fail(now, cause, out),
            JobMasterInput::Tick => self.tick(now, out),
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        match self.phase {
            Phase::Stopping { deadline, .. } => Some(deadline),
            Phase::BackingOff { until } => Some(until),
            Phase::WaitingForSlots | Phase::Running { .. } | Phase::Over => None,
        }
    }
}
