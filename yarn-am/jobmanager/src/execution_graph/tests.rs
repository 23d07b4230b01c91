use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, OperatorDescriptor, OperatorKind, Partitioning,
};

use super::*;

fn vertex(name: &str, kind: OperatorKind, parallelism: u32) -> JobVertex {
    JobVertex {
        id: JobVertexId::of_uid(name),
        parallelism,
        max_parallelism: 128,
        operators: vec![OperatorDescriptor {
            uid: name.to_owned(),
            name: name.to_owned(),
            kind,
        }],
        splits: Vec::new(),
        staging: Vec::new(),
        slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
    }
}

/// `a` (2) is joined forward to `b` (2), and all to all to `c` (1), which `b` feeds too.
fn graph() -> ExecutionGraph {
    let a = vertex("a", OperatorKind::Source, 2);
    let b = vertex("b", OperatorKind::Transform, 2);
    let c = vertex("c", OperatorKind::Sink, 1);
    let edge = |source: &JobVertex, target: &JobVertex, partitioning| JobEdge {
        source: source.id,
        target: target.id,
        partitioning,
    };
    let edges = vec![
        edge(&b, &c, Partitioning::Rebalance),
        edge(&a, &b, Partitioning::Forward),
        edge(&a, &c, Partitioning::Broadcast),
    ];
    let graph = JobGraph {
        name: "job".to_owned(),
        vertices: vec![a, b, c],
        edges,
        slot_profiles: BTreeMap::new(),
    };
    ExecutionGraph::new(graph, 0, MonoTime::ZERO)
}

#[test]
fn a_forward_edge_has_one_channel_and_the_others_have_one_to_each() {
    let slot = |n: u64| HeldSlot {
        allocation: AllocationId(n),
        profile: None,
        resource: ResourceId::new(format!("tm{n}")),
        data_address: format!("host{n}:1"),
    };
    let job = JobId::from_bytes([1; 16]);
    let tasks = graph().deployments(job, &[slot(5), slot(6)]);
    let order: Vec<_> = tasks.iter().map(|task| task.execution).collect();
    let id = |uid, subtask| ExecutionAttemptId {
        vertex: JobVertexId::of_uid(uid),
        subtask,
        attempt: 0,
    };
    assert_eq!(
        order,
        [id("a", 0), id("a", 1), id("b", 0), id("b", 1), id("c", 0)]
    );

    let outputs: Vec<_> = tasks[1].outputs.iter().collect();
    assert_eq!((outputs[0].edge, &outputs[0].consumers[..]), (1, &[1][..]));
    assert_eq!((outputs[1].edge, &outputs[1].consumers[..]), (2, &[0][..]));

    let channels = |gate: &InputGateDescriptor| -> Vec<_> {
        let channels = gate.channels.iter();
        channels
            .map(|c| (c.producer, c.data_address.clone()))
            .collect()
    };
    let (first, second) = ("host5:1".to_owned(), "host6:1".to_owned());
    assert_eq!(
        channels(&tasks[3].inputs[0]),
        [(id("a", 1), second.clone())]
    );
    let edges: Vec<u32> = tasks[4].inputs.iter().map(|gate| gate.edge).collect();
    assert_eq!(edges, [0, 2]);
    assert_eq!(
        channels(&tasks[4].inputs[0]),
        [(id("b", 0), first), (id("b", 1), second)]
    );
    assert_eq!(tasks[4].allocation, AllocationId(5));
}

#[test]
fn an_execution_of_another_attempt_is_not_found() {
    let mut graph = graph();
    let id = graph.executions()[3].id;
    assert_eq!(graph.index_of(id), Some(3));
    graph.restart(MonoTime::ZERO);
    assert_eq!(graph.index_of(id), None);
    assert_eq!(graph.executions()[3].id.attempt, 1);
}

#[test]
fn progress_is_the_mean_of_the_sources() {
    let mut graph = graph();
    graph.execution_mut(0).metrics.progress = Some(0.5);
    graph.execution_mut(2).metrics.progress = Some(1.0);
    assert_eq!(graph.source_progress(), 0.25);
    graph.enter(MonoTime::ZERO, 1, ExecutionState::Finished);
    assert_eq!(graph.source_progress(), 0.75);
}

#[test]
fn what_a_task_does_with_its_time_is_known_from_two_reports() {
    let mut graph = graph();
    let execution = graph.execution_mut(0);
    let at = MonoTime::from_millis;
    let counters = |busy_ms, idle_ms, backpressured_ms| TaskMetricsSnapshot {
        busy_ms,
        idle_ms,
        backpressured_ms,
        ..TaskMetricsSnapshot::default()
    };
    let shares = |execution: &Execution| {
        let load = execution.load?;
        let shares = [
            load.busy_ms_per_second,
            load.idle_ms_per_second,
            load.backpressured_ms_per_second,
        ];
        Some((shares, load.until))
    };
    execution.report(at(500), counters(400, 100, 0));
    assert_eq!(shares(execution), None, "one report tells nothing");
    execution.report(at(1000), counters(500, 150, 350));
    assert_eq!(shares(execution), Some(([200, 100, 700], at(1000))));
    // A task that reports the same again has measured nothing since; what was known fades.
    execution.report(at(1500), counters(500, 150, 350));
    assert_eq!(shares(execution), Some(([200, 100, 700], at(1000))));
    execution.report(at(11_001), counters(500, 150, 350));
    assert_eq!(shares(execution), None);
    execution.report(at(12_000), counters(500, 1150, 350));
    assert_eq!(shares(execution), Some(([0, 1000, 0], at(12_000))));
}

#[test]
fn attempts_before_are_kept_up_to_a_number() {
    let mut graph = graph();
    let of_graph = graph.executions().len();
    for attempt in 1..=ATTEMPTS_KEPT as u64 + 3 {
        graph.restart(MonoTime::from_millis(attempt));
    }
    let past = graph.past();
    assert_eq!(past.len(), ATTEMPTS_KEPT * of_graph);
    let attempts: Vec<u32> = past.iter().map(|task| task.execution.attempt).collect();
    assert!(attempts.is_sorted());
    assert_eq!((attempts[0], attempts[attempts.len() - 1]), (3, 18));
}

#[test]
fn each_group_has_slots_of_its_own_profile() {
    let mut job = graph().graph;
    "heavy".clone_into(&mut job.vertices[2].slot_sharing_group);
    let profile = SlotProfile::new(1.0, spindle_common::resource::ByteSize::from_mib(64));
    job.slot_profiles.insert("heavy".to_owned(), profile);
    assert_eq!(
        slot_counts(&job),
        SlotCounts::from([(None, 2), (Some(profile), 1)])
    );
    let graph = ExecutionGraph::new(job, 0, MonoTime::ZERO);
    let slot = |n: u64, profile| HeldSlot {
        allocation: AllocationId(n),
        profile,
        resource: ResourceId::new(format!("tm{n}")),
        data_address: format!("host{n}:1"),
    };
    let held = [slot(1, Some(profile)), slot(2, None), slot(3, None)];
    assert_eq!(graph.assign(held[..2].iter()), None, "one is missing");
    let slots = graph.assign(held.iter()).unwrap();
    let tasks = graph.deployments(JobId::from_bytes([1; 16]), &slots);
    let places: Vec<u64> = tasks.iter().map(|task| task.allocation.0).collect();
    assert_eq!(places, [2, 3, 2, 3, 1]);
    let addresses: Vec<&str> = tasks[4].inputs[0]
        .channels
        .iter()
        .map(|channel| channel.data_address.as_str())
        .collect();
    assert_eq!(addresses, ["host2:1", "host3:1"]);
}
