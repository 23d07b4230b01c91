//! Where a task stands in the checkpoints whose barriers come through its channels. Flink: `CheckpointBarrierHandler`.
//!
//! Aligned: a barrier that came on one channel is waited for on all others; meanwhile nothing is taken from the channels that it came on, so
//! that the task's state is that of exactly the records before the barriers.
//!
//! Unaligned: the state is written at once, or when the time-out is over, and with it what stands in the channels before the barriers. A barrier
//! is seen when it arrives in a channel, whatever stands before it there; when those of all channels have arrived, the snapshot is whole.
//! ```text
//!                       the first is seen        time is over, not all were taken        all have arrived
//! Aligned or Unaligned ------------------> waits --------------------------------> begun ----------------> over
//!                                             \-- all were taken: complete, with nothing of the channels
//! ```
//! Pure: the task blocks channels, writes the snapshot and has the channels recorded.

use std::time::Duration;

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId};
use spindle_common::time::MonoTime;

/// The barriers of all channels of a task.
#[derive(Debug)]
pub(super) struct Alignment {
    /// The newest checkpoint that was begun, finished or aborted here: barriers of older ones are void.
    newest: CheckpointId,
    current: Option<Current>,
    ended: Vec<bool>,
}

#[derive(Debug)]
struct Current {
    barrier: CheckpointBarrier,
    since: MonoTime,
    /// When the state is written though not all barriers were taken; never, if absent.
    deadline: Option<MonoTime>,
    /// Whether the state was written though not all barriers were taken.
    begun: bool,
    /// By channel, whether its barrier is there, behind whatever stands before it.
    arrived: Vec<bool>,
    /// By channel, whether its barrier was taken.
    taken: Vec<bool>,
}

/// What an input calls for, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// Checkpoints that will not be complete here.
    pub(super) declined: Vec<CheckpointId>,
    /// What was recorded of the channels is not needed, and nothing more is to be.
    pub(super) forget: bool,
    /// Channels are to be taken from again.
    pub(super) resume: bool,
    /// Nothing is to be taken from this channel.
    pub(super) block: Option<usize>,
    /// The state is to be written, and recorded what stands before the barriers.
    pub(super) begin: Option<Begin>,
    /// All barriers of what was begun have arrived: what was recorded completes the snapshot. With the time of the first barrier.
    pub(super) recorded: Option<(CheckpointBarrier, MonoTime)>,
    /// All barriers were taken: the state is to be written, and channels are to be taken from again. With the time of the first barrier.
    pub(super) complete: Vec<(CheckpointBarrier, MonoTime)>,
}

/// A snapshot before all barriers were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) barrier: CheckpointBarrier,
    /// By channel, whether something may stand before its barrier, there or on its way.
    pub(super) record: Vec<bool>,
}

impl Alignment {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            newest: CheckpointId(0),
            current: None,
            ended: vec![false; channels],
        }
    }

    /// A barrier has arrived in a channel, and will be taken when what stands before it was. Only of checkpoints that may be unaligned;
    /// `patience` is how long it is to be waited for the others.
    pub(super) fn arrived(
        &mut self,
        now: MonoTime,
        channel: usize,
        barrier: CheckpointBarrier,
        patience: Duration,
    ) -> Turn {
        let mut turn = Turn::default();
        if let Some(current) = self.current(now, barrier, Some(patience), &mut turn) {
            current.arrived[channel] = true;
            self.go_on(now, &mut turn);
        }
        turn
    }

    /// A barrier was taken. Without `patience` the others are waited for as long as it takes.
    pub(super) fn barrier(
        &mut self,
        now: MonoTime,
        channel: usize,
        barrier: CheckpointBarrier,
        patience: Option<Duration>,
    ) -> Turn {
        let mut turn = Turn::default();
        if let Some(current) = self.current(now, barrier, patience, &mut turn) {
            current.arrived[channel] = true;
            current.taken[channel] = true;
            turn.block = (!current.begun).then_some(channel);
            self.go_on(now, &mut turn);
        }
        turn
    }

    /// A channel has ended: nobody waits for its barrier.
    pub(super) fn end(&mut self, now: MonoTime, channel: usize) -> Turn {
        self.ended[channel] = true;
        let mut turn = Turn::default();
        self.go_on(now, &mut turn);
        turn
    }

    /// A checkpoint is given up.
    pub(super) fn abort(&mut self, checkpoint: CheckpointId) -> Turn {
        self.newest = self.newest.max(checkpoint);
        let given_up = self
            .current
            .take_if(|current| current.barrier.id <= checkpoint);
        Turn {
            resume: given_up.is_some(),
            forget: given_up.is_some_and(|current| current.begun),
            ..Turn::default()
        }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        let current = self.current.as_ref()?;
        current.deadline.filter(|_| !current.begun)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: MonoTime) -> Turn {
        let mut turn = Turn::default();
        self.go_on(now, &mut turn);
        turn
    }

    /// What is known of the checkpoint of this barrier, which a newer one gives up; none if it is over.
    fn current(
        &mut self,
        now: MonoTime,
        barrier: CheckpointBarrier,
        patience: Option<Duration>,
        turn: &mut Turn,
    ) -> Option<&mut Current> {
        let id = barrier.id;
        if self.current.as_ref().is_none_or(|it| it.barrier.id != id) {
            if id <= self.newest {
                return None;
            }
            self.newest = id;
            let channels = self.ended.len();
            let current = Current {
                barrier,
                since: now,
                deadline: patience.map(|patience| now + patience),
                begun: false,
                arrived: vec![false; channels],
                taken: vec![false; channels],
            };
            // The other barriers of the one before will not come any more: a channel sends them in order.
            if let Some(given_up) = self.current.replace(current) {
                turn.declined.push(given_up.barrier.id);
                turn.resume = true;
                turn.forget = given_up.begun;
            }
        }
        self.current.as_mut()
    }

    fn go_on(&mut self, now: MonoTime, turn: &mut Turn) {
        let Some(current) = &mut self.current else {
            return;
        };
        let all = |these: &[bool]| {
            let mut both = these.iter().zip(&self.ended);
            both.all(|(there, ended)| *there || *ended)
        };
        if !current.begun && all(&current.taken) {
            turn.block = None;
            let complete = (current.barrier.clone(), current.since);
            turn.complete.push(complete);
            self.current = None;
            return;
        }
        if !current.begun && current.deadline.is_some_and(|deadline| deadline <= now) {
            current.begun = true;
            turn.block = None;
            turn.resume = true;
            let both = current.taken.iter().zip(&self.ended);
            turn.begin = Some(Begin {
                barrier: current.barrier.clone(),
                record: both.map(|(taken, ended)| !*taken && !*ended).collect(),
            });
        }
        if current.begun && all(&current.arrived) {
            turn.recorded = Some((current.barrier.clone(), current.since));
            self.current = None;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
