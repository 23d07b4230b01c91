//! A job's checkpoints, in the JSON of Flink's monitoring API.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use spindle_common::checkpoint::{BarrierAlignment, CheckpointId, SnapshotKind};
use spindle_common::id::{JobId, JobVertexId};
use spindle_jobmanager::checkpoint::{
    CheckpointStatus, CheckpointView, CheckpointsView, SubtaskView, TriggerView,
};

use super::handlers::{Answer, job_of};
use super::{Api, Failure, Shared};
use crate::clock::Clock;

/// How long the JobMaster may take to take a request.
const TAKEN: Duration = Duration::from_secs(5);

pub(super) type Accepted = Result<(StatusCode, Json<Value>), Failure>;

pub(super) fn with_checkpoints(
    api: &Api,
    id: &str,
    f: impl FnOnce(&CheckpointsView, Clock) -> Result<Value, Failure>,
) -> Answer {
    let view = api.handle.view();
    let (id, job) = job_of(&view, id)?;
    match &job.checkpoints {
        Some(checkpoints) => f(checkpoints, api.clock()).map(Json),
        None => Err(Failure::not_found(format!("job {id} has no checkpoints"))),
    }
}

pub(super) async fn overview(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_checkpoints(&api, &id, |seen, clock| {
        let one = |one: &CheckpointView| shown(one, clock, &Map::new());
        let completed: Vec<&CheckpointView> = seen
            .history
            .iter()
            .map(AsRef::as_ref)
            .filter(|c: &&CheckpointView| c.status == CheckpointStatus::Completed)
            .collect();
        Ok(json!({
            "counts": {
                "restored": seen.counts.restored,
                "total": seen.counts.total,
                "in_progress": seen.counts.in_progress,
                "completed": seen.counts.completed,
                "failed": seen.counts.failed,
            },
            "summary": {
                "checkpointed_size": summary(completed.iter().map(|c| c.written_bytes)),
                "state_size": summary(completed.iter().map(|c| c.state_bytes)),
                "end_to_end_duration": summary(completed.iter().map(|c| duration(c))),
                "alignment_buffered": summary([].into_iter()),
                "processed_data": summary(completed.iter().map(|c| c.processed_bytes)),
                "persisted_data": summary(completed.iter().map(|c| c.persisted_bytes)),
            },
            "latest": {
                "completed": seen.latest_completed.as_deref().map(one),
                "savepoint": seen.latest_savepoint.as_deref().map(one),
                "failed": seen.latest_failed.as_deref().map(one),
                "restored": seen.restored.as_ref().map(|restored| json!({
                    "id": restored.id.0,
                    "restore_timestamp": clock.epoch_ms(restored.at),
                    "is_savepoint": restored.is_savepoint,
                    "external_path": restored.directory,
                })),
            },
            "history": seen.history.iter().map(|c| one(c)).collect::<Vec<_>>(),
        }))
    })
}

pub(super) async fn config(State(api): Shared, Path(id): Path<String>) -> Answer {
    with_checkpoints(&api, &id, |seen, _| {
        let settings = &seen.settings;
        let (mode, unaligned, aligned_timeout) = match settings.alignment {
            BarrierAlignment::Aligned => ("exactly_once", false, 0),
            BarrierAlignment::AtLeastOnce => ("at_least_once", false, 0),
            BarrierAlignment::Unaligned { timeout_ms } => ("exactly_once", true, timeout_ms),
        };
        let backend = if settings.rocksdb {
            "EmbeddedRocksDBStateBackend"
        } else {
            "HashMapStateBackend"
        };
        Ok(json!({
            "mode": mode,
            // As Flink has it where none is begun by itself.
            "interval": settings.interval_ms.unwrap_or(i64::MAX as u64),
            "timeout": settings.timeout_ms,
            "min_pause": settings.min_pause_ms,
            "max_concurrent": settings.max_concurrent,
            "externalization": {
                "enabled": settings.externalized,
                "delete_on_cancellation": settings.delete_on_cancellation,
            },
            "state_backend": backend,
            "checkpoint_storage": "FileSystemCheckpointStorage",
            "unaligned_checkpoints": unaligned,
            "tolerable_failed_checkpoints": settings.tolerable_failures,
            "aligned_checkpoint_timeout": aligned_timeout,
            "checkpoints_after_tasks_finish": true,
            "state_changelog_enabled": false,
            "directory": settings.directory,
        }))
    })
}

pub(super) async fn details(
    State(api): Shared,
    Path((id, checkpoint)): Path<(String, String)>,
) -> Answer {
    with_checkpoints(&api, &id, |seen, clock| {
        let one = find(seen, &checkpoint)?;
        let tasks = one
            .vertices
            .iter()
            .map(|(vertex, subtasks)| {
                (vertex.to_string(), of_vertex(one, *vertex, subtasks, clock))
            })
            .collect();
        Ok(shown(one, clock, &tasks))
    })
}

pub(super) async fn subtasks(
    State(api): Shared,
    Path((id, checkpoint, vertex)): Path<(String, String, String)>,
) -> Answer {
    with_checkpoints(&api, &id, |seen, clock| {
        let one = find(seen, &checkpoint)?;
        let vertex: JobVertexId = vertex
            .parse()
            .map_err(|error| Failure::bad_request(format!("{error}")))?;
        let Some(subtasks) = one.vertices.get(&vertex) else {
            return Err(Failure::not_found(format!(
                "nothing is known of vertex {vertex} in checkpoint {checkpoint}"
            )));
        };
        let mut answer = of_vertex(one, vertex, subtasks, clock);
        let of_subtask = |(index, subtask): (usize, &Option<SubtaskView>)| {
            let Some(SubtaskView {
                acknowledged,
                stats,
            }) = subtask
            else {
                return json!({"index": index, "status": "pending_or_failed"});
            };
            json!({
                "index": index,
                "status": "completed",
                "ack_timestamp": clock.epoch_ms(*acknowledged),
                "end_to_end_duration": acknowledged.since(one.triggered).as_millis() as u64,
                "checkpointed_size": stats.written_bytes,
                "state_size": stats.state_bytes,
                "checkpoint": {"sync": stats.sync_us / 1000, "async": stats.async_us / 1000},
                "alignment": {
                    "buffered": 0,
                    "processed": stats.processed_bytes,
                    "persisted": stats.persisted_bytes,
                    "duration": stats.alignment_us / 1000,
                },
                "start_delay": stats.start_delay_ms,
                "unaligned_checkpoint": stats.unaligned,
                "aborted": false,
            })
        };
        let known = || subtasks.iter().flatten();
        answer["summary"] = json!({
            "checkpointed_size": summary(known().map(|s| s.stats.written_bytes)),
            "state_size": summary(known().map(|s| s.stats.state_bytes)),
            "end_to_end_duration": summary(known().map(|s| {
                s.acknowledged.since(one.triggered).as_millis() as u64
            })),
            "checkpoint_duration": {
                "sync": summary(known().map(|s| s.stats.sync_us / 1000)),
                "async": summary(known().map(|s| s.stats.async_us / 1000)),
            },
            "alignment": {
                "buffered": summary([].into_iter()),
                "processed": summary(known().map(|s| s.stats.processed_bytes)),
                "persisted": summary(known().map(|s| s.stats.persisted_bytes)),
                "duration": summary(known().map(|s| s.stats.alignment_us / 1000)),
            },
            "start_delay": summary(known().map(|s| s.stats.start_delay_ms)),
        });
        let all = subtasks.iter().enumerate().map(of_subtask);
        answer["subtasks"] = all.collect::<Vec<_>>().into();
        Ok(answer)
    })
}

/// Has a checkpoint taken; what becomes of it is at the path of its request.
pub(super) async fn trigger(State(api): Shared, Path(id): Path<String>) -> Accepted {
    let view = api.handle.view();
    let (job, _) = job_of(&view, &id)?;
    let request = api.requests.fetch_add(1, Ordering::Relaxed);
    let sent = api.handle.trigger_checkpoint(job, request, None).await;
    sent.map_err(Failure::gone)?;
    is_known(&api, job, request).await;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"request-id": format!("{request:032x}")})),
    ))
}

/// Waits until a request can be asked after.
pub(super) async fn is_known(api: &Api, job: JobId, request: u64) {
    let mut view = api.handle.watch();
    let known = view.wait_for(|view| {
        let checkpoints = view.jobs.get(&job).map(|job| job.checkpoints.as_ref());
        match checkpoints {
            Some(Some(seen)) => seen.triggers.contains_key(&request),
            // Nothing will be known of it.
            Some(None) | None => true,
        }
    });
    // Whatever happens, the request was handed in.
    drop(tokio::time::timeout(TAKEN, known).await);
}

pub(super) async fn triggered(
    State(api): Shared,
    Path((id, request)): Path<(String, String)>,
) -> Answer {
    with_checkpoints(&api, &id, |seen, _| {
        Ok(match asked(seen, &request, "checkpoint")? {
            TriggerView::Waiting | TriggerView::InProgress(_) | TriggerView::Stopping { .. } => {
                json!({
                    "status": {"id": "IN_PROGRESS"},
                    "operation": null,
                })
            }
            TriggerView::Completed { id, directory } => json!({
                "status": {"id": "COMPLETED"},
                "operation": {"checkpointId": id.0, "location": directory},
            }),
            TriggerView::Failed(why) => not_done(why),
        })
    })
}

/// What became of what somebody asked for, by the number that he was given.
pub(super) fn asked<'a>(
    seen: &'a CheckpointsView,
    request: &str,
    what: &str,
) -> Result<&'a TriggerView, Failure> {
    let number = u64::from_str_radix(request, 16).ok();
    let known = number.and_then(|number| seen.triggers.get(&number));
    known.ok_or_else(|| Failure::not_found(format!("request {request} for a {what} is not known")))
}

/// The answer to whoever asked for what came to nothing.
pub(super) fn not_done(why: &str) -> Value {
    json!({
        "status": {"id": "COMPLETED"},
        "operation": {"failure-cause": {"class": "CheckpointException", "stack-trace": why}},
    })
}

fn find<'a>(seen: &'a CheckpointsView, id: &str) -> Result<&'a CheckpointView, Failure> {
    let number = id
        .parse()
        .map_err(|_| Failure::bad_request(format!("`{id}` is no number of a checkpoint")))?;
    let latest = [
        &seen.latest_completed,
        &seen.latest_savepoint,
        &seen.latest_failed,
    ];
    let mut all = seen.history.iter().chain(latest.into_iter().flatten());
    all.find(|one| one.id == CheckpointId(number))
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            Failure::not_found(format!(
                "checkpoint {id} is not among those that are kept in mind"
            ))
        })
}

/// From the trigger to the last acknowledgement; of one that is over, to its end.
fn duration(one: &CheckpointView) -> u64 {
    let until = one.ended.or(one.latest_acknowledgement);
    until.map_or(0, |until| until.since(one.triggered).as_millis() as u64)
}

fn shown(one: &CheckpointView, clock: Clock, tasks: &Map<String, Value>) -> Value {
    let (class, status) = match one.status {
        CheckpointStatus::InProgress => ("in_progress", "IN_PROGRESS"),
        CheckpointStatus::Completed => ("completed", "COMPLETED"),
        CheckpointStatus::Failed => ("failed", "FAILED"),
    };
    let mut shown = json!({
        "className": class,
        "@class": class,
        "id": one.id.0,
        "status": status,
        "is_savepoint": one.kind != SnapshotKind::Checkpoint,
        "savepointFormat": (one.kind != SnapshotKind::Checkpoint).then_some("CANONICAL"),
        "trigger_timestamp": clock.epoch_ms(one.triggered),
        "latest_ack_timestamp": one.latest_acknowledgement.map_or(-1, |at| {
            i64::try_from(clock.epoch_ms(at)).unwrap_or(i64::MAX)
        }),
        "checkpointed_size": one.written_bytes,
        "state_size": one.state_bytes,
        "end_to_end_duration": duration(one),
        "alignment_buffered": 0,
        "processed_data": one.processed_bytes,
        "persisted_data": one.persisted_bytes,
        "num_subtasks": one.subtasks,
        "num_acknowledged_subtasks": one.acknowledged,
        "checkpoint_type": match one.kind {
            SnapshotKind::Checkpoint if one.unaligned => "UNALIGNED_CHECKPOINT",
            SnapshotKind::Checkpoint => "CHECKPOINT",
            SnapshotKind::Savepoint => "SAVEPOINT",
            SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => "SYNC_SAVEPOINT",
        },
        "tasks": tasks,
    });
    match one.status {
        CheckpointStatus::InProgress => {}
        CheckpointStatus::Completed => {
            shown["external_path"] = json!(one.directory);
            shown["discarded"] = json!(one.discarded);
        }
        CheckpointStatus::Failed => {
            shown["failure_timestamp"] = json!(one.ended.map(|at| clock.epoch_ms(at)));
            shown["failure_message"] = json!(one.failure);
        }
    }
    shown
}

fn of_vertex(
    one: &CheckpointView,
    vertex: JobVertexId,
    subtasks: &[Option<SubtaskView>],
    clock: Clock,
) -> Value {
    let known: Vec<&SubtaskView> = subtasks.iter().flatten().collect();
    let latest = known.iter().map(|s| s.acknowledged).max();
    let status = match one.status {
        CheckpointStatus::InProgress => "IN_PROGRESS",
        CheckpointStatus::Completed => "COMPLETED",
        CheckpointStatus::Failed => "FAILED",
    };
    json!({
        "id": vertex.to_string(),
        "status": status,
        "latest_ack_timestamp": latest.map_or(-1, |at| {
            i64::try_from(clock.epoch_ms(at)).unwrap_or(i64::MAX)
        }),
        "checkpointed_size": known.iter().map(|s| s.stats.written_bytes).sum::<u64>(),
        "state_size": known.iter().map(|s| s.stats.state_bytes).sum::<u64>(),
        "end_to_end_duration": latest.map_or(0, |at| at.since(one.triggered).as_millis() as u64),
        "alignment_buffered": 0,
        "processed_data": known.iter().map(|s| s.stats.processed_bytes).sum::<u64>(),
        "persisted_data": known.iter().map(|s| s.stats.persisted_bytes).sum::<u64>(),
        "num_subtasks": subtasks.len(),
        "num_acknowledged_subtasks": known.len(),
    })
}

/// What Flink calls `MinMaxAvgStatistics`, with its quantiles.
fn summary(values: impl Iterator<Item = u64>) -> Value {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let count = values.len() as u64;
    let quantile = |permille: u64| {
        let at = (count * permille).div_ceil(1000).max(1) - 1;
        usize::try_from(at)
            .ok()
            .and_then(|at| values.get(at))
            .copied()
            .unwrap_or(0)
    };
    json!({
        "min": values.first().copied().unwrap_or(0),
        "max": values.last().copied().unwrap_or(0),
        "avg": values.iter().sum::<u64>().checked_div(count).unwrap_or(0),
        "p50": quantile(500),
        "p90": quantile(900),
        "p95": quantile(950),
        "p99": quantile(990),
        "p999": quantile(999),
    })
}
