//! What YARN tells a process in a container by its environment.

use std::path::PathBuf;

use spindle_hadoop::yarn::{ContainerId, InvalidId, NodeId};

/// The environment of an ApplicationMaster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Its own container; tells application and attempt.
    pub(crate) container: ContainerId,
    /// The NodeManager's host.
    pub(crate) host: String,
    /// The NodeManager, if its port is told too.
    pub(crate) node: Option<NodeId>,
    /// Where logs belong.
    pub(crate) log_dir: PathBuf,
    /// Path under which the web proxy shows this process.
    pub(crate) proxy_base: Option<String>,
}

/// What is missing of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// A variable.
    #[error("{0} is not set: this process was not started by YARN")]
    Missing(&'static str),
    /// A variable's value.
    #[error("CONTAINER_ID names no container")]
    Container(#[source] InvalidId),
}

impl Environment {
    /// Reads the variables by `get`.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let set = |name: &'static str| {
            get(name)
                .filter(|value| !value.is_empty())
                .ok_or(EnvironmentError::Missing(name))
        };
        let host = set("NM_HOST")?;
        let port = get("NM_PORT").and_then(|port| port.parse().ok());
        // One directory for each disk; the first is as good as any.
        let log_dirs = set("LOG_DIRS")?;
        let log_dir = log_dirs.split(',').next().unwrap_or(&log_dirs);
        Ok(Self {
            container: set("CONTAINER_ID")?
                .parse()
                .map_err(EnvironmentError::Container)?,
            node: port.map(|port| NodeId::new(&host, port)),
            log_dir: PathBuf::from(log_dir),
            proxy_base: get("APPLICATION_WEB_PROXY_BASE").filter(|base| !base.is_empty()),
            host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        Environment::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_first_log_directory_is_taken() {
        let environment = read(&[
            ("CONTAINER_ID", "container_1795219827359_0001_02_000001"),
            ("NM_HOST", "n1"),
            ("NM_PORT", "4000"),
            ("LOG_DIRS", "/a/logs,/b/logs"),
            (
                "APPLICATION_WEB_PROXY_BASE",
                "/proxy/application_1795219827359_0001",
            ),
        ])
        .unwrap();
        assert_eq!(environment.container.attempt.attempt, 2);
        assert_eq!(environment.log_dir, PathBuf::from("/a/logs"));
        assert_eq!(environment.node, Some(NodeId::new("n1", 4000)));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = read(&[("NM_HOST", "n1"), ("LOG_DIRS", "/a")]).unwrap_err();
        assert!(error.to_string().contains("CONTAINER_ID"), "{error}");
    }
}
