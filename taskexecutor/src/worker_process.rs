//! A worker's process: started, limited, killed, and told of in words when it ends.

mod last_words;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spindle_common::id::JobId;
use spindle_common::job_graph::ProgramSpec;
use spindle_common::program::{MODE_VARIABLE, WORKER_MODE, WorkerInit};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;

use self::last_words::LastWords;
use crate::{memory, program};

/// mimalloc, the allocator of jobs, takes memory by the gibibyte and asks for all of it at once unless told not to: more than the limit
/// on a worker's data (`memory.rs`) has room for.
const EAGER_COMMIT: &str = "MIMALLOC_ARENA_EAGER_COMMIT";

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

/// What becomes of a process while it is waited for.
#[derive(Debug, Default)]
pub(crate) struct Supervision {
    kill: Notify,
    /// 0 if there is none.
    memory_limit_bytes: AtomicU64,
}

impl Supervision {
    pub(crate) fn kill(&self) {
        self.kill.notify_one();
    }

    /// Lets the process use this much memory from now on.
    pub(crate) fn limit(&self, pid: u32, bytes: u64) {
        self.memory_limit_bytes.store(bytes, Ordering::Relaxed);
        // It is watched in any case; this only stops one that is very fast.
        if let Err(error) = memory::limit(pid, bytes) {
            tracing::debug!(%error, pid, bytes, "cannot limit what a worker asks for");
        }
    }
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
    /// Starts the program in the working directory, or the one that was fetched there, its output appended to the job's files in `log_dir`.
    pub(crate) fn start(
        program: &ProgramSpec,
        init: &WorkerInit,
        log_dir: &Path,
    ) -> Result<Self, StartError> {
        let path = path_of(program)?;
        let (output, _) = open_log(log_dir, init.job, "out")?;
        let (error_log, errors) = open_log(log_dir, init.job, "err")?;
        let errors_from = error_log.metadata().map_or(0, |metadata| metadata.len());
        let mut child = Command::new(&path)
            .args(&program.args)
            .env(MODE_VARIABLE, WORKER_MODE)
            .envs(
                std::env::var_os(EAGER_COMMIT)
                    .is_none()
                    .then_some((EAGER_COMMIT, "0")),
            )
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
    pub(crate) async fn ended(mut self, supervision: Arc<Supervision>) -> String {
        // If it does not read this, its end is to be told, not this.
        let told = self.input.write_all(&self.first_line).await;
        if let Err(error) = told {
            tracing::warn!(%error, "failed to tell a worker what it is for");
        }
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                () = supervision.kill.notified() => {
                    // It fails only if the process has ended.
                    let _ = self.child.start_kill();
                }
            }
        };
        let words = LastWords::read(&self.errors, self.errors_from);
        match status {
            Ok(status) => {
                let limit = supervision.memory_limit_bytes.load(Ordering::Relaxed);
                words.tell(status, limit)
            }
            Err(error) => format!("ended, but not how: {error}"),
        }
    }
}

fn path_of(program: &ProgramSpec) -> Result<String, StartError> {
    if let Some(artifact) = &program.artifact {
        return Ok(format!("./{}/{}", program::DIRECTORY, artifact.sha256));
    }
    let name = &program.executable;
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err(StartError::Name(name.clone()));
    }
    Ok(format!("./{name}"))
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
