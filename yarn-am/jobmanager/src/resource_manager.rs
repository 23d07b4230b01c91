//! TaskManagers, their slots and the containers they live in. Flink: `ResourceManager`.

mod capacity;
mod containers;
mod plan;
mod slot_manager;
mod start_failures;
mod task_executors;

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{ToJobManager, ToTaskExecutor};
use spindle_common::id::{JobId, ResourceId};
use spindle_common::time::MonoTime;

use crate::config::JobManagerConfig;
use crate::heartbeat::HeartbeatMonitor;
use crate::job_master::{JobMasterInput, SlotDemand};
use crate::machine::{Machine, Outbox};
use crate::message::{
    ConnectionId, ContainerPlan, ResourceEffect, ResourceEvent, TaskManagerView, Transition,
};
#[cfg(test)]
pub(crate) use crate::resource_manager::capacity::ContainerCounts;
pub(crate) use crate::resource_manager::capacity::{Sizes, SlotCounts, total};
use crate::resource_manager::containers::Containers;
use crate::resource_manager::plan::Ceiling;
pub(crate) use crate::resource_manager::plan::Limits;
pub(crate) use crate::resource_manager::slot_manager::JobSpec;
use crate::resource_manager::slot_manager::{SlotManager, Standing, TaskManager};
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
        job: JobId,
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

impl ResourceManagerInput {
    /// Whether it may change who gets which slot, or how many containers are wanted: not what comes a thousand times a second.
    fn unsettles(&self) -> bool {
        match self {
            Self::TaskExecutor { message, .. } => match **message {
                ToJobManager::Heartbeat(_)
                | ToJobManager::TaskState(_)
                | ToJobManager::TaskCheckpoint(_)
                | ToJobManager::Inquired { .. } => false,
                ToJobManager::Register(_)
                | ToJobManager::OfferSlot { .. }
                | ToJobManager::SlotUnavailable { .. }
                | ToJobManager::WorkerLost { .. } => true,
            },
            Self::Send { .. } | Self::Settle => false,
            Self::JobAdded { .. }
            | Self::Demand { .. }
            | Self::Deployed { .. }
            | Self::JobOver { .. }
            | Self::Abandon { .. }
            | Self::Disconnected { .. }
            | Self::Container(_)
            | Self::ShutDown { .. }
            | Self::Tick => true,
        }
    }
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
    /// How many containers there may be, if that is limited.
    ceiling: Option<Ceiling>,
    plan: ContainerPlan,
    /// Whether anything happened that may change who gets which slot, or how many containers are wanted.
    unsettled: bool,
    over: bool,
}

impl ResourceManager {
    pub(crate) fn new(config: JobManagerConfig) -> Self {
        let plan = ContainerPlan {
            asks: Vec::new(),
            avoid: BTreeSet::new(),
            most_per_node: None,
        };
        Self {
            slots: SlotManager::new(&config),
            containers: Containers::default(),
            failures: StartFailures::new(&config),
            heartbeats: HeartbeatMonitor::new(config.heartbeat_timeout),
            refused: BTreeSet::new(),
            nodes: 0,
            ceiling: Ceiling::of(&config),
            plan,
            unsettled: false,
            over: false,
            config,
        }
    }

    pub(crate) fn containers_pending(&self) -> u32 {
        self.plan.pending()
    }

    pub(crate) fn containers_starting(&self) -> u32 {
        self.containers.starting()
    }

    pub(crate) fn task_managers(&self) -> BTreeMap<ResourceId, TaskManagerView> {
        let view = |(resource, manager): (&ResourceId, &TaskManager)| {
            let last = self.heartbeats.last(resource).unwrap_or(manager.since);
            (
                resource.clone(),
                manager.view(Sizes::of(&self.config), last),
            )
        };
        self.slots.iter().map(view).collect()
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
        let broken = self.containers.take_broken(None).into_keys();
        for resource in self.containers.take_starting().chain(broken) {
            out.push(ResourceManagerEffect::Resource(ResourceEffect::Stop {
                resource,
            }));
        }
        if !self.plan.asks.is_empty() {
            self.plan.asks.clear();
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
        if self.over || !std::mem::take(&mut self.unsettled) {
            return;
        }
        self.slots.admit();
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
            for (job, _) in missing {
                let input = JobMasterInput::Fail(cause.clone());
                out.push(ResourceManagerEffect::ToJob(job, input));
            }
            // Those jobs want nothing any more: what is to be planned is known when they have heard of it.
            self.unsettled = true;
            return;
        }
        if self.config.releases_idle() {
            let spare = self.config.redundant_task_managers;
            for resource in self.slots.idle(now, self.config.idle_timeout, spare) {
                self.release(&resource, out);
            }
        }
        self.failures.forget_old(now);
        let demands = self.demands();
        let supply = self.supply(&demands);
        let limits = Limits::of(&self.config);
        let mut plan = plan::plan(&demands, &supply, &limits, self.config.spread);
        if self.failures.paused().is_some() {
            plan.asks.clear();
        }
        if plan != self.plan {
            self.plan = plan.clone();
            out.push(ResourceManagerEffect::Resource(ResourceEffect::Plan(plan)));
        }
    }

    /// Slots that there may be, if that is limited.
    fn capacity(&self) -> Option<u32> {
        let ceiling = self.ceiling.as_ref()?;
        let slots = self.config.slots_per_task_manager;
        Some(ceiling.containers.saturating_mul(slots))
    }

    fn wants(&mut self, job: JobId, demand: SlotDemand, out: Out<'_, '_>) {
        let beyond = match &demand {
            SlotDemand::Total(slots) => self.beyond_limits(slots),
            SlotDemand::Hold => None,
        };
        self.slots.set_demand(job, demand);
        if let Some(message) = beyond {
            let cause = FailureCause {
                class: FailureClass::FailJob,
                operator: None,
                message,
            };
            out.push(ResourceManagerEffect::ToJob(
                job,
                JobMasterInput::Fail(cause),
            ));
        }
    }

    /// Why there can never be so many slots, if so.
    fn beyond_limits(&self, slots: &SlotCounts) -> Option<String> {
        let broken = Limits::of(&self.config).forbid(slots)?;
        let needs = format!("the job needs {}", count(total(slots), "slot"));
        let usual = slots.keys().all(Option::is_none);
        Some(match (self.capacity(), &self.ceiling) {
            (Some(capacity), Some(ceiling)) if usual => {
                format!(
                    "{needs}, and `{}` lets the cluster have {capacity}",
                    ceiling.limit
                )
            }
            _ => format!("{needs}, of sizes that `{broken}` leaves no room for"),
        })
    }

    /// What a job that wants slots waits for, in words.
    pub(crate) fn waiting_for(&self, job: JobId) -> Option<String> {
        Some(match self.slots.standing(job)? {
            Standing::Asked => "its workers to start".to_owned(),
            Standing::Queued { slots, taken } => {
                let limit = self.ceiling.as_ref().map_or("", |c| c.limit.as_str());
                let capacity = self.capacity().unwrap_or(u32::MAX);
                format!(
                    "{}: jobs before it have or want {taken}, and `{limit}` lets the cluster have {capacity}",
                    count(slots, "slot")
                )
            }
            Standing::Lacks { missing, slots } => {
                let what = format!("{missing} of {}", count(slots, "slot"));
                let (pending, starting) = (self.plan.pending(), self.containers.starting());
                match (pending, starting, self.failures.paused()) {
                    (0, 0, Some(reason)) => {
                        format!(
                            "{what}: too many TaskManagers did not start, the next is asked for in a moment; the last: {reason}"
                        )
                    }
                    (0, 0, None) => what,
                    (0, _, _) => format!("{what}: {} starting", count_are(starting, "TaskManager")),
                    (_, 0, _) => {
                        let asked = count_are(pending, "container");
                        format!("{what}: {asked} asked of the resource provider")
                    }
                    (_, _, _) => format!(
                        "{what}: {} asked of the resource provider, {} starting",
                        count_are(pending, "container"),
                        count_are(starting, "TaskManager")
                    ),
                }
            }
        })
    }

    /// What each job lacks, in the order of submission, and last what is to be free beside them. Flink:
    /// `FineGrainedSlotManager.checkTaskManagerTimeoutsAndRedundancy`.
    fn demands(&self) -> Vec<SlotCounts> {
        let missing = self.slots.missing().into_iter();
        let redundant = match self.slots.jobs().next() {
            Some(_) => self.config.redundant_task_managers,
            None => 0,
        };
        let free = redundant.saturating_mul(self.config.slots_per_task_manager);
        let free = (free > 0).then(|| SlotCounts::from([(None, free)]));
        missing.map(|(_, slots)| slots).chain(free).collect()
    }

    fn supply(&self, demands: &[SlotCounts]) -> plan::Supply {
        plan::Supply {
            rooms: self.slots.rooms_for(demands),
            starting: self.containers.starting_by_size(),
            registered: self.slots.registered(),
            troubled: self.failures.troubled(),
            nodes: self.nodes,
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
            self.containers.give_up(&resource);
            let stop = ResourceEffect::Stop { resource };
            out.push(ResourceManagerEffect::Resource(stop));
        }
        for (resource, broken) in self.containers.take_broken(Some(now)) {
            if broken.unserved {
                self.failures.failed(now, &broken.node, broken.known_as);
            }
            let stop = ResourceEffect::Stop { resource };
            out.push(ResourceManagerEffect::Resource(stop));
        }
    }
}

/// `1 slot`, `2 slots`.
fn count(number: u32, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `1 container is`, `2 containers are`.
fn count_are(number: u32, what: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, what))
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
        self.unsettled |= input.unsettles();
        match input {
            ResourceManagerInput::JobAdded { job, spec } => self.slots.add_job(job, *spec),
            ResourceManagerInput::Demand { job, demand } => self.wants(job, demand, out),
            ResourceManagerInput::Deployed { job } => {
                self.slots.mark_served(job);
                self.failures.succeeded();
            }
            ResourceManagerInput::JobOver { job } => self.free_slots(job, out),
            ResourceManagerInput::Abandon {
                job,
                resource,
                reason,
            } => self.abandon(now, job, &resource, &reason, out),
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
        let idle = self.slots.idle_since();
        [
            self.heartbeats.deadline(),
            self.containers.deadline(),
            self.failures.deadline(),
            idle.map(|since| since + self.config.idle_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
