//! The granted containers, and what the resource provider tells of them.

use std::collections::BTreeMap;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::{JobId, NodeName, ResourceId};
use spindle_common::resource::ResourceProfile;
use spindle_common::time::MonoTime;

use crate::job_master::JobMasterInput;
use crate::machine::Outbox;
use crate::message::{Container, ResourceEffect, ResourceEvent};
use crate::resource_manager::{ResourceManager, ResourceManagerEffect, plan, stale, task_manager};

/// A granted container that was launched and is not over or given up.
#[derive(Debug)]
pub(crate) struct Granted {
    node: NodeName,
    profile: ResourceProfile,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Starting { register_until: MonoTime },
    Registered,
}

/// The containers.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    granted: BTreeMap<ResourceId, Granted>,
}

impl Containers {
    fn launched(&mut self, container: Container, register_until: MonoTime) {
        let granted = Granted {
            node: container.node,
            profile: container.profile,
            state: State::Starting { register_until },
        };
        self.granted.insert(container.resource, granted);
    }

    /// Notes that the TaskManager in a container registered; answers its size, or nothing if it was not expected.
    pub(crate) fn registered(&mut self, resource: &ResourceId) -> Option<ResourceProfile> {
        let granted = self.granted.get_mut(resource)?;
        match granted.state {
            State::Starting { .. } => {
                granted.state = State::Registered;
                Some(granted.profile)
            }
            State::Registered => None,
        }
    }

    pub(crate) fn remove(&mut self, resource: &ResourceId) -> Option<Granted> {
        self.granted.remove(resource)
    }

    fn starting_until(&self) -> impl Iterator<Item = (&ResourceId, MonoTime)> {
        self.granted
            .iter()
            .filter_map(|(resource, granted)| match granted.state {
                State::Starting { register_until } => Some((resource, register_until)),
                State::Registered => None,
            })
    }

    pub(crate) fn starting(&self) -> u32 {
        self.starting_until().count() as u32
    }

    pub(crate) fn take_starting(&mut self) -> Vec<ResourceId> {
        let starting: Vec<_> = self.starting_until().map(|(r, _)| r.clone()).collect();
        for resource in &starting {
            self.granted.remove(resource);
        }
        starting
    }

    pub(crate) fn overdue(&self, now: MonoTime) -> Vec<ResourceId> {
        self.starting_until()
            .filter(|(_, until)| *until <= now)
            .map(|(resource, _)| resource.clone())
            .collect()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.starting_until().map(|(_, until)| until).min()
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
        if self.containers.granted.contains_key(&resource) {
            out.push(stale(format!("second grant of {resource}")));
            return;
        }
        let wanted = plan::wanted(self.demand(), self.limits());
        let effect = if self.over || self.containers.starting() >= wanted {
            ResourceEffect::Release { resource }
        } else {
            let register_until = now + self.config.registration_timeout;
            self.containers.launched(container, register_until);
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
        if !self.containers.starting_until().any(|(r, _)| r == resource) {
            return false;
        }
        let Some(granted) = self.containers.remove(resource) else {
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
            self.containers.remove(resource);
            self.lose(now, resource, reason, platform, out);
        } else if platform {
            if let Some(granted) = self.containers.remove(resource) {
                let what = format!("lost before it started, on {}: {reason}", granted.node);
                out.push(task_manager(resource.clone(), what));
            }
        } else {
            // One that was stopped or released comes here too, and is not known any more.
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
