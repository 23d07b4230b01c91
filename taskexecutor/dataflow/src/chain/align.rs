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
    /// Checkpoints that will not be complete here.
    pub(super) declined: Vec<CheckpointId>,
    /// Channels are to be taken from again. Comes before what follows.
    pub(super) resume: bool,
    /// Nothing is to be taken from this channel.
    pub(super) block: Option<usize>,
    /// All barriers are there: the state is to be written, and channels are to be taken from again. With the time of the first barrier.
    pub(super) complete: Vec<(CheckpointBarrier, MonoTime)>,
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
                let declined = current.take().map(|current| current.barrier.id);
                turn.resume = declined.is_some();
                turn.declined.extend(declined);
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
            turn.complete.push((current.barrier, current.since));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::prelude::*;
    use spindle_common::checkpoint::{BarrierAlignment, SnapshotKind};

    use super::*;

    pub(in super::super) fn barrier(id: u64) -> CheckpointBarrier {
        CheckpointBarrier {
            id: CheckpointId(id),
            timestamp_ms: 0,
            kind: SnapshotKind::Checkpoint,
            directory: Arc::from("file:///chk"),
            alignment: BarrierAlignment::Aligned,
        }
    }

    pub(in super::super) fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1000)
    }

    #[test]
    fn a_barrier_is_waited_for_on_all_channels_that_have_not_ended() {
        let mut alignment = Alignment::new(3);
        let turn = alignment.barrier(at(1), 1, barrier(1));
        assert_eq!((turn.block, turn.complete), (Some(1), Vec::new()));
        assert_eq!(alignment.end(0), Turn::default());
        let turn = alignment.barrier(at(2), 2, barrier(1));
        assert_eq!(turn.complete, [(barrier(1), at(1))]);
        // The end of the one that is waited for counts like its barrier.
        let turn = alignment.barrier(at(3), 2, barrier(2));
        assert_eq!(turn.block, Some(2));
        assert_eq!(alignment.end(1).complete, [(barrier(2), at(3))]);
    }

    #[test]
    fn a_newer_barrier_gives_the_older_checkpoint_up() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(at(1), 0, barrier(1));
        let turn = alignment.barrier(at(2), 1, barrier(2));
        assert_eq!(turn.declined, [CheckpointId(1)]);
        assert!(turn.resume);
        assert_eq!(turn.block, Some(1));
        let turn = alignment.barrier(at(3), 0, barrier(2));
        assert_eq!(turn.complete, [(barrier(2), at(2))]);
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

    /// What a channel has next.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(in super::super) enum Next {
        Record,
        Barrier(u64),
        End,
    }

    /// What happens next.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) enum Happens {
        /// The channel with this number among those that may be taken from has its turn.
        Take(usize),
        /// The JobManager gives this checkpoint up.
        Abort(u64),
    }

    /// Records between barriers of ascending numbers, of which each channel may lack some, and its end behind one of them.
    pub(in super::super) fn channel() -> impl Strategy<Value = VecDeque<Next>> {
        let piece = (0_usize..4, prop::bool::weighted(0.9));
        (prop::collection::vec(piece, 6), 0_usize..12).prop_map(|(pieces, ends)| {
            let mut elements = VecDeque::new();
            for (id, (records, has_barrier)) in (1..).zip(pieces).take(ends) {
                elements.extend((0..records).map(|_| Next::Record));
                if has_barrier {
                    elements.push_back(Next::Barrier(id));
                }
            }
            elements.push_back(Next::End);
            elements
        })
    }

    pub(in super::super) fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            12 => any::<usize>().prop_map(Happens::Take),
            1 => (1_u64..7).prop_map(Happens::Abort),
        ]
    }

    proptest! {
        /// Whatever the order in which channels are taken from, whatever barriers they lack and checkpoints are given up: a snapshot has exactly
        /// the records before its barriers, no checkpoint is completed twice or after it was given up, and no channel stays blocked.
        #[test]
        fn a_snapshot_has_exactly_what_came_before_its_barriers(
            mut channels in prop::collection::vec(channel(), 1..4),
            turns in prop::collection::vec(happens(), 300),
        ) {
            let count = channels.len();
            let before = |elements: &VecDeque<Next>, id: u64| {
                let until = elements.iter().take_while(|next| !matches!(next, Next::Barrier(other) if *other == id));
                until.filter(|next| matches!(next, Next::Record)).count()
            };
            let whole = channels.clone();
            let mut alignment = Alignment::new(count);
            let (mut blocked, mut taken) = (vec![false; count], vec![0_usize; count]);
            let mut over = Vec::new();
            for turn in turns.into_iter().chain((0..200).map(Happens::Take)) {
                let turn = match turn {
                    Happens::Abort(id) => {
                        over.push(id);
                        alignment.abort(CheckpointId(id))
                    }
                    Happens::Take(pick) => {
                        let open: Vec<usize> = (0..count).filter(|c| !blocked[*c] && !channels[*c].is_empty()).collect();
                        let Some(&channel) = open.get(pick % open.len().max(1)) else { break };
                        match channels[channel].pop_front().unwrap() {
                            Next::Record => {
                                taken[channel] += 1;
                                continue;
                            }
                            Next::Barrier(id) => alignment.barrier(at(0), channel, barrier(id)),
                            Next::End => alignment.end(channel),
                        }
                    }
                };
                over.extend(turn.declined.iter().map(|id| id.0));
                if turn.resume {
                    blocked.fill(false);
                }
                if let Some(channel) = turn.block {
                    blocked[channel] = true;
                }
                for (barrier, _) in turn.complete {
                    blocked.fill(false);
                    prop_assert!(!over.contains(&barrier.id.0), "{} was over", barrier.id);
                    over.push(barrier.id.0);
                    for (channel, taken) in taken.iter().enumerate() {
                        prop_assert_eq!(*taken, before(&whole[channel], barrier.id.0));
                    }
                }
            }
            prop_assert!(channels.iter().all(VecDeque::is_empty), "a channel stays blocked: {:?}", blocked);
        }
    }
}
