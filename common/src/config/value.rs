//! The types that values have.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::resource::ByteSize;

use super::kind::{Kind, OptionSpec, parse_duration};

/// A type that an option's value can have. `None` is given where nothing is set and there is no default.
pub trait OptionValue: Sized {
    /// The value of a text that [`Kind`] has accepted; `None` if type and table do not fit each other.
    fn read(spec: &OptionSpec, text: Option<&str>) -> Option<Self>;
}

macro_rules! read_by_from_str {
    ($($type:ty),*) => {$(
        impl OptionValue for $type {
            fn read(_: &OptionSpec, text: Option<&str>) -> Option<Self> {
                text?.parse().ok()
            }
        }
    )*};
}

read_by_from_str!(u16, u32, i32, u64, f64, bool, String, ByteSize, PortRange);

impl OptionValue for Duration {
    fn read(spec: &OptionSpec, text: Option<&str>) -> Option<Self> {
        let bare = if spec.kind == Kind::DurationInSeconds {
            Self::from_secs(1)
        } else {
            Self::from_millis(1)
        };
        parse_duration(text?, bare)
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    fn read(spec: &OptionSpec, text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(None),
            Some(_) => T::read(spec, text).map(Some),
        }
    }
}

impl OptionValue for Vec<String> {
    fn read(_: &OptionSpec, text: Option<&str>) -> Option<Self> {
        let items = text.unwrap_or("").split([',', ';']).map(str::trim);
        Some(
            items
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }
}

/// Read by [`super::Config::get`] from all keys with the prefix, not from one text.
impl OptionValue for BTreeMap<String, String> {
    fn read(spec: &OptionSpec, _: Option<&str>) -> Option<Self> {
        (spec.kind == Kind::Prefix).then(Self::new)
    }
}

/// The words of an enum, in one place for the table and the type.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $($word:literal)|+,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All words that are understood.
            pub const WORDS: &[&str] = &[$($($word),+),*];
        }

        impl OptionValue for $name {
            fn read(_: &OptionSpec, text: Option<&str>) -> Option<Self> {
                match text? {
                    $($($word)|+ => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// Where the state of keys is.
    StateBackendType {
        /// In memory.
        HashMap = "hashmap",
        /// On a local disk.
        RocksDb = "rocksdb",
    }
}

words! {
    /// Where a job runs.
    ExecutionTarget {
        /// On an embedded cluster, in the program's own process.
        Local = "local",
        /// On an application of its own on YARN, planned at the client.
        YarnPerJob = "yarn-per-job",
        /// On an application of its own on YARN, planned there.
        YarnApplication = "yarn-application",
        /// On a running session on YARN.
        YarnSession = "yarn-session",
        /// On a cluster at a known address.
        Remote = "remote",
    }
}

words! {
    /// What follows the failure of a task.
    RestartStrategyType {
        /// The job fails.
        None = "none" | "disable" | "off",
        /// It restarts a number of times, each after the same delay.
        FixedDelay = "fixed-delay" | "fixeddelay",
        /// It restarts after delays that grow.
        ExponentialDelay = "exponential-delay" | "exponentialdelay",
        /// It restarts unless it fails too often.
        FailureRate = "failure-rate" | "failurerate",
    }
}

words! {
    /// How often a record counts in state after a restart. Flink: `CheckpointingMode`.
    CheckpointingMode {
        /// Once.
        ExactlyOnce = "EXACTLY_ONCE",
        /// Once or more.
        AtLeastOnce = "AT_LEAST_ONCE",
    }
}

words! {
    /// What becomes of a job's newest checkpoints when it is over. Flink: `ExternalizedCheckpointRetention`.
    CheckpointRetention {
        /// They are kept unless it finished.
        Retain = "RETAIN_ON_CANCELLATION",
        /// They are kept if it failed.
        DeleteOnCancellation = "DELETE_ON_CANCELLATION",
        /// They are removed.
        None = "NO_EXTERNALIZED_CHECKPOINTS",
    }
}

words! {
    /// Whose the snapshot is that a job begins with. Flink: `RecoveryClaimMode`.
    ClaimMode {
        /// Its owner's: the job does not remove it.
        NoClaim = "NO_CLAIM",
        /// The job's own from now on.
        Claim = "CLAIM",
    }
}

words! {
    /// How load is balanced over TaskManagers and nodes.
    LoadBalanceMode {
        /// Over TaskManagers, wherever they are.
        None = "NONE" | "none",
        /// Over nodes first.
        Slots = "SLOTS" | "slots",
    }
}

/// Ports to try, in order; port 0 is any free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange(Vec<RangeInclusive<u16>>);

impl PortRange {
    /// The ports, in order.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().cloned().flatten()
    }
}

/// A text that names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no ports: expected a port, a range a-b, or several separated by commas")]
pub struct ParsePortRangeError(pub String);

impl FromStr for PortRange {
    type Err = ParsePortRangeError;

    fn from_str(text: &str) -> Result<Self, ParsePortRangeError> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some(first..=last)
        };
        text.split(',')
            .map(range)
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| ParsePortRangeError(text.to_owned()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}
