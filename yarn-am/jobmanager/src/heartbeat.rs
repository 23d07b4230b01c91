//! Who was heard of when, and who has been silent for too long. Flink: `HeartbeatManager`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spindle_common::time::MonoTime;

/// Watches over peers that should be heard of regularly.
#[derive(Debug)]
pub(crate) struct HeartbeatMonitor<K> {
    timeout: Duration,
    heard: BTreeMap<K, MonoTime>,
    /// The same, the most silent first.
    by_time: BTreeSet<(MonoTime, K)>,
}

impl<K: Ord + Clone> HeartbeatMonitor<K> {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            heard: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// The peer gave a sign of life; from the first one on it is watched.
    pub(crate) fn heard(&mut self, peer: &K, now: MonoTime) {
        self.forget(peer);
        self.heard.insert(peer.clone(), now);
        self.by_time.insert((now, peer.clone()));
    }

    pub(crate) fn forget(&mut self, peer: &K) {
        if let Some((peer, at)) = self.heard.remove_entry(peer) {
            self.by_time.remove(&(at, peer));
        }
    }

    pub(crate) fn last(&self, peer: &K) -> Option<MonoTime> {
        self.heard.get(peer).copied()
    }

    pub(crate) fn silent(&self, now: MonoTime) -> Vec<K> {
        let silent = |at: MonoTime| at + self.timeout <= now;
        let by_time = self.by_time.iter();
        by_time
            .take_while(|(at, _)| silent(*at))
            .map(|(_, peer)| peer.clone())
            .collect()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.by_time.first().map(|(at, _)| *at + self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_for_the_whole_time_out_is_named_and_nobody_else() {
        let mut monitor = HeartbeatMonitor::new(Duration::from_secs(10));
        monitor.heard(&"a", MonoTime::from_millis(0));
        monitor.heard(&"b", MonoTime::from_millis(0));
        monitor.heard(&"b", MonoTime::from_millis(4000));
        assert_eq!(monitor.deadline(), Some(MonoTime::from_millis(10_000)));
        assert_eq!(monitor.silent(MonoTime::from_millis(9999)), [""; 0]);
        assert_eq!(monitor.silent(MonoTime::from_millis(10_000)), ["a"]);
        monitor.forget(&"a");
        assert_eq!(monitor.deadline(), Some(MonoTime::from_millis(14_000)));
        assert_eq!(monitor.last(&"a"), None);
    }
}
