//! What a TaskExecutor finds when it starts: its specification and the secret in the credentials file, where its logs go.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use spindle_common::deployment::{SECRET_ENTRY, TASK_EXECUTOR_ENTRY, TaskExecutorSpec};
use spindle_hadoop::token::{Credentials, CredentialsError};
use spindle_rpc::Secret;

/// YARN's variable: the container's log directories, separated by commas.
pub const LOG_DIRS_VARIABLE: &str = "LOG_DIRS";
/// Name of this process's log in the first of them.
pub const LOG_FILE: &str = "taskexecutor.log";

/// A TaskExecutor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No credentials.
    #[error("failed to read the container's credentials")]
    Credentials(#[from] CredentialsError),
    /// The credentials are not those of a TaskExecutor.
    #[error("the container's credentials have no `{0}`: it was not started as a TaskExecutor")]
    Missing(&'static str),
    /// The secret is not one.
    #[error("the secret in the container's credentials has {0} bytes instead of 32")]
    Secret(usize),
    /// The specification is of another version.
    #[error("cannot read the TaskExecutor's specification in the container's credentials")]
    Spec(#[source] serde_json::Error),
}

/// Reads the specification and the secret out of the credentials.
///
/// # Errors
/// What is missing or malformed.
pub fn read(credentials: &Credentials) -> Result<(TaskExecutorSpec, Secret), BootError> {
    let entry = |alias| credentials.secret(alias).ok_or(BootError::Missing(alias));
    let secret = entry(SECRET_ENTRY)?;
    let secret = <[u8; 32]>::try_from(secret).map_err(|_| BootError::Secret(secret.len()))?;
    let spec = serde_json::from_slice(entry(TASK_EXECUTOR_ENTRY)?).map_err(BootError::Spec)?;
    Ok((spec, Secret::from_bytes(secret)))
}

/// The first of `LOG_DIRS`, else the working directory.
pub fn log_dir(log_dirs: Option<&str>) -> PathBuf {
    let first =
        log_dirs.and_then(|dirs| dirs.split(',').map(str::trim).find(|dir| !dir.is_empty()));
    first.map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Opens this process's log in a directory, to be appended to.
///
/// # Errors
/// If that is not possible.
pub fn open_log(dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(LOG_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_and_the_secret_come_out_of_the_credentials() {
        let spec = TaskExecutorSpec {
            job_manager: "am:1".to_owned(),
            fencing: 1,
            resource: "container_1".to_owned(),
            node: "n:2".to_owned(),
            host: "n".to_owned(),
            memory_bytes: 1 << 30,
            slots: 2,
            hadoop: vec![("k".to_owned(), "v".to_owned())],
            user: "alice".to_owned(),
        };
        let mut credentials = Credentials::new();
        assert!(
            read(&credentials)
                .unwrap_err()
                .to_string()
                .contains(SECRET_ENTRY)
        );
        credentials.add_secret(SECRET_ENTRY, vec![7; 31]);
        assert!(
            read(&credentials)
                .unwrap_err()
                .to_string()
                .contains("31 bytes")
        );
        credentials.add_secret(SECRET_ENTRY, vec![7; 32]);
        assert!(
            read(&credentials)
                .unwrap_err()
                .to_string()
                .contains(TASK_EXECUTOR_ENTRY)
        );
        credentials.add_secret(TASK_EXECUTOR_ENTRY, serde_json::to_vec(&spec).unwrap());
        let (found, secret) = read(&credentials).unwrap();
        assert_eq!(found, spec);
        assert!(secret == Secret::from_bytes([7; 32]));
    }

    #[test]
    fn logs_go_to_the_first_log_directory_if_there_is_one() {
        assert_eq!(log_dir(Some("/a,/b")), Path::new("/a"));
        assert_eq!(log_dir(Some("")), Path::new("."));
        assert_eq!(log_dir(None), Path::new("."));
    }
}
