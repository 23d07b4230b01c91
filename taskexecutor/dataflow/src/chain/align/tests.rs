use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use spindle_common::checkpoint::{BarrierAlignment, SnapshotKind};

use super::*;

pub(in crate::chain) fn barrier(id: u64) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: 0,
        kind: SnapshotKind::Checkpoint,
        directory: Arc::from("file:///chk"),
        alignment: BarrierAlignment::Aligned,
    }
}

pub(in crate::chain) fn at(ms: u64) -> MonoTime {
    MonoTime::from_micros(ms * 1000)
}

#[test]
fn a_barrier_is_waited_for_on_all_channels_that_have_not_ended() {
    let mut alignment = Alignment::new(3);
    let turn = alignment.barrier(at(1), 1, barrier(1), None);
    assert_eq!((turn.block, turn.complete), (Some(1), Vec::new()));
    assert_eq!(alignment.end(at(3), 0), Turn::default());
    let turn = alignment.barrier(at(2), 2, barrier(1), None);
    assert_eq!(turn.complete, [(barrier(1), at(1))]);
    // The end of the one that is waited for counts like its barrier.
    let turn = alignment.barrier(at(3), 2, barrier(2), None);
    assert_eq!(turn.block, Some(2));
    assert_eq!(alignment.end(at(3), 1).complete, [(barrier(2), at(3))]);
}

#[test]
fn a_newer_barrier_gives_the_older_checkpoint_up() {
    let mut alignment = Alignment::new(2);
    alignment.barrier(at(1), 0, barrier(1), None);
    let turn = alignment.barrier(at(2), 1, barrier(2), None);
    assert_eq!(turn.declined, [CheckpointId(1)]);
    assert!(turn.resume);
    assert_eq!(turn.block, Some(1));
    let turn = alignment.barrier(at(3), 0, barrier(2), None);
    assert_eq!(turn.complete, [(barrier(2), at(2))]);
}

#[test]
fn an_aborted_checkpoint_blocks_nothing_and_its_barriers_are_void() {
    let mut alignment = Alignment::new(2);
    alignment.barrier(at(1), 0, barrier(1), None);
    assert!(alignment.abort(CheckpointId(1)).resume);
    assert_eq!(
        alignment.barrier(at(2), 1, barrier(1), None),
        Turn::default()
    );
    // One that was aborted before any of its barriers came.
    assert_eq!(alignment.abort(CheckpointId(5)), Turn::default());
    assert_eq!(
        alignment.barrier(at(3), 0, barrier(5), None),
        Turn::default()
    );
    assert_eq!(alignment.barrier(at(3), 0, barrier(6), None).block, Some(0));
}

/// What a channel has next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::chain) enum Next {
    Record,
    Barrier(u64),
    End,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
pub(in crate::chain) enum Happens {
    /// The channel with this number among those that may be taken from has its turn.
    Take(usize),
    /// The JobManager gives this checkpoint up.
    Abort(u64),
}

/// Records between barriers of ascending numbers, of which each channel may lack some, and its end behind one of them.
pub(in crate::chain) fn channel() -> impl Strategy<Value = VecDeque<Next>> {
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

pub(in crate::chain) fn happens() -> impl Strategy<Value = Happens> {
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
                        Next::Barrier(id) => alignment.barrier(at(0), channel, barrier(id), None),
                        Next::End => alignment.end(at(0), channel),
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

#[test]
fn what_is_not_aligned_in_time_is_written_with_what_stands_in_the_channels() {
    let patience = Duration::from_millis(5);
    let mut alignment = Alignment::new(3);
    assert_eq!(
        alignment.arrived(at(1), 0, barrier(1), patience),
        Turn::default()
    );
    let turn = alignment.barrier(at(2), 0, barrier(1), Some(patience));
    assert_eq!(turn.block, Some(0));
    assert_eq!(
        alignment.arrived(at(3), 1, barrier(1), patience),
        Turn::default()
    );
    assert_eq!(alignment.deadline(), Some(at(6)));
    assert_eq!(alignment.tick(at(5)), Turn::default());
    let turn = alignment.tick(at(6));
    assert!(turn.resume, "the first channel was blocked");
    let begin = turn.begin.unwrap();
    assert_eq!(begin.record, [false, true, true]);
    assert_eq!(
        (turn.recorded, alignment.deadline()),
        (None, None),
        "the third barrier has not arrived"
    );
    let turn = alignment.barrier(at(7), 1, barrier(1), Some(patience));
    assert_eq!(turn, Turn::default());
    let turn = alignment.arrived(at(8), 2, barrier(1), Duration::ZERO);
    assert_eq!(turn.recorded, Some((barrier(1), at(1))));
    let turn = alignment.barrier(at(9), 2, barrier(1), Some(Duration::ZERO));
    assert_eq!(turn, Turn::default(), "it is over");
}

#[test]
fn what_is_aligned_in_time_has_nothing_of_the_channels() {
    let patience = Duration::from_millis(5);
    let mut alignment = Alignment::new(2);
    alignment.arrived(at(1), 0, barrier(1), patience);
    alignment.barrier(at(2), 1, barrier(1), Some(patience));
    let turn = alignment.barrier(at(3), 0, barrier(1), Some(patience));
    assert_eq!(turn.complete, [(barrier(1), at(1))]);
    assert_eq!((turn.begin, turn.recorded), (None, None));
    assert_eq!(alignment.tick(at(99)), Turn::default());
}

#[test]
fn what_was_begun_and_is_given_up_is_forgotten() {
    let mut alignment = Alignment::new(2);
    let turn = alignment.arrived(at(1), 0, barrier(1), Duration::ZERO);
    assert!(turn.begin.is_some() && turn.recorded.is_none());
    assert!(alignment.abort(CheckpointId(1)).forget);
    let turn = alignment.arrived(at(2), 1, barrier(2), Duration::ZERO);
    assert!(turn.begin.is_some());
    let turn = alignment.arrived(at(3), 1, barrier(3), Duration::ZERO);
    assert_eq!((turn.declined, turn.forget), (vec![CheckpointId(2)], true));
    assert!(turn.begin.is_some());
}

/// A channel of the model below.
#[derive(Debug, Default)]
struct Channel {
    /// What the producer will send.
    coming: VecDeque<Next>,
    /// What has arrived.
    there: VecDeque<Next>,
    /// Records that were taken.
    taken: usize,
    blocked: bool,
    /// Of what was begun: records that were recorded, and whether the barrier has yet to arrive.
    recorded: Option<(u64, usize, bool)>,
}

/// What happens next there.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Something arrives in one of the channels.
    Arrive(usize),
    /// Something is taken from one.
    Take(usize),
    Abort(u64),
    /// Milliseconds pass.
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<usize>().prop_map(Event::Arrive),
        8 => any::<usize>().prop_map(Event::Take),
        1 => (1_u64..7).prop_map(Event::Abort),
        4 => (1_u64..4).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Whatever arrives and is taken in whatever order, and whenever the time-out is over: state and channels together have exactly the records
    /// before the barriers, what could be complete is, once, and no channel stays blocked.
    #[test]
    fn an_unaligned_snapshot_has_exactly_what_came_before_its_barriers(
        coming in prop::collection::vec(channel(), 1..4),
        events in prop::collection::vec(event(), 300),
        patience in prop_oneof![Just(0_u64), 1_u64..12],
    ) {
        let count = coming.len();
        let before = |channel: usize, id: u64| {
            let until = coming[channel].iter().take_while(|next| **next != Next::Barrier(id));
            until.filter(|next| **next == Next::Record).count()
        };
        let mut channels: Vec<Channel> = coming.iter().map(|coming| Channel { coming: coming.clone(), ..Channel::default() }).collect();
        let mut alignment = Alignment::new(count);
        let patience = Duration::from_millis(patience);
        let (mut now, mut over, mut complete) = (0, Vec::new(), Vec::new());
        // Of what was begun: what had been taken.
        let mut begun: Option<(u64, Vec<usize>)> = None;
        let rest = (0..400).flat_map(|n| [Event::Arrive(n), Event::Take(n), Event::Pass(1)]);
        for event in events.into_iter().chain(rest) {
            let turn = match event {
                Event::Abort(id) => {
                    over.push(id);
                    alignment.abort(CheckpointId(id))
                }
                Event::Pass(ms) => {
                    now += ms;
                    alignment.tick(at(now))
                }
                Event::Arrive(pick) => {
                    let open: Vec<usize> = (0..count).filter(|c| !channels[*c].coming.is_empty()).collect();
                    let Some(&at_channel) = open.get(pick % open.len().max(1)) else { continue };
                    let channel = &mut channels[at_channel];
                    let next = channel.coming.pop_front().unwrap();
                    channel.there.push_back(next);
                    match (next, &mut channel.recorded) {
                        (Next::Barrier(id), Some((of, _, open))) if id == *of => *open = false,
                        (Next::Record, Some((_, records, true))) => *records += 1,
                        _ => {}
                    }
                    let Next::Barrier(id) = next else { continue };
                    alignment.arrived(at(now), at_channel, barrier(id), patience)
                }
                Event::Take(pick) => {
                    let open: Vec<usize> = (0..count).filter(|c| !channels[*c].blocked && !channels[*c].there.is_empty()).collect();
                    let Some(&channel) = open.get(pick % open.len().max(1)) else { continue };
                    match channels[channel].there.pop_front().unwrap() {
                        Next::Record => {
                            channels[channel].taken += 1;
                            continue;
                        }
                        Next::Barrier(id) => alignment.barrier(at(now), channel, barrier(id), Some(patience)),
                        Next::End => alignment.end(at(now), channel),
                    }
                }
            };
            over.extend(turn.declined.iter().map(|id| id.0));
            if turn.forget {
                prop_assert!(begun.take().is_some());
                channels.iter_mut().for_each(|channel| channel.recorded = None);
            }
            if turn.resume {
                channels.iter_mut().for_each(|channel| channel.blocked = false);
            }
            if let Some(channel) = turn.block {
                channels[channel].blocked = true;
            }
            if let Some(begin) = turn.begin {
                let id = begin.barrier.id.0;
                prop_assert!(begun.is_none() && !over.contains(&id));
                begun = Some((id, channels.iter().map(|channel| channel.taken).collect()));
                for (channel, _) in channels.iter_mut().zip(begin.record).filter(|(_, record)| *record) {
                    let standing = channel.there.iter().take_while(|next| **next != Next::Barrier(id));
                    let records = standing.filter(|next| **next == Next::Record).count();
                    let open = !channel.there.contains(&Next::Barrier(id));
                    channel.recorded = Some((id, records, open));
                }
            }
            if let Some((barrier, _)) = turn.recorded {
                let (id, taken) = begun.take().unwrap();
                prop_assert!(id == barrier.id.0 && !over.contains(&id) && !complete.contains(&id));
                complete.push(id);
                for (at_channel, (channel, taken)) in channels.iter_mut().zip(taken).enumerate() {
                    let recorded = channel.recorded.take().map_or(0, |(_, records, _)| records);
                    prop_assert_eq!(taken + recorded, before(at_channel, id));
                }
            }
            for (barrier, _) in turn.complete {
                let id = barrier.id.0;
                prop_assert!(begun.is_none() && !over.contains(&id) && !complete.contains(&id));
                complete.push(id);
                for (at_channel, channel) in channels.iter_mut().enumerate() {
                    prop_assert_eq!(channel.taken, before(at_channel, id));
                    channel.blocked = false;
                }
            }
        }
        prop_assert!(channels.iter().all(|channel| channel.there.is_empty()), "a channel stays blocked");
    }
}
