//! How a function says which state it keeps.

use std::ops::{Deref, DerefMut};

use crate::operator::groups::range;
use crate::operator::{AggregateFunction, OperatorContext};
use crate::record::Record;
use crate::state::keyed::{Column, Declared};
use crate::state::list::Lists;
use crate::state::map::Maps;
use crate::state::value::Values;
use crate::state::{
    AggregatingState, ListState, MapState, OperatorStates, ReducingState, StateTtl, ValueState,
};

/// The states of a keyed function, which it declares when it is made for a subtask. Names are unique for the function; keyed states have names
/// of their own, apart from the states of the whole operator, which are declared through this too ([`OperatorStates`]). Flink:
/// `RuntimeContext.getState` and its like.
pub struct States {
    groups: usize,
    declared: Vec<Declared>,
    operator: OperatorStates,
}

impl States {
    /// Those of an operator's subtask.
    pub(crate) fn of(context: &OperatorContext, operator: OperatorStates) -> Self {
        Self {
            groups: range(context).count(),
            declared: Vec::new(),
            operator,
        }
    }

    pub(crate) fn into_parts(self) -> (Vec<Declared>, OperatorStates) {
        (self.declared, self.operator)
    }

    fn declare(&mut self, name: &str, column: impl Column) -> u32 {
        assert!(
            self.declared.iter().all(|state| state.name != name),
            "the state `{name}` is declared twice: give each state of a function a name of its own"
        );
        self.declared
            .push(Declared::new(name.to_owned(), Box::new(column)));
        self.declared.len() as u32 - 1
    }

    const fn forever(&mut self) -> WithTtl<'_> {
        WithTtl {
            states: self,
            ttl: None,
        }
    }

    /// Has the states that are declared through what this returns expire.
    pub const fn with_ttl(&mut self, ttl: StateTtl) -> WithTtl<'_> {
        WithTtl {
            states: self,
            ttl: Some(ttl),
        }
    }

    /// A value for each key.
    ///
    /// # Panics
    /// If the function has a state of this name already; so it is with all states.
    pub fn value<V: Record>(&mut self, name: &str) -> ValueState<V> {
        self.forever().value(name)
    }

    /// A list for each key.
    pub fn list<V: Record>(&mut self, name: &str) -> ListState<V> {
        self.forever().list(name)
    }

    /// An ordered map for each key.
    pub fn map<M: Record + Ord, V: Record>(&mut self, name: &str) -> MapState<M, V> {
        self.forever().map(name)
    }

    /// A value for each key that records are combined into.
    pub fn reducing<V: Record>(
        &mut self,
        name: &str,
        function: impl Fn(V, V) -> V + 'static,
    ) -> ReducingState<V> {
        self.forever().reducing(name, function)
    }

    /// An accumulator for each key.
    pub fn aggregating<T, A: AggregateFunction<T>>(
        &mut self,
        name: &str,
        function: A,
    ) -> AggregatingState<T, A> {
        self.forever().aggregating(name, function)
    }
}

impl Deref for States {
    type Target = OperatorStates;

    fn deref(&self) -> &OperatorStates {
        &self.operator
    }
}

impl DerefMut for States {
    fn deref_mut(&mut self) -> &mut OperatorStates {
        &mut self.operator
    }
}

/// Declares states that expire: [`States::with_ttl`].
pub struct WithTtl<'a> {
    states: &'a mut States,
    ttl: Option<StateTtl>,
}

impl WithTtl<'_> {
    /// A value for each key.
    pub fn value<V: Record>(&mut self, name: &str) -> ValueState<V> {
        let values = Values::<V>::new(self.states.groups, self.ttl);
        ValueState::new(self.states.declare(name, values))
    }

    /// A list for each key, whose entries expire one by one.
    pub fn list<V: Record>(&mut self, name: &str) -> ListState<V> {
        let lists = Lists::<V>::new(self.states.groups, self.ttl);
        ListState::new(self.states.declare(name, lists))
    }

    /// An ordered map for each key, whose entries expire one by one.
    pub fn map<M: Record + Ord, V: Record>(&mut self, name: &str) -> MapState<M, V> {
        let maps = Maps::<M, V>::new(self.states.groups, self.ttl);
        MapState::new(self.states.declare(name, maps))
    }

    /// A value for each key that records are combined into.
    pub fn reducing<V: Record>(
        &mut self,
        name: &str,
        function: impl Fn(V, V) -> V + 'static,
    ) -> ReducingState<V> {
        let values = Values::<V>::new(self.states.groups, self.ttl);
        ReducingState::new(self.states.declare(name, values), function)
    }

    /// An accumulator for each key.
    pub fn aggregating<T, A: AggregateFunction<T>>(
        &mut self,
        name: &str,
        function: A,
    ) -> AggregatingState<T, A> {
        let values = Values::<A::Accumulator>::new(self.states.groups, self.ttl);
        AggregatingState::new(self.states.declare(name, values), function)
    }
}
