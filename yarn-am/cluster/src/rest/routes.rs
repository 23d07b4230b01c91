//! The one table of routes: from it come the router, the right that each request needs, and the OpenAPI document.
//!
//! The answer of a route is told as `name:type` of the fields that are always there; a `?` after the type allows null.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post, put};

use super::access::Right;
use super::{Api, checkpoints, handlers, inquiries, savepoints, submission, vertex_handlers};

/// What a route does.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) right: Right,
    pub(super) status: u16,
    pub(super) answer: Answer,
    pub(super) handler: fn() -> MethodRouter<Arc<Api>>,
}

/// What a route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A page.
    Html,
    /// Plain text.
    Text,
    /// A JSON object with at least these fields.
    Object(&'static str),
    /// A JSON array of objects with at least these fields.
    List(&'static str),
    /// Always an error: what Flink has here does not exist.
    Nothing,
}

use Answer::{Html, List, Nothing, Object, Text};

type Handler = fn() -> MethodRouter<Arc<Api>>;

const fn look(
    path: &'static str,
    summary: &'static str,
    answer: Answer,
    handler: Handler,
) -> Route {
    Route {
        method: Method::GET,
        path,
        summary,
        right: Right::View,
        status: if matches!(answer, Nothing) { 501 } else { 200 },
        answer,
        handler,
    }
}

const fn act(
    method: Method,
    path: &'static str,
    summary: &'static str,
    answer: Answer,
    handler: Handler,
) -> Route {
    Route {
        method,
        path,
        summary,
        right: Right::Modify,
        status: 202,
        answer,
        handler,
    }
}

const fn run(method: Method, summary: &'static str, handler: Handler) -> Route {
    Route {
        method,
        path: "/jobs",
        summary,
        right: Right::Run,
        status: 202,
        answer: Object("jobid:string"),
        handler,
    }
}

const METRICS: Answer = List("id:string");
const CHECKPOINT: &str = "className:string id:integer status:string is_savepoint:boolean trigger_timestamp:integer \
    latest_ack_timestamp:integer checkpointed_size:integer state_size:integer end_to_end_duration:integer \
    num_subtasks:integer num_acknowledged_subtasks:integer checkpoint_type:string tasks:object";
const SUBTASK: Answer = Object(
    "subtask:integer status:string attempt:integer endpoint:string taskmanager-id:string start-time:integer \
     end-time:integer duration:integer metrics:object status-duration:object other-concurrent-attempts:array",
);

/// Which right a request needs that the router found this path for.
pub(super) fn right(method: &Method, path: Option<&str>) -> Right {
    let sought = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let path = path.map(|path| path.strip_prefix(VERSION).unwrap_or(path));
    let of = |route: &&Route| route.method == *sought && Some(route.path) == path;
    match ROUTES.iter().find(of) {
        Some(route) => route.right,
        None if *sought == Method::GET => Right::View,
        None => Right::Modify,
    }
}

/// Each path is there with this before it, too.
pub(super) const VERSION: &str = "/v1";

/// All routes.
pub(super) static ROUTES: &[Route] = &[
    look("/", "The status page.", Html, || get(handlers::status_page)),
    look(
        "/openapi.json",
        "This document.",
        Object("openapi:string info:object paths:object"),
        || get(handlers::document),
    ),
    look(
        "/overview",
        "Counts of TaskManagers, slots and jobs.",
        Object(
            "taskmanagers:integer slots-total:integer slots-available:integer jobs-running:integer \
             jobs-finished:integer jobs-cancelled:integer jobs-failed:integer flink-version:string flink-commit:string",
        ),
        || get(handlers::overview),
    ),
    look(
        "/config",
        "What the web UI needs to know.",
        Object(
            "refresh-interval:integer timezone-name:string timezone-offset:integer flink-version:string \
             flink-revision:string features:object",
        ),
        || get(handlers::dashboard_config),
    ),
    act(
        Method::DELETE,
        "/cluster",
        "Ends the session, its jobs cancelled.",
        Object(""),
        || delete(submission::stop_cluster),
    ),
    act(
        Method::PUT,
        "/cluster/stop",
        "Ends the session: twin of DELETE /cluster.",
        Object(""),
        || put(submission::stop_cluster),
    ),
    look(
        "/jobs",
        "Ids and states of all jobs.",
        Object("jobs:array"),
        || get(handlers::job_ids),
    ),
    run(
        Method::POST,
        "Hands a job in: a submission as protobuf.",
        || post(submission::post),
    ),
    run(
        Method::PUT,
        "Hands a job in: the same in base64, as one line of JSON.",
        || put(submission::put),
    ),
    look(
        "/jobs/overview",
        "All jobs with counts of their tasks.",
        Object("jobs:array"),
        || get(handlers::jobs_overview),
    ),
    look(
        "/jobs/metrics",
        "Metrics aggregated over jobs.",
        METRICS,
        || get(handlers::jobs_metrics),
    ),
    look(
        "/jobs/{job}",
        "A job with its vertices.",
        Object(
            "jid:string name:string isStoppable:boolean state:string job-type:string start-time:integer \
             end-time:integer duration:integer maxParallelism:integer now:integer timestamps:object vertices:array \
             status-counts:object plan:object",
        ),
        || get(handlers::job),
    ),
    act(
        Method::PATCH,
        "/jobs/{job}",
        "Cancels a job.",
        Object(""),
        || patch(handlers::terminate),
    ),
    act(
        Method::PUT,
        "/jobs/{job}/cancel",
        "Cancels a job: twin of PATCH.",
        Object(""),
        || put(handlers::cancel),
    ),
    act(
        Method::GET,
        "/jobs/{job}/yarn-cancel",
        "Cancels a job: what Flink's web UI uses behind YARN's proxy.",
        Object(""),
        || get(handlers::cancel),
    ),
    look(
        "/jobs/{job}/status",
        "A job's state.",
        Object("status:string"),
        || get(handlers::job_status),
    ),
    look(
        "/jobs/{job}/execution-result",
        "A job's result, once it is over.",
        Object("status:object"),
        || get(handlers::job_execution_result),
    ),
    look(
        "/jobs/{job}/accumulators",
        "What collecting sinks hold.",
        Object(
            "job-accumulators:array user-task-accumulators:array serialized-user-task-accumulators:object",
        ),
        || get(handlers::job_accumulators),
    ),
    look(
        "/jobs/{job}/config",
        "How a job is executed.",
        Object("jid:string name:string execution-config:object"),
        || get(handlers::job_config),
    ),
    look(
        "/jobs/{job}/plan",
        "A job's plan.",
        Object("plan:object"),
        || get(handlers::job_plan),
    ),
    look(
        "/jobs/{job}/exceptions",
        "A job's newest failure.",
        Object(
            "root-exception:string? timestamp:integer? all-exceptions:array truncated:boolean exceptionHistory:object",
        ),
        || get(handlers::job_exceptions),
    ),
    look(
        "/jobs/{job}/checkpoints",
        "A job's checkpoints: counts, sizes and times, the newest, and the last ten.",
        Object("counts:object summary:object latest:object history:array"),
        || get(checkpoints::overview),
    ),
    act(
        Method::POST,
        "/jobs/{job}/checkpoints",
        "Has a checkpoint taken.",
        Object("request-id:string"),
        || post(checkpoints::trigger),
    ),
    act(
        Method::PUT,
        "/jobs/{job}/checkpoints",
        "Has a checkpoint taken; for clients that cannot POST.",
        Object("request-id:string"),
        || put(checkpoints::trigger),
    ),
    look(
        "/jobs/{job}/checkpoints/config",
        "How a job's checkpoints are taken.",
        Object(
            "mode:string interval:integer timeout:integer min_pause:integer max_concurrent:integer externalization:object \
             state_backend:string checkpoint_storage:string unaligned_checkpoints:boolean \
             tolerable_failed_checkpoints:integer directory:string",
        ),
        || get(checkpoints::config),
    ),
    look(
        "/jobs/{job}/checkpoints/details/{checkpoint}",
        "A checkpoint, with what each vertex did for it.",
        Object(CHECKPOINT),
        || get(checkpoints::details),
    ),
    look(
        "/jobs/{job}/checkpoints/details/{checkpoint}/subtasks/{vertex}",
        "What each subtask of a vertex did for a checkpoint.",
        Object("id:string status:string num_subtasks:integer summary:object subtasks:array"),
        || get(checkpoints::subtasks),
    ),
    look(
        "/jobs/{job}/checkpoints/{request}",
        "What became of a checkpoint that was asked for.",
        Object("status:object operation:object?"),
        || get(checkpoints::triggered),
    ),
    act(
        Method::POST,
        "/jobs/{job}/savepoints",
        "Has a savepoint taken.",
        Object("request-id:string"),
        || post(savepoints::trigger),
    ),
    act(
        Method::PUT,
        "/jobs/{job}/savepoints",
        "Has a savepoint taken; for clients that cannot POST.",
        Object("request-id:string"),
        || put(savepoints::trigger),
    ),
    look(
        "/jobs/{job}/savepoints/{request}",
        "What became of a savepoint that was asked for, or of a stop with one.",
        Object("status:object operation:object?"),
        || get(savepoints::triggered),
    ),
    act(
        Method::POST,
        "/jobs/{job}/stop",
        "Takes a savepoint and ends the job with it.",
        Object("request-id:string"),
        || post(savepoints::stop),
    ),
    act(
        Method::PUT,
        "/jobs/{job}/stop",
        "Takes a savepoint and ends the job with it; for clients that cannot POST.",
        Object("request-id:string"),
        || put(savepoints::stop),
    ),
    act(
        Method::POST,
        "/savepoint-disposal",
        "Removes a savepoint.",
        Object("request-id:string"),
        || post(savepoints::dispose),
    ),
    act(
        Method::PUT,
        "/savepoint-disposal",
        "Removes a savepoint; for clients that cannot POST.",
        Object("request-id:string"),
        || put(savepoints::dispose),
    ),
    look(
        "/savepoint-disposal/{request}",
        "What became of the removal of a savepoint.",
        Object("status:object operation:object?"),
        || get(savepoints::disposed),
    ),
    look("/jobs/{job}/metrics", "A job's metrics.", METRICS, || {
        get(handlers::job_metrics)
    }),
    look(
        "/jobs/{job}/collected",
        "What collecting sinks hold, as JSON by name.",
        Object(""),
        || get(handlers::job_collected),
    ),
    look(
        "/jobs/{job}/result",
        "A job's outcome, as far as there is one.",
        Object(
            "name:string status:string cause:string? operator:string? restarts:integer progress:number \
             late_records_dropped:integer started:integer ended:integer?",
        ),
        || get(handlers::job_result),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}",
        "A vertex with its subtasks.",
        Object(
            "id:string name:string parallelism:integer maxParallelism:integer now:integer aggregated:object subtasks:array",
        ),
        || get(vertex_handlers::vertex),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/accumulators",
        "A vertex's accumulators: what its collecting sinks hold.",
        Object("id:string user-accumulators:array"),
        || get(vertex_handlers::vertex_accumulators),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/backpressure",
        "Back-pressure of the subtasks, from their two newest reports.",
        Object("status:string backpressureLevel:string? end-timestamp:integer? subtasks:array"),
        || get(vertex_handlers::back_pressure),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/flamegraph",
        "Flame graphs: always the answer of a cluster that has them switched off.",
        Object("endTimestamp:integer"),
        || get(vertex_handlers::flame_graph),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/metrics",
        "Metrics of all subtasks, each named with its subtask.",
        METRICS,
        || get(vertex_handlers::vertex_metrics),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasks/accumulators",
        "Accumulators by subtask: what its collecting sinks hold.",
        Object("id:string parallelism:integer subtasks:array"),
        || get(vertex_handlers::subtask_accumulators),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasks/metrics",
        "Metrics aggregated over subtasks.",
        METRICS,
        || get(vertex_handlers::subtasks_metrics),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasks/{subtask}",
        "A subtask's current attempt.",
        SUBTASK,
        || get(vertex_handlers::subtask),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasks/{subtask}/metrics",
        "A subtask's metrics.",
        METRICS,
        || get(vertex_handlers::subtask_metrics),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasks/{subtask}/attempts/{attempt}",
        "An attempt: the current one, or one before it that is kept.",
        SUBTASK,
        || get(vertex_handlers::attempt),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasks/{subtask}/attempts/{attempt}/accumulators",
        "An attempt's accumulators: what its collecting sinks hold.",
        Object("subtask:integer attempt:integer id:string user-accumulators:array"),
        || get(vertex_handlers::attempt_accumulators),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/subtasktimes",
        "When each subtask entered each state.",
        Object("id:string name:string now:integer subtasks:array"),
        || get(vertex_handlers::subtask_times),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/taskmanagers",
        "A vertex's subtasks by TaskManager.",
        Object("id:string name:string now:integer taskmanagers:array"),
        || get(vertex_handlers::vertex_task_managers),
    ),
    look(
        "/jobs/{job}/vertices/{vertex}/watermarks",
        "Watermarks of the subtasks that have one.",
        METRICS,
        || get(vertex_handlers::watermarks),
    ),
    look(
        "/taskmanagers",
        "All TaskManagers.",
        Object("taskmanagers:array"),
        || get(handlers::task_managers),
    ),
    look(
        "/taskmanagers/metrics",
        "Metrics aggregated over TaskManagers.",
        METRICS,
        || get(handlers::task_managers_metrics),
    ),
    look(
        "/taskmanagers/{taskmanager}",
        "A TaskManager with its memory.",
        Object(
            "id:string path:string dataPort:integer jmxPort:integer timeSinceLastHeartbeat:integer slotsNumber:integer \
             freeSlots:integer totalResource:object freeResource:object hardware:object memoryConfiguration:object \
             allocatedSlots:array metrics:object",
        ),
        || get(handlers::task_manager),
    ),
    look(
        "/taskmanagers/{taskmanager}/metrics",
        "A TaskManager's metrics.",
        METRICS,
        || get(handlers::task_manager_metrics),
    ),
    look(
        "/taskmanagers/{taskmanager}/logs",
        "A TaskManager's log files, those of its workers included.",
        Object("logs:array"),
        || get(inquiries::log_list),
    ),
    look(
        "/taskmanagers/{taskmanager}/logs/{file}",
        "A log file of a TaskManager, or its end.",
        Text,
        || get(inquiries::log_file),
    ),
    look(
        "/taskmanagers/{taskmanager}/log",
        "A TaskManager's log, or its end.",
        Text,
        || get(inquiries::log),
    ),
    look(
        "/taskmanagers/{taskmanager}/stdout",
        "What a TaskManager wrote to its standard output.",
        Text,
        || get(inquiries::stdout),
    ),
    look(
        "/taskmanagers/{taskmanager}/thread-dump",
        "Threads of a TaskManager and of its workers, as Linux tells of them.",
        Object("threadInfos:array"),
        || get(inquiries::thread_dump),
    ),
    look(
        "/jobmanager/config",
        "Settings of the cluster, secrets hidden.",
        List("key:string value:string"),
        || get(handlers::job_manager_config),
    ),
    look(
        "/jobmanager/environment",
        "What the JobManager runs on.",
        Object("jvm:object classpath:array"),
        || get(handlers::job_manager_environment),
    ),
    look(
        "/jobmanager/metrics",
        "The JobManager's metrics.",
        METRICS,
        || get(handlers::job_manager_metrics),
    ),
    look(
        "/jobmanager/logs",
        "The JobManager's log files.",
        Object("logs:array"),
        || get(handlers::job_manager_logs),
    ),
    look(
        "/jobmanager/logs/{file}",
        "A log file of the JobManager, or its end.",
        Text,
        || get(handlers::job_manager_log_file),
    ),
    look(
        "/jobmanager/log",
        "The JobManager's log, or its end.",
        Text,
        || get(handlers::job_manager_log),
    ),
    look(
        "/jobmanager/stdout",
        "What the JobManager wrote to its standard output.",
        Text,
        || get(handlers::job_manager_stdout),
    ),
    look(
        "/jobmanager/thread-dump",
        "Not served: threads of a native process.",
        Nothing,
        || get(handlers::job_manager_threads),
    ),
];
