//! How many containers are wanted, of which sizes, and where not: anew each turn, from what is wanted and what is there.

use std::collections::BTreeSet;

use spindle_common::config::options;
use spindle_common::id::NodeName;
use spindle_common::resource::{ResourceProfile, SlotProfile};

use crate::config::{JobManagerConfig, ResourceLimits};
use crate::message::{ContainerAsk, ContainerPlan};
use crate::resource_manager::capacity::{ContainerCounts, Room, Sizes, SlotCounts};

/// What is there.
#[derive(Debug)]
pub(crate) struct Supply {
    /// Room in registered TaskManagers, with their size, that those may not have yet who are not first.
    pub(crate) rooms: Vec<(ResourceProfile, Room)>,
    /// Containers granted whose TaskManager has not registered.
    pub(crate) starting: ContainerCounts,
    /// TaskManagers that are registered.
    pub(crate) registered: ContainerCounts,
    /// Nodes on which a start failed lately, the oldest failure first.
    pub(crate) troubled: Vec<NodeName>,
    /// Nodes there are; 0 if that is not known.
    pub(crate) nodes: u32,
}

/// What each container is, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) sizes: Sizes,
    pub(crate) most: ResourceLimits,
}

impl Limits {
    pub(crate) const fn of(config: &JobManagerConfig) -> Self {
        Self {
            sizes: Sizes::of(config),
            most: config.limits,
        }
    }

    /// The first limit that these containers are beyond, with its key.
    pub(crate) fn broken_by(&self, containers: &ContainerCounts) -> Option<String> {
        let all = || containers.iter().map(|(size, n)| (*size, u64::from(*n)));
        let slots = all().map(|(size, n)| n * u64::from(self.sizes.slots_in(size)));
        let (slots, most) = (slots.sum::<u64>(), self.most);
        let memory = all().fold(0_u64, |sum, (size, n)| {
            sum.saturating_add(size.memory.as_bytes().saturating_mul(n))
        });
        let cpu: u64 = all().map(|(size, n)| n * u64::from(size.vcores)).sum();
        if let Some(most) = most.slots.filter(|most| slots > u64::from(*most)) {
            Some(format!("{}: {most}", options::MAX_SLOTS.key()))
        } else if let Some(most) = most.memory.filter(|most| memory > most.as_bytes()) {
            Some(format!("{}: {most}", options::MAX_TOTAL_MEMORY.key()))
        } else {
            let most = most.cpu.filter(|most| cpu as f64 > *most)?;
            Some(format!("{}: {most}", options::MAX_TOTAL_CPU.key()))
        }
    }

    /// The limit that slots are beyond, were they the only ones.
    pub(crate) fn forbid(&self, slots: &SlotCounts) -> Option<String> {
        let nothing = Supply {
            rooms: Vec::new(),
            starting: ContainerCounts::new(),
            registered: ContainerCounts::new(),
            troubled: Vec::new(),
            nodes: 0,
        };
        let without_limits = Self {
            most: ResourceLimits::default(),
            ..*self
        };
        self.broken_by(&needed(
            std::slice::from_ref(slots),
            &nothing,
            &without_limits,
        ))
    }

    /// How many of `wanted` containers of a size may come beside those there are.
    fn room(&self, there: &ContainerCounts, size: ResourceProfile, wanted: u32) -> u32 {
        let fits = |n: u32| {
            let mut all = there.clone();
            let count = all.entry(size).or_default();
            *count = count.saturating_add(n);
            self.broken_by(&all).is_none()
        };
        if fits(wanted) {
            return wanted;
        }
        // The more, the worse: the largest number that fits is found by halving.
        let (mut fit, mut over) = (0, wanted);
        while over - fit > 1 {
            let middle = fit + (over - fit) / 2;
            if fits(middle) {
                fit = middle;
            } else {
                over = middle;
            }
        }
        fit
    }
}

/// How many containers of the usual size the limits of the configuration allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) containers: u32,
    /// The limit that says so, with its key.
    pub(crate) limit: String,
}

impl Ceiling {
    /// The narrowest of the limits, if there is any.
    pub(crate) fn of(config: &JobManagerConfig) -> Option<Self> {
        let ResourceLimits { slots, memory, cpu } = config.limits;
        let of_slots = slots.map(|slots| Self {
            containers: slots / config.slots_per_task_manager.max(1),
            limit: format!("{}: {slots}", options::MAX_SLOTS.key()),
        });
        let of_memory = memory.map(|memory| {
            let each = config.profile.memory.as_bytes().max(1);
            Self {
                containers: u32::try_from(memory.as_bytes() / each).unwrap_or(u32::MAX),
                limit: format!("{}: {memory}", options::MAX_TOTAL_MEMORY.key()),
            }
        });
        let of_cpu = cpu.map(|cpu| Self {
            // A cast of what is too large gives the largest.
            containers: (cpu / f64::from(config.profile.vcores.max(1))) as u32,
            limit: format!("{}: {cpu}", options::MAX_TOTAL_CPU.key()),
        });
        let all = [of_slots, of_memory, of_cpu].into_iter().flatten();
        all.min_by_key(|ceiling| ceiling.containers)
    }
}

/// Containers of the same size with the same room.
struct Bin {
    size: ResourceProfile,
    room: Room,
    count: u32,
}

/// Where slots are put on paper.
struct Bins {
    sizes: Sizes,
    bins: Vec<Bin>,
}

impl Bins {
    /// Puts as many of `wanted` slots as there is room for; answers how many are left.
    fn put(&mut self, slot: Option<SlotProfile>, mut wanted: u32) -> u32 {
        let sizes = self.sizes;
        let mut after = Vec::with_capacity(self.bins.len());
        for Bin { size, room, count } in std::mem::take(&mut self.bins) {
            let mut keep = |room, count| {
                if count > 0 {
                    after.push(Bin { size, room, count });
                }
            };
            let times = match sizes.may_hold(size, slot) {
                true => room.times(sizes, slot),
                false => 0,
            };
            let full = wanted.checked_div(times).unwrap_or(0).min(count);
            wanted -= full * times;
            let partly = u32::from(full < count && times > 0 && wanted > 0);
            keep(room.without(sizes, slot, times), full);
            keep(room.without(sizes, slot, wanted * partly), partly);
            keep(room, count - full - partly);
            wanted -= wanted * partly;
        }
        self.bins = after;
        wanted
    }
}

/// Those made to measure come last: who fits elsewhere leaves them to the slots they are for.
fn usual_first(
    counts: &ContainerCounts,
    sizes: Sizes,
) -> impl Iterator<Item = (ResourceProfile, u32)> {
    let usual = sizes.container;
    let of = move |wanted: bool| {
        let counts = counts.iter().map(|(size, n)| (*size, *n));
        counts.filter(move |(size, _)| (*size == usual) == wanted)
    };
    of(true).chain(of(false))
}

/// Containers that are needed beside those there are, for what jobs lack, in their order. Within the limits, and none for a job
/// whose predecessor did not get all of its own.
pub(crate) fn needed(demands: &[SlotCounts], supply: &Supply, limits: &Limits) -> ContainerCounts {
    let sizes = limits.sizes;
    let rooms = supply.rooms.iter().map(|(size, room)| Bin {
        size: *size,
        room: *room,
        count: 1,
    });
    let empty = |size, count| Bin {
        size,
        room: sizes.room(size),
        count,
    };
    let starting = usual_first(&supply.starting, sizes);
    let starting = starting.map(|(size, count)| empty(size, count));
    let mut bins = Bins {
        sizes,
        bins: rooms.chain(starting).collect(),
    };
    let mut there = supply.registered.clone();
    for (size, n) in &supply.starting {
        *there.entry(*size).or_default() += n;
    }
    let mut needed = ContainerCounts::new();
    for demand in demands {
        for (slot, wanted) in sizes.largest_first(demand) {
            let left = bins.put(slot, wanted);
            if left == 0 {
                continue;
            }
            let size = sizes.container_for(slot);
            let each = sizes.room(size).times(sizes, slot).max(1);
            let more = left.div_ceil(each);
            let allowed = limits.room(&there, size, more);
            if allowed > 0 {
                bins.bins.push(empty(size, allowed));
                bins.put(slot, left);
                *there.entry(size).or_default() += allowed;
                *needed.entry(size).or_default() += allowed;
            }
            if allowed < more {
                return needed;
            }
        }
    }
    needed
}

/// What is to be asked of the resource provider; with `spread`, no node shall have more than its share of all TaskManagers.
pub(crate) fn plan(
    demands: &[SlotCounts],
    supply: &Supply,
    limits: &Limits,
    spread: bool,
) -> ContainerPlan {
    // One node at least is left to ask for; where their number is not known, none is avoided.
    let avoidable = supply.nodes.saturating_sub(1) as usize;
    let surplus = supply.troubled.len().saturating_sub(avoidable);
    let avoid: BTreeSet<NodeName> = supply.troubled[surplus..].iter().cloned().collect();
    let needed = needed(demands, supply, limits);
    let ask = |(profile, pending): (&ResourceProfile, &u32)| ContainerAsk {
        profile: *profile,
        pending: *pending,
    };
    let all = [&supply.registered, &supply.starting, &needed];
    let all: u32 = all.iter().flat_map(|counts| counts.values()).sum();
    let usable = supply.nodes.saturating_sub(avoid.len() as u32);
    ContainerPlan {
        asks: needed.iter().map(ask).collect(),
        most_per_node: (spread && usable > 0 && !needed.is_empty()).then(|| all.div_ceil(usable)),
        avoid,
    }
}

#[cfg(test)]
mod tests;
