//! How many containers are wanted, and where not: anew each turn, from what is wanted and what is there.

use std::collections::BTreeSet;

use spindle_common::config::options;
use spindle_common::id::NodeName;
use spindle_common::resource::ResourceProfile;

use crate::config::{JobManagerConfig, ResourceLimits};
use crate::message::ContainerPlan;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Slots that jobs lack and no registered TaskManager has.
    pub(crate) missing_slots: u32,
}

/// What is there.
#[derive(Debug)]
pub(crate) struct Supply {
    /// Containers granted whose TaskManager has not registered.
    pub(crate) starting: u32,
    /// TaskManagers that are registered.
    pub(crate) registered: u32,
    /// Nodes on which a start failed lately, the oldest failure first.
    pub(crate) troubled: Vec<NodeName>,
    /// Nodes there are; 0 if that is not known.
    pub(crate) nodes: u32,
}

/// What each container is, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) profile: ResourceProfile,
    pub(crate) slots_per_task_manager: u32,
    /// Those of registered TaskManagers included.
    pub(crate) containers: Option<u32>,
}

/// How many containers the limits of the configuration allow.
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

/// Containers wanted in all, those that are starting included.
pub(crate) fn wanted(demand: Demand, limits: Limits) -> u32 {
    demand
        .missing_slots
        .div_ceil(limits.slots_per_task_manager.max(1))
}

/// Containers that may come, beyond those there are.
pub(crate) fn room(starting: u32, registered: u32, limits: Limits) -> u32 {
    limits.containers.map_or(u32::MAX, |most| {
        most.saturating_sub(starting.saturating_add(registered))
    })
}

/// What is to be asked of the resource provider.
pub(crate) fn plan(demand: Demand, supply: &Supply, limits: Limits) -> ContainerPlan {
    // One node at least is left to ask for; where their number is not known, none is avoided.
    let avoidable = supply.nodes.saturating_sub(1) as usize;
    let surplus = supply.troubled.len().saturating_sub(avoidable);
    ContainerPlan {
        profile: limits.profile,
        pending: wanted(demand, limits)
            .saturating_sub(supply.starting)
            .min(room(supply.starting, supply.registered, limits)),
        avoid: supply.troubled[surplus..]
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spindle_common::resource::ByteSize;

    use super::*;

    fn limits(slots_per_task_manager: u32) -> Limits {
        let (memory, vcores) = (ByteSize::from_mib(512), 1);
        Limits {
            profile: ResourceProfile { memory, vcores },
            slots_per_task_manager,
            containers: None,
        }
    }

    #[test]
    fn the_narrowest_limit_holds_and_is_named() {
        let mut config = JobManagerConfig {
            slots_per_task_manager: 2,
            ..JobManagerConfig::default()
        };
        assert_eq!(Ceiling::of(&config), None);
        config.limits.slots = Some(7);
        let ceiling =
            |config: &JobManagerConfig| Ceiling::of(config).map(|c| (c.containers, c.limit));
        let of_slots = (3, "slotmanager.number-of-slots.max: 7".to_owned());
        assert_eq!(ceiling(&config), Some(of_slots));
        config.limits.memory = Some(ByteSize::from_mib(2047));
        config.limits.cpu = Some(2.5);
        let (containers, limit) = ceiling(&config).unwrap();
        assert_eq!(containers, 1);
        assert!(limit.starts_with("slotmanager.max-total-resource.memory: "));
        config.limits.memory = None;
        let of_cpu = (2, "slotmanager.max-total-resource.cpu: 2.5".to_owned());
        assert_eq!(ceiling(&config), Some(of_cpu));
    }

    proptest! {
        #[test]
        fn what_is_pending_and_starting_holds_the_missing_slots_and_no_container_more(
            missing_slots in 0_u32..1000, starting in 0_u32..50, slots in 1_u32..8, nodes in 0_u32..6, troubled in 0_usize..6,
            registered in 0_u32..50,
        ) {
            let troubled = (0..troubled).map(|n| NodeName::new(format!("node-{n}"))).collect();
            let supply = Supply { starting, registered, troubled, nodes };
            let plan = plan(Demand { missing_slots }, &supply, limits(slots));
            prop_assert!((plan.pending + starting) * slots >= missing_slots);
            prop_assert!(plan.pending == 0 || (plan.pending + starting - 1) * slots < missing_slots);
            prop_assert!(plan.avoid.is_empty() || plan.avoid.len() < nodes as usize);
        }

        #[test]
        fn no_plan_goes_beyond_the_limit(
            missing_slots in 0_u32..1000, starting in 0_u32..20, registered in 0_u32..20, most in 0_u32..50,
        ) {
            let supply = Supply { starting, registered, troubled: Vec::new(), nodes: 0 };
            let limits = Limits { containers: Some(most), ..limits(1) };
            let plan = plan(Demand { missing_slots }, &supply, limits);
            prop_assert!(plan.pending == 0 || plan.pending + starting + registered <= most);
        }
    }

    #[test]
    fn when_all_nodes_had_trouble_the_one_with_the_oldest_is_asked_again() {
        let troubled = ["b", "c", "a"].map(NodeName::new).to_vec();
        let supply = Supply {
            registered: 0,
            starting: 0,
            troubled,
            nodes: 3,
        };
        let plan = plan(Demand { missing_slots: 1 }, &supply, limits(1));
        let avoid: Vec<&str> = plan.avoid.iter().map(NodeName::as_str).collect();
        assert_eq!(avoid, ["a", "c"]);
    }
}
