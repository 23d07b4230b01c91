//! What a client may be told about time, size and protection.

use std::time::Duration;

use super::frame;
use crate::sasl::Qop;

/// Time-outs, limits and retries of a [`Client`](super::Client). The defaults are Hadoop's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// For the TCP connection and the authentication together (`ipc.client.connect.timeout`).
    pub connect_timeout: Duration,
    /// For one call, from its sending to its answer (`ipc.client.rpc-timeout.ms`).
    pub call_timeout: Duration,
    /// Silence after which a ping is sent while calls are outstanding (`ipc.ping.interval`).
    pub ping_interval: Duration,
    /// Rest after which a connection without calls is closed (`ipc.client.connection.maxidletime`).
    pub idle_timeout: Duration,
    /// Longest answer, in bytes (`ipc.maximum.response.length`).
    pub max_response: usize,
    /// Protections that a token connection may have, the first that the server offers is taken (`hadoop.rpc.protection`).
    pub protection: Vec<Qop>,
    /// When and how often a call is repeated.
    pub retry: RetryPolicy,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(10),
            max_response: frame::MAX_FRAME,
            protection: vec![Qop::Auth, Qop::Integrity, Qop::Privacy],
            retry: RetryPolicy::default(),
        }
    }
}

/// How often a call is tried, and the pauses between.
///
/// A call is repeated when it did not reach the server; when the connection broke before the answer and the method is
/// idempotent; and when the server asks for it (`RetriableException`). A time-out is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all; at least one is made.
    pub attempts: u32,
    /// Pause after the first try; doubled after each further one.
    pub pause: Duration,
    /// Longest pause.
    pub max_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(200),
            max_pause: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// Never repeats anything.
    pub const NEVER: Self = Self {
        attempts: 1,
        pause: Duration::ZERO,
        max_pause: Duration::ZERO,
    };

    /// The pause after the given try, counted from 1.
    pub(super) fn pause_after(&self, attempt: u32) -> Duration {
        let factor = 1u32
            .checked_shl(attempt.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.pause.saturating_mul(factor).min(self.max_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let policy = RetryPolicy {
            attempts: 9,
            pause: Duration::from_millis(100),
            max_pause: Duration::from_millis(350),
        };
        let pauses: Vec<u128> = [1, 2, 3, 99]
            .map(|n| policy.pause_after(n).as_millis())
            .into();
        assert_eq!(pauses, [100, 200, 350, 350]);
    }
}
