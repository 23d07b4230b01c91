//! The times for which one key has timers.

use std::collections::BTreeMap;

/// Times of one key that are searched one by one. Where each record deletes one of a million timers and registers another, this did 1.8 M/s, a
/// map from the second time on 1.3.
const FEW: usize = 16;

/// Times, each with whether it lives: a deleted one stays until its entry in a list is gone. Most keys have none or one.
#[derive(Debug, Default)]
pub(super) enum Set {
    #[default]
    Empty,
    One(i64, bool),
    Few(Vec<(i64, bool)>),
    #[expect(
        clippy::box_collection,
        reason = "slots have a set each, nearly all of them small: it takes three words with the box, four without"
    )]
    Many(Box<BTreeMap<i64, bool>>),
}

pub(super) enum Inserted {
    New,
    /// It was deleted, and its entry is still in a list.
    Revived,
    Known,
}

impl Set {
    fn find(&mut self, time: i64) -> Option<&mut bool> {
        match self {
            Self::Empty => None,
            Self::One(only, live) => (*only == time).then_some(live),
            Self::Few(times) => times
                .iter_mut()
                .find_map(|(at, live)| (*at == time).then_some(live)),
            Self::Many(times) => times.get_mut(&time),
        }
    }

    pub(super) fn insert(&mut self, time: i64) -> Inserted {
        if let Some(live) = self.find(time) {
            return if std::mem::replace(live, true) {
                Inserted::Known
            } else {
                Inserted::Revived
            };
        }
        match self {
            Self::Empty => *self = Self::One(time, true),
            Self::One(only, live) => *self = Self::Few(vec![(*only, *live), (time, true)]),
            Self::Few(times) if times.len() < FEW => times.push((time, true)),
            Self::Few(times) => {
                let mut many: BTreeMap<_, _> = times.drain(..).collect();
                many.insert(time, true);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(times) => drop(times.insert(time, true)),
        }
        Inserted::New
    }

    /// Whether there was such a timer.
    pub(super) fn mark_deleted(&mut self, time: i64) -> bool {
        self.find(time)
            .is_some_and(|live| std::mem::replace(live, false))
    }

    /// Takes a time out, and tells whether it lived.
    pub(super) fn remove(&mut self, time: i64) -> bool {
        let (live, empty) = match self {
            Self::Empty => (None, false),
            Self::One(only, live) => ((*only == time).then_some(*live), *only == time),
            Self::Few(times) => {
                let at = times.iter().position(|(at, _)| *at == time);
                // Memory stays for the next ones, as long as there are some.
                (at.map(|at| times.swap_remove(at).1), times.is_empty())
            }
            Self::Many(times) => (times.remove(&time), times.is_empty()),
        };
        if empty {
            *self = Self::Empty;
        }
        live.unwrap_or(false)
    }

    /// Takes a time out if it is deleted, and tells whether it was.
    pub(super) fn remove_deleted(&mut self, time: i64) -> bool {
        let deleted = self.find(time).is_some_and(|live| !*live);
        if deleted {
            self.remove(time);
        }
        deleted
    }

    /// The times that live, ascending.
    pub(super) fn live(&self) -> Vec<i64> {
        let mut times: Vec<(i64, bool)> = match self {
            Self::Empty => Vec::new(),
            Self::One(only, live) => vec![(*only, *live)],
            Self::Few(times) => times.clone(),
            Self::Many(times) => times.iter().map(|(time, live)| (*time, *live)).collect(),
        };
        times.retain(|(_, live)| *live);
        times.sort_unstable();
        times.into_iter().map(|(time, _)| time).collect()
    }

    pub(super) fn has_live(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::One(_, live) => *live,
            Self::Few(times) => times.iter().any(|(_, live)| *live),
            Self::Many(times) => times.values().any(|live| *live),
        }
    }
}
