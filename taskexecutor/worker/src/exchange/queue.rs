//! The buffers of one channel, on one side of the wire or between two threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spindle_common::id::ExecutionAttemptId;
use spindle_dataflow::channel::Buffer;
use tokio::sync::Notify;

use crate::signal::Signal;

/// The keys of a consumer's channels that have something, served in turn, and whom to wake when there is one.
///
/// A consumer is a task's thread with the channels of a gate, or a connection with the channels that are read through it.
#[derive(Debug)]
pub(crate) struct ReadyList {
    keys: Mutex<VecDeque<u32>>,
    wake: Wake,
}

#[derive(Debug)]
enum Wake {
    Task(Arc<Signal>),
    Connection(Notify),
}

impl ReadyList {
    pub(crate) fn of_task(signal: Arc<Signal>) -> Self {
        Self {
            keys: Mutex::default(),
            wake: Wake::Task(signal),
        }
    }

    pub(crate) fn of_connection() -> Self {
        Self {
            keys: Mutex::default(),
            wake: Wake::Connection(Notify::new()),
        }
    }

    pub(crate) fn pop(&self) -> Option<u32> {
        lock(&self.keys).pop_front()
    }

    pub(crate) fn push(&self, key: u32) {
        lock(&self.keys).push_back(key);
        self.wake();
    }

    /// Puts a channel at the end of those to serve, by the consumer itself.
    pub(crate) fn push_back_quietly(&self, key: u32) {
        lock(&self.keys).push_back(key);
    }

    pub(crate) fn wake(&self) {
        match &self.wake {
            Wake::Task(signal) => signal.wake(),
            Wake::Connection(notify) => notify.notify_one(),
        }
    }

    /// Whether the consumer is a task of this process.
    const fn is_of_task(&self) -> bool {
        match self.wake {
            Wake::Task(_) => true,
            Wake::Connection(_) => false,
        }
    }

    /// Waits to be woken. For connections.
    pub(crate) async fn woken(&self) {
        match &self.wake {
            Wake::Task(_) => std::future::pending().await,
            Wake::Connection(notify) => notify.notified().await,
        }
    }
}

/// The other end of a channel, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) execution: ExecutionAttemptId,
    pub(crate) address: String,
}

/// What a producer gets for a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is in the queue.
    Taken,
    /// No credit; the producer is woken when there is. The buffer comes back.
    Wait(Buffer),
    /// Nobody will ever read it.
    Lost(Peer, String),
}

/// What a consumer gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The next buffer, and whether there is more to take at once.
    Buffer(Buffer, bool),
    /// Nothing yet.
    Empty,
    /// All was taken, nothing more comes.
    End,
    /// The producer is gone before its end.
    Lost(String),
}

/// More buffers than credits were sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

/// Buffers between a producer and a consumer, and the credits of the producer: how many more it may send before the consumer has
/// taken some. So never more than `credits` buffers are anywhere between the two, in the queues of both sides together.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    buffers: VecDeque<Buffer>,
    /// What the consumer has read, to be filled again.
    read: Vec<Buffer>,
    credits: u32,
    available: u32,
    producer: Producer,
    consumer: Consumer,
    /// The producer's thread, while it waits for credit.
    waiting: Option<Arc<Signal>>,
}

#[derive(Debug)]
enum Producer {
    Absent,
    Writing,
    Finished,
    Lost(String),
}

#[derive(Debug)]
enum Consumer {
    Absent,
    Reading {
        peer: Peer,
        ready: Arc<ReadyList>,
        key: u32,
    },
    Gone {
        peer: Peer,
        reason: String,
    },
}

impl Queue {
    pub(crate) fn new(credits: u32) -> Self {
        Self {
            inner: Mutex::new(Inner {
                buffers: VecDeque::new(),
                read: Vec::new(),
                credits,
                available: credits,
                producer: Producer::Absent,
                consumer: Consumer::Absent,
                waiting: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// The producer is there.
    pub(crate) fn attach_producer(&self) {
        let mut inner = self.lock();
        if matches!(inner.producer, Producer::Absent) {
            inner.producer = Producer::Writing;
        }
    }

    /// The consumer is there: `key` is put on `ready` whenever there is something new to take.
    ///
    /// # Errors
    /// Why not, if the channel has or had a consumer.
    pub(crate) fn attach_consumer(
        &self,
        peer: Peer,
        ready: Arc<ReadyList>,
        key: u32,
    ) -> Result<(), String> {
        let mut inner = self.lock();
        if let Consumer::Reading { peer, .. } | Consumer::Gone { peer, .. } = &inner.consumer {
            return Err(format!(
                "it is read by task {} at {} already",
                peer.execution, peer.address
            ));
        }
        if !inner.buffers.is_empty()
            || matches!(inner.producer, Producer::Finished | Producer::Lost(_))
        {
            ready.push(key);
        }
        inner.consumer = Consumer::Reading { peer, ready, key };
        Ok(())
    }

    /// Takes a buffer from the producer if it has credit; else remembers whom to wake.
    pub(crate) fn offer(&self, buffer: Buffer, signal: &Arc<Signal>) -> Offer {
        let mut inner = self.lock();
        if let Consumer::Gone { peer, reason } = &inner.consumer {
            return Offer::Lost(peer.clone(), reason.clone());
        }
        if inner.available == 0 {
            inner.waiting = Some(Arc::clone(signal));
            return Offer::Wait(buffer);
        }
        inner.push(buffer);
        Offer::Taken
    }

    /// Takes a buffer that came over the wire.
    ///
    /// # Errors
    /// If the sender had no credit for it.
    pub(crate) fn receive(&self, buffer: Buffer) -> Result<(), Overrun> {
        let mut inner = self.lock();
        if inner.available == 0 {
            return Err(Overrun);
        }
        inner.push(buffer);
        Ok(())
    }

    /// The next buffer; gives no credit back.
    pub(crate) fn take(&self) -> Taken {
        let mut inner = self.lock();
        if let Producer::Lost(reason) = &inner.producer {
            return Taken::Lost(reason.clone());
        }
        let Some(buffer) = inner.buffers.pop_front() else {
            return if matches!(inner.producer, Producer::Finished) {
                Taken::End
            } else {
                Taken::Empty
            };
        };
        let more = !inner.buffers.is_empty() || matches!(inner.producer, Producer::Finished);
        Taken::Buffer(buffer, more)
    }

    /// The consumer took this many buffers: the producer may send as many more. One that waits is woken when it has half of its
    /// credits back: to be woken for each of them costs more than what it is woken for.
    pub(crate) fn grant(&self, credits: u32) {
        let waiting = {
            let mut inner = self.lock();
            inner.available = inner.available.saturating_add(credits).min(inner.credits);
            let enough = inner.available >= inner.credits.div_ceil(2);
            inner.waiting.take_if(|_| enough)
        };
        if let Some(signal) = waiting {
            signal.wake();
        }
    }

    /// Whether the consumer is known, and a task of this process.
    pub(crate) fn is_local(&self) -> bool {
        match &self.lock().consumer {
            Consumer::Reading { ready, .. } => ready.is_of_task(),
            Consumer::Absent | Consumer::Gone { .. } => false,
        }
    }

    /// Gives a buffer that was read back to the producer; as many are kept as it may send before it has to wait.
    pub(crate) fn recycle(&self, buffer: Buffer) {
        let mut inner = self.lock();
        if inner.read.len() < inner.credits as usize {
            inner.read.push(buffer);
        }
    }

    /// A buffer that was read.
    pub(crate) fn recycled(&self) -> Option<Buffer> {
        self.lock().read.pop()
    }

    /// The producer has sent all it ever will.
    pub(crate) fn finish(&self) {
        self.end_producer(Producer::Finished);
    }

    /// The producer is gone before its end; what it sent counts for nothing.
    pub(crate) fn lose_producer(&self, reason: &str) {
        self.end_producer(Producer::Lost(reason.to_owned()));
    }

    fn end_producer(&self, end: Producer) {
        let mut inner = self.lock();
        match inner.producer {
            Producer::Absent | Producer::Writing => {}
            Producer::Finished | Producer::Lost(_) => return,
        }
        if matches!(end, Producer::Lost(_)) {
            inner.buffers.clear();
        }
        inner.producer = end;
        // Whether it was on the list before, or is twice now, is all the same to who pops it.
        inner.announce();
    }

    /// The consumer is gone; what it did not take is dropped. Returns whether a producer ever came.
    pub(crate) fn lose_consumer(&self, reason: &str) -> bool {
        let (waiting, attached) = {
            let mut inner = self.lock();
            if let Consumer::Reading { peer, .. } = &inner.consumer {
                let peer = peer.clone();
                inner.consumer = Consumer::Gone {
                    peer,
                    reason: reason.to_owned(),
                };
            }
            inner.buffers.clear();
            (
                inner.waiting.take(),
                !matches!(inner.producer, Producer::Absent),
            )
        };
        if let Some(signal) = waiting {
            signal.wake();
        }
        attached
    }

    /// Whether nothing is left to take and nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        let inner = self.lock();
        match inner.producer {
            Producer::Absent | Producer::Writing => false,
            Producer::Finished => match inner.consumer {
                Consumer::Absent => false,
                Consumer::Reading { .. } => inner.buffers.is_empty(),
                Consumer::Gone { .. } => true,
            },
            Producer::Lost(_) => true,
        }
    }
}

impl Inner {
    fn push(&mut self, buffer: Buffer) {
        self.available -= 1;
        self.buffers.push_back(buffer);
        if self.buffers.len() == 1 {
            self.announce();
        }
    }

    fn announce(&self) {
        if let Consumer::Reading { ready, key, .. } = &self.consumer {
            ready.push(*key);
        }
    }
}

/// A panic while holding one of our locks leaves nothing half-done that matters to the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use spindle_common::id::JobVertexId;

    use super::*;

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
        queue.attach_producer();
        queue
            .attach_consumer(peer(), Arc::clone(&ready), 7)
            .unwrap();
        (queue, ready, signal)
    }

    #[test]
    fn credit_alone_decides_whether_a_buffer_is_taken() {
        let (queue, _, signal) = channel(2);
        assert_eq!(queue.offer(buffer(1), &signal), Offer::Taken);
        assert_eq!(queue.offer(buffer(2), &signal), Offer::Taken);
        assert_eq!(queue.offer(buffer(3), &signal), Offer::Wait(buffer(3)));
        assert_eq!(queue.take(), Taken::Buffer(buffer(1), true));
        assert_eq!(
            queue.offer(buffer(3), &signal),
            Offer::Wait(buffer(3)),
            "taken, but not given back"
        );
        queue.grant(1);
        assert_eq!(queue.offer(buffer(3), &signal), Offer::Taken);
        queue.grant(100);
        queue.grant(100);
        assert_eq!(queue.receive(buffer(4)), Ok(()));
        assert_eq!(queue.receive(buffer(5)), Ok(()));
        assert_eq!(
            queue.receive(buffer(6)),
            Err(Overrun),
            "there are no more credits than there were"
        );
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
}
