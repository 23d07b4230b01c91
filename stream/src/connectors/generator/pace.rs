//! How many records are due.

use std::time::Duration;

/// What a subtask was held up for longer than this is not made up for.
const MOST_BEHIND: Duration = Duration::from_secs(1);

/// A schedule: record n of this subtask is due `offset + n × interval` after the beginning, where both shift when the subtask was
/// held up for too long. Time is given, as what passed since the beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Seconds between two records of this subtask.
    interval: f64,
    /// When the first of the records that `taken` counts is due, in seconds.
    origin: f64,
    /// Records taken since the origin.
    taken: u64,
}

impl Pace {
    /// The share of one subtask of so many records a second; the subtasks' records fall between one another's.
    pub(super) fn new(per_second: f64, subtask: u32, parallelism: u32) -> Self {
        Self {
            interval: f64::from(parallelism) / per_second,
            origin: f64::from(subtask) / per_second,
            taken: 0,
        }
    }

    /// Takes up to `most` of the records that are due now.
    pub(super) fn take(&mut self, now: Duration, most: u64) -> u64 {
        let now = now.as_secs_f64();
        let earliest = now - MOST_BEHIND.as_secs_f64();
        if self.due(self.taken) < earliest {
            (self.origin, self.taken) = (earliest, 0);
        }
        if now < self.origin {
            return 0;
        }
        let due = ((now - self.origin) / self.interval) as u64 + 1;
        let count = due.saturating_sub(self.taken).min(most);
        self.taken += count;
        count
    }

    /// When the next record is due.
    pub(super) fn next_due(&self) -> Duration {
        Duration::try_from_secs_f64(self.due(self.taken)).unwrap_or(Duration::MAX)
    }

    /// When the record after `taken` others is due, in seconds.
    fn due(&self, taken: u64) -> f64 {
        self.origin + taken as f64 * self.interval
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn records_are_due_one_interval_apart_and_the_first_at_once() {
        let mut pace = Pace::new(100.0, 0, 1);
        assert_eq!(pace.take(ms(0), 9), 1);
        assert_eq!(pace.take(ms(9), 9), 0);
        assert_eq!(pace.next_due(), ms(10));
        assert_eq!(pace.take(ms(10), 9), 1);
        assert_eq!(pace.take(ms(45), 9), 3);
    }

    #[test]
    fn subtasks_share_the_rate_and_take_turns() {
        let mut paces = [0, 1, 2].map(|subtask| Pace::new(300.0, subtask, 3));
        let dues = paces.map(|pace| pace.next_due().as_micros());
        assert_eq!(dues, [0, 3333, 6666]);
        let taken = paces.each_mut().map(|pace| pace.take(ms(995), u64::MAX));
        assert_eq!(taken, [100, 100, 99]);
    }

    #[test]
    fn a_short_stop_is_made_up_for_and_a_long_one_is_not() {
        let mut pace = Pace::new(1000.0, 0, 1);
        assert_eq!(pace.take(ms(0), 9000), 1);
        assert_eq!(pace.take(ms(900), 9000), 900);
        assert_eq!(pace.take(ms(60_900), 9000), 1001, "one second of a minute");
        assert_eq!(pace.take(ms(60_900), 9000), 0);
        assert_eq!(pace.take(ms(60_950), 9000), 50);
    }

    #[test]
    fn a_slow_pace_waits_for_days() {
        let mut pace = Pace::new(1e-5, 0, 1);
        assert_eq!(pace.take(ms(1), 5), 1);
        assert_eq!(pace.take(ms(1000), 5), 0);
        assert_eq!(pace.next_due(), Duration::from_secs(100_000));
    }

    proptest! {
        #[test]
        fn the_pace_is_kept_however_often_one_asks(
            per_second in 0.5_f64..200_000.0,
            waits in prop::collection::vec(0_u64..900_000, 1..60),
        ) {
            let mut pace = Pace::new(per_second, 0, 1);
            let (mut now, mut taken) = (Duration::ZERO, pace.take(Duration::ZERO, u64::MAX));
            for micros in waits {
                now += Duration::from_micros(micros);
                taken += pace.take(now, u64::MAX);
                let ideal = now.as_secs_f64() * per_second;
                prop_assert!((taken as f64 - ideal - 0.5).abs() <= 0.5 + 1e-6 * ideal + 1e-3, "{taken} of {ideal}");
                prop_assert!(pace.next_due() > now.saturating_sub(Duration::from_nanos(1000)));
            }
        }
    }
}
