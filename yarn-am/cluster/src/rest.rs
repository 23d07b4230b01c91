//! The REST API: paths, verbs and fields of Flink's monitoring API, with a few of our own beside, and one status page.
//!
//! Everything is read from the newest [`View`]; what changes something goes to the driver as an input. Nobody gets in by
//! knowing the port: [`Access`] says who may do what. YARN's proxy turns an answer without a body into an error, so each has one.

mod access;
mod jobs;
mod page;
mod submission;
mod task_managers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use spindle_common::execution::JobStatus;
use spindle_common::id::{JobId, JobVertexId, ResourceId};
use spindle_jobmanager::message::{JobView, View};
use tokio::net::TcpListener;

use access::Asker;
pub use access::{Access, Acl, Caller, Right};

use crate::clock::Clock;
use crate::handle::{ClusterGone, ClusterHandle};

/// The API is that of this Flink.
const VERSION: &str = concat!("1.20-spindle-", env!("CARGO_PKG_VERSION"));

/// What the REST API needs to know.
#[derive(Debug, Clone)]
pub struct RestConfig {
    /// Name of the cluster, for the page.
    pub name: String,
    /// Who may do what.
    pub access: Access,
    /// Path under which a proxy shows this server, without a slash at the end; YARN: `APPLICATION_WEB_PROXY_BASE`.
    pub proxy_base: Option<String>,
    /// Whether jobs may be handed in, and the cluster stopped: a session.
    pub accepts_jobs: bool,
    /// Where the log files of this process are.
    pub log_directory: Option<PathBuf>,
    /// Settings of the cluster: key and value as written.
    pub configuration: Vec<(String, String)>,
}

struct Api {
    handle: ClusterHandle,
    config: RestConfig,
}

type Shared = State<Arc<Api>>;

/// The API of a cluster. A request that does not come through [`serve`] needs its peer as an extension, `ConnectInfo<SocketAddr>`.
pub fn router(handle: ClusterHandle, config: RestConfig) -> Router {
    let api = Arc::new(Api { handle, config });
    Router::new()
        .route("/", get(status_page))
        .route("/overview", get(overview))
        .route("/config", get(dashboard_config))
        .route(
            "/jobs",
            get(job_ids).post(submission::post).put(submission::put),
        )
        .route("/cluster", delete(submission::stop_cluster))
        .route("/cluster/stop", put(submission::stop_cluster))
        .route("/jobs/overview", get(jobs_overview))
        .route("/jobs/{job}", get(job).patch(terminate))
        .route("/jobs/{job}/status", get(job_status))
        .route("/jobs/{job}/plan", get(job_plan))
        .route("/jobs/{job}/vertices/{vertex}", get(job_vertex))
        .route("/jobs/{job}/exceptions", get(job_exceptions))
        .route("/jobs/{job}/accumulators", get(job_accumulators))
        .route("/jobs/{job}/collected", get(job_collected))
        .route("/jobs/{job}/result", get(job_result))
        .route("/jobs/{job}/cancel", put(cancel))
        .route("/taskmanagers", get(task_managers))
        .route("/taskmanagers/{resource}", get(task_manager))
        .fallback(async || Failure::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Failure {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "this path does not take this method".to_owned(),
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard))
        .with_state(api)
}

/// Answers on `listener` until the future is dropped.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await
}

/// An answer other than the one wanted.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: message.into(),
        }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    fn gone(_: ClusterGone) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "the cluster is ending".to_owned(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"errors": [self.message]}))).into_response()
    }
}

/// Before anything of a request but its head is read.
async fn guard(State(api): Shared, mut request: Request, next: Next) -> Response {
    let right = match *request.method() {
        Method::GET | Method::HEAD => Right::View,
        _ => Right::Modify,
    };
    match api.config.access.decide(Asker::of(&request), right) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => Failure {
            status: refusal.status,
            message: refusal.message,
        }
        .into_response(),
    }
}

impl Api {
    fn clock(&self) -> Clock {
        self.handle.clock()
    }

    fn with_job<T>(
        &self,
        id: &str,
        f: impl FnOnce(JobId, &JobView) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let job: JobId = id
            .parse()
            .map_err(|error| Failure::bad_request(format!("{error}")))?;
        let view = self.handle.view();
        let found = view.jobs.get(&job);
        found.map_or_else(
            || Err(Failure::not_found(format!("there is no job {job} here"))),
            |found| f(job, found),
        )
    }
}

async fn status_page(State(api): Shared, Extension(caller): Extension<Caller>) -> Html<String> {
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

async fn overview(State(api): Shared) -> Json<Value> {
    let view = api.handle.view();
    let jobs = |wanted: fn(JobStatus) -> bool| {
        let of = |job: &&JobView| wanted(job.status);
        view.jobs.values().filter(of).count()
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

async fn dashboard_config() -> Json<Value> {
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

async fn job_ids(State(api): Shared) -> Json<Value> {
    Json(json!({"jobs": jobs::ids(&api.handle.view())}))
}

async fn jobs_overview(State(api): Shared) -> Json<Value> {
    Json(json!({"jobs": jobs::overview(&api.handle.view(), api.clock())}))
}

async fn job(State(api): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    api.with_job(&id, |id, job| Ok(Json(jobs::details(id, job, api.clock()))))
}

async fn job_status(State(api): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    api.with_job(&id, |_, job| {
        Ok(Json(json!({"status": job.status.rest_name()})))
    })
}

async fn job_plan(State(api): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    api.with_job(&id, |id, job| {
        Ok(Json(json!({"plan": jobs::plan(id, &job.graph)})))
    })
}

async fn job_vertex(
    State(api): Shared,
    Path((id, vertex)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let vertex: JobVertexId = vertex
        .parse()
        .map_err(|error| Failure::bad_request(format!("{error}")))?;
    api.with_job(&id, |id, job| {
        jobs::vertex(job, vertex, &api.handle.view(), api.clock())
            .map(Json)
            .ok_or_else(|| Failure::not_found(format!("job {id} has no vertex {vertex}")))
    })
}

async fn job_exceptions(
    State(api): Shared,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    api.with_job(&id, |_, job| Ok(Json(jobs::exceptions(job, api.clock()))))
}

async fn job_accumulators(
    State(api): Shared,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    api.with_job(&id, |_, job| Ok(Json(jobs::accumulators(job))))
}

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    release: bool,
}

async fn job_collected(
    State(api): Shared,
    Path(id): Path<String>,
    Query(query): Query<Release>,
) -> Result<Json<Value>, Failure> {
    let (over, answer) = api.with_job(&id, |_, job| {
        Ok((job.status.is_terminal(), jobs::collected(job)))
    })?;
    release(&api, query.release && over).await;
    Ok(Json(answer))
}

async fn job_result(
    State(api): Shared,
    Path(id): Path<String>,
    Query(query): Query<Release>,
) -> Result<Json<Value>, Failure> {
    let (over, answer) = api.with_job(&id, |_, job| {
        Ok((job.status.is_terminal(), jobs::result(job, api.clock())))
    })?;
    release(&api, query.release && over).await;
    Ok(Json(answer))
}

async fn release(api: &Api, wanted: bool) {
    // A cluster that is over has nobody to release.
    if wanted && api.handle.client_released().await.is_err() {
        tracing::debug!("released after the end");
    }
}

#[derive(Deserialize)]
struct Mode {
    mode: Option<String>,
}

async fn terminate(
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

async fn cancel(
    State(api): Shared,
    Path(id): Path<String>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    let job = api.with_job(&id, |id, _| Ok(id))?;
    let reason = format!("cancelled by {caller}");
    let sent = api.handle.cancel(job, reason).await;
    sent.map_err(Failure::gone)?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}

async fn task_managers(State(api): Shared) -> Json<Value> {
    let view: Arc<View> = api.handle.view();
    Json(json!({"taskmanagers": task_managers::all(&view, api.clock())}))
}

async fn task_manager(
    State(api): Shared,
    Path(resource): Path<String>,
) -> Result<Json<Value>, Failure> {
    let resource = ResourceId::new(resource);
    task_managers::details(&api.handle.view(), &resource, api.clock())
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("there is no TaskManager {resource} here")))
}

#[cfg(test)]
mod tests;
