//! Eyes on the processes of an application: found by the container id in their environment.

use std::fs;
use std::process::Command;

/// A process of ours in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What it is.
    pub role: Role,
    /// The container it runs in.
    pub container: String,
}

/// What a process in a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The ApplicationMaster.
    ApplicationMaster,
    /// A TaskExecutor.
    TaskExecutor,
    /// A job's worker.
    Worker,
    /// The shell that started one of them, or something else.
    Other,
}

/// The processes that run in containers of an application, by ascending pid.
pub fn of_application(application: &str) -> Vec<Process> {
    let prefix = application.replace("application_", "container_");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")
        .expect("/proc can be listed")
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Processes come and go while we look.
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        let Ok(executable) = fs::read_link(entry.path().join("exe")) else {
            continue;
        };
        let variable = environment
            .split(|&b| b == 0)
            .find_map(|line| line.strip_prefix(b"CONTAINER_ID="));
        let Some(container) = variable
            .and_then(|id| std::str::from_utf8(id).ok())
            .filter(|id| id.starts_with(&prefix))
        else {
            continue;
        };
        let is_worker = environment
            .split(|&b| b == 0)
            .any(|line| line == b"SPINDLE_MODE=worker");
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command =
            String::from_utf8_lossy(arguments.split(|&b| b == 0).next().unwrap_or_default())
                .into_owned();
        let role = match command.rsplit('/').next() {
            _ if executable.ends_with("bash") => Role::Other,
            Some("spindle-yarn-am") => Role::ApplicationMaster,
            Some("spindle-taskexecutor") => Role::TaskExecutor,
            _ if is_worker => Role::Worker,
            _ => Role::Other,
        };
        found.push(Process {
            pid,
            role,
            container: container.to_owned(),
        });
    }
    found.sort_by_key(|process| process.pid);
    found
}

/// The processes of one role.
pub fn with_role(application: &str, role: Role) -> Vec<Process> {
    of_application(application)
        .into_iter()
        .filter(|process| process.role == role)
        .collect()
}

/// Sends SIGKILL.
///
/// # Panics
/// When `kill` cannot be started.
pub fn kill_9(pid: u32) {
    // It may be gone by now: then that is what the test wanted.
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    status.expect("kill can be started");
}

/// The TCP ports that a process listens on, ascending.
pub fn listening_ports(pid: u32) -> Vec<u16> {
    const LISTEN: &str = "0A";
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let text = target.to_string_lossy().into_owned();
        sockets.extend(
            text.strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned),
        );
    }
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            if *state == LISTEN && sockets.iter().any(|socket| socket == inode) {
                let port = local
                    .rsplit(':')
                    .next()
                    .and_then(|hex| u16::from_str_radix(hex, 16).ok());
                ports.extend(port);
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}
