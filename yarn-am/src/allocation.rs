//! What is asked of the ResourceManager at each heartbeat, and what its answers mean: a pure part, without clock or connection.
//!
//! An ask on YARN is absolute: it replaces the one before of the same priority. The ResourceManager counts down what it grants,
//! so this side keeps the same count and asks again only when the plan differs from it. YARN knows one size for each priority, so
//! each size that is ever asked for has a priority of its own, by which a grant tells what it was asked as.
//!
//! A node may be unwanted: one that is avoided, or one that has its share where load is spread. What is granted there is given back,
//! and machines that are unwanted as a whole are blacklisted.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::id::{NodeName, ResourceId};
use spindle_common::resource::{ByteSize, ResourceProfile};
use spindle_hadoop::proto::common::Token;
use spindle_hadoop::proto::yarn as pb;
use spindle_hadoop::yarn::{ContainerId, NodeId, launch};
use spindle_jobmanager::message::{Container, ContainerPlan, ResourceEvent};

use crate::exit_status::describe;

/// Grants on unwanted nodes that are given back in a row. Then one is taken: the scheduler has no better place.
const UNWANTED_GRANTS: u32 = 10;

/// A container that this application holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Its id.
    pub container: ContainerId,
    /// Its NodeManager.
    pub node: NodeId,
    /// Size that it was asked with.
    pub asked: ResourceProfile,
    /// Lets the NodeManager start it.
    pub token: Option<Token>,
    /// Whether its TaskExecutor has been started, as far as the NodeManager said.
    pub started: bool,
}

/// Containers of one size.
#[derive(Debug)]
struct Size {
    priority: i32,
    /// What the ResourceManager still owes by its own count; unknown when it has to be told anew.
    owed: Option<u32>,
    /// Whether it was said that the cluster gives no container so large.
    refused: bool,
}

/// The books of one attempt.
#[derive(Debug)]
pub struct Allocation {
    /// Label of the nodes that are asked for; the application's if there is none.
    label: Option<String>,
    largest: Option<ResourceProfile>,
    plan: Option<ContainerPlan>,
    /// Every size that was ever asked for.
    sizes: BTreeMap<ResourceProfile, Size>,
    /// What the ResourceManager was told to keep away from.
    blacklist: BTreeSet<String>,
    held: BTreeMap<ResourceId, Held>,
    /// Given back, and not yet confirmed: sent again after a failure.
    released: BTreeMap<ContainerId, bool>,
    known_nodes: BTreeSet<NodeId>,
    node_count: Option<u32>,
    unwanted_in_row: u32,
}

impl Allocation {
    /// The books of an attempt that runs on `own` and asks for nodes with a label.
    pub fn new(own: Option<NodeId>, label: Option<String>) -> Self {
        Self {
            label,
            largest: None,
            plan: None,
            sizes: BTreeMap::new(),
            blacklist: BTreeSet::new(),
            held: BTreeMap::new(),
            released: BTreeMap::new(),
            known_nodes: own.into_iter().collect(),
            node_count: None,
            unwanted_in_row: 0,
        }
    }

    /// The attempt is registered, for the first time or again. All that is outstanding is sent anew.
    pub fn registered(&mut self, answer: &pb::RegisterApplicationMasterResponse) {
        if let Some(largest) = &answer.maximum_capability {
            self.largest = Some(profile_of(largest));
        }
        for kept in &answer.containers_from_previous_attempts {
            // They are of an attempt whose JobManager is gone; after a restart of the ResourceManager they are our own.
            if let Ok(id) = ContainerId::try_from(kept.id.as_ref())
                && !self.held.contains_key(&resource_of(id))
            {
                self.released.insert(id, false);
            }
        }
        self.send_again();
    }

    /// An answer was lost for good, or nothing of a request was applied: the next one says everything.
    pub fn send_again(&mut self) {
        for size in self.sizes.values_mut() {
            size.owed = None;
        }
        self.blacklist.clear();
        for sent in self.released.values_mut() {
            *sent = false;
        }
    }

    /// The ResourceManager refused what was asked, and applied nothing. An ask for no container would be refused too, so that
    /// none is made. Answers with the setting at fault, if one can be named.
    pub fn refused(&mut self) -> Option<String> {
        self.send_again();
        for size in self.sizes.values_mut() {
            size.owed = Some(0);
        }
        let label = self.label.as_ref()?;
        Some(format!("yarn.taskmanager.node-label is `{label}`"))
    }

    /// Replaces the plan; answers with refusals of what can never be had.
    pub fn plan(&mut self, plan: ContainerPlan) -> Vec<ResourceEvent> {
        let before = self.plan.as_ref();
        if before.is_none_or(|b| (&b.avoid, b.most_per_node) != (&plan.avoid, plan.most_per_node)) {
            self.unwanted_in_row = 0;
        }
        let mut refusals = Vec::new();
        for ask in &plan.asks {
            let refusal = self.refusal(ask.profile);
            let next = self.sizes.len() as i32 + 1;
            let size = self.sizes.entry(ask.profile).or_insert(Size {
                priority: next,
                owed: Some(0),
                refused: false,
            });
            if let Some(reason) = refusal
                && !size.refused
            {
                size.refused = true;
                refusals.push(ResourceEvent::Refused {
                    profile: Some(ask.profile),
                    reason,
                });
            }
        }
        for (profile, size) in &mut self.sizes {
            // Who asks for it again shall hear of it again.
            size.refused &= plan.asks.iter().any(|ask| ask.profile == *profile);
        }
        self.plan = Some(plan);
        refusals
    }

    /// Gives a container back; it may have been started.
    pub fn release(&mut self, resource: &ResourceId) {
        if let Some(held) = self.held.remove(resource) {
            self.released.insert(held.container, false);
        }
    }

    /// A container that is held.
    pub fn held(&self, resource: &ResourceId) -> Option<&Held> {
        self.held.get(resource)
    }

    /// Notes that the NodeManager took a start.
    pub fn started(&mut self, resource: &ResourceId) {
        if let Some(held) = self.held.get_mut(resource) {
            held.started = true;
        }
    }

    /// Whether containers are awaited or on their way, so that heartbeats should be quick.
    pub fn is_waiting(&self) -> bool {
        self.awaits() || self.held.values().any(|held| !held.started)
    }

    /// Whether the next request would say something new.
    pub fn has_news(&self) -> bool {
        let mut sizes = self.sizes.iter();
        sizes.any(|(profile, size)| size.owed != Some(self.wanted(*profile)))
            || self.released.values().any(|sent| !sent)
            || (self.awaits() && self.blacklist != self.to_blacklist())
    }

    /// The next heartbeat.
    pub fn request(&mut self, progress: f32) -> pb::AllocateRequest {
        let mut ask = Vec::new();
        let wanted: Vec<_> = self
            .sizes
            .keys()
            .map(|of| (*of, self.wanted(*of)))
            .collect();
        for (profile, wanted) in wanted {
            // What is refused has a size that would fail the whole call, even for no container.
            let askable = self.plan.is_some() && self.refusal(profile).is_none();
            let label = self.label.clone();
            let Some(size) = self.sizes.get_mut(&profile) else {
                continue;
            };
            if askable && size.owed != Some(wanted) {
                ask.push(pb::ResourceRequest {
                    priority: Some(pb::Priority {
                        priority: Some(size.priority),
                    }),
                    resource_name: Some("*".to_owned()),
                    capability: Some(launch::resource(
                        profile.memory.as_mib_ceil(),
                        profile.vcores,
                    )),
                    num_containers: Some(i32::try_from(wanted).unwrap_or(i32::MAX)),
                    relax_locality: Some(true),
                    // Allowed for `*` only, which is all that is asked.
                    node_label_expression: label,
                    ..Default::default()
                });
            }
            size.owed = Some(wanted);
        }
        let blacklist = self.to_blacklist();
        let difference = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
            a.difference(b).cloned().collect()
        };
        let additions = difference(&blacklist, &self.blacklist);
        let removals = difference(&self.blacklist, &blacklist);
        let blacklist_request = (!additions.is_empty() || !removals.is_empty()).then_some(
            pb::ResourceBlacklistRequest {
                blacklist_additions: additions,
                blacklist_removals: removals,
            },
        );
        self.blacklist = blacklist;
        let unsent = self.released.iter_mut().filter(|(_, sent)| !**sent);
        let release = unsent
            .map(|(id, sent)| {
                *sent = true;
                pb::ContainerId::from(*id)
            })
            .collect();
        pb::AllocateRequest {
            ask,
            release,
            blacklist_request,
            progress: Some(progress.clamp(0.0, 1.0)),
            ..Default::default()
        }
    }

    /// Takes an answer in, and tells what it means to the JobManager.
    pub fn answer(&mut self, answer: &pb::AllocateResponse) -> Vec<ResourceEvent> {
        let mut events = Vec::new();
        for report in &answer.updated_nodes {
            self.node_changed(report);
        }
        let count = u32::try_from(answer.num_cluster_nodes()).unwrap_or(0);
        if answer.num_cluster_nodes.is_some() && self.node_count != Some(count) {
            self.node_count = Some(count);
            events.push(ResourceEvent::Nodes { count });
        }
        let granted: Vec<Container> = answer
            .allocated_containers
            .iter()
            .filter_map(|container| self.granted(container))
            .collect();
        if !granted.is_empty() {
            events.push(ResourceEvent::Allocated(granted));
        }
        for status in &answer.completed_container_statuses {
            events.extend(self.completed(status));
        }
        events
    }

    /// How many more containers of a size are wanted, as far as they can be had.
    fn wanted(&self, profile: ResourceProfile) -> u32 {
        let asks = self.plan.iter().flat_map(|plan| &plan.asks);
        let mut asks = asks.filter(|ask| ask.profile == profile);
        let pending = asks.next().map_or(0, |ask| ask.pending);
        match self.refusal(profile) {
            Some(_) => 0,
            None => pending,
        }
    }

    fn awaits(&self) -> bool {
        self.sizes.keys().any(|profile| self.wanted(*profile) > 0)
    }

    fn refusal(&self, profile: ResourceProfile) -> Option<String> {
        let largest = self.largest?;
        let (key, most) = if profile.memory > largest.memory {
            (
                "taskmanager.memory.process.size",
                largest.memory.to_string(),
            )
        } else if profile.vcores > largest.vcores {
            ("yarn.containers.vcores", largest.vcores.to_string())
        } else {
            return None;
        };
        Some(format!(
            "a TaskManager's container of {profile} is larger than the largest that this cluster gives, {largest}; \
             lower {key} to {most} or less, or what the job's slot sharing group wants for its slots"
        ))
    }

    /// The size that a grant was asked as: that of its priority, else the largest that it holds.
    fn asked_as(&self, granted: &pb::Container, size: ResourceProfile) -> ResourceProfile {
        let priority = granted.priority.as_ref().and_then(|p| p.priority);
        let sizes = || self.sizes.iter();
        let by_priority = sizes().find(|(_, of)| Some(of.priority) == priority);
        let holds = |asked: &ResourceProfile| asked.memory <= size.memory;
        let by_size = || sizes().rfind(|(asked, _)| holds(asked));
        by_priority
            .or_else(by_size)
            .map_or(size, |(asked, _)| *asked)
    }

    /// Why a node is unwanted, if it is.
    fn unwanted(&self, node: &NodeName) -> Option<&'static str> {
        let plan = self.plan.as_ref()?;
        let held = || {
            let nodes = self.held.values().map(|held| held.node.to_string());
            nodes.filter(|held| held == node.as_str()).count() as u32
        };
        if plan.avoid.contains(node) {
            Some("its node is avoided")
        } else {
            let most = plan.most_per_node?;
            (held() >= most).then_some("its node has its share")
        }
    }

    fn granted(&mut self, granted: &pb::Container) -> Option<Container> {
        let (Ok(id), Ok(node)) = (
            ContainerId::try_from(granted.id.as_ref()),
            NodeId::try_from(granted.node_id.as_ref()),
        ) else {
            tracing::warn!(
                ?granted,
                "the ResourceManager granted a container without a name"
            );
            return None;
        };
        let resource = resource_of(id);
        if self.held.contains_key(&resource) || self.released.contains_key(&id) {
            return None;
        }
        self.known_nodes.insert(node.clone());
        let profile = granted.resource.as_ref().map_or(NOTHING, profile_of);
        let asked = self.asked_as(granted, profile);
        if let Some(size) = self.sizes.get_mut(&asked) {
            size.owed = size.owed.map(|owed| owed.saturating_sub(1));
        }
        let name = NodeName::new(node.to_string());
        if let Some(reason) = self.unwanted(&name)
            && self.unwanted_in_row < UNWANTED_GRANTS
        {
            self.unwanted_in_row += 1;
            tracing::info!(container_id = %id, node = %node, reason, "gave a container back");
            self.released.insert(id, false);
            return None;
        }
        self.unwanted_in_row = 0;
        if let Some(plan) = &mut self.plan {
            // Until the JobManager has heard of it and says what it wants now.
            for ask in plan.asks.iter_mut().filter(|ask| ask.profile == asked) {
                ask.pending = ask.pending.saturating_sub(1);
            }
        }
        let held = Held {
            container: id,
            node,
            asked,
            token: granted.container_token.clone(),
            started: false,
        };
        self.held.insert(resource.clone(), held);
        Some(Container {
            resource,
            node: name,
            profile,
            asked,
        })
    }

    fn completed(&mut self, status: &pb::ContainerStatus) -> Option<ResourceEvent> {
        let id = ContainerId::try_from(status.container_id.as_ref()).ok()?;
        if self.released.remove(&id).is_some() {
            return None;
        }
        let resource = resource_of(id);
        // Others are of an attempt before this.
        self.held.remove(&resource)?;
        let ending = describe(status);
        Some(ResourceEvent::Completed {
            resource,
            reason: ending.reason,
            platform: ending.platform,
        })
    }

    fn node_changed(&mut self, report: &pb::NodeReport) {
        let Ok(node) = NodeId::try_from(report.node_id.as_ref()) else {
            return;
        };
        let state = report.node_state();
        tracing::info!(%node, ?state, "node changed");
        if matches!(state, pb::NodeState::NsNew | pb::NodeState::NsRunning) {
            self.known_nodes.insert(node);
        } else {
            self.known_nodes.remove(&node);
        }
    }

    /// YARN knows machines by their host names only. A host is named if no other NodeManager is known on it and another
    /// host is: else there might be nowhere to go. Single NodeManagers are kept away from by giving grants back.
    fn to_blacklist(&self) -> BTreeSet<String> {
        let avoided = |node: &NodeId| self.unwanted(&NodeName::new(node.to_string())).is_some();
        let usable: BTreeSet<&str> = self
            .known_nodes
            .iter()
            .filter(|node| !avoided(node))
            .map(|node| node.host.as_str())
            .collect();
        if usable.is_empty() {
            return BTreeSet::new();
        }
        let hosts = self.known_nodes.iter().filter(|node| avoided(node));
        hosts
            .map(|node| node.host.as_str())
            .filter(|host| !usable.contains(host))
            .map(str::to_owned)
            .collect()
    }
}

const NOTHING: ResourceProfile = ResourceProfile {
    memory: ByteSize::from_mib(0),
    vcores: 0,
};

fn resource_of(id: ContainerId) -> ResourceId {
    ResourceId::new(id.to_string())
}

/// The map of a resource wins over its two plain fields.
fn profile_of(resource: &pb::Resource) -> ResourceProfile {
    let entry = |key: &str, plain: i64| {
        let entry = resource
            .resource_value_map
            .iter()
            .find(|entry| entry.key == key);
        u64::try_from(entry.map_or(plain, |entry| entry.value())).unwrap_or(0)
    };
    ResourceProfile {
        memory: ByteSize::from_mib(entry("memory-mb", resource.memory())),
        vcores: u32::try_from(entry("vcores", i64::from(resource.virtual_cores())))
            .unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests;
