//! The one place where a clock is read.

use std::time::{SystemTime, UNIX_EPOCH};

use spindle_common::time::MonoTime;
use tokio::time::Instant;

/// Time since the start of this process, and what that is on the calendar. The calendar is looked at once, so it never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    start_epoch_ms: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now(),
            start_epoch_ms: epoch.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
        }
    }

    /// The time.
    pub fn now(&self) -> MonoTime {
        MonoTime::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A time in milliseconds since 1970-01-01T00:00:00Z.
    pub const fn epoch_ms(&self, time: MonoTime) -> u64 {
        self.start_epoch_ms + time.as_millis()
    }

    pub(crate) fn instant(&self, time: MonoTime) -> Instant {
        self.start + time.since(MonoTime::ZERO)
    }

    #[cfg(test)]
    pub(crate) fn fixed(start_epoch_ms: u64) -> Self {
        Self {
            start: Instant::now(),
            start_epoch_ms,
        }
    }
}
