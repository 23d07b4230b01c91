use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, header};
use futures::StreamExt;
use serde_json::Value;
use spindle_common::checkpoint::{CheckpointId, SnapshotKind, SubtaskCheckpointStats};
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass, JobStatus};
use spindle_common::gateway::TaskMetricsSnapshot;
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId, NodeName, ResourceId};
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, JobEdge, JobGraph, JobVertex, OperatorDescriptor, OperatorKind,
    Partitioning,
};
use spindle_common::resource::{ByteSize, ResourceProfile, SlotProfile};
use spindle_common::time::MonoTime;
use spindle_jobmanager::checkpoint::{
    CheckpointCounts, CheckpointSettingsView, CheckpointStatus, CheckpointView, CheckpointsView,
    SubtaskView, TriggerView,
};
use spindle_jobmanager::machine::{Machine, Outbox};
use spindle_jobmanager::message::{
    ConnectionId, Effect, Input, JobView, TaskManagerView, TaskView, View,
};
use spindle_rpc::Secret;
use tower::ServiceExt;

mod connections;
mod inquiries;
mod locks;
mod submission;
mod walk;

use super::*;
use crate::driver::{ClusterDriver, ControlPlane};
use crate::handle::Event;

struct Fixture(View);

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
        self.0.clone()
    }
}

const EPOCH: u64 = 1_700_000_000_000;
const PROXY: [u8; 4] = [10, 0, 0, 1];

fn job_id() -> JobId {
    JobId::from_bytes([1; 16])
}

fn vertex(name: &str, kind: OperatorKind) -> JobVertex {
    JobVertex {
        id: JobVertexId::of_uid(name),
        parallelism: 2,
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

fn task(vertex: &str, subtask: u32, state: ExecutionState) -> TaskView {
    TaskView {
        execution: ExecutionAttemptId {
            vertex: JobVertexId::of_uid(vertex),
            subtask,
            attempt: 1,
        },
        state,
        resource: Some(ResourceId::new("container_1")),
        timestamps: BTreeMap::from([
            (ExecutionState::Deploying, MonoTime::from_millis(3000)),
            (state, MonoTime::from_millis(5000)),
        ]),
        load: None,
        collected: Vec::new(),
        metrics: TaskMetricsSnapshot {
            records_in: 1000,
            records_out: 10,
            ..TaskMetricsSnapshot::default()
        },
    }
}

/// One that is complete and one that failed, both asked for.
fn checkpoints() -> CheckpointsView {
    let at = MonoTime::from_millis;
    let subtask = SubtaskView {
        acknowledged: at(4100),
        stats: SubtaskCheckpointStats {
            start_delay_ms: 3,
            alignment_us: 2000,
            sync_us: 1000,
            async_us: 90_000,
            state_bytes: 100,
            written_bytes: 60,
            persisted_bytes: 12,
            processed_bytes: 34,
            unaligned: true,
        },
    };
    let complete = Arc::new(CheckpointView {
        id: CheckpointId(7),
        kind: SnapshotKind::Checkpoint,
        status: CheckpointStatus::Completed,
        triggered: at(4000),
        latest_acknowledgement: Some(at(4100)),
        ended: Some(at(4150)),
        directory: Some("hdfs:///cp/chk-7".to_owned()),
        discarded: false,
        state_bytes: 100,
        written_bytes: 60,
        persisted_bytes: 12,
        processed_bytes: 34,
        unaligned: true,
        subtasks: 4,
        acknowledged: 4,
        failure: None,
        vertices: BTreeMap::from([(JobVertexId::of_uid("read"), vec![Some(subtask), None])]),
    });
    let failed = Arc::new(CheckpointView {
        id: CheckpointId(8),
        status: CheckpointStatus::Failed,
        failure: Some("`write` (1/2) declined it: the disk is full".to_owned()),
        ended: Some(at(5000)),
        directory: None,
        ..CheckpointView::clone(&complete)
    });
    let directory = "hdfs:///cp/chk-7".to_owned();
    let id = CheckpointId(7);
    CheckpointsView {
        counts: CheckpointCounts {
            restored: 1,
            total: 2,
            in_progress: 0,
            completed: 1,
            failed: 1,
        },
        latest_completed: Some(Arc::clone(&complete)),
        latest_savepoint: None,
        latest_failed: Some(Arc::clone(&failed)),
        restored: None,
        history: [failed, complete].into(),
        triggers: BTreeMap::from([(9, TriggerView::Completed { id, directory })]),
        settings: CheckpointSettingsView::default(),
    }
}

#[tokio::test]
async fn checkpoints_are_told_of_as_flink_does() {
    let server = server();
    let base = format!("/jobs/{}/checkpoints", job_id());
    let all = server.get(&base).await;
    assert_eq!(all["counts"]["completed"], 1);
    assert_eq!(all["history"][0]["status"], "FAILED");
    assert_eq!(
        all["history"][0]["failure_message"],
        "`write` (1/2) declined it: the disk is full"
    );
    let newest = &all["latest"]["completed"];
    assert_eq!(newest["id"], 7);
    assert_eq!(newest["external_path"], "hdfs:///cp/chk-7");
    assert_eq!(newest["trigger_timestamp"], EPOCH + 4000);
    assert_eq!(newest["end_to_end_duration"], 150);
    assert_eq!(newest["persisted_data"], 12);
    assert_eq!(newest["checkpoint_type"], "UNALIGNED_CHECKPOINT");
    assert_eq!(all["summary"]["state_size"]["p99"], 100);
    let read = JobVertexId::of_uid("read");
    let details = server.get(&format!("{base}/details/7")).await;
    assert_eq!(
        details["tasks"][read.to_string()]["num_acknowledged_subtasks"],
        1
    );
    let subtasks = server
        .get(&format!("{base}/details/7/subtasks/{read}"))
        .await;
    assert_eq!(subtasks["subtasks"][0]["checkpoint"]["async"], 90);
    assert_eq!(subtasks["subtasks"][1]["status"], "pending_or_failed");
    let asked = server.get(&format!("{base}/{:032x}", 9)).await;
    assert_eq!(asked["operation"]["checkpointId"], 7);
}

fn view() -> View {
    let graph = JobGraph {
        name: "count <words>".to_owned(),
        vertices: vec![
            vertex("read", OperatorKind::Source),
            vertex("write", OperatorKind::Sink),
        ],
        edges: vec![JobEdge {
            source: JobVertexId::of_uid("read"),
            target: JobVertexId::of_uid("write"),
            partitioning: Partitioning::Hash,
        }],
        slot_profiles: BTreeMap::new(),
    };
    let job = JobView {
        graph: Arc::new(graph),
        status: JobStatus::Failed,
        timestamps: BTreeMap::from([
            (JobStatus::Created, MonoTime::from_millis(2000)),
            (JobStatus::Running, MonoTime::from_millis(3000)),
            (JobStatus::Failed, MonoTime::from_millis(6000)),
        ]),
        started: MonoTime::from_millis(2000),
        ended: Some(MonoTime::from_millis(6000)),
        restarts: 2,
        cause: Some(FailureCause {
            class: FailureClass::Restart,
            operator: Some("read".to_owned()),
            message: "panicked at <main>".to_owned(),
        }),
        waiting_for: None,
        tasks: vec![
            task("read", 0, ExecutionState::Finished),
            task("read", 1, ExecutionState::AwaitingCommit),
            task("write", 0, ExecutionState::Failed),
            task("write", 1, ExecutionState::Canceled),
        ],
        past: Arc::default(),
        checkpoints: Some(Arc::new(checkpoints())),
        collected: BTreeMap::from([("out".to_owned(), b"{\"a\":1}\n[2]\n".to_vec())]),
    };
    let manager = TaskManagerView {
        connection: ConnectionId(0),
        node: NodeName::new("n1:4000"),
        host: "n1".to_owned(),
        pid: 42,
        slots: 2,
        free_slots: 1,
        total: SlotProfile::new(1.0, ByteSize::from_mib(480)),
        free: SlotProfile::new(0.5, ByteSize::from_mib(240)),
        profile: ResourceProfile {
            memory: ByteSize::from_mib(512),
            vcores: 1,
        },
        since: MonoTime::ZERO,
        last_heartbeat: MonoTime::from_millis(7000),
        resident_bytes: 10 << 20,
        worker_resident_bytes: 20 << 20,
    };
    View {
        jobs: BTreeMap::from([(job_id(), Arc::new(job))]),
        task_managers: BTreeMap::from([(ResourceId::new("container_1"), manager)]),
        ..View::default()
    }
}

fn secret() -> Secret {
    Secret::from_bytes([9; 32])
}

struct Server {
    driver: ClusterDriver<Fixture>,
    router: Router,
    /// Where its log files are.
    logs: Option<PathBuf>,
}

fn server() -> Server {
    server_of(true)
}

fn config(accepts_jobs: bool) -> RestConfig {
    RestConfig {
        name: "test".to_owned(),
        access: Access {
            secret: secret(),
            proxies: BTreeSet::from([PROXY.into()]),
            owner: "alice".to_owned(),
            viewers: Acl::parse("bob staff"),
            modifiers: Acl::parse("mallory"),
        },
        proxy_base: Some("/proxy/application_1_0001".to_owned()),
        accepts_jobs,
        log_directory: None,
        configuration: Vec::new(),
        snapshots: None,
    }
}

fn server_of(accepts_jobs: bool) -> Server {
    let (driver, handle) = ClusterDriver::new(Fixture(view()), Clock::fixed(EPOCH));
    let router = router(handle, config(accepts_jobs));
    Server {
        driver,
        router,
        logs: None,
    }
}

impl Server {
    async fn send(&self, request: Request) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let mut body = response.into_body().into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk: Bytes = chunk.unwrap();
            bytes.extend_from_slice(&chunk);
        }
        (status, String::from_utf8(bytes).unwrap())
    }

    async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, secret().to_bearer())
            .body(Body::empty())
            .unwrap();
        let (status, body) = self.send(request).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn proxied(
        &self,
        method: Method,
        path: &str,
        user: &str,
        from: [u8; 4],
    ) -> (StatusCode, String) {
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, format!("a=b; proxy-user={user}"))
            .body(Body::empty())
            .unwrap();
        let peer = SocketAddr::from((from, 5000));
        request.extensions_mut().insert(ConnectInfo(peer));
        self.send(request).await
    }

    fn inputs(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        while let Some(event) = self.driver.next_event() {
            if let Event::Input(input) = event {
                inputs.push(input);
            }
        }
        inputs
    }
}

#[tokio::test]
async fn the_overview_counts_slots_and_jobs() {
    let body = server().get("/overview").await;
    assert_eq!(body["taskmanagers"], 1);
    assert_eq!(
        (&body["slots-total"], &body["slots-available"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (&body["jobs-failed"], &body["jobs-running"]),
        (&json!(1), &json!(0))
    );
    assert!(body["flink-version"].as_str().unwrap().starts_with("1.20"));
}

#[tokio::test]
async fn a_job_is_shown_in_flinks_words_and_times() {
    let server = server();
    let id = job_id().to_string();
    assert_eq!(
        server.get("/jobs").await,
        json!({"jobs": [{"id": id, "status": "FAILED"}]})
    );
    let body = server.get(&format!("/jobs/{id}")).await;
    assert_eq!(body["jid"], json!(id));
    assert_eq!(body["start-time"], EPOCH + 2000);
    assert_eq!(body["end-time"], EPOCH + 6000);
    assert_eq!(body["duration"], 4000);
    assert_eq!(body["timestamps"]["RUNNING"], EPOCH + 3000);
    assert_eq!(body["timestamps"]["SUSPENDED"], 0);
    assert_eq!(
        body["status-counts"]["RUNNING"], 1,
        "one task finished, one awaits the commit"
    );
    assert_eq!(body["status-counts"]["FAILED"], 1);
    let read = &body["vertices"][0];
    assert_eq!(
        (&read["name"], &read["status"]),
        (&json!("read"), &json!("RUNNING"))
    );
    assert_eq!(read["tasks"]["FINISHED"], 1);
    assert_eq!(read["metrics"]["read-records"], 2000);
    assert_eq!(
        (&read["start-time"], &read["end-time"]),
        (&json!(EPOCH + 3000), &json!(-1))
    );
    assert_eq!(body["vertices"][1]["end-time"], EPOCH + 5000);
    let sink = &body["plan"]["nodes"][1];
    assert_eq!(sink["inputs"][0]["ship_strategy"], "HASH");
    assert_eq!(sink["inputs"][0]["id"], body["plan"]["nodes"][0]["id"]);
    assert!(body["plan"]["nodes"][0].get("inputs").is_none());
    let overview = server.get("/jobs/overview").await;
    assert_eq!(overview["jobs"][0]["tasks"]["total"], 4);
    assert_eq!(overview["jobs"][0]["last-modification"], EPOCH + 6000);
    let vertex = read["id"].as_str().unwrap();
    let body = server.get(&format!("/jobs/{id}/vertices/{vertex}")).await;
    assert_eq!(body["subtasks"][1]["endpoint"], "n1");
    assert_eq!(body["subtasks"][1]["awaiting-commit"], true);
}

#[tokio::test]
async fn the_cause_of_a_failure_is_told() {
    let server = server();
    let id = job_id();
    let cause = "operator `read` panicked at <main>";
    let body = server.get(&format!("/jobs/{id}/exceptions")).await;
    assert_eq!(
        (&body["root-exception"], &body["timestamp"]),
        (&json!(cause), &json!(EPOCH + 6000))
    );
    assert_eq!(body["exceptionHistory"]["entries"][0]["taskName"], "read");
    let body = server.get(&format!("/jobs/{id}/result")).await;
    assert_eq!(
        (&body["status"], &body["cause"]),
        (&json!("FAILED"), &json!(cause))
    );
    assert_eq!(body["ended"], EPOCH + 6000);
    assert_eq!(body["progress"], 0.0);
    assert_eq!(body["late_records_dropped"], 0);
}

#[tokio::test]
async fn collected_results_come_as_json() {
    let server = server();
    let id = job_id();
    let body = server.get(&format!("/jobs/{id}/collected")).await;
    assert_eq!(body, json!({"out": [{"a": 1}, [2]]}));
    let body = server.get(&format!("/jobs/{id}/accumulators")).await;
    assert_eq!(
        body["user-task-accumulators"][0]["value"],
        "[{\"a\":1},[2]]"
    );
}

#[tokio::test]
async fn a_client_that_has_the_result_releases_the_cluster() {
    let mut server = server();
    let path = format!("/jobs/{}/result", job_id());
    server.get(&path).await;
    assert_eq!(server.inputs(), []);
    server.get(&format!("{path}?release=true")).await;
    assert_eq!(server.inputs(), [Input::ClientReleased]);
}

#[tokio::test]
async fn a_task_manager_is_shown_with_its_memory() {
    let server = server();
    let body = server.get("/taskmanagers").await;
    let one = &body["taskmanagers"][0];
    assert_eq!(
        (&one["id"], &one["slotsNumber"]),
        (&json!("container_1"), &json!(2))
    );
    assert_eq!(one["timeSinceLastHeartbeat"], EPOCH + 7000);
    assert_eq!(one["hardware"]["freeMemory"], (512 - 30) << 20);
    let body = server.get("/taskmanagers/container_1").await;
    assert_eq!(body["metrics"]["heapUsed"], 10 << 20);
}

#[tokio::test]
async fn both_verbs_of_cancellation_reach_the_driver() {
    let mut server = server();
    let job = job_id();
    for (method, path) in [
        (Method::PUT, format!("/jobs/{job}/cancel")),
        (Method::PATCH, format!("/jobs/{job}?mode=cancel")),
        (Method::PATCH, format!("/jobs/{job}")),
    ] {
        let (status, body) = server.ask(method, &path).await;
        assert_eq!((status, body), (StatusCode::ACCEPTED, json!({})));
        let reason = "cancelled by its owner".to_owned();
        assert_eq!(server.inputs(), [Input::CancelJob { job, reason }]);
    }
    let (status, _) = server
        .ask(Method::PATCH, &format!("/jobs/{job}?mode=stop"))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(server.inputs(), []);
}

#[tokio::test]
async fn what_is_not_there_is_an_error_in_json() {
    let server = server();
    let other = JobId::from_bytes([2; 16]);
    for (method, path, wanted) in [
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::GET, "/jobs/xyz", StatusCode::BAD_REQUEST),
        (
            Method::GET,
            &format!("/jobs/{other}"),
            StatusCode::NOT_FOUND,
        ),
        (
            Method::PUT,
            &format!("/jobs/{other}/cancel"),
            StatusCode::NOT_FOUND,
        ),
        (Method::GET, "/taskmanagers/x", StatusCode::NOT_FOUND),
        (Method::POST, "/overview", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let (status, body) = server.ask(method, path).await;
        assert_eq!(status, wanted, "{path}");
        assert!(body["errors"][0].is_string(), "{body}");
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_secret() {
    let server = server();
    for authorization in [None, Some("Bearer 00"), Some("Basic YTpi")] {
        for path in ["/", "/overview", "/nothing"] {
            let mut request = axum::http::Request::builder().uri(path);
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let (status, body) = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(body["errors"][0].is_string());
        }
    }
}

#[tokio::test]
async fn through_the_proxy_viewers_look_and_only_the_owner_acts() {
    let mut server = server();
    let cancel = format!("/jobs/{}/cancel", job_id());
    for (method, path, user, from, wanted) in [
        (Method::GET, "/overview", "alice", PROXY, StatusCode::OK),
        (Method::GET, "/overview", "bob", PROXY, StatusCode::OK),
        (
            Method::GET,
            "/overview",
            "carol",
            PROXY,
            StatusCode::FORBIDDEN,
        ),
        (
            Method::GET,
            "/overview",
            "alice",
            [10, 0, 0, 2],
            StatusCode::UNAUTHORIZED,
        ),
        (Method::PUT, &cancel, "bob", PROXY, StatusCode::FORBIDDEN),
        (Method::PUT, &cancel, "alice", PROXY, StatusCode::ACCEPTED),
    ] {
        let (status, body) = server.proxied(method, path, user, from).await;
        assert_eq!(status, wanted, "{user} {path}: {body}");
    }
    let reason = "cancelled by user alice through the web proxy".to_owned();
    let job = job_id();
    assert_eq!(server.inputs(), [Input::CancelJob { job, reason }]);
}

#[tokio::test]
async fn the_page_shows_jobs_and_failures_and_loads_nothing() {
    let server = server();
    let (status, page) = server.proxied(Method::GET, "/", "bob", PROXY).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.contains("<base href=\"/proxy/application_1_0001/\">"),
        "{page}"
    );
    assert!(page.contains("count &lt;words&gt;") && !page.contains("<words>"));
    assert!(page.contains("operator `read` panicked at &lt;main&gt;"));
    assert!(page.contains("container_1") && page.contains("AWAITING COMMIT"));
    for foreign in ["http://", "https://", "src=", "href=\"/jobs"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let request = axum::http::Request::builder()
        .uri("/")
        .header(header::AUTHORIZATION, secret().to_bearer());
    let (_, page) = server.send(request.body(Body::empty()).unwrap()).await;
    assert!(!page.contains("<base"), "only behind the proxy");
}
