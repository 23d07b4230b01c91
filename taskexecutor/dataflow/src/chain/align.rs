//! Where a task stands in the checkpoints whose barriers come through its channels. Flink: `CheckpointBarrierHandler`.
//!
//! A barrier that came on one channel is waited for on all others; meanwhile nothing is taken from the channels that it came on, so that
//! the task's state is that of exactly the records before the barriers. Pure: the task blocks channels and writes the snapshot.

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
    arrived: Vec<bool>,
}

/// What an input calls for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// A checkpoint that will not be complete here.
    pub(super) declined: Option<CheckpointId>,
    /// Channels are to be taken from again. Comes before what follows.
    pub(super) resume: bool,
    /// Nothing is to be taken from this channel.
    pub(super) block: Option<usize>,
    /// All barriers are there: the state is to be written, and channels are to be taken from again. With the time of the first barrier.
    pub(super) complete: Option<(CheckpointBarrier, MonoTime)>,
}

impl Alignment {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            newest: CheckpointId(0),
            current: None,
            ended: vec![false; channels],
        }
    }

    /// A barrier came.
    pub(super) fn barrier(
        &mut self,
        now: MonoTime,
        channel: usize,
        barrier: CheckpointBarrier,
    ) -> Turn {
        let mut turn = Turn::default();
        let id = barrier.id;
        match &mut self.current {
            Some(current) if current.barrier.id == id => current.arrived[channel] = true,
            Some(_) | None if id <= self.newest => return turn,
            current => {
                // Its other barriers will not come any more: a channel sends them in order.
                turn.declined = current.take().map(|current| current.barrier.id);
                turn.resume = turn.declined.is_some();
                let mut arrived = vec![false; self.ended.len()];
                arrived[channel] = true;
                self.newest = id;
                *current = Some(Current {
                    barrier,
                    since: now,
                    arrived,
                });
            }
        }
        turn.block = Some(channel);
        self.complete(&mut turn);
        turn
    }

    /// A channel has ended: nobody waits for its barrier.
    pub(super) fn end(&mut self, channel: usize) -> Turn {
        self.ended[channel] = true;
        let mut turn = Turn::default();
        self.complete(&mut turn);
        turn
    }

    /// A checkpoint is given up.
    pub(super) fn abort(&mut self, checkpoint: CheckpointId) -> Turn {
        self.newest = self.newest.max(checkpoint);
        let mut turn = Turn::default();
        if self
            .current
            .take_if(|it| it.barrier.id <= checkpoint)
            .is_some()
        {
            turn.resume = true;
        }
        turn
    }

    fn complete(&mut self, turn: &mut Turn) {
        let all = |current: &mut Current| {
            let mut both = current.arrived.iter().zip(&self.ended);
            both.all(|(arrived, ended)| *arrived || *ended)
        };
        if let Some(current) = self.current.take_if(all) {
            turn.block = None;
            turn.complete = Some((current.barrier, current.since));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::prelude::*;
    use spindle_common::checkpoint::SnapshotKind;

    use super::*;

    fn barrier(id: u64) -> CheckpointBarrier {
        CheckpointBarrier {
            id: CheckpointId(id),
            timestamp_ms: 0,
            kind: SnapshotKind::Checkpoint,
            directory: Arc::from("file:///chk"),
        }
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1000)
    }

    #[test]
    fn a_barrier_is_waited_for_on_all_channels_that_have_not_ended() {
        let mut alignment = Alignment::new(3);
        let turn = alignment.barrier(at(1), 1, barrier(1));
        assert_eq!((turn.block, turn.complete), (Some(1), None));
        assert_eq!(alignment.end(0), Turn::default());
        let turn = alignment.barrier(at(2), 2, barrier(1));
        assert_eq!(turn.complete, Some((barrier(1), at(1))));
        // The end of the one that is waited for counts like its barrier.
        let turn = alignment.barrier(at(3), 2, barrier(2));
        assert_eq!(turn.block, Some(2));
        assert_eq!(alignment.end(1).complete, Some((barrier(2), at(3))));
    }

    #[test]
    fn a_newer_barrier_gives_the_older_checkpoint_up() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(at(1), 0, barrier(1));
        let turn = alignment.barrier(at(2), 1, barrier(2));
        assert_eq!(turn.declined, Some(CheckpointId(1)));
        assert!(turn.resume);
        assert_eq!(turn.block, Some(1));
        let turn = alignment.barrier(at(3), 0, barrier(2));
        assert_eq!(turn.complete, Some((barrier(2), at(2))));
    }

    #[test]
    fn an_aborted_checkpoint_blocks_nothing_and_its_barriers_are_void() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(at(1), 0, barrier(1));
        assert!(alignment.abort(CheckpointId(1)).resume);
        assert_eq!(alignment.barrier(at(2), 1, barrier(1)), Turn::default());
        // One that was aborted before any of its barriers came.
        assert_eq!(alignment.abort(CheckpointId(5)), Turn::default());
        assert_eq!(alignment.barrier(at(3), 0, barrier(5)), Turn::default());
        assert_eq!(alignment.barrier(at(3), 0, barrier(6)).block, Some(0));
    }

    proptest! {
        /// Channels carry numbered elements and barriers; they are taken in any order that blocking allows. Every completed snapshot has
        /// exactly the elements before its barrier, of every channel.
        #[test]
        fn a_snapshot_has_exactly_what_came_before_its_barriers(
            gaps in proptest::collection::vec(proptest::collection::vec(0_usize..4, 5), 1..4),
            picks in proptest::collection::vec(any::<usize>(), 0..400),
        ) {
            let mut channels: Vec<VecDeque<Result<usize, u64>>> = Vec::new();
            for gaps in &gaps {
                let mut elements = VecDeque::new();
                let mut next = 0;
                for (id, gap) in (1..).zip(gaps) {
                    elements.extend((next..next + gap).map(Ok));
                    next += gap;
                    elements.push_back(Err(id));
                }
                channels.push(elements);
            }
            let before = |channel: usize, id: u64| gaps[channel][..id as usize].iter().sum::<usize>();
            let mut alignment = Alignment::new(channels.len());
            let mut blocked = vec![false; channels.len()];
            let mut taken = vec![0_usize; channels.len()];
            let mut completed = Vec::new();
            for pick in picks {
                let open: Vec<usize> = (0..channels.len()).filter(|c| !blocked[*c] && !channels[*c].is_empty()).collect();
                let Some(&channel) = open.get(pick % open.len().max(1)) else { break };
                match channels[channel].pop_front().unwrap() {
                    Ok(_) => taken[channel] += 1,
                    Err(id) => {
                        let turn = alignment.barrier(at(0), channel, barrier(id));
                        prop_assert_eq!(turn.declined, None, "no barrier is skipped here");
                        if let Some(channel) = turn.block {
                            blocked[channel] = true;
                        }
                        if let Some((barrier, _)) = turn.complete {
                            blocked.fill(false);
                            for (channel, taken) in taken.iter().enumerate() {
                                prop_assert_eq!(*taken, before(channel, barrier.id.0));
                            }
                            completed.push(barrier.id.0);
                        }
                    }
                }
            }
            prop_assert_eq!(&completed, &(1..=completed.len() as u64).collect::<Vec<_>>());
            if channels.iter().all(VecDeque::is_empty) {
                prop_assert_eq!(completed.len(), 5);
            }
        }
    }
}
