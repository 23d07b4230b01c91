//! What is asked of TaskManagers themselves, and what is known of their tasks' time and earlier attempts.

use spindle_common::gateway::{
    Inquiry, InquiryAnswer, LogFile, ThreadDump, ToJobManager, ToTaskExecutor,
};
use spindle_jobmanager::message::TaskLoad;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::submission::NoContainers;
use super::*;
use crate::connection::TaskExecutorLink;
use crate::driver::Effects;

/// Runs a cluster of this view, and answers its handle.
fn run(view: View, running: &mut JoinSet<()>) -> crate::ClusterHandle {
    let (driver, handle) = ClusterDriver::new(Fixture(view), Clock::fixed(EPOCH));
    let effects = Effects {
        resources: Box::new(NoContainers),
        remove_staging: Box::new(|_, _| Box::pin(async {})),
        checkpoints: crate::no_checkpoint_files(),
        record: None,
    };
    running.spawn(async move {
        driver.run(effects).await;
    });
    handle
}

fn answer(what: Inquiry) -> InquiryAnswer {
    match what {
        Inquiry::Logs => InquiryAnswer::Logs(vec![LogFile {
            name: "taskexecutor.log".to_owned(),
            size: 12,
            mtime_ms: EPOCH,
        }]),
        Inquiry::LogFile { name } if name == "worker.err" => {
            InquiryAnswer::Failed("there is no log file `worker.err`".to_owned())
        }
        Inquiry::LogFile { name } if name == "silent" => InquiryAnswer::Threads(Vec::new()),
        Inquiry::LogFile { name } => InquiryAnswer::LogFile {
            from: u64::from(name.ends_with(".out")) * 7,
            bytes: format!("a line of {name}\n").into_bytes(),
        },
        Inquiry::Threads => InquiryAnswer::Threads(vec![ThreadDump {
            name: "main".to_owned(),
            text: "\"main\" Id=1 RUNNABLE".to_owned(),
        }]),
    }
}

/// The server with its driver running, and the one TaskExecutor of its view answering.
pub(super) async fn answered(server: Server) -> (Server, JoinSet<()>) {
    let mut running = JoinSet::new();
    let handle = run(view(), &mut running);
    let (to_manager, incoming) = mpsc::channel(8);
    let (outgoing, mut questions) = mpsc::channel(8);
    let link = TaskExecutorLink { incoming, outgoing };
    handle.attach(link).await.unwrap();
    running.spawn(async move {
        while let Some(message) = questions.recv().await {
            if let ToTaskExecutor::Inquire { inquiry, what } = message {
                let answer = answer(what);
                let answer = ToJobManager::Inquired { inquiry, answer };
                to_manager.send(answer).await.unwrap();
            }
        }
    });
    let mut config = config(true);
    config.log_directory = server.logs.clone();
    let router = router(handle, config);
    (Server { router, ..server }, running)
}

#[tokio::test]
async fn logs_and_threads_of_a_task_manager_are_asked_of_it() {
    let (server, _running) = answered(server()).await;
    let base = "/taskmanagers/container_1";
    let file = json!({"name": "taskexecutor.log", "size": 12, "mtime": EPOCH});
    assert_eq!(
        server.get(&format!("{base}/logs")).await,
        json!({"logs": [file]})
    );
    let thread = json!({"threadName": "main", "stringifiedThreadInfo": "\"main\" Id=1 RUNNABLE"});
    let dump = server.get(&format!("{base}/thread-dump")).await;
    assert_eq!(dump, json!({"threadInfos": [thread]}));
    let text = async |path: &str| {
        let request = axum::http::Request::builder()
            .uri(format!("{base}/{path}"))
            .header(header::AUTHORIZATION, secret().to_bearer());
        server.send(request.body(Body::empty()).unwrap()).await
    };
    for path in ["log", "logs/taskexecutor.log"] {
        let shown = text(path).await;
        assert_eq!(
            shown,
            (StatusCode::OK, "a line of taskexecutor.log\n".to_owned())
        );
    }
    let (_, shown) = text("stdout").await;
    assert_eq!(
        shown,
        "… 7 bytes before this are not shown\na line of taskexecutor.out\n"
    );
    let (status, body) = text("logs/worker.err").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    let (status, body) = text("logs/silent").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{body}");
    let (status, _) = server.ask(Method::GET, "/taskmanagers/nobody/logs").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_task_manager_that_has_gone_is_not_waited_for() {
    let mut view = view();
    for manager in view.task_managers.values_mut() {
        manager.connection = ConnectionId(7);
    }
    let mut running = JoinSet::new();
    let handle = run(view, &mut running);
    let server = Server {
        router: router(handle, config(true)),
        ..server()
    };
    let path = "/taskmanagers/container_1/logs";
    let (status, body) = server.ask(Method::GET, path).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
}

#[tokio::test]
async fn what_a_subtask_does_with_its_time_is_told_as_flink_does() {
    let mut view = view();
    let job = Arc::make_mut(view.jobs.get_mut(&job_id()).unwrap());
    job.tasks[0].load = Some(TaskLoad {
        busy_ms_per_second: 300,
        idle_ms_per_second: 100,
        backpressured_ms_per_second: 600,
        until: MonoTime::from_millis(9000),
    });
    job.tasks[0].metrics.backpressured_ms = 4000;
    let (driver, handle) = ClusterDriver::new(Fixture(view), Clock::fixed(EPOCH));
    let server = Server {
        driver,
        router: router(handle, config(true)),
        logs: None,
    };
    let base = format!(
        "/jobs/{}/vertices/{}",
        job_id(),
        JobVertexId::of_uid("read")
    );
    let body = server.get(&format!("{base}/backpressure")).await;
    assert_eq!(
        body,
        json!({
            "status": "ok",
            "backpressureLevel": "high",
            "backpressure-level": "high",
            "end-timestamp": EPOCH + 9000,
            "subtasks": [{
                "subtask": 0, "attempt-number": 1, "backpressureLevel": "high", "backpressure-level": "high",
                "ratio": 0.6, "idleRatio": 0.1, "busyRatio": 0.3, "other-concurrent-attempts": [],
            }],
        })
    );
    let body = server
        .get(&format!(
            "{base}/metrics?get=0.busyTimeMsPerSecond,0.backPressuredTimeMsPerSecond"
        ))
        .await;
    let values: Vec<&Value> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["value"])
        .collect();
    assert_eq!(values, ["300.0", "600"]);
    let body = server.get(&base).await;
    let metrics = &body["subtasks"][0]["metrics"];
    assert_eq!(metrics["accumulated-backpressured-time"], 4000);
}

#[tokio::test]
async fn earlier_attempts_are_shown_as_long_as_they_are_kept() {
    let mut view = view();
    let job = Arc::make_mut(view.jobs.get_mut(&job_id()).unwrap());
    let mut first = job.tasks[0].clone();
    first.execution.attempt = 0;
    first.state = ExecutionState::Failed;
    job.past = Arc::new(vec![first]);
    let (driver, handle) = ClusterDriver::new(Fixture(view), Clock::fixed(EPOCH));
    let server = Server {
        driver,
        router: router(handle, config(true)),
        logs: None,
    };
    let vertex = JobVertexId::of_uid("read");
    let base = format!("/jobs/{}/vertices/{vertex}/subtasks/0", job_id());
    let first = server.get(&format!("{base}/attempts/0")).await;
    assert_eq!(
        (&first["status"], &first["attempt"]),
        (&json!("FAILED"), &json!(0))
    );
    assert_eq!(server.get(&base).await["attempt"], 1);
    let (status, _) = server.ask(Method::GET, &format!("{base}/attempts/2")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_sinks_have_collected_is_an_accumulator_of_their_vertex() {
    let mut view = view();
    let job = Arc::make_mut(view.jobs.get_mut(&job_id()).unwrap());
    for (task, bytes) in [(2, 30), (3, 12)] {
        job.tasks[task].collected = vec![("out".to_owned(), bytes)];
    }
    let (driver, handle) = ClusterDriver::new(Fixture(view), Clock::fixed(EPOCH));
    let server = Server {
        driver,
        router: router(handle, config(true)),
        logs: None,
    };
    let vertex = JobVertexId::of_uid("write");
    let base = format!("/jobs/{}/vertices/{vertex}", job_id());
    let of =
        |bytes: u64| json!([{"name": "out", "type": "collect", "value": format!("{bytes} bytes")}]);
    let body = server.get(&format!("{base}/accumulators")).await;
    assert_eq!(body["user-accumulators"], of(42));
    let body = server.get(&format!("{base}/subtasks/accumulators")).await;
    assert_eq!(body["subtasks"][1]["user-accumulators"], of(12));
    let body = server
        .get(&format!("{base}/subtasks/0/attempts/1/accumulators"))
        .await;
    assert_eq!(body["user-accumulators"], of(30));
}
