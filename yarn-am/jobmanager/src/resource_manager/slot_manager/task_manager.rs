//! A registered TaskManager and who has its slots.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::gateway::TaskExecutorRegistration;
use spindle_common::id::{AllocationId, JobId};
use spindle_common::resource::{ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;

use crate::message::{ConnectionId, Container, TaskManagerView};
use crate::resource_manager::capacity::{Room, Sizes};

/// The lease of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) allocation: AllocationId,
    pub(crate) job: JobId,
    /// What the slot has; without it, it is an equal part.
    pub(crate) profile: Option<SlotProfile>,
    /// Whether the TaskExecutor has confirmed it.
    pub(super) offered: bool,
}

/// A registered TaskManager.
#[derive(Debug)]
pub(crate) struct TaskManager {
    pub(crate) connection: ConnectionId,
    pub(crate) registration: TaskExecutorRegistration,
    pub(crate) profile: ResourceProfile,
    /// Size that its container was asked with.
    pub(crate) asked: ResourceProfile,
    pub(crate) since: MonoTime,
    pub(crate) resident_bytes: u64,
    pub(crate) worker_resident_bytes: u64,
    /// Whether tasks were ever sent to it.
    pub(crate) served: bool,
    /// Since when no job has a slot of it and no job waits.
    pub(super) idle_since: Option<MonoTime>,
    /// What no slot has.
    pub(super) room: Room,
    /// By index of the slot.
    leases: BTreeMap<u32, Lease>,
}

impl TaskManager {
    pub(crate) fn new(
        connection: ConnectionId,
        registration: TaskExecutorRegistration,
        container: &Container,
        sizes: Sizes,
        since: MonoTime,
    ) -> Self {
        Self {
            connection,
            room: sizes.room_of(container.asked, registration.slots),
            registration,
            profile: container.profile,
            asked: container.asked,
            since,
            resident_bytes: 0,
            worker_resident_bytes: 0,
            served: false,
            idle_since: None,
            leases: BTreeMap::new(),
        }
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// How many leases there are.
    pub(super) fn load(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is room for a slot.
    pub(super) fn has_room(&self, sizes: Sizes, slot: Option<SlotProfile>) -> bool {
        let for_others = !sizes.may_hold(self.asked, slot);
        !for_others && self.room.times(sizes, slot) > 0
    }

    /// Leases a slot; answers its index, the smallest that is free.
    pub(super) fn lease(&mut self, sizes: Sizes, lease: Lease) -> u32 {
        let taken = (0..).zip(self.leases.keys());
        let first_gap = taken.take_while(|(n, index)| n == *index).count() as u32;
        self.room = self.room.without(sizes, lease.profile, 1);
        self.leases.insert(first_gap, lease);
        first_gap
    }

    pub(super) fn lease_mut(&mut self, of: impl Fn(&Lease) -> bool) -> Option<&mut Lease> {
        self.leases.values_mut().find(|lease| of(lease))
    }

    /// Ends leases; answers them, by index of the slot.
    pub(super) fn end(&mut self, sizes: Sizes, ended: impl Fn(&Lease) -> bool) -> Vec<Lease> {
        let gone: Vec<Lease> = self
            .leases()
            .copied()
            .filter(|lease| ended(lease))
            .collect();
        if !gone.is_empty() {
            self.leases.retain(|_, lease| !ended(lease));
            let empty = sizes.room_of(self.asked, self.registration.slots);
            self.room = (self.leases.values())
                .fold(empty, |room, lease| room.without(sizes, lease.profile, 1));
        }
        gone
    }

    /// Allocations by job.
    pub(crate) fn allocations(&self) -> BTreeMap<JobId, BTreeSet<AllocationId>> {
        let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for lease in self.leases() {
            all.entry(lease.job).or_default().insert(lease.allocation);
        }
        all
    }

    pub(crate) fn view(&self, sizes: Sizes, last_heartbeat: MonoTime) -> TaskManagerView {
        let slots = self.registration.slots;
        // A slot that is smaller than an equal part takes one.
        let most = slots.saturating_sub(u32::from(!self.leases.is_empty()));
        TaskManagerView {
            connection: self.connection,
            node: self.registration.node.clone(),
            host: self.registration.host.clone(),
            pid: self.registration.pid,
            slots,
            free_slots: self.room.times(sizes, None).min(most),
            total: self.asked.for_slots(),
            free: self.room.as_profile(),
            profile: self.profile,
            since: self.since,
            last_heartbeat,
            resident_bytes: self.resident_bytes,
            worker_resident_bytes: self.worker_resident_bytes,
        }
    }
}
