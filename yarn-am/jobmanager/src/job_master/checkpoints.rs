//! What a job has to do with its checkpoints.

use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{TaskCheckpoint, TaskDeployment};
use spindle_common::id::{ExecutionAttemptId, ResourceId};
use spindle_common::time::MonoTime;

use crate::checkpoint::{
    CheckpointCoordinator, CheckpointInput, CoordinatorEffect, Participant, Progress,
};
use crate::execution_graph::RUN;
use crate::job_master::{JobMaster, JobMasterEffect, Out, Phase, Then};
use crate::machine::Machine;
use crate::message::{CheckpointEvent, Transition};

impl JobMaster {
    /// Hands something to the coordinator, if there is one.
    pub(super) fn checkpoint(&mut self, now: MonoTime, input: CheckpointInput, out: Out<'_, '_>) {
        if let Some(coordinator) = &mut self.checkpoints {
            out.scope(of_coordinator, |out| coordinator.handle(now, input, out));
        }
    }

    pub(super) fn checkpoint_deadline(&self) -> Option<MonoTime> {
        self.checkpoints.as_ref().and_then(Machine::deadline)
    }

    /// Whether a checkpoint may be complete for all that is known.
    pub(super) fn is_persisting(&self) -> bool {
        let checkpoints = self.checkpoints.as_ref();
        checkpoints.is_some_and(CheckpointCoordinator::is_persisting)
    }

    /// Whether it is certain what tasks have to begin with.
    pub(super) fn knows_newest_checkpoint(&self) -> bool {
        let checkpoints = self.checkpoints.as_ref();
        checkpoints.is_none_or(CheckpointCoordinator::is_settled)
    }

    /// Whether tasks may be told to commit what no checkpoint holds; if not, that comes with an event.
    pub(super) fn may_commit(&mut self, out: Out<'_, '_>) -> bool {
        let Some(coordinator) = &mut self.checkpoints else {
            return true;
        };
        let mut may = false;
        out.scope(of_coordinator, |out| may = coordinator.may_commit(out));
        may
    }

    /// Has tasks begin with the newest complete checkpoint, if there is one.
    pub(super) fn restore(
        &mut self,
        now: MonoTime,
        deployments: &mut [TaskDeployment],
    ) -> Result<(), String> {
        let Some(coordinator) = &mut self.checkpoints else {
            return Ok(());
        };
        if let Some(plan) = coordinator.restore()? {
            for deployment in deployments {
                let id = deployment.execution;
                let vertex = self.graph.graph().vertex(id.vertex);
                deployment.restore = vertex.map(|vertex| plan.of(vertex, id.subtask));
            }
            coordinator.restored(now);
        }
        Ok(())
    }

    /// Whether a failure leaves nothing to start from: what the job was restored from is damaged, and there is none before it.
    pub(super) fn lost_its_state(&mut self, cause: &FailureCause, out: Out<'_, '_>) -> bool {
        match cause.class {
            FailureClass::Fallback => {}
            FailureClass::Retry
            | FailureClass::Restart
            | FailureClass::FailJob
            | FailureClass::FailCluster => return false,
        }
        let Some(coordinator) = &mut self.checkpoints else {
            return true;
        };
        let mut found = false;
        out.scope(of_coordinator, |out| {
            found = coordinator.fall_back(&cause.message, out);
        });
        !found
    }

    pub(super) fn task_checkpoint(
        &mut self,
        now: MonoTime,
        from: &ResourceId,
        done: Box<TaskCheckpoint>,
        out: Out<'_, '_>,
    ) {
        let id = done.execution;
        let runs = (self.graph.index_of(id))
            .is_some_and(|index| self.graph.executions()[index].resource() == Some(from));
        if runs && self.checkpoints.is_some() {
            self.checkpoint(now, CheckpointInput::Task(done), out);
        } else {
            let what = format!(
                "checkpoint {} of {id}, which does not run on {from}",
                done.checkpoint
            );
            out.push(JobMasterEffect::Transition(Transition::Stale { what }));
        }
    }

    /// The storage has answered, or somebody wants a checkpoint.
    pub(super) fn checkpoint_event(
        &mut self,
        now: MonoTime,
        event: CheckpointEvent,
        out: Out<'_, '_>,
    ) {
        self.checkpoint(now, CheckpointInput::Event(event), out);
        match self.phase {
            Phase::WaitingForSlots => self.deploy_if_all_slots_are_there(now, out),
            Phase::Running { committing: None } => {
                self.commit_if_done(now, out);
                self.end_if_finished(now, out);
            }
            Phase::Running { .. } => self.end_if_finished(now, out),
            Phase::Stopping { .. } => self.go_on_if_stopped(now, out),
            Phase::BackingOff { .. } | Phase::Over => {}
        }
    }

    /// A task has come to another state.
    pub(super) fn task_moved(
        &mut self,
        now: MonoTime,
        task: ExecutionAttemptId,
        from: ExecutionState,
        to: ExecutionState,
        out: Out<'_, '_>,
    ) {
        let (Phase::Running { .. }, Some(progress)) = (self.phase, progress(to)) else {
            return;
        };
        if from >= ExecutionState::Running {
            self.checkpoint(now, CheckpointInput::TaskDone { task, progress }, out);
        } else if self.graph.all_in(RUN) {
            let participants = self.participants();
            self.checkpoint(now, CheckpointInput::TasksRun(participants), out);
        }
    }

    fn participants(&self) -> Vec<Participant> {
        let executions = self.graph.executions().iter();
        executions
            .filter_map(|execution| {
                let vertex = self.graph.graph().vertex(execution.id.vertex)?;
                Some(Participant {
                    execution: execution.id,
                    resource: execution.resource()?.clone(),
                    is_source: vertex.is_source(),
                    progress: progress(execution.state)?,
                })
            })
            .collect()
    }

    /// Why tasks are stopped, for what they had begun.
    pub(super) fn why_stopped(&self, then: Then) -> String {
        let cause = self.cause.as_ref().map(ToString::to_string);
        match (then, cause) {
            (Then::Cancel, _) => "the job was cancelled".to_owned(),
            (Then::Fail, Some(cause)) => format!("the job failed: {cause}"),
            (Then::Restart { .. }, Some(cause)) => format!("the job restarts: {cause}"),
            (Then::Fail | Then::Restart { .. }, None) => "the job failed".to_owned(),
        }
    }
}

/// How far a task has come that has come to run; nothing if it has not, or never will.
const fn progress(state: ExecutionState) -> Option<Progress> {
    match state {
        ExecutionState::Running => Some(Progress::Runs),
        ExecutionState::AwaitingCommit => Some(Progress::Awaits),
        ExecutionState::Finished => Some(Progress::Finished),
        ExecutionState::Created
        | ExecutionState::Scheduled
        | ExecutionState::Deploying
        | ExecutionState::Initializing
        | ExecutionState::Canceling
        | ExecutionState::Canceled
        | ExecutionState::Failed => None,
    }
}

fn of_coordinator(effect: CoordinatorEffect) -> JobMasterEffect {
    match effect {
        CoordinatorEffect::Storage(effect) => JobMasterEffect::Checkpoint(effect),
        CoordinatorEffect::Send { to, message } => JobMasterEffect::Send { to, message },
        CoordinatorEffect::KeepStaging => JobMasterEffect::KeepStaging,
        CoordinatorEffect::FailJob(cause) => JobMasterEffect::FailJob(cause),
        CoordinatorEffect::Transition(transition) => JobMasterEffect::Transition(transition),
    }
}
