//! What a client may be told about time, size and protection.

use std::time::Duration;

use super::frame;
use crate::conf::{ConfError, Configuration, Origin, TimeUnit};
use crate::sasl::Qop;

const PROTECTION: &str = "hadoop.rpc.protection";

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

impl ClientConfig {
    /// Takes what `core-site.xml` says of time-outs, pings and `hadoop.rpc.protection`.
    ///
    /// A protection that nobody set is left open, so that the server's own is taken.
    ///
    /// # Errors
    /// When a value is none.
    pub fn from_configuration(conf: &Configuration) -> Result<Self, ConfError> {
        let default = Self::default();
        let duration = |key, default| conf.get_duration(key, default, TimeUnit::Milliseconds);
        let call_timeout = duration("ipc.client.rpc-timeout.ms", default.call_timeout)?;
        Ok(Self {
            connect_timeout: duration("ipc.client.connect.timeout", default.connect_timeout)?,
            // Hadoop's 0 is "for ever".
            call_timeout: if call_timeout.is_zero() {
                Duration::MAX
            } else {
                call_timeout
            },
            ping_interval: duration("ipc.ping.interval", default.ping_interval)?,
            protection: protection(conf)?.unwrap_or(default.protection),
            ..default
        })
    }
}

fn protection(conf: &Configuration) -> Result<Option<Vec<Qop>>, ConfError> {
    let Some(value) = conf
        .try_get(PROTECTION)?
        .filter(|value| value.origin != Origin::Default)
    else {
        return Ok(None);
    };
    let qop = |name: &str| match name.to_ascii_lowercase().as_str() {
        "authentication" => Some(Qop::Auth),
        "integrity" => Some(Qop::Integrity),
        "privacy" => Some(Qop::Privacy),
        _ => None,
    };
    let names = value
        .text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    match names.map(qop).collect::<Option<Vec<_>>>() {
        Some(wanted) if wanted.is_empty() => Ok(None),
        Some(wanted) => Ok(Some(wanted)),
        None => Err(ConfError::Invalid {
            key: PROTECTION.to_owned(),
            value: value.text,
            origin: value.origin,
            expected: "a list of authentication, integrity and privacy".to_owned(),
        }),
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

    #[test]
    fn the_site_files_say_how_long_and_how_protected() {
        let mut conf = Configuration::new();
        let config = ClientConfig::from_configuration(&conf).unwrap();
        assert_eq!(
            config,
            ClientConfig::default(),
            "Hadoop's defaults are ours"
        );
        conf.set(PROTECTION, "privacy, integrity");
        conf.set("ipc.client.rpc-timeout.ms", "0");
        conf.set("ipc.client.connect.timeout", "5s");
        let config = ClientConfig::from_configuration(&conf).unwrap();
        assert_eq!(config.protection, [Qop::Privacy, Qop::Integrity]);
        assert_eq!(config.call_timeout, Duration::MAX);
        assert_eq!(config.connect_timeout, Duration::from_secs(5));
    }

    #[test]
    fn an_unknown_protection_is_named() {
        let mut conf = Configuration::new();
        conf.set(PROTECTION, "secret");
        let error = ClientConfig::from_configuration(&conf).unwrap_err();
        assert!(error.to_string().contains(PROTECTION), "{error}");
    }
}
