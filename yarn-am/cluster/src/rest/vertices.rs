//! Vertices and their subtasks as Flink's REST API shows them. Flink: `JobVertexDetailsInfo`, `SubtasksTimesInfo`,
//! `JobVertexTaskManagersInfo`, `JobVertexBackPressureInfo`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use spindle_common::execution::ExecutionState;
use spindle_common::id::{ExecutionAttemptId, ResourceId};
use spindle_common::job_graph::JobVertex;
use spindle_jobmanager::message::{JobView, TaskLoad, TaskView, View};

use super::jobs::{counts, ended, metrics, optional_ms, span_ms, started, tasks_of, vertex_state};
use crate::clock::Clock;

/// Flink's word for a place that is not known.
const UNASSIGNED: &str = "(unassigned)";

/// One vertex of one job, as it was at one time.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) view: &'a View,
    pub(super) job: &'a JobView,
    pub(super) vertex: &'a JobVertex,
    pub(super) clock: Clock,
}

impl<'a> Shown<'a> {
    pub(super) fn tasks(self) -> Vec<&'a TaskView> {
        tasks_of(self.job, self.vertex.id).collect()
    }

    pub(super) fn task(self, subtask: u32) -> Option<&'a TaskView> {
        tasks_of(self.job, self.vertex.id).find(|task| task.execution.subtask == subtask)
    }

    /// One of its attempts, as far as it is kept.
    pub(super) fn attempt(self, subtask: u32, attempt: u32) -> Option<&'a TaskView> {
        let id = ExecutionAttemptId {
            vertex: self.vertex.id,
            subtask,
            attempt,
        };
        let mut all = self.job.past.iter().chain(&self.job.tasks);
        all.find(|task| task.execution == id)
    }

    fn now(self) -> u64 {
        self.clock.epoch_ms(self.clock.now())
    }

    fn endpoint(self, resource: Option<&ResourceId>) -> &'a str {
        let manager = resource.and_then(|resource| self.view.task_managers.get(resource));
        manager.map_or(UNASSIGNED, |manager| &manager.host)
    }

    pub(super) fn details(self) -> Value {
        let tasks = self.tasks();
        json!({
            "id": self.vertex.id.to_string(),
            "name": self.vertex.name(),
            "parallelism": self.vertex.parallelism,
            "maxParallelism": self.vertex.max_parallelism,
            "now": self.now(),
            "aggregated": {"metrics": metrics(&tasks)},
            "subtasks": tasks.into_iter().map(|task| self.subtask(task)).collect::<Vec<_>>(),
        })
    }

    pub(super) fn subtask(self, task: &TaskView) -> Value {
        let (start, end) = (started(task), ended(task));
        let start_ms = optional_ms(self.clock, start);
        json!({
            "subtask": task.execution.subtask,
            "status": task.state.rest_name(),
            "attempt": task.execution.attempt,
            "endpoint": self.endpoint(task.resource.as_ref()),
            "taskmanager-id": task.resource.as_ref().map_or(UNASSIGNED, ResourceId::as_str),
            "start-time": start_ms,
            // Flink has both.
            "start_time": start_ms,
            "end-time": optional_ms(self.clock, end),
            "duration": span_ms(self.clock, start, end),
            "metrics": metrics(&[task]),
            "status-duration": self.durations(task),
            "other-concurrent-attempts": [],
            "awaiting-commit": task.state == ExecutionState::AwaitingCommit,
            "progress": task.metrics.progress,
            "late-records-dropped": task.metrics.late_records_dropped,
            "watermark": task.metrics.watermark_ms,
        })
    }

    /// How long the task was in each state on the way to running, in milliseconds; -1 for those it has not been in.
    fn durations(self, task: &TaskView) -> Value {
        let states = [
            ExecutionState::Created,
            ExecutionState::Scheduled,
            ExecutionState::Deploying,
            ExecutionState::Initializing,
            ExecutionState::Running,
        ];
        let one = |state: ExecutionState| {
            let at = task.timestamps.get(&state).copied();
            let next = task.timestamps.iter();
            let next = next.filter(|(other, _)| **other > state).map(|(_, at)| *at);
            let span = span_ms(self.clock, at, next.min());
            (state.rest_name().to_owned(), json!(span))
        };
        Value::Object(states.into_iter().map(one).collect())
    }

    pub(super) fn times(self) -> Value {
        let one = |task: &TaskView| {
            let mut timestamps: Map<String, Value> = counts(std::iter::empty())
                .keys()
                .map(|state| ((*state).to_owned(), json!(0)))
                .collect();
            for (state, at) in &task.timestamps {
                // That a task waits for the commit is still RUNNING for Flink, since when it ran.
                if *state != ExecutionState::AwaitingCommit {
                    let at = self.clock.epoch_ms(*at);
                    timestamps.insert(state.rest_name().to_owned(), json!(at));
                }
            }
            json!({
                "subtask": task.execution.subtask,
                "endpoint": self.endpoint(task.resource.as_ref()),
                "duration": span_ms(self.clock, started(task), ended(task)),
                "timestamps": timestamps,
            })
        };
        json!({
            "id": self.vertex.id.to_string(),
            "name": self.vertex.name(),
            "now": self.now(),
            "subtasks": self.tasks().into_iter().map(one).collect::<Vec<_>>(),
        })
    }

    pub(super) fn task_managers(self) -> Value {
        let mut by_manager: BTreeMap<Option<&ResourceId>, Vec<&TaskView>> = BTreeMap::new();
        for task in self.tasks() {
            let of = by_manager.entry(task.resource.as_ref()).or_default();
            of.push(task);
        }
        let one = |(resource, tasks): (Option<&ResourceId>, Vec<&TaskView>)| {
            let start = tasks.iter().filter_map(|task| started(task)).min();
            let all_over = tasks.iter().all(|task| task.state.is_terminal());
            let end = tasks.iter().filter_map(|task| ended(task)).max();
            let end = end.filter(|_| all_over);
            json!({
                "endpoint": self.endpoint(resource),
                "taskmanager-id": resource.map_or(UNASSIGNED, ResourceId::as_str),
                "status": vertex_state(&tasks),
                "start-time": optional_ms(self.clock, start),
                "end-time": optional_ms(self.clock, end),
                "duration": span_ms(self.clock, start, end),
                "metrics": metrics(&tasks),
                "status-counts": counts(tasks.iter().map(|task| task.state.rest_name())),
                "aggregated": {"metrics": metrics(&tasks)},
            })
        };
        json!({
            "id": self.vertex.id.to_string(),
            "name": self.vertex.name(),
            "now": self.now(),
            "taskmanagers": by_manager.into_iter().map(one).collect::<Vec<_>>(),
        })
    }

    pub(super) fn watermarks(self) -> Value {
        self.tasks()
            .into_iter()
            .filter_map(|task| {
                let watermark = task.metrics.watermark_ms?;
                let id = format!("{}.currentInputWatermark", task.execution.subtask);
                Some(json!({"id": id, "value": watermark.to_string()}))
            })
            .collect()
    }

    /// Without two reports of any subtask, what Flink answers where there are no samples.
    pub(super) fn back_pressure(self) -> Value {
        let tasks = self.tasks();
        let loads = tasks.iter().filter_map(|task| Some((*task, task.load?)));
        let one = |(task, load): (&TaskView, TaskLoad)| {
            let ratio = |per_second: u32| f64::from(per_second) / 1000.0;
            let level = level(load.backpressured_ms_per_second);
            json!({
                "subtask": task.execution.subtask,
                "attempt-number": task.execution.attempt,
                // Flink has both.
                "backpressureLevel": level,
                "backpressure-level": level,
                "ratio": ratio(load.backpressured_ms_per_second),
                "idleRatio": ratio(load.idle_ms_per_second),
                "busyRatio": ratio(load.busy_ms_per_second),
                "other-concurrent-attempts": [],
            })
        };
        let most = loads
            .clone()
            .map(|(_, load)| load.backpressured_ms_per_second);
        let most = most.max().map(level);
        let newest = loads.clone().map(|(_, load)| load.until).max();
        json!({
            "status": if most.is_some() { "ok" } else { "deprecated" },
            "backpressureLevel": most,
            "backpressure-level": most,
            "end-timestamp": newest.map(|at| self.clock.epoch_ms(at)),
            "subtasks": loads.map(one).collect::<Vec<_>>(),
        })
    }

    /// What collecting sinks hold of each name; the values themselves are told by job, once all of it is there.
    pub(super) fn accumulators(self) -> Value {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for (sink, bytes) in self.tasks().into_iter().flat_map(|task| &task.collected) {
            *all.entry(sink).or_default() += bytes;
        }
        let all: Vec<_> = all
            .into_iter()
            .map(|(sink, bytes)| accumulator(sink, bytes))
            .collect();
        json!({"id": self.vertex.id.to_string(), "user-accumulators": all})
    }

    pub(super) fn subtask_accumulators(self) -> Value {
        let one = |task: &TaskView| {
            json!({
                "subtask": task.execution.subtask,
                "attempt": task.execution.attempt,
                "endpoint": self.endpoint(task.resource.as_ref()),
                "user-accumulators": accumulators(task),
            })
        };
        json!({
            "id": self.vertex.id.to_string(),
            "parallelism": self.vertex.parallelism,
            "subtasks": self.tasks().into_iter().map(one).collect::<Vec<_>>(),
        })
    }
}

fn accumulator(sink: &str, bytes: u64) -> Value {
    json!({"name": sink, "type": "collect", "value": format!("{bytes} bytes")})
}

/// Those of one attempt.
pub(super) fn accumulators(task: &TaskView) -> Vec<Value> {
    let all = task.collected.iter();
    all.map(|(sink, bytes)| accumulator(sink, *bytes)).collect()
}

/// Flink's words for the share of its time that a subtask is held back by those behind it.
fn level(backpressured_ms_per_second: u32) -> &'static str {
    match backpressured_ms_per_second {
        0..=100 => "ok",
        101..=500 => "low",
        _ => "high",
    }
}

/// What Flink answers where flame graphs are switched off.
pub(super) fn flame_graph() -> Value {
    json!({"endTimestamp": -2})
}
