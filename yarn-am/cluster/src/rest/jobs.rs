//! Jobs as Flink's REST API shows them. Flink: `JobDetailsInfo`, `JobDetails`, `JobExceptionsInfoWithHistory`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use spindle_common::execution::{ExecutionState, JobStatus};
use spindle_common::id::{JobId, JobVertexId};
use spindle_common::job_graph::{JobGraph, JobVertex};
use spindle_common::time::MonoTime;
use spindle_jobmanager::message::{JobView, TaskView, View};

use crate::clock::Clock;

/// Flink's `ExecutionState`, all of which its clients expect to be counted.
const TASK_STATES: [&str; 10] = [
    "CREATED",
    "SCHEDULED",
    "DEPLOYING",
    "RUNNING",
    "FINISHED",
    "CANCELING",
    "CANCELED",
    "FAILED",
    "RECONCILING",
    "INITIALIZING",
];
/// Flink's `JobStatus`.
const JOB_STATES: [&str; 11] = [
    "INITIALIZING",
    "CREATED",
    "RUNNING",
    "FAILING",
    "FAILED",
    "CANCELLING",
    "CANCELED",
    "FINISHED",
    "RESTARTING",
    "SUSPENDED",
    "RECONCILING",
];

pub(super) fn ids(view: &View) -> Vec<Value> {
    view.jobs
        .iter()
        .map(|(id, job)| json!({"id": id.to_string(), "status": job.status.rest_name()}))
        .collect()
}

pub(super) fn overview(view: &View, clock: Clock) -> Vec<Value> {
    let one = |(id, job): (&JobId, &JobView)| {
        let mut tasks = Map::new();
        for (state, count) in counts(job.tasks.iter().map(|task| task.state.rest_name())) {
            tasks.insert(state.to_ascii_lowercase(), json!(count));
        }
        tasks.insert("total".to_owned(), json!(job.tasks.len()));
        let last = job.timestamps.values().max().copied();
        json!({
            "jid": id.to_string(),
            "name": job.graph.name,
            "start-time": clock.epoch_ms(job.started),
            "end-time": optional_ms(clock, job.ended),
            "duration": duration(clock, job),
            "state": job.status.rest_name(),
            "last-modification": clock.epoch_ms(last.unwrap_or(job.started)),
            "tasks": tasks,
        })
    };
    let jobs = view.jobs.iter();
    jobs.map(|(id, job)| one((id, job.as_ref()))).collect()
}

pub(super) fn details(id: JobId, job: &JobView, clock: Clock) -> Value {
    let mut timestamps: Map<String, Value> = JOB_STATES
        .iter()
        .map(|state| ((*state).to_owned(), json!(0)))
        .collect();
    for (status, at) in &job.timestamps {
        timestamps.insert(status.rest_name().to_owned(), json!(clock.epoch_ms(*at)));
    }
    // Flink's clients take this one for the submission.
    timestamps.insert(
        "INITIALIZING".to_owned(),
        json!(clock.epoch_ms(job.started)),
    );
    let vertices = job.graph.vertices.iter();
    let states = vertices.clone().map(|vertex| {
        let tasks: Vec<&TaskView> = tasks_of(job, vertex.id).collect();
        vertex_state(&tasks)
    });
    json!({
        "jid": id.to_string(),
        "name": job.graph.name,
        "isStoppable": false,
        "state": job.status.rest_name(),
        "job-type": "STREAMING",
        "start-time": clock.epoch_ms(job.started),
        "end-time": optional_ms(clock, job.ended),
        "duration": duration(clock, job),
        "maxParallelism": job.graph.vertices.iter().map(|vertex| vertex.max_parallelism).max().map_or(-1, i64::from),
        "now": clock.epoch_ms(clock.now()),
        "timestamps": timestamps,
        "vertices": vertices.map(|vertex| vertex_details(job, vertex, clock)).collect::<Vec<_>>(),
        "status-counts": counts(states),
        "plan": plan(id, &job.graph),
        "restarts": job.restarts,
        "cause": job.cause.as_ref().map(ToString::to_string),
        "waiting-for": job.waiting_for,
    })
}

fn vertex_details(job: &JobView, vertex: &JobVertex, clock: Clock) -> Value {
    let tasks: Vec<&TaskView> = tasks_of(job, vertex.id).collect();
    let start = tasks.iter().filter_map(|task| started(task)).min();
    let all_over = tasks.iter().all(|task| task.state.is_terminal());
    let end = tasks
        .iter()
        .filter_map(|task| ended(task))
        .max()
        .filter(|_| all_over);
    json!({
        "id": vertex.id.to_string(),
        "slotSharingGroupId": slot_sharing_group_id(&vertex.slot_sharing_group),
        "slot-sharing-group": vertex.slot_sharing_group,
        "name": vertex.name(),
        "maxParallelism": vertex.max_parallelism,
        "parallelism": vertex.parallelism,
        "status": vertex_state(&tasks),
        "start-time": optional_ms(clock, start),
        "end-time": optional_ms(clock, end),
        "duration": span_ms(clock, start, end),
        "tasks": counts(tasks.iter().map(|task| task.state.rest_name())),
        "metrics": metrics(&tasks),
    })
}

/// Flink names a group by a random id; here it is the same for the same name.
fn slot_sharing_group_id(name: &str) -> String {
    JobVertexId::of_uid(&format!("slot sharing group {name}")).to_string()
}

pub(super) fn plan(id: JobId, graph: &JobGraph) -> Value {
    let node = |vertex: &JobVertex| {
        let inputs: Vec<Value> = (0..)
            .zip(graph.inputs_of(vertex.id))
            .map(|(num, (_, edge)): (u32, _)| {
                json!({
                    "num": num,
                    "id": edge.source.to_string(),
                    "ship_strategy": edge.partitioning.name(),
                    "exchange": "pipelined_bounded",
                })
            })
            .collect();
        let mut node = json!({
            "id": vertex.id.to_string(),
            "parallelism": vertex.parallelism,
            "operator": "",
            "operator_strategy": "",
            "description": vertex.name(),
            "optimizer_properties": {},
        });
        if !inputs.is_empty() {
            node["inputs"] = json!(inputs);
        }
        node
    };
    json!({
        "jid": id.to_string(),
        "name": graph.name,
        "type": "STREAMING",
        "nodes": graph.vertices.iter().map(node).collect::<Vec<_>>(),
    })
}

pub(super) fn exceptions(job: &JobView, clock: Clock) -> Value {
    let entry = job.cause.as_ref().map(|cause| {
        let failures = [JobStatus::Failed, JobStatus::Failing, JobStatus::Restarting];
        let at = failures
            .iter()
            .filter_map(|status| job.timestamps.get(status))
            .min_by_key(|at| job.ended.unwrap_or(MonoTime::ZERO).since(**at));
        (
            cause.to_string(),
            clock.epoch_ms(at.copied().unwrap_or(job.started)),
            cause,
        )
    });
    let history: Vec<Value> = entry
        .iter()
        .map(|(text, at, cause)| {
            let mut one = json!({
                "exceptionName": cause.message,
                "stacktrace": text,
                "timestamp": at,
                "failureLabels": {},
                "concurrentExceptions": [],
            });
            if let Some(operator) = &cause.operator {
                one["taskName"] = json!(operator);
            }
            one
        })
        .collect();
    json!({
        "root-exception": entry.as_ref().map(|(text, ..)| text),
        "timestamp": entry.as_ref().map(|(_, at, _)| at),
        "all-exceptions": [],
        "truncated": false,
        "exceptionHistory": {"entries": history, "truncated": false},
    })
}

pub(super) fn accumulators(job: &JobView) -> Value {
    let user: Vec<Value> = job
        .collected
        .iter()
        .map(|(name, lines)| {
            let values: Vec<Value> = json_lines(lines).collect();
            json!({"name": name, "type": "collect", "value": Value::Array(values).to_string()})
        })
        .collect();
    json!({
        "job-accumulators": [],
        "user-task-accumulators": user,
        "serialized-user-task-accumulators": {},
    })
}

/// Flink: `JobExecutionResultResponseBody`.
pub(super) fn execution_result(id: JobId, job: &JobView, clock: Clock) -> Value {
    let status = match job.status {
        JobStatus::Finished => "SUCCEEDED",
        JobStatus::Failed => "FAILED",
        JobStatus::Canceled => "CANCELED",
        JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Failing
        | JobStatus::Cancelling => return json!({"status": {"id": "IN_PROGRESS"}}),
    };
    let mut result = json!({
        "id": id.to_string(),
        "application-status": status,
        "accumulator-results": {},
        "net-runtime": duration(clock, job),
    });
    if let (JobStatus::Failed, Some(cause)) = (job.status, &job.cause) {
        let text = cause.to_string();
        result["failure-cause"] = json!({"class": cause.message, "stack-trace": text});
    }
    json!({"status": {"id": "COMPLETED"}, "job-execution-result": result})
}

/// Flink: `JobConfigInfo`.
pub(super) fn config(id: JobId, job: &JobView) -> Value {
    let parallelism = job.graph.vertices.iter().map(|vertex| vertex.parallelism);
    json!({
        "jid": id.to_string(),
        "name": job.graph.name,
        "execution-config": {
            "execution-mode": "PIPELINED",
            "restart-strategy": "Cluster level default restart strategy",
            "job-parallelism": parallelism.max().unwrap_or(1),
            "object-reuse-mode": true,
            "user-config": {},
        },
    })
}

/// Ours: what collecting sinks hold, by name.
pub(super) fn collected(job: &JobView) -> Value {
    let of = |(name, lines): (&String, &Vec<u8>)| (name.clone(), json_lines(lines).collect());
    Value::Object(job.collected.iter().map(of).collect())
}

/// Ours: the outcome, as far as there is one.
pub(super) fn result(job: &JobView, clock: Clock) -> Value {
    json!({
        "name": job.graph.name,
        "status": job.status.rest_name(),
        "cause": job.cause.as_ref().map(ToString::to_string),
        "operator": job.cause.as_ref().and_then(|cause| cause.operator.clone()),
        "restarts": job.restarts,
        "progress": progress(job),
        "late_records_dropped": job.tasks.iter().map(|task| task.metrics.late_records_dropped).sum::<u64>(),
        "started": clock.epoch_ms(job.started),
        "ended": job.ended.map(|at| clock.epoch_ms(at)),
    })
}

/// Share of the bounded sources' input that was read, 0 to 1.
fn progress(job: &JobView) -> f64 {
    if job.status == JobStatus::Finished {
        return 1.0;
    }
    let shares: Vec<f64> = job
        .tasks
        .iter()
        .filter_map(|task| task.metrics.progress)
        .collect();
    // Added to the 0 of no source at all, which alone would be a negative one.
    shares.iter().fold(0.0, |sum, share| sum + share) / shares.len().max(1) as f64
}

pub(super) fn tasks_of(job: &JobView, vertex: JobVertexId) -> impl Iterator<Item = &TaskView> {
    let of = move |task: &&TaskView| task.execution.vertex == vertex;
    job.tasks.iter().filter(of)
}

/// The one state that Flink shows for all tasks of a vertex.
pub(super) fn vertex_state(tasks: &[&TaskView]) -> &'static str {
    let count = |name: &str| {
        let is = |task: &&&TaskView| task.state.rest_name() == name;
        tasks.iter().filter(is).count()
    };
    for state in ["FAILED", "CANCELING", "CANCELED", "INITIALIZING", "RUNNING"] {
        if count(state) > 0 {
            return state;
        }
    }
    match count("FINISHED") {
        0 => ["DEPLOYING", "SCHEDULED"]
            .into_iter()
            .find(|state| count(state) > 0)
            .unwrap_or("CREATED"),
        all if all == tasks.len() => "FINISHED",
        _ => "RUNNING",
    }
}

fn json_lines(lines: &[u8]) -> impl Iterator<Item = Value> {
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(line).into_owned()))
        })
}

pub(super) fn counts<'a>(states: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u32> {
    let mut counts: BTreeMap<&str, u32> = TASK_STATES.map(|state| (state, 0)).into();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    counts
}

pub(super) fn metrics(tasks: &[&TaskView]) -> Value {
    let sum = |of: fn(&TaskView) -> u64| tasks.iter().map(|task| of(task)).sum::<u64>();
    json!({
        "read-bytes": sum(|task| task.metrics.bytes_in),
        "read-bytes-complete": true,
        "write-bytes": sum(|task| task.metrics.bytes_out),
        "write-bytes-complete": true,
        "read-records": sum(|task| task.metrics.records_in),
        "read-records-complete": true,
        "write-records": sum(|task| task.metrics.records_out),
        "write-records-complete": true,
        "accumulated-backpressured-time": sum(|task| task.metrics.backpressured_ms),
        "accumulated-idle-time": sum(|task| task.metrics.idle_ms),
        "accumulated-busy-time": sum(|task| task.metrics.busy_ms) as f64,
    })
}

pub(super) fn started(task: &TaskView) -> Option<MonoTime> {
    task.timestamps.get(&ExecutionState::Deploying).copied()
}

pub(super) fn ended(task: &TaskView) -> Option<MonoTime> {
    let at = task.timestamps.get(&task.state).copied();
    at.filter(|_| task.state.is_terminal())
}

fn duration(clock: Clock, job: &JobView) -> i64 {
    span_ms(clock, Some(job.started), job.ended)
}

/// Flink writes -1 for what is not there.
pub(super) fn span_ms(clock: Clock, start: Option<MonoTime>, end: Option<MonoTime>) -> i64 {
    let Some(start) = start else {
        return -1;
    };
    let end = end.unwrap_or_else(|| clock.now());
    i64::try_from(end.since(start).as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn optional_ms(clock: Clock, at: Option<MonoTime>) -> i64 {
    at.map_or(-1, |at| {
        i64::try_from(clock.epoch_ms(at)).unwrap_or(i64::MAX)
    })
}
