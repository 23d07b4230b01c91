//! Savepoints, taken, stopped with and disposed of, in the JSON of Flink's monitoring API.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spindle_common::checkpoint::{CheckpointId, SnapshotKind};
use spindle_jobmanager::checkpoint::{CheckpointsView, TriggerView};
use spindle_jobmanager::message::SavepointRequest;

use super::checkpoints::{Accepted, asked, is_known, not_done, with_checkpoints};
use super::handlers::{Answer, job_of};
use super::submission::read;
use super::{Api, Failure, Shared};

/// Largest body of a request, in bytes.
const LARGEST: usize = 64 << 10;
/// Disposals whose outcome is kept.
const DISPOSALS: usize = 100;

/// Flink: `SavepointTriggerRequestBody`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Savepoint {
    target_directory: Option<String>,
    cancel_job: bool,
}

/// Flink: `StopWithSavepointRequestBody`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stop {
    target_directory: Option<String>,
    drain: bool,
}

/// Flink: `SavepointDisposalRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Disposal {
    savepoint_path: String,
}

/// What became of disposals, by the number of the request.
#[derive(Debug, Default)]
pub(super) struct Disposals(Mutex<BTreeMap<u64, Result<(), String>>>);

/// `POST /jobs/:id/savepoints`, and its twin for clients that cannot POST.
pub(super) async fn trigger(State(api): Shared, Path(id): Path<String>, body: Body) -> Accepted {
    let wanted: Savepoint = body_of(body, "{\"target-directory\":\"<uri>\"}").await?;
    if wanted.cancel_job {
        return Err(Failure::bad_request(
            "`cancel-job` is not supported: POST /jobs/:id/stop takes a savepoint and ends the job with it",
        ));
    }
    ask(&api, &id, SnapshotKind::Savepoint, wanted.target_directory).await
}

/// `POST /jobs/:id/stop`, and its twin for clients that cannot POST.
pub(super) async fn stop(State(api): Shared, Path(id): Path<String>, body: Body) -> Accepted {
    let expected = "{\"targetDirectory\":\"<uri>\",\"drain\":false}";
    let wanted: Stop = body_of(body, expected).await?;
    let kind = if wanted.drain {
        SnapshotKind::Drain
    } else {
        SnapshotKind::StopWithSavepoint
    };
    ask(&api, &id, kind, wanted.target_directory).await
}

async fn ask(api: &Api, id: &str, kind: SnapshotKind, directory: Option<String>) -> Accepted {
    let (job, _) = job_of(&api.handle.view(), id)?;
    let request = api.requests.fetch_add(1, Ordering::Relaxed);
    // A new state is seeded by chance.
    let chance = RandomState::new().hash_one(request) >> 16;
    let savepoint = SavepointRequest {
        kind,
        directory,
        suffix: format!("{chance:012x}"),
    };
    let sent = api.handle.trigger_checkpoint(job, request, Some(savepoint));
    sent.await.map_err(Failure::gone)?;
    is_known(api, job, request).await;
    accepted(request)
}

fn accepted(request: u64) -> Accepted {
    let id = format!("{request:032x}");
    Ok((StatusCode::ACCEPTED, Json(json!({"request-id": id}))))
}

/// `GET /jobs/:id/savepoints/:triggerid`: of a savepoint, and of a stop with one. While it is under way `location` says where it will be,
/// which is ours.
pub(super) async fn triggered(
    State(api): Shared,
    Path((id, request)): Path<(String, String)>,
) -> Answer {
    with_checkpoints(&api, &id, |seen, _| {
        Ok(match asked(seen, &request, "savepoint")? {
            TriggerView::Waiting => in_progress(None),
            TriggerView::InProgress(id) => in_progress(place(seen, *id)),
            TriggerView::Stopping { directory, .. } => in_progress(Some(directory)),
            TriggerView::Completed { directory, .. } => json!({
                "status": {"id": "COMPLETED"},
                "operation": {"location": directory},
            }),
            TriggerView::Failed(why) => not_done(why),
        })
    })
}

/// `POST /savepoint-disposal`, and its twin for clients that cannot POST.
pub(super) async fn dispose(State(api): Shared, body: Body) -> Accepted {
    let Disposal { savepoint_path } = parse(
        &read(body, LARGEST).await?,
        "{\"savepoint-path\":\"<uri>\"}",
    )?;
    let request = api.requests.fetch_add(1, Ordering::Relaxed);
    let outcome = match &api.config.snapshots {
        Some(storage) => Box::pin(storage.dispose(&savepoint_path))
            .await
            .map(drop)
            .map_err(|error| error.report()),
        None => Err("this cluster has no storage for savepoints".to_owned()),
    };
    let disposals = api.disposals.0.lock();
    let mut disposals = disposals.unwrap_or_else(PoisonError::into_inner);
    disposals.insert(request, outcome);
    while disposals.len() > DISPOSALS {
        disposals.pop_first();
    }
    accepted(request)
}

/// `GET /savepoint-disposal/:triggerid`.
pub(super) async fn disposed(State(api): Shared, Path(request): Path<String>) -> Answer {
    let disposals = api.disposals.0.lock();
    let disposals = disposals.unwrap_or_else(PoisonError::into_inner);
    let number = u64::from_str_radix(&request, 16).ok();
    match number.and_then(|number| disposals.get(&number)) {
        Some(Ok(())) => Ok(Json(json!({
            "status": {"id": "COMPLETED"},
            "operation": {},
        }))),
        Some(Err(why)) => Ok(Json(not_done(why))),
        None => Err(Failure::not_found(format!(
            "request {request} for the disposal of a savepoint is not known"
        ))),
    }
}

fn in_progress(location: Option<&String>) -> Value {
    json!({
        "status": {"id": "IN_PROGRESS"},
        "operation": null,
        "location": location,
    })
}

fn place(seen: &CheckpointsView, id: CheckpointId) -> Option<&String> {
    let one = seen.history.iter().find(|one| one.id == id);
    one.and_then(|one| one.directory.as_ref())
}

/// What a body says; none at all says nothing.
async fn body_of<T: DeserializeOwned + Default>(body: Body, expected: &str) -> Result<T, Failure> {
    let bytes = read(body, LARGEST).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    parse(&bytes, expected)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], expected: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("the body is not {expected}: {error}")))
}
