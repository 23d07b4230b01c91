//! What tasks report, and what follows when all of them are done.

use spindle_common::execution::{ExecutionState, FailureCause, FailureClass, JobStatus};
use spindle_common::gateway::{TaskStateUpdate, ToTaskExecutor};
use spindle_common::id::{ExecutionAttemptId, ResourceId};
use spindle_common::time::MonoTime;

use crate::execution_graph::DONE;
use crate::job_master::{JobMaster, JobMasterEffect, Out, Phase};
use crate::message::Transition;

impl JobMaster {
    pub(super) fn task_state(
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
        let execution = self.graph.execution_mut(index);
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
        self.task_moved(now, id, old, state, out);
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
            Phase::Stopping { .. } => {
                if let Some(cause) = cause {
                    self.learn(now, cause, out);
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

    /// Ends the job if all its tasks have finished and nothing is being written for it.
    pub(super) fn end_if_finished(&mut self, now: MonoTime, out: Out<'_, '_>) {
        if self.graph.all_in(&[ExecutionState::Finished]) && !self.is_persisting() {
            self.collected = self.graph.collected();
            self.end(now, JobStatus::Finished, out);
        }
    }

    fn task_done(&mut self, now: MonoTime, committing: Option<MonoTime>, out: Out<'_, '_>) {
        if self.graph.all_in(&[ExecutionState::Finished]) {
            self.end_if_finished(now, out);
        } else if committing.is_some() {
            let committing = Some(self.time_for_tasks(now));
            self.phase = Phase::Running { committing };
        } else {
            self.commit_if_done(now, out);
        }
    }

    /// All tasks have read and written all: those that wait for it commit, once it is sure that nobody has them do it again.
    pub(super) fn commit_if_done(&mut self, now: MonoTime, out: Out<'_, '_>) {
        let waits = self.graph.all_in(DONE) && !self.graph.all_in(&[ExecutionState::Finished]);
        if waits && self.may_commit(out) {
            let committing = Some(self.time_for_tasks(now));
            self.phase = Phase::Running { committing };
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

fn stale(what: String) -> JobMasterEffect {
    JobMasterEffect::Transition(Transition::Stale { what })
}
