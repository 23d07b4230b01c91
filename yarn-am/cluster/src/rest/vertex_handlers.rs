//! What answers at the paths of vertices and their subtasks.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};
use spindle_common::id::JobVertexId;
use spindle_jobmanager::message::TaskView;

use super::handlers::{Answer, job_of};
use super::metrics::{self, Metrics, Wanted};
use super::vertices::{self, Shown};
use super::{Api, Failure, Shared};

fn with_vertex(
    api: &Api,
    (id, vertex): (&str, &str),
    f: impl FnOnce(Shown<'_>) -> Result<Value, Failure>,
) -> Answer {
    let view = api.handle.view();
    let (id, job) = job_of(&view, id)?;
    let vertex: JobVertexId = vertex
        .parse()
        .map_err(|error| Failure::bad_request(format!("{error}")))?;
    let Some(vertex) = job.graph.vertex(vertex) else {
        return Err(Failure::not_found(format!(
            "job {id} has no vertex {vertex}"
        )));
    };
    let clock = api.clock();
    f(Shown {
        view: &view,
        job,
        vertex,
        clock,
    })
    .map(Json)
}

type OfVertex = Path<(String, String)>;

pub(super) async fn vertex(State(api): Shared, Path((id, vertex)): OfVertex) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| Ok(shown.details()))
}

pub(super) async fn vertex_accumulators(
    State(api): Shared,
    Path((id, vertex)): OfVertex,
) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| Ok(shown.accumulators()))
}

pub(super) async fn subtask_accumulators(
    State(api): Shared,
    Path((id, vertex)): OfVertex,
) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| {
        Ok(shown.subtask_accumulators())
    })
}

pub(super) async fn back_pressure(State(api): Shared, Path((id, vertex)): OfVertex) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| Ok(shown.back_pressure()))
}

pub(super) async fn flame_graph(State(api): Shared, Path((id, vertex)): OfVertex) -> Answer {
    with_vertex(&api, (&id, &vertex), |_| Ok(vertices::flame_graph()))
}

pub(super) async fn subtask_times(State(api): Shared, Path((id, vertex)): OfVertex) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| Ok(shown.times()))
}

pub(super) async fn vertex_task_managers(
    State(api): Shared,
    Path((id, vertex)): OfVertex,
) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| Ok(shown.task_managers()))
}

pub(super) async fn watermarks(State(api): Shared, Path((id, vertex)): OfVertex) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| Ok(shown.watermarks()))
}

pub(super) async fn vertex_metrics(
    State(api): Shared,
    Path((id, vertex)): OfVertex,
    Query(wanted): Query<Wanted>,
) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| {
        let metrics = metrics::of_vertex(&shown.tasks());
        Ok(metrics::answer(&metrics, &wanted))
    })
}

pub(super) async fn subtasks_metrics(
    State(api): Shared,
    Path((id, vertex)): OfVertex,
    Query(wanted): Query<Wanted>,
) -> Answer {
    with_vertex(&api, (&id, &vertex), |shown| {
        let mut tasks = shown.tasks();
        if let Some(subtasks) = &wanted.subtasks {
            let chosen = metrics::indices(subtasks)?;
            tasks.retain(|task| chosen.contains(&task.execution.subtask));
        }
        let all: Vec<Metrics> = tasks.into_iter().map(metrics::of_task).collect();
        metrics::aggregate(&all, &wanted)
    })
}

/// One subtask, and if an attempt is named, that one.
fn with_subtask(
    api: &Api,
    (id, vertex): (&str, &str),
    (subtask, attempt): (&str, Option<&str>),
    f: impl FnOnce(Shown<'_>, &TaskView) -> Value,
) -> Answer {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| {
            Failure::bad_request(format!("`{text}` is no number of a subtask or attempt"))
        })
    };
    let index = number(subtask)?;
    let attempt = attempt.map(number).transpose()?;
    with_vertex(api, (id, vertex), |shown| {
        let Some(task) = shown.task(index) else {
            return Err(Failure::not_found(format!("there is no subtask {index}")));
        };
        let current = task.execution.attempt;
        let attempt = attempt.unwrap_or(current);
        let task = shown.attempt(index, attempt).ok_or_else(|| {
            Failure::not_found(format!(
                "attempt {attempt} is not kept: the current one is {current}"
            ))
        })?;
        Ok(f(shown, task))
    })
}

pub(super) async fn subtask(
    State(api): Shared,
    Path((id, vertex, subtask)): Path<(String, String, String)>,
) -> Answer {
    with_subtask(&api, (&id, &vertex), (&subtask, None), |shown, task| {
        shown.subtask(task)
    })
}

pub(super) async fn subtask_metrics(
    State(api): Shared,
    Path((id, vertex, subtask)): Path<(String, String, String)>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    with_subtask(&api, (&id, &vertex), (&subtask, None), |_, task| {
        metrics::answer(&metrics::of_task(task), &wanted)
    })
}

type OfAttempt = Path<(String, String, String, String)>;

pub(super) async fn attempt(
    State(api): Shared,
    Path((id, vertex, subtask, attempt)): OfAttempt,
) -> Answer {
    let which = (subtask.as_str(), Some(attempt.as_str()));
    with_subtask(&api, (&id, &vertex), which, |shown, task| {
        shown.subtask(task)
    })
}

pub(super) async fn attempt_accumulators(
    State(api): Shared,
    Path((id, vertex, subtask, attempt)): OfAttempt,
) -> Answer {
    let which = (subtask.as_str(), Some(attempt.as_str()));
    with_subtask(&api, (&id, &vertex), which, |_, task| {
        json!({
            "subtask": task.execution.subtask,
            "attempt": task.execution.attempt,
            "id": task.execution.to_string(),
            "user-accumulators": vertices::accumulators(task),
        })
    })
}
