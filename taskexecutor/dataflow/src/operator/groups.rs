//! The key groups of one subtask: what it keeps of each.

use std::ops::RangeInclusive;

use spindle_common::key_group::{key_group, key_groups_of};

use crate::connector::OperatorError;
use crate::operator::OperatorContext;

/// The key groups of one subtask.
pub(crate) struct Groups<G> {
    first: u32,
    max_parallelism: u32,
    groups: Vec<G>,
}

/// The key groups that belong to an operator's subtask.
pub(crate) fn range(context: &OperatorContext) -> RangeInclusive<u32> {
    key_groups_of(
        context.subtask,
        context.parallelism,
        context.max_parallelism,
    )
}

impl<G: Default> Groups<G> {
    pub(crate) fn of(context: &OperatorContext) -> Self {
        let range = range(context);
        Self {
            first: *range.start(),
            max_parallelism: context.max_parallelism,
            groups: range.map(|_| G::default()).collect(),
        }
    }

    /// Number of key groups.
    pub(crate) const fn len(&self) -> usize {
        self.groups.len()
    }

    /// The place of a key hash's group.
    #[inline]
    pub(crate) fn place(&self, hash: u64) -> Result<usize, OperatorError> {
        let group = key_group(hash, self.max_parallelism).0;
        let place = group.wrapping_sub(self.first) as usize;
        if place < self.groups.len() {
            Ok(place)
        } else {
            Err(OperatorError::permanent(format!(
                "got a record of key group {group}, which another subtask owns: the key is not the same in all processes"
            )))
        }
    }

    /// What is kept of the group in this place.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> &G {
        &self.groups[place]
    }

    /// What is kept of each, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &G> {
        self.groups.iter()
    }

    #[inline]
    pub(crate) fn at(&mut self, place: usize) -> &mut G {
        &mut self.groups[place]
    }
}
