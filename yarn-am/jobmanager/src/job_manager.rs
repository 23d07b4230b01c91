//! The parts of the JobManager put together: routes inputs to them, and what they want of each other between them.

use std::collections::{BTreeMap, VecDeque};

use spindle_common::config::{ConfigError, RestartConfig};
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::{FencingToken, JobId};
use spindle_common::job_graph::JobSubmission;
use spindle_common::time::MonoTime;

use crate::checkpoint::CheckpointSettings;
use crate::config::JobManagerConfig;
use crate::dispatcher::{Dispatcher, DispatcherEffect, DispatcherInput};
use crate::job_master::{Behaviour, JobMaster, JobMasterEffect, JobMasterInput};
use crate::machine::{Machine, Outbox};
use crate::message::{Effect, FinalStatus, Input, Transition, View};
use crate::resource_manager::{
    JobSpec, ResourceManager, ResourceManagerEffect, ResourceManagerInput,
};

/// Before which there was none.
const FIRST_ATTEMPT: FencingToken = FencingToken(1);

/// Dispatcher, JobMasters and ResourceManager as one machine.
#[derive(Debug)]
pub struct JobManager {
    config: JobManagerConfig,
    dispatcher: Dispatcher,
    resource_manager: ResourceManager,
    jobs: BTreeMap<JobId, JobMaster>,
    stale_messages: u64,
    over: bool,
}

/// What a part wants: of the world, or of another part, which comes to it before the next input.
#[derive(Debug)]
enum Step {
    Out(Effect),
    Dispatcher(DispatcherInput),
    ResourceManager(ResourceManagerInput),
    Job(JobId, JobMasterInput),
    StartJob(Box<JobSubmission>),
    ForgetJob(JobId),
    EndCluster {
        status: FinalStatus,
        diagnostics: String,
    },
}

impl JobManager {
    /// A JobManager without jobs and TaskManagers.
    pub fn new(config: JobManagerConfig) -> Self {
        Self {
            dispatcher: Dispatcher::new(&config),
            resource_manager: ResourceManager::new(config.clone()),
            jobs: BTreeMap::new(),
            stale_messages: 0,
            over: false,
            config,
        }
    }

    /// All that can be seen of it.
    pub fn view(&self) -> View {
        // Not `sum`, which makes a negative zero of nothing.
        let progress = (self.jobs.values()).fold(0.0, |sum, job| sum + job.progress());
        let jobs = self.jobs.len().max(1) as f64;
        let view = |(&id, job): (&JobId, &JobMaster)| {
            let waiting = job.waits_for_slots();
            let waiting_for = waiting.then(|| self.resource_manager.waiting_for(id));
            (id, job.view(waiting_for.flatten()))
        };
        View {
            jobs: self.jobs.iter().map(view).collect(),
            task_managers: self.resource_manager.task_managers(),
            containers_pending: self.resource_manager.containers_pending(),
            containers_starting: self.resource_manager.containers_starting(),
            progress: (progress / jobs) as f32,
            stale_messages: self.stale_messages,
        }
    }

    fn route(&self, now: MonoTime, input: Input, steps: &mut VecDeque<Step>) {
        let step = match input {
            Input::Submit(submission) => Step::Dispatcher(DispatcherInput::Submit(submission)),
            Input::CancelJob { job, reason } => {
                Step::Dispatcher(DispatcherInput::CancelJob { job, reason })
            }
            Input::ShutDown { reason } => Step::Dispatcher(DispatcherInput::ShutDown { reason }),
            Input::NoMoreJobs => Step::Dispatcher(DispatcherInput::NoMoreJobs),
            Input::ClientReleased => Step::Dispatcher(DispatcherInput::ClientReleased),
            Input::TaskExecutor {
                connection,
                message,
            } => Step::ResourceManager(ResourceManagerInput::TaskExecutor {
                connection,
                message: Box::new(message),
            }),
            Input::Disconnected { connection, reason } => {
                Step::ResourceManager(ResourceManagerInput::Disconnected { connection, reason })
            }
            Input::Resource(event) => Step::ResourceManager(ResourceManagerInput::Container(event)),
            Input::Checkpoint { job, event } => Step::Job(job, JobMasterInput::Checkpoint(event)),
            Input::Tick => {
                steps.push_back(Step::ResourceManager(ResourceManagerInput::Tick));
                let due = |job: &JobMaster| job.deadline().is_some_and(|at| at <= now);
                for (&id, _) in self.jobs.iter().filter(|(_, job)| due(job)) {
                    steps.push_back(Step::Job(id, JobMasterInput::Tick));
                }
                Step::Dispatcher(DispatcherInput::Tick)
            }
        };
        steps.push_back(step);
    }

    fn step(&mut self, now: MonoTime, step: Step, next: &mut Outbox<'_, Step>) {
        match step {
            Step::Out(_) => unreachable!("effects leave the queue before"),
            Step::Dispatcher(input) => next.scope(of_dispatcher, |out| {
                self.dispatcher.handle(now, input, out);
            }),
            Step::ResourceManager(input) => next.scope(of_resource_manager, |out| {
                self.resource_manager.handle(now, input, out);
            }),
            Step::Job(id, input) => match self.jobs.get_mut(&id) {
                Some(job) => next.scope(
                    |effect| of_job(id, effect),
                    |out| job.handle(now, input, out),
                ),
                None => next.push(Step::Out(Effect::Transition(Transition::Stale {
                    what: format!("message about job {id}, which is not known"),
                }))),
            },
            Step::StartJob(submission) => self.start_job(now, *submission, next),
            Step::ForgetJob(job) => {
                self.jobs.remove(&job);
            }
            Step::EndCluster {
                status,
                diagnostics,
            } => {
                let reason = diagnostics.clone();
                next.scope(of_resource_manager, |out| {
                    let end = ResourceManagerInput::ShutDown { reason };
                    self.resource_manager.handle(now, end, out);
                });
                next.push(Step::Out(Effect::Terminate {
                    status,
                    diagnostics,
                }));
            }
        }
    }

    fn start_job(&mut self, now: MonoTime, submission: JobSubmission, next: &mut Outbox<'_, Step>) {
        let JobSubmission {
            job,
            graph,
            program,
            config,
        } = submission;
        let settings = self.settings_of(job, &config);
        let spec = Box::new(JobSpec {
            slots: crate::execution_graph::slot_counts(&graph),
            program,
            graph_fingerprint: graph.fingerprint(),
            config,
        });
        let (restart, checkpoints, first) = match settings {
            Ok((restart, checkpoints)) => (restart, checkpoints, JobMasterInput::Start),
            Err(error) => {
                let cause = FailureCause {
                    class: FailureClass::FailJob,
                    operator: None,
                    message: format!("the job's settings cannot be used: {error}"),
                };
                (RestartConfig::None, None, JobMasterInput::Fail(cause))
            }
        };
        let timeout = self.config.cancellation_timeout;
        let first_attempt = self.config.fencing.first_execution_attempt();
        let behaviour = Behaviour {
            restart,
            checkpoints,
            cancellation_timeout: timeout,
        };
        let master = JobMaster::new(job, graph, first_attempt, behaviour, now);
        self.jobs.insert(job, master);
        let added = ResourceManagerInput::JobAdded { job, spec };
        next.push(Step::ResourceManager(added));
        next.push(Step::Job(job, first));
    }

    /// What a job's settings say to its JobMaster.
    fn settings_of(
        &self,
        job: JobId,
        own: &[(String, String)],
    ) -> Result<(RestartConfig, Option<CheckpointSettings>), ConfigError> {
        let config = self.config.checkpoints_of(own)?;
        let directory = config.directory.clone();
        let savepoints = self.config.savepoints_of(own)?;
        let checkpoints = directory.map(|directory| CheckpointSettings {
            directory: format!("{}/{job}", directory.trim_end_matches('/')),
            epoch_ms: self.config.epoch_ms,
            first_id: self.config.fencing.first_checkpoint(),
            discover: self.config.fencing > FIRST_ATTEMPT,
            config,
            savepoints,
        });
        Ok((self.config.restart_of(own)?, checkpoints))
    }

    fn let_out(&mut self, effect: Effect, out: &mut Outbox<'_, Effect>) {
        match &effect {
            Effect::Transition(Transition::Stale { .. }) => self.stale_messages += 1,
            Effect::Terminate { .. } => self.over = true,
            Effect::Send { .. }
            | Effect::Disconnect { .. }
            | Effect::Resource(_)
            | Effect::Checkpoint { .. }
            | Effect::RemoveStaging { .. }
            | Effect::KeepStaging { .. }
            | Effect::Transition(_) => {}
        }
        out.push(effect);
    }
}

impl Machine for JobManager {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: MonoTime, input: Input, out: &mut Outbox<'_, Effect>) {
        let mut steps = VecDeque::new();
        self.route(now, input, &mut steps);
        // Slots are matched and containers planned once all parts have heard of all that happened, until that changes nothing.
        let mut settled = false;
        while !self.over {
            match steps.pop_front() {
                Some(Step::Out(effect)) => self.let_out(effect, out),
                Some(step) => {
                    settled = false;
                    self.step(now, step, &mut Outbox::new(&mut |s| steps.push_back(s)));
                }
                None if settled => break,
                None => {
                    let settle = Step::ResourceManager(ResourceManagerInput::Settle);
                    self.step(now, settle, &mut Outbox::new(&mut |s| steps.push_back(s)));
                    settled = true;
                }
            }
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        if self.over {
            return None;
        }
        let jobs = self.jobs.values().filter_map(JobMaster::deadline);
        let parts = [self.dispatcher.deadline(), self.resource_manager.deadline()];
        jobs.chain(parts.into_iter().flatten()).min()
    }
}

fn of_dispatcher(effect: DispatcherEffect) -> Step {
    match effect {
        DispatcherEffect::StartJob(submission) => Step::StartJob(submission),
        DispatcherEffect::ForgetJob(job) => Step::ForgetJob(job),
        DispatcherEffect::CancelJob { job, reason } => {
            Step::Job(job, JobMasterInput::Cancel { reason })
        }
        DispatcherEffect::EndCluster {
            status,
            diagnostics,
        } => Step::EndCluster {
            status,
            diagnostics,
        },
        DispatcherEffect::Transition(transition) => Step::Out(Effect::Transition(transition)),
    }
}

fn of_resource_manager(effect: ResourceManagerEffect) -> Step {
    Step::Out(match effect {
        ResourceManagerEffect::Send {
            connection,
            message,
        } => Effect::Send {
            connection,
            message: *message,
        },
        ResourceManagerEffect::Disconnect { connection, reason } => {
            Effect::Disconnect { connection, reason }
        }
        ResourceManagerEffect::Resource(effect) => Effect::Resource(effect),
        ResourceManagerEffect::Transition(transition) => Effect::Transition(transition),
        ResourceManagerEffect::ToJob(job, input) => return Step::Job(job, input),
    })
}

fn of_job(job: JobId, effect: JobMasterEffect) -> Step {
    Step::ResourceManager(match effect {
        JobMasterEffect::Demand(demand) => ResourceManagerInput::Demand { job, demand },
        JobMasterEffect::Deployed => ResourceManagerInput::Deployed { job },
        JobMasterEffect::Send { to, message } => ResourceManagerInput::Send { to, message },
        JobMasterEffect::Abandon { resource, reason } => ResourceManagerInput::Abandon {
            job,
            resource,
            reason,
        },
        JobMasterEffect::SlotsFree => ResourceManagerInput::JobOver { job },
        JobMasterEffect::Checkpoint(effect) => {
            return Step::Out(Effect::Checkpoint { job, effect });
        }
        JobMasterEffect::FailJob(cause) => return Step::Job(job, JobMasterInput::Fail(cause)),
        JobMasterEffect::KeepStaging => return Step::Out(Effect::KeepStaging { job }),
        JobMasterEffect::RemoveStaging(directories) => {
            return Step::Out(Effect::RemoveStaging { job, directories });
        }
        JobMasterEffect::Transition(transition) => {
            return Step::Out(Effect::Transition(transition));
        }
        JobMasterEffect::Over {
            status,
            fails_cluster,
            summary,
        } => {
            return Step::Dispatcher(DispatcherInput::JobOver {
                job,
                status,
                fails_cluster,
                summary,
            });
        }
    })
}

#[cfg(test)]
mod tests;
