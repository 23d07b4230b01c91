//! A configuration whose keys are known and whose values are of their types.

use std::any::Any;
use std::collections::BTreeMap;

use super::error::ConfigError;
use super::kind::{ConfigOption, Kind, OptionSpec};
use super::options;
use super::raw::{Origin, RawConfig};
use super::value::OptionValue;

/// What was set, checked; everything else has its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    raw: RawConfig,
}

/// A value that holds, for people to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Config {
    /// Checks every key and value.
    ///
    /// # Errors
    /// The first key that is unknown or value that is not of its type, by key; then the first pair that excludes each other.
    pub fn check(raw: &RawConfig) -> Result<Self, ConfigError> {
        for (key, value) in raw.iter() {
            let Some(option) = options::find(key) else {
                return Err(ConfigError::UnknownKey {
                    key: key.to_owned(),
                    origin: value.origin.clone(),
                    nearest: options::nearest(key).to_owned(),
                });
            };
            if !option.kind.accepts(&value.text) {
                return Err(ConfigError::Value {
                    key: key.to_owned(),
                    value: value.text.clone(),
                    origin: value.origin.clone(),
                    expected: option.expected(),
                });
            }
        }
        let config = Self { raw: raw.clone() };
        config.check_order(
            &options::HEARTBEAT_INTERVAL,
            "less than",
            &options::HEARTBEAT_TIMEOUT,
            |interval, timeout| interval < timeout,
        )?;
        config.check_order(
            &options::INITIAL_BACKOFF,
            "at most",
            &options::MAX_BACKOFF,
            |initial, max| initial <= max,
        )?;
        config.check_order(
            &options::PARALLELISM,
            "at most",
            &options::MAX_PARALLELISM,
            |parallelism, max| parallelism <= max,
        )?;
        Ok(config)
    }

    /// Reads what another process sent with [`Self::to_pairs`].
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Self, ConfigError> {
        Self::check(&RawConfig::from_pairs(pairs.iter().cloned()))
    }

    /// The value of an option: as set, else its default. A prefix option gives the variables by the rest of their keys.
    pub fn get<T: OptionValue + 'static>(&self, option: &ConfigOption<T>) -> T {
        let spec = option.spec();
        let mut value = T::read(spec, self.text(spec))
            .expect("the text was checked, and the type of each option fits its kind by a test");
        if spec.kind == Kind::Prefix
            && let Some(map) = (&mut value as &mut dyn Any).downcast_mut()
        {
            *map = self.with_prefix(spec.key);
        }
        value
    }

    /// Where the value of an option comes from.
    pub fn origin<T: OptionValue>(&self, option: &ConfigOption<T>) -> Origin {
        self.raw
            .get(option.key())
            .map_or(Origin::Default, |value| value.origin.clone())
    }

    /// Whether somebody has set an option.
    pub fn is_set<T: OptionValue>(&self, option: &ConfigOption<T>) -> bool {
        self.raw.get(option.key()).is_some()
    }

    /// What was set, as written: what another process needs to come to the same configuration.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        self.raw
            .iter()
            .map(|(key, value)| (key.to_owned(), value.text.clone()))
            .collect()
    }

    /// What was set, with where.
    pub fn raw(&self) -> &RawConfig {
        &self.raw
    }

    /// Every value that holds, set or default, in the order of the documentation.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for option in options::all() {
            let set: Vec<_> = self
                .raw
                .iter()
                .filter(|(key, _)| option.matches(key))
                .map(|(key, value)| Entry {
                    key: key.to_owned(),
                    value: value.text.clone(),
                    origin: value.origin.clone(),
                })
                .collect();
            match option.default {
                Some(default) if set.is_empty() => entries.push(Entry {
                    key: option.key.to_owned(),
                    value: default.to_owned(),
                    origin: Origin::Default,
                }),
                Some(_) | None => entries.extend(set),
            }
        }
        entries
    }

    fn text(&self, spec: &OptionSpec) -> Option<&str> {
        self.raw
            .get(spec.key)
            .map(|value| value.text.as_str())
            .or(spec.default)
    }

    fn with_prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        self.raw
            .iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix(prefix)?.to_owned(), value.text.clone()))
            })
            .collect()
    }

    fn check_order<T: OptionValue + 'static>(
        &self,
        option: &ConfigOption<T>,
        relation: &'static str,
        other: &ConfigOption<T>,
        holds: impl Fn(T, T) -> bool,
    ) -> Result<(), ConfigError> {
        if holds(self.get(option), self.get(other)) {
            return Ok(());
        }
        Err(ConfigError::Conflict {
            key: option.key(),
            origin: self.origin(option),
            relation,
            other: other.key(),
            other_origin: self.origin(other),
        })
    }
}
