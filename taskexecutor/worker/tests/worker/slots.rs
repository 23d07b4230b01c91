//! Tasks that take turns on the thread of their slot.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use spindle_common::checkpoint::CheckpointId;
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{ResultPartitionDescriptor, ToWorker};
use spindle_dataflow::channel::{Buffer, GateEvent};
use spindle_dataflow::task::{Dataflow, Step, Task, TaskContext, TaskError, TaskFactory, TaskMail};

use crate::support::{
    CREDITS, Host, InTurn, Make, Numbers, Sum, consumer, dataflow, eventually, producer,
};

/// What a producer may send beyond its credits in the midst of a step.
const OVERDRAFT: u32 = 16;

fn in_turn(source: Arc<dyn TaskFactory>, sink: Arc<dyn TaskFactory>) -> Dataflow {
    dataflow(Arc::new(InTurn(source)), Arc::new(InTurn(sink)))
}

fn numbers(count: u64) -> Arc<dyn TaskFactory> {
    Numbers::factory(count, &Arc::default())
}

/// Two slots with a producer and a consumer each.
fn deploy(host: &Host) {
    for subtask in 0..2 {
        host.produce(subtask, 2);
        host.consume(subtask, &[host, host]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_has_one_thread_for_the_tasks_that_do_not_wait() {
    let threads: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
    let seen = Arc::clone(&threads);
    let watch = move || {
        seen.lock().unwrap().insert(thread::current().id());
    };
    let seen = Arc::clone(&threads);
    let source = Make(move |context| {
        seen.lock().unwrap().insert(thread::current().id());
        numbers(10_000).build(context)
    });
    let mut host = Host::start(&in_turn(Arc::new(source), Sum::factory(watch)));
    deploy(&host);
    let sums = (host.sum(consumer(0)).await, host.sum(consumer(1)).await);
    assert_eq!(sums, (2 * 24_995_000, 2 * 25_000_000));
    assert_eq!(threads.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_thread_is_with_its_consumer_is_held_back() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let watch = move || {
        // Once it is dropped, nothing waits any more.
        let _ = gone.lock().unwrap().recv();
    };
    let mut host = Host::start(&in_turn(numbers(10_000), Sum::factory(watch)));
    host.produce(0, 1);
    host.consume(0, &[&host]);
    host.counted(producer(0), |counted| counted.backpressured_ms >= 200)
        .await;
    host.counted(consumer(0), |counted| counted.busy_ms >= 200)
        .await;
    drop(go);
    assert_eq!(host.sum(consumer(0)).await, 49_995_000);
}

/// A task that does nothing but this in each step.
struct Steps<F>(TaskContext, F);

impl<F> Task for Steps<F>
where
    F: FnMut(&mut TaskContext) -> Result<Step, TaskError>,
{
    fn step(&mut self) -> Result<Step, TaskError> {
        (self.1)(&mut self.0)
    }

    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

/// Tasks that do this in each step.
fn steps<F>(step: F) -> Arc<dyn TaskFactory>
where
    F: Fn(&mut TaskContext) -> Result<Step, TaskError> + Clone + Send + Sync + 'static,
{
    Arc::new(Make(move |context| {
        Ok(Box::new(Steps(context, step.clone())) as Box<dyn Task>)
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_a_task_waits_in_the_midst_of_a_step_is_not_missed() {
    let dozes: Arc<AtomicBool> = Arc::default();
    let sum: Arc<AtomicU64> = Arc::default();
    let (added, read, doze) = (Arc::clone(&sum), Arc::clone(&sum), Arc::clone(&dozes));
    // On the other slot's thread. It wakes the consumer once, while that waits, and then only when all is read.
    let sent = Arc::new(AtomicBool::new(false));
    let source = steps(move |context| {
        let bytes = if !doze.load(Ordering::SeqCst) {
            return Ok(Step::Continue);
        } else if !sent.swap(true, Ordering::SeqCst) {
            3_u64.to_be_bytes().to_vec()
        } else if read.load(Ordering::SeqCst) == 3 {
            b"end".to_vec()
        } else {
            return Ok(Step::Continue);
        };
        let end = bytes == b"end";
        context.partitions[0].emit(0, Buffer::encoded(bytes, 1))?;
        Ok(if end { Step::Finished } else { Step::Continue })
    });
    // Finds nothing, and waits for something else in the same step, while what it looked for comes.
    let sink = steps(move |context| {
        let gate = context.gate.as_mut().expect("it reads a gate");
        match gate.next(None)? {
            GateEvent::Buffer(_, buffer) if buffer.bytes == b"end" => return Ok(Step::Finished),
            GateEvent::Buffer(_, buffer) => {
                let number = u64::from_be_bytes(buffer.bytes[..].try_into().unwrap());
                added.fetch_add(number, Ordering::SeqCst);
            }
            GateEvent::Woken | GateEvent::Arrived(..) => {
                dozes.store(true, Ordering::SeqCst);
                context.mailbox.park(None);
            }
        }
        Ok(Step::Continue)
    });
    let mut host = Host::start(&in_turn(source, sink));
    host.consume(1, &[&host]);
    host.submit(
        producer(0),
        Vec::new(),
        vec![ResultPartitionDescriptor {
            edge: 0,
            consumers: vec![1],
        }],
    );
    let finished = host.state(consumer(1), ExecutionState::Finished);
    let finished = tokio::time::timeout(Duration::from_secs(10), finished).await;
    assert!(finished.is_ok(), "it rests with a number in its gate");
    assert_eq!(sum.load(Ordering::SeqCst), 3);
}

/// Emits so many numbers to each consumer in one step.
fn flood(count: u64, emitted: &Arc<AtomicU64>) -> Arc<dyn TaskFactory> {
    let emitted = Arc::clone(emitted);
    steps(move |context| {
        let partition = &mut context.partitions[0];
        for number in 0..count {
            for consumer in 0..partition.subpartitions() {
                let bytes = number.to_be_bytes().to_vec();
                partition.emit(consumer, Buffer::encoded(bytes, 1))?;
                emitted.fetch_add(1, Ordering::SeqCst);
            }
        }
        for consumer in 0..partition.subpartitions() {
            partition.emit(consumer, Buffer::encoded(b"end".to_vec(), 0))?;
        }
        Ok(Step::Finished)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_out_of_credit_in_the_midst_of_a_step_let_each_others_consumers_go_on() {
    // Each thread has a producer that waits for both consumers, its own and that of the other thread, which waits likewise.
    let flow = in_turn(flood(5000, &Arc::default()), Sum::factory(|| {}));
    for consumers_first in [true, false] {
        let mut host = Host::start(&flow);
        if consumers_first {
            host.consume(0, &[&host, &host]);
            host.consume(1, &[&host, &host]);
        }
        host.produce(0, 2);
        host.produce(1, 2);
        if !consumers_first {
            host.consume(0, &[&host, &host]);
            host.consume(1, &[&host, &host]);
        }
        let sum = 2 * 4999 * 5000 / 2;
        assert_eq!(host.sum(consumer(0)).await, sum);
        assert_eq!(host.sum(consumer(1)).await, sum);
    }
}

/// Takes nothing, and panics when it is told to.
fn deaf(told: &Arc<AtomicBool>) -> Arc<dyn TaskFactory> {
    let told = Arc::clone(told);
    steps(move |_| {
        assert!(!told.load(Ordering::SeqCst), "no use");
        Ok(Step::Held)
    })
}

/// A producer that waits in the midst of a step for a consumer of its own slot.
async fn stuck(told: &Arc<AtomicBool>) -> Host {
    let emitted = Arc::default();
    let flow = in_turn(flood(1000, &emitted), deaf(told));
    let host = Host::start(&flow);
    host.produce(0, 1);
    host.consume(0, &[&host]);
    eventually("the producer waits", || {
        emitted.load(Ordering::SeqCst) == u64::from(CREDITS + OVERDRAFT)
    })
    .await;
    host
}

#[tokio::test]
async fn a_task_that_waits_in_the_midst_of_a_step_can_be_cancelled() {
    let mut host = stuck(&Arc::default()).await;
    host.cancel(producer(0));
    host.state(producer(0), ExecutionState::Canceled).await;
    host.cancel(consumer(0));
    host.state(consumer(0), ExecutionState::Canceled).await;
}

#[tokio::test]
async fn a_task_that_panics_in_the_midst_of_anothers_step_fails_as_itself() {
    let told = Arc::default();
    let mut host = stuck(&told).await;
    told.store(true, Ordering::SeqCst);
    host.worker.handle(ToWorker::CheckpointComplete {
        execution: consumer(0),
        checkpoint: CheckpointId(1),
    });
    let why = host.failure(consumer(0)).await;
    assert!(why.ends_with("no use"), "{why}");
    // The other is not in its way, and learns that nobody reads it any more.
    let why = host.failure(producer(0)).await;
    assert!(why.contains("lost the connection"), "{why}");
}
