//! The granted containers, and what the resource provider tells of them.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::{JobId, NodeName, ResourceId};
use spindle_common::resource::ResourceProfile;
use spindle_common::time::MonoTime;

use crate::job_master::JobMasterInput;
use crate::machine::Outbox;
use crate::message::{Container, ResourceEffect, ResourceEvent};
use crate::resource_manager::{ResourceManager, ResourceManagerEffect, plan, stale, task_manager};

/// A container in which a TaskExecutor was launched that has not registered yet.
#[derive(Debug)]
struct Starting {
    node: NodeName,
    profile: ResourceProfile,
    register_until: MonoTime,
}

/// The granted containers that were launched.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    starting: BTreeMap<ResourceId, Starting>,
    registered: BTreeSet<ResourceId>,
    /// Those told to stop of which it is not known yet how they ended.
    given_up: BTreeSet<ResourceId>,
}

impl Containers {
    fn knows(&self, resource: &ResourceId) -> bool {
        self.starting.contains_key(resource)
            || self.registered.contains(resource)
            || self.given_up.contains(resource)
    }

    /// Notes that the TaskManager in a container registered; answers its size, or nothing if it was not expected.
    pub(crate) fn registered(&mut self, resource: &ResourceId) -> Option<ResourceProfile> {
        let starting = self.starting.remove(resource)?;
        self.registered.insert(resource.clone());
        Some(starting.profile)
    }

    /// Notes that a container is told to stop; answers whether there was something to stop.
    pub(crate) fn give_up(&mut self, resource: &ResourceId) -> bool {
        let known = self.starting.remove(resource).is_some() || self.registered.remove(resource);
        self.given_up.insert(resource.clone());
        known
    }

    pub(crate) fn starting(&self) -> u32 {
        self.starting.len() as u32
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
        self.starting.values().map(|s| s.register_until).min()
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
            ResourceEvent::Refused { reason } => self.provider_refused(reason, out),
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
        let wanted = plan::wanted(self.demand(), self.limits());
        let effect = if self.over || self.containers.starting() >= wanted {
            ResourceEffect::Release { resource }
        } else {
            let register_until = now + self.config.registration_timeout;
            let starting = Starting {
                node: container.node,
                profile: container.profile,
                register_until,
            };
            self.containers.starting.insert(resource.clone(), starting);
            ResourceEffect::Launch { resource }
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
        let reason = format!("{resource} on {}: {reason}", granted.node);
        out.push(task_manager(
            resource.clone(),
            format!("did not start: {reason}"),
        ));
        self.failures.failed(now, &granted.node, reason);
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
            self.lose(now, resource, reason, platform, out);
        } else if self.containers.given_up.remove(resource) {
            out.push(task_manager(resource.clone(), format!("ended: {reason}")));
        } else if platform {
            if let Some(granted) = self.containers.starting.remove(resource) {
                let what = format!("lost before it started, on {}: {reason}", granted.node);
                out.push(task_manager(resource.clone(), what));
            }
        } else {
            // One that was released comes here too, and is not known any more.
            self.start_failed(now, resource, reason, out);
        }
    }

    fn provider_refused(&self, reason: String, out: &mut Outbox<'_, ResourceManagerEffect>) {
        let waiting: Vec<JobId> = self.slots.missing().into_keys().collect();
        let jobs = if waiting.is_empty() {
            self.slots.jobs().collect()
        } else {
            waiting
        };
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
