//! A task that reads an input gate.

use std::sync::atomic::Ordering;
use std::time::Duration;

use spindle_common::checkpoint::{BarrierAlignment, CheckpointBarrier};

use super::align::{Alignment, Begin, Turn};
use super::in_flight::{self, InFlight, Replay};
use super::track::Tracker;
use super::{Chain, Port, TaskParts, Written, take_collected};
use spindle_common::time::MonoTime;

use crate::channel::{Buffer, GateEvent, InputGate};
use crate::collector::Control;
use crate::exchange::{ChannelTime, Event, WatermarkMerge};
use crate::snapshot::{Restored, Snapshot, StateOwner};
use crate::task::{Step, Task, TaskError, TaskMail};

/// What a task reads, and how it comes to its first operator.
pub struct Inputs {
    /// The channels.
    pub gate: Box<dyn InputGate>,
    /// One per input of the first operator. What concerns the whole operator goes in through the first.
    pub ports: Vec<Box<dyn Port>>,
    /// Which port each edge that feeds the vertex leads to.
    pub ports_of_edges: Vec<usize>,
    /// Which edge each channel belongs to.
    pub edges: Vec<usize>,
    /// The first operator.
    pub owner: StateOwner,
    /// Whether what is under way may be part of a snapshot: at another parallelism it would have to be known whose it is.
    pub unaligned: bool,
}

/// A task that reads an input gate. Flink: `OneInputStreamTask`, `TwoInputStreamTask`.
pub struct GateTask {
    inputs: Inputs,
    /// Which port each channel leads to.
    port_of: Vec<usize>,
    merge: WatermarkMerge,
    /// The state of a checkpoint of which barriers have yet to arrive, and how far each channel had come.
    begun: Option<Begun>,
    alignment: Alignment,
    /// Of barriers that are not waited for.
    tracker: Tracker,
    ended: Option<Step>,
    chain: Chain,
}

struct Begun {
    written: Written,
    times: Vec<ChannelTime>,
    /// Bytes that the task had worked on by then.
    bytes_in: u64,
}

impl GateTask {
    /// The task that reads `inputs`, and whose operators begin with `restored`.
    ///
    /// # Errors
    /// State that is not that of its operators, and what ends it before it reads anything.
    pub fn new(
        mut inputs: Inputs,
        restored: &Restored,
        parts: TaskParts,
    ) -> Result<Self, TaskError> {
        let channels = inputs.gate.channels();
        debug_assert_eq!(channels, inputs.edges.len(), "each channel has an edge");
        let Inputs {
            ports,
            ports_of_edges,
            owner,
            ..
        } = &mut inputs;
        ports[0].control().restore(restored)?;
        let by_key = |edge: usize| {
            let port = ports_of_edges.get(edge);
            port.is_some_and(|port| ports[*port].can_share(edge))
        };
        let replay = in_flight::read(restored, owner, &types(ports), by_key)?;
        let chain = Chain::new(parts, restored);
        Self::begin(ports, ports_of_edges, replay, &chain)?;
        let port_of = inputs.edges.iter().map(|edge| inputs.ports_of_edges[*edge]);
        Ok(Self {
            merge: WatermarkMerge::new(channels),
            begun: None,
            alignment: Alignment::new(channels),
            tracker: Tracker::new(channels),
            port_of: port_of.collect(),
            inputs,
            ended: None,
            chain,
        })
    }

    /// Works on what was under way, before anything new.
    fn begin(
        ports: &mut [Box<dyn Port>],
        ports_of_edges: &[usize],
        replay: Replay,
        chain: &Chain,
    ) -> Result<(), TaskError> {
        ports[0].control().begin()?;
        // An edge that the program does not have any more led to the only input that there was, or is.
        let port_of_edge = |edge: usize| ports_of_edges.get(edge).copied().unwrap_or(0);
        let mut advance = |first: &mut dyn Control, watermark| chain.watermark(first, watermark);
        replay.run(ports, port_of_edge, &mut advance)
    }

    /// Works on a buffer, and returns the barrier that it ends with, if it does.
    fn take_in(
        &mut self,
        channel: usize,
        buffer: &mut Buffer,
    ) -> Result<Option<CheckpointBarrier>, TaskError> {
        let (merge, chain) = (&mut self.merge, &self.chain);
        if merge.has_ended(channel) {
            return Err(TaskError::Codec {
                reason: format!("more came after the end of input of channel {channel}"),
            });
        }
        let port = self.port_of[channel];
        let mut barrier = None;
        let mut on_event = |event: Event, first: &mut dyn Control| {
            handle(merge, chain, channel, event, first, &mut barrier)
        };
        let ports = &mut self.inputs.ports;
        if port == 0 {
            ports[0].take_in(buffer, &mut on_event)?;
            return Ok(barrier);
        }
        // The whole operator is told through its first port.
        let (first, others) = ports.split_at_mut(1);
        others[port - 1].take_in(buffer, &mut |event, _| on_event(event, first[0].control()))?;
        Ok(barrier)
    }

    /// Works on a buffer, and does what the barrier or the end in it calls for.
    fn take(&mut self, channel: usize, buffer: &mut Buffer) -> Result<(), TaskError> {
        let metrics = &self.chain.metrics;
        metrics
            .records_in
            .fetch_add(u64::from(buffer.records), Ordering::Relaxed);
        metrics
            .bytes_in
            .fetch_add(buffer.size as u64, Ordering::Relaxed);
        let barrier = self.take_in(channel, buffer)?;
        self.chain.touch();
        if let Some(barrier) = barrier {
            let now = self.chain.clock.now();
            let patience = self.patience(&barrier);
            let turn = match barrier.alignment {
                BarrierAlignment::AtLeastOnce => self.tracker.barrier(now, channel, barrier),
                BarrierAlignment::Aligned | BarrierAlignment::Unaligned { .. } => {
                    self.alignment.barrier(now, channel, barrier, patience)
                }
            };
            self.align(turn)?;
        }
        if self.merge.has_ended(channel) {
            let turn = self.tracker.end(channel);
            self.align(turn)?;
            let turn = self.alignment.end(self.chain.clock.now(), channel);
            self.align(turn)?;
        }
        Ok(())
    }

    /// Does what the barriers so far call for.
    fn align(&mut self, turn: Turn) -> Result<(), TaskError> {
        for declined in turn.declined {
            let reason = "the barrier of a newer checkpoint came before all of its own".to_owned();
            self.chain.snapshots.decline(declined, reason);
        }
        if turn.forget {
            self.begun = None;
            drop(self.inputs.gate.recorded());
        }
        if turn.resume {
            self.inputs.gate.resume();
        }
        if let Some(channel) = turn.block {
            self.inputs.gate.block(channel);
        }
        if let Some(begin) = turn.begin {
            self.begin_unaligned(begin)?;
        }
        if let Some((barrier, since)) = turn.recorded {
            self.end_unaligned(&barrier, since)?;
        }
        for (barrier, since) in turn.complete {
            let waited = self.chain.clock.now().since(since);
            let first = self.inputs.ports[0].control();
            self.chain.snapshot(first, Snapshot::new(barrier), waited)?;
            self.inputs.gate.resume();
        }
        Ok(())
    }

    /// Writes the state before all barriers were taken, and sends the barrier on.
    fn begin_unaligned(&mut self, begin: Begin) -> Result<(), TaskError> {
        let Begin { barrier, record } = begin;
        self.inputs.gate.record(barrier.id, &record);
        let first = self.inputs.ports[0].control();
        let written = self.chain.write(first, Snapshot::new(barrier))?;
        let channels = 0..self.inputs.edges.len();
        self.begun = Some(Begun {
            written,
            times: channels.map(|it| self.merge.channel(it)).collect(),
            bytes_in: self.chain.metrics.bytes_in.load(Ordering::Relaxed),
        });
        Ok(())
    }

    /// Puts what was recorded of the channels beside the state that was written.
    fn end_unaligned(
        &mut self,
        barrier: &CheckpointBarrier,
        since: MonoTime,
    ) -> Result<(), TaskError> {
        let recorded = self.inputs.gate.recorded();
        let Some(begun) = self.begun.take() else {
            return Ok(());
        };
        let mut written = begun.written;
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                let reason = format!("what is under way to it cannot be written: {error}");
                self.chain.snapshots.decline(barrier.id, reason);
                return Ok(());
            }
        };
        let edges = self.inputs.edges.iter().zip(begun.times);
        let channel = |(&edge, time)| InFlight {
            edge,
            time,
            buffers: Vec::new(),
        };
        let mut channels: Vec<InFlight> = edges.map(channel).collect();
        for (channel, buffers) in recorded {
            channels[channel].buffers = buffers;
        }
        let types = types(&self.inputs.ports);
        let owner = &self.inputs.owner;
        let bytes = in_flight::write(&mut written.snapshot, owner, &types, &channels);
        let now = self.chain.metrics.bytes_in.load(Ordering::Relaxed);
        let stats = &mut written.stats;
        stats.unaligned = true;
        stats.persisted_bytes = bytes;
        stats.processed_bytes = now.saturating_sub(begun.bytes_in);
        let waited = self.chain.clock.now().since(since);
        self.chain.hand_in(written, waited);
        Ok(())
    }

    /// How long the other barriers of this one's checkpoint are waited for; as long as it takes, if there is no answer.
    fn patience(&self, barrier: &CheckpointBarrier) -> Option<Duration> {
        match barrier.alignment {
            BarrierAlignment::Unaligned { timeout_ms } if self.inputs.unaligned => {
                let wall = self.chain.clock.processing_time().0;
                let passed = wall.saturating_sub(barrier.timestamp_ms);
                let passed = u64::try_from(passed).unwrap_or(0);
                Some(Duration::from_millis(timeout_ms.saturating_sub(passed)))
            }
            BarrierAlignment::Unaligned { .. }
            | BarrierAlignment::Aligned
            | BarrierAlignment::AtLeastOnce => None,
        }
    }
}

fn types(ports: &[Box<dyn Port>]) -> Vec<&'static str> {
    ports.iter().map(|port| port.records()).collect()
}

fn handle(
    merge: &mut WatermarkMerge,
    chain: &Chain,
    channel: usize,
    event: Event,
    first: &mut dyn Control,
    barrier: &mut Option<CheckpointBarrier>,
) -> Result<(), TaskError> {
    let merged = match event {
        Event::Watermark(watermark) => merge.watermark(channel, watermark),
        Event::Idle(idle) => merge.idle(channel, idle),
        Event::End => merge.end(channel),
        Event::Barrier(came) => {
            *barrier = Some(came);
            return Ok(());
        }
    };
    if chain.finished {
        // All that is to come is that the others have finished, too.
        return Ok(());
    }
    if chain.held.is_some() {
        // What ends here goes on some day, from the savepoint: its end is no sign of how far time has come.
        return Ok(());
    }
    if let Some(idle) = merged.idle {
        first.idle(idle)?;
    }
    if let Some(watermark) = merged.watermark {
        chain.watermark(first, watermark)?;
    }
    Ok(())
}

impl Task for GateTask {
    fn step(&mut self) -> Result<Step, TaskError> {
        if let Some(step) = self.ended {
            return Ok(step);
        }
        let due = self.chain.due(self.inputs.ports[0].control());
        let until = [due, self.alignment.deadline()].into_iter().flatten().min();
        match self.inputs.gate.next(until)? {
            GateEvent::Buffer(channel, mut buffer) => {
                self.take(channel, &mut buffer)?;
                self.inputs.gate.recycle(channel, buffer);
                if self.merge.all_ended() {
                    let step = self.chain.end(self.inputs.ports[0].control())?;
                    self.ended = Some(step);
                    return Ok(step);
                }
            }
            GateEvent::Arrived(channel, barrier) => {
                if let Some(patience) = self.patience(&barrier) {
                    let now = self.chain.clock.now();
                    let turn = self.alignment.arrived(now, channel, barrier, patience);
                    self.align(turn)?;
                }
            }
            GateEvent::Woken => {}
        }
        if let Some(deadline) = self.alignment.deadline() {
            let now = self.chain.clock.now();
            if deadline <= now {
                let turn = self.alignment.tick(now);
                self.align(turn)?;
            }
        }
        self.chain.keep_time(self.inputs.ports[0].control())?;
        Ok(Step::Continue)
    }

    fn handle(&mut self, mail: TaskMail) -> Result<(), TaskError> {
        match mail {
            TaskMail::TriggerCheckpoint(barrier) if self.ended.is_some() => {
                let first = self.inputs.ports[0].control();
                self.chain.snapshot_ended(first, barrier)
            }
            TaskMail::TriggerCheckpoint(barrier) => {
                let reason = "only the task of a source can begin a checkpoint".to_owned();
                self.chain.snapshots.decline(barrier.id, reason);
                Ok(())
            }
            TaskMail::CheckpointComplete(checkpoint) => self.inputs.ports[0]
                .control()
                .checkpoint_complete(checkpoint),
            TaskMail::CheckpointAborted(checkpoint) => {
                self.tracker.abort(checkpoint);
                let turn = self.alignment.abort(checkpoint);
                self.align(turn)?;
                self.chain.aborted(checkpoint)
            }
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.inputs.ports[0].control().commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        take_collected(self.inputs.ports[0].control())
    }
}
