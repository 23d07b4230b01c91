//! How long state lives.

use std::cell::Cell;
use std::time::Duration;

/// How long a state's values, or the entries of a list or a map, live after they were written. Flink: `StateTtlConfig`.
///
/// By processing time, as of the batch of records that is being worked on. What has expired is removed little by little, some keys with each
/// batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTtl {
    pub(crate) after_ms: i64,
    pub(crate) update: Update,
    pub(crate) visibility: Visibility,
}

/// What begins a value's life anew. Flink: `StateTtlConfig.UpdateType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// That it is written.
    OnCreateAndWrite,
    /// That it is written or read.
    OnReadAndWrite,
}

/// Whether what has expired can be seen. Flink: `StateTtlConfig.StateVisibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Never.
    NeverReturnExpired,
    /// As long as it is not removed.
    ReturnExpiredIfNotCleanedUp,
}

impl StateTtl {
    /// Expires this long after the last write, and is never seen again.
    pub fn after(time: Duration) -> Self {
        Self {
            after_ms: i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            update: Update::OnCreateAndWrite,
            visibility: Visibility::NeverReturnExpired,
        }
    }

    /// What begins a life anew.
    #[must_use]
    pub const fn update(self, update: Update) -> Self {
        Self { update, ..self }
    }

    /// Whether what has expired can be seen.
    #[must_use]
    pub const fn visibility(self, visibility: Visibility) -> Self {
        Self { visibility, ..self }
    }

    /// Whether what was written then is over now. Flink counts the last instant as over, too.
    pub(crate) const fn expired(&self, stamp: i64, now: i64) -> bool {
        stamp.saturating_add(self.after_ms) <= now
    }

    /// Whether reading is what something lives on from.
    pub(crate) const fn changes_when_read(self) -> bool {
        match self.update {
            Update::OnCreateAndWrite => false,
            Update::OnReadAndWrite => true,
        }
    }

    /// Whether what was written then can be read now; if so, and reading counts, it lives on from now.
    #[inline]
    pub(crate) fn read(&self, stamp: &Cell<i64>, now: i64) -> bool {
        if self.expired(stamp.get(), now) {
            return match self.visibility {
                Visibility::NeverReturnExpired => false,
                Visibility::ReturnExpiredIfNotCleanedUp => true,
            };
        }
        match self.update {
            Update::OnCreateAndWrite => {}
            Update::OnReadAndWrite => stamp.set(now),
        }
        true
    }
}

/// The kind of a state, and whether each of its entries has the time beside it at which it was written.
pub(crate) const fn kind(kind: &'static str, ttl: Option<StateTtl>) -> &'static str {
    match (ttl, kind.as_bytes()) {
        (None, _) => kind,
        (Some(_), b"value") => "expiring value",
        (Some(_), b"list") => "expiring list",
        (Some(_), _) => "expiring map",
    }
}
