//! Typed reading of settings, with Hadoop's ways to write numbers, durations and lists.

use std::time::Duration;

use super::{ConfError, Configuration, Value};

/// The unit of a duration that is written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds, `ms`.
    Milliseconds,
    /// Seconds, `s`.
    Seconds,
    /// Minutes, `m`.
    Minutes,
    /// Hours, `h`.
    Hours,
    /// Days, `d`.
    Days,
}

impl TimeUnit {
    fn nanos(self) -> u64 {
        match self {
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
            Self::Days => 86_400_000_000_000,
        }
    }
}

impl Configuration {
    /// `true` or `false`, in any case; `default` where the key is unset or empty.
    ///
    /// # Errors
    /// [`ConfError::Invalid`] for any other text.
    pub fn get_bool(&self, key: &str, default: bool) -> Result<bool, ConfError> {
        match self.filled(key)? {
            None => Ok(default),
            Some(value) if value.text.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.text.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(invalid(key, value, "true or false")),
        }
    }

    /// A whole number, decimal or `0x…`; `default` where the key is unset or empty.
    ///
    /// # Errors
    /// [`ConfError::Invalid`] for any other text.
    pub fn get_u64(&self, key: &str, default: u64) -> Result<u64, ConfError> {
        let Some(value) = self.filled(key)? else {
            return Ok(default);
        };
        let text = &value.text;
        let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| invalid(key, value, "a whole number from 0"))
    }

    /// A number such as `2.1`; `default` where the key is unset or empty.
    ///
    /// # Errors
    /// [`ConfError::Invalid`] for any other text.
    pub fn get_f64(&self, key: &str, default: f64) -> Result<f64, ConfError> {
        let Some(value) = self.filled(key)? else {
            return Ok(default);
        };
        match value.text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) | Err(_) => Err(invalid(key, value, "a number")),
        }
    }

    /// A duration with one of Hadoop's suffixes `ns us ms s m h d`, or a bare number in `unit`; `default` where the key
    /// is unset or empty.
    ///
    /// # Errors
    /// [`ConfError::Invalid`] for any other text, a negative one too.
    pub fn get_duration(
        &self,
        key: &str,
        default: Duration,
        unit: TimeUnit,
    ) -> Result<Duration, ConfError> {
        let Some(value) = self.filled(key)? else {
            return Ok(default);
        };
        match parse_duration(&value.text, unit) {
            Some(duration) => Ok(duration),
            None => Err(invalid(
                key,
                value,
                "a duration such as 500, 500ms, 30s, 5m, 2h or 7d",
            )),
        }
    }

    /// The entries of a comma-separated list, trimmed, without empty ones; empty where the key is unset.
    ///
    /// # Errors
    /// As [`Configuration::try_get`].
    pub fn get_list(&self, key: &str) -> Result<Vec<String>, ConfError> {
        let Some(value) = self.try_get(key)? else {
            return Ok(Vec::new());
        };
        let parts = value.text.split(',').map(str::trim);
        Ok(parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// The value of `key` unless it is unset or empty.
    pub(super) fn filled(&self, key: &str) -> Result<Option<Value>, ConfError> {
        Ok(self.try_get(key)?.filter(|value| !value.text.is_empty()))
    }
}

pub(super) fn invalid(key: &str, value: Value, expected: &str) -> ConfError {
    ConfError::Invalid {
        key: key.to_owned(),
        value: value.text,
        origin: value.origin,
        expected: expected.to_owned(),
    }
}

fn parse_duration(text: &str, unit: TimeUnit) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let nanos = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" => unit.nanos(),
        "ns" => 1,
        "us" => 1_000,
        "ms" => TimeUnit::Milliseconds.nanos(),
        "s" => TimeUnit::Seconds.nanos(),
        "m" => TimeUnit::Minutes.nanos(),
        "h" => TimeUnit::Hours.nanos(),
        "d" => TimeUnit::Days.nanos(),
        _ => return None,
    };
    // Java's longs: what overflows means forever.
    Some(Duration::from_nanos(number.saturating_mul(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(value: &str) -> Configuration {
        Configuration::from_pairs([("k", value)])
    }

    #[test]
    fn durations_take_a_suffix_or_the_default_unit() {
        let read = |value| conf(value).get_duration("k", Duration::ZERO, TimeUnit::Seconds);
        assert_eq!(read("90").unwrap(), Duration::from_secs(90));
        assert_eq!(read("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(read("5 m").unwrap(), Duration::from_secs(300));
        assert_eq!(read("2H").unwrap(), Duration::from_secs(7200));
        assert_eq!(read("7d").unwrap(), Duration::from_secs(7 * 86400));
        assert_eq!(read("").unwrap(), Duration::ZERO);
        assert_eq!(
            read("5 weeks").unwrap_err().to_string(),
            "k = `5 weeks` (shipped with the application): expected a duration such as 500, 500ms, 30s, 5m, 2h or 7d"
        );
        assert!(read("-1").is_err());
    }

    #[test]
    fn numbers_and_booleans_refuse_other_text_and_name_key_and_origin() {
        assert_eq!(conf("0x10").get_u64("k", 0).unwrap(), 16);
        assert_eq!(conf("").get_u64("k", 7).unwrap(), 7);
        assert!(conf("TRUE").get_bool("k", false).unwrap());
        assert!((conf("0.1").get_f64("k", 0.0).unwrap() - 0.1).abs() < 1e-9);
        assert!(conf("NaN").get_f64("k", 0.0).is_err());
        assert_eq!(
            conf("yes").get_bool("k", false).unwrap_err().to_string(),
            "k = `yes` (shipped with the application): expected true or false"
        );
        assert!(conf("1k").get_u64("k", 0).is_err());
    }

    #[test]
    fn lists_are_trimmed_and_have_no_empty_entries() {
        assert_eq!(conf(" rm1, rm2 ,,").get_list("k").unwrap(), ["rm1", "rm2"]);
        assert!(Configuration::new().get_list("k").unwrap().is_empty());
    }
}
