//! Takes jobs in, keeps those that are over for a while, and decides when the cluster is over. Flink: `Dispatcher`.

mod job_store;

use std::collections::BTreeSet;
use std::time::Duration;

use spindle_common::execution::JobStatus;
use spindle_common::id::JobId;
use spindle_common::job_graph::JobSubmission;
use spindle_common::time::MonoTime;

use crate::config::{ClusterMode, JobManagerConfig};
use crate::dispatcher::job_store::JobStore;
use crate::machine::{Machine, Outbox};
use crate::message::{FinalStatus, Transition};

/// What can happen to the Dispatcher.
#[derive(Debug)]
pub(crate) enum DispatcherInput {
    Submit(Box<JobSubmission>),
    NoMoreJobs,
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
        fails_cluster: bool,
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
    /// A job that is over is not shown any more.
    ForgetJob(JobId),
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
    /// All jobs are over; the client may still fetch the outcome.
    Lingering {
        until: MonoTime,
        end: End,
    },
    /// Waits for cancelled jobs to be over.
    ShuttingDown {
        reason: String,
        /// Set if the cluster cannot go on.
        failed: Option<End>,
    },
    Over,
}

#[derive(Debug, Clone)]
struct End {
    status: FinalStatus,
    diagnostics: String,
}

/// How the jobs ended so far.
#[derive(Debug, Default)]
struct Outcome {
    over: u32,
    first_failure: Option<String>,
    first_cancellation: Option<String>,
    newest: String,
}

impl Outcome {
    fn add(&mut self, status: JobStatus, summary: String) {
        self.over += 1;
        match status {
            JobStatus::Finished => {}
            JobStatus::Canceled => {
                self.first_cancellation
                    .get_or_insert_with(|| summary.clone());
            }
            JobStatus::Failed
            | JobStatus::Created
            | JobStatus::Running
            | JobStatus::Restarting
            | JobStatus::Failing
            | JobStatus::Cancelling => {
                self.first_failure.get_or_insert_with(|| summary.clone());
            }
        }
        self.newest = summary;
    }

    /// How a cluster ends that lives for these jobs; nothing if there were none.
    fn end(&self) -> Option<End> {
        let (status, diagnostics) = match (&self.first_failure, &self.first_cancellation) {
            (Some(summary), _) => (FinalStatus::Failed, summary.clone()),
            (None, Some(summary)) => (FinalStatus::Killed, summary.clone()),
            (None, None) if self.over == 1 => (FinalStatus::Succeeded, self.newest.clone()),
            (None, None) => {
                let summary = format!("all {} jobs finished", self.over);
                (FinalStatus::Succeeded, summary)
            }
        };
        (self.over > 0).then_some(End {
            status,
            diagnostics,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Dispatcher {
    mode: ClusterMode,
    linger: Duration,
    running: BTreeSet<JobId>,
    store: JobStore,
    outcome: Outcome,
    no_more_jobs: bool,
    client_released: bool,
    phase: Phase,
}

impl Dispatcher {
    pub(crate) fn new(config: &JobManagerConfig) -> Self {
        Self {
            mode: config.mode,
            linger: config.client_linger,
            running: BTreeSet::new(),
            store: JobStore::new(config.job_store_capacity, config.job_store_expiration),
            outcome: Outcome::default(),
            no_more_jobs: false,
            client_released: false,
            phase: Phase::Serving,
        }
    }

    fn submit(&mut self, submission: Box<JobSubmission>, out: &mut Outbox<'_, DispatcherEffect>) {
        let job = submission.job;
        let known = self.running.contains(&job) || self.store.knows(job);
        let refusal = match (&self.phase, self.mode) {
            _ if known => Some("it is known"),
            (Phase::Lingering { .. } | Phase::ShuttingDown { .. } | Phase::Over, _) => {
                Some("the cluster is ending")
            }
            (Phase::Serving, ClusterMode::PerJob { .. }) if !self.running.is_empty() => {
                Some("the cluster has its one job")
            }
            (Phase::Serving, ClusterMode::Application { .. }) if self.no_more_jobs => {
                Some("it was said that no more jobs come")
            }
            (
                Phase::Serving,
                ClusterMode::PerJob { .. } | ClusterMode::Session | ClusterMode::Application { .. },
            ) => None,
        };
        if let Some(why) = refusal {
            out.push(DispatcherEffect::Transition(Transition::Stale {
                what: format!("submission of job {job}: {why}"),
            }));
            return;
        }
        self.running.insert(job);
        out.push(DispatcherEffect::StartJob(submission));
    }

    fn shut_down(&mut self, reason: String, out: &mut Outbox<'_, DispatcherEffect>) {
        match &self.phase {
            Phase::Serving => {
                self.cancel_all(&reason, out);
                let failed = None;
                self.phase = Phase::ShuttingDown { reason, failed };
                self.end_if_all_over(out);
            }
            Phase::Lingering { end, .. } => {
                let end = end.clone();
                self.end(end, out);
            }
            Phase::ShuttingDown { .. } | Phase::Over => {}
        }
    }

    fn cancel_all(&self, reason: &str, out: &mut Outbox<'_, DispatcherEffect>) {
        for &job in &self.running {
            let reason = reason.to_owned();
            out.push(DispatcherEffect::CancelJob { job, reason });
        }
    }

    fn job_over(&mut self, now: MonoTime, job: JobId, out: &mut Outbox<'_, DispatcherEffect>) {
        self.running.remove(&job);
        match self.mode {
            // What its client comes to fetch is there to the end.
            ClusterMode::PerJob { .. } => {}
            ClusterMode::Session | ClusterMode::Application { .. } => self.store.add(now, job),
        }
        self.forget_old(now, out);
        match (&self.phase, self.mode) {
            (Phase::Serving, ClusterMode::PerJob { attached }) => {
                self.end_or_linger(now, attached, out);
            }
            (Phase::Serving, ClusterMode::Application { attached }) => {
                self.end_application_if_all_over(now, attached, out);
            }
            (Phase::ShuttingDown { .. }, _) => self.end_if_all_over(out),
            (Phase::Serving, ClusterMode::Session) | (Phase::Lingering { .. } | Phase::Over, _) => {
            }
        }
    }

    /// A job met with what no other gets over either.
    fn cluster_failed(&mut self, summary: String, out: &mut Outbox<'_, DispatcherEffect>) {
        let end = End {
            status: FinalStatus::Failed,
            diagnostics: summary,
        };
        match (&mut self.phase, self.mode) {
            (Phase::Serving, ClusterMode::Session | ClusterMode::Application { .. }) => {
                let reason = format!("the cluster cannot go on: {}", end.diagnostics);
                self.cancel_all(&reason, out);
                let failed = Some(end);
                self.phase = Phase::ShuttingDown { reason, failed };
            }
            (Phase::ShuttingDown { failed, .. }, _) => {
                failed.get_or_insert(end);
            }
            // With its job the cluster fails anyway.
            (Phase::Serving, ClusterMode::PerJob { .. })
            | (Phase::Lingering { .. } | Phase::Over, _) => {}
        }
    }

    fn end_application_if_all_over(
        &mut self,
        now: MonoTime,
        attached: bool,
        out: &mut Outbox<'_, DispatcherEffect>,
    ) {
        if self.no_more_jobs && self.running.is_empty() {
            self.end_or_linger(now, attached, out);
        }
    }

    fn end_or_linger(
        &mut self,
        now: MonoTime,
        attached: bool,
        out: &mut Outbox<'_, DispatcherEffect>,
    ) {
        let end = self.outcome.end().unwrap_or_else(|| End {
            status: FinalStatus::Failed,
            diagnostics: "the program has no job".to_owned(),
        });
        if attached && !self.client_released {
            let until = now + self.linger;
            self.phase = Phase::Lingering { until, end };
        } else {
            self.end(end, out);
        }
    }

    fn end_if_all_over(&mut self, out: &mut Outbox<'_, DispatcherEffect>) {
        let Phase::ShuttingDown { reason, failed } = &self.phase else {
            return;
        };
        if !self.running.is_empty() {
            return;
        }
        let end = match (failed, self.mode) {
            (Some(end), _) => end.clone(),
            (None, ClusterMode::Session) => End {
                status: FinalStatus::Succeeded,
                diagnostics: format!("session stopped: {reason}"),
            },
            (None, ClusterMode::PerJob { .. }) => {
                self.outcome.end().unwrap_or_else(|| stopped(reason))
            }
            // More jobs might have come: even if those that did have finished, the application has not.
            (None, ClusterMode::Application { .. }) => match self.outcome.end() {
                Some(end) if end.status != FinalStatus::Succeeded => end,
                Some(_) | None => stopped(reason),
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

    fn forget_old(&mut self, now: MonoTime, out: &mut Outbox<'_, DispatcherEffect>) {
        while let Some(job) = self.store.take_old(now) {
            out.push(DispatcherEffect::ForgetJob(job));
        }
    }
}

fn stopped(reason: &str) -> End {
    End {
        status: FinalStatus::Killed,
        diagnostics: format!("the cluster was shut down: {reason}"),
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
            DispatcherInput::NoMoreJobs => {
                self.no_more_jobs = true;
                if let (Phase::Serving, ClusterMode::Application { attached }) =
                    (&self.phase, self.mode)
                {
                    self.end_application_if_all_over(now, attached, out);
                }
            }
            DispatcherInput::CancelJob { job, reason } => {
                if self.running.contains(&job) {
                    out.push(DispatcherEffect::CancelJob { job, reason });
                }
            }
            DispatcherInput::ShutDown { reason } => self.shut_down(reason, out),
            DispatcherInput::JobOver {
                job,
                status,
                fails_cluster,
                summary,
            } => {
                self.outcome.add(status, summary.clone());
                if fails_cluster {
                    self.running.remove(&job);
                    self.cluster_failed(summary, out);
                }
                self.job_over(now, job, out);
            }
            DispatcherInput::ClientReleased => {
                self.client_released = true;
                self.end_lingering(out);
            }
            DispatcherInput::Tick => {
                self.forget_old(now, out);
                if matches!(self.phase, Phase::Lingering { until, .. } if until <= now) {
                    self.end_lingering(out);
                }
            }
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        let linger = match &self.phase {
            Phase::Lingering { until, .. } => Some(*until),
            Phase::Serving | Phase::ShuttingDown { .. } | Phase::Over => None,
        };
        linger.into_iter().chain(self.store.deadline()).min()
    }
}
