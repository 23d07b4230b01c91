//! What can be wrong with a configuration.

use super::raw::Origin;

/// Why a configuration cannot be used. Each names the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is no YAML, or not of the form a configuration has.
    #[error("{origin}: {reason}")]
    Syntax {
        /// File and line.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// An argument that is not `key=value`.
    #[error("-D {argument}: expected key=value")]
    Argument {
        /// What was given.
        argument: String,
    },
    /// No option has this key.
    #[error("{origin}: unknown configuration key `{key}`, did you mean `{nearest}`?")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// The value is not of the option's type, or out of its range.
    #[error("{origin}: `{key}` cannot be `{value}`: expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What the option takes, with its unit.
        expected: String,
    },
    /// Two values that exclude each other.
    #[error("`{key}` ({origin}) has to be {relation} `{other}` ({other_origin})")]
    Conflict {
        /// The one key.
        key: &'static str,
        /// Where its value comes from.
        origin: Origin,
        /// How it has to stand to the other, such as `less than`.
        relation: &'static str,
        /// The other key.
        other: &'static str,
        /// Where that value comes from.
        other_origin: Origin,
    },
}

impl ConfigError {
    /// Where the fault is: a file with its line, or an argument.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Syntax { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::Value { origin, .. }
            | Self::Conflict { origin, .. } => origin.clone(),
            Self::Argument { argument } => Origin::Argument(argument.clone()),
        }
    }
}
