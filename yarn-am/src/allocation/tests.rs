//! Transcripts: what the JobManager and the ResourceManager say, and below each line what was sent or told for it.

use spindle_hadoop::yarn::{ApplicationAttemptId, ApplicationId};
use spindle_jobmanager::message::ContainerAsk;

use super::*;

const ATTEMPT: ApplicationAttemptId = ApplicationAttemptId {
    application: ApplicationId {
        cluster_timestamp: 1,
        id: 1,
    },
    attempt: 1,
};

/// Asks of so many MiB and so many containers each.
fn plan(asks: &[(u64, u32)], avoid: &[&str], most_per_node: Option<u32>) -> ContainerPlan {
    let ask = |(mib, pending): &(u64, u32)| ContainerAsk {
        profile: ResourceProfile {
            memory: ByteSize::from_mib(*mib),
            vcores: 1,
        },
        pending: *pending,
    };
    ContainerPlan {
        asks: asks.iter().filter(|(_, n)| *n > 0).map(ask).collect(),
        avoid: avoid.iter().map(|node| NodeName::new(*node)).collect(),
        most_per_node,
    }
}

struct Story {
    allocation: Allocation,
    transcript: String,
}

impl Story {
    fn new() -> Self {
        let mut allocation = Allocation::new(Some(NodeId::new("a", 1)), None);
        allocation.registered(&pb::RegisterApplicationMasterResponse {
            maximum_capability: Some(launch::resource(4096, 4)),
            ..Default::default()
        });
        Self {
            allocation,
            transcript: String::new(),
        }
    }

    fn line(&mut self, text: &str) {
        self.transcript += text;
        self.transcript.push('\n');
    }

    fn plan_of(&mut self, memory: u64, pending: u32, avoid: &[&str]) {
        self.line(&format!(
            "plan {pending} of {memory} MiB avoiding {avoid:?}"
        ));
        self.plan_all(&[(memory, pending)], avoid, None);
    }

    fn plan_all(&mut self, asks: &[(u64, u32)], avoid: &[&str], most_per_node: Option<u32>) {
        for refusal in self.allocation.plan(plan(asks, avoid, most_per_node)) {
            let ResourceEvent::Refused { profile, reason } = refusal else {
                panic!("{refusal:?}");
            };
            let profile = profile.map_or_else(String::new, |profile| profile.to_string());
            self.line(&format!("  refused {profile}: {reason}"));
        }
    }

    fn plan_sizes(&mut self, asks: &[(u64, u32)]) {
        self.line(&format!("plan {asks:?}"));
        self.plan_all(asks, &[], None);
    }

    fn plan_spread(&mut self, pending: u32, most_per_node: u32) {
        self.line(&format!(
            "plan {pending}, at most {most_per_node} on a node"
        ));
        self.plan_all(&[(512, pending)], &[], Some(most_per_node));
    }

    fn plan(&mut self, pending: u32, avoid: &[&str]) {
        self.plan_of(512, pending, avoid);
    }

    fn beat(&mut self) {
        let request = self.allocation.request(0.5);
        let mut said = Vec::new();
        for ask in &request.ask {
            let memory = ask.capability.as_ref().map_or(0, pb::Resource::memory);
            said.push(format!(
                "ask {} of {memory} MiB at {}",
                ask.num_containers(),
                ask.resource_name()
            ));
        }
        for id in &request.release {
            said.push(format!("release {}", id.id()));
        }
        if let Some(blacklist) = &request.blacklist_request {
            said.push(format!(
                "blacklist +{:?} -{:?}",
                blacklist.blacklist_additions, blacklist.blacklist_removals
            ));
        }
        let said = if said.is_empty() {
            "nothing new".to_owned()
        } else {
            said.join(", ")
        };
        self.line(&format!("-> {said}"));
    }

    fn answer(&mut self, what: &str, answer: &pb::AllocateResponse) {
        self.line(&format!("<- {what}"));
        for event in self.allocation.answer(answer) {
            let text = match event {
                ResourceEvent::Allocated(containers) => {
                    let names: Vec<_> = containers
                        .iter()
                        .map(|one| {
                            format!(
                                "{} on {} with {}",
                                short(&one.resource),
                                one.node,
                                one.profile
                            )
                        })
                        .collect();
                    format!("allocated {}", names.join(", "))
                }
                ResourceEvent::Completed {
                    resource,
                    reason,
                    platform,
                } => {
                    let whose = if platform { "platform" } else { "own" };
                    format!("completed {} ({whose}): {reason}", short(&resource))
                }
                ResourceEvent::Nodes { count } => format!("{count} nodes"),
                other @ (ResourceEvent::LaunchFailed { .. } | ResourceEvent::Refused { .. }) => {
                    format!("{other:?}")
                }
            };
            self.line(&format!("  {text}"));
        }
    }

    fn grant(&mut self, grants: &[(u64, &str)]) {
        let allocated_containers = grants.iter().map(|(id, node)| granted(*id, node)).collect();
        let answer = pb::AllocateResponse {
            allocated_containers,
            ..Default::default()
        };
        self.answer(&format!("grants {grants:?}"), &answer);
    }

    fn complete(&mut self, id: u64, code: i32) {
        let answer = pb::AllocateResponse {
            completed_container_statuses: vec![pb::ContainerStatus {
                container_id: Some(container(id).into()),
                exit_status: Some(code),
                diagnostics: Some(String::new()),
                ..Default::default()
            }],
            ..Default::default()
        };
        self.answer(&format!("{id} ended with {code}"), &answer);
    }

    fn check(&self, expected: &str) {
        let expected: Vec<&str> = expected
            .lines()
            .map(|line| line.strip_prefix("        ").unwrap_or(line))
            .collect();
        assert_eq!(
            self.transcript.trim_end(),
            expected.join("\n").trim(),
            "\n{}",
            self.transcript
        );
    }
}

fn container(id: u64) -> ContainerId {
    ContainerId {
        attempt: ATTEMPT,
        id,
    }
}

fn resource(id: u64) -> ResourceId {
    ResourceId::new(container(id).to_string())
}

fn short(resource: &ResourceId) -> String {
    let id: ContainerId = resource.as_str().parse().unwrap();
    id.id.to_string()
}

fn granted(id: u64, node: &str) -> pb::Container {
    let node: NodeId = node.parse().unwrap();
    pb::Container {
        id: Some(container(id).into()),
        node_id: Some(node.into()),
        resource: Some(launch::resource(512, 1)),
        ..Default::default()
    }
}

#[test]
fn an_ask_is_sent_once_and_grants_count_it_down() {
    let mut story = Story::new();
    story.plan(3, &[]);
    story.beat();
    story.beat();
    story.grant(&[(2, "a:1"), (3, "b:1")]);
    story.beat();
    story.plan(1, &[]);
    story.beat();
    story.grant(&[(4, "a:1")]);
    story.plan(0, &[]);
    story.beat();
    story.check(
        "plan 3 of 512 MiB avoiding []
        -> ask 3 of 512 MiB at *
        -> nothing new
        <- grants [(2, \"a:1\"), (3, \"b:1\")]
          allocated 2 on a:1 with 512 MiB, 1 vcores, 3 on b:1 with 512 MiB, 1 vcores
        -> nothing new
        plan 1 of 512 MiB avoiding []
        -> nothing new
        <- grants [(4, \"a:1\")]
          allocated 4 on a:1 with 512 MiB, 1 vcores
        plan 0 of 512 MiB avoiding []
        -> nothing new",
    );
    assert!(
        story.allocation.is_waiting(),
        "the three are not started yet"
    );
    for id in [2, 3, 4] {
        story.allocation.started(&resource(id));
    }
    assert!(!story.allocation.is_waiting() && !story.allocation.has_news());
}

#[test]
fn a_plan_that_changes_is_asked_anew_and_one_that_ends_is_withdrawn() {
    let mut story = Story::new();
    story.plan(2, &[]);
    story.beat();
    story.plan(5, &[]);
    assert!(story.allocation.has_news());
    story.beat();
    story.plan(0, &[]);
    story.beat();
    story.check(
        "plan 2 of 512 MiB avoiding []
        -> ask 2 of 512 MiB at *
        plan 5 of 512 MiB avoiding []
        -> ask 5 of 512 MiB at *
        plan 0 of 512 MiB avoiding []
        -> ask 0 of 512 MiB at *",
    );
}

#[test]
fn the_same_grant_twice_is_one_container() {
    let mut story = Story::new();
    story.plan(2, &[]);
    story.beat();
    story.grant(&[(2, "a:1")]);
    story.grant(&[(2, "a:1")]);
    story.plan(1, &[]);
    story.beat();
    story.check(
        "plan 2 of 512 MiB avoiding []
        -> ask 2 of 512 MiB at *
        <- grants [(2, \"a:1\")]
          allocated 2 on a:1 with 512 MiB, 1 vcores
        <- grants [(2, \"a:1\")]
        plan 1 of 512 MiB avoiding []
        -> nothing new",
    );
}

#[test]
fn what_is_given_back_is_sent_once_and_its_end_is_no_event() {
    let mut story = Story::new();
    story.plan(1, &[]);
    story.beat();
    story.grant(&[(2, "a:1"), (3, "a:1")]);
    story.plan(0, &[]);
    story.allocation.release(&resource(3));
    story.beat();
    story.beat();
    story.complete(3, -100);
    story.complete(2, 1);
    story.complete(2, 1);
    story.complete(77, 1);
    story.check(
        "plan 1 of 512 MiB avoiding []
        -> ask 1 of 512 MiB at *
        <- grants [(2, \"a:1\"), (3, \"a:1\")]
          allocated 2 on a:1 with 512 MiB, 1 vcores, 3 on a:1 with 512 MiB, 1 vcores
        plan 0 of 512 MiB avoiding []
        -> release 3
        -> nothing new
        <- 3 ended with -100
        <- 2 ended with 1
          completed 2 (own): it ended with exit code 1
        <- 2 ended with 1
        <- 77 ended with 1",
    );
}

#[test]
fn one_of_two_node_managers_on_a_host_is_avoided_by_giving_its_grants_back() {
    let mut story = Story::new();
    story.plan(1, &[]);
    story.beat();
    story.grant(&[(2, "a:2")]);
    story.complete(2, -102);
    story.plan(1, &["a:2"]);
    story.beat();
    story.grant(&[(3, "a:2")]);
    story.beat();
    story.grant(&[(4, "a:1")]);
    story.check(
        "plan 1 of 512 MiB avoiding []
        -> ask 1 of 512 MiB at *
        <- grants [(2, \"a:2\")]
          allocated 2 on a:2 with 512 MiB, 1 vcores
        <- 2 ended with -102
          completed 2 (platform): it was pre-empted by the scheduler
        plan 1 of 512 MiB avoiding [\"a:2\"]
        -> ask 1 of 512 MiB at *
        <- grants [(3, \"a:2\")]
        -> ask 1 of 512 MiB at *, release 3
        <- grants [(4, \"a:1\")]
          allocated 4 on a:1 with 512 MiB, 1 vcores",
    );
}

#[test]
fn a_scheduler_that_insists_on_an_avoided_node_wins_in_the_end() {
    let mut story = Story::new();
    story.plan(1, &["b:1"]);
    let mut refused = 0;
    for id in 2.. {
        story.allocation.request(0.0);
        let answer = pb::AllocateResponse {
            allocated_containers: vec![granted(id, "b:1")],
            ..Default::default()
        };
        if !story.allocation.answer(&answer).is_empty() {
            break;
        }
        refused += 1;
    }
    assert_eq!(refused, UNWANTED_GRANTS);
}

#[test]
fn a_host_of_its_own_is_blacklisted_while_there_is_another_and_then_no_more() {
    let mut story = Story::new();
    story.plan(2, &[]);
    story.beat();
    story.grant(&[(2, "b:1")]);
    story.plan(1, &["b:1"]);
    story.beat();
    story.beat();
    story.plan(1, &[]);
    story.beat();
    story.plan(1, &["a:1", "b:1"]);
    story.beat();
    story.check(
        "plan 2 of 512 MiB avoiding []
        -> ask 2 of 512 MiB at *
        <- grants [(2, \"b:1\")]
          allocated 2 on b:1 with 512 MiB, 1 vcores
        plan 1 of 512 MiB avoiding [\"b:1\"]
        -> blacklist +[\"b\"] -[]
        -> nothing new
        plan 1 of 512 MiB avoiding []
        -> blacklist +[] -[\"b\"]
        plan 1 of 512 MiB avoiding [\"a:1\", \"b:1\"]
        -> nothing new",
    );
}

#[test]
fn after_a_restart_of_the_resource_manager_everything_is_said_again() {
    let mut story = Story::new();
    story.plan(3, &[]);
    story.beat();
    story.grant(&[(2, "b:1"), (3, "a:1")]);
    story.allocation.release(&resource(3));
    story.plan(1, &["b:1"]);
    story.beat();
    story.line("registered again");
    story
        .allocation
        .registered(&pb::RegisterApplicationMasterResponse::default());
    story.beat();
    story.complete(3, -100);
    story.beat();
    story.check(
        "plan 3 of 512 MiB avoiding []
        -> ask 3 of 512 MiB at *
        <- grants [(2, \"b:1\"), (3, \"a:1\")]
          allocated 2 on b:1 with 512 MiB, 1 vcores, 3 on a:1 with 512 MiB, 1 vcores
        plan 1 of 512 MiB avoiding [\"b:1\"]
        -> release 3, blacklist +[\"b\"] -[]
        registered again
        -> ask 1 of 512 MiB at *, release 3, blacklist +[\"b\"] -[]
        <- 3 ended with -100
        -> nothing new",
    );
}

#[test]
fn a_container_larger_than_any_is_refused_once_and_never_asked_for() {
    let mut story = Story::new();
    story.plan_of(8192, 2, &[]);
    story.beat();
    story.plan_of(8192, 3, &[]);
    story.beat();
    story.check(
        "plan 2 of 8192 MiB avoiding []
          refused 8192 MiB, 1 vcores: a TaskManager's container of 8192 MiB, 1 vcores is larger than the largest that this cluster gives, 4096 MiB, 4 vcores; lower taskmanager.memory.process.size to 4g or less, or what the job's slot sharing group wants for its slots
        -> nothing new
        plan 3 of 8192 MiB avoiding []
        -> nothing new",
    );
}

#[test]
fn containers_of_an_attempt_before_are_given_back() {
    let mut story = Story::new();
    story
        .allocation
        .registered(&pb::RegisterApplicationMasterResponse {
            containers_from_previous_attempts: vec![granted(9, "a:1")],
            ..Default::default()
        });
    story.beat();
    story.check("-> release 9");
}

#[test]
fn a_change_in_the_number_of_nodes_is_told_once() {
    let mut story = Story::new();
    let answer = pb::AllocateResponse {
        num_cluster_nodes: Some(2),
        ..Default::default()
    };
    story.answer("2 nodes", &answer);
    story.answer("2 nodes", &answer);
    story.check("<- 2 nodes\n  2 nodes\n<- 2 nodes");
}

#[test]
fn containers_are_asked_for_with_their_label_and_once_refused_only_while_wanted() {
    let mut allocation = Allocation::new(None, Some("fast".to_owned()));
    let refusals = allocation.plan(plan(&[(512, 2)], &[], None));
    assert_eq!(refusals, []);
    let request = allocation.request(0.0);
    let asks: Vec<_> = request
        .ask
        .iter()
        .map(|ask| (ask.resource_name(), ask.node_label_expression()))
        .collect();
    assert_eq!(asks, [("*", "fast")]);
    let setting = allocation.refused().unwrap();
    assert!(setting.ends_with("`fast`"), "{setting}");
    assert_eq!(allocation.request(0.0).ask.len(), 1, "still wanted");
    allocation.refused();
    allocation.plan(plan(&[], &[], None));
    assert!(!allocation.has_news() && allocation.request(0.0).ask.is_empty());
}

#[test]
fn each_size_has_a_priority_of_its_own_by_which_grants_are_known() {
    let mut story = Story::new();
    story.plan_sizes(&[(512, 2), (2048, 1)]);
    let priorities = |request: &pb::AllocateRequest| -> Vec<(i64, Option<i32>)> {
        let ask = |ask: &pb::ResourceRequest| {
            let memory = ask.capability.as_ref().map_or(0, pb::Resource::memory);
            (memory, ask.priority.and_then(|p| p.priority))
        };
        request.ask.iter().map(ask).collect()
    };
    let request = story.allocation.request(0.0);
    assert_eq!(priorities(&request), [(512, Some(1)), (2048, Some(2))]);
    // YARN rounds up what it grants: the size does not tell what it was asked as.
    let grant = |id, priority, memory| pb::Container {
        priority: Some(pb::Priority {
            priority: Some(priority),
        }),
        resource: Some(launch::resource(memory, 1)),
        ..granted(id, "a:1")
    };
    let events = story.allocation.answer(&pb::AllocateResponse {
        allocated_containers: vec![grant(2, 2, 3072), grant(3, 1, 3072)],
        ..Default::default()
    });
    let [ResourceEvent::Allocated(containers)] = &events[..] else {
        panic!("{events:?}");
    };
    let asked: Vec<u64> = containers
        .iter()
        .map(|one| one.asked.memory.as_mib_ceil())
        .collect();
    assert_eq!(asked, [2048, 512]);
    assert_eq!(
        story.allocation.held(&resource(2)).unwrap().asked,
        containers[0].asked
    );
    story.beat();
    story.plan_sizes(&[(512, 1)]);
    story.beat();
    story.plan_sizes(&[]);
    story.beat();
    story.check(
        "plan [(512, 2), (2048, 1)]
        -> nothing new
        plan [(512, 1)]
        -> nothing new
        plan []
        -> ask 0 of 512 MiB at *",
    );
}

#[test]
fn a_size_that_the_cluster_never_gives_is_refused_each_time_it_is_wanted_and_the_others_are_asked_for()
 {
    let mut story = Story::new();
    story.plan_sizes(&[(512, 1), (8192, 1)]);
    story.beat();
    story.plan_sizes(&[(512, 2), (8192, 1)]);
    story.plan_sizes(&[(512, 2)]);
    story.plan_sizes(&[(512, 2), (8192, 1)]);
    story.beat();
    let refusal = "refused 8192 MiB, 1 vcores: a TaskManager's container of 8192 MiB, 1 vcores is larger than the largest that this \
                   cluster gives, 4096 MiB, 4 vcores; lower taskmanager.memory.process.size to 4g or less, or what the job's slot \
                   sharing group wants for its slots";
    story.check(&format!(
        "plan [(512, 1), (8192, 1)]
          {refusal}
        -> ask 1 of 512 MiB at *
        plan [(512, 2), (8192, 1)]
        plan [(512, 2)]
        plan [(512, 2), (8192, 1)]
          {refusal}
        -> ask 2 of 512 MiB at *"
    ));
}

#[test]
fn spread_out_a_node_that_has_its_share_gets_no_more_as_long_as_others_have_room() {
    let mut story = Story::new();
    story.plan_spread(4, 2);
    story.beat();
    // One scheduler fills a node at once. Another NodeManager on the same machine is told apart by its port only.
    story.grant(&[(2, "a:1"), (3, "a:1"), (4, "a:1"), (5, "a:1")]);
    story.beat();
    story.grant(&[(6, "b:1")]);
    story.beat();
    story.grant(&[(7, "a:2")]);
    story.check(
        "plan 4, at most 2 on a node
        -> ask 4 of 512 MiB at *
        <- grants [(2, \"a:1\"), (3, \"a:1\"), (4, \"a:1\"), (5, \"a:1\")]
          allocated 2 on a:1 with 512 MiB, 1 vcores, 3 on a:1 with 512 MiB, 1 vcores
        -> ask 2 of 512 MiB at *, release 4, release 5
        <- grants [(6, \"b:1\")]
          allocated 6 on b:1 with 512 MiB, 1 vcores
        -> blacklist +[\"a\"] -[]
        <- grants [(7, \"a:2\")]
          allocated 7 on a:2 with 512 MiB, 1 vcores",
    );
}

#[test]
fn where_no_other_node_has_room_a_full_one_gets_more_in_the_end() {
    let mut story = Story::new();
    story.plan_spread(2, 1);
    story.beat();
    story.grant(&[(2, "a:1")]);
    for id in 3..13 {
        let answer = pb::AllocateResponse {
            allocated_containers: vec![granted(id, "a:1")],
            ..Default::default()
        };
        assert_eq!(story.allocation.answer(&answer), []);
    }
    story.grant(&[(13, "a:1")]);
    assert!(story.allocation.held(&resource(13)).is_some());
}
