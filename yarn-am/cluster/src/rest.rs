//! The REST API: paths, verbs and fields of Flink's monitoring API, with a few of our own beside, and one status page.
//!
//! Everything is read from the newest [`View`]; what changes something goes to the driver as an input. Nobody gets in by
//! knowing the port: [`Access`] says who may do what. YARN's proxy turns an answer without a body into an error, so each has one.

mod access;
mod checkpoints;
mod handlers;
mod inquiries;
mod jobs;
mod logs;
mod metrics;
mod openapi;
mod page;
mod routes;
mod savepoints;
mod server;
mod submission;
mod task_managers;
mod vertex_handlers;
mod vertices;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use spindle_storage::SnapshotStorage;

use access::Asker;
pub use access::{Access, Acl, Caller, Right};
use routes::ROUTES;
use server::Admitted;
pub use server::serve;

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
    /// Where savepoints are, if there is such a place.
    pub snapshots: Option<SnapshotStorage>,
}

struct Api {
    handle: ClusterHandle,
    config: RestConfig,
    /// Number of the next request for something that takes a while.
    requests: AtomicU64,
    disposals: savepoints::Disposals,
}

type Shared = State<Arc<Api>>;

/// The API of a cluster. A request that does not come through [`serve`] needs its peer as an extension, `ConnectInfo<SocketAddr>`.
pub fn router(handle: ClusterHandle, config: RestConfig) -> Router {
    let api = Arc::new(Api {
        handle,
        config,
        requests: AtomicU64::new(1),
        disposals: savepoints::Disposals::default(),
    });
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
        if route.path != "/" {
            let versioned = format!("{}{}", routes::VERSION, route.path);
            router = router.route(&versioned, (route.handler)());
        }
    }
    router
        .fallback(async || Failure::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Failure {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "this path does not take this method".to_owned(),
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard))
        .with_state(api)
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

    fn not_implemented(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
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
    let path = request.extensions().get::<MatchedPath>();
    let right = routes::right(request.method(), path.map(MatchedPath::as_str));
    match api.config.access.decide(Asker::of(&request), right) {
        Ok(caller) => {
            if let Some(admitted) = request.extensions().get::<Admitted>() {
                admitted.set();
            }
            request.extensions_mut().insert(caller);
            in_our_form(next.run(request).await).await
        }
        Err(refusal) => {
            let challenge = (refusal.status == StatusCode::UNAUTHORIZED)
                .then_some([(header::WWW_AUTHENTICATE, "Bearer")]);
            let failure = Failure {
                status: refusal.status,
                message: refusal.message,
            };
            (challenge, failure).into_response()
        }
    }
}

/// Errors that are not ours, such as of a query that cannot be read, are told like the others.
async fn in_our_form(response: Response) -> Response {
    const LONGEST: usize = 4096;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), LONGEST).await;
    let message = text.map_or_else(
        |_| status.to_string(),
        |text| String::from_utf8_lossy(&text).into_owned(),
    );
    Failure { status, message }.into_response()
}

impl Api {
    fn clock(&self) -> Clock {
        self.handle.clock()
    }
}

#[cfg(test)]
mod tests;
