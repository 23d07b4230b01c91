//! The jobs that are over: kept until they are too old or too many. Flink: `MemoryExecutionGraphInfoStore`.

use std::collections::VecDeque;
use std::time::Duration;

use spindle_common::id::JobId;
use spindle_common::time::MonoTime;

/// How many forgotten jobs are still known by their id, so that a late repetition does not run them again.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(crate) struct JobStore {
    capacity: usize,
    expiration: Duration,
    /// With the time of their end, the oldest first.
    kept: VecDeque<(MonoTime, JobId)>,
    forgotten: VecDeque<JobId>,
}

impl JobStore {
    pub(crate) const fn new(capacity: u32, expiration: Duration) -> Self {
        Self {
            capacity: capacity as usize,
            expiration,
            kept: VecDeque::new(),
            forgotten: VecDeque::new(),
        }
    }

    pub(crate) fn knows(&self, job: JobId) -> bool {
        self.kept.iter().any(|(_, kept)| *kept == job) || self.forgotten.contains(&job)
    }

    pub(crate) fn add(&mut self, now: MonoTime, job: JobId) {
        self.kept.push_back((now, job));
    }

    /// A job that is to be forgotten; to be called until there is none.
    pub(crate) fn take_old(&mut self, now: MonoTime) -> Option<JobId> {
        let &(ended, job) = self.kept.front()?;
        if self.kept.len() <= self.capacity && now < ended + self.expiration {
            return None;
        }
        self.kept.pop_front();
        self.forgotten.push_back(job);
        if self.forgotten.len() > REMEMBERED {
            self.forgotten.pop_front();
        }
        Some(job)
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let oldest = self.kept.front();
        oldest.map(|(ended, _)| *ended + self.expiration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_go_when_they_are_too_many_or_too_old_and_are_not_run_again() {
        let at = MonoTime::from_millis;
        let job = |n| JobId::from_bytes([n; 16]);
        let mut store = JobStore::new(2, Duration::from_secs(10));
        for n in 1..=3 {
            store.add(at(u64::from(n)), job(n));
        }
        assert_eq!(store.take_old(at(3)), Some(job(1)));
        assert_eq!(store.take_old(at(10_001)), None);
        assert_eq!(store.deadline(), Some(at(10_002)));
        assert_eq!(store.take_old(at(10_002)), Some(job(2)));
        assert_eq!(store.take_old(at(10_002)), None);
        assert!((1..=3).all(|n| store.knows(job(n))));
        assert!(!store.knows(job(4)));
    }
}
