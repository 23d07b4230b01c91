//! What answers at each path. Most read the newest view and change nothing.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use spindle_common::execution::JobStatus;
use spindle_common::id::{JobId, ResourceId};
use spindle_jobmanager::message::{JobView, TaskManagerView, View};

use super::metrics::{self, Metrics, Wanted};
use super::{
    Api, Caller, Failure, Right, Shared, VERSION, jobs, logs, openapi, page, task_managers,
};

pub(super) type Answer = Result<Json<Value>, Failure>;

/// Values of settings whose keys have one of these in them are not shown. Flink: `GlobalConfiguration.isSensitive`.
const SENSITIVE: [&str; 12] = [
    "password",
    "secret",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "token",
    "service-key",
    "basic-auth",
    "jaas.config",
    "http-headers",
    "credential",
];

pub(super) fn job_of<'a>(view: &'a View, id: &str) -> Result<(JobId, &'a JobView), Failure> {
    let job: JobId = id
        .parse()
        .map_err(|error| Failure::bad_request(format!("{error}")))?;
    let found = view.jobs.get(&job);
    found
        .map(|found| (job, found.as_ref()))
        .ok_or_else(|| Failure::not_found(format!("there is no job {job} here")))
}

fn with_job(api: &Api, id: &str, f: impl FnOnce(JobId, &JobView) -> Value) -> Answer {
    let view = api.handle.view();
    let (id, job) = job_of(&view, id)?;
    Ok(Json(f(id, job)))
}

fn with_task_manager(
    api: &Api,
    resource: String,
    f: impl FnOnce(&View, &ResourceId, &TaskManagerView) -> Result<Value, Failure>,
) -> Answer {
    let view = api.handle.view();
    let resource = ResourceId::new(resource);
    match view.task_managers.get(&resource) {
        Some(manager) => f(&view, &resource, manager).map(Json),
        None => Err(Failure::not_found(format!(
            "there is no TaskManager {resource} here"
        ))),
    }
}

pub(super) async fn status_page(
    State(api): Shared,
    Extension(caller): Extension<Caller>,
) -> Html<String> {
    let base = match &caller {
        Caller::Proxied(_) => api.config.proxy_base.as_deref(),
        Caller::Owner => None,
    };
    Html(page::render(
        &api.handle.view(),
        api.clock(),
        &api.config.name,
        base,
    ))
}

pub(super) async fn document() -> Json<Value> {
    Json(openapi::document())
}

pub(super) async fn overview(State(api): Shared) -> Json<Value> {
    let view = api.handle.view();
    let jobs = |wanted: fn(JobStatus) -> bool| {
        let of = |job: &&JobView| wanted(job.status);
        view.jobs.values().map(Arc::as_ref).filter(of).count()
    };
    Json(json!({
        "taskmanagers": view.task_managers.len(),
        "slots-total": view.task_managers.values().map(|manager| manager.slots).sum::<u32>(),
        "slots-available": view.task_managers.values().map(|manager| manager.free_slots).sum::<u32>(),
        "jobs-running": jobs(|status| !status.is_terminal()),
        "jobs-finished": jobs(|status| status == JobStatus::Finished),
        "jobs-cancelled": jobs(|status| status == JobStatus::Canceled),
        "jobs-failed": jobs(|status| status == JobStatus::Failed),
        "flink-version": VERSION,
        "flink-commit": "",
        "containers-pending": view.containers_pending,
        "containers-starting": view.containers_starting,
        "progress": view.progress,
    }))
}

pub(super) async fn dashboard_config() -> Json<Value> {
    Json(json!({
        "refresh-interval": 3000,
        "timezone-name": "Coordinated Universal Time",
        "timezone-offset": 0,
        "flink-version": VERSION,
        "flink-revision": "",
        "features": {
            "web-submit": false, "web-cancel": true, "web-rescale": false, "web-history": false,
        },
    }))
}

pub(super) async fn job_ids(State(api): Shared) -> Json<Value> {
    Json(json!({"jobs": jobs::ids(&api.handle.view())}))
}

pub(super) async fn jobs_overview(State(api): Shared) -> Json<Value> {
    Json(json!({"jobs": jobs::overview(&api.handle.view(), api.clock())}))
}

pub(super) async fn jobs_metrics(State(api): Shared, Query(wanted): Query<Wanted>) -> Answer {
    let view = api.handle.view();
    let chosen: Vec<&JobView> = match &wanted.jobs {
        None => view.jobs.values().map(Arc::as_ref).collect(),
        Some(ids) => ids
            .split(',')
            .map(|id| job_of(&view, id).map(|(_, job)| job))
            .collect::<Result<_, _>>()?,
    };
    let clock = api.clock();
    let all: Vec<Metrics> = chosen
        .into_iter()
        .map(|job| metrics::of_job(job, clock))
        .collect();
    metrics::aggregate(&all, &wanted).map(Json)
}

pub(super) async fn job(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(&api, &id, |id, job| jobs::details(id, job, api.clock()))
}

pub(super) async fn job_status(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(
        &api,
        &id,
        |_, job| json!({"status": job.status.rest_name()}),
    )
}

pub(super) async fn job_execution_result(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(&api, &id, |id, job| {
        jobs::execution_result(id, job, api.clock())
    })
}

pub(super) async fn job_config(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(&api, &id, jobs::config)
}

pub(super) async fn job_plan(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(
        &api,
        &id,
        |id, job| json!({"plan": jobs::plan(id, &job.graph)}),
    )
}

pub(super) async fn job_exceptions(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(&api, &id, |_, job| jobs::exceptions(job, api.clock()))
}

pub(super) async fn job_accumulators(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_job(&api, &id, |_, job| jobs::accumulators(job))
}

pub(super) async fn job_metrics(
    State(api): Shared,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    with_job(&api, &id, |_, job| {
        metrics::answer(&metrics::of_job(job, api.clock()), &wanted)
    })
}

#[derive(Deserialize)]
pub(super) struct Release {
    #[serde(default)]
    release: bool,
}

pub(super) async fn job_collected(
    State(api): Shared,
    Path(id): Path<String>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Release>,
) -> Answer {
    outcome(&api, &caller, &id, query.release, jobs::collected).await
}

pub(super) async fn job_result(
    State(api): Shared,
    Path(id): Path<String>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Release>,
) -> Answer {
    let clock = api.clock();
    outcome(&api, &caller, &id, query.release, |job| {
        jobs::result(job, clock)
    })
    .await
}

/// Something of a job, after which the cluster may be released if the job is over.
async fn outcome(
    api: &Api,
    caller: &Caller,
    id: &str,
    release: bool,
    of: impl FnOnce(&JobView) -> Value,
) -> Answer {
    if release && !api.config.access.lets(caller, Right::Modify) {
        return Err(Failure {
            status: StatusCode::FORBIDDEN,
            message: "who may only look does not release the cluster".to_owned(),
        });
    }
    let (over, answer) = {
        let view = api.handle.view();
        let (_, job) = job_of(&view, id)?;
        (job.status.is_terminal(), of(job))
    };
    // A cluster that is over has nobody to release.
    if release && over && api.handle.client_released().await.is_err() {
        tracing::debug!("released after the end");
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
pub(super) struct Mode {
    mode: Option<String>,
}

pub(super) async fn terminate(
    state: Shared,
    id: Path<String>,
    caller: Extension<Caller>,
    Query(query): Query<Mode>,
) -> Result<Response, Failure> {
    match query.mode.as_deref() {
        None | Some("cancel") => cancel(state, id, caller).await,
        Some(other) => Err(Failure::bad_request(format!(
            "mode `{other}` is not known: the only one is cancel"
        ))),
    }
}

pub(super) async fn cancel(
    State(api): Shared,
    Path(id): Path<String>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    let (job, _) = job_of(&api.handle.view(), &id)?;
    let reason = format!("cancelled by {caller}");
    let sent = api.handle.cancel(job, reason).await;
    sent.map_err(Failure::gone)?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}

pub(super) async fn task_managers(State(api): Shared) -> Json<Value> {
    let view: Arc<View> = api.handle.view();
    Json(json!({"taskmanagers": task_managers::all(&view, api.clock())}))
}

pub(super) async fn task_manager(State(api): Shared, Path(resource): Path<String>) -> Answer {
    with_task_manager(&api, resource, |view, resource, _| {
        let details = task_managers::details(view, resource, api.clock());
        details.ok_or_else(|| Failure::not_found("it has just gone"))
    })
}

pub(super) async fn task_manager_metrics(
    State(api): Shared,
    Path(resource): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    with_task_manager(&api, resource, |_, _, manager| {
        Ok(metrics::answer(&metrics::of_task_manager(manager), &wanted))
    })
}

pub(super) async fn task_managers_metrics(
    State(api): Shared,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let view = api.handle.view();
    let chosen: Option<Vec<&str>> = wanted
        .taskmanagers
        .as_deref()
        .map(|ids| ids.split(',').collect());
    let all: Vec<Metrics> = view
        .task_managers
        .iter()
        .filter(|(id, _)| {
            let chosen = chosen.as_ref();
            chosen.is_none_or(|chosen| chosen.contains(&id.as_str()))
        })
        .map(|(_, manager)| metrics::of_task_manager(manager))
        .collect();
    metrics::aggregate(&all, &wanted).map(Json)
}

pub(super) async fn job_manager_config(State(api): Shared) -> Json<Value> {
    let one = |(key, value): &(String, String)| {
        let low = key.to_ascii_lowercase();
        let hidden = SENSITIVE.iter().any(|word| low.contains(word));
        let value = if hidden { "******" } else { value };
        json!({"key": key, "value": value})
    };
    Json(api.config.configuration.iter().map(one).collect())
}

/// Nothing of the environment's variables: they hold what is nobody's business.
pub(super) async fn job_manager_environment() -> Json<Value> {
    Json(json!({
        "jvm": {
            "version": format!("none: Spindle {} is a native executable", env!("CARGO_PKG_VERSION")),
            "arch": std::env::consts::ARCH,
            "options": [],
        },
        "classpath": [],
    }))
}

pub(super) async fn job_manager_metrics(
    State(api): Shared,
    Query(wanted): Query<Wanted>,
) -> Json<Value> {
    let metrics = metrics::of_job_manager(&api.handle.view());
    Json(metrics::answer(&metrics, &wanted))
}

pub(super) async fn job_manager_threads() -> Failure {
    Failure::not_implemented("threads of a native process are not dumped")
}

pub(super) async fn job_manager_logs(State(api): Shared) -> Answer {
    on_disk(api, logs::list).await.map(Json)
}

pub(super) async fn job_manager_log(State(api): Shared) -> Result<Response, Failure> {
    on_disk(api, logs::main).await.map(plain)
}

pub(super) async fn job_manager_stdout(State(api): Shared) -> Result<Response, Failure> {
    let show = |directory: Option<&std::path::Path>| logs::show(directory, "stdout");
    on_disk(api, show).await.map(plain)
}

pub(super) async fn job_manager_log_file(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let show = move |directory: Option<&std::path::Path>| logs::show(directory, &name);
    on_disk(api, show).await.map(plain)
}

pub(super) fn plain(text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, text).into_response()
}

async fn on_disk<T: Send + 'static>(
    api: Arc<Api>,
    read: impl FnOnce(Option<&std::path::Path>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let read = move || read(api.config.log_directory.as_deref());
    let done = tokio::task::spawn_blocking(read).await;
    done.unwrap_or_else(|error| {
        Err(Failure {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: format!("the log could not be read: {error}"),
        })
    })
}
