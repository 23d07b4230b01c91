//! The settings of one command: defaults, `spindle-conf.yaml`, `-D`, flags, each over the one before.

use std::path::{Path, PathBuf};

use spindle_common::config::{Config, ConfigError, ExecutionConfig, Origin, RawConfig, YarnConfig};
use spindle_hadoop::conf::{ConfError, Configuration};

use crate::error::CliError;

const FILE: &str = "spindle-conf.yaml";
const DIRECTORY_VARIABLE: &str = "SPINDLE_CONF_DIR";

/// What the command line says.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// `--conf-dir`.
    pub(crate) conf_dir: Option<PathBuf>,
    /// What follows each `-D`.
    pub(crate) define: Vec<String>,
    /// Flags that stand for a key: the flag, its key, its value.
    pub(crate) flags: Vec<(&'static str, String, String)>,
}

/// The settings, checked.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) execution: ExecutionConfig,
    pub(crate) yarn: YarnConfig,
    /// The Hadoop user.
    pub(crate) user: String,
}

impl Settings {
    /// Reads and checks all layers.
    pub(crate) fn load(layers: &Layers) -> Result<Self, CliError> {
        let mut raw = match directory(layers.conf_dir.as_deref())? {
            Some(directory) => read(&directory.join(FILE))?,
            None => RawConfig::default(),
        };
        for argument in &layers.define {
            raw.set_argument(argument).map_err(wrong)?;
        }
        for (flag, key, value) in &layers.flags {
            raw.set(key, value, Origin::Flag(format!("{flag} {value}")));
        }
        let config = Config::check(&raw).map_err(wrong)?;
        let user = spindle_hadoop::user::current().map_err(|cause| {
            CliError::usage("cannot tell who you are to Hadoop")
                .because(cause)
                .hint("set HADOOP_USER_NAME")
        })?;
        Ok(Self {
            execution: config.execution(),
            yarn: config.yarn(),
            config,
            user,
        })
    }

    /// Hadoop's configuration, which has to be there.
    pub(crate) fn hadoop() -> Result<Configuration, CliError> {
        discover().map_err(|cause| {
            CliError::usage("the Hadoop configuration cannot be used")
                .because(cause)
                .hint("HADOOP_CONF_DIR names the directory of core-site.xml, hdfs-site.xml and yarn-site.xml")
        })
    }

    /// Hadoop's configuration for a command that may do without; broken files are an error all the same.
    pub(crate) fn hadoop_if_there() -> Result<Option<Configuration>, CliError> {
        match discover() {
            Ok(configuration) => Ok(Some(configuration)),
            Err(ConfError::NotFound { .. }) => Ok(None),
            Err(_) => Self::hadoop().map(Some),
        }
    }
}

fn discover() -> Result<Configuration, ConfError> {
    Configuration::discover(&|name| std::env::var(name).ok())
}

/// The directory of the configuration file: the one that is named has to exist.
fn directory(flag: Option<&Path>) -> Result<Option<PathBuf>, CliError> {
    let named = flag
        .map(|path| (path.to_owned(), "--conf-dir"))
        .or_else(|| {
            std::env::var_os(DIRECTORY_VARIABLE)
                .map(|path| (PathBuf::from(path), DIRECTORY_VARIABLE))
        });
    if let Some((path, by)) = named {
        if path.is_dir() {
            return Ok(Some(path));
        }
        return Err(CliError::usage(format!(
            "{by} names `{}`, which is no directory",
            path.display()
        )));
    }
    let installed = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.parent()?.join("conf")));
    Ok(installed.filter(|path| path.join(FILE).is_file()))
}

fn read(file: &Path) -> Result<RawConfig, CliError> {
    let shown = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => RawConfig::from_yaml(&text, &shown).map_err(wrong),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(RawConfig::default()),
        Err(cause) => Err(CliError::usage(format!("cannot read `{shown}`")).because(cause)),
    }
}

fn wrong(cause: ConfigError) -> CliError {
    CliError::usage(cause.to_string()).hint("docs/configuration.md lists all keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(directory: &Path, define: &[&str], flags: &[(&'static str, &str, &str)]) -> Layers {
        Layers {
            conf_dir: Some(directory.to_owned()),
            define: define.iter().map(|&text| text.to_owned()).collect(),
            flags: flags
                .iter()
                .map(|&(flag, key, value)| (flag, key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_flag_is_over_a_definition_which_is_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join(FILE),
            "parallelism.default: 2\nyarn.application.queue: night\n",
        )
        .unwrap();
        let load = |define: &[&str], flags: &[(&'static str, &str, &str)]| {
            Settings::load(&layers(directory.path(), define, flags)).unwrap()
        };
        let settings = load(&[], &[]);
        assert_eq!(
            (settings.execution.parallelism, settings.yarn.queue.as_str()),
            (2, "night")
        );
        assert_eq!(
            load(&["parallelism.default=3"], &[]).execution.parallelism,
            3
        );
        assert_eq!(
            load(
                &["parallelism.default=3"],
                &[("-p", "parallelism.default", "4")]
            )
            .execution
            .parallelism,
            4
        );
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_the_nearest_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join(FILE),
            "# mine\nparalelism.default: 2\n",
        )
        .unwrap();
        let error = Settings::load(&layers(directory.path(), &[], &[]))
            .err()
            .unwrap()
            .message();
        assert!(
            error.contains("spindle-conf.yaml:2") && error.contains("parallelism.default"),
            "{error}"
        );
    }

    #[test]
    fn a_named_directory_has_to_exist() {
        let error = Settings::load(&layers(Path::new("/no/such/place"), &[], &[]))
            .err()
            .unwrap()
            .message();
        assert!(
            error.contains("--conf-dir names `/no/such/place`"),
            "{error}"
        );
    }
}
