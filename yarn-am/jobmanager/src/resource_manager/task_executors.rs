//! What TaskExecutors say, and how they come and go.

use std::collections::BTreeSet;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{
    TaskExecutorRegistration, TaskExecutorReport, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{JobId, ResourceId};
use spindle_common::time::MonoTime;

use crate::execution_graph::HeldSlot;
use crate::job_master::JobMasterInput;
use crate::message::{ConnectionId, ResourceEffect};
use crate::resource_manager::capacity::Sizes;
use crate::resource_manager::containers::{self, Breaking};
use crate::resource_manager::slot_manager::TaskManager;
use crate::resource_manager::{Out, ResourceManager, ResourceManagerEffect, stale, task_manager};

/// What is known when a TaskManager is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is the platform's fault.
    OfPlatform,
    /// The reason is what it is.
    Explained,
    /// Its stream broke; the resource provider may tell the reason yet.
    Unexplained,
}

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
                if let Some(profile) = self.slots.offer(&from, allocation, job) {
                    let slot = HeldSlot {
                        allocation,
                        profile,
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
                        naming: None,
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
            ToJobManager::TaskCheckpoint(done) => {
                let (job, done) = (done.job, Box::new(done));
                let input = JobMasterInput::TaskCheckpoint { from, done };
                out.push(ResourceManagerEffect::ToJob(job, input));
            }
            ToJobManager::Inquired { inquiry, .. } => {
                out.push(stale(format!("answer {inquiry} of {from}")));
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
                    naming: None,
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
        } else if let Some(container) = self.containers.registered(&resource) {
            self.heartbeats.heard(&resource, now);
            let what = format!(
                "registered with {} slots on {}",
                registration.slots, registration.node
            );
            let sizes = Sizes::of(&self.config);
            let manager = TaskManager::new(connection, registration, &container, sizes, now);
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
    ///
    /// Answers the jobs that had slots there.
    pub(super) fn lose(
        &mut self,
        now: MonoTime,
        resource: &ResourceId,
        reason: &str,
        loss: Loss,
        out: Out<'_, '_>,
    ) -> Vec<JobId> {
        self.heartbeats.forget(resource);
        let Some(gone) = self.slots.remove(resource) else {
            return Vec::new();
        };
        let node = &gone.registration.node;
        out.push(task_manager(resource.clone(), format!("lost: {reason}")));
        let cause = containers::loss(resource, node, reason);
        if !gone.served && loss == Loss::Explained {
            self.failures.failed(now, node, cause.message.clone());
        }
        let allocations = gone.allocations();
        let jobs = allocations.keys().copied().collect();
        for (job, allocations) in allocations {
            let input = JobMasterInput::SlotsLost {
                allocations,
                cause: cause.clone(),
                worker_failed: false,
                naming: (loss == Loss::Unexplained).then(|| now + self.config.loss_naming),
            };
            out.push(ResourceManagerEffect::ToJob(job, input));
        }
        jobs
    }

    /// Ends what a job has on a TaskManager that does not do as told; if nobody else uses it, with the TaskManager.
    pub(super) fn abandon(
        &mut self,
        now: MonoTime,
        job: JobId,
        resource: &ResourceId,
        reason: &str,
        out: Out<'_, '_>,
    ) {
        let Some(manager) = self.slots.get(resource) else {
            return;
        };
        let allocations = manager.allocations();
        if allocations.keys().all(|holder| *holder == job) {
            self.give_up(now, resource, reason, out);
            return;
        }
        let (connection, node) = (manager.connection, manager.registration.node.clone());
        let what = format!("ends what job {job} has there: {reason}");
        out.push(task_manager(resource.clone(), what));
        let leases = self.slots.take_back_all(resource, job);
        for &allocation in leases.keys() {
            let message = Box::new(ToTaskExecutor::FreeSlot { allocation });
            out.push(ResourceManagerEffect::Send {
                connection,
                message,
            });
        }
        let cause = FailureCause {
            class: FailureClass::Restart,
            operator: None,
            message: format!("the worker on TaskManager {resource} on {node} was ended: {reason}"),
        };
        let input = JobMasterInput::SlotsLost {
            allocations: leases.into_keys().collect(),
            cause,
            worker_failed: true,
            naming: None,
        };
        out.push(ResourceManagerEffect::ToJob(job, input));
    }

    /// Gives a TaskManager back that no job has a slot of.
    pub(super) fn release(&mut self, resource: &ResourceId, out: Out<'_, '_>) {
        self.heartbeats.forget(resource);
        let Some(gone) = self.slots.remove(resource) else {
            return;
        };
        let seconds = self.config.idle_timeout.as_secs();
        let reason = format!("no job used it for {seconds} s");
        out.push(task_manager(
            resource.clone(),
            format!("is released: {reason}"),
        ));
        // Until its stream ends, nothing more is to come from it.
        self.refused.insert(gone.connection);
        out.push(ResourceManagerEffect::Send {
            connection: gone.connection,
            message: Box::new(ToTaskExecutor::ShutDown { reason }),
        });
        self.stop_container(resource, out);
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
        self.lose(now, resource, reason, Loss::Explained, out);
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
            let manager = self.slots.get(&resource);
            let manager = manager.expect("who sends on a registered stream is registered");
            let node = manager.registration.node.clone();
            let unserved = !manager.served;
            let known_as = containers::loss(&resource, &node, reason).message;
            let breaking = Breaking {
                node,
                stop_at: now + self.config.loss_naming,
                jobs: self.lose(now, &resource, reason, Loss::Unexplained, out),
                known_as,
                unserved,
            };
            self.containers.breaks(&resource, breaking);
        }
    }
}
