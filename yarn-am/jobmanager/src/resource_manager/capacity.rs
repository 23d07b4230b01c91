//! What TaskManagers are worth in slots, and which container a slot needs.
//!
//! Slots are cut from a TaskManager as they are asked for: one whose group says what it has, that much; any other one of the
//! TaskManager's equal parts. Flink: fine-grained resource management with dynamic slot allocation.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use spindle_common::resource::{ByteSize, ResourceProfile, SlotProfile};

use crate::config::JobManagerConfig;

/// So many slots of each profile; none stands for one of a TaskManager's equal parts.
pub(crate) type SlotCounts = BTreeMap<Option<SlotProfile>, u32>;

/// So many containers of each size.
pub(crate) type ContainerCounts = BTreeMap<ResourceProfile, u32>;

/// Number of slots, of whichever profile.
pub(crate) fn total(counts: &SlotCounts) -> u32 {
    counts.values().fold(0, |sum, n| sum.saturating_add(*n))
}

/// Adds the counts of one to those of another.
pub(crate) fn add(to: &mut SlotCounts, counts: &SlotCounts) {
    for (profile, n) in counts {
        let sum = to.entry(*profile).or_default();
        *sum = sum.saturating_add(*n);
    }
}

/// What a TaskManager is unless a slot needs a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) container: ResourceProfile,
    /// Equal parts that it has.
    pub(crate) slots: u32,
}

impl Sizes {
    pub(crate) const fn of(config: &JobManagerConfig) -> Self {
        let slots = config.slots_per_task_manager;
        Self {
            container: config.profile,
            slots: if slots == 0 { 1 } else { slots },
        }
    }

    /// One of its equal parts.
    pub(crate) const fn equal_part(self) -> SlotProfile {
        let all = self.container.for_slots();
        SlotProfile {
            memory: ByteSize::from_bytes(all.memory.as_bytes() / self.slots as u64),
            cpu_millis: all.cpu_millis / self.slots,
        }
    }

    const fn size_of(self, slot: Option<SlotProfile>) -> SlotProfile {
        match slot {
            Some(profile) => profile,
            None => self.equal_part(),
        }
    }

    /// The container that is asked for if a slot fits into none that is there: the usual one, or one made to measure.
    pub(crate) fn container_for(self, slot: Option<SlotProfile>) -> ResourceProfile {
        match slot {
            Some(profile) if self.room(self.container).times(self, slot) == 0 => {
                profile.made_to_measure()
            }
            Some(_) | None => self.container,
        }
    }

    /// Whether a slot fits into a container of the usual size.
    pub(crate) fn is_usual(self, slot: Option<SlotProfile>) -> bool {
        self.container_for(slot) == self.container
    }

    /// Whether a slot may be cut from a container of this size. One that was made to measure is for what fits into no usual one: a job that
    /// held a part of it for less would keep it, and what it counts against the limits, for as long as it waits for the rest.
    pub(crate) fn may_hold(self, container: ResourceProfile, slot: Option<SlotProfile>) -> bool {
        container == self.container || !self.is_usual(slot)
    }

    /// Equal parts that a container counts as, at least one.
    pub(crate) fn slots_in(self, container: ResourceProfile) -> u32 {
        if container == self.container {
            return self.slots;
        }
        let (all, part) = (container.for_slots(), self.equal_part());
        let memory = all.memory.as_bytes().checked_div(part.memory.as_bytes());
        let cpu = all.cpu_millis.checked_div(part.cpu_millis);
        let memory = memory.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        memory.into_iter().chain(cpu).min().unwrap_or(1).max(1)
    }

    /// The room of an empty container of this size.
    pub(crate) fn room(self, container: ResourceProfile) -> Room {
        let all = container.for_slots();
        Room {
            memory: all.memory.as_bytes(),
            cpu_millis: all.cpu_millis,
            equal_parts: self.slots_in(container),
        }
    }

    /// The room of one whose TaskManager says itself in how many equal parts it comes.
    pub(crate) fn room_of(self, container: ResourceProfile, equal_parts: u32) -> Room {
        Room {
            equal_parts,
            ..self.room(container)
        }
    }

    /// What is wanted, the largest first, which leaves the least room unused.
    pub(crate) fn largest_first(self, counts: &SlotCounts) -> Vec<(Option<SlotProfile>, u32)> {
        let mut all: Vec<_> = counts.iter().map(|(slot, n)| (*slot, *n)).collect();
        all.retain(|(_, n)| *n > 0);
        all.sort_by_key(|(slot, _)| Reverse((self.size_of(*slot), *slot)));
        all
    }
}

/// What of a TaskManager no slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Room {
    memory: u64,
    cpu_millis: u32,
    /// How many equal parts there are at most: their rounding leaves something over.
    equal_parts: u32,
}

impl Room {
    /// How many slots of a profile there is room for.
    pub(crate) fn times(self, sizes: Sizes, slot: Option<SlotProfile>) -> u32 {
        let size = sizes.size_of(slot);
        let memory = self.memory.checked_div(size.memory.as_bytes());
        let memory = memory.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let cpu = self.cpu_millis.checked_div(size.cpu_millis);
        let parts = match slot {
            None => self.equal_parts,
            Some(_) => u32::MAX,
        };
        memory.min(cpu.unwrap_or(u32::MAX)).min(parts)
    }

    /// The room that is left when `n` slots are taken.
    #[must_use]
    pub(crate) const fn without(self, sizes: Sizes, slot: Option<SlotProfile>, n: u32) -> Self {
        let size = sizes.size_of(slot);
        Self {
            memory: (self.memory).saturating_sub(size.memory.as_bytes() * n as u64),
            cpu_millis: self.cpu_millis.saturating_sub(size.cpu_millis * n),
            equal_parts: match slot {
                None => self.equal_parts.saturating_sub(n),
                Some(_) => self.equal_parts,
            },
        }
    }

    pub(crate) const fn as_profile(self) -> SlotProfile {
        SlotProfile {
            memory: ByteSize::from_bytes(self.memory),
            cpu_millis: self.cpu_millis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn sizes(mib: u64, vcores: u32, slots: u32) -> Sizes {
        let memory = ByteSize::from_mib(mib);
        Sizes {
            container: ResourceProfile { memory, vcores },
            slots,
        }
    }

    fn slot(cores: f64, mib: u64) -> Option<SlotProfile> {
        Some(SlotProfile::new(cores, ByteSize::from_mib(mib)))
    }

    #[test]
    fn a_container_has_as_many_equal_parts_as_was_said_whatever_rounding_leaves() {
        for (mib, slots) in [(1024, 1), (1024, 7), (100, 64), (32, 3), (1, 2)] {
            let sizes = sizes(mib, 1, slots);
            assert_eq!(sizes.room(sizes.container).times(sizes, None), slots);
            let full = sizes.room(sizes.container).without(sizes, None, slots);
            assert_eq!(full.times(sizes, None), 0);
        }
    }

    #[test]
    fn slots_of_other_sizes_share_a_container_with_equal_parts() {
        let sizes = sizes(32 + 400, 4, 4);
        let room = sizes.room(sizes.container);
        assert_eq!(room.times(sizes, slot(0.5, 50)), 8);
        let room = room.without(sizes, slot(2.0, 150), 1);
        // Of 250 MiB and 2 cores, parts of 100 MiB and 1 core.
        assert_eq!(room.times(sizes, None), 2);
        assert_eq!(room.without(sizes, None, 2).times(sizes, slot(0.1, 51)), 0);
    }

    #[test]
    fn what_fits_into_no_usual_container_gets_one_made_to_measure() {
        let sizes = sizes(32 + 400, 2, 4);
        assert_eq!(sizes.container_for(None), sizes.container);
        assert_eq!(sizes.container_for(slot(2.0, 400)), sizes.container);
        let large = sizes.container_for(slot(0.5, 1000));
        assert_eq!((large.memory.as_mib_ceil(), large.vcores), (1032, 1));
        assert_eq!(sizes.room(large).times(sizes, slot(0.5, 1000)), 1);
        assert_eq!(sizes.slots_in(large), 2);
        let fast = sizes.container_for(slot(2.5, 100));
        assert_eq!((fast.memory.as_mib_ceil(), fast.vcores), (132, 3));
        assert_eq!(sizes.slots_in(fast), 1);
    }
}
