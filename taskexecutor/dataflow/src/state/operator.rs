//! State of an operator's subtask, whatever the key.

use std::any::{Any, type_name};
use std::collections::BTreeMap;
use std::marker::PhantomData;

use spindle_common::checkpoint::Distribution;

use crate::codec::Malformed;
use crate::operator::{BroadcastContext, ProcessContext};
use crate::record::Record;
use crate::snapshot::{Restored, Snapshot, StateOwner, from_bytes, schema, to_bytes};
use crate::task::TaskError;

/// Who gets which part of an operator's state when its parallelism changes. Flink: `OperatorStateHandle.Mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Redistribution {
    /// The entries of all subtasks are dealt out: each goes to one.
    Split,
    /// Each subtask gets the entries of all.
    Union,
    /// All subtasks have the same, and each gets it.
    Broadcast,
}

struct Declared {
    name: String,
    redistribution: Redistribution,
    /// What [`Self::content`] holds, in words.
    schema: String,
    /// A `Vec<T>` or a `BTreeMap<K, V>`.
    content: Box<dyn Content>,
}

/// The entries of a state, each of which can be written by itself.
trait Content: Any {
    fn entries(&self) -> Vec<Result<Vec<u8>, Malformed>>;

    fn restore(&mut self, entries: &[&[u8]]) -> Result<(), Malformed>;
}

impl<T: Record> Content for Vec<T> {
    fn entries(&self) -> Vec<Result<Vec<u8>, Malformed>> {
        self.iter().map(to_bytes).collect()
    }

    fn restore(&mut self, entries: &[&[u8]]) -> Result<(), Malformed> {
        *self = entries
            .iter()
            .copied()
            .map(from_bytes)
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl<M: Record + Ord, V: Record> Content for BTreeMap<M, V> {
    fn entries(&self) -> Vec<Result<Vec<u8>, Malformed>> {
        self.iter().map(|entry| to_bytes(&entry)).collect()
    }

    fn restore(&mut self, entries: &[&[u8]]) -> Result<(), Malformed> {
        *self = entries
            .iter()
            .copied()
            .map(from_bytes)
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Redistribution {
    const fn distribution(self) -> Distribution {
        match self {
            Self::Split => Distribution::Split,
            Self::Union => Distribution::Union,
            Self::Broadcast => Distribution::Broadcast,
        }
    }
}

/// The states of an operator's subtask.
pub(crate) struct OperatorStateStore {
    states: Vec<Declared>,
}

impl OperatorStateStore {
    fn content<C: 'static>(&self, index: u32) -> &C {
        let state = self.states.get(index as usize);
        let content = state.and_then(|state| {
            let content: &dyn Any = &*state.content;
            content.downcast_ref()
        });
        content.expect(FOREIGN)
    }

    fn content_mut<C: 'static>(&mut self, index: u32) -> &mut C {
        let state = self.states.get_mut(index as usize);
        let content = state.and_then(|state| {
            let content: &mut dyn Any = &mut *state.content;
            content.downcast_mut()
        });
        content.expect(FOREIGN)
    }

    pub(crate) fn write(&self, owner: &StateOwner, into: &mut Snapshot) -> Result<(), TaskError> {
        for state in &self.states {
            let how = state.redistribution.distribution();
            let entries = state.content.entries();
            into.list(
                owner,
                &state.name,
                how,
                state.schema.clone(),
                entries.into_iter(),
            )?;
        }
        Ok(())
    }

    /// Takes what [`Self::write`] wrote. States that are declared now and were not then begin empty.
    pub(crate) fn read(&mut self, owner: &StateOwner, from: &Restored) -> Result<(), TaskError> {
        for state in &mut self.states {
            let how = state.redistribution.distribution();
            if let Some(entries) = from.list(owner, &state.name, how, &state.schema)? {
                let restored = state.content.restore(&entries);
                restored.map_err(|why| owner.unreadable(&state.name, &why))?;
            }
        }
        Ok(())
    }
}

pub(crate) const FOREIGN: &str = "a state is used in the function that declared it, not in another";

/// The states of the whole operator, which a function declares when it is made for a subtask. Names are unique for the operator. Flink:
/// `OperatorStateStore`.
pub struct OperatorStates {
    store: OperatorStateStore,
}

impl OperatorStates {
    pub(crate) const fn new() -> Self {
        let store = OperatorStateStore { states: Vec::new() };
        Self { store }
    }

    pub(crate) fn into_store(self) -> OperatorStateStore {
        self.store
    }

    /// The states so far: their names, and who gets which part of them.
    pub fn declared(&self) -> impl Iterator<Item = (&str, Redistribution)> {
        let states = self.store.states.iter();
        states.map(|state| (state.name.as_str(), state.redistribution))
    }

    fn declare(
        &mut self,
        name: &str,
        redistribution: Redistribution,
        schema: String,
        content: impl Content,
    ) -> u32 {
        let states = &mut self.store.states;
        assert!(
            states.iter().all(|state| state.name != name),
            "the operator state `{name}` is declared twice: give each state of an operator a name of its own"
        );
        states.push(Declared {
            name: name.to_owned(),
            redistribution,
            schema,
            content: Box::new(content),
        });
        states.len() as u32 - 1
    }

    /// A list, whose entries are dealt out among the subtasks when their number changes.
    ///
    /// # Panics
    /// If the operator has a state of this name already; so it is with all states.
    pub fn operator_list<T: Record>(&mut self, name: &str) -> OperatorList<T> {
        self.list(name, Redistribution::Split)
    }

    /// A list of which each subtask gets all entries of all subtasks when it is restored.
    pub fn union_list<T: Record>(&mut self, name: &str) -> OperatorList<T> {
        self.list(name, Redistribution::Union)
    }

    fn list<T: Record>(&mut self, name: &str, redistribution: Redistribution) -> OperatorList<T> {
        OperatorList {
            index: self.declare(
                name,
                redistribution,
                schema("operator list", &[type_name::<T>()]),
                Vec::<T>::new(),
            ),
            entries: PhantomData,
        }
    }

    /// A map that is the same in all subtasks: only the side that all subtasks get all records of can write it.
    pub fn broadcast<M: Record + Ord, V: Record>(&mut self, name: &str) -> BroadcastState<M, V> {
        let map = BTreeMap::<M, V>::new();
        BroadcastState {
            index: self.declare(
                name,
                Redistribution::Broadcast,
                schema("broadcast map", &[type_name::<M>(), type_name::<V>()]),
                map,
            ),
            entries: PhantomData,
        }
    }
}

/// A list of the operator. Flink: the `ListState` of an `OperatorStateStore`.
#[derive(Debug)]
pub struct OperatorList<T> {
    index: u32,
    entries: PhantomData<fn() -> T>,
}

impl<T> Clone for OperatorList<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OperatorList<T> {}

impl<T: Record> OperatorList<T> {
    /// Its entries.
    pub fn get<'c, O: 'static>(&self, ctx: &'c ProcessContext<'_, O>) -> &'c [T] {
        ctx.states.content::<Vec<T>>(self.index)
    }

    /// Its entries, to be changed.
    pub fn get_mut<'c, O: 'static>(&self, ctx: &'c mut ProcessContext<'_, O>) -> &'c mut Vec<T> {
        ctx.states.content_mut(self.index)
    }

    /// Appends an entry.
    pub fn push<O: 'static>(&self, ctx: &mut ProcessContext<'_, O>, entry: T) {
        self.get_mut(ctx).push(entry);
    }

    /// Removes all entries, and returns them.
    pub fn take<O: 'static>(&self, ctx: &mut ProcessContext<'_, O>) -> Vec<T> {
        std::mem::take(self.get_mut(ctx))
    }
}

/// An ordered map that is the same in all subtasks of an operator. Flink: `BroadcastState`.
#[derive(Debug)]
pub struct BroadcastState<M, V> {
    index: u32,
    entries: PhantomData<fn() -> (M, V)>,
}

impl<M, V> Clone for BroadcastState<M, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, V> Copy for BroadcastState<M, V> {}

impl<M: Record + Ord, V: Record> BroadcastState<M, V> {
    /// What is in it under `at`.
    pub fn get<'c, O: 'static>(&self, ctx: &'c ProcessContext<'_, O>, at: &M) -> Option<&'c V> {
        self.map(ctx).get(at)
    }

    /// Whether something is in it under `at`.
    pub fn contains<O: 'static>(&self, ctx: &ProcessContext<'_, O>, at: &M) -> bool {
        self.map(ctx).contains_key(at)
    }

    /// All of it, in order.
    pub fn iter<'c, O: 'static>(
        &self,
        ctx: &'c ProcessContext<'_, O>,
    ) -> impl Iterator<Item = (&'c M, &'c V)> + use<'c, O, M, V> {
        self.map(ctx).iter()
    }

    fn map<'c, O: 'static>(&self, ctx: &'c ProcessContext<'_, O>) -> &'c BTreeMap<M, V> {
        ctx.states.content(self.index)
    }

    fn map_mut<'c, O: 'static>(
        &self,
        ctx: &'c mut BroadcastContext<'_, O>,
    ) -> &'c mut BTreeMap<M, V> {
        ctx.states.content_mut(self.index)
    }

    /// Puts a value into it, and returns what was there.
    pub fn insert<O: 'static>(
        &self,
        ctx: &mut BroadcastContext<'_, O>,
        at: M,
        value: V,
    ) -> Option<V> {
        self.map_mut(ctx).insert(at, value)
    }

    /// Removes a value, and returns it.
    pub fn remove<O: 'static>(&self, ctx: &mut BroadcastContext<'_, O>, at: &M) -> Option<V> {
        self.map_mut(ctx).remove(at)
    }

    /// Removes all.
    pub fn clear<O: 'static>(&self, ctx: &mut BroadcastContext<'_, O>) {
        self.map_mut(ctx).clear();
    }
}
