//! Where a task stands in checkpoints that it never waits for: at least once. Flink: `CheckpointBarrierTracker`.
//!
//! The state is written when the barriers of all channels have come. Meanwhile the task goes on with all of them, so the state may have records
//! from behind a barrier: they come again after a restore. Several checkpoints may be under way.

use std::collections::{BTreeMap, BTreeSet};

use spindle_common::checkpoint::{CheckpointBarrier, CheckpointId};
use spindle_common::time::MonoTime;

use super::align::Turn;

/// The barriers of all channels of a task.
#[derive(Debug)]
pub(super) struct Tracker {
    /// Of each channel the newest barrier that came. An older one will not.
    last: Vec<CheckpointId>,
    pending: BTreeMap<CheckpointId, Pending>,
    /// Those that were given up, of which barriers may still come.
    over: BTreeSet<CheckpointId>,
}

#[derive(Debug)]
struct Pending {
    barrier: CheckpointBarrier,
    since: MonoTime,
    arrived: Vec<bool>,
}

/// What the barriers of a channel that has ended count as.
const ENDED: CheckpointId = CheckpointId(u64::MAX);

impl Tracker {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            last: vec![CheckpointId(0); channels],
            pending: BTreeMap::new(),
            over: BTreeSet::new(),
        }
    }

    /// A barrier came.
    pub(super) fn barrier(
        &mut self,
        now: MonoTime,
        channel: usize,
        barrier: CheckpointBarrier,
    ) -> Turn {
        let id = barrier.id;
        self.last[channel] = id;
        if !self.over.contains(&id) {
            let channels = self.last.len();
            let pending = self.pending.entry(id).or_insert_with(|| Pending {
                barrier,
                since: now,
                arrived: vec![false; channels],
            });
            pending.arrived[channel] = true;
        }
        self.turn()
    }

    /// A channel has ended: nobody waits for its barriers.
    pub(super) fn end(&mut self, channel: usize) -> Turn {
        self.last[channel] = ENDED;
        self.turn()
    }

    /// A checkpoint is given up.
    pub(super) fn abort(&mut self, checkpoint: CheckpointId) {
        self.pending.remove(&checkpoint);
        self.over.insert(checkpoint);
        self.forget();
    }

    fn turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        let last = &self.last;
        self.pending.retain(|id, pending| {
            let channels = || last.iter().zip(&pending.arrived);
            let passed = |(last, arrived): (&CheckpointId, &bool)| {
                !*arrived && *last > *id && *last != ENDED
            };
            if channels().any(passed) {
                turn.declined.push(*id);
                return false;
            }
            let complete = channels().all(|(last, arrived)| *arrived || *last == ENDED);
            if complete {
                turn.complete.push((pending.barrier.clone(), pending.since));
            }
            !complete
        });
        self.over.extend(turn.declined.iter().copied());
        self.forget();
        turn
    }

    fn forget(&mut self) {
        if let Some(slowest) = self.last.iter().min() {
            self.over = self.over.split_off(slowest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::align::tests::{Happens, Next, at, barrier, channel, happens};
    use super::*;

    #[test]
    fn checkpoints_complete_in_order_though_their_barriers_mix() {
        let mut tracker = Tracker::new(2);
        assert_eq!(tracker.barrier(at(1), 0, barrier(1)), Turn::default());
        assert_eq!(tracker.barrier(at(2), 0, barrier(2)), Turn::default());
        let turn = tracker.barrier(at(3), 1, barrier(1));
        assert_eq!(turn.complete, [(barrier(1), at(1))]);
        let turn = tracker.barrier(at(4), 1, barrier(2));
        assert_eq!(turn.complete, [(barrier(2), at(2))]);
    }

    #[test]
    fn a_channel_that_passes_a_checkpoint_over_has_it_declined_once() {
        let mut tracker = Tracker::new(3);
        assert_eq!(tracker.barrier(at(1), 0, barrier(2)), Turn::default());
        let turn = tracker.barrier(at(2), 1, barrier(1));
        assert_eq!(turn.declined, [CheckpointId(1)]);
        assert_eq!(tracker.barrier(at(3), 2, barrier(1)), Turn::default());
        assert_eq!(tracker.end(2), Turn::default());
        let turn = tracker.barrier(at(4), 1, barrier(2));
        assert_eq!(turn.complete, [(barrier(2), at(1))]);
    }

    proptest! {
        /// Whatever the order in which channels are taken from, whatever barriers they lack and checkpoints are given up: a snapshot has all
        /// records before its barriers, whose barriers are all there is complete unless it was given up, and nothing is twice.
        #[test]
        fn a_snapshot_has_at_least_what_came_before_its_barriers(
            mut channels in prop::collection::vec(channel(), 1..4),
            turns in prop::collection::vec(happens(), 300),
        ) {
            let count = channels.len();
            let before = |elements: &VecDeque<Next>, id: u64| {
                let until = elements.iter().take_while(|next| !matches!(next, Next::Barrier(other) if *other == id));
                until.filter(|next| matches!(next, Next::Record)).count()
            };
            let whole = channels.clone();
            let mut tracker = Tracker::new(count);
            let mut taken = vec![0_usize; count];
            let (mut over, mut complete) = (BTreeSet::new(), Vec::new());
            for turn in turns.into_iter().chain((0..200).map(Happens::Take)) {
                let turn = match turn {
                    Happens::Abort(id) => {
                        over.insert(id);
                        tracker.abort(CheckpointId(id));
                        continue;
                    }
                    Happens::Take(pick) => {
                        let open: Vec<usize> = (0..count).filter(|c| !channels[*c].is_empty()).collect();
                        let Some(&channel) = open.get(pick % open.len().max(1)) else { break };
                        match channels[channel].pop_front().unwrap() {
                            Next::Record => {
                                taken[channel] += 1;
                                continue;
                            }
                            Next::Barrier(id) => tracker.barrier(at(0), channel, barrier(id)),
                            Next::End => tracker.end(channel),
                        }
                    }
                };
                prop_assert!(!turn.resume && turn.block.is_none(), "a channel is held back");
                for id in turn.declined {
                    prop_assert!(over.insert(id.0), "{id} was given up before");
                    let lacks = |elements: &VecDeque<Next>| !elements.iter().any(|n| matches!(n, Next::Barrier(other) if *other == id.0));
                    prop_assert!(whole.iter().any(lacks), "{id} could have been complete");
                }
                for (barrier, _) in turn.complete {
                    let id = barrier.id.0;
                    prop_assert!(!over.contains(&id), "{id} was over");
                    prop_assert!(complete.last().is_none_or(|last| *last < id), "{id} behind {complete:?}");
                    complete.push(id);
                    for (channel, taken) in taken.iter().enumerate() {
                        prop_assert!(*taken >= before(&whole[channel], id));
                    }
                }
            }
            prop_assert!(channels.iter().all(VecDeque::is_empty));
            let everywhere = |id: u64| whole.iter().all(|elements| elements.contains(&Next::Barrier(id)));
            for id in (1..7).filter(|id| everywhere(*id) && !over.contains(id)) {
                prop_assert!(complete.contains(&id), "{id} is not complete");
            }
        }
    }
}
