//! The buffers of one channel, on one side of the wire or between two threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId};
use spindle_common::id::ExecutionAttemptId;
use spindle_dataflow::channel::{Buffer, NotRecorded};

use super::ready::ReadyList;
use crate::signal::Signal;

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

/// Buffers beyond its credits that a producer may send before it waits: what a step makes that was begun while there was credit. As no step is
/// begun without, the task can look at its mail and its barriers meanwhile. A batch of records of a kilobyte makes sixteen. Flink:
/// `taskmanager.network.memory.max-overdraft-buffers-per-gate`.
pub(crate) const OVERDRAFT: u32 = 16;

/// Bytes that are recorded of a channel at most, since they are kept in memory until its barrier comes: ten times what can be under way in it.
const MOST_RECORDED: usize = 8 << 20;

/// Barriers that wait in a channel. They take no credit, so the oldest goes for one more: it is of a checkpoint that was given up long ago.
const MOST_BARRIERS: usize = 1024;

/// Buffers between a producer and a consumer, and the credits of the producer: how many more it may send before the consumer has
/// taken some. So never more than `credits` buffers and those of one step are anywhere between the two, in the queues of both sides
/// together.
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
    /// Buffers that took a credit and have not given it back.
    used: u32,
    /// The producer's task, which begins no step while this is full.
    feeds: Option<Arc<Signal>>,
    full: bool,
    /// Barriers among the buffers.
    barriers: usize,
    /// Those that the consumer was not told of, if it is a task.
    arrived: Vec<CheckpointBarrier>,
    recording: Recording,
    producer: Producer,
    consumer: Consumer,
    /// The producer's thread, while it waits for credit.
    waiting: Option<Arc<Signal>>,
}

/// What came before the barrier of a checkpoint.
#[derive(Debug)]
struct Recording {
    /// The checkpoint whose barrier has yet to come.
    until: Option<CheckpointId>,
    bytes: usize,
    buffers: Result<Vec<Buffer>, NotRecorded>,
}

impl Recording {
    const fn until(until: Option<CheckpointId>) -> Self {
        Self {
            until,
            bytes: 0,
            buffers: Ok(Vec::new()),
        }
    }

    fn add(&mut self, buffer: &Buffer) {
        let Some(until) = self.until else {
            return;
        };
        if buffer.is_barrier() {
            self.until
                .take_if(|_| barrier_in(buffer).is_some_and(|barrier| barrier.id == until));
            return;
        }
        let Ok(buffers) = &mut self.buffers else {
            return;
        };
        self.bytes += buffer.size;
        if self.bytes > MOST_RECORDED {
            let limit = MOST_RECORDED;
            self.buffers = Err(NotRecorded::TooMuch { limit });
            return;
        }
        match buffer.to_encoded() {
            Ok(encoded) => buffers.push(encoded),
            Err(error) => self.buffers = Err(error.into()),
        }
    }
}

/// One that does not decode ends the task when it is taken.
fn barrier_in(buffer: &Buffer) -> Option<CheckpointBarrier> {
    buffer.barrier().ok().flatten()
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
                used: 0,
                feeds: None,
                full: false,
                barriers: 0,
                arrived: Vec::new(),
                recording: Recording::until(None),
                producer: Producer::Absent,
                consumer: Consumer::Absent,
                waiting: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// The producer is there: its task waits on `signal`.
    pub(crate) fn attach_producer(&self, signal: &Arc<Signal>) {
        let mut inner = self.lock();
        inner.feeds = Some(Arc::clone(signal));
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
        let barriers: Vec<_> = inner.buffers.iter().filter_map(barrier_in).collect();
        for barrier in barriers {
            inner.tell(barrier);
        }
        Ok(())
    }

    /// Takes a buffer from the producer if it has credit, or is a barrier; else remembers whom to wake.
    pub(crate) fn offer(&self, buffer: Buffer, signal: &Arc<Signal>) -> Offer {
        let mut inner = self.lock();
        if let Consumer::Gone { peer, reason } = &inner.consumer {
            return Offer::Lost(peer.clone(), reason.clone());
        }
        if buffer.is_barrier() {
            inner.push_barrier(buffer);
            return Offer::Taken;
        }
        if inner.used >= inner.credits + OVERDRAFT {
            inner.waiting = Some(Arc::clone(signal));
            return Offer::Wait(buffer);
        }
        inner.used += 1;
        inner.push(buffer);
        inner.note_full();
        Offer::Taken
    }

    /// Takes a buffer that came over the wire.
    ///
    /// # Errors
    /// If the sender had no credit for it.
    pub(crate) fn receive(&self, buffer: Buffer) -> Result<(), Overrun> {
        let mut inner = self.lock();
        if buffer.is_barrier() {
            inner.push_barrier(buffer);
            return Ok(());
        }
        if inner.used >= inner.credits + OVERDRAFT {
            return Err(Overrun);
        }
        inner.used += 1;
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
        inner.barriers -= usize::from(buffer.is_barrier());
        let more = !inner.buffers.is_empty() || matches!(inner.producer, Producer::Finished);
        Taken::Buffer(buffer, more)
    }

    /// The consumer took this many buffers: the producer may send as many more. One that waits is woken when it has half of its
    /// credits back: to be woken for each of them costs more than what it is woken for.
    pub(crate) fn grant(&self, credits: u32) {
        let (waiting, fed) = {
            let mut inner = self.lock();
            inner.used = inner.used.saturating_sub(credits);
            let enough = inner.used <= inner.credits / 2;
            let fed = if enough { inner.note_room() } else { None };
            (inner.waiting.take_if(|_| enough), fed)
        };
        for signal in waiting.into_iter().chain(fed) {
            signal.wake();
        }
    }

    /// The barriers that have arrived since the last time.
    pub(crate) fn arrived(&self) -> Vec<CheckpointBarrier> {
        std::mem::take(&mut self.lock().arrived)
    }

    /// Has what stands before the barrier of a checkpoint copied, and what comes before it.
    pub(crate) fn record(&self, checkpoint: CheckpointId) {
        let mut inner = self.lock();
        let mut recording = Recording::until(Some(checkpoint));
        for buffer in &inner.buffers {
            recording.add(buffer);
        }
        inner.recording = recording;
    }

    /// What was copied.
    pub(crate) fn recorded(&self) -> Result<Vec<Buffer>, NotRecorded> {
        std::mem::replace(&mut self.lock().recording, Recording::until(None)).buffers
    }

    /// Whether the consumer is known, and a task of this process.
    pub(crate) fn is_local(&self) -> bool {
        match &self.lock().consumer {
            Consumer::Reading { ready, .. } => ready.is_of_task(),
            Consumer::Absent | Consumer::Gone { .. } => false,
        }
    }

    /// Whether producer and consumer are known, and tasks of one thread.
    pub(crate) fn is_beside(&self) -> bool {
        let inner = self.lock();
        match (&inner.consumer, &inner.feeds) {
            (Consumer::Reading { ready, .. }, Some(producer)) => {
                ready.signal().is_some_and(|it| it.is_beside(producer))
            }
            (Consumer::Absent | Consumer::Gone { .. }, _) | (Consumer::Reading { .. }, None) => {
                false
            }
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
            inner.barriers = 0;
        }
        inner.producer = end;
        // Whether it was on the list before, or is twice now, is all the same to who pops it.
        inner.announce();
    }

    /// The consumer is gone; what it did not take is dropped. Returns whether a producer ever came.
    pub(crate) fn lose_consumer(&self, reason: &str) -> bool {
        let (waiting, fed, attached) = {
            let mut inner = self.lock();
            if let Consumer::Reading { peer, .. } = &inner.consumer {
                let peer = peer.clone();
                inner.consumer = Consumer::Gone {
                    peer,
                    reason: reason.to_owned(),
                };
            }
            inner.buffers.clear();
            inner.barriers = 0;
            (
                inner.waiting.take(),
                inner.note_room(),
                !matches!(inner.producer, Producer::Absent),
            )
        };
        for signal in waiting.into_iter().chain(fed) {
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
    fn push_barrier(&mut self, buffer: Buffer) {
        let barrier = barrier_in(&buffer);
        if self.barriers >= MOST_BARRIERS
            && let Some(oldest) = self.buffers.iter().position(Buffer::is_barrier)
        {
            self.buffers.remove(oldest);
            self.barriers -= 1;
        }
        self.barriers += 1;
        self.push(buffer);
        if let Some(barrier) = barrier {
            self.tell(barrier);
        }
    }

    /// Tells the consumer, if it is a task, that a barrier has arrived.
    fn tell(&mut self, barrier: CheckpointBarrier) {
        if let Consumer::Reading { ready, key, .. } = &self.consumer
            && ready.is_of_task()
        {
            self.arrived.push(barrier);
            ready.push_arrived(*key);
        }
    }

    /// The producer begins no step from here on if its credits are used up.
    fn note_full(&mut self) {
        if !self.full
            && self.used >= self.credits
            && let Some(feeds) = &self.feeds
        {
            self.full = true;
            feeds.output_is_full();
        }
    }

    /// There is room again: the task to wake.
    fn note_room(&mut self) -> Option<Arc<Signal>> {
        if !std::mem::take(&mut self.full) {
            return None;
        }
        let feeds = self.feeds.as_ref()?;
        feeds.output_has_room();
        Some(Arc::clone(feeds))
    }

    fn push(&mut self, buffer: Buffer) {
        self.recording.add(&buffer);
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
mod tests;
