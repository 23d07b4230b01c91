//! Beginning and end of the process and of its workers.

use spindle_common::execution::{ExecutionState, FailureClass};
use spindle_common::id::{AllocationId, FencingToken};
use spindle_rpc::{Secret, serve_job_manager};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Container, JobManager, Lease, PATIENCE, gone, job_id, kill, spawn};

fn lease(allocation: u64) -> Lease {
    Lease {
        allocation,
        slot: 0,
        job: 5,
    }
}

#[tokio::test]
async fn a_killed_worker_is_told_in_words_and_the_slot_can_be_leased_again() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(lease(1), "").await;
    let report = jm.heartbeat().await;
    assert!(
        report.resident_bytes > 0 && report.workers[0].resident_bytes > 0,
        "{report:?}"
    );
    let resident = report.resident_bytes + report.workers[0].resident_bytes;
    assert!(
        resident < 40 << 20,
        "{resident} bytes are too much for a tiny job"
    );
    kill("-KILL", pid);
    let cause = jm.lost(5).await;
    assert_eq!(cause.class, FailureClass::Restart);
    assert!(
        cause.message.contains("killed by signal 9 (SIGKILL)"),
        "{cause}"
    );
    let second = jm.run_task(lease(2), "").await;
    assert_ne!(second, pid);
    jm.shut_down().await;
    gone(second).await;
}

#[tokio::test]
async fn a_worker_that_does_not_start_is_told_with_the_end_of_its_error_log() {
    let mut jm = JobManager::start().await;
    jm.request(lease(1), "exit").await;
    let (allocation, cause) = jm.refused().await;
    assert_eq!(allocation, AllocationId(1));
    assert!(cause.message.contains("exited with code 7"), "{cause}");
    assert!(
        cause.message.ends_with("cannot open the flux capacitor"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_task_is_cancelled_and_a_worker_without_a_slot_ends() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(lease(1), "").await;
    jm.cancel(5).await;
    jm.task_state(ExecutionState::Canceled).await;
    jm.free(1).await;
    gone(pid).await;
    jm.shut_down().await;
    let log = jm.log();
    assert!(log.contains("the peer ended the stream"), "{log}");
    assert!(!log.contains("the connection was lost"), "{log}");
}

#[tokio::test]
async fn the_worker_of_a_task_executor_that_shuts_down_ends_its_stream_well() {
    let mut jm = JobManager::start().await;
    jm.run_task(lease(1), "").await;
    jm.shut_down().await;
    let log = jm.log();
    assert!(log.contains("the peer ended the stream"), "{log}");
    assert!(!log.contains("the connection was lost"), "{log}");
}

#[tokio::test]
async fn it_and_its_workers_log_what_the_environment_asks_for() {
    let mut jm = JobManager::start().await;
    jm.run_task(lease(1), "").await;
    jm.free(9).await;
    jm.shut_down().await;
    let log = jm.log();
    assert!(log.contains("dropped the end of an unknown lease"), "{log}");
    let errors = format!("worker-{}.err", job_id(5));
    let log = std::fs::read_to_string(jm.directory.path().join(errors)).unwrap();
    assert!(log.contains("a task is built"), "{log}");
}

#[tokio::test]
async fn without_its_job_manager_it_ends_and_leaves_no_worker() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(lease(1), "deaf").await;
    let (outgoing, _) = mpsc::channel(1);
    jm.stream.outgoing = outgoing;
    assert_eq!(jm.ended().await.code(), Some(1));
    gone(pid).await;
}

#[tokio::test]
async fn terminated_by_a_signal_it_leaves_no_worker() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(lease(1), "deaf").await;
    kill("-TERM", jm.process.id().unwrap());
    assert_eq!(jm.ended().await.code(), Some(143));
    gone(pid).await;
}

#[tokio::test]
async fn a_worker_whose_task_executor_was_killed_ends_by_itself() {
    let mut jm = JobManager::start().await;
    let pid = jm.run_task(lease(1), "deaf").await;
    jm.process.start_kill().unwrap();
    jm.ended().await;
    gone(pid).await;
}

#[tokio::test]
async fn with_another_secret_it_ends_naming_the_job_manager() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (accepted, _streams) = mpsc::channel(1);
    let mut server = JoinSet::new();
    let served = Secret::generate().unwrap();
    server.spawn(async move {
        serve_job_manager(listener, served, FencingToken(1), accepted)
            .await
            .unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let process = spawn(
        directory.path(),
        &address,
        &Secret::generate().unwrap(),
        &Container::default(),
    );
    let output = timeout(PATIENCE, process.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains(&address) && words.contains("secret"),
        "{words}"
    );
}

#[tokio::test]
async fn an_impostor_at_the_job_managers_port_is_refused_and_never_given_the_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let secret = Secret::generate().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let process = spawn(directory.path(), &address, &secret, &Container::default());
    // It takes the connection, says what a JobManager says but for the proof, and hears all there is to hear.
    let impostor = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(&[&b"spindle1"[..], &[1; 72]].concat())
            .await
            .unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    };
    let (heard, output) = timeout(PATIENCE, async {
        tokio::join!(impostor, process.wait_with_output())
    })
    .await
    .unwrap();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains(&address) && words.contains("could not prove that it has the secret"),
        "{words}"
    );
    // A greeting and 32 random bytes, nothing of the job.
    assert_eq!(heard.len(), 41, "{heard:?}");
    assert!(!heard.windows(32).any(|part| part == secret.to_bytes()));
}
