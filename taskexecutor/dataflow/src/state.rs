//! Keyed and operator state in memory.
//!
//! ```text
//! key group ── key table: key → slot, slot → key
//! state ────── key group ── column: slot → value, list or map
//! timers ───── key group ── slot → times
//! ```
//! A record's key is looked up once, whatever the number of states: a state is then reached by group and slot. A slot whose states are all
//! cleared, and which has no timers, is given to the next new key. Everything is plain data by key group, for a snapshot to walk.
//!
//! States are declared when a function is made, and reached through handles and the context of a call:
//!
//! ```
//! use spindle_dataflow::operator::{FunctionResult, KeyedContext};
//! use spindle_dataflow::state::States;
//!
//! fn running_maximum(states: &mut States) -> impl FnMut(u64, &mut KeyedContext<'_, String, u64>) -> FunctionResult {
//!     let largest = states.value::<u64>("largest");
//!     move |n, ctx| {
//!         if largest.get(ctx).is_none_or(|largest| n > *largest) {
//!             largest.set(ctx, n);
//!             ctx.emit(n);
//!         }
//!         Ok(())
//!     }
//! }
//! ```

mod declare;
mod fold;
mod keyed;
mod list;
mod map;
mod operator;
pub(crate) mod pages;
mod residence;
pub mod store;
pub(crate) mod table;
mod ttl;
mod value;

pub use declare::{States, WithTtl};
pub use fold::{AggregatingState, ReducingState};
pub(crate) use keyed::{Keyed, KeyedStore};
pub use list::ListState;
pub use map::MapState;
pub use operator::{BroadcastState, OperatorList, OperatorStates, Redistribution};
pub(crate) use operator::{FOREIGN, OperatorStateStore};
pub use ttl::{StateTtl, Update, Visibility};
pub use value::ValueState;

/// Where a key's state is: which of the subtask's key groups, from 0, and the slot in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) slot: u32,
}
