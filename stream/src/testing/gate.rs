//! The consumer's end of a job's channels, as the harness has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId};
use spindle_common::time::MonoTime;
use spindle_dataflow::chain::Clock;
use spindle_dataflow::channel::{Buffer, GateEvent, InputGate, NotRecorded};
use spindle_dataflow::exchange::CodecError;
use spindle_dataflow::mailbox::Signals as _;
use spindle_dataflow::task::TaskError;

use super::local::{CREDIT, Waker};

/// The consumer's end of all channels of a task, which share one queue.
pub(super) struct QueueGate {
    queue: Receiver<(usize, Buffer)>,
    /// Whether all producers are gone.
    closed: bool,
    /// One per channel.
    channels: Vec<Channel>,
    /// What has come and was not taken.
    aside: VecDeque<(usize, Buffer)>,
    /// Barriers that have come and were not told of.
    arrived: VecDeque<(usize, CheckpointBarrier)>,
    recording: Option<CheckpointId>,
    clock: Clock,
    waker: Arc<Waker>,
}

#[derive(Default)]
struct Channel {
    /// Whether nothing is taken from it.
    blocked: bool,
    /// What has come before the barrier.
    recorded: Vec<Result<Buffer, CodecError>>,
    /// Whether the barrier of what is recorded has yet to come.
    open: bool,
}

impl Channel {
    fn record(&mut self, buffer: &Buffer) {
        if self.open && !buffer.is_barrier() {
            self.recorded.push(buffer.to_encoded());
        }
    }
}

impl QueueGate {
    /// The end of so many channels.
    pub(super) fn new(
        queue: Receiver<(usize, Buffer)>,
        channels: usize,
        clock: Clock,
        waker: Arc<Waker>,
    ) -> Self {
        Self {
            queue,
            closed: false,
            channels: std::iter::repeat_with(Channel::default)
                .take(channels)
                .collect(),
            aside: VecDeque::new(),
            arrived: VecDeque::new(),
            recording: None,
            clock,
            waker,
        }
    }

    /// Looks what has come, so that barriers are seen. What stands aside is as much again as the queue holds, and more only while a channel
    /// is blocked: the queue has to make room for the others.
    fn look(&mut self) -> Result<(), TaskError> {
        let blocked = self.channels.iter().any(|channel| channel.blocked);
        while blocked || self.aside.len() < CREDIT * self.channels.len() {
            let (at, buffer) = match self.queue.try_recv() {
                Ok(came) => came,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.closed = true;
                    break;
                }
            };
            let channel = &mut self.channels[at];
            if let Some(barrier) = barrier(&buffer)? {
                channel.open &= self.recording != Some(barrier.id);
                self.arrived.push_back((at, barrier));
            }
            channel.record(&buffer);
            self.aside.push_back((at, buffer));
        }
        Ok(())
    }

    fn next_aside(&mut self) -> Option<(usize, Buffer)> {
        let open = |it: &(usize, Buffer)| !self.channels[it.0].blocked;
        let at = self.aside.iter().position(open)?;
        self.aside.remove(at)
    }
}

fn barrier(buffer: &Buffer) -> Result<Option<CheckpointBarrier>, TaskError> {
    buffer.barrier().map_err(|error| TaskError::Codec {
        reason: error.to_string(),
    })
}

impl InputGate for QueueGate {
    fn channels(&self) -> usize {
        self.channels.len()
    }

    fn next(&mut self, until: Option<MonoTime>) -> Result<GateEvent, TaskError> {
        loop {
            if self.waker.mail.swap(false, Ordering::SeqCst) {
                return Ok(GateEvent::Woken);
            }
            self.look()?;
            if let Some((channel, barrier)) = self.arrived.pop_front() {
                return Ok(GateEvent::Arrived(channel, barrier));
            }
            if let Some((channel, buffer)) = self.next_aside() {
                return Ok(GateEvent::Buffer(channel, buffer));
            }
            if self.waker.is_cancelled() || self.closed && self.aside.is_empty() {
                return Err(TaskError::Cancelled);
            }
            let left = until.map(|until| until.since(self.clock.now()));
            if left == Some(Duration::ZERO) {
                return Ok(GateEvent::Woken);
            }
            self.waker.park(left);
        }
    }

    fn record(&mut self, checkpoint: CheckpointId, channels: &[bool]) {
        self.recording = Some(checkpoint);
        for (channel, record) in self.channels.iter_mut().zip(channels) {
            channel.recorded.clear();
            channel.open = *record;
        }
        for (at, buffer) in &self.aside {
            let channel = &mut self.channels[*at];
            // One that does not decode ends the task when it is taken.
            if let Ok(Some(barrier)) = buffer.barrier() {
                channel.open &= barrier.id != checkpoint;
            }
            channel.record(buffer);
        }
    }

    fn recorded(&mut self) -> Result<Vec<(usize, Vec<Buffer>)>, NotRecorded> {
        self.recording = None;
        let channels = self.channels.iter_mut().enumerate();
        let recorded = channels.map(|(at, channel)| {
            channel.open = false;
            let buffers = std::mem::take(&mut channel.recorded);
            let buffers: Result<_, CodecError> = buffers.into_iter().collect();
            Ok((at, buffers?))
        });
        recorded.collect()
    }

    fn block(&mut self, channel: usize) {
        self.channels[channel].blocked = true;
    }

    fn resume(&mut self) {
        for channel in &mut self.channels {
            channel.blocked = false;
        }
    }
}
