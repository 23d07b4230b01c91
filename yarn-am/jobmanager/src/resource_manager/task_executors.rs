//! What TaskExecutors say, and how they come and go.

use std::collections::BTreeSet;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{
    TaskExecutorRegistration, TaskExecutorReport, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::ResourceId;
use spindle_common::time::MonoTime;

use crate::execution_graph::HeldSlot;
use crate::job_master::JobMasterInput;
use crate::message::{ConnectionId, ResourceEffect};
use crate::resource_manager::slot_manager::TaskManager;
use crate::resource_manager::{Out, ResourceManager, ResourceManagerEffect, stale, task_manager};

impl ResourceManager {
    pub(super) fn message(
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

    pub(super) fn register(
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

    pub(super) fn refuse(&mut self, connection: ConnectionId, why: &str, out: Out<'_, '_>) {
        self.refused.insert(connection);
        out.push(ResourceManagerEffect::Disconnect {
            connection,
            reason: why.to_owned(),
        });
        out.push(stale(format!("registration: {why}")));
    }

    pub(super) fn report(
        &mut self,
        from: &ResourceId,
        report: TaskExecutorReport,
        out: Out<'_, '_>,
    ) {
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
    pub(super) fn lose(
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
    pub(super) fn give_up(
        &mut self,
        now: MonoTime,
        resource: &ResourceId,
        reason: &str,
        out: Out<'_, '_>,
    ) {
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

    pub(super) fn stop_container(&mut self, resource: &ResourceId, out: Out<'_, '_>) {
        if self.containers.give_up(resource) {
            let resource = resource.clone();
            out.push(ResourceManagerEffect::Resource(ResourceEffect::Stop {
                resource,
            }));
        }
    }

    pub(super) fn disconnected(
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
}
