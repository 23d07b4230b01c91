//! TaskManagers, their slots and the containers they live in. Flink: `ResourceManager`.

mod containers;
mod plan;
mod slot_manager;
mod start_failures;

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{
    TaskExecutorRegistration, TaskExecutorReport, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{JobId, ResourceId};
use spindle_common::time::MonoTime;

use crate::config::JobManagerConfig;
use crate::execution_graph::HeldSlot;
use crate::heartbeat::HeartbeatMonitor;
use crate::job_master::{JobMasterInput, SlotDemand};
use crate::machine::{Machine, Outbox};
use crate::message::{
    ConnectionId, ContainerPlan, ResourceEffect, ResourceEvent, TaskManagerView, Transition,
};
use crate::resource_manager::containers::Containers;
pub(crate) use crate::resource_manager::slot_manager::JobSpec;
use crate::resource_manager::slot_manager::{SlotManager, TaskManager};
use crate::resource_manager::start_failures::StartFailures;

/// What can happen to the ResourceManager.
#[derive(Debug)]
pub(crate) enum ResourceManagerInput {
    JobAdded {
        job: JobId,
        spec: Box<JobSpec>,
    },
    Demand {
        job: JobId,
        demand: SlotDemand,
    },
    /// A job has all its slots and sends its tasks.
    Deployed {
        job: JobId,
    },
    JobOver {
        job: JobId,
    },
    /// A TaskManager does not do as told.
    Abandon {
        resource: ResourceId,
        reason: String,
    },
    Send {
        to: ResourceId,
        message: Box<ToTaskExecutor>,
    },
    TaskExecutor {
        connection: ConnectionId,
        message: Box<ToJobManager>,
    },
    Disconnected {
        connection: ConnectionId,
        reason: String,
    },
    Container(ResourceEvent),
    ShutDown {
        reason: String,
    },
    /// All that happened at this moment is told: match slots, plan containers.
    Settle,
    Tick,
}

/// What the ResourceManager wants done.
#[derive(Debug)]
pub(crate) enum ResourceManagerEffect {
    Send {
        connection: ConnectionId,
        message: Box<ToTaskExecutor>,
    },
    Disconnect {
        connection: ConnectionId,
        reason: String,
    },
    Resource(ResourceEffect),
    ToJob(JobId, JobMasterInput),
    Transition(Transition),
}

type Out<'a, 'b> = &'a mut Outbox<'b, ResourceManagerEffect>;

/// Knows TaskManagers and containers, and gives slots to jobs.
#[derive(Debug)]
pub(crate) struct ResourceManager {
    config: JobManagerConfig,
    slots: SlotManager,
    containers: Containers,
    failures: StartFailures,
    heartbeats: HeartbeatMonitor<ResourceId>,
    /// Streams that were told to end and have not ended yet.
    refused: BTreeSet<ConnectionId>,
    nodes: u32,
    plan: ContainerPlan,
    over: bool,
}

impl ResourceManager {
    pub(crate) fn new(config: JobManagerConfig) -> Self {
        let plan = ContainerPlan {
            profile: config.profile,
            pending: 0,
            avoid: BTreeSet::new(),
        };
        Self {
            slots: SlotManager::default(),
            containers: Containers::default(),
            failures: StartFailures::new(config.max_start_failures, config.node_avoidance),
            heartbeats: HeartbeatMonitor::new(config.heartbeat_timeout),
            refused: BTreeSet::new(),
            nodes: 0,
            plan,
            over: false,
            config,
        }
    }

    pub(crate) const fn containers_pending(&self) -> u32 {
        self.plan.pending
    }

    pub(crate) fn containers_starting(&self) -> u32 {
        self.containers.starting()
    }

    pub(crate) fn task_managers(&self) -> BTreeMap<ResourceId, TaskManagerView> {
        let view = |(resource, manager): (&ResourceId, &TaskManager)| {
            let last = self.heartbeats.last(resource).unwrap_or(manager.since);
            (resource.clone(), manager.view(last))
        };
        self.slots.iter().map(view).collect()
    }

    fn message(
        &mut self,
        now: MonoTime,
        connection: ConnectionId,
        message: ToJobManager,
        out: Out<'_, '_>,
    ) {
        let Some(from) = self.slots.sender(connection).cloned() else {
            if self.refused.contains(&connection) {
                out.push(stale("message on a stream that was told to end".to_owned()));
            } else if let ToJobManager::Register(registration) = message {
                self.register(now, connection, registration, out);
            } else {
                self.refuse(connection, "its first message is no registration", out);
            }
            return;
        };
        self.heartbeats.heard(&from, now);
        match message {
            ToJobManager::Register(_) => out.push(stale(format!("second registration of {from}"))),
            ToJobManager::Heartbeat(report) => self.report(&from, report, out),
            ToJobManager::OfferSlot {
                allocation,
                job,
                data_address,
            } => {
                if self.slots.offer(&from, allocation, job) {
                    let slot = HeldSlot {
                        allocation,
                        resource: from,
                        data_address,
                    };
                    let input = JobMasterInput::SlotOffered(slot);
                    out.push(ResourceManagerEffect::ToJob(job, input));
                } else {
                    out.push(stale(format!("offer of slot {allocation} by {from}")));
                }
            }
            ToJobManager::SlotUnavailable {
                allocation,
                job,
                cause,
            } => {
                if self.slots.take_back(&from, allocation, job) {
                    let input = JobMasterInput::SlotsLost {
                        allocations: BTreeSet::from([allocation]),
                        cause,
                        worker_failed: true,
                    };
                    out.push(ResourceManagerEffect::ToJob(job, input));
                } else {
                    out.push(stale(format!("refusal of slot {allocation} by {from}")));
                }
            }
            ToJobManager::TaskState(update) => {
                let (job, update) = (update.job, Box::new(update));
                let input = JobMasterInput::TaskState { from, update };
                out.push(ResourceManagerEffect::ToJob(job, input));
            }
            ToJobManager::WorkerLost { job, cause } => {
                let leases = self.slots.take_back_all(&from, job);
                if leases.is_empty() {
                    out.push(stale(format!("lost worker of job {job} on {from}")));
                    return;
                }
                // Requests that crossed the news are still to be served there: they are withdrawn.
                for (&allocation, _) in leases.iter().filter(|(_, offered)| !**offered) {
                    out.push(ResourceManagerEffect::Send {
                        connection,
                        message: Box::new(ToTaskExecutor::FreeSlot { allocation }),
                    });
                }
                let allocations = leases.into_keys().collect();
                let input = JobMasterInput::SlotsLost {
                    allocations,
                    cause,
                    worker_failed: true,
                };
                out.push(ResourceManagerEffect::ToJob(job, input));
            }
        }
    }

    fn register(
        &mut self,
        now: MonoTime,
        connection: ConnectionId,
        registration: TaskExecutorRegistration,
        out: Out<'_, '_>,
    ) {
        let resource = registration.resource.clone();
        if self.over {
            self.refuse(connection, "the cluster is ending", out);
        } else if registration.fencing != self.config.fencing {
            let why = format!(
                "{resource} was started by attempt {} of the JobManager, this is attempt {}",
                registration.fencing, self.config.fencing
            );
            self.refuse(connection, &why, out);
        } else if registration.slots == 0 {
            self.refuse(connection, &format!("{resource} has no slots"), out);
        } else if self.slots.get(&resource).is_some() {
            self.refuse(
                connection,
                &format!("{resource} is registered already"),
                out,
            );
        } else if let Some(profile) = self.containers.registered(&resource) {
            self.heartbeats.heard(&resource, now);
            let what = format!(
                "registered with {} slots on {}",
                registration.slots, registration.node
            );
            let manager = TaskManager::new(connection, registration, profile, now);
            self.slots.add(resource.clone(), manager);
            let interval = self.config.heartbeat_interval.as_millis();
            out.push(ResourceManagerEffect::Send {
                connection,
                message: Box::new(ToTaskExecutor::Registered {
                    heartbeat_interval_ms: u64::try_from(interval).unwrap_or(u64::MAX),
                }),
            });
            out.push(task_manager(resource, what));
        } else {
            let why = format!("{resource} is no container that was launched and not given up");
            self.refuse(connection, &why, out);
        }
    }

    fn refuse(&mut self, connection: ConnectionId, why: &str, out: Out<'_, '_>) {
        self.refused.insert(connection);
        out.push(ResourceManagerEffect::Disconnect {
            connection,
            reason: why.to_owned(),
        });
        out.push(stale(format!("registration: {why}")));
    }

    fn report(&mut self, from: &ResourceId, report: TaskExecutorReport, out: Out<'_, '_>) {
        if let Some(manager) = self.slots.get_mut(from) {
            manager.resident_bytes = report.resident_bytes;
            manager.worker_resident_bytes = report.workers.iter().map(|w| w.resident_bytes).sum();
        }
        for task in report.tasks {
            let input = JobMasterInput::TaskMetrics {
                execution: task.execution,
                metrics: task.metrics,
            };
            out.push(ResourceManagerEffect::ToJob(task.job, input));
        }
    }

    /// Ends all dealings with a TaskManager; its container is not touched.
    fn lose(
        &mut self,
        now: MonoTime,
        resource: &ResourceId,
        reason: &str,
        platform: bool,
        out: Out<'_, '_>,
    ) {
        self.heartbeats.forget(resource);
        let Some(gone) = self.slots.remove(resource) else {
            return;
        };
        let node = &gone.registration.node;
        out.push(task_manager(resource.clone(), format!("lost: {reason}")));
        if !gone.served && !platform {
            let reason = format!("TaskManager {resource} on {node} was lost: {reason}");
            self.failures.failed(now, node, reason);
        }
        for (job, allocations) in gone.allocations() {
            let cause = FailureCause {
                class: FailureClass::Restart,
                operator: None,
                message: format!("TaskManager {resource} on {node} was lost: {reason}"),
            };
            let input = JobMasterInput::SlotsLost {
                allocations,
                cause,
                worker_failed: false,
            };
            out.push(ResourceManagerEffect::ToJob(job, input));
        }
    }

    /// Ends a TaskManager that may still be there.
    fn give_up(&mut self, now: MonoTime, resource: &ResourceId, reason: &str, out: Out<'_, '_>) {
        if let Some(manager) = self.slots.get(resource) {
            let connection = manager.connection;
            self.refused.insert(connection);
            out.push(ResourceManagerEffect::Disconnect {
                connection,
                reason: reason.to_owned(),
            });
        }
        self.lose(now, resource, reason, false, out);
        self.stop_container(resource, out);
    }

    fn stop_container(&mut self, resource: &ResourceId, out: Out<'_, '_>) {
        if self.containers.remove(resource).is_some() {
            let resource = resource.clone();
            out.push(ResourceManagerEffect::Resource(ResourceEffect::Stop {
                resource,
            }));
        }
    }

    fn disconnected(
        &mut self,
        now: MonoTime,
        connection: ConnectionId,
        reason: &str,
        out: Out<'_, '_>,
    ) {
        self.refused.remove(&connection);
        if let Some(resource) = self.slots.sender(connection).cloned() {
            self.lose(now, &resource, reason, false, out);
            self.stop_container(&resource, out);
        }
    }

    fn shut_down(&mut self, reason: &str, out: Out<'_, '_>) {
        self.over = true;
        for job in self.slots.jobs().collect::<Vec<_>>() {
            self.free_slots(job, out);
        }
        for (_, manager) in self.slots.iter() {
            out.push(ResourceManagerEffect::Send {
                connection: manager.connection,
                message: Box::new(ToTaskExecutor::ShutDown {
                    reason: reason.to_owned(),
                }),
            });
        }
        for resource in self.containers.take_starting() {
            out.push(ResourceManagerEffect::Resource(ResourceEffect::Stop {
                resource,
            }));
        }
        if self.plan.pending > 0 {
            self.plan.pending = 0;
            let plan = ResourceEffect::Plan(self.plan.clone());
            out.push(ResourceManagerEffect::Resource(plan));
        }
    }

    fn free_slots(&mut self, job: JobId, out: Out<'_, '_>) {
        for (connection, allocation) in self.slots.remove_job(job) {
            out.push(ResourceManagerEffect::Send {
                connection,
                message: Box::new(ToTaskExecutor::FreeSlot { allocation }),
            });
        }
    }

    fn settle(&mut self, now: MonoTime, out: Out<'_, '_>) {
        if self.over {
            return;
        }
        for (connection, request) in self.slots.match_slots() {
            let message = Box::new(ToTaskExecutor::RequestSlot(request));
            out.push(ResourceManagerEffect::Send {
                connection,
                message,
            });
        }
        let missing = self.slots.missing();
        if let Some((count, reason)) = self.failures.take_exhausted()
            && !missing.is_empty()
        {
            let cause = FailureCause {
                class: FailureClass::FailJob,
                operator: None,
                message: match count {
                    1 => format!("a TaskManager did not start: {reason}"),
                    _ => format!("{count} TaskManagers in a row did not start, the last: {reason}"),
                },
            };
            for &job in missing.keys() {
                let input = JobMasterInput::Fail(cause.clone());
                out.push(ResourceManagerEffect::ToJob(job, input));
            }
            // Those jobs want nothing any more: what is to be planned is known when they have heard of it.
            return;
        }
        self.failures.forget_old(now);
        let supply = plan::Supply {
            starting: self.containers.starting(),
            troubled: self.failures.troubled(),
            nodes: self.nodes,
        };
        let plan = plan::plan(self.demand(), &supply, self.limits());
        if plan != self.plan {
            self.plan = plan.clone();
            out.push(ResourceManagerEffect::Resource(ResourceEffect::Plan(plan)));
        }
    }

    fn demand(&self) -> plan::Demand {
        plan::Demand {
            missing_slots: self.slots.missing().values().sum(),
        }
    }

    const fn limits(&self) -> plan::Limits {
        plan::Limits {
            profile: self.config.profile,
            slots_per_task_manager: self.config.slots_per_task_manager,
        }
    }

    fn tick(&mut self, now: MonoTime, out: Out<'_, '_>) {
        for resource in self.heartbeats.silent(now) {
            let seconds = self.config.heartbeat_timeout.as_secs();
            let reason = format!("it was not heard of for {seconds} s");
            self.give_up(now, &resource, &reason, out);
        }
        for resource in self.containers.overdue(now) {
            let seconds = self.config.registration_timeout.as_secs();
            let reason = format!("its TaskManager did not register within {seconds} s");
            self.start_failed(now, &resource, &reason, out);
            let stop = ResourceEffect::Stop { resource };
            out.push(ResourceManagerEffect::Resource(stop));
        }
    }
}

fn stale(what: String) -> ResourceManagerEffect {
    ResourceManagerEffect::Transition(Transition::Stale { what })
}

const fn task_manager(resource: ResourceId, what: String) -> ResourceManagerEffect {
    ResourceManagerEffect::Transition(Transition::TaskManager { resource, what })
}

impl Machine for ResourceManager {
    type Input = ResourceManagerInput;
    type Effect = ResourceManagerEffect;

    fn handle(&mut self, now: MonoTime, input: ResourceManagerInput, out: Out<'_, '_>) {
        match input {
            ResourceManagerInput::JobAdded { job, spec } => self.slots.add_job(job, *spec),
            ResourceManagerInput::Demand { job, demand } => self.slots.set_demand(job, demand),
            ResourceManagerInput::Deployed { job } => {
                self.slots.mark_served(job);
                self.failures.succeeded();
            }
            ResourceManagerInput::JobOver { job } => self.free_slots(job, out),
            ResourceManagerInput::Abandon { resource, reason } => {
                self.give_up(now, &resource, &reason, out);
            }
            ResourceManagerInput::Send { to, message } => {
                if let Some(manager) = self.slots.get(&to) {
                    out.push(ResourceManagerEffect::Send {
                        connection: manager.connection,
                        message,
                    });
                }
            }
            ResourceManagerInput::TaskExecutor {
                connection,
                message,
            } => self.message(now, connection, *message, out),
            ResourceManagerInput::Disconnected { connection, reason } => {
                self.disconnected(now, connection, &reason, out);
            }
            ResourceManagerInput::Container(event) => self.container(now, event, out),
            ResourceManagerInput::ShutDown { reason } => self.shut_down(&reason, out),
            ResourceManagerInput::Settle => self.settle(now, out),
            ResourceManagerInput::Tick => self.tick(now, out),
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        [
            self.heartbeats.deadline(),
            self.containers.deadline(),
            self.failures.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
