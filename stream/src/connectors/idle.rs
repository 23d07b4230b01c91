//! How long a source that has nothing waits before it looks again.

use std::time::Duration;

/// The first wait: short, so that what was read before is not kept from being sent on when its time comes.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
/// A reader may not keep its task for longer than this.
const LONGEST: Duration = Duration::from_millis(100);

/// Waits that double for as long as there is nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    next: Duration,
}

impl Idle {
    pub(crate) const fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// There was something.
    pub(crate) const fn reset(&mut self) {
        self.next = SHORTEST;
    }

    /// How long to wait, if there is nothing to be expected within `expected`.
    pub(crate) fn next_wait(&mut self, expected: Option<Duration>) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        expected.map_or(wait, |expected| expected.min(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_get_longer_up_to_a_tenth_of_a_second_until_there_is_something() {
        let mut idle = Idle::new();
        let waits: Vec<_> = (0..9).map(|_| idle.next_wait(None).as_millis()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        let soon = Duration::from_micros(7);
        assert_eq!(idle.next_wait(Some(soon)), soon);
        idle.reset();
        assert_eq!(idle.next_wait(Some(LONGEST)), SHORTEST);
    }
}
