//! Logs and threads of TaskManagers, asked of them over their streams. Flink: `LogListInfo`, `ThreadDumpInfo`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use spindle_common::gateway::{Inquiry, InquiryAnswer, LogFile, ThreadDump};
use spindle_common::id::ResourceId;

use super::handlers::{Answer, plain};
use super::{Api, Failure, Shared, logs};
use crate::handle::InquiryError;

/// The TaskExecutor's own log, and what it wrote to its standard output.
const LOG: &str = "taskexecutor.log";
const STDOUT: &str = "taskexecutor.out";

async fn ask(api: &Api, resource: &str, what: Inquiry) -> Result<InquiryAnswer, Failure> {
    let connection = {
        let view = api.handle.view();
        let manager = view.task_managers.get(&ResourceId::new(resource));
        let manager = manager.ok_or_else(|| {
            Failure::not_found(format!("there is no TaskManager {resource} here"))
        })?;
        manager.connection
    };
    let answer = api.handle.inquire(connection, what).await;
    match answer {
        Ok(InquiryAnswer::Failed(reason)) => Err(Failure::not_found(reason)),
        Ok(answer) => Ok(answer),
        Err(InquiryError::Gone(gone)) => Err(Failure::gone(gone)),
        Err(error @ InquiryError::Unanswered) => Err(Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: error.to_string(),
        }),
        Err(error @ InquiryError::Late(_)) => Err(Failure {
            status: StatusCode::GATEWAY_TIMEOUT,
            message: error.to_string(),
        }),
    }
}

/// It answered something else than it was asked.
fn beside_the_point() -> Failure {
    Failure {
        status: StatusCode::BAD_GATEWAY,
        message: "the TaskManager answered another question".to_owned(),
    }
}

pub(super) async fn log_list(State(api): Shared, Path(resource): Path<String>) -> Answer {
    let InquiryAnswer::Logs(files) = ask(&api, &resource, Inquiry::Logs).await? else {
        return Err(beside_the_point());
    };
    let one = |file: LogFile| json!({"name": file.name, "size": file.size, "mtime": file.mtime_ms});
    let files: Vec<_> = files.into_iter().map(one).collect();
    Ok(Json(json!({"logs": files})))
}

async fn file(api: &Api, resource: &str, name: String) -> Result<Response, Failure> {
    match ask(api, resource, Inquiry::LogFile { name }).await? {
        InquiryAnswer::LogFile { from, bytes } => Ok(plain(logs::end_of(from, &bytes))),
        InquiryAnswer::Logs(_) | InquiryAnswer::Threads(_) | InquiryAnswer::Failed(_) => {
            Err(beside_the_point())
        }
    }
}

pub(super) async fn log_file(
    State(api): Shared,
    Path((resource, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    file(&api, &resource, name).await
}

pub(super) async fn log(
    State(api): Shared,
    Path(resource): Path<String>,
) -> Result<Response, Failure> {
    file(&api, &resource, LOG.to_owned()).await
}

pub(super) async fn stdout(
    State(api): Shared,
    Path(resource): Path<String>,
) -> Result<Response, Failure> {
    file(&api, &resource, STDOUT.to_owned()).await
}

pub(super) async fn thread_dump(State(api): Shared, Path(resource): Path<String>) -> Answer {
    let InquiryAnswer::Threads(threads) = ask(&api, &resource, Inquiry::Threads).await? else {
        return Err(beside_the_point());
    };
    let one = |thread: ThreadDump| json!({"threadName": thread.name, "stringifiedThreadInfo": thread.text});
    let threads: Vec<_> = threads.into_iter().map(one).collect();
    Ok(Json(json!({"threadInfos": threads})))
}
