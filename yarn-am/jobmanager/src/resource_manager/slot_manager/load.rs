//! TaskManagers by how many leases they have, for the next lease to go where the fewest are.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::id::{NodeName, ResourceId};

/// Without a node, all TaskManagers count as on one.
type Node = Option<NodeName>;

#[derive(Debug, Default)]
pub(super) struct ByLoad {
    /// Leases on each node, those of TaskManagers without room included.
    leases: BTreeMap<Node, usize>,
    /// The usual ones, and those that were made to measure, which are left to what fits nowhere else.
    sets: [Set; 2],
}

#[derive(Debug, Default)]
struct Set {
    nodes: BTreeSet<(usize, Node)>,
    on: BTreeMap<Node, BTreeSet<(usize, ResourceId)>>,
}

/// A TaskManager that was chosen.
#[derive(Debug)]
pub(super) struct Found {
    set: usize,
    node: Node,
    load: usize,
    resource: ResourceId,
}

impl Found {
    pub(super) const fn resource(&self) -> &ResourceId {
        &self.resource
    }
}

impl ByLoad {
    /// Notes leases on a node; before any TaskManager is added there.
    pub(super) fn note(&mut self, node: Option<&NodeName>, leases: usize) {
        // Without nodes, one is as good as another.
        if let Some(node) = node {
            *self.leases.entry(Some(node.clone())).or_default() += leases;
        }
    }

    pub(super) fn add(
        &mut self,
        made_to_measure: bool,
        node: Node,
        load: usize,
        resource: ResourceId,
    ) {
        let set = &mut self.sets[usize::from(made_to_measure)];
        set.on.entry(node).or_default().insert((load, resource));
    }

    /// The one with room that has the fewest leases, on the node that has the fewest.
    pub(super) fn take(&mut self, has_room: impl Fn(&ResourceId) -> bool) -> Option<Found> {
        for (index, set) in self.sets.iter_mut().enumerate() {
            if set.nodes.is_empty() {
                let load = |node: &Node| self.leases.get(node).copied().unwrap_or(0);
                set.nodes = set
                    .on
                    .keys()
                    .map(|node| (load(node), node.clone()))
                    .collect();
            }
            for (_, node) in &set.nodes {
                let Some(managers) = set.on.get_mut(node) else {
                    continue;
                };
                let found = managers
                    .iter()
                    .find(|(_, resource)| has_room(resource))
                    .cloned();
                if let Some(found) = found {
                    managers.remove(&found);
                    let (load, resource) = found;
                    return Some(Found {
                        set: index,
                        node: node.clone(),
                        load,
                        resource,
                    });
                }
            }
        }
        None
    }

    /// Notes that it was given a lease, and whether it has room for more.
    pub(super) fn leased(&mut self, found: Found, keep: bool) {
        let Found {
            set,
            node,
            load,
            resource,
        } = found;
        if keep {
            let managers = self.sets[set].on.entry(node.clone()).or_default();
            managers.insert((load + 1, resource));
        }
        if node.is_some() {
            let leases = self.leases.entry(node.clone()).or_default();
            let before = *leases;
            *leases += 1;
            for set in &mut self.sets {
                if set.nodes.remove(&(before, node.clone())) {
                    set.nodes.insert((before + 1, node.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_load(managers: &[(bool, &str, usize, &str)], spread: bool) -> ByLoad {
        let mut by_load = ByLoad::default();
        for (made_to_measure, node, load, resource) in managers {
            let node = spread.then(|| NodeName::new(*node));
            by_load.note(node.as_ref(), *load);
            by_load.add(*made_to_measure, node, *load, ResourceId::new(*resource));
        }
        by_load
    }

    fn take(by_load: &mut ByLoad, n: usize) -> String {
        let mut taken = String::new();
        for _ in 0..n {
            let found = by_load.take(|_| true).unwrap();
            taken += found.resource().as_str();
            by_load.leased(found, true);
        }
        taken
    }

    const MANAGERS: &[(bool, &str, usize, &str)] = &[
        (false, "x", 0, "a"),
        (false, "x", 2, "b"),
        (false, "y", 1, "c"),
        (true, "z", 0, "d"),
    ];

    #[test]
    fn the_task_manager_with_the_fewest_leases_is_next() {
        assert_eq!(take(&mut by_load(MANAGERS, false), 5), "aacab");
    }

    #[test]
    fn spread_out_the_node_with_the_fewest_leases_is_next() {
        assert_eq!(take(&mut by_load(MANAGERS, true), 5), "cacac");
    }

    #[test]
    fn what_was_made_to_measure_is_taken_when_nothing_else_has_room() {
        let mut by_load = by_load(MANAGERS, true);
        let found = by_load.take(|resource| resource.as_str() == "d").unwrap();
        assert_eq!(found.resource().as_str(), "d");
        by_load.leased(found, false);
        assert!(by_load.take(|resource| resource.as_str() == "d").is_none());
    }
}
