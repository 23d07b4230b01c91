use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;

use spindle_common::job_graph::{JobSubmission, ProgramArtifact, ProgramSpec};
use spindle_rpc::job_graph::encode_submission;

use super::*;
use crate::driver::{Effects, ResourceDriver};
use crate::rest::submission::MAX_SUBMISSION;

fn submission() -> JobSubmission {
    let mut read = vertex("read", OperatorKind::Source);
    read.splits = vec![Vec::new(); 2];
    JobSubmission {
        job: JobId::from_bytes([7; 16]),
        graph: JobGraph {
            name: "new".to_owned(),
            vertices: vec![read, vertex("write", OperatorKind::Sink)],
            edges: Vec::new(),
            slot_profiles: BTreeMap::new(),
        },
        program: ProgramSpec {
            executable: "job".to_owned(),
            args: Vec::new(),
            artifact: Some(ProgramArtifact {
                uri: "hdfs://nn/programs/job".to_owned(),
                size: 1,
                sha256: "00".repeat(32),
            }),
        },
        config: Vec::new(),
    }
}

/// A cluster that shows each job as soon as it is handed in.
#[derive(Default)]
struct Taker {
    view: View,
    submissions: usize,
}

impl Machine for Taker {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, _: MonoTime, input: Input, out: &mut Outbox<'_, Effect>) {
        if let Input::Submit(submission) = input {
            self.submissions += 1;
            let job = view().jobs.into_values().next().unwrap();
            let job = JobView {
                graph: Arc::new(submission.graph),
                restarts: u32::try_from(self.submissions).unwrap(),
                ..Arc::unwrap_or_clone(job)
            };
            self.view.jobs.insert(submission.job, Arc::new(job));
        } else if let Input::ShutDown { reason } = input {
            out.push(Effect::Terminate {
                status: spindle_jobmanager::message::FinalStatus::Succeeded,
                diagnostics: reason,
            });
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        None
    }
}

impl ControlPlane for Taker {
    fn view(&self) -> View {
        self.view.clone()
    }
}

pub(super) struct NoContainers;

impl ResourceDriver for NoContainers {
    fn apply(&mut self, _: spindle_jobmanager::message::ResourceEffect) {}
}

fn request(method: Method, path: &str, content: &str, body: Vec<u8>) -> Request {
    axum::http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, secret().to_bearer())
        .header(header::CONTENT_TYPE, content)
        .body(Body::from(body))
        .unwrap()
}

fn twin(submission: &JobSubmission) -> Vec<u8> {
    let text = BASE64_STANDARD.encode(encode_submission(submission));
    json!({"submission": text}).to_string().into_bytes()
}

const PROTOBUF: &str = "application/x-protobuf";

#[tokio::test]
async fn a_job_is_handed_in_by_either_verb_and_only_once() {
    let (driver, handle) = ClusterDriver::new(Taker::default(), Clock::fixed(EPOCH));
    let effects = Effects {
        resources: Box::new(NoContainers),
        remove_staging: Box::new(|_, _| Box::pin(async {})),
        checkpoints: crate::no_checkpoint_files(),
        record: None,
    };
    let mut running = tokio::task::JoinSet::new();
    running.spawn(driver.run(effects));
    let server = Server {
        driver: ClusterDriver::new(Fixture(View::default()), Clock::fixed(EPOCH)).0,
        router: router(handle.clone(), config(true)),
        logs: None,
    };
    let new = submission();
    let protobuf = request(Method::POST, "/jobs", PROTOBUF, encode_submission(&new));
    let again = request(Method::PUT, "/jobs", "application/json", twin(&new));
    for request in [protobuf, again] {
        let (status, body) = server.send(request).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!({"jobid": "07".repeat(16)}));
        let view = handle.view();
        assert_eq!(view.jobs[&new.job].graph.name, "new");
        assert_eq!(view.jobs[&new.job].restarts, 1, "one submission");
    }
    let (status, body) = server.ask(Method::PUT, "/cluster/stop").await;
    assert_eq!((status, body), (StatusCode::ACCEPTED, json!({})));
    let outcome = running.join_next().await.unwrap().unwrap();
    assert_eq!(outcome.diagnostics, "stopped by its owner");
}

#[tokio::test]
async fn what_is_no_submission_is_refused_with_the_reason() {
    let mut server = server();
    let bytes = encode_submission(&submission());
    let mut loose = submission();
    loose.graph.vertices[0].parallelism = 0;
    let mut odd = submission();
    odd.config = vec![("taskmanager.numberOfTaskSlot".to_owned(), "2".to_owned())];
    let mut bare = submission();
    bare.program.artifact = None;
    let cut = bytes[..bytes.len() - 1].to_vec();
    for (method, content, body, wanted, word) in [
        (Method::POST, "text/plain", bytes.clone(), 415, PROTOBUF),
        (Method::POST, PROTOBUF, cut, 400, "submission"),
        (Method::POST, PROTOBUF, Vec::new(), 400, "version"),
        (
            Method::POST,
            PROTOBUF,
            encode_submission(&loose),
            400,
            "parallelism",
        ),
        (
            Method::POST,
            PROTOBUF,
            encode_submission(&odd),
            400,
            "numberOfTaskSlot",
        ),
        (
            Method::POST,
            PROTOBUF,
            encode_submission(&bare),
            400,
            "artifact",
        ),
        (Method::PUT, "text/plain", bytes, 400, "base64"),
        (
            Method::PUT,
            "application/json",
            b"{\"submission\":\"?\"}".to_vec(),
            400,
            "base64",
        ),
        (
            Method::POST,
            PROTOBUF,
            vec![0; MAX_SUBMISSION + 1],
            413,
            "larger",
        ),
    ] {
        let (status, body) = server.send(request(method, "/jobs", content, body)).await;
        assert_eq!(status.as_u16(), wanted, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let message = body["errors"][0].as_str().unwrap();
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(server.inputs(), []);
}

#[tokio::test]
async fn a_cluster_that_is_no_session_takes_no_jobs_and_is_not_stopped() {
    let mut server = server_of(false);
    let new = submission();
    for (method, path, body) in [
        (Method::POST, "/jobs", encode_submission(&new)),
        (Method::PUT, "/jobs", twin(&new)),
        (Method::DELETE, "/cluster", Vec::new()),
        (Method::PUT, "/cluster/stop", b"{}".to_vec()),
    ] {
        let (status, body) = server.send(request(method, path, PROTOBUF, body)).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(body.contains("no session"), "{body}");
    }
    assert_eq!(server.inputs(), []);
}

#[tokio::test]
async fn a_session_is_stopped_by_either_verb() {
    let mut server = server();
    for (method, path) in [(Method::DELETE, "/cluster"), (Method::PUT, "/cluster/stop")] {
        let (status, body) = server.ask(method, path).await;
        assert_eq!((status, body), (StatusCode::ACCEPTED, json!({})));
        let reason = "stopped by its owner".to_owned();
        assert_eq!(server.inputs(), [Input::ShutDown { reason }]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = server();
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let mut request = request(Method::POST, "/jobs", PROTOBUF, Vec::new());
    *request.body_mut() = never;
    let (status, _) = server.send(request).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn of_a_stranger_no_body_is_read() {
    let server = server();
    let never = Body::from_stream(futures::stream::once(async {
        panic!("the body was read");
        #[expect(unreachable_code, reason = "it has to be of this type")]
        Ok::<Bytes, std::io::Error>(Bytes::new())
    }));
    let mut request = request(Method::POST, "/jobs", PROTOBUF, Vec::new());
    request.headers_mut().remove(header::AUTHORIZATION);
    *request.body_mut() = never;
    let (status, _) = server.send(request).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
