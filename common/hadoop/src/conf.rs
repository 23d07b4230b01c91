//! Hadoop's configuration: `core-site.xml`, `hdfs-site.xml` and `yarn-site.xml` over built-in defaults.
//!
//! Every value knows where it was set, so that an error about it can say so. Nothing here opens a socket.

mod addresses;
mod defaults;
mod error;
mod expand;
mod site_xml;
mod typed;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use addresses::{DefaultFs, HostPort, RmAddress};
pub use error::ConfError;
use expand::{ExpandError, Lookup};
pub use site_xml::{Property, SiteXmlError, parse_site_xml};
pub use typed::TimeUnit;

/// The files read from a configuration directory, in this order.
pub const SITE_FILES: [&str; 3] = ["core-site.xml", "hdfs-site.xml", "yarn-site.xml"];

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Hadoop's own default; no file sets the key.
    Default,
    /// A `<property>` of a site file.
    File {
        /// The file's path.
        file: Arc<str>,
        /// The line of the `<property>`, from 1.
        line: usize,
    },
    /// Shipped with the application by the client that submitted it.
    Shipped,
    /// Set by the program.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("Hadoop's default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Shipped => f.write_str("shipped with the application"),
            Self::Program => f.write_str("set by the program"),
        }
    }
}

/// A setting with its references expanded, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value, trimmed, without `${…}` as far as they could be resolved.
    pub text: String,
    /// Where it was set.
    pub origin: Origin,
}

#[derive(Debug, Clone)]
struct Entry {
    raw: String,
    origin: Origin,
    is_final: bool,
}

/// Hadoop settings: what the site files, a shipped list or the program set, over the built-in defaults.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    entries: BTreeMap<String, Entry>,
    /// The variables that values refer to, as they were when the value was added.
    env: BTreeMap<String, String>,
    sources: Vec<PathBuf>,
}

impl Configuration {
    /// Only Hadoop's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the site files of `dir`, as `HADOOP_CONF_DIR` names it; a file that is missing sets nothing.
    ///
    /// `${env.X}` is taken from this process's environment.
    ///
    /// # Errors
    /// [`ConfError::MissingDir`] if `dir` is no directory, [`ConfError::Read`] if a file cannot be read,
    /// [`ConfError::SiteXml`] if it is broken.
    pub fn load(dir: &Path) -> Result<Self, ConfError> {
        let mut conf = Self::new();
        conf.add_dir(dir, "HADOOP_CONF_DIR", &SITE_FILES, &process_env)?;
        Ok(conf)
    }

    /// Finds and reads the configuration as Hadoop's own scripts do.
    ///
    /// The directory is `HADOOP_CONF_DIR`, else `HADOOP_HOME/etc/hadoop`, else `YARN_CONF_DIR`, else `/etc/hadoop/conf`.
    /// Where `YARN_CONF_DIR` holds a `yarn-site.xml`, that one replaces the directory's own.
    ///
    /// # Errors
    /// [`ConfError::NotFound`] with all that was tried, else as [`Self::load`]; a variable that names a missing directory
    /// is an error and not passed over.
    pub fn discover(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfError> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let mut tried = Vec::new();
        let yarn_dir = set("YARN_CONF_DIR").map(PathBuf::from);
        let (dir, named_by) = if let Some(dir) = set("HADOOP_CONF_DIR") {
            (PathBuf::from(dir), "HADOOP_CONF_DIR")
        } else {
            tried.push("HADOOP_CONF_DIR is not set".to_owned());
            let of_home = set("HADOOP_HOME").map(|home| Path::new(&home).join("etc/hadoop"));
            match of_home {
                Some(dir) if dir.is_dir() => (dir, "HADOOP_HOME"),
                of_home => {
                    tried.push(of_home.map_or_else(
                        || "HADOOP_HOME is not set".to_owned(),
                        |dir| format!("HADOOP_HOME: no directory {}", dir.display()),
                    ));
                    let system = Path::new("/etc/hadoop/conf");
                    if let Some(dir) = &yarn_dir {
                        (dir.clone(), "YARN_CONF_DIR")
                    } else if system.is_dir() {
                        (system.to_owned(), "the system's default")
                    } else {
                        tried.push("YARN_CONF_DIR is not set".to_owned());
                        tried.push(format!("no directory {}", system.display()));
                        return Err(ConfError::NotFound { tried });
                    }
                }
            }
        };
        let own_yarn_site =
            yarn_dir.filter(|yarn| *yarn != dir && yarn.join("yarn-site.xml").exists());
        let mut conf = Self::new();
        if let Some(yarn_dir) = own_yarn_site {
            conf.add_dir(&dir, named_by, &SITE_FILES[..2], env)?;
            conf.add_dir(&yarn_dir, "YARN_CONF_DIR", &SITE_FILES[2..], env)?;
        } else {
            conf.add_dir(&dir, named_by, &SITE_FILES, env)?;
        }
        Ok(conf)
    }

    /// The configuration that another process shipped as the result of its [`Self::to_pairs`].
    #[must_use]
    pub fn from_pairs<K: AsRef<str>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut conf = Self::new();
        for (key, value) in pairs {
            conf.insert(key.as_ref(), value.into(), Origin::Shipped, false);
        }
        conf.remember_environment(&process_env);
        conf
    }

    /// All settings that are not defaults, expanded and sorted by key, to be shipped to another process.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        self.entries
            .keys()
            .filter_map(|key| Some((key.clone(), self.get(key)?.text)))
            .collect()
    }

    /// Adds the properties of one site file; a `final` property set before stays as it is.
    ///
    /// `env` answers `${env.X}`.
    ///
    /// # Errors
    /// [`ConfError::SiteXml`] if the file is broken.
    pub fn add_site_xml(
        &mut self,
        file: &str,
        bytes: &[u8],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), ConfError> {
        let name: Arc<str> = Arc::from(file);
        for property in parse_site_xml(file, bytes)? {
            let origin = Origin::File {
                file: Arc::clone(&name),
                line: property.line,
            };
            self.insert(&property.name, property.value, origin, property.is_final);
        }
        self.remember_environment(env);
        Ok(())
    }

    /// Sets `key`, also over a `final` one.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let key = defaults::canonical(key);
        self.entries.remove(key);
        self.insert(key, value.into(), Origin::Program, false);
        self.remember_environment(&process_env);
    }

    /// The value of `key`, or nothing if neither a file nor the defaults know it.
    ///
    /// A value whose references go in a ring is returned as written; [`Self::try_get`] and the typed getters refuse it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.try_get(key).unwrap_or_else(|_| {
            let (raw, origin) = self.entry(key)?;
            Some(Value {
                text: raw.to_owned(),
                origin,
            })
        })
    }

    /// The value of `key`, or nothing if neither a file nor the defaults know it.
    ///
    /// # Errors
    /// [`ConfError::Loop`] or [`ConfError::TooDeep`] if its references cannot be resolved.
    pub fn try_get(&self, key: &str) -> Result<Option<Value>, ConfError> {
        let key = defaults::canonical(key);
        let Some((raw, origin)) = self.entry(key) else {
            return Ok(None);
        };
        match expand::expand(key, raw, self) {
            Ok(text) => Ok(Some(Value { text, origin })),
            Err(ExpandError::Loop(ring)) => Err(ConfError::Loop {
                key: key.to_owned(),
                origin,
                ring: ring.join(" -> "),
            }),
            Err(ExpandError::TooDeep) => Err(ConfError::TooDeep {
                key: key.to_owned(),
                origin,
            }),
        }
    }

    /// The site files that were read, in order.
    #[must_use]
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// The keys that are set by anything but the defaults, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn entry(&self, key: &str) -> Option<(&str, Origin)> {
        let key = defaults::canonical(key);
        match self.entries.get(key) {
            Some(entry) => Some((&entry.raw, entry.origin.clone())),
            None => defaults::default_of(key).map(|raw| (raw, Origin::Default)),
        }
    }

    fn add_dir(
        &mut self,
        dir: &Path,
        named_by: &str,
        files: &[&str],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), ConfError> {
        if !dir.is_dir() {
            return Err(ConfError::MissingDir {
                dir: dir.to_owned(),
                named_by: named_by.to_owned(),
            });
        }
        for file in files {
            let path = dir.join(file);
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(ConfError::Read { path, source }),
            };
            self.add_site_xml(&path.to_string_lossy(), &bytes, env)?;
            self.sources.push(path);
        }
        Ok(())
    }

    fn insert(&mut self, key: &str, raw: String, origin: Origin, is_final: bool) {
        let key = defaults::canonical(key);
        if self.entries.get(key).is_some_and(|entry| entry.is_final) {
            tracing::debug!(key, %origin, "ignored, a final property set it before");
            return;
        }
        let entry = Entry {
            raw,
            origin,
            is_final,
        };
        self.entries.insert(key.to_owned(), entry);
    }

    /// Keeps the variables that values refer to, so that a configuration means the same later and elsewhere.
    fn remember_environment(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        let named = self
            .entries
            .values()
            .flat_map(|entry| expand::environment_names(&entry.raw));
        for name in named.chain(expand::SYSTEM_VARIABLES) {
            if !self.env.contains_key(name)
                && let Some(value) = env(name)
            {
                self.env.insert(name.to_owned(), value);
            }
        }
    }
}

impl Lookup for Configuration {
    fn raw(&self, key: &str) -> Option<&str> {
        let key = defaults::canonical(key);
        match self.entries.get(key) {
            Some(entry) => Some(&entry.raw),
            None => defaults::default_of(key),
        }
    }

    fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }
}

fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests;
