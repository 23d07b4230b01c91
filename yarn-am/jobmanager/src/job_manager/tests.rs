//! Stories of whole clusters: what happens, and below each line what the JobManager wants done.

macro_rules! story {
    ($name:ident, $config:expr, $script:expr) => {
        #[test]
        fn $name() {
            insta::with_settings!({
                omit_expression => true,
                prepend_module_to_snapshot => false,
                snapshot_path => STORIES,
            }, {
                insta::assert_snapshot!(stringify!($name), check($config, &$script));
            });
        }
    };
}

mod checkpoints;
mod cluster;
mod groups;
mod savepoints;
mod script;
mod sessions;
mod superseded;

use std::collections::BTreeMap;
use std::time::Duration;

use spindle_common::id::{FencingToken, JobId, JobVertexId};
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, JobEdge, JobGraph, JobSubmission, JobVertex, OperatorDescriptor,
    OperatorKind, Partitioning, ProgramSpec, SourceSplit,
};

use spindle_common::resource::SlotProfile;

use crate::config::{ClusterMode, JobManagerConfig};
use script::check;
use spindle_common::config::RestartConfig;

/// The job of the stories: `src` feeds `sink`, `p` subtasks of each.
fn submission(p: u32, job: u8) -> JobSubmission {
    let vertex = |name: &str, kind| JobVertex {
        id: JobVertexId::of_uid(name),
        parallelism: p,
        max_parallelism: 128,
        operators: vec![OperatorDescriptor {
            uid: name.to_owned(),
            name: name.to_owned(),
            kind,
        }],
        splits: Vec::new(),
        staging: Vec::new(),
        slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
    };
    let mut src = vertex("src", OperatorKind::Source);
    let split = |n| SourceSplit {
        name: format!("split {n}"),
        payload: vec![],
    };
    src.splits = (0..p).map(|n| vec![split(n)]).collect();
    let mut sink = vertex("sink", OperatorKind::Sink);
    sink.staging = vec![format!("hdfs:///out/.staging-{job}")];
    JobSubmission {
        job: JobId::from_bytes([job; 16]),
        graph: JobGraph {
            name: "flights".to_owned(),
            edges: vec![JobEdge {
                source: src.id,
                target: sink.id,
                partitioning: Partitioning::Hash,
            }],
            vertices: vec![src, sink],
            slot_profiles: BTreeMap::new(),
        },
        program: ProgramSpec {
            executable: "job".to_owned(),
            args: Vec::new(),
            artifact: None,
        },
        config: Vec::new(),
    }
}

/// Puts the sink into a slot sharing group of its own, which may say what its slots have.
fn sink_of_its_own(submission: &mut JobSubmission, profile: Option<SlotProfile>) {
    "of its own".clone_into(&mut submission.graph.vertices[1].slot_sharing_group);
    let profile = profile.map(|profile| ("of its own".to_owned(), profile));
    submission.graph.slot_profiles.extend(profile);
}

/// Where the snapshots are, as seen from here.
const STORIES: &str = "tests/stories";

fn per_job() -> JobManagerConfig {
    JobManagerConfig::default()
}

fn no_restart() -> JobManagerConfig {
    JobManagerConfig {
        restart: RestartConfig::None,
        ..per_job()
    }
}

/// Two TaskManagers, all tasks of a job with parallelism 2 running on them.
const RUNNING: &str = "
    quietly
    nodes 3
    submit 2
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Initializing
    all Running
    loudly
";

fn running_then(story: &str) -> String {
    format!("{RUNNING}{story}")
}

story!(
    a_job_runs_over_two_task_managers_commits_and_ends_its_cluster,
    per_job(),
    "
    nodes 2
    submit 2
    grant c1@n1 c2@n2
    register c1
    offer c1 1
    register c2
    offer c2 2
    all Initializing
    all Running
    heartbeat c1 src/0.0 0.5
    view
    state c1 src/0.0 Finished
    state c2 src/1.0 Finished
    state c1 sink/0.0 AwaitingCommit
    state c2 sink/1.0 AwaitingCommit
    view
    state c2 sink/1.0 Finished
    state c1 sink/0.0 Finished
    view
    "
);

story!(
    a_failed_task_stops_the_others_and_the_job_starts_again_in_its_slots,
    per_job(),
    running_then(
        "
    fail c1 src/0.0 Restart panicked at src/main.rs:12:5: index out of bounds
    state c1 sink/0.0 Running
    state c1 sink/0.0 Canceled
    state c2 src/1.0 Canceled
    fail c2 sink/1.0 Restart connection to c1 was lost
    view
    wait 999
    wait 1
    all Running
    all Finished
    "
    )
);

story!(
    a_lost_worker_gives_its_slot_back_and_the_job_asks_for_it_again,
    per_job(),
    running_then(
        "
    workerlost c2 killed by signal 9
    state c1 src/0.0 Canceled
    state c1 sink/0.0 Canceled
    wait 1000
    offer c2 3
    view
    "
    )
);

story!(
    a_lost_task_manager_is_replaced_while_the_other_keeps_its_slot,
    per_job(),
    running_then(
        "
    disconnect c2
    completed c2 container killed by the ApplicationMaster
    state c1 src/0.0 Canceled
    state c1 sink/0.0 Canceled
    wait 1000
    grant c3@n3
    register c3
    offer c3 3
    "
    )
);

story!(
    a_task_manager_lost_while_committing_restarts_the_job_though_a_task_has_finished,
    per_job(),
    running_then(
        "
    state c1 src/0.0 Finished
    state c2 src/1.0 Finished
    state c1 sink/0.0 AwaitingCommit
    state c2 sink/1.0 AwaitingCommit
    state c1 sink/0.0 Finished
    completed c2 killed for memory
    wait 1000
    grant c3@n3
    register c3
    offer c3 3
    all Running
    quietly
    all AwaitingCommit
    loudly
    all Finished
    "
    )
);

story!(
    a_task_manager_whose_tasks_have_finished_may_go,
    per_job(),
    running_then(
        "
    state c2 src/1.0 Finished
    state c2 sink/1.0 Finished
    disconnect c2
    state c1 src/0.0 Finished
    state c1 sink/0.0 Finished
    "
    )
);

story!(
    a_cancelled_job_stops_its_tasks_and_the_cluster_is_killed,
    per_job(),
    running_then(
        "
    cancel asked for by alice
    state c1 src/0.0 Canceled
    state c1 sink/0.0 Canceled
    state c2 src/1.0 Finished
    state c2 sink/1.0 Canceled
    "
    )
);

story!(
    a_job_that_waits_for_slots_is_cancelled_at_once,
    per_job(),
    "
    submit 2
    grant c1@n1
    cancel changed my mind
    "
);

story!(
    a_task_that_does_not_stop_costs_its_task_manager,
    JobManagerConfig {
        heartbeat_timeout: Duration::from_secs(60),
        ..per_job()
    },
    running_then(
        "
    cancel asked for by alice
    state c1 src/0.0 Canceled
    state c1 sink/0.0 Canceled
    state c2 sink/1.0 Canceled
    wait 29999
    wait 1
    "
    )
);

story!(
    when_no_restart_is_left_the_job_fails_with_its_last_cause,
    JobManagerConfig {
        restart: RestartConfig::FixedDelay {
            attempts: 1,
            delay: Duration::ZERO,
        },
        ..per_job()
    },
    running_then(
        "
    quietly
    fail c1 src/0.0 Restart panicked the first time
    all Canceled
    wait 0
    all Running
    loudly
    fail c2 sink/1.1 Restart panicked the second time
    fail c1 src/0.1 Restart panicked after it was told to stop
    all Canceled
    "
    )
);

story!(
    a_failure_that_no_restart_can_mend_ends_the_job_at_once,
    per_job(),
    running_then(
        "
    fail c1 src/0.0 FailJob cannot parse line 7 of flights.csv
    all Canceled
    "
    )
);

story!(
    a_peer_that_lost_its_connection_first_does_not_hide_what_happened,
    no_restart(),
    running_then(
        "
    fail c1 sink/0.0 Retry connection to c2:7000 was lost
    workerlost c2 the worker was killed by signal 9
    all Canceled
    "
    )
);

story!(
    a_final_failure_while_tasks_stop_takes_the_restart_away,
    per_job(),
    running_then(
        "
    fail c1 src/0.0 Restart panicked
    fail c2 src/1.0 FailJob cannot parse line 7 of flights.csv
    all Canceled
    "
    )
);

story!(
    a_job_that_waits_for_its_restart_is_cancelled_at_once,
    per_job(),
    running_then(
        "
    quietly
    fail c1 src/0.0 Restart panicked
    all Canceled
    loudly
    cancel enough
    "
    )
);

story!(
    a_worker_that_does_not_start_counts_as_a_failure,
    no_restart(),
    "
    submit 1
    grant c1@n1
    register c1
    unavailable c1 1 the graph differs: operator `src` became `source`
    "
);

story!(
    task_managers_that_do_not_start_are_replaced_on_other_nodes_until_it_is_too_much,
    JobManagerConfig {
        max_start_failures: 3,
        ..per_job()
    },
    "
    nodes 3
    submit 1
    grant c1@n1
    launchfailed c1 no space left on device
    grant c2@n2
    completed c2 exit code 127: not found
    grant c3@n3
    lost c3 node lost
    grant c4@n3
    wait 59000
    wait 1000
    grant c5@n1
    completed c5 exit code 1: cannot bind
    "
);

story!(
    a_task_manager_lost_before_any_task_came_to_it_counts_as_not_started,
    JobManagerConfig {
        max_start_failures: 0,
        ..per_job()
    },
    "
    submit 1
    grant c1@n1
    register c1
    disconnect c1
    completed c1 killed for memory
    "
);

story!(
    containers_beyond_the_need_are_given_back,
    JobManagerConfig {
        slots_per_task_manager: 2,
        ..per_job()
    },
    "
    submit 3
    grant c1@n1 c2@n2 c3@n3
    grant c2@n2
    register c1
    register c2
    grant c4@n1
    view
    "
);

story!(
    what_is_late_double_or_foreign_is_dropped_and_counted,
    per_job(),
    running_then(
        "
    state c1 src/0.0 Running
    state c2 src/0.0 Finished
    state c1 src/0.1 Running
    state c1 src/7.0 Running
    offer c1 1
    offer c1 77
    unavailable c1 77 no
    register c1
    register c9
    register c1 again
    stranger
    submit 2
    view
    "
    )
);

story!(
    a_task_executor_of_another_attempt_is_refused,
    per_job(),
    "
    submit 1
    grant c1@n1
    register c1 fencing=2
    heartbeat c1
    register c1
    "
);

story!(
    a_silent_task_executor_is_taken_for_lost,
    no_restart(),
    running_then(
        "
    wait 9000
    heartbeat c1
    wait 1000
    state c2 src/1.0 Finished
    all Canceled
    "
    )
);

story!(
    an_attached_client_is_given_time_until_it_has_been_told,
    JobManagerConfig {
        mode: ClusterMode::PerJob { attached: true },
        ..per_job()
    },
    running_then(
        "
    quietly
    all AwaitingCommit
    loudly
    all Finished
    wait 1000
    released
    "
    )
);

story!(
    an_attached_client_that_never_comes_is_not_waited_for_long,
    JobManagerConfig {
        mode: ClusterMode::PerJob { attached: true },
        ..per_job()
    },
    "
    submit 1
    refused the queue `default` gives at most 512 MiB a container
    wait 2999
    wait 1
    "
);

story!(
    a_session_runs_jobs_side_by_side_and_ends_when_told,
    JobManagerConfig {
        mode: ClusterMode::Session,
        ..per_job()
    },
    "
    submit 1 1
    submit 1 2
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    quietly
    all Running
    loudly
    state c1 src/0.0 Finished
    state c1 sink/0.0 Finished
    view
    shutdown the session is over
    state c2 src/0.0 Canceled
    state c2 sink/0.0 Canceled
    "
);

story!(
    a_job_whose_graph_makes_no_sense_fails_without_a_container,
    per_job(),
    "submit 0"
);

story!(
    a_per_job_cluster_takes_one_job_and_ends_without_waiting_when_it_is_shut_down,
    JobManagerConfig {
        mode: ClusterMode::PerJob { attached: true },
        ..per_job()
    },
    "
    submit 1 1
    submit 1 2
    cancel enough
    shutdown killed by the ResourceManager
    "
);

story!(
    a_cluster_without_a_job_is_shut_down_at_once,
    per_job(),
    "shutdown killed by the ResourceManager"
);

story!(
    a_client_that_goes_away_before_the_end_is_not_waited_for,
    JobManagerConfig {
        mode: ClusterMode::PerJob { attached: true },
        ..per_job()
    },
    "
    submit 1
    released
    cancel enough
    "
);

#[test]
fn what_the_tasks_collected_is_handed_on_in_the_order_of_the_subtasks() {
    let mut script = script::Script::new(per_job());
    script.play(RUNNING);
    for (resource, task) in [("c2", "sink/1.0"), ("c1", "sink/0.0")] {
        let mut update = script.update(task, "Finished");
        update.collected = vec![("out".to_owned(), format!("{task}\n").into_bytes())];
        script.tell(resource, update);
    }
    script.play("all Finished");
    let view = script.manager.view();
    let job = &view.jobs[&JobId::from_bytes([1; 16])];
    assert_eq!(job.collected["out"], b"sink/0.0\nsink/1.0\n");
    assert!(job.graph.vertices.iter().all(|v| v.splits.is_empty()));
    assert_eq!(view.progress, 1.0);
}

#[test]
fn a_second_job_manager_numbers_its_executions_where_the_first_never_comes() {
    let mut script = script::Script::new(JobManagerConfig {
        fencing: FencingToken(2),
        ..per_job()
    });
    script.play("submit 1");
    let view = script.manager.view();
    let attempts: Vec<u32> = view.jobs[&JobId::from_bytes([1; 16])]
        .tasks
        .iter()
        .map(|task| task.execution.attempt)
        .collect();
    assert_eq!(attempts, [1 << 16, 1 << 16]);
}

#[test]
fn without_a_job_the_progress_is_a_positive_zero() {
    let view = script::Script::new(per_job()).manager.view();
    assert_eq!(view.progress.to_bits(), 0.0_f32.to_bits());
}
