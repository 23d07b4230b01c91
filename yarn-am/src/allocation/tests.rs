//! Transcripts: what the JobManager and the ResourceManager say, and below each line what was sent or told for it.

use spindle_hadoop::yarn::{ApplicationAttemptId, ApplicationId};

use super::*;

const ATTEMPT: ApplicationAttemptId = ApplicationAttemptId {
    application: ApplicationId {
        cluster_timestamp: 1,
        id: 1,
    },
    attempt: 1,
};

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
        let refusal = self.allocation.plan(ContainerPlan {
            profile: ResourceProfile {
                memory: ByteSize::from_mib(memory),
                vcores: 1,
            },
            pending,
            avoid: avoid.iter().map(|node| NodeName::new(*node)).collect(),
        });
        if let Some(refusal) = refusal {
            self.line(&format!("  {refusal:?}"));
        }
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
    assert_eq!(refused, AVOIDED_GRANTS);
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
          Refused { reason: \"a TaskManager's container of 8192 MiB, 1 vcores is larger than the largest that this cluster gives, 4096 MiB, 4 vcores; lower taskmanager.memory.process.size to 4g or less\" }
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
    let refusal = allocation.plan(ContainerPlan {
        profile: ResourceProfile {
            memory: ByteSize::from_mib(512),
            vcores: 1,
        },
        pending: 2,
        avoid: BTreeSet::new(),
    });
    assert_eq!(refusal, None);
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
    allocation.plan(ContainerPlan {
        profile: ResourceProfile {
            memory: ByteSize::from_mib(512),
            vcores: 1,
        },
        pending: 0,
        avoid: BTreeSet::new(),
    });
    assert!(!allocation.has_news() && allocation.request(0.0).ask.is_empty());
}
