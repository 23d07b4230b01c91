//! TaskManagers that did not come up: how many in a row, how many a minute, and which nodes to keep away from for it.

use std::collections::VecDeque;
use std::time::Duration;

use spindle_common::id::NodeName;
use spindle_common::time::MonoTime;

use crate::config::JobManagerConfig;

/// The time that failures are counted over for their rate.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct StartFailures {
    limit: u32,
    avoidance: Duration,
    /// Failures a minute.
    rate: f64,
    retry_interval: Duration,
    /// Since the last success.
    count: u32,
    last_reason: String,
    /// Those of the last minute, the oldest first.
    recent: VecDeque<MonoTime>,
    /// Until when no TaskManager is asked for.
    paused_until: Option<MonoTime>,
    /// With the time from which they may be asked for again, the oldest failure first.
    troubled: Vec<(NodeName, MonoTime)>,
}

impl StartFailures {
    pub(crate) const fn new(config: &JobManagerConfig) -> Self {
        Self {
            limit: config.max_start_failures,
            avoidance: config.node_avoidance,
            rate: config.start_failure_rate,
            retry_interval: config.start_retry_interval,
            count: 0,
            last_reason: String::new(),
            recent: VecDeque::new(),
            paused_until: None,
            troubled: Vec::new(),
        }
    }

    pub(crate) fn failed(&mut self, now: MonoTime, node: &NodeName, reason: String) {
        self.count += 1;
        self.last_reason = reason;
        self.troubled.retain(|(troubled, _)| troubled != node);
        self.troubled.push((node.clone(), now + self.avoidance));
        while (self.recent.front()).is_some_and(|at| now.since(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() as f64 > self.rate {
            self.paused_until = Some(now + self.retry_interval);
        }
    }

    /// TaskManagers do start: what failed before does not count.
    pub(crate) const fn succeeded(&mut self) {
        self.count = 0;
    }

    /// If starts failed too often: how often, and why the last one did. Counting starts anew.
    pub(crate) fn take_exhausted(&mut self) -> Option<(u32, String)> {
        (self.count > self.limit)
            .then(|| (std::mem::take(&mut self.count), self.last_reason.clone()))
    }

    pub(crate) fn forget_old(&mut self, now: MonoTime) {
        self.troubled.retain(|(_, until)| *until > now);
        self.paused_until.take_if(|until| *until <= now);
    }

    pub(crate) fn troubled(&self) -> Vec<NodeName> {
        self.troubled.iter().map(|(node, _)| node.clone()).collect()
    }

    /// Why no TaskManager is asked for now, if so: how the last one failed.
    pub(crate) fn paused(&self) -> Option<&str> {
        self.paused_until.map(|_| self.last_reason.as_str())
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let troubled = self.troubled.iter().map(|(_, until)| *until);
        troubled.chain(self.paused_until).min()
    }
}
