//! A worker's process: started, killed, and told of in words when it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use spindle_common::id::JobId;
use spindle_common::job_graph::ProgramSpec;
use spindle_common::program::{MODE_VARIABLE, WORKER_MODE, WorkerInit};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;

/// How much of the end of a worker's error log is told when it ends.
const TAIL_BYTES: u64 = 2048;

/// Why a worker's process does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("`{0}` is not the name of a file in the working directory")]
    Name(String),
    #[error("cannot open its log `{}`", path.display())]
    Log {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot run `{program}`")]
    Spawn {
        program: String,
        #[source]
        cause: io::Error,
    },
}

/// A process that runs. Dropping it kills it.
pub(crate) struct WorkerProcess {
    child: Child,
    input: ChildStdin,
    first_line: Vec<u8>,
    errors: PathBuf,
    /// Where this process's part of the log begins.
    errors_from: u64,
}

impl WorkerProcess {
    /// Starts the program in the working directory, its output appended to the job's files in `log_dir`.
    pub(crate) fn start(
        program: &ProgramSpec,
        init: &WorkerInit,
        log_dir: &Path,
    ) -> Result<Self, StartError> {
        let name = &program.executable;
        if name.is_empty() || name.contains('/') || name == ".." {
            return Err(StartError::Name(name.clone()));
        }
        let (output, _) = open_log(log_dir, init.job, "out")?;
        let (error_log, errors) = open_log(log_dir, init.job, "err")?;
        let errors_from = error_log.metadata().map_or(0, |metadata| metadata.len());
        let path = format!("./{name}");
        let mut child = Command::new(&path)
            .args(&program.args)
            .env(MODE_VARIABLE, WORKER_MODE)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(error_log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| StartError::Spawn {
                program: path,
                cause,
            })?;
        let input = child.stdin.take().expect("its standard input is a pipe");
        let mut first_line = serde_json::to_vec(init).expect("texts and numbers are JSON");
        first_line.push(b'\n');
        Ok(Self {
            child,
            input,
            first_line,
            errors,
            errors_from,
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end, and tells it in words; kills it on notice. Its input stays open until then.
    pub(crate) async fn ended(mut self, kill: Arc<Notify>) -> String {
        // If it does not read this, its end is to be told, not this.
        let told = self.input.write_all(&self.first_line).await;
        if let Err(error) = told {
            tracing::warn!(%error, "failed to tell a worker what it is for");
        }
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                () = kill.notified() => {
                    // It fails only if the process has ended.
                    let _ = self.child.start_kill();
                }
            }
        };
        let how = match status {
            Ok(status) => in_words(status),
            Err(error) => format!("ended, but not how: {error}"),
        };
        let tail = tail(&self.errors, self.errors_from);
        if tail.is_empty() {
            how
        } else {
            format!("{how}; its error log ends with: {tail}")
        }
    }
}

fn open_log(dir: &Path, job: JobId, kind: &str) -> Result<(File, PathBuf), StartError> {
    let path = dir.join(format!("worker-{job}.{kind}"));
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    let file = opened.map_err(|cause| StartError::Log {
        path: path.clone(),
        cause,
    })?;
    Ok((file, path))
}

fn in_words(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exited with code {code}");
    }
    let signal = status.signal().unwrap_or(0);
    let name = match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("was killed by signal {signal}{name}")
}

/// The end of a log from `from` on, at most [`TAIL_BYTES`], whole lines if there is more than one.
fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<(Vec<u8>, bool)> {
        let mut file = File::open(path)?;
        let start = from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok((bytes, start > from))
    };
    let Ok((bytes, cut)) = read() else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let whole = text
        .split_once('\n')
        .filter(|(_, rest)| cut && !rest.trim().is_empty())
        .map_or(&*text, |(_, rest)| rest);
    whole.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(
            in_words(ExitStatus::from_raw(101 << 8)),
            "exited with code 101"
        );
        assert_eq!(
            in_words(ExitStatus::from_raw(9)),
            "was killed by signal 9 (SIGKILL)"
        );
    }

    #[test]
    fn the_tail_of_a_log_is_the_last_lines_of_this_process_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.err");
        std::fs::write(&path, "of the one before\nfirst\nlast\n").unwrap();
        assert_eq!(tail(&path, 18), "first\nlast");
        std::fs::write(&path, format!("{}\nlast\n", "x".repeat(5000))).unwrap();
        assert_eq!(tail(&path, 0), "last");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert_eq!(tail(&path, 0).len(), 2048);
        assert_eq!(tail(&dir.path().join("none"), 0), "");
    }
}
