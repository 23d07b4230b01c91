//! What comes in with a body, or ends everything: submissions of jobs, and the end of the cluster.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use spindle_common::config::Config;
use spindle_common::job_graph::JobSubmission;
use spindle_rpc::job_graph::decode_submission;

use super::{Api, Caller, Failure, Shared};

/// Largest submission, in bytes. It names the program and the splits of its sources, and holds neither.
pub(super) const MAX_SUBMISSION: usize = 64 << 20;
/// The same in base64, with the JSON around it.
const MAX_SUBMISSION_TEXT: usize = MAX_SUBMISSION / 3 * 4 + 1024;
/// How long a body may take to arrive.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the Dispatcher may take to take a job.
const TAKEN: Duration = Duration::from_secs(10);

/// Content type of a submission.
pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// `POST /jobs`: a submission as protobuf.
pub(super) async fn post(
    State(api): Shared,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    takes_jobs(&api)?;
    let content = headers.get(header::CONTENT_TYPE);
    let content = content.and_then(|value| value.to_str().ok());
    let content = content.and_then(|value| value.split(';').next());
    if content.map(str::trim) != Some(PROTOBUF) {
        return Err(Failure {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message: format!("a submission has the content type {PROTOBUF}"),
        });
    }
    let bytes = read(body, MAX_SUBMISSION).await?;
    submit(&api, &bytes).await
}

#[derive(Deserialize)]
struct Twin {
    submission: String,
}

/// `PUT /jobs`: the same as one line of JSON, which gets through YARN's proxy.
pub(super) async fn put(State(api): Shared, body: Body) -> Result<Response, Failure> {
    takes_jobs(&api)?;
    let text = read(body, MAX_SUBMISSION_TEXT).await?;
    let twin: Twin = serde_json::from_slice(&text).map_err(|error| {
        Failure::bad_request(format!(
            "the body is not {{\"submission\":\"<base64>\"}}: {error}"
        ))
    })?;
    drop(text);
    let bytes = BASE64_STANDARD
        .decode(&twin.submission)
        .map_err(|error| Failure::bad_request(format!("the submission is no base64: {error}")))?;
    submit(&api, &bytes).await
}

/// `DELETE /cluster`, and `PUT /cluster/stop` with any body or none.
pub(super) async fn stop_cluster(
    State(api): Shared,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    if !api.config.accepts_jobs {
        return Err(Failure {
            status: StatusCode::CONFLICT,
            message: "this cluster is no session: it ends with its jobs; cancel those".to_owned(),
        });
    }
    let stopped = api.handle.shut_down(format!("stopped by {caller}")).await;
    stopped.map_err(Failure::gone)?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}

fn takes_jobs(api: &Api) -> Result<(), Failure> {
    if api.config.accepts_jobs {
        return Ok(());
    }
    Err(Failure {
        status: StatusCode::CONFLICT,
        message: "this cluster is no session: it takes no jobs but those it was started for"
            .to_owned(),
    })
}

/// The whole of a body that is small enough and arrives in time.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, Failure> {
    // A length that is told is judged before a byte is read.
    let told = axum::body::HttpBody::size_hint(&body).lower();
    let too_large = || Failure {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        message: format!("the body is larger than {most} bytes"),
    };
    if usize::try_from(told).is_ok_and(|told| told > most) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Failure::bad_request(format!(
            "the body could not be read: {error}"
        ))),
        Err(_) => Err(Failure {
            status: StatusCode::REQUEST_TIMEOUT,
            message: format!(
                "the body did not arrive within {} s",
                BODY_TIMEOUT.as_secs()
            ),
        }),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>())
}

async fn submit(api: &Arc<Api>, bytes: &[u8]) -> Result<Response, Failure> {
    let submission = check(bytes).map_err(Failure::bad_request)?;
    let job = submission.job;
    let mut views = api.handle.watch();
    if !views.borrow().jobs.contains_key(&job) {
        let sent = api.handle.submit(submission).await;
        sent.map_err(Failure::gone)?;
        // Whoever is told of the job finds it.
        let known = views.wait_for(|view| view.jobs.contains_key(&job));
        match tokio::time::timeout(TAKEN, known).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Failure::gone(crate::ClusterGone)),
            Err(_) => {
                return Err(Failure {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    message: "the cluster has not taken the job: it is ending, or very busy; \
                              the same submission may be sent again"
                        .to_owned(),
                });
            }
        }
    }
    let answer = json!({"jobid": job.to_string()});
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// What the bytes submit, or why they cannot.
fn check(bytes: &[u8]) -> Result<JobSubmission, String> {
    let submission = decode_submission(bytes).map_err(|error| crate::connection::report(&error))?;
    let graph = submission.graph.validate();
    graph.map_err(|error| format!("the job cannot be run: {error}"))?;
    let config = Config::from_pairs(&submission.config);
    config.map_err(|error| format!("the settings of the job cannot be used: {error}"))?;
    if submission.program.artifact.is_none() {
        return Err(
            "the submission names no artifact: TaskExecutors of a session have no program of their \
             own"
                .to_owned(),
        );
    }
    Ok(submission)
}
