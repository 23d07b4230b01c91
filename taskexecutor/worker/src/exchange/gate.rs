//! The consumer's end of an edge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spindle_common::time::MonoTime;
use spindle_dataflow::channel::{Buffer, GateEvent, InputGate};
use spindle_dataflow::task::{TaskError, TaskMetrics, Waiting};

use super::client::ClientConnection;
use super::queue::{Peer, Queue, ReadyList, Taken};
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
        }
    }

    fn poll(&mut self) -> Result<Option<GateEvent>, TaskError> {
        while let Some(key) = self.ready.pop() {
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
                    channel.taken();
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
        Ok(None)
    }
}

impl InputGate for Gate {
    fn channels(&self) -> usize {
        self.channels.len()
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
        loop {
            if self.signal.is_cancelled() {
                return Err(TaskError::Cancelled);
            }
            if self.signal.has_mail() {
                return Ok(GateEvent::Woken);
            }
            if let Some(event) = self.poll()? {
                return Ok(event);
            }
            match until {
                Some(until) if Instant::now() >= until => return Ok(GateEvent::Woken),
                None if self.channels.iter().all(|channel| channel.ended) => {
                    let peer = &self.channels.last().expect("a gate has a channel").peer;
                    let reason = "the task has ended, but not its output".to_owned();
                    return Err(TaskError::PeerLost {
                        peer: peer.execution,
                        address: peer.address.clone(),
                        reason,
                    });
                }
                Some(_) | None => self
                    .metrics
                    .time
                    .wait(Waiting::Input, || self.signal.park(until)),
            }
        }
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
