//! What can be seen of a job.

use std::sync::Arc;

use spindle_common::execution::JobStatus;

use crate::checkpoint::CheckpointCoordinator;
use crate::execution_graph::Execution;
use crate::job_master::JobMaster;
use crate::message::JobView;

impl JobMaster {
    /// What can be seen of it now, with what it waits for.
    pub(crate) fn view(&self, waiting_for: Option<String>) -> Arc<JobView> {
        match &self.archived {
            Some(archived) => Arc::clone(archived),
            None => Arc::new(JobView {
                waiting_for,
                ..self.seen()
            }),
        }
    }

    pub(super) fn seen(&self) -> JobView {
        JobView {
            graph: Arc::clone(&self.shown),
            status: self.status,
            timestamps: self.timestamps.clone(),
            started: self.started,
            ended: self.ended,
            restarts: self.restarts,
            cause: self.cause.clone(),
            waiting_for: None,
            tasks: self
                .graph
                .executions()
                .iter()
                .map(Execution::view)
                .collect(),
            past: self.graph.past(),
            checkpoints: self.checkpoints.as_ref().map(CheckpointCoordinator::view),
            collected: self.collected.clone(),
        }
    }

    /// Share of the work that is done, 0 to 1; 1 only for a finished job.
    pub(crate) fn progress(&self) -> f64 {
        if self.status == JobStatus::Finished {
            1.0
        } else {
            self.graph.source_progress().min(0.99)
        }
    }

    /// How the job stands, in one sentence with its name.
    pub(super) fn summary(&self) -> String {
        let name = format!("job `{}` ({})", self.shown.name, self.job);
        let restarts = match self.restarts {
            0 => String::new(),
            1 => " after 1 restart".to_owned(),
            n => format!(" after {n} restarts"),
        };
        match (self.status, &self.cause) {
            (JobStatus::Failed | JobStatus::Failing, Some(cause)) => {
                format!("{name} failed{restarts}: {cause}")
            }
            (JobStatus::Canceled | JobStatus::Cancelling, _) => match &self.cancel_reason {
                Some(reason) => format!("{name} was cancelled: {reason}"),
                None => format!("{name} was cancelled"),
            },
            (JobStatus::Finished, _) => format!("{name} finished{restarts}"),
            (
                JobStatus::Created
                | JobStatus::Running
                | JobStatus::Restarting
                | JobStatus::Failing
                | JobStatus::Failed,
                _,
            ) => format!("{name} is {}{restarts}", self.status.rest_name()),
        }
    }
}
