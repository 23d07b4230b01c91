//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::{Origin, SiteXmlError};

/// A configuration that cannot be found, read or understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A named directory does not exist.
    #[error("no Hadoop configuration directory `{dir}` (named by {named_by})")]
    MissingDir {
        /// The directory.
        dir: PathBuf,
        /// The variable that names it.
        named_by: String,
    },
    /// No directory was named and none stands at the usual places.
    #[error("no Hadoop configuration found, set HADOOP_CONF_DIR ({})", tried.join(", "))]
    NotFound {
        /// What was tried, in order.
        tried: Vec<String>,
    },
    /// A site file exists but cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A site file is broken.
    #[error(transparent)]
    SiteXml(#[from] SiteXmlError),
    /// A value is not of its key's type.
    #[error("{key} = `{value}` ({origin}): expected {expected}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value, expanded.
        value: String,
        /// Where it was set.
        origin: Origin,
        /// What would be right.
        expected: String,
    },
    /// References between values go in a ring.
    #[error("{key} ({origin}) refers to itself: {ring}")]
    Loop {
        /// The key that was asked for.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// The keys of the ring.
        ring: String,
    },
    /// References between values are nested too deeply or grow too large.
    #[error("{key} ({origin}): references are nested too deeply")]
    TooDeep {
        /// The key that was asked for.
        key: String,
        /// Where it was set.
        origin: Origin,
    },
    /// A key without a default is not set although others need it.
    #[error("{key} is not set, but {because}")]
    Missing {
        /// The key, or several.
        key: String,
        /// Which other setting needs it.
        because: String,
    },
}
