//! The books of slots: which TaskManagers there are, who has their slots, who wants some. Flink: `SlotManager`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// Slots that it runs in.
    pub(crate) slots: u32,
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
    /// Since when no job has a slot of it and no job waits.
    idle_since: Option<MonoTime>,
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
            idle_since: None,
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
    /// Number of the submission.
    order: u64,
    /// Whether there is room for all its slots within the limits. It keeps it to its end, so that no two jobs wait for each other.
    admitted: bool,
}

/// How a job stands that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Jobs before it have to end first.
    Queued {
        /// Slots it runs in.
        slots: u32,
        /// Slots that jobs before it have or will have.
        taken: u32,
    },
    /// It lacks slots.
    Lacks {
        /// So many.
        missing: u32,
        /// Of so many.
        slots: u32,
    },
    /// All its slots were asked for.
    Asked,
}

#[derive(Debug, Default)]
pub(crate) struct SlotManager {
    task_managers: BTreeMap<ResourceId, TaskManager>,
    by_connection: BTreeMap<ConnectionId, ResourceId>,
    jobs: BTreeMap<JobId, JobEntry>,
    /// The same, in the order of submission.
    in_order: BTreeMap<u64, JobId>,
    next_order: u64,
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
        let entry = JobEntry {
            spec,
            demand: SlotDemand::Hold,
            order: self.next_order,
            admitted: false,
        };
        self.in_order.insert(entry.order, job);
        self.next_order += 1;
        self.jobs.insert(job, entry);
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
        if let Some(entry) = self.jobs.remove(&job) {
            self.in_order.remove(&entry.order);
        }
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

    /// Lets jobs in, in the order of submission, as long as all their slots are within the capacity; none passes one that waits.
    pub(crate) fn admit(&mut self, capacity: Option<u32>) {
        let mut taken = self.taken();
        for job in self.in_order.values() {
            let Some(entry) = self.jobs.get_mut(job).filter(|entry| !entry.admitted) else {
                continue;
            };
            match entry.demand {
                SlotDemand::Hold => {}
                SlotDemand::Total(slots) => {
                    let with_it = taken.saturating_add(slots);
                    if capacity.is_some_and(|capacity| with_it > capacity) {
                        break;
                    }
                    taken = with_it;
                    entry.admitted = true;
                }
            }
        }
    }

    /// Slots of all jobs that were let in.
    fn taken(&self) -> u32 {
        let admitted = self.jobs.values().filter(|entry| entry.admitted);
        admitted.fold(0, |sum, entry| sum.saturating_add(entry.spec.slots))
    }

    /// Slots that each job lacks that was let in, in the order of submission; jobs that lack none are left out.
    pub(crate) fn missing(&self) -> Vec<(JobId, u32)> {
        let mut held: BTreeMap<JobId, u32> = BTreeMap::new();
        for lease in self.task_managers.values().flat_map(TaskManager::leases) {
            *held.entry(lease.job).or_default() += 1;
        }
        let lacks = |&job: &JobId| match &self.jobs[&job] {
            JobEntry {
                demand: SlotDemand::Total(total),
                admitted: true,
                ..
            } => {
                let missing = total.saturating_sub(held.get(&job).copied().unwrap_or(0));
                (missing > 0).then_some((job, missing))
            }
            JobEntry { .. } => None,
        };
        self.in_order.values().filter_map(lacks).collect()
    }

    /// How a job stands that wants slots.
    pub(crate) fn standing(&self, job: JobId) -> Option<Standing> {
        let entry = self.jobs.get(&job)?;
        let slots = match entry.demand {
            SlotDemand::Hold => return None,
            SlotDemand::Total(slots) => slots,
        };
        Some(if entry.admitted {
            let held = self.task_managers.values().flat_map(TaskManager::leases);
            let held = held.filter(|lease| lease.job == job).count() as u32;
            match slots.saturating_sub(held) {
                0 => Standing::Asked,
                missing => Standing::Lacks { missing, slots },
            }
        } else {
            let before = self.in_order.range(..entry.order);
            let before = before.map(|(_, job)| &self.jobs[job].spec);
            let taken = before.fold(0, |sum: u32, spec| sum.saturating_add(spec.slots));
            Standing::Queued { slots, taken }
        })
    }

    /// Notes which TaskManagers no job has a slot of; answers those for which that has been so for the whole time-out.
    pub(crate) fn idle(&mut self, now: MonoTime, timeout: Duration) -> Vec<ResourceId> {
        let wants = |entry: &JobEntry| !entry.admitted && entry.demand != SlotDemand::Hold;
        let waited_for = self.jobs.values().any(wants) || !self.missing().is_empty();
        let mut idle = Vec::new();
        for (resource, manager) in &mut self.task_managers {
            if waited_for || manager.slots.iter().any(Option::is_some) {
                manager.idle_since = None;
            } else if *manager.idle_since.get_or_insert(now) + timeout <= now {
                idle.push(resource.clone());
            }
        }
        idle
    }

    /// Since when the one has been idle that has been for the longest time.
    pub(crate) fn idle_since(&self) -> Option<MonoTime> {
        let managers = self.task_managers.values();
        managers.filter_map(|manager| manager.idle_since).min()
    }

    /// How many TaskManagers there are.
    pub(crate) fn count(&self) -> u32 {
        self.task_managers.len() as u32
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
