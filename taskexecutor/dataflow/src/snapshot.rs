//! What the operators of a chain write at a barrier, and what they begin with.
//!
//! Every operator that keeps something writes it under its uid ([`Snapshot`]) and takes it back after it was made ([`Restored`]), both through
//! [`Control`](crate::collector::Control). A state is a list of chunks of bytes: one for each key group that has keys, or one for the subtask.
//!
//! ```text
//! keyed state      chunk of a key group:   key, what the state has for it · key, … · …
//! list             chunk of a subtask:     length: u32, element · length, element · …
//! progress         chunk of a subtask:     one value, such as the watermark so far
//! ```
//! Keys, values and elements are what [`crate::codec`] makes of them. Whether bytes are those of a state is said by its schema: the kind of
//! state and the names of the types in it.

use std::any::type_name;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use spindle_common::checkpoint::{
    CheckpointBarrier, Distribution, OperatorSnapshot, StateChunk, StateSnapshot, SubtaskSnapshot,
};
use spindle_common::key_group::key_groups_of;
use spindle_common::time::{EventTime, Watermark};

use crate::codec::{self, Malformed};
use crate::connector::OperatorError;
use crate::operator::OperatorContext;
use crate::task::TaskError;

mod stored;
#[cfg(test)]
mod tests;

use stored::Later;
pub use stored::{Content, FrozenFile, STORE};

/// Which operator of which subtask has state.
#[derive(Debug, Clone)]
pub struct StateOwner {
    uid: Arc<str>,
    name: Arc<str>,
    subtask: u32,
    parallelism: u32,
    max_parallelism: u32,
}

impl StateOwner {
    /// The operator of this context.
    pub fn of(context: &OperatorContext) -> Self {
        Self {
            uid: Arc::clone(&context.uid),
            name: Arc::clone(&context.name),
            subtask: context.subtask,
            parallelism: context.parallelism,
            max_parallelism: context.max_parallelism,
        }
    }

    /// The operator's name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it has this uid.
    pub(crate) fn is(&self, uid: &str) -> bool {
        *self.uid == *uid
    }

    /// Which subtask.
    pub(crate) const fn subtask(&self) -> u32 {
        self.subtask
    }

    /// How many subtasks there are.
    pub(crate) const fn parallelism(&self) -> u32 {
        self.parallelism
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    pub(crate) const fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// The key groups of the subtask.
    pub(crate) fn groups(&self) -> RangeInclusive<u32> {
        key_groups_of(self.subtask, self.parallelism, self.max_parallelism)
    }

    /// A state's bytes are none of it.
    pub(crate) fn unreadable(&self, state: &str, why: &Malformed) -> TaskError {
        self.failed("restore", state, why)
    }

    /// A state has no bytes.
    pub(crate) fn unwritable(&self, state: &str, why: &Malformed) -> TaskError {
        self.failed("write", state, why)
    }

    /// A state in the snapshot is another one than the program's.
    pub(crate) fn other_schema(&self, state: &str, had: &str, now: &str) -> TaskError {
        let why = format!(
            "the snapshot has {had} there, and the program {now}: give the new state another name, or restore with the program that \
             wrote it"
        );
        self.failed("restore", state, why)
    }

    fn failed(&self, doing: &str, state: &str, why: impl std::fmt::Display) -> TaskError {
        let uid = &self.uid;
        OperatorError::permanent(format!(
            "cannot {doing} state `{state}` of operator `{uid}`: {why}"
        ))
        .of(&self.name)
    }
}

/// What a state is made of, in words that are equal exactly if its bytes can be read.
pub(crate) fn schema(kind: &str, types: &[&str]) -> String {
    format!("{kind}<{}>", types.join(", "))
}

/// What the operators of a chain write at a barrier.
#[derive(Debug)]
pub struct Snapshot {
    barrier: CheckpointBarrier,
    state: SubtaskSnapshot<Content>,
    refusal: Option<String>,
}

impl Snapshot {
    /// The snapshot that belongs to a barrier, with nothing in it.
    pub fn new(barrier: CheckpointBarrier) -> Self {
        Self {
            barrier,
            state: SubtaskSnapshot::default(),
            refusal: None,
        }
    }

    /// What a subtask writes that has read and handed on all that there was.
    pub fn of_finished(barrier: CheckpointBarrier) -> Self {
        Self {
            barrier,
            state: SubtaskSnapshot::of_finished(),
            refusal: None,
        }
    }

    /// The task cannot be part of this: why.
    pub fn refuse(&mut self, reason: String) {
        self.refusal.get_or_insert(reason);
    }

    /// Why the task cannot be part of this, if it cannot.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The barrier at which it is written.
    pub const fn barrier(&self) -> &CheckpointBarrier {
        &self.barrier
    }

    /// All that was written.
    pub fn into_state(self) -> SubtaskSnapshot<Content> {
        self.state
    }

    fn add(&mut self, owner: &StateOwner, state: StateSnapshot<Content>) {
        let operators = &mut self.state.operators;
        // Nearly always the last.
        let known = operators.iter_mut().rev();
        match known.into_iter().find(|known| *known.uid == *owner.uid) {
            Some(known) => known.states.push(state),
            None => operators.push(OperatorSnapshot {
                uid: owner.uid.to_string(),
                states: vec![state],
            }),
        }
    }

    /// Writes what was under way to the subtask.
    pub(crate) fn in_flight(
        &mut self,
        owner: &StateOwner,
        name: &str,
        schema: String,
        entries: u64,
        content: Vec<u8>,
    ) {
        let chunk = StateChunk {
            index: owner.subtask,
            entries,
            content: Content::Bytes(content),
        };
        let state = StateSnapshot {
            name: name.to_owned(),
            distribution: Distribution::InFlight,
            schema,
            chunks: vec![chunk],
        };
        self.add(owner, state);
    }

    /// Writes a state by key. `write` appends what it has of the key group in a place, counted from the subtask's first, and returns the
    /// number of entries.
    pub(crate) fn keyed(
        &mut self,
        owner: &StateOwner,
        name: &str,
        schema: String,
        mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<u64, Malformed>,
    ) -> Result<(), TaskError> {
        let mut chunks = Vec::new();
        for (place, group) in owner.groups().enumerate() {
            let mut content = Vec::new();
            let entries =
                write(place, &mut content).map_err(|why| owner.failed("write", name, why))?;
            if entries > 0 {
                chunks.push(StateChunk {
                    index: group,
                    entries,
                    content: Content::Bytes(content),
                });
            }
        }
        self.add_keyed(owner, name, schema, chunks);
        Ok(())
    }

    /// Writes a state by key that is shared now and written later. `share` gives the number of entries of the key group in a place, counted
    /// from the subtask's first, and what appends them.
    pub(crate) fn keyed_later<W>(
        &mut self,
        owner: &StateOwner,
        name: &str,
        schema: String,
        mut share: impl FnMut(usize) -> (u64, W),
    ) where
        W: FnOnce(&mut Vec<u8>) -> Result<(), Malformed> + Send + 'static,
    {
        let named: Arc<str> = Arc::from(name);
        let mut chunks = Vec::new();
        for (place, group) in owner.groups().enumerate() {
            let (entries, write) = share(place);
            if entries == 0 {
                continue;
            }
            let (owner, name) = (owner.clone(), Arc::clone(&named));
            let make = move || {
                let mut content = Vec::new();
                write(&mut content).map_err(|why| owner.failed("write", &name, why))?;
                Ok(content)
            };
            chunks.push(StateChunk {
                index: group,
                entries,
                content: Content::Later(Later(Box::new(make))),
            });
        }
        self.add_keyed(owner, name, schema, chunks);
    }

    fn add_keyed(
        &mut self,
        owner: &StateOwner,
        name: &str,
        schema: String,
        chunks: Vec<StateChunk<Content>>,
    ) {
        self.add(
            owner,
            StateSnapshot {
                name: name.to_owned(),
                distribution: Distribution::KeyGroup,
                schema,
                chunks,
            },
        );
    }

    /// Writes elements that belong to no key.
    pub(crate) fn list(
        &mut self,
        owner: &StateOwner,
        name: &str,
        distribution: Distribution,
        schema: String,
        elements: impl Iterator<Item = Result<Vec<u8>, Malformed>>,
    ) -> Result<(), TaskError> {
        let mut content = Vec::new();
        let mut entries = 0;
        for element in elements {
            let element = element.map_err(|why| owner.failed("write", name, why))?;
            let length = u32::try_from(element.len())
                .map_err(|_| owner.failed("write", name, Malformed::Length(element.len())))?;
            content.extend_from_slice(&length.to_le_bytes());
            content.extend_from_slice(&element);
            entries += 1;
        }
        let chunk = StateChunk {
            index: owner.subtask,
            entries,
            content: Content::Bytes(content),
        };
        self.add(
            owner,
            StateSnapshot {
                name: name.to_owned(),
                distribution,
                schema,
                chunks: vec![chunk],
            },
        );
        Ok(())
    }

    /// Writes how far the subtask has come: one value.
    pub(crate) fn progress<T: Serialize>(
        &mut self,
        owner: &StateOwner,
        name: &str,
        value: &T,
    ) -> Result<(), TaskError> {
        let element = to_bytes(value);
        let schema = schema("progress", &[type_name::<T>()]);
        self.list(
            owner,
            name,
            Distribution::Union,
            schema,
            std::iter::once(element),
        )
    }
}

/// The bytes of a value.
pub(crate) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    Ok(bytes)
}

/// The value that these bytes are, all of them.
pub(crate) fn from_bytes<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, Malformed> {
    let value = codec::decode(&mut bytes)?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(Malformed::Length(bytes.len()))
    }
}

/// What the operators of a chain begin with.
#[derive(Debug)]
pub struct Restored {
    state: SubtaskSnapshot<Vec<u8>>,
}

impl Restored {
    /// This state, of which the subtask has what [`spindle_common::checkpoint::TaskRestore`] says.
    pub const fn new(state: SubtaskSnapshot<Vec<u8>>) -> Self {
        Self { state }
    }

    /// Whether the subtask had finished: then its sources read nothing, and its operators are not told of the end of their input again.
    pub const fn is_finished(&self) -> bool {
        self.state.finished
    }

    /// A state of an operator; none if it was not there when the snapshot was taken.
    pub(crate) fn state(
        &self,
        owner: &StateOwner,
        name: &str,
        distribution: Distribution,
        schema: &str,
    ) -> Result<Option<&StateSnapshot<Vec<u8>>>, TaskError> {
        let of_operator = self.state.operators.iter().filter(|o| *o.uid == *owner.uid);
        let mut states = of_operator.flat_map(|operator| &operator.states);
        let Some(state) = states.find(|state| state.name == name) else {
            return Ok(None);
        };
        if state.distribution != distribution || state.schema != schema {
            return Err(owner.other_schema(name, &state.schema, schema));
        }
        Ok(Some(state))
    }

    /// Hands each chunk of a state by key to `read`, with the place of its key group, counted from the subtask's first. `read` takes
    /// one entry from the bytes.
    pub(crate) fn keyed(
        &self,
        owner: &StateOwner,
        name: &str,
        schema: &str,
        mut read: impl FnMut(usize, &mut &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), TaskError> {
        let groups = owner.groups();
        let state = self.state(owner, name, Distribution::KeyGroup, schema)?;
        for chunk in state.into_iter().flat_map(|state| &state.chunks) {
            if !groups.contains(&chunk.index) {
                continue;
            }
            let place = (chunk.index - groups.start()) as usize;
            let mut bytes = &chunk.content[..];
            let mut entries = || {
                (0..chunk.entries).try_for_each(|_| read(place, &mut bytes))?;
                if bytes.is_empty() {
                    Ok(())
                } else {
                    Err(Malformed::Length(bytes.len()))
                }
            };
            entries().map_err(|why| {
                owner.failed("restore", name, format!("key group {}: {why}", chunk.index))
            })?;
        }
        Ok(())
    }

    /// The elements of a state without keys that are this subtask's; none if the state was not there.
    pub(crate) fn list(
        &self,
        owner: &StateOwner,
        name: &str,
        distribution: Distribution,
        schema: &str,
    ) -> Result<Option<Vec<&[u8]>>, TaskError> {
        let Some(state) = self.state(owner, name, distribution, schema)? else {
            return Ok(None);
        };
        let (own, parallelism) = (owner.subtask as usize, owner.parallelism as usize);
        let all = || -> Result<Vec<&[u8]>, Malformed> {
            let lists: Result<Vec<_>, _> = state.chunks.iter().map(elements).collect();
            let lists = lists?;
            Ok(match distribution {
                Distribution::Union => lists.concat(),
                Distribution::Broadcast => lists.into_iter().next().unwrap_or_default(),
                // Who was there keeps what it had.
                Distribution::Split if lists.len() == parallelism => lists[own].clone(),
                Distribution::Split => {
                    let all = lists.concat();
                    all.into_iter().skip(own).step_by(parallelism).collect()
                }
                Distribution::KeyGroup | Distribution::InFlight => Vec::new(),
            })
        };
        all()
            .map(Some)
            .map_err(|why| owner.failed("restore", name, why))
    }

    /// How far the subtask had come; where subtasks were more or fewer, how far all had.
    pub(crate) fn progress<T: Serialize + DeserializeOwned + Progress>(
        &self,
        owner: &StateOwner,
        name: &str,
    ) -> Result<Option<T>, TaskError> {
        let schema = schema("progress", &[type_name::<T>()]);
        let Some(state) = self.state(owner, name, Distribution::Union, &schema)? else {
            return Ok(None);
        };
        let value = |chunk: &StateChunk<Vec<u8>>| -> Result<Option<T>, Malformed> {
            let element = elements(chunk)?.into_iter().next();
            element.map(from_bytes).transpose()
        };
        let values: Result<Vec<Option<T>>, Malformed> = state.chunks.iter().map(value).collect();
        let mut values = values.map_err(|why| owner.failed("restore", name, why))?;
        // Of subtasks that had finished there are chunks without one.
        if values.len() == owner.parallelism as usize
            && let Some(own) = values[owner.subtask as usize].take()
        {
            return Ok(Some(own));
        }
        Ok(values.into_iter().flatten().reduce(Progress::least))
    }
}

/// How far a subtask has come.
pub(crate) trait Progress {
    /// How far both have come.
    fn least(self, other: Self) -> Self;
}

impl Progress for Watermark {
    fn least(self, other: Self) -> Self {
        self.min(other)
    }
}

/// None before the first.
impl Progress for Option<EventTime> {
    fn least(self, other: Self) -> Self {
        self.min(other)
    }
}

impl Progress for i64 {
    fn least(self, other: Self) -> Self {
        self.min(other)
    }
}

/// In one thing and in another: who has come least in the one may be ahead in the other.
impl<A: Progress, B: Progress> Progress for (A, B) {
    fn least(self, other: Self) -> Self {
        (self.0.least(other.0), self.1.least(other.1))
    }
}

fn elements(chunk: &StateChunk<Vec<u8>>) -> Result<Vec<&[u8]>, Malformed> {
    let mut rest = &chunk.content[..];
    let mut elements = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let element = behind
            .get(..length)
            .ok_or(Malformed::Truncated("element"))?;
        elements.push(element);
        rest = &behind[length..];
    }
    if rest.is_empty() && elements.len() as u64 == chunk.entries {
        Ok(elements)
    } else {
        Err(Malformed::Length(elements.len()))
    }
}
