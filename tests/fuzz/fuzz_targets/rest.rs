//! A request to the REST API: method, who asks, path and query, content type, body. Without a right nobody gets anything, however
//! the rest looks; with it the worst is an error in our form, and never a fault of the server.
//!
//! ```text
//! input = method (u8) asker (u8) path LF content type LF body
//! ```
#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, Response, header};
use libfuzzer_sys::fuzz_target;
use spindle_cluster::rest::{Access, Acl, RestConfig, router};
use spindle_cluster::{Clock, ClusterDriver, ControlPlane};
use spindle_common::execution::{ExecutionState, JobStatus};
use spindle_common::gateway::TaskMetricsSnapshot;
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId, NodeName, ResourceId};
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, JobGraph, JobVertex, OperatorDescriptor, OperatorKind,
};
use spindle_common::resource::{ByteSize, ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;
use spindle_jobmanager::machine::{Machine, Outbox};
use spindle_jobmanager::message::{
    ConnectionId, Effect, Input, JobView, TaskManagerView, TaskView, View,
};
use spindle_rpc::Secret;
use tower::ServiceExt;

const PROXY: [u8; 4] = [10, 0, 0, 1];

/// A cluster that always looks the same.
struct Fixture;

impl Machine for Fixture {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, _: MonoTime, _: Input, _: &mut Outbox<'_, Effect>) {}

    fn deadline(&self) -> Option<MonoTime> {
        None
    }
}

impl ControlPlane for Fixture {
    fn view(&self) -> View {
        let vertex = JobVertex {
            id: JobVertexId::from_bytes([2; 16]),
            parallelism: 1,
            max_parallelism: 128,
            operators: vec![OperatorDescriptor {
                uid: "read".to_owned(),
                name: "read".to_owned(),
                kind: OperatorKind::Source,
            }],
            splits: Vec::new(),
            staging: Vec::new(),
            slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
        };
        let task = TaskView {
            execution: ExecutionAttemptId {
                vertex: vertex.id,
                subtask: 0,
                attempt: 0,
            },
            state: ExecutionState::Running,
            resource: Some(ResourceId::new("container_1")),
            timestamps: BTreeMap::from([(ExecutionState::Running, MonoTime::from_millis(5000))]),
            metrics: TaskMetricsSnapshot::default(),
            load: None,
            collected: Vec::new(),
        };
        let job = JobView {
            graph: Arc::new(JobGraph {
                name: "count".to_owned(),
                vertices: vec![vertex],
                edges: Vec::new(),
                slot_profiles: BTreeMap::new(),
            }),
            status: JobStatus::Running,
            timestamps: BTreeMap::from([(JobStatus::Running, MonoTime::from_millis(3000))]),
            started: MonoTime::from_millis(2000),
            ended: None,
            restarts: 0,
            cause: None,
            waiting_for: None,
            tasks: vec![task],
            past: Arc::default(),
            checkpoints: None,
            collected: BTreeMap::new(),
        };
        let manager = TaskManagerView {
            connection: ConnectionId(0),
            node: NodeName::new("n1:4000"),
            host: "n1".to_owned(),
            pid: 42,
            slots: 1,
            free_slots: 0,
            total: SlotProfile::new(1.0, ByteSize::from_mib(480)),
            free: SlotProfile::new(0.0, ByteSize::from_mib(0)),
            profile: ResourceProfile {
                memory: ByteSize::from_mib(512),
                vcores: 1,
            },
            since: MonoTime::ZERO,
            last_heartbeat: MonoTime::from_millis(7000),
            resident_bytes: 1,
            worker_resident_bytes: 1,
        };
        View {
            jobs: BTreeMap::from([(JobId::from_bytes([1; 16]), Arc::new(job))]),
            task_managers: BTreeMap::from([(ResourceId::new("container_1"), manager)]),
            ..View::default()
        }
    }
}

fn config(secret: &Secret) -> RestConfig {
    RestConfig {
        name: "fuzz".to_owned(),
        access: Access {
            secret: secret.clone(),
            proxies: BTreeSet::from([PROXY.into()]),
            owner: "alice".to_owned(),
            viewers: Acl::parse("bob"),
            modifiers: Acl::parse("carol"),
        },
        proxy_base: Some("/proxy/application_1_0001".to_owned()),
        accepts_jobs: true,
        log_directory: None,
        snapshots: None,
        configuration: Vec::new(),
    }
}

/// A cluster that hears everything and does nothing: it has to be made anew before its inbox is full.
struct Server {
    _driver: ClusterDriver<Fixture>,
    router: Router,
    requests: usize,
}

const MOST_REQUESTS: usize = 500;

fn server(secret: &Secret) -> Router {
    thread_local!(static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) });
    SERVER.with_borrow_mut(|server| {
        let fresh = || {
            let (driver, handle) = ClusterDriver::new(Fixture, Clock::start());
            Server {
                _driver: driver,
                router: router(handle, config(secret)),
                requests: 0,
            }
        };
        if server
            .as_ref()
            .is_some_and(|server| server.requests >= MOST_REQUESTS)
        {
            *server = None;
        }
        let server = server.get_or_insert_with(fresh);
        server.requests += 1;
        server.router.clone()
    })
}

/// The request that these bytes are, and whether whoever asks may do anything.
fn request(bytes: &[u8], secret: &Secret) -> Option<(Request<Body>, bool)> {
    let (&[method, asker], rest) = bytes.split_first_chunk()?;
    let mut parts = rest.splitn(3, |&byte| byte == b'\n');
    let (path, content, body) = (parts.next()?, parts.next()?, parts.next()?);
    let methods = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::PATCH,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let mut request = Request::builder()
        .method(&methods[usize::from(method) % methods.len()])
        .uri(path)
        .header(header::CONTENT_TYPE, content);
    let (mut from, mut may) = ([10, 0, 0, 2], false);
    request = match asker % 5 {
        0 => request,
        1 => request.header(header::AUTHORIZATION, content),
        // A stranger who says that he is the proxy's user.
        2 => request.header(header::COOKIE, "proxy-user=alice"),
        3 => {
            (from, may) = (PROXY, true);
            request.header(header::COOKIE, "a=b; proxy-user=carol")
        }
        _ => {
            may = true;
            request.header(header::AUTHORIZATION, secret.to_bearer())
        }
    };
    let mut request = request.body(Body::from(body.to_vec())).ok()?;
    let peer = SocketAddr::from((from, 5000));
    request.extensions_mut().insert(ConnectInfo(peer));
    Some((request, may))
}

async fn check(response: Response<Body>, is_head: bool, may: bool) {
    let status = response.status();
    assert!(may || status == 401 || status == 403, "{status}");
    assert_ne!(status, 500);
    if is_head || !(status.is_client_error() || status.is_server_error()) {
        return;
    }
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    let body: serde_json::Value =
        serde_json::from_slice(&body.expect("an error is short")).expect("an error is JSON");
    assert!(body["errors"][0].is_string(), "{status}: {body}");
}

fuzz_target!(|bytes: &[u8]| {
    let secret = Secret::from_bytes([7; 32]);
    let Some((request, may)) = request(bytes, &secret) else {
        return;
    };
    // Its time stands still, so that waiting for something that does not come costs nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let is_head = request.method() == Method::HEAD;
        let answer = server(&secret).oneshot(request).await;
        let response = answer.unwrap_or_else(|never| match never {});
        check(response, is_head, may).await;
    });
});
