//! Streams over loopback.

use spindle_common::id::JobId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;

const WAIT: Duration = Duration::from_secs(20);
const FIRST: FencingToken = FencingToken(1);

struct Server<T> {
    address: String,
    secret: Secret,
    accepted: mpsc::Receiver<T>,
    /// The server; ends with this.
    tasks: JoinSet<Result<(), ServeError>>,
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn job_manager(fencing: u64) -> Server<TaskExecutorStream> {
    let (listener, address) = listener().await;
    let secret = Secret::generate().unwrap();
    let (sender, accepted) = mpsc::channel(8);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_job_manager(
        listener,
        secret.clone(),
        FencingToken(fencing),
        sender,
    ));
    Server {
        address,
        secret,
        accepted,
        tasks,
    }
}

async fn task_executor() -> Server<WorkerStream> {
    let (listener, address) = listener().await;
    let secret = Secret::generate().unwrap();
    let (sender, accepted) = mpsc::channel(8);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_workers(
        listener,
        secret.clone(),
        FencingToken(1),
        sender,
    ));
    Server {
        address,
        secret,
        accepted,
        tasks,
    }
}

/// Both ends of one stream.
async fn open(
    server: &mut Server<TaskExecutorStream>,
) -> (JobManagerConnection, TaskExecutorStream) {
    let connection = connect_job_manager(&server.address, &server.secret, FIRST)
        .await
        .unwrap();
    (connection, server.accepted.recv().await.unwrap())
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.expect("it hangs")
}

fn lost(number: u64) -> ToJobManager {
    ToJobManager::OfferSlot {
        allocation: spindle_common::id::AllocationId(number),
        job: JobId::from_bytes([1; 16]),
        data_address: "127.0.0.1:1".to_owned(),
    }
}

#[tokio::test]
async fn messages_of_both_sides_arrive_in_order() {
    let mut server = job_manager(3).await;
    let (mut executor, mut manager) = open(&mut server).await;
    assert_eq!(executor.fencing, FencingToken(3));
    assert!(manager.peer.ip().is_loopback());
    let send_up = async {
        for number in 0..1000 {
            executor.outgoing.send(lost(number)).await.unwrap();
        }
    };
    let send_down = async {
        for heartbeat_interval_ms in 0..1000 {
            let message = ToTaskExecutor::Registered {
                heartbeat_interval_ms,
            };
            manager.outgoing.send(message).await.unwrap();
        }
    };
    let receive_up = async {
        for number in 0..1000 {
            assert_eq!(manager.incoming.recv().await.unwrap(), lost(number));
        }
    };
    let receive_down = async {
        for expected in 0..1000 {
            let Ok(ToTaskExecutor::Registered {
                heartbeat_interval_ms,
            }) = executor.incoming.recv().await
            else {
                panic!("another message came");
            };
            assert_eq!(heartbeat_interval_ms, expected);
        }
    };
    in_time(async { tokio::join!(send_up, send_down, receive_up, receive_down) }).await;
}

#[tokio::test]
async fn a_worker_and_its_task_executor_talk() {
    let mut server = task_executor().await;
    let mut worker = connect_task_executor(&server.address, &server.secret, FIRST)
        .await
        .unwrap();
    let mut executor = server.accepted.recv().await.unwrap();
    worker
        .outgoing
        .send(FromWorker::Report(Vec::new()))
        .await
        .unwrap();
    let heard = in_time(executor.incoming.recv()).await.unwrap();
    assert_eq!(heard, FromWorker::Report(Vec::new()));
    executor.outgoing.send(ToWorker::ShutDown).await.unwrap();
    let heard = in_time(worker.incoming.recv()).await.unwrap();
    assert_eq!(heard, ToWorker::ShutDown);
}

#[tokio::test]
async fn who_has_another_secret_is_an_impostor_to_the_opener_and_no_stream_is_seen() {
    let mut server = job_manager(1).await;
    let wrong = Secret::generate().unwrap();
    let refused = in_time(connect_job_manager(&server.address, &wrong, FIRST)).await;
    let Err(error @ ConnectError::Impostor { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().contains(&server.address), "{error}");
    assert!(server.accepted.try_recv().is_err());
}

#[tokio::test]
async fn an_impostor_learns_nothing_of_the_secret_and_gets_no_stream() {
    for answer in [
        // Another program; HTTP/2 settings, as gRPC without our proofs begins; a welcome without a proof.
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        b"\0\0\0\x04\0\0\0\0\0".to_vec(),
        [&b"spindle1"[..], &[0; 72]].concat(),
    ] {
        let (listener, address) = listener().await;
        let secret = Secret::generate().unwrap();
        let impostor = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&answer).await.unwrap();
            let mut heard = Vec::new();
            // A reset for what was not read is an end, too.
            let _ = stream.read_to_end(&mut heard).await;
            heard
        };
        let opener = connect_job_manager(&address, &secret, FIRST);
        let (refused, heard) = in_time(async { tokio::join!(opener, impostor) }).await;
        assert!(
            matches!(refused, Err(ConnectError::Impostor { .. })),
            "{refused:?}"
        );
        assert_eq!(heard.len(), crate::handshake::HELLO_BYTES);
        let hex = secret.to_hex();
        assert!(!String::from_utf8_lossy(&heard).contains(&hex));
        assert!(!heard.windows(32).any(|part| part == secret.to_bytes()));
    }
}

#[tokio::test]
async fn well_formed_grpc_without_proofs_gets_not_a_byte_even_with_the_secret_in_its_head() {
    let mut server = task_executor().await;
    let address = format!("http://{}", server.address);
    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    let mut request = Request::new(tokio_stream::once(proto::FromWorker::farewell()));
    let bearer = server.secret.to_bearer().parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let refused = in_time(TaskExecutorClient::new(channel).connect(request)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(server.accepted.try_recv().is_err());
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_job_manager_of_an_older_attempt_is_not_obeyed() {
    let mut server = job_manager(2).await;
    let least = FencingToken(3);
    let refused = in_time(connect_job_manager(&server.address, &server.secret, least)).await;
    assert!(
        matches!(&refused, Err(ConnectError::Fenced { found, .. }) if *found == FencingToken(2)),
        "{refused:?}"
    );
    assert!(server.accepted.try_recv().is_err());
}

#[tokio::test]
async fn strangers_that_say_nothing_keep_nobody_out() {
    let mut server = job_manager(1).await;
    let mut strangers = Vec::new();
    for _ in 0..2 * crate::admission::MOST_STRANGERS {
        strangers.push(TcpStream::connect(&server.address).await.unwrap());
    }
    let (executor, mut manager) = in_time(open(&mut server)).await;
    // The first was ended for the later ones, before its time was over.
    let early = crate::admission::HANDSHAKE_TIMEOUT - Duration::from_secs(1);
    let ended = timeout(early, strangers[0].read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0))), "{ended:?}");
    executor.outgoing.send(lost(1)).await.unwrap();
    assert_eq!(in_time(manager.incoming.recv()).await.unwrap(), lost(1));
}

#[tokio::test]
async fn who_says_nothing_is_given_up_in_time() {
    let server = job_manager(1).await;
    let mut stranger = TcpStream::connect(&server.address).await.unwrap();
    // One byte at a time gets nobody more of it.
    stranger.write_all(b"s").await.unwrap();
    let begin = tokio::time::Instant::now();
    tokio::time::pause();
    let ended = in_time(stranger.read(&mut [0])).await;
    assert_eq!(ended.unwrap(), 0);
    assert!(begin.elapsed() <= crate::admission::HANDSHAKE_TIMEOUT + Duration::from_secs(1));
    drop(server);
}

#[tokio::test]
async fn the_job_manager_sees_a_task_executor_leave() {
    let mut server = job_manager(1).await;
    let (executor, mut manager) = open(&mut server).await;
    executor.outgoing.send(lost(1)).await.unwrap();
    drop(executor.outgoing);
    assert_eq!(in_time(manager.incoming.recv()).await.unwrap(), lost(1));
    let end = in_time(manager.incoming.recv()).await.unwrap_err();
    assert!(matches!(end, StreamEnd::Closed), "{end:?}");
    let again = in_time(manager.incoming.recv()).await.unwrap_err();
    assert!(matches!(again, StreamEnd::Closed), "{again:?}");
    assert!(manager.incoming.next().await.is_none());
}

#[tokio::test]
async fn the_job_manager_sees_a_task_executor_vanish() {
    let mut server = job_manager(1).await;
    let (executor, mut manager) = open(&mut server).await;
    drop(executor.incoming);
    drop(executor.outgoing);
    assert!(in_time(manager.incoming.recv()).await.is_err());
    in_time(manager.outgoing.closed()).await;
}

#[tokio::test]
async fn the_task_executor_sees_the_job_manager_end_the_stream() {
    let mut server = job_manager(1).await;
    let (mut executor, manager) = open(&mut server).await;
    let reason = "done".to_owned();
    let message = ToTaskExecutor::ShutDown { reason };
    manager.outgoing.send(message.clone()).await.unwrap();
    drop(manager);
    assert_eq!(in_time(executor.incoming.recv()).await.unwrap(), message);
    let end = in_time(executor.incoming.recv()).await.unwrap_err();
    assert!(matches!(end, StreamEnd::Closed), "{end:?}");
}

#[tokio::test]
async fn a_broken_connection_is_told_from_an_ended_stream() {
    let mut server = job_manager(1).await;
    // A wire that can be cut.
    let (front, address) = listener().await;
    let back = server.address.clone();
    let mut wire = JoinSet::new();
    wire.spawn(async move {
        let (mut client, _) = front.accept().await?;
        let mut server = tokio::net::TcpStream::connect(back).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    });
    let mut executor = connect_job_manager(&address, &server.secret, FIRST)
        .await
        .unwrap();
    let mut manager = server.accepted.recv().await.unwrap();
    wire.shutdown().await;
    let end = in_time(executor.incoming.recv()).await.unwrap_err();
    assert!(matches!(end, StreamEnd::Lost(_)), "{end:?}");
    let end = in_time(manager.incoming.recv()).await.unwrap_err();
    assert!(matches!(end, StreamEnd::Lost(_)), "{end:?}");
}

#[tokio::test]
async fn a_silent_host_is_noticed_by_both_sides() {
    let mut server = job_manager(1).await;
    // A wire that stays open and carries nothing any more.
    let (front, address) = listener().await;
    let back = server.address.clone();
    let (silence, silent) = tokio::sync::oneshot::channel::<()>();
    let mut wire = JoinSet::new();
    wire.spawn(async move {
        let (mut client, _) = front.accept().await?;
        let mut server = tokio::net::TcpStream::connect(back).await?;
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut server) => copied.map(drop)?,
            _ = silent => std::future::pending().await,
        }
        std::io::Result::Ok(())
    });
    let mut executor = connect_job_manager(&address, &server.secret, FIRST)
        .await
        .unwrap();
    let mut manager = server.accepted.recv().await.unwrap();
    executor.outgoing.send(lost(1)).await.unwrap();
    assert_eq!(manager.incoming.recv().await.unwrap(), lost(1));
    silence.send(()).unwrap();
    tokio::task::yield_now().await;
    tokio::time::pause();
    let ends = async { tokio::join!(executor.incoming.recv(), manager.incoming.recv()) };
    let (executor, manager) = in_time(ends).await;
    assert!(matches!(executor, Err(StreamEnd::Lost(_))), "{executor:?}");
    assert!(matches!(manager, Err(StreamEnd::Lost(_))), "{manager:?}");
}

#[tokio::test]
async fn a_large_message_passes_and_a_larger_one_ends_the_stream() {
    let mut server = task_executor().await;
    let worker = connect_task_executor(&server.address, &server.secret, FIRST)
        .await
        .unwrap();
    let mut executor = server.accepted.recv().await.unwrap();
    let message = |bytes: usize| {
        FromWorker::Hello(spindle_common::gateway::WorkerHello {
            protocol_version: 1,
            job: JobId::from_bytes([1; 16]),
            pid: 1,
            data_address: "x".repeat(bytes),
            graph: Ok(7),
        })
    };
    let large = message(MAX_MESSAGE_BYTES - 100);
    worker.outgoing.send(large.clone()).await.unwrap();
    assert!(in_time(executor.incoming.recv()).await.unwrap() == large);
    worker
        .outgoing
        .send(message(MAX_MESSAGE_BYTES))
        .await
        .unwrap();
    assert!(in_time(executor.incoming.recv()).await.is_err());
}

#[tokio::test]
async fn what_does_not_listen_is_named() {
    let (listener, address) = listener().await;
    drop(listener);
    let secret = Secret::generate().unwrap();
    let error = in_time(connect_job_manager(&address, &secret, FIRST))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&address), "{error}");
    for address in ["", "host", "a b:1"] {
        let error = connect_task_executor(address, &secret, FIRST)
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::Address { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_ends_when_nobody_takes_its_streams_any_more() {
    let mut server = job_manager(1).await;
    let (executor, manager) = open(&mut server).await;
    drop((executor, manager));
    drop(server.accepted);
    in_time(server.tasks.join_next())
        .await
        .expect("it was started")
        .expect("it did not panic")
        .expect("it ended well");
}
