use spindle_common::checkpoint::{BarrierAlignment, SnapshotKind};
use spindle_common::id::JobVertexId;
use spindle_dataflow::exchange::{Encoder, Event};

use super::*;
use crate::exchange::ready::Next;

fn peer() -> Peer {
    let execution = ExecutionAttemptId {
        vertex: JobVertexId::of_uid("v"),
        subtask: 0,
        attempt: 0,
    };
    Peer {
        execution,
        address: "h:1".to_owned(),
    }
}

fn buffer(byte: u8) -> Buffer {
    Buffer::encoded(vec![byte], 1)
}

fn channel(credits: u32) -> (Queue, Arc<ReadyList>, Arc<Signal>) {
    let (queue, signal) = (Queue::new(credits), Arc::new(Signal::default()));
    let ready = Arc::new(ReadyList::of_task(Arc::clone(&signal)));
    queue.attach_producer(&signal);
    queue
        .attach_consumer(peer(), Arc::clone(&ready), 7)
        .unwrap();
    (queue, ready, signal)
}

#[test]
fn credit_and_the_overdraft_of_a_step_decide_whether_a_buffer_is_taken() {
    let (queue, _, signal) = channel(2);
    assert_eq!(queue.offer(buffer(1), &signal), Offer::Taken);
    assert!(signal.has_room());
    assert_eq!(queue.offer(buffer(2), &signal), Offer::Taken);
    assert!(!signal.has_room(), "no step is begun without credit");
    for _ in 0..OVERDRAFT {
        assert_eq!(queue.offer(buffer(3), &signal), Offer::Taken);
    }
    assert_eq!(queue.offer(buffer(4), &signal), Offer::Wait(buffer(4)));
    assert_eq!(queue.take(), Taken::Buffer(buffer(1), true));
    assert_eq!(
        queue.offer(buffer(4), &signal),
        Offer::Wait(buffer(4)),
        "taken, but not given back"
    );
    queue.grant(1);
    assert_eq!(queue.offer(buffer(4), &signal), Offer::Taken);
    queue.grant(OVERDRAFT);
    assert!(!signal.has_room(), "two are still used");
    queue.grant(1);
    assert!(signal.has_room());
    queue.grant(100);
    for _ in 0..2 + OVERDRAFT {
        assert_eq!(queue.receive(buffer(5)), Ok(()));
    }
    assert_eq!(
        queue.receive(buffer(6)),
        Err(Overrun),
        "there are no more credits than there were"
    );
}

fn barrier(id: u64) -> Buffer {
    let mut encoder = Encoder::default();
    encoder.event(Event::Barrier(CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: 0,
        kind: SnapshotKind::Checkpoint,
        directory: Arc::from("file:///chk"),
        alignment: BarrierAlignment::Aligned,
    }));
    encoder.take().unwrap()
}

fn recorded(queue: &Queue) -> Vec<u8> {
    let recorded = queue.recorded().unwrap().into_iter();
    recorded.map(|buffer| buffer.bytes[0]).collect()
}

#[test]
fn a_barrier_takes_no_credit_and_is_told_of_at_once() {
    let (queue, ready, signal) = channel(1);
    for _ in 0..1 + OVERDRAFT {
        queue.offer(buffer(1), &signal);
    }
    assert_eq!(queue.offer(barrier(7), &signal), Offer::Taken);
    assert_eq!(queue.receive(barrier(8)), Ok(()));
    assert_eq!(ready.next(false), Some(Next::Arrived(7)));
    let arrived: Vec<u64> = queue.arrived().iter().map(|it| it.id.0).collect();
    assert_eq!(arrived, [7, 8]);
    assert_eq!(ready.next(false), Some(Next::Arrived(7)));
    assert!(queue.arrived().is_empty());
    assert_eq!(ready.next(false), None, "the task takes nothing");
    assert_eq!(ready.next(true), Some(Next::Ready(7)));
}

#[test]
fn a_barrier_that_came_before_the_consumer_is_told_of_too() {
    let (queue, signal) = (Queue::new(1), Arc::default());
    queue.attach_producer(&signal);
    queue.offer(barrier(1), &signal);
    let ready = Arc::new(ReadyList::of_task(Arc::default()));
    queue
        .attach_consumer(peer(), Arc::clone(&ready), 7)
        .unwrap();
    assert_eq!(ready.next(false), Some(Next::Arrived(7)));
    assert_eq!(queue.arrived().len(), 1);
}

#[test]
fn what_stands_before_a_barrier_or_comes_before_it_is_recorded() {
    let (queue, _, signal) = channel(8);
    queue.offer(buffer(1), &signal);
    queue.offer(barrier(1), &signal);
    queue.offer(buffer(2), &signal);
    queue.record(CheckpointId(2));
    queue.offer(buffer(3), &signal);
    assert_eq!(queue.take(), Taken::Buffer(buffer(1), true));
    queue.offer(barrier(2), &signal);
    queue.offer(buffer(4), &signal);
    assert_eq!(recorded(&queue), [1, 2, 3]);
    queue.record(CheckpointId(2));
    assert_eq!(recorded(&queue), [2, 3]);
    queue.offer(buffer(5), &signal);
    assert_eq!(recorded(&queue), []);
}

#[test]
fn what_is_recorded_has_a_bound() {
    let (queue, _, signal) = channel(8);
    queue.record(CheckpointId(1));
    for _ in 0..=MOST_RECORDED >> 20 {
        queue.offer(Buffer::encoded(vec![1; 1 << 20], 1), &signal);
        queue.grant(1);
    }
    let error = queue.recorded().unwrap_err();
    assert!(error.to_string().contains("8388608 bytes"), "{error}");
}

#[test]
fn barriers_that_nobody_takes_do_not_pile_up() {
    let (queue, _, signal) = channel(8);
    queue.offer(buffer(1), &signal);
    for id in 0..=MOST_BARRIERS as u64 {
        queue.offer(barrier(id), &signal);
    }
    assert_eq!(queue.take(), Taken::Buffer(buffer(1), true));
    assert_eq!(queue.take(), Taken::Buffer(barrier(1), true));
}

#[test]
fn a_consumer_is_told_when_there_is_something_new_and_only_then() {
    let (queue, ready, signal) = channel(8);
    assert_eq!(ready.pop(), None);
    queue.offer(buffer(1), &signal);
    queue.offer(buffer(2), &signal);
    assert_eq!((ready.pop(), ready.pop()), (Some(7), None));
    assert_eq!(queue.take(), Taken::Buffer(buffer(1), true));
    assert_eq!(queue.take(), Taken::Buffer(buffer(2), false));
    assert_eq!(queue.take(), Taken::Empty);
    queue.finish();
    assert_eq!((ready.pop(), queue.take()), (Some(7), Taken::End));
}

#[test]
fn a_loss_outlives_what_was_sent_before_and_an_end_does_not() {
    let (queue, _, signal) = channel(8);
    queue.offer(buffer(1), &signal);
    queue.finish();
    queue.lose_producer("too late");
    assert_eq!(queue.take(), Taken::Buffer(buffer(1), true));
    assert_eq!(queue.take(), Taken::End);
    let (queue, ready, signal) = channel(8);
    queue.offer(buffer(1), &signal);
    queue.lose_producer("gone");
    assert_eq!(
        (ready.pop(), queue.take()),
        (Some(7), Taken::Lost("gone".to_owned()))
    );
    let (queue, _, signal) = channel(8);
    assert!(queue.lose_consumer("left"));
    assert_eq!(
        queue.offer(buffer(1), &signal),
        Offer::Lost(peer(), "left".to_owned())
    );
}
