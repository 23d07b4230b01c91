//! What a job does when something of it is lost, fails or is to be stopped: all its tasks stop, then it starts again or ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use spindle_common::execution::{ExecutionState, FailureCause, FailureClass, JobStatus};
use spindle_common::gateway::ToTaskExecutor;
use spindle_common::id::AllocationId;
use spindle_common::time::MonoTime;

use crate::checkpoint::CheckpointInput;
use crate::execution_graph::TERMINAL;
use crate::job_master::{JobMaster, JobMasterEffect, Out, Phase, SlotDemand, Then};

impl JobMaster {
    pub(super) fn slots_lost(
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
            Phase::Stopping { .. } => {
                if task_lost {
                    self.learn(now, cause, out);
                }
                self.go_on_if_stopped(now, out);
            }
            Phase::WaitingForSlots | Phase::BackingOff { .. } | Phase::Over => {}
        }
    }

    pub(super) fn fail(&mut self, now: MonoTime, cause: FailureCause, out: Out<'_, '_>) {
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
                if is_final(cause.class) || self.lost_its_state(&cause, out) {
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

    /// A failure comes to light while tasks are being stopped for another: it may be what that one came from.
    ///
    /// When a TaskManager is lost, its peers may tell of broken connections first.
    pub(super) fn learn(&mut self, now: MonoTime, cause: FailureCause, out: Out<'_, '_>) {
        let Phase::Stopping { then, deadline } = self.phase else {
            return;
        };
        if then == Then::Cancel || self.cause.as_ref().is_some_and(|c| c.class >= cause.class) {
            return;
        }
        self.cause = Some(cause.clone());
        if (is_final(cause.class) || self.lost_its_state(&cause, out)) && then != Then::Fail {
            let then = Then::Fail;
            self.phase = Phase::Stopping { then, deadline };
            self.move_job(now, JobStatus::Failing, Some(cause), out);
        }
    }

    /// It came out what the loss of a TaskManager really was.
    pub(super) fn cause_named(
        &mut self,
        now: MonoTime,
        known_as: &str,
        cause: FailureCause,
        out: Out<'_, '_>,
    ) {
        self.naming.take_if(|naming| naming.known_as == known_as);
        if let Some(newest) = self.cause.as_mut().filter(|c| c.message == known_as) {
            *newest = cause;
            if let Some(archived) = &mut self.archived {
                Arc::make_mut(archived).cause.clone_from(&self.cause);
            }
        }
        self.go_on_if_stopped(now, out);
    }

    fn cause_may_be_named(&self, now: MonoTime) -> bool {
        let cause = self.cause.as_ref().map(|cause| &cause.message);
        (self.naming.as_ref()).is_some_and(|n| cause == Some(&n.known_as) && now < n.until)
    }

    pub(super) fn cancel(&mut self, now: MonoTime, reason: String, out: Out<'_, '_>) {
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

    pub(super) fn stop_tasks(&mut self, now: MonoTime, then: Then, out: Out<'_, '_>) {
        out.push(JobMasterEffect::Demand(SlotDemand::Hold));
        let deadline = match self.phase {
            Phase::Stopping { deadline, .. } => deadline,
            Phase::WaitingForSlots
            | Phase::Running { .. }
            | Phase::BackingOff { .. }
            | Phase::Over => now + self.cancellation_timeout,
        };
        self.phase = Phase::Stopping { then, deadline };
        let why = self.why_stopped(then);
        self.checkpoint(now, CheckpointInput::TasksStop { why }, out);
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

    pub(super) fn go_on_if_stopped(&mut self, now: MonoTime, out: Out<'_, '_>) {
        let Phase::Stopping { then, .. } = self.phase else {
            return;
        };
        if !self.graph.all_in(TERMINAL) {
            return;
        }
        match then {
            Then::Restart { delay } => self.phase = Phase::BackingOff { until: now + delay },
            // What people read as the reason is worth a moment.
            Then::Fail if self.cause_may_be_named(now) => {}
            // Whether its last checkpoint is complete, people want to know, too.
            Then::Fail | Then::Cancel if self.is_persisting() => {}
            Then::Fail => self.end(now, JobStatus::Failed, out),
            Then::Cancel => self.end(now, JobStatus::Canceled, out),
        }
    }
}

const fn is_final(class: FailureClass) -> bool {
    match class {
        FailureClass::Retry | FailureClass::Restart | FailureClass::Fallback => false,
        FailureClass::FailJob | FailureClass::FailCluster => true,
    }
}
