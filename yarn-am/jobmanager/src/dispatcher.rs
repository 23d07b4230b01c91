//! Takes jobs in and decides when the cluster is over. Flink: `Dispatcher`.

use std::collections::BTreeMap;
use std::time::Duration;

use spindle_common::execution::JobStatus;
use spindle_common::id::JobId;
use spindle_common::job_graph::JobSubmission;
use spindle_common::time::MonoTime;

use crate::config::ClusterMode;
use crate::machine::{Machine, Outbox};
use crate::message::{FinalStatus, Transition};

/// What can happen to the Dispatcher.
#[derive(Debug)]
pub(crate) enum DispatcherInput {
    Submit(Box<JobSubmission>),
    CancelJob {
        job: JobId,
        reason: String,
    },
    ShutDown {
        reason: String,
    },
    JobOver {
        job: JobId,
        status: JobStatus,
        /// One sentence with the job's name.
        summary: String,
    },
    ClientReleased,
    Tick,
}

/// What the Dispatcher wants done.
#[derive(Debug)]
pub(crate) enum DispatcherEffect {
    StartJob(Box<JobSubmission>),
    CancelJob {
        job: JobId,
        reason: String,
    },
    /// Let go of all TaskManagers and containers, then of everything.
    EndCluster {
        status: FinalStatus,
        diagnostics: String,
    },
    Transition(Transition),
}

#[derive(Debug)]
enum Phase {
    Serving,
    /// The one job is over; its client may still fetch the outcome.
    Lingering {
        until: MonoTime,
        end: End,
    },
    /// Waits for cancelled jobs to be over.
    ShuttingDown {
        reason: String,
    },
    Over,
}

#[derive(Debug, Clone)]
struct End {
    status: FinalStatus,
    diagnostics: String,
}

#[derive(Debug)]
pub(crate) struct Dispatcher {
    mode: ClusterMode,
    linger: Duration,
    /// Jobs taken in, and how those ended that have.
    jobs: BTreeMap<JobId, Option<End>>,
    client_released: bool,
    phase: Phase,
}

impl Dispatcher {
    pub(crate) const fn new(mode: ClusterMode, linger: Duration) -> Self {
        Self {
            mode,
            linger,
            jobs: BTreeMap::new(),
            client_released: false,
            phase: Phase::Serving,
        }
    }

    fn submit(&mut self, submission: Box<JobSubmission>, out: &mut Outbox<'_, DispatcherEffect>) {
        let job = submission.job;
        let refusal = match (&self.phase, self.mode) {
            _ if self.jobs.contains_key(&job) => Some("it is known"),
            (Phase::Lingering { .. } | Phase::ShuttingDown { .. } | Phase::Over, _) => {
                Some("the cluster is ending")
            }
            (Phase::Serving, ClusterMode::PerJob { .. }) if !self.jobs.is_empty() => {
                Some("the cluster has its one job")
            }
            (Phase::Serving, ClusterMode::PerJob { .. } | ClusterMode::Session) => None,
        };
        if let Some(why) = refusal {
            out.push(DispatcherEffect::Transition(Transition::Stale {
                what: format!("submission of job {job}: {why}"),
            }));
            return;
        }
        self.jobs.insert(job, None);
        out.push(DispatcherEffect::StartJob(submission));
    }

    fn shut_down(&mut self, reason: String, out: &mut Outbox<'_, DispatcherEffect>) {
        match &self.phase {
            Phase::Serving => {
                for (&job, _) in self.jobs.iter().filter(|(_, end)| end.is_none()) {
                    out.push(DispatcherEffect::CancelJob {
                        job,
                        reason: reason.clone(),
                    });
                }
                self.phase = Phase::ShuttingDown { reason };
                self.end_if_all_over(out);
            }
            Phase::Lingering { end, .. } => {
                let end = end.clone();
                self.end(end, out);
            }
            Phase::ShuttingDown { .. } | Phase::Over => {}
        }
    }

    fn job_over(
        &mut self,
        now: MonoTime,
        job: JobId,
        end: End,
        out: &mut Outbox<'_, DispatcherEffect>,
    ) {
        self.jobs.insert(job, Some(end.clone()));
        match (&self.phase, self.mode) {
            (Phase::Serving, ClusterMode::PerJob { attached }) => {
                if attached && !self.client_released {
                    let until = now + self.linger;
                    self.phase = Phase::Lingering { until, end };
                } else {
                    self.end(end, out);
                }
            }
            (Phase::ShuttingDown { .. }, _) => self.end_if_all_over(out),
            (Phase::Serving | Phase::Lingering { .. } | Phase::Over, _) => {}
        }
    }

    fn end_if_all_over(&mut self, out: &mut Outbox<'_, DispatcherEffect>) {
        let Phase::ShuttingDown { reason } = &self.phase else {
            return;
        };
        if self.jobs.values().any(Option::is_none) {
            return;
        }
        let stopped = |status| End {
            status,
            diagnostics: format!("the cluster was shut down: {reason}"),
        };
        let end = match self.mode {
            ClusterMode::Session => stopped(FinalStatus::Succeeded),
            ClusterMode::PerJob { .. } => match self.jobs.values().flatten().next() {
                Some(end) => end.clone(),
                None => stopped(FinalStatus::Killed),
            },
        };
        self.end(end, out);
    }

    fn end(&mut self, end: End, out: &mut Outbox<'_, DispatcherEffect>) {
        self.phase = Phase::Over;
        out.push(DispatcherEffect::EndCluster {
            status: end.status,
            diagnostics: end.diagnostics,
        });
    }

    fn end_lingering(&mut self, out: &mut Outbox<'_, DispatcherEffect>) {
        if let Phase::Lingering { end, .. } = &self.phase {
            let end = end.clone();
            self.end(end, out);
        }
    }
}

impl Machine for Dispatcher {
    type Input = DispatcherInput;
    type Effect = DispatcherEffect;

    fn handle(
        &mut self,
        now: MonoTime,
        input: DispatcherInput,
        out: &mut Outbox<'_, DispatcherEffect>,
    ) {
        match input {
            DispatcherInput::Submit(submission) => self.submit(submission, out),
            DispatcherInput::CancelJob { job, reason } => {
                if self.jobs.get(&job).is_some_and(Option::is_none) {
                    out.push(DispatcherEffect::CancelJob { job, reason });
                }
            }
            DispatcherInput::ShutDown { reason } => self.shut_down(reason, out),
            DispatcherInput::JobOver {
                job,
                status,
                summary,
            } => {
                let status = match status {
                    JobStatus::Finished => FinalStatus::Succeeded,
                    JobStatus::Canceled => FinalStatus::Killed,
                    JobStatus::Failed
                    | JobStatus::Created
                    | JobStatus::Running
                    | JobStatus::Restarting
                    | JobStatus::Failing
                    | JobStatus::Cancelling => FinalStatus::Failed,
                };
                let end = End {
                    status,
                    diagnostics: summary,
                };
                self.job_over(now, job, end, out);
            }
            DispatcherInput::ClientReleased => {
                self.client_released = true;
                self.end_lingering(out);
            }
            DispatcherInput::Tick => {
                if self.deadline().is_some_and(|until| until <= now) {
                    self.end_lingering(out);
                }
            }
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        match &self.phase {
            Phase::Lingering { until, .. } => Some(*until),
            Phase::Serving | Phase::ShuttingDown { .. } | Phase::Over => None,
        }
    }
}
