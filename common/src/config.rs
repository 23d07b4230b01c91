//! Configuration: the table of options, the values as written, the values as checked.
//!
//! [`RawConfig`] holds what was written and where; [`Config::check`] turns it into typed values or says what is wrong, where, and
//! what was expected. The table in [`options`] is the one source of keys, types, defaults and texts: `docs/configuration.md` and
//! `conf/spindle-conf.yaml` are written from it by [`markdown`] and [`yaml`].
//!
//! ```
//! use spindle_common::config::{Config, RawConfig, options};
//!
//! let mut raw = RawConfig::from_yaml("parallelism.default: 2", "spindle-conf.yaml")?;
//! raw.set_argument("parallelism.default=4")?;
//! let config = Config::check(&raw)?;
//! assert_eq!(config.get(&options::PARALLELISM), 4);
//! assert_eq!(config.origin(&options::PARALLELISM).to_string(), "-D parallelism.default=4");
//! # Ok::<(), spindle_common::config::ConfigError>(())
//! ```

mod checked;
mod error;
mod generate;
mod kind;
pub mod options;
mod parts;
mod raw;
#[cfg(test)]
mod tests;
mod value;

pub use checked::{Config, Entry};
pub use error::ConfigError;
pub use generate::{markdown, yaml};
pub use kind::{ConfigOption, Kind, OptionSpec, parse_duration};
pub use parts::{
    CheckpointConfig, ExecutionConfig, HeartbeatConfig, JobManagerConfig, RecoveryConfig,
    RestartConfig, SavepointConfig, SessionConfig, TaskManagerConfig, YarnConfig,
};
pub use raw::{Origin, RawConfig, RawValue};
pub use value::{
    CheckpointRetention, CheckpointingMode, ClaimMode, ExecutionTarget, LoadBalanceMode,
    OptionValue, PortRange, RestartStrategyType, StateBackendType,
};
