//! A task that reads an input gate.

use std::sync::atomic::Ordering;

use spindle_common::checkpoint::{BarrierAlignment, CheckpointBarrier};

use super::align::{Alignment, Turn};
use super::track::Tracker;
use super::{Chain, Port, TaskParts, take_collected};
use crate::channel::{Buffer, GateEvent, InputGate};
use crate::collector::Control;
use crate::exchange::{Event, WatermarkMerge};
use crate::snapshot::{Restored, Snapshot};
use crate::task::{Step, Task, TaskError, TaskMail};

/// A task that reads an input gate. Flink: `OneInputStreamTask`, `TwoInputStreamTask`.
pub struct GateTask {
    gate: Box<dyn InputGate>,
    /// One per input of the first operator. What concerns the whole operator goes in through the first.
    ports: Vec<Box<dyn Port>>,
    /// Which port each channel leads to.
    port_of: Vec<usize>,
    merge: WatermarkMerge,
    alignment: Alignment,
    /// Of barriers that are not waited for.
    tracker: Tracker,
    ended: Option<Step>,
    chain: Chain,
}

impl GateTask {
    /// The task that reads `gate`, whose channels lead to the ports that `port_of` lists for them, and whose operators begin with
    /// `restored`.
    ///
    /// # Errors
    /// State that is not that of its operators.
    pub fn new(
        gate: Box<dyn InputGate>,
        mut ports: Vec<Box<dyn Port>>,
        port_of: Vec<usize>,
        restored: &Restored,
        parts: TaskParts,
    ) -> Result<Self, TaskError> {
        debug_assert_eq!(gate.channels(), port_of.len(), "each channel has a port");
        ports[0].control().restore(restored)?;
        Ok(Self {
            merge: WatermarkMerge::new(gate.channels()),
            alignment: Alignment::new(gate.channels()),
            tracker: Tracker::new(gate.channels()),
            gate,
            ports,
            port_of,
            ended: None,
            chain: Chain::new(parts, restored),
        })
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
        if port == 0 {
            self.ports[0].take_in(buffer, &mut |event, first| {
                handle(merge, chain, channel, event, first, &mut barrier)
            })?;
            return Ok(barrier);
        }
        // The whole operator is told through its first port.
        let (first, others) = self.ports.split_at_mut(1);
        others[port - 1].take_in(buffer, &mut |event, _| {
            let first = first[0].control();
            handle(merge, chain, channel, event, first, &mut barrier)
        })?;
        Ok(barrier)
    }

    /// Does what the barriers so far call for.
    fn align(&mut self, turn: Turn) -> Result<(), TaskError> {
        for declined in turn.declined {
            let reason = "the barrier of a newer checkpoint came before all of its own".to_owned();
            self.chain.snapshots.decline(declined, reason);
        }
        if turn.resume {
            self.gate.resume();
        }
        if let Some(channel) = turn.block {
            self.gate.block(channel);
        }
        for (barrier, since) in turn.complete {
            let waited = self.chain.clock.now().since(since);
            let first = self.ports[0].control();
            self.chain.snapshot(first, Snapshot::new(barrier), waited)?;
            self.gate.resume();
        }
        Ok(())
    }
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
        let until = self.chain.due(self.ports[0].control());
        if let GateEvent::Buffer(channel, mut buffer) = self.gate.next(until)? {
            let metrics = &self.chain.metrics;
            metrics
                .records_in
                .fetch_add(u64::from(buffer.records), Ordering::Relaxed);
            metrics
                .bytes_in
                .fetch_add(buffer.size as u64, Ordering::Relaxed);
            let barrier = self.take_in(channel, &mut buffer)?;
            self.gate.recycle(channel, buffer);
            self.chain.touch();
            if let Some(barrier) = barrier {
                let now = self.chain.clock.now();
                let turn = match barrier.alignment {
                    BarrierAlignment::AtLeastOnce => self.tracker.barrier(now, channel, barrier),
                    BarrierAlignment::Aligned | BarrierAlignment::Unaligned { .. } => {
                        self.alignment.barrier(now, channel, barrier)
                    }
                };
                self.align(turn)?;
            }
            if self.merge.has_ended(channel) {
                let turn = self.tracker.end(channel);
                self.align(turn)?;
                let turn = self.alignment.end(channel);
                self.align(turn)?;
            }
            if self.merge.all_ended() {
                let step = self.chain.end(self.ports[0].control())?;
                self.ended = Some(step);
                return Ok(step);
            }
        }
        self.chain.keep_time(self.ports[0].control())?;
        Ok(Step::Continue)
    }

    fn handle(&mut self, mail: TaskMail) -> Result<(), TaskError> {
        match mail {
            TaskMail::TriggerCheckpoint(barrier) if self.ended.is_some() => {
                let first = self.ports[0].control();
                self.chain.snapshot_ended(first, barrier)
            }
            TaskMail::TriggerCheckpoint(barrier) => {
                let reason = "only the task of a source can begin a checkpoint".to_owned();
                self.chain.snapshots.decline(barrier.id, reason);
                Ok(())
            }
            TaskMail::CheckpointComplete(checkpoint) => {
                self.ports[0].control().checkpoint_complete(checkpoint)
            }
            TaskMail::CheckpointAborted(checkpoint) => {
                self.tracker.abort(checkpoint);
                let turn = self.alignment.abort(checkpoint);
                self.align(turn)?;
                self.chain.aborted(checkpoint)
            }
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.ports[0].control().commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        take_collected(self.ports[0].control())
    }
}
