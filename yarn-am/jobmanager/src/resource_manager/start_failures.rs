//! TaskManagers that did not come up: how many in a row, and which nodes to keep away from for it.

use std::time::Duration;

use spindle_common::id::NodeName;
use spindle_common::time::MonoTime;

#[derive(Debug)]
pub(crate) struct StartFailures {
    limit: u32,
    avoidance: Duration,
    /// Since the last success.
    count: u32,
    last_reason: String,
    /// With the time from which they may be asked for again, the oldest failure first.
    troubled: Vec<(NodeName, MonoTime)>,
}

impl StartFailures {
    pub(crate) const fn new(limit: u32, avoidance: Duration) -> Self {
        Self {
            limit,
            avoidance,
            count: 0,
            last_reason: String::new(),
            troubled: Vec::new(),
        }
    }

    pub(crate) fn failed(&mut self, now: MonoTime, node: &NodeName, reason: String) {
        self.count += 1;
        self.last_reason = reason;
        self.troubled.retain(|(troubled, _)| troubled != node);
        self.troubled.push((node.clone(), now + self.avoidance));
    }

    /// TaskManagers do start: what failed before does not count.
    pub(crate) const fn succeeded(&mut self) {
        self.count = 0;
    }

    /// If starts failed too often: how often, and why the last one did. Counting starts anew.
    pub(crate) fn take_exhausted(&mut self) -> Option<(u32, String)> {
        (self.count > self.limit).then(|| {
            (
                std::mem::take(&mut self.count),
                std::mem::take(&mut self.last_reason),
            )
        })
    }

    pub(crate) fn forget_old(&mut self, now: MonoTime) {
        self.troubled.retain(|(_, until)| *until > now);
    }

    pub(crate) fn troubled(&self) -> Vec<NodeName> {
        self.troubled.iter().map(|(node, _)| node.clone()).collect()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.troubled.iter().map(|(_, until)| *until).min()
    }
}
