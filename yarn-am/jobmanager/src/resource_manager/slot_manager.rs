//! The books of slots: which TaskManagers there are, who has their slots, who wants some. Flink: `SlotManager`.

mod load;
mod task_manager;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spindle_common::gateway::SlotRequest;
use spindle_common::id::{AllocationId, JobId, ResourceId};
use spindle_common::job_graph::ProgramSpec;
use spindle_common::resource::{ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;

use crate::config::JobManagerConfig;
use crate::job_master::SlotDemand;
use crate::message::ConnectionId;
use crate::resource_manager::capacity::{ContainerCounts, Room, Sizes, SlotCounts, add, total};
use crate::resource_manager::plan::Limits;
use load::ByLoad;
use task_manager::Lease;
pub(crate) use task_manager::TaskManager;

/// What a TaskExecutor needs to know of a job to give it a slot.
#[derive(Debug, Clone)]
pub(crate) struct JobSpec {
    pub(crate) program: ProgramSpec,
    pub(crate) graph_fingerprint: u64,
    pub(crate) config: Vec<(String, String)>,
    /// Slots that it runs in.
    pub(crate) slots: SlotCounts,
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

#[derive(Debug)]
pub(crate) struct SlotManager {
    limits: Limits,
    /// Whether slots are taken on the node first that has the fewest in use.
    spread: bool,
    task_managers: BTreeMap<ResourceId, TaskManager>,
    by_connection: BTreeMap<ConnectionId, ResourceId>,
    jobs: BTreeMap<JobId, JobEntry>,
    /// The same, in the order of submission.
    in_order: BTreeMap<u64, JobId>,
    next_order: u64,
    next_allocation: u64,
}

impl SlotManager {
    pub(crate) const fn new(config: &JobManagerConfig) -> Self {
        Self {
            limits: Limits::of(config),
            spread: config.spread,
            task_managers: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            jobs: BTreeMap::new(),
            in_order: BTreeMap::new(),
            next_order: 0,
            next_allocation: 0,
        }
    }

    const fn sizes(&self) -> Sizes {
        self.limits.sizes
    }

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
        let sizes = self.sizes();
        let mut ended = Vec::new();
        for manager in self.task_managers.values_mut() {
            let leases = manager.end(sizes, |lease| lease.job == job).into_iter();
            ended.extend(leases.map(|lease| (manager.connection, lease.allocation)));
        }
        ended
    }

    /// Confirms a lease; answers what the slot has, if it was asked for and not confirmed before.
    #[expect(
        clippy::option_option,
        reason = "no lease, and a lease of an equal part"
    )]
    pub(crate) fn offer(
        &mut self,
        resource: &ResourceId,
        allocation: AllocationId,
        job: JobId,
    ) -> Option<Option<SlotProfile>> {
        let manager = self.task_managers.get_mut(resource)?;
        let lease = manager.lease_mut(|lease| {
            lease.job == job && lease.allocation == allocation && !lease.offered
        })?;
        lease.offered = true;
        Some(lease.profile)
    }

    /// Takes a slot back from a job that has no use for it; answers whether the job had it.
    pub(crate) fn take_back(
        &mut self,
        resource: &ResourceId,
        allocation: AllocationId,
        job: JobId,
    ) -> bool {
        let sizes = self.sizes();
        let lease = |lease: &Lease| lease.job == job && lease.allocation == allocation;
        let manager = self.task_managers.get_mut(resource);
        manager.is_some_and(|manager| !manager.end(sizes, lease).is_empty())
    }

    /// Takes all slots of a TaskManager back from a job; answers each with whether it was offered.
    pub(crate) fn take_back_all(
        &mut self,
        resource: &ResourceId,
        job: JobId,
    ) -> BTreeMap<AllocationId, bool> {
        let sizes = self.sizes();
        let Some(manager) = self.task_managers.get_mut(resource) else {
            return BTreeMap::new();
        };
        let leases = manager.end(sizes, |lease| lease.job == job).into_iter();
        leases
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

    /// Lets jobs in, in the order of submission, as long as there is room for all their slots within the limits; none passes one
    /// that waits.
    pub(crate) fn admit(&mut self) {
        let mut taken = SlotCounts::new();
        for entry in self.jobs.values().filter(|entry| entry.admitted) {
            add(&mut taken, &entry.spec.slots);
        }
        for job in self.in_order.values() {
            let Some(entry) = self.jobs.get_mut(job).filter(|entry| !entry.admitted) else {
                continue;
            };
            match &entry.demand {
                SlotDemand::Hold => {}
                SlotDemand::Total(slots) => {
                    let mut with_it = taken.clone();
                    add(&mut with_it, slots);
                    if self.limits.forbid(&with_it).is_some() {
                        break;
                    }
                    taken = with_it;
                    entry.admitted = true;
                }
            }
        }
    }

    /// Slots that each job lacks that was let in, in the order of submission; jobs that lack none are left out.
    pub(crate) fn missing(&self) -> Vec<(JobId, SlotCounts)> {
        let mut held: BTreeMap<JobId, SlotCounts> = BTreeMap::new();
        for lease in self.task_managers.values().flat_map(TaskManager::leases) {
            let of_job = held.entry(lease.job).or_default();
            *of_job.entry(lease.profile).or_default() += 1;
        }
        let lacks = |&job: &JobId| match &self.jobs[&job] {
            JobEntry {
                demand: SlotDemand::Total(total),
                admitted: true,
                ..
            } => {
                let held = held.get(&job);
                let missing = |(profile, wanted): (&Option<SlotProfile>, &u32)| {
                    let held = held.and_then(|held| held.get(profile)).copied();
                    let missing = wanted.saturating_sub(held.unwrap_or(0));
                    (missing > 0).then_some((*profile, missing))
                };
                let missing: SlotCounts = total.iter().filter_map(missing).collect();
                (!missing.is_empty()).then_some((job, missing))
            }
            JobEntry { .. } => None,
        };
        self.in_order.values().filter_map(lacks).collect()
    }

    /// How a job stands that wants slots.
    pub(crate) fn standing(&self, job: JobId) -> Option<Standing> {
        let entry = self.jobs.get(&job)?;
        let slots = match &entry.demand {
            SlotDemand::Hold => return None,
            SlotDemand::Total(slots) => total(slots),
        };
        Some(if entry.admitted {
            let missing = self.missing().into_iter().find(|(of, _)| *of == job);
            match missing.map_or(0, |(_, missing)| total(&missing)) {
                0 => Standing::Asked,
                missing => Standing::Lacks { missing, slots },
            }
        } else {
            let before = self.in_order.range(..entry.order);
            let before = before.map(|(_, job)| total(&self.jobs[job].spec.slots));
            let taken = before.fold(0, u32::saturating_add);
            Standing::Queued { slots, taken }
        })
    }

    /// Notes which TaskManagers no job has a slot of; answers those for which that has been so for the whole time-out. So many of the usual
    /// size are spared as long as there are jobs, and none of them waits.
    pub(crate) fn idle(&mut self, now: MonoTime, timeout: Duration, spare: u32) -> Vec<ResourceId> {
        let sizes = self.sizes();
        let wants = |entry: &JobEntry| !entry.admitted && entry.demand != SlotDemand::Hold;
        let missing = self.missing();
        // Who is first waits for what fits; one that does not may even be in the way of what would.
        let waited_for = |manager: &TaskManager| match missing.first() {
            Some((_, missing)) => {
                let mut slots = missing.keys();
                slots.any(|slot| manager.has_room(sizes, *slot))
            }
            None => self.jobs.values().any(wants),
        };
        // Nothing is spared that may be in the way of what a job waits for.
        let wanted = !missing.is_empty() || self.jobs.values().any(wants);
        let mut spare = match self.jobs.is_empty() || wanted {
            true => 0,
            false => spare,
        };
        let mut idle = Vec::new();
        for (resource, manager) in &mut self.task_managers {
            if manager.load() > 0 || waited_for(manager) {
                manager.idle_since = None;
            } else if spare > 0 && manager.asked == sizes.container {
                spare -= 1;
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

    /// How many TaskManagers there are, by the size that their containers were asked with.
    pub(crate) fn registered(&self) -> ContainerCounts {
        let mut counts = ContainerCounts::new();
        for manager in self.task_managers.values() {
            *counts.entry(manager.asked).or_default() += 1;
        }
        counts
    }

    /// Room in TaskManagers for slots that are wanted: it is left to jobs before those that want them.
    pub(crate) fn rooms_for(&self, wanted: &[SlotCounts]) -> Vec<(ResourceProfile, Room)> {
        let slots: BTreeSet<_> = wanted.iter().flat_map(|counts| counts.keys()).collect();
        let managers = self.task_managers.values();
        let rooms = managers.map(|manager| (manager.asked, manager.room));
        let useful = |room: Room| {
            slots
                .iter()
                .any(|slot| room.times(self.sizes(), **slot) > 0)
        };
        rooms.filter(|(_, room)| useful(*room)).collect()
    }

    /// Leases room to jobs that lack slots, in the order of submission: each time of the TaskManager that has the fewest leases, on
    /// the node that has the fewest if they are to be spread.
    pub(crate) fn match_slots(&mut self) -> Vec<(ConnectionId, SlotRequest)> {
        let missing = self.missing();
        if missing.is_empty() {
            return Vec::new();
        }
        let sizes = self.sizes();
        let wanted: BTreeSet<_> = missing
            .iter()
            .flat_map(|(_, m)| m.keys().copied())
            .collect();
        let useful = |manager: &TaskManager| {
            let mut wanted = wanted.iter();
            wanted.any(|slot| manager.has_room(sizes, *slot))
        };
        let mut by_load = ByLoad::default();
        for (resource, manager) in &self.task_managers {
            let node = &manager.registration.node;
            by_load.note(self.spread.then_some(node), manager.load());
            if useful(manager) {
                let made_to_measure = manager.asked != sizes.container;
                let node = self.spread.then(|| node.clone());
                by_load.add(made_to_measure, node, manager.load(), resource.clone());
            }
        }
        let mut requests = Vec::new();
        for (job, missing) in missing {
            let mut short = false;
            for (slot, missing) in sizes.largest_first(&missing) {
                for _ in 0..missing {
                    let has_room =
                        |resource: &ResourceId| self.task_managers[resource].has_room(sizes, slot);
                    let Some(found) = by_load.take(has_room) else {
                        short = true;
                        break;
                    };
                    requests.push(self.lease(found.resource(), job, slot));
                    let keep = useful(&self.task_managers[found.resource()]);
                    by_load.leased(found, keep);
                }
            }
            // Nobody passes who came before.
            if short {
                break;
            }
        }
        requests
    }

    fn lease(
        &mut self,
        resource: &ResourceId,
        job: JobId,
        profile: Option<SlotProfile>,
    ) -> (ConnectionId, SlotRequest) {
        self.next_allocation += 1;
        let allocation = AllocationId(self.next_allocation);
        let sizes = self.sizes();
        let manager = self
            .task_managers
            .get_mut(resource)
            .expect("only registered TaskManagers are matched");
        let lease = Lease {
            allocation,
            job,
            profile,
            offered: false,
        };
        let slot = manager.lease(sizes, lease);
        let spec = self.jobs[&job].spec.clone();
        let request = SlotRequest {
            allocation,
            slot,
            job,
            program: spec.program,
            graph_fingerprint: spec.graph_fingerprint,
            config: spec.config,
            profile,
        };
        (manager.connection, request)
    }
}
