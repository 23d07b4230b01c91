use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use spindle_common::execution::ExecutionState;
use spindle_common::gateway::ToWorker;
use spindle_common::id::ExecutionAttemptId;
use spindle_rpc::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    CREDITS, Host, Numbers, Sum, consumer, dataflow, eventually, producer, secret,
};

const RUN: [ExecutionState; 3] = [
    ExecutionState::Initializing,
    ExecutionState::Running,
    ExecutionState::Finished,
];

fn numbers(count: u64) -> (Arc<AtomicU64>, spindle_dataflow::task::Dataflow) {
    let emitted = Arc::default();
    let flow = dataflow(Numbers::factory(count, &emitted), Sum::factory(|| {}));
    (emitted, flow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_exchange_all_records_in_order_whoever_is_deployed_first() {
    let (_, flow) = numbers(10_000);
    for consumers_first in [true, false] {
        let (mut a, mut b) = (Host::start(&flow), Host::start(&flow));
        if !consumers_first {
            a.produce(0, 2);
            b.produce(1, 2);
        }
        a.consume(0, &[&a, &b]);
        b.consume(1, &[&a, &b]);
        if consumers_first {
            a.state(consumer(0), ExecutionState::Running).await;
            b.state(consumer(1), ExecutionState::Running).await;
            a.produce(0, 2);
            b.produce(1, 2);
        }
        let (even, odd) = (a.sum(consumer(0)).await, b.sum(consumer(1)).await);
        assert_eq!((even, odd), (2 * 24_995_000, 2 * 25_000_000));
        let source = a.state(producer(0), ExecutionState::Finished).await;
        assert_eq!(source.metrics.records_out, 10_000);
        assert_eq!(a.states(producer(0)), RUN);
        assert_eq!(a.states(consumer(0)), RUN);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_finished_producer_left_is_there_for_a_later_consumer() {
    let (_, flow) = numbers(2);
    let (mut a, mut b) = (Host::start(&flow), Host::start(&flow));
    a.produce(0, 2);
    a.state(producer(0), ExecutionState::Finished).await;
    a.consume(0, &[&a]);
    b.consume(1, &[&a]);
    assert_eq!((a.sum(consumer(0)).await, b.sum(consumer(1)).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_buffers_than_credits_are_on_their_way() {
    for remote in [false, true] {
        let emitted: Arc<AtomicU64> = Arc::default();
        let (go, gone) = mpsc::channel::<()>();
        let (asked, exceeded) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let watch = {
            let (emitted, exceeded) = (Arc::clone(&emitted), Arc::clone(&exceeded));
            let gone = std::sync::Mutex::new(gone);
            move || {
                let before = asked.fetch_add(1, Ordering::SeqCst);
                if before == 0 {
                    gone.lock().unwrap().recv().unwrap();
                }
                if emitted.load(Ordering::SeqCst) > before + u64::from(CREDITS) {
                    exceeded.store(true, Ordering::SeqCst);
                }
            }
        };
        let flow = dataflow(Numbers::factory(1000, &emitted), Sum::factory(watch));
        let (a, mut b) = (Host::start(&flow), Host::start(&flow));
        let at = if remote { &a } else { &b };
        at.produce(0, 1);
        b.consume(0, &[at]);
        eventually("the credits are used", || {
            emitted.load(Ordering::SeqCst) == u64::from(CREDITS)
        })
        .await;
        go.send(()).unwrap();
        assert_eq!(b.sum(consumer(0)).await, 499_500);
        assert!(!exceeded.load(Ordering::SeqCst), "remote: {remote}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_waits_for_credit_or_for_input_can_be_cancelled() {
    let (emitted, flow) = numbers(1000);
    let (mut a, mut b) = (Host::start(&flow), Host::start(&flow));
    a.produce(0, 1);
    b.consume(1, &[&b, &a]);
    eventually("the producer waits", || {
        emitted.load(Ordering::SeqCst) == u64::from(CREDITS)
    })
    .await;
    b.state(consumer(1), ExecutionState::Running).await;
    a.cancel(producer(0));
    b.cancel(consumer(1));
    a.state(producer(0), ExecutionState::Canceled).await;
    b.state(consumer(1), ExecutionState::Canceled).await;
    assert_eq!(
        a.states(producer(0)).last(),
        Some(&ExecutionState::Canceled)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_without_credit_is_back_pressure_and_time_without_input_is_idle() {
    let (_, flow) = numbers(1000);
    let mut host = Host::start(&flow);
    host.produce(0, 1);
    host.consume(1, &[&host]);
    host.counted(producer(0), |counters| {
        counters.backpressured_ms > 40 && counters.idle_ms == 0
    })
    .await;
    host.counted(consumer(1), |counters| {
        counters.idle_ms > 40 && counters.backpressured_ms == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_producer_is_lost_fails_naming_it() {
    let (_, flow) = numbers(u64::MAX);
    let (a, mut b) = (Host::start(&flow), Host::start(&flow));
    let address = a.worker.data_address().to_owned();
    a.produce(0, 2);
    b.consume(0, &[&a]);
    b.state(consumer(0), ExecutionState::Running).await;
    drop(a);
    let cause = b.failure(consumer(0)).await;
    let expected = format!("lost the connection to task {} at {address}", producer(0));
    assert!(cause.contains(&expected), "{cause}");
    eventually("nobody listens there", || {
        std::net::TcpStream::connect(&address).is_err()
    })
    .await;
    let mut c = Host::start(&flow);
    c.consume_at(consumer(1), &[&address]);
    let cause = c.failure(consumer(1)).await;
    assert!(cause.contains("failed to connect"), "{cause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_whose_consumer_is_lost_fails_naming_it() {
    let (emitted, flow) = numbers(u64::MAX);
    let (mut a, b) = (Host::start(&flow), Host::start(&flow));
    b.consume(0, &[&a]);
    a.produce(0, 1);
    eventually("the channel is read", || {
        emitted.load(Ordering::SeqCst) > 2 * u64::from(CREDITS)
    })
    .await;
    let address = b.worker.data_address().to_owned();
    drop(b);
    let cause = a.failure(producer(0)).await;
    assert!(
        cause.contains(&format!("task {} at {address}", consumer(0))),
        "{cause}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_attempt_does_not_get_into_a_channel_that_is_read() {
    let (emitted, flow) = numbers(u64::MAX);
    let (a, mut b) = (Host::start(&flow), Host::start(&flow));
    a.produce(0, 1);
    b.consume(0, &[&a]);
    eventually("the channel is read", || {
        emitted.load(Ordering::SeqCst) > 2 * u64::from(CREDITS)
    })
    .await;
    let stale = ExecutionAttemptId {
        attempt: 1,
        ..consumer(0)
    };
    b.consume_at(stale, &[a.worker.data_address()]);
    let cause = b.failure(stale).await;
    assert!(cause.contains("already"), "{cause}");
    assert_eq!(b.states(consumer(0)).last(), Some(&ExecutionState::Running));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_another_secret_reads_nothing() {
    let (_, flow) = numbers(10);
    let (a, mut b) = (
        Host::start(&flow),
        Host::start_with(&flow, Secret::from_bytes([1; 32]), Duration::ZERO),
    );
    a.produce(0, 1);
    b.consume(0, &[&a]);
    let cause = b.failure(consumer(0)).await;
    assert!(cause.contains("does not have the secret"), "{cause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_nothing_is_cut_off_without_an_answer() {
    let (_, flow) = numbers(10);
    let a = Host::start(&flow);
    // A frame that is too long for a handshake; one of an unknown kind; an `Open` out of turn.
    let mut open = vec![57, 0, 0, 0, 4];
    open.extend([0; 56]);
    for bytes in [&[255, 255, 255, 0, 1][..], &[1, 0, 0, 0, 99], &open] {
        let mut stream = tokio::net::TcpStream::connect(a.worker.data_address())
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, Vec::<u8>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_say_nothing_keep_no_worker_out_and_end_none_that_is_in() {
    let (_, flow) = numbers(10_000);
    let (mut a, mut b) = (Host::start(&flow), Host::start(&flow));
    a.consume(0, &[&a, &b]);
    a.state(consumer(0), ExecutionState::Running).await;
    let mut strangers = Vec::new();
    for _ in 0..600 {
        let stranger = tokio::net::TcpStream::connect(b.worker.data_address()).await;
        strangers.push(stranger.unwrap());
    }
    // The first was ended for the later ones, before its five seconds were over.
    let mut byte = [0];
    let ended = strangers[0].read(&mut byte);
    let ended = tokio::time::timeout(Duration::from_secs(4), ended).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    b.consume(1, &[&a, &b]);
    a.produce(0, 2);
    b.produce(1, 2);
    assert_eq!(a.sum(consumer(0)).await, 2 * 24_995_000);
    assert_eq!(b.sum(consumer(1)).await, 2 * 25_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_cancels_all_tasks() {
    let (_, flow) = numbers(u64::MAX);
    let mut a = Host::start_with(&flow, secret(), Duration::from_secs(60));
    a.produce(0, 1);
    a.consume(0, &[&a]);
    a.state(consumer(0), ExecutionState::Running).await;
    a.worker.handle(ToWorker::ShutDown);
    a.state(producer(0), ExecutionState::Canceled).await;
    a.state(consumer(0), ExecutionState::Canceled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_a_neighbour_leaves_it_to_that_one_to_tell_why() {
    let (emitted, flow) = numbers(u64::MAX);
    let a = Host::start(&flow);
    let mut b = Host::start_with(&flow, secret(), Duration::from_secs(60));
    a.produce(0, 1);
    b.consume(0, &[&a]);
    eventually("the channel is read", || {
        emitted.load(Ordering::SeqCst) > 2 * u64::from(CREDITS)
    })
    .await;
    drop(a);
    b.cancel(consumer(0));
    b.state(consumer(0), ExecutionState::Canceled).await;
}
