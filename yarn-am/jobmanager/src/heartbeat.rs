//! Who was heard of when, and who has been silent for too long. Flink: `HeartbeatManager`.

use std::collections::BTreeMap;
use std::time::Duration;

use spindle_common::time::MonoTime;

/// Watches over peers that should be heard of regularly.
#[derive(Debug)]
pub(crate) struct HeartbeatMonitor<K> {
    timeout: Duration,
    heard: BTreeMap<K, MonoTime>,
}

impl<K: Ord + Clone> HeartbeatMonitor<K> {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            heard: BTreeMap::new(),
        }
    }

    /// The peer gave a sign of life; from the first one on it is watched.
    pub(crate) fn heard(&mut self, peer: &K, now: MonoTime) {
        if let Some(at) = self.heard.get_mut(peer) {
            *at = now;
        } else {
            self.heard.insert(peer.clone(), now);
        }
    }

    pub(crate) fn forget(&mut self, peer: &K) {
        self.heard.remove(peer);
    }

    pub(crate) fn last(&self, peer: &K) -> Option<MonoTime> {
        self.heard.get(peer).copied()
    }

    pub(crate) fn silent(&self, now: MonoTime) -> Vec<K> {
        self.heard
            .iter()
            .filter(|(_, at)| **at + self.timeout <= now)
            .map(|(peer, _)| peer.clone())
            .collect()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.heard.values().min().map(|at| *at + self.timeout)
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
