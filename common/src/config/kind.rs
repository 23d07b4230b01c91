//! One option: its key, what it takes, and its texts.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::resource::ByteSize;

use super::value::{OptionValue, PortRange};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number within these limits.
    Int {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number within these limits.
    Float {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// A time span; a number without a unit is in milliseconds.
    Duration,
    /// A time span; a number without a unit is in seconds, as Flink has it for this option.
    DurationInSeconds,
    /// A number of bytes.
    Memory,
    /// A port, a range `a-b`, or a list of these; 0 is any free port.
    Ports,
    /// Any text.
    Text,
    /// What is logged: a level, or several, separated by commas, for all modules and for single ones (`module=level`).
    LogFilter,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Texts, separated by `,` or `;`.
    List,
    /// All keys that begin with the option's key, which ends in a dot; any text.
    Prefix,
}

impl Kind {
    /// The name of the type in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int { .. } => "integer",
            Self::Float { .. } => "number",
            Self::Bool => "boolean",
            Self::Duration | Self::DurationInSeconds => "duration",
            Self::Memory => "memory size",
            Self::Ports => "ports",
            Self::Text => "text",
            Self::LogFilter => "log filter",
            Self::Enum(_) => "enum",
            Self::List => "list",
            Self::Prefix => "map",
        }
    }

    /// Whether a text is of this kind.
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Int { min, max } => text
                .parse::<i64>()
                .is_ok_and(|number| (min..=max).contains(&number)),
            Self::Float { min, max } => text
                .parse::<f64>()
                .is_ok_and(|number| (min..=max).contains(&number)),
            Self::Bool => matches!(text, "true" | "false"),
            Self::Duration => parse_duration(text, Duration::from_millis(1)).is_some(),
            Self::DurationInSeconds => parse_duration(text, Duration::from_secs(1)).is_some(),
            Self::Memory => text
                .parse::<ByteSize>()
                .is_ok_and(|size| size > ByteSize::default()),
            Self::Ports => text.parse::<PortRange>().is_ok(),
            Self::LogFilter => text.split(',').all(is_log_directive),
            Self::Enum(words) => words.contains(&text),
            Self::Text | Self::List | Self::Prefix => true,
        }
    }
}

impl fmt::Display for Kind {
    /// What is expected, for an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Int { min, max } if max >= i64::from(u32::MAX >> 1) => {
                write!(f, "a whole number of at least {min}")
            }
            Self::Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Float { min, max } if max.is_finite() => {
                write!(f, "a number from {min:?} to {max:?}")
            }
            Self::Float { min, .. } => write!(f, "a number of at least {min:?}"),
            Self::Bool => f.write_str("true or false"),
            Self::Duration => f.write_str(
                "a duration such as 100 ms, 10 s or 5 min (without a unit: milliseconds)",
            ),
            Self::DurationInSeconds => {
                f.write_str("a duration such as 500 ms, 10 s or 5 min (without a unit: seconds)")
            }
            Self::Memory => f.write_str("a memory size such as 512m or 2g (without a unit: bytes)"),
            Self::Ports => {
                f.write_str("a port, a range such as 50100-50200, or 0 for any free port")
            }
            Self::Text | Self::Prefix => f.write_str("a text"),
            Self::LogFilter => f.write_str(
                "off, error, warn, info, debug or trace, or several such as info,spindle_rpc=debug",
            ),
            Self::Enum(words) => write!(f, "one of {}", words.join(", ")),
            Self::List => f.write_str("texts separated by `,` or `;`"),
        }
    }
}

/// One line of the table of options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionSpec {
    /// The key; that of a [`Kind::Prefix`] ends in a dot.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds if nothing is set, as it would be written.
    pub default: Option<&'static str>,
    /// What a number counts, such as `slots`; empty where the type says it.
    pub unit: &'static str,
    /// Whether Flink has an option of this name with this meaning; if not, it is ours.
    pub flink: bool,
    /// Version of Spindle that brought it.
    pub since: &'static str,
    /// What it does; sentences.
    pub doc: &'static str,
}

impl OptionSpec {
    /// What the option takes, with its unit.
    pub fn expected(&self) -> String {
        match self.unit {
            "" => self.kind.to_string(),
            unit => format!("{} ({unit})", self.kind),
        }
    }

    /// Whether a key is the option's, or for a prefix begins with it.
    pub fn matches(&self, key: &str) -> bool {
        match self.kind {
            Kind::Prefix => key.len() > self.key.len() && key.starts_with(self.key),
            Kind::Int { .. }
            | Kind::Float { .. }
            | Kind::Bool
            | Kind::Duration
            | Kind::DurationInSeconds
            | Kind::Memory
            | Kind::Ports
            | Kind::Text
            | Kind::LogFilter
            | Kind::Enum(_)
            | Kind::List => key == self.key,
        }
    }
}

/// An option and the Rust type of its value.
#[derive(Debug)]
pub struct ConfigOption<T> {
    spec: OptionSpec,
    value: PhantomData<fn() -> T>,
}

impl<T: OptionValue> ConfigOption<T> {
    pub(super) const fn new(spec: OptionSpec) -> Self {
        Self {
            spec,
            value: PhantomData,
        }
    }

    /// The option's line in the table.
    pub const fn spec(&self) -> &OptionSpec {
        &self.spec
    }

    /// The option's key.
    pub const fn key(&self) -> &'static str {
        self.spec.key
    }
}

/// Whether a part of a log filter is `level` or `module=level`. A module alone is refused: it is more often a level misspelt.
fn is_log_directive(text: &str) -> bool {
    let (module, level) = match text.rsplit_once('=') {
        Some((module, level)) => (Some(module), level),
        None => (None, text),
    };
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    let named = |module: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
        !module.is_empty() && module.chars().all(allowed)
    };
    module.is_none_or(named) && known.iter().any(|known| level.eq_ignore_ascii_case(known))
}

/// Reads `100 ms`, `1 s`, `5 min`, `1h`, `2 days`, …, Flink's forms; a number without a unit counts `bare`.
pub fn parse_duration(text: &str, bare: Duration) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let nanos: u128 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" => bare.as_nanos(),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "µs" | "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    let nanos = u128::from(number).checked_mul(nanos)?;
    // Longer than 584 years fits no clock.
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}
