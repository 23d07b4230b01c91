//! When a part file is closed and the next one begun.

use std::time::{Duration, Instant};

/// When a part file is full, so that its subtask goes on with another. Flink: `DefaultRollingPolicy`.
///
/// A part file is closed at each checkpoint in any case, as by Flink's `OnCheckpointRollingPolicy`; this says when there are to be more of
/// them. They become visible with the checkpoint, however many there are: so a job that takes checkpoints seldom, or never, can have files of the
/// size that their readers like.
///
/// ```
/// use std::time::Duration;
/// use spindle_stream::connectors::file::{FileSink, RollingPolicy};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let uri = format!("file://{}/out", directory.path().display());
/// # let output = directory.path().join("out");
/// let policy = RollingPolicy::default().part_size(1 << 10).rollover_interval(Duration::from_secs(15 * 60));
/// let mut harness = spindle_stream::testing::Harness::new(1);
/// harness.env().generate(2000, |n| n).sink_to(FileSink::text(uri).rolling(policy));
/// harness.run().unwrap();
/// // A batch of 512 lines has more than 1 KiB.
/// let parts = std::fs::read_dir(output).unwrap().filter(|part| {
///     part.as_ref().unwrap().file_name().to_string_lossy().starts_with("part-00000")
/// });
/// assert_eq!(parts.count(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingPolicy {
    part_size: Option<u64>,
    rollover_interval: Option<Duration>,
    inactivity_interval: Option<Duration>,
}

impl Default for RollingPolicy {
    /// That of Flink's builder: 128 MiB, a minute since the first record, a minute since the last one.
    fn default() -> Self {
        Self {
            part_size: Some(128 << 20),
            rollover_interval: Some(Duration::from_secs(60)),
            inactivity_interval: Some(Duration::from_secs(60)),
        }
    }
}

impl RollingPolicy {
    /// At checkpoints and at no other time. Flink: `OnCheckpointRollingPolicy`.
    pub const fn on_checkpoint() -> Self {
        Self {
            part_size: None,
            rollover_interval: None,
            inactivity_interval: None,
        }
    }

    /// A part file that has this many bytes, as they are written, gets no more: some may have a batch of records more than that.
    #[must_use]
    pub const fn part_size(mut self, bytes: u64) -> Self {
        self.part_size = Some(bytes);
        self
    }

    /// A part file gets no record that comes later than this after its first one.
    #[must_use]
    pub const fn rollover_interval(mut self, interval: Duration) -> Self {
        self.rollover_interval = Some(interval);
        self
    }

    /// A part file gets no record that comes later than this after the one before.
    #[must_use]
    pub const fn inactivity_interval(mut self, interval: Duration) -> Self {
        self.inactivity_interval = Some(interval);
        self
    }

    const fn has_time(&self) -> bool {
        self.rollover_interval.is_some() || self.inactivity_interval.is_some()
    }
}

/// What the policy has to know of the open file.
#[derive(Debug)]
pub(super) struct Rolling {
    policy: RollingPolicy,
    /// When the first and the last record came, if any did, and if that matters.
    times: Option<(Instant, Instant)>,
}

impl Rolling {
    pub(super) const fn by(policy: RollingPolicy) -> Self {
        Self {
            policy,
            times: None,
        }
    }

    /// A file is closed: the next record is the first of the next.
    pub(super) const fn reset(&mut self) {
        self.times = None;
    }

    /// Records come for the open file. Whether they have to go into another.
    pub(super) fn is_old(&self, now: impl FnOnce() -> Instant) -> bool {
        let Some((first, last)) = self.times else {
            return false;
        };
        let now = now();
        let over = |limit: Option<Duration>, since: Instant| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) > limit)
        };
        over(self.policy.rollover_interval, first) || over(self.policy.inactivity_interval, last)
    }

    /// Records went into the open file.
    pub(super) fn wrote(&mut self, now: impl FnOnce() -> Instant) {
        if self.policy.has_time() {
            let now = now();
            self.times = Some((self.times.map_or(now, |(first, _)| first), now));
        }
    }

    /// Whether a file of so many bytes is full.
    pub(super) fn is_full(&self, bytes: impl FnOnce() -> u64) -> bool {
        self.policy.part_size.is_some_and(|limit| bytes() >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_file_is_old_some_time_after_its_first_record_or_after_its_last() {
        let begun = Instant::now();
        let at = |seconds: u32| move || begun + SECOND * seconds;
        let policy = RollingPolicy::on_checkpoint()
            .rollover_interval(SECOND * 10)
            .inactivity_interval(SECOND * 4);
        let mut rolling = Rolling::by(policy);
        assert!(!rolling.is_old(at(99)), "it has no record");
        rolling.wrote(at(100));
        rolling.wrote(at(103));
        assert!(!rolling.is_old(at(107)));
        assert!(rolling.is_old(at(108)), "nothing came for long");
        rolling.wrote(at(107));
        assert!(!rolling.is_old(at(110)));
        assert!(rolling.is_old(at(111)), "it is open for long");
        rolling.reset();
        assert!(!rolling.is_old(at(200)));
    }

    #[test]
    fn a_file_is_full_at_its_size_and_only_where_there_is_one() {
        let by = |policy: RollingPolicy, bytes| Rolling::by(policy).is_full(|| bytes);
        let policy = RollingPolicy::on_checkpoint();
        assert!(!by(policy, u64::MAX));
        assert!(!by(policy.part_size(10), 9));
        assert!(by(policy.part_size(10), 10));
        let mut untimed = Rolling::by(policy);
        untimed.wrote(|| unreachable!("nobody asks for the time"));
        assert!(!untimed.is_old(|| unreachable!("nor now")));
    }
}
