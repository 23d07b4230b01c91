//! The consumer's end of an edge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId};
use spindle_common::time::MonoTime;
use spindle_dataflow::channel::{Buffer, GateEvent, InputGate, NotRecorded};
use spindle_dataflow::task::{TaskError, TaskMetrics, Waiting};

use super::client::ClientConnection;
use super::queue::{Peer, Queue, Taken};
use super::ready::{Next, ReadyList};
use super::registry::Registry;
use super::{ChannelId, Limits, after_loss};
use crate::signal::Signal;

/// Channels from the producers of all edges that feed a task. Dropping it tells producers that have more.
pub(crate) struct Gate {
    channels: Vec<Channel>,
    ready: Arc<ReadyList>,
    signal: Arc<Signal>,
    metrics: Arc<TaskMetrics>,
    limits: Limits,
    /// Keys of blocked channels that have something.
    held: Vec<u32>,
    /// Barriers that have arrived and were not told of.
    arrived: VecDeque<(usize, CheckpointBarrier)>,
}

/// One producer's channel.
#[derive(Debug)]
pub(crate) struct Channel {
    queue: Arc<Queue>,
    peer: Peer,
    source: Source,
    ended: bool,
    blocked: bool,
}

/// Where credits go.
#[derive(Debug)]
enum Source {
    Local {
        registry: Arc<Registry>,
        channel: ChannelId,
    },
    Remote {
        connection: Arc<ClientConnection>,
        number: u32,
        taken: u32,
        give_back: u32,
    },
}

impl Channel {
    /// The producer is in this worker.
    pub(crate) fn local(
        queue: Arc<Queue>,
        peer: Peer,
        registry: Arc<Registry>,
        channel: ChannelId,
    ) -> Self {
        Self {
            queue,
            peer,
            source: Source::Local { registry, channel },
            ended: false,
            blocked: false,
        }
    }

    /// What was taken is given back a quarter of the credits at a time: fewer frames, and the producer is never without credit
    /// for it.
    pub(crate) fn remote(
        queue: Arc<Queue>,
        peer: Peer,
        connection: Arc<ClientConnection>,
        number: u32,
        credits: u32,
    ) -> Self {
        let source = Source::Remote {
            connection,
            number,
            taken: 0,
            give_back: (credits / 4).max(1),
        };
        Self {
            queue,
            peer,
            source,
            ended: false,
            blocked: false,
        }
    }

    fn taken(&mut self) {
        match &mut self.source {
            Source::Local { .. } => self.queue.grant(1),
            Source::Remote {
                connection,
                number,
                taken,
                give_back,
            } => {
                self.queue.grant(1);
                *taken += 1;
                if *taken >= *give_back {
                    connection.credit(*number, *taken);
                    *taken = 0;
                }
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Source::Local { registry, channel } = &self.source {
            registry.release(*channel, &self.queue);
        }
    }
}

impl Gate {
    pub(crate) fn new(
        channels: Vec<Channel>,
        ready: Arc<ReadyList>,
        signal: Arc<Signal>,
        metrics: Arc<TaskMetrics>,
        limits: Limits,
    ) -> Self {
        Self {
            channels,
            ready,
            signal,
            metrics,
            limits,
            held: Vec::new(),
            arrived: VecDeque::new(),
        }
    }

    /// What there is: barriers that have arrived, and, if the task `takes`, buffers.
    fn poll(&mut self, takes: bool) -> Result<Option<GateEvent>, TaskError> {
        loop {
            if let Some((channel, barrier)) = self.arrived.pop_front() {
                return Ok(Some(GateEvent::Arrived(channel, barrier)));
            }
            let key = match self.ready.next(takes) {
                None => return Ok(None),
                Some(Next::Arrived(key)) => {
                    let index = key as usize;
                    let arrived = self.channels[index].queue.arrived();
                    self.arrived
                        .extend(arrived.into_iter().map(|it| (index, it)));
                    continue;
                }
                Some(Next::Ready(key)) => key,
            };
            let index = key as usize;
            let channel = &mut self.channels[index];
            if channel.blocked {
                self.held.push(key);
                continue;
            }
            match channel.queue.take() {
                Taken::Buffer(buffer, more) => {
                    if more {
                        self.ready.push_back_quietly(key);
                    }
                    if !buffer.is_barrier() {
                        channel.taken();
                    }
                    return Ok(Some(GateEvent::Buffer(index, buffer)));
                }
                Taken::Empty => {}
                Taken::End => channel.end(),
                Taken::Lost(reason) => {
                    return Err(after_loss(
                        &self.signal,
                        self.limits.grace,
                        &channel.peer,
                        reason,
                    ));
                }
            }
        }
    }
}

impl InputGate for Gate {
    fn channels(&self) -> usize {
        self.channels.len()
    }

    fn record(&mut self, checkpoint: CheckpointId, channels: &[bool]) {
        for (channel, record) in self.channels.iter().zip(channels) {
            if *record {
                channel.queue.record(checkpoint);
            }
        }
    }

    fn recorded(&mut self) -> Result<Vec<(usize, Vec<Buffer>)>, NotRecorded> {
        // All have to end, whatever became of some.
        let channels = self.channels.iter().enumerate();
        let all: Vec<_> = channels
            .map(|(at, channel)| channel.queue.recorded().map(|buffers| (at, buffers)))
            .collect();
        all.into_iter().collect()
    }

    fn block(&mut self, channel: usize) {
        self.channels[channel].blocked = true;
    }

    fn resume(&mut self) {
        for channel in &mut self.channels {
            channel.blocked = false;
        }
        for key in self.held.drain(..) {
            self.ready.push_back_quietly(key);
        }
    }

    fn recycle(&mut self, channel: usize, buffer: Buffer) {
        let channel = &self.channels[channel];
        if let Source::Local { .. } = channel.source {
            channel.queue.recycle(buffer);
        }
    }

    fn next(&mut self, until: Option<MonoTime>) -> Result<GateEvent, TaskError> {
        let until = until.map(|until| self.limits.epoch + Duration::from_micros(until.as_micros()));
        if self.signal.is_cancelled() {
            return Err(TaskError::Cancelled);
        }
        if self.signal.has_mail() {
            return Ok(GateEvent::Woken);
        }
        // A step that might have to wait for credit in its midst is not begun: barriers would not be seen then.
        let takes = self.signal.has_room();
        if let Some(event) = self.poll(takes)? {
            return Ok(event);
        }
        match until {
            Some(until) if Instant::now() >= until => {}
            None if takes && self.channels.iter().all(|channel| channel.ended) => {
                let peer = &self.channels.last().expect("a gate has a channel").peer;
                let reason = "the task has ended, but not its output".to_owned();
                return Err(TaskError::PeerLost {
                    peer: peer.execution,
                    address: peer.address.clone(),
                    reason,
                });
            }
            Some(_) | None => {
                let waiting = if takes {
                    Waiting::Input
                } else {
                    Waiting::Output
                };
                self.metrics.time.rest(waiting);
                self.signal.rest(until);
            }
        }
        Ok(GateEvent::Woken)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        const REASON: &str = "the task ended or was stopped";
        for channel in self.channels.iter().filter(|channel| !channel.ended) {
            match &channel.source {
                Source::Local {
                    registry,
                    channel: id,
                } => registry.close(*id, &channel.queue, REASON),
                Source::Remote {
                    connection, number, ..
                } => connection.close(*number),
            }
        }
    }
}
