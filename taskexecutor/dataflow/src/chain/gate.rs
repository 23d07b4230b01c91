//! A task that reads an input gate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Chain, Clock, Port, take_collected};
use crate::channel::{Buffer, GateEvent, InputGate};
use crate::collector::Control;
use crate::exchange::{Event, WatermarkMerge};
use crate::task::{Step, Task, TaskError, TaskMetrics};

/// A task that reads an input gate. Flink: `OneInputStreamTask`, `TwoInputStreamTask`.
pub struct GateTask {
    gate: Box<dyn InputGate>,
    /// One per input of the first operator. What concerns the whole operator goes in through the first.
    ports: Vec<Box<dyn Port>>,
    /// Which port each channel leads to.
    port_of: Vec<usize>,
    merge: WatermarkMerge,
    ended: Option<Step>,
    chain: Chain,
}

impl GateTask {
    /// The task that reads `gate`, whose channels lead to the ports that `port_of` lists for them.
    pub fn new(
        gate: Box<dyn InputGate>,
        ports: Vec<Box<dyn Port>>,
        port_of: Vec<usize>,
        metrics: Arc<TaskMetrics>,
        clock: Clock,
        buffer_timeout: Duration,
    ) -> Self {
        debug_assert_eq!(gate.channels(), port_of.len(), "each channel has a port");
        Self {
            merge: WatermarkMerge::new(gate.channels()),
            gate,
            ports,
            port_of,
            ended: None,
            chain: Chain::new(clock, buffer_timeout, metrics),
        }
    }

    fn take_in(&mut self, channel: usize, buffer: &mut Buffer) -> Result<(), TaskError> {
        let (merge, chain) = (&mut self.merge, &self.chain);
        if merge.has_ended(channel) {
            return Err(TaskError::Codec {
                reason: format!("more came after the end of input of channel {channel}"),
            });
        }
        let port = self.port_of[channel];
        if port == 0 {
            return self.ports[0].take_in(buffer, &mut |event, first| {
                handle(merge, chain, channel, event, first)
            });
        }
        // The whole operator is told through its first port.
        let (first, others) = self.ports.split_at_mut(1);
        others[port - 1].take_in(buffer, &mut |event, _| {
            handle(merge, chain, channel, event, first[0].control())
        })
    }
}

fn handle(
    merge: &mut WatermarkMerge,
    chain: &Chain,
    channel: usize,
    event: Event,
    first: &mut dyn Control,
) -> Result<(), TaskError> {
    let merged = match event {
        Event::Watermark(watermark) => merge.watermark(channel, watermark),
        Event::Idle(idle) => merge.idle(channel, idle),
        Event::End => merge.end(channel),
    };
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
            self.take_in(channel, &mut buffer)?;
            self.gate.recycle(channel, buffer);
            if self.merge.all_ended() {
                let step = self.chain.end(self.ports[0].control())?;
                self.ended = Some(step);
                return Ok(step);
            }
            self.chain.touch();
        }
        self.chain.keep_time(self.ports[0].control())?;
        Ok(Step::Continue)
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.ports[0].control().commit()
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        take_collected(self.ports[0].control())
    }
}
