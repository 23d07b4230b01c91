//! The books of slots: which TaskManagers there are, who has their slots, who wants some. Flink: `SlotManager`.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::gateway::{SlotRequest, TaskExecutorRegistration};
use spindle_common::id::{AllocationId, JobId, ResourceId};
use spindle_common::job_graph::ProgramSpec;
use spindle_common::resource::ResourceProfile;
use spindle_common::time::MonoTime;

use crate::job_master::SlotDemand;
use crate::message::{ConnectionId, TaskManagerView};

/// What a TaskExecutor needs to know of a job to give it a slot.
#[derive(Debug, Clone)]
pub(crate) struct JobSpec {
    pub(crate) program: ProgramSpec,
    pub(crate) graph_fingerprint: u64,
    pub(crate) config: Vec<(String, String)>,
}

/// The lease of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) allocation: AllocationId,
    pub(crate) job: JobId,
    /// Whether the TaskExecutor has confirmed it.
    offered: bool,
}

/// A registered TaskManager.
#[derive(Debug)]
pub(crate) struct TaskManager {
    pub(crate) connection: ConnectionId,
    pub(crate) registration: TaskExecutorRegistration,
    pub(crate) profile: ResourceProfile,
    pub(crate) since: MonoTime,
    pub(crate) resident_bytes: u64,
    pub(crate) worker_resident_bytes: u64,
    /// Whether tasks were ever sent to it.
    pub(crate) served: bool,
    /// By index of the slot.
    slots: Vec<Option<Lease>>,
}

impl TaskManager {
    pub(crate) fn new(
        connection: ConnectionId,
        registration: TaskExecutorRegistration,
        profile: ResourceProfile,
        since: MonoTime,
    ) -> Self {
        let slots = vec![None; registration.slots as usize];
        Self {
            connection,
            registration,
            profile,
            since,
            resident_bytes: 0,
            worker_resident_bytes: 0,
            served: false,
            slots,
        }
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.slots.iter().flatten()
    }

    fn free(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    /// Allocations by job.
    pub(crate) fn allocations(&self) -> BTreeMap<JobId, BTreeSet<AllocationId>> {
        let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for lease in self.leases() {
            all.entry(lease.job).or_default().insert(lease.allocation);
        }
        all
    }

    pub(crate) fn view(&self, last_heartbeat: MonoTime) -> TaskManagerView {
        TaskManagerView {
            node: self.registration.node.clone(),
            host: self.registration.host.clone(),
            pid: self.registration.pid,
            slots: self.registration.slots,
            free_slots: self.free() as u32,
            profile: self.profile,
            since: self.since,
            last_heartbeat,
            resident_bytes: self.resident_bytes,
            worker_resident_bytes: self.worker_resident_bytes,
        }
    }
}

#[derive(Debug)]
struct JobEntry {
    spec: JobSpec,
    demand: SlotDemand,
}

#[derive(Debug, Default)]
pub(crate) struct SlotManager {
    task_managers: BTreeMap<ResourceId, TaskManager>,
    by_connection: BTreeMap<ConnectionId, ResourceId>,
    jobs: BTreeMap<JobId, JobEntry>,
    next_allocation: u64,
}

impl SlotManager {
    pub(crate) fn add(&mut self, resource: ResourceId, task_manager: TaskManager) {
        self.by_connection
            .insert(task_manager.connection, resource.clone());
        self.task_managers.insert(resource, task_manager);
    }

    pub(crate) fn remove(&mut self, resource: &ResourceId) -> Option<TaskManager> {
        let gone = self.task_managers.remove(resource)?;
        self.by_connection.remove(&gone.connection);
        Some(gone)
    }

    pub(crate) fn sender(&self, connection: ConnectionId) -> Option<&ResourceId> {
        self.by_connection.get(&connection)
    }

    pub(crate) fn get_mut(&mut self, resource: &ResourceId) -> Option<&mut TaskManager> {
        self.task_managers.get_mut(resource)
    }

    pub(crate) fn get(&self, resource: &ResourceId) -> Option<&TaskManager> {
        self.task_managers.get(resource)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceId, &TaskManager)> {
        self.task_managers.iter()
    }

    pub(crate) fn add_job(&mut self, job: JobId, spec: JobSpec) {
        let demand = SlotDemand::Hold;
        self.jobs.insert(job, JobEntry { spec, demand });
    }

    pub(crate) fn set_demand(&mut self, job: JobId, demand: SlotDemand) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.demand = demand;
        }
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Forgets a job; answers the leases to end.
    pub(crate) fn remove_job(&mut self, job: JobId) -> Vec<(ConnectionId, AllocationId)> {
        self.jobs.remove(&job);
        let mut ended = Vec::new();
        for task_manager in self.task_managers.values_mut() {
            for slot in &mut task_manager.slots {
                if let Some(lease) = slot.take_if(|lease| lease.job == job) {
                    ended.push((task_manager.connection, lease.allocation));
                }
            }
        }
        ended
    }

    /// Confirms a lease; answers whether it was asked for and not confirmed before.
    pub(crate) fn offer(
        &mut self,
        resource: &ResourceId,
        allocation: AllocationId,
        job: JobId,
    ) -> bool {
        let asked = Lease {
            allocation,
            job,
            offered: false,
        };
        let slot = self
            .task_managers
            .get_mut(resource)
            .and_then(|manager| manager.slots.iter_mut().flatten().find(|l| **l == asked));
        slot.map(|lease| lease.offered = true).is_some()
    }

    /// Takes a slot back from a job that has no use for it; answers whether the job had it.
    pub(crate) fn take_back(
        &mut self,
        resource: &ResourceId,
        allocation: AllocationId,
        job: JobId,
    ) -> bool {
        let lease = |lease: &mut Lease| lease.job == job && lease.allocation == allocation;
        self.task_managers
            .get_mut(resource)
            .and_then(|manager| {
                manager
                    .slots
                    .iter_mut()
                    .find_map(|slot| slot.take_if(lease))
            })
            .is_some()
    }

    /// Takes all slots of a TaskManager back from a job; answers each with whether it was offered.
    pub(crate) fn take_back_all(
        &mut self,
        resource: &ResourceId,
        job: JobId,
    ) -> BTreeMap<AllocationId, bool> {
        let Some(manager) = self.task_managers.get_mut(resource) else {
            return BTreeMap::new();
        };
        let leases = manager.slots.iter_mut();
        leases
            .filter_map(|slot| slot.take_if(|lease| lease.job == job))
            .map(|lease| (lease.allocation, lease.offered))
            .collect()
    }

    /// Notes that tasks of a job are sent to all its slots.
    pub(crate) fn mark_served(&mut self, job: JobId) {
        for manager in self.task_managers.values_mut() {
            let serves = manager.leases().any(|lease| lease.job == job);
            manager.served |= serves;
        }
    }

    /// Slots that each job lacks; jobs that lack none are left out.
    pub(crate) fn missing(&self) -> BTreeMap<JobId, u32> {
        let mut held: BTreeMap<JobId, u32> = BTreeMap::new();
        for lease in self.task_managers.values().flat_map(TaskManager::leases) {
            *held.entry(lease.job).or_default() += 1;
        }
        let lacks = |(&job, entry): (&JobId, &JobEntry)| match entry.demand {
            SlotDemand::Hold => None,
            SlotDemand::Total(total) => {
                let missing = total.saturating_sub(held.get(&job).copied().unwrap_or(0));
                (missing > 0).then_some((job, missing))
            }
        };
        self.jobs.iter().filter_map(lacks).collect()
    }

    /// Leases free slots to jobs that lack some, spread evenly: each time on the TaskManager that has the fewest leases.
    pub(crate) fn match_slots(&mut self) -> Vec<(ConnectionId, SlotRequest)> {
        let missing = self.missing();
        if missing.is_empty() {
            return Vec::new();
        }
        let mut by_load: BTreeSet<(usize, ResourceId)> = BTreeSet::new();
        for (resource, manager) in &self.task_managers {
            if manager.free() > 0 {
                by_load.insert((manager.leases().count(), resource.clone()));
            }
        }
        let mut requests = Vec::new();
        for (job, missing) in missing {
            for _ in 0..missing {
                let Some((load, resource)) = by_load.pop_first() else {
                    return requests;
                };
                requests.push(self.lease(&resource, job));
                if self.task_managers[&resource].free() > 0 {
                    by_load.insert((load + 1, resource));
                }
            }
        }
        requests
    }

    fn lease(&mut self, resource: &ResourceId, job: JobId) -> (ConnectionId, SlotRequest) {
        self.next_allocation += 1;
        let allocation = AllocationId(self.next_allocation);
        let manager = self
            .task_managers
            .get_mut(resource)
            .expect("only registered TaskManagers are matched");
        let index = manager.slots.iter().position(Option::is_none);
        let index = index.expect("only TaskManagers with a free slot are matched");
        manager.slots[index] = Some(Lease {
            allocation,
            job,
            offered: false,
        });
        let spec = self.jobs[&job].spec.clone();
        let request = SlotRequest {
            allocation,
            slot: index as u32,
            job,
            program: spec.program,
            graph_fingerprint: spec.graph_fingerprint,
            config: spec.config,
        };
        (manager.connection, request)
    }
}
