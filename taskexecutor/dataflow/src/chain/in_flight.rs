//! What stood in a task's channels when it wrote its state: kept in the snapshot of an unaligned checkpoint, and worked on before anything else
//! after a restore.
//!
//! ```text
//! chunk of a subtask   parallelism: u32   channel · channel, …
//! channel              edge: u32   watermark: i64   idle: u8   ended: u8   count: u32   count × buffer
//! buffer               records: u32   length: u32   bytes, as crate::exchange has them
//! ```
//! Each channel of the task is there, with how far its watermark had come. At another parallelism a subtask takes the channels of all, one after
//! the other, as if they were its own; of what was routed by key it keeps the records of its own keys, and all else goes by the number of the
//! subtask that had it.

use std::collections::VecDeque;

use spindle_common::checkpoint::{Distribution, StateChunk, SubtaskSnapshot};
use spindle_common::time::{EventTime, Watermark};

use super::port::{Port, TypedPort};
use crate::batch::Batch;
use crate::channel::Buffer;
use crate::codec::Malformed;
use crate::collector::{Collector, Control};
use crate::exchange::{ChannelTime, Event, Merged, WatermarkMerge};
use crate::record::Record;
use crate::snapshot::{Restored, Snapshot, StateOwner, schema};
use crate::task::TaskError;

/// Name of the state.
pub(super) const IN_FLIGHT: &str = "in flight";

/// What one channel had.
#[derive(Debug, PartialEq)]
pub(super) struct InFlight {
    /// Which of the edges that feed the vertex.
    pub(super) edge: usize,
    pub(super) time: ChannelTime,
    /// In order, encoded.
    pub(super) buffers: Vec<Buffer>,
}

impl InFlight {
    fn bytes(&self) -> u64 {
        let buffers = self.buffers.iter();
        buffers.map(|buffer| buffer.bytes.len() as u64).sum()
    }
}

/// Writes what all channels had. Returns the number of its bytes.
pub(super) fn write(
    into: &mut Snapshot,
    owner: &StateOwner,
    types: &[&str],
    channels: &[InFlight],
) -> u64 {
    let bytes: u64 = channels.iter().map(InFlight::bytes).sum();
    if bytes == 0 {
        return 0;
    }
    let mut content = owner.parallelism().to_le_bytes().to_vec();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    for channel in channels {
        content.extend_from_slice(&count(channel.edge));
        content.extend_from_slice(&channel.time.watermark.0.0.to_le_bytes());
        content.push(u8::from(channel.time.idle));
        content.push(u8::from(channel.time.ended));
        content.extend_from_slice(&count(channel.buffers.len()));
        for buffer in &channel.buffers {
            content.extend_from_slice(&buffer.records.to_le_bytes());
            content.extend_from_slice(&count(buffer.bytes.len()));
            content.extend_from_slice(&buffer.bytes);
        }
    }
    let buffers = channels.iter().map(|channel| channel.buffers.len() as u64);
    into.in_flight(
        owner,
        IN_FLIGHT,
        schema("in flight", types),
        buffers.sum(),
        content,
    );
    bytes
}

/// What is to be worked on first.
#[derive(Debug, Default)]
pub(super) struct Replay {
    channels: Vec<InFlight>,
    /// Whether others had some of it, and take their part of it too.
    shared: bool,
}

/// What a subtask begins with of what was under way. `by_key` tells of an edge whether its records are taken by key, at another
/// parallelism than the one they were written at.
pub(super) fn read(
    restored: &Restored,
    owner: &StateOwner,
    types: &[&str],
    by_key: impl Fn(usize) -> bool,
) -> Result<Replay, TaskError> {
    let schema = schema("in flight", types);
    let state = restored.state(owner, IN_FLIGHT, Distribution::InFlight, &schema)?;
    let mut replay = Replay::default();
    for chunk in state.into_iter().flat_map(|state| &state.chunks) {
        let (parallelism, channels) =
            decode(chunk).map_err(|why| owner.unreadable(IN_FLIGHT, &why))?;
        let own = chunk.index % owner.parallelism() == owner.subtask();
        if parallelism == owner.parallelism() {
            replay.channels.extend(channels.into_iter().filter(|_| own));
        } else {
            replay.shared = true;
            let mine = |channel: &InFlight| own || by_key(channel.edge);
            replay.channels.extend(channels.into_iter().filter(mine));
        }
    }
    Ok(replay)
}

fn decode(chunk: &StateChunk<Vec<u8>>) -> Result<(u32, Vec<InFlight>), Malformed> {
    const WHAT: Malformed = Malformed::Truncated("what was in flight");
    fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
        let (taken, behind) = rest.split_first_chunk::<N>().ok_or(WHAT)?;
        *rest = behind;
        Ok(*taken)
    }
    let rest = &mut &chunk.content[..];
    let parallelism = u32::from_le_bytes(take(rest)?);
    let mut channels = Vec::new();
    while !rest.is_empty() {
        let edge = u32::from_le_bytes(take(rest)?) as usize;
        let watermark = Watermark(EventTime(i64::from_le_bytes(take(rest)?)));
        let [idle, ended] = take(rest)?.map(|flag: u8| flag != 0);
        let mut buffers = Vec::new();
        for _ in 0..u32::from_le_bytes(take(rest)?) {
            let records = u32::from_le_bytes(take(rest)?);
            let length = u32::from_le_bytes(take(rest)?) as usize;
            let (bytes, behind) = rest.split_at_checked(length).ok_or(WHAT)?;
            *rest = behind;
            buffers.push(Buffer::encoded(bytes.to_vec(), records));
        }
        channels.push(InFlight {
            edge,
            time: ChannelTime {
                watermark,
                idle,
                ended,
            },
            buffers,
        });
    }
    Ok((parallelism, channels))
}

impl Replay {
    /// Works on it all: each channel has a watermark of its own, as before, and the one that is behind is next. So what follows a watermark
    /// in one channel waits for it in all. `advance` tells the first operator of a watermark.
    pub(super) fn run<P: Port + ?Sized>(
        self,
        ports: &mut [Box<P>],
        port_of_edge: impl Fn(usize) -> usize,
        advance: &mut dyn FnMut(&mut dyn Control, Watermark) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        if self.channels.is_empty() {
            return Ok(());
        }
        let times = self.channels.iter().map(|channel| channel.time);
        let mut merge = WatermarkMerge::of(times);
        let begin = merge.restart();
        merged(begin, ports[0].control(), advance)?;
        let mut open: Vec<Open> = self.channels.into_iter().map(Open::of).collect();
        loop {
            let left = (0..open.len()).filter(|at| !open[*at].left().is_empty());
            let Some(at) = left.min_by_key(|at| merge.channel(*at).watermark) else {
                break;
            };
            let channel = &mut open[at];
            let mut on_event = |event: Event, first: &mut dyn Control| {
                let change = match event {
                    Event::Watermark(watermark) => merge.watermark(at, watermark),
                    Event::Idle(idle) => merge.idle(at, idle),
                    Event::End => merge.end(at),
                    // One that was void.
                    Event::Barrier(_) => return Ok(()),
                };
                merged(change, first, advance)
            };
            let share = self.shared.then_some(channel.edge);
            let (port, bytes) = (port_of_edge(channel.edge), channel.left());
            channel.taken += match port.checked_sub(1) {
                None => ports[0].take_element(bytes, share, &mut on_event)?,
                Some(other) => {
                    let (first, others) = ports.split_at_mut(1);
                    others[other].take_element(bytes, share, &mut |event, _| {
                        on_event(event, first[0].control())
                    })?
                }
            };
            channel.go_on();
        }
        // The channels of now are not known to be idle.
        if merge.is_idle() {
            ports[0].control().idle(false)?;
        }
        ports[0].control().flush()
    }
}

/// A channel that is worked on.
struct Open {
    edge: usize,
    buffers: VecDeque<Buffer>,
    /// Bytes of the first buffer.
    taken: usize,
}

impl Open {
    fn of(channel: InFlight) -> Self {
        Self {
            edge: channel.edge,
            buffers: channel.buffers.into(),
            taken: 0,
        }
    }

    /// Leaves the first buffer if it is worked off.
    fn go_on(&mut self) {
        if self.left().is_empty() {
            self.buffers.pop_front();
            self.taken = 0;
        }
    }

    /// What is left of the first buffer.
    fn left(&self) -> &[u8] {
        self.buffers
            .front()
            .map_or(&[], |first| &first.bytes[self.taken..])
    }
}

fn merged(
    change: Merged,
    first: &mut dyn Control,
    advance: &mut dyn FnMut(&mut dyn Control, Watermark) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    if let Some(idle) = change.idle {
        first.idle(idle)?;
    }
    if let Some(watermark) = change.watermark {
        advance(first, watermark)?;
    }
    Ok(())
}

/// An operator within a chain to which something was under way when it was the first of its own: it works on that before anything else.
pub struct Replayed<T> {
    owner: StateOwner,
    /// The way to the operator.
    ports: [Box<TypedPort<T>>; 1],
    replay: Replay,
}

impl<T: Record> Replayed<T> {
    /// What has to stand before `next`, the operator `owner`: something if `restored` has something of the kind.
    pub fn before(
        next: Box<dyn Collector<T>>,
        owner: StateOwner,
        restored: &SubtaskSnapshot<Vec<u8>>,
    ) -> Box<dyn Collector<T>> {
        let of_operator = restored.operators.iter().filter(|it| owner.is(&it.uid));
        let mut states = of_operator.flat_map(|operator| &operator.states);
        if !states.any(|state| state.name == IN_FLIGHT) {
            return next;
        }
        Box::new(Self {
            owner,
            ports: [Box::new(TypedPort::new(next))],
            replay: Replay::default(),
        })
    }
}

impl<T: Record> Control for Replayed<T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.ports[0].control())
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        let types = [std::any::type_name::<T>()];
        self.replay = read(from, &self.owner, &types, |_| false)?;
        self.ports[0].control().restore(from)
    }

    fn begin(&mut self) -> Result<(), TaskError> {
        self.ports[0].control().begin()?;
        let replay = std::mem::take(&mut self.replay);
        let mut advance = |first: &mut dyn Control, watermark| first.watermark(watermark);
        replay.run(&mut self.ports, |_| 0, &mut advance)
    }
}

impl<T: Record> Collector<T> for Replayed<T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        self.ports[0].first().push(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::align::tests::barrier;
    use super::*;
    use crate::operator::tests::context;

    fn channel(edge: usize, watermark: i64, buffers: &[&[u8]]) -> InFlight {
        let buffers = buffers.iter();
        InFlight {
            edge,
            time: ChannelTime {
                watermark: Watermark(EventTime(watermark)),
                idle: edge == 1,
                ended: watermark > 100,
            },
            buffers: buffers
                .map(|bytes| Buffer::encoded(bytes.to_vec(), bytes.len() as u32))
                .collect(),
        }
    }

    fn channels() -> Vec<InFlight> {
        vec![
            channel(0, -7, &[b"one", b"two"]),
            channel(0, 5, &[]),
            channel(1, 101, &[b"three"]),
        ]
    }

    /// What the subtask 1 of two wrote.
    fn written() -> SubtaskSnapshot<Vec<u8>> {
        let owner = StateOwner::of(&context(1, 2));
        let mut snapshot = Snapshot::new(barrier(1));
        assert_eq!(write(&mut snapshot, &owner, &["u64"], &channels()), 11);
        let state = snapshot.into_state();
        state.map(|content| content.into_bytes().unwrap())
    }

    fn read_by(
        state: SubtaskSnapshot<Vec<u8>>,
        subtask: u32,
        parallelism: u32,
    ) -> Result<Replay, TaskError> {
        let owner = StateOwner::of(&context(subtask, parallelism));
        read(&Restored::new(state), &owner, &["u64"], |edge| edge == 1)
    }

    #[test]
    fn a_subtask_reads_what_it_wrote_and_another_what_is_by_key() {
        let own = read_by(written(), 1, 2).unwrap();
        assert_eq!((own.channels, own.shared), (channels(), false));
        assert!(read_by(written(), 0, 2).unwrap().channels.is_empty());
        let another = read_by(written(), 0, 3).unwrap();
        assert_eq!((another.channels.len(), another.shared), (1, true));
        assert_eq!(another.channels[0].edge, 1);
        let all = read_by(written(), 1, 3).unwrap();
        assert_eq!((all.channels, all.shared), (channels(), true));
    }

    #[test]
    fn what_is_cut_short_is_an_error_that_names_the_state() {
        let whole = written().operators[0].states[0].chunks[0].content.clone();
        // Between two channels it is not seen: the checksum of the chunk is for that.
        for length in [0, 3, 5, 20, 30, whole.len() - 1] {
            let mut state = written();
            state.operators[0].states[0].chunks[0]
                .content
                .truncate(length);
            let error = read_by(state, 1, 2).unwrap_err().to_string();
            assert!(error.contains("`in flight`"), "{length}: {error}");
        }
    }

    #[test]
    fn nothing_under_way_is_no_state() {
        let owner = StateOwner::of(&context(0, 1));
        let mut snapshot = Snapshot::new(barrier(1));
        let empty = [channel(0, 3, &[])];
        assert_eq!(write(&mut snapshot, &owner, &["u64"], &empty), 0);
        assert!(snapshot.into_state().operators.is_empty());
    }
}
