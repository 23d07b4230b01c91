//! Whether and when a failed job is started again. Flink: `RestartBackoffTimeStrategy`.

use std::collections::VecDeque;
use std::time::Duration;

use spindle_common::config::RestartConfig;
use spindle_common::time::MonoTime;

/// A restart strategy and what it has to remember.
#[derive(Debug)]
pub(crate) struct RestartBackoff {
    strategy: RestartConfig,
    failures: u32,
    backoff: Duration,
    last_failure: Option<MonoTime>,
    /// Those that are counted for a rate, the oldest first.
    recent: VecDeque<MonoTime>,
}

impl RestartBackoff {
    pub(crate) const fn new(strategy: RestartConfig) -> Self {
        Self {
            strategy,
            failures: 0,
            backoff: Duration::ZERO,
            last_failure: None,
            recent: VecDeque::new(),
        }
    }

    /// Counts a failure; answers the delay until the restart, or nothing if there is to be none.
    pub(crate) fn failed(&mut self, now: MonoTime) -> Option<Duration> {
        match self.strategy {
            RestartConfig::None => None,
            RestartConfig::FixedDelay { attempts, delay } => {
                self.failures += 1;
                (self.failures <= attempts).then_some(delay)
            }
            RestartConfig::ExponentialDelay {
                initial_backoff,
                max_backoff,
                backoff_multiplier,
                reset_backoff_threshold,
                attempts,
            } => {
                let quiet_since = self.last_failure.map(|at| at + self.backoff);
                if quiet_since.is_none_or(|at| now.since(at) >= reset_backoff_threshold) {
                    self.failures = 0;
                    self.backoff = initial_backoff.min(max_backoff);
                } else {
                    let longer = self.backoff.as_secs_f64() * backoff_multiplier.max(1.0);
                    self.backoff = Duration::from_secs_f64(longer.min(max_backoff.as_secs_f64()));
                }
                self.last_failure = Some(now);
                self.failures += 1;
                attempts
                    .is_none_or(|limit| self.failures <= limit)
                    .then_some(self.backoff)
            }
            RestartConfig::FailureRate {
                max_failures,
                interval,
                delay,
            } => {
                let old = |at: &MonoTime| now.since(*at) > interval;
                while self.recent.front().is_some_and(old) {
                    self.recent.pop_front();
                }
                self.recent.push_back(now);
                (self.recent.len() <= max_failures as usize).then_some(delay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_delay_is_given_as_often_as_allowed() {
        let delay = Duration::from_secs(2);
        let mut backoff = RestartBackoff::new(RestartConfig::FixedDelay { attempts: 2, delay });
        let now = MonoTime::ZERO;
        let given: Vec<_> = (0..3).map(|_| backoff.failed(now)).collect();
        assert_eq!(given, [Some(delay), Some(delay), None]);
    }

    #[test]
    fn a_job_restarts_as_long_as_it_does_not_fail_too_often() {
        let delay = Duration::from_millis(100);
        let mut backoff = RestartBackoff::new(RestartConfig::FailureRate {
            max_failures: 2,
            interval: Duration::from_secs(10),
            delay,
        });
        let mut at = |second: u64| backoff.failed(MonoTime::from_millis(second * 1000));
        assert_eq!([at(0), at(9)], [Some(delay), Some(delay)]);
        assert_eq!([at(11), at(30)], [Some(delay), Some(delay)]);
        assert_eq!([at(31), at(32)], [Some(delay), None]);
    }

    #[test]
    fn an_exponential_delay_grows_to_its_limit_and_starts_again_after_a_quiet_time() {
        let mut backoff = RestartBackoff::new(RestartConfig::ExponentialDelay {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(3),
            backoff_multiplier: 2.0,
            reset_backoff_threshold: Duration::from_secs(60),
            attempts: Some(4),
        });
        let mut at = |second: u64| {
            let delay = backoff.failed(MonoTime::from_millis(second * 1000));
            delay.map(|delay| delay.as_secs())
        };
        assert_eq!(
            [at(0), at(5), at(10), at(20)],
            [Some(1), Some(2), Some(3), Some(3)]
        );
        assert_eq!(at(30), None, "the fifth failure in a row is one too many");
        assert_eq!(at(300), Some(1));
    }
}
