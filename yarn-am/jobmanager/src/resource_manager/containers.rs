//! The granted containers, and what the resource provider tells of them.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::{JobId, NodeName, ResourceId};
use spindle_common::resource::ResourceProfile;
use spindle_common::time::MonoTime;

use crate::config::ClusterMode;
use crate::job_master::JobMasterInput;
use crate::machine::Outbox;
use crate::message::{Container, ResourceEffect, ResourceEvent};
use crate::resource_manager::capacity::{ContainerCounts, Sizes, SlotCounts};
use crate::resource_manager::plan::Limits;
use crate::resource_manager::task_executors::Loss;
use crate::resource_manager::{ResourceManager, ResourceManagerEffect, plan, stale, task_manager};

/// A container in which a TaskExecutor was launched that has not registered yet.
#[derive(Debug)]
struct Starting {
    container: Container,
    register_until: MonoTime,
}

/// The granted containers that were launched.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    starting: BTreeMap<ResourceId, Starting>,
    registered: BTreeSet<ResourceId>,
    /// Those told to stop, or about to be, of which it is not known yet how they ended.
    given_up: BTreeSet<ResourceId>,
    /// Those of them whose TaskManager's stream broke: by themselves they may tell better than the stream why.
    breaking: BTreeMap<ResourceId, Breaking>,
}

/// A container that is stopped only after it had the time to end by itself.
#[derive(Debug)]
pub(crate) struct Breaking {
    pub(crate) node: NodeName,
    pub(crate) stop_at: MonoTime,
    /// Jobs that had slots in it, and as what they know of its loss.
    pub(crate) jobs: Vec<JobId>,
    pub(crate) known_as: String,
    /// Whether no task ever came to it, so that it counts as not started.
    pub(crate) unserved: bool,
}

impl Containers {
    fn knows(&self, resource: &ResourceId) -> bool {
        self.starting.contains_key(resource)
            || self.registered.contains(resource)
            || self.given_up.contains(resource)
    }

    /// Notes that the TaskManager in a container registered; answers what was granted, or nothing if it was not expected.
    pub(crate) fn registered(&mut self, resource: &ResourceId) -> Option<Container> {
        let starting = self.starting.remove(resource)?;
        self.registered.insert(resource.clone());
        Some(starting.container)
    }

    /// Notes that a container is told to stop; answers whether there was something to stop.
    pub(crate) fn give_up(&mut self, resource: &ResourceId) -> bool {
        let known = self.starting.remove(resource).is_some() || self.registered.remove(resource);
        self.given_up.insert(resource.clone());
        known
    }

    /// Notes that the TaskManager in a container is gone by itself.
    pub(crate) fn breaks(&mut self, resource: &ResourceId, breaking: Breaking) {
        if self.give_up(resource) {
            self.breaking.insert(resource.clone(), breaking);
        }
    }

    /// Those that had the time to end by themselves and did not; without a time, all.
    pub(crate) fn take_broken(&mut self, now: Option<MonoTime>) -> BTreeMap<ResourceId, Breaking> {
        let due = |breaking: &Breaking| now.is_none_or(|now| breaking.stop_at <= now);
        let all = std::mem::take(&mut self.breaking).into_iter();
        let (broken, rest) = all.partition(|(_, breaking)| due(breaking));
        self.breaking = rest;
        broken
    }

    pub(crate) fn starting(&self) -> u32 {
        self.starting.len() as u32
    }

    pub(crate) fn starting_by_size(&self) -> ContainerCounts {
        let mut counts = ContainerCounts::new();
        for starting in self.starting.values() {
            *counts.entry(starting.container.asked).or_default() += 1;
        }
        counts
    }

    pub(crate) fn take_starting(&mut self) -> impl Iterator<Item = ResourceId> {
        std::mem::take(&mut self.starting).into_keys()
    }

    pub(crate) fn overdue(&self, now: MonoTime) -> Vec<ResourceId> {
        self.starting
            .iter()
            .filter(|(_, starting)| starting.register_until <= now)
            .map(|(resource, _)| resource.clone())
            .collect()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let starting = self.starting.values().map(|s| s.register_until);
        let breaking = self.breaking.values().map(|b| b.stop_at);
        starting.chain(breaking).min()
    }
}

impl ResourceManager {
    pub(super) fn container(
        &mut self,
        now: MonoTime,
        event: ResourceEvent,
        out: &mut Outbox<'_, ResourceManagerEffect>,
    ) {
        match event {
            ResourceEvent::Allocated(containers) => {
                for container in containers {
                    self.allocated(now, container, out);
                }
            }
            ResourceEvent::LaunchFailed { resource, reason } => {
                let reason = format!("its container could not be started: {reason}");
                if !self.start_failed(now, &resource, &reason, out) {
                    out.push(stale(format!("failed launch of {resource}")));
                }
            }
            ResourceEvent::Completed {
                resource,
                reason,
                platform,
            } => self.completed(now, &resource, &reason, platform, out),
            ResourceEvent::Refused { profile, reason } => {
                self.provider_refused(profile, reason, out);
            }
            ResourceEvent::Nodes { count } => self.nodes = count,
        }
    }

    fn allocated(
        &mut self,
        now: MonoTime,
        container: Container,
        out: &mut Outbox<'_, ResourceManagerEffect>,
    ) {
        let resource = container.resource.clone();
        if self.containers.knows(&resource) {
            out.push(stale(format!("second grant of {resource}")));
            return;
        }
        let (demands, limits) = (self.demands(), Limits::of(&self.config));
        let needed = plan::needed(&demands, &self.supply(&demands), &limits);
        let effect = if self.over || !needed.contains_key(&container.asked) {
            ResourceEffect::Release { resource }
        } else {
            let slots = limits.sizes.slots_in(container.asked);
            let starting = Starting {
                container,
                register_until: now + self.config.registration_timeout,
            };
            self.containers.starting.insert(resource.clone(), starting);
            ResourceEffect::Launch { resource, slots }
        };
        out.push(ResourceManagerEffect::Resource(effect));
    }

    /// A container in which no TaskManager came up is given up; answers whether there is such a one.
    pub(super) fn start_failed(
        &mut self,
        now: MonoTime,
        resource: &ResourceId,
        reason: &str,
        out: &mut Outbox<'_, ResourceManagerEffect>,
    ) -> bool {
        let Some(granted) = self.containers.starting.remove(resource) else {
            return false;
        };
        let node = &granted.container.node;
        let reason = format!("{resource} on {node}: {reason}");
        out.push(task_manager(
            resource.clone(),
            format!("did not start: {reason}"),
        ));
        self.failures.failed(now, node, reason);
        true
    }

    fn completed(
        &mut self,
        now: MonoTime,
        resource: &ResourceId,
        reason: &str,
        platform: bool,
        out: &mut Outbox<'_, ResourceManagerEffect>,
    ) {
        let connection = self.slots.get(resource).map(|manager| manager.connection);
        if let Some(connection) = connection {
            // Its stream may be open still, or half of it: nothing is to come from it any more.
            self.refused.insert(connection);
            out.push(ResourceManagerEffect::Disconnect {
                connection,
                reason: format!("its container is over: {reason}"),
            });
            self.containers.registered.remove(resource);
            let loss = if platform {
                Loss::OfPlatform
            } else {
                Loss::Explained
            };
            self.lose(now, resource, reason, loss, out);
        } else if self.containers.given_up.remove(resource) {
            if let Some(breaking) = self.containers.breaking.remove(resource) {
                let cause = loss(resource, &breaking.node, reason);
                if breaking.unserved && !platform {
                    let message = cause.message.clone();
                    self.failures.failed(now, &breaking.node, message);
                }
                for job in breaking.jobs {
                    let input = JobMasterInput::CauseNamed {
                        known_as: breaking.known_as.clone(),
                        cause: cause.clone(),
                    };
                    out.push(ResourceManagerEffect::ToJob(job, input));
                }
            }
            out.push(task_manager(resource.clone(), format!("ended: {reason}")));
        } else if platform {
            if let Some(granted) = self.containers.starting.remove(resource) {
                let node = granted.container.node;
                let what = format!("lost before it started, on {node}: {reason}");
                out.push(task_manager(resource.clone(), what));
            }
        } else {
            // One that was released comes here too, and is not known any more.
            self.start_failed(now, resource, reason, out);
        }
    }

    fn provider_refused(
        &self,
        profile: Option<ResourceProfile>,
        reason: String,
        out: &mut Outbox<'_, ResourceManagerEffect>,
    ) {
        let sizes = Sizes::of(&self.config);
        let needs_it = |slots: &SlotCounts| {
            let mut sizes = slots.keys().map(|slot| sizes.container_for(*slot));
            profile.is_none_or(|profile| sizes.any(|size| size == profile))
        };
        let waiting = self.slots.missing().into_iter();
        let waiting = waiting.filter(|(_, slots)| needs_it(slots));
        let mut jobs: Vec<JobId> = waiting.map(|(job, _)| job).collect();
        match self.config.mode {
            ClusterMode::PerJob { .. } if jobs.is_empty() => jobs.extend(self.slots.jobs()),
            // Jobs that have all their slots do without.
            ClusterMode::PerJob { .. } | ClusterMode::Session | ClusterMode::Application { .. } => {
            }
        }
        for job in jobs {
            let cause = FailureCause {
                class: FailureClass::FailJob,
                operator: None,
                message: reason.clone(),
            };
            let input = JobMasterInput::Fail(cause);
            out.push(ResourceManagerEffect::ToJob(job, input));
        }
    }
}

/// What is to be said of the loss of a TaskManager.
pub(super) fn loss(resource: &ResourceId, node: &NodeName, reason: &str) -> FailureCause {
    FailureCause {
        class: FailureClass::Restart,
        operator: None,
        message: format!("TaskManager {resource} on {node} was lost: {reason}"),
    }
}
