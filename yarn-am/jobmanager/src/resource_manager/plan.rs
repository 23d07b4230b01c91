//! How many containers are wanted, and where not: anew each turn, from what is wanted and what is there.

use std::collections::BTreeSet;

use spindle_common::id::NodeName;
use spindle_common::resource::ResourceProfile;

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
    /// Nodes on which a start failed lately, the oldest failure first.
    pub(crate) troubled: Vec<NodeName>,
    /// Nodes there are; 0 if that is not known.
    pub(crate) nodes: u32,
}

/// What each container is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) profile: ResourceProfile,
    pub(crate) slots_per_task_manager: u32,
}

/// Containers wanted in all, those that are starting included.
pub(crate) fn wanted(demand: Demand, limits: Limits) -> u32 {
    demand
        .missing_slots
        .div_ceil(limits.slots_per_task_manager.max(1))
}

/// What is to be asked of the resource provider.
pub(crate) fn plan(demand: Demand, supply: &Supply, limits: Limits) -> ContainerPlan {
    // One node at least is left to ask for; where their number is not known, none is avoided.
    let avoidable = supply.nodes.saturating_sub(1) as usize;
    let surplus = supply.troubled.len().saturating_sub(avoidable);
    ContainerPlan {
        profile: limits.profile,
        pending: wanted(demand, limits).saturating_sub(supply.starting),
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
        }
    }

    proptest! {
        #[test]
        fn what_is_pending_and_starting_holds_the_missing_slots_and_no_container_more(
            missing_slots in 0_u32..1000, starting in 0_u32..50, slots in 1_u32..8, nodes in 0_u32..6, troubled in 0_usize..6,
        ) {
            let troubled = (0..troubled).map(|n| NodeName::new(format!("node-{n}"))).collect();
            let supply = Supply { starting, troubled, nodes };
            let plan = plan(Demand { missing_slots }, &supply, limits(slots));
            prop_assert!((plan.pending + starting) * slots >= missing_slots);
            prop_assert!(plan.pending == 0 || (plan.pending + starting - 1) * slots < missing_slots);
            prop_assert!(plan.avoid.is_empty() || plan.avoid.len() < nodes as usize);
        }
    }

    #[test]
    fn when_all_nodes_had_trouble_the_one_with_the_oldest_is_asked_again() {
        let troubled = ["b", "c", "a"].map(NodeName::new).to_vec();
        let supply = Supply {
            starting: 0,
            troubled,
            nodes: 3,
        };
        let plan = plan(Demand { missing_slots: 1 }, &supply, limits(1));
        let avoid: Vec<&str> = plan.avoid.iter().map(NodeName::as_str).collect();
        assert_eq!(avoid, ["a", "c"]);
    }
}
