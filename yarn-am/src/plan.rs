//! Runs a job's executable in plan mode in this container, and takes its job graph.
//!
//! The program is the user's: it gets HDFS's tokens and none of this process's own secrets, its output goes to files beside the
//! log, and it has its time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use spindle_common::deployment::JOB_EXECUTABLE;
use spindle_common::job_graph::{InvalidJobGraph, JobGraph};
use spindle_common::program::{MODE_VARIABLE, PLAN_MODE, PlanInit};
use spindle_hadoop::token::{Credentials, TokenKind};
use spindle_rpc::job_graph::DecodeError;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Names the file with the tokens, for Hadoop clients.
const TOKEN_FILE_VARIABLE: &str = "HADOOP_TOKEN_FILE_LOCATION";
const TOKEN_FILE: &str = "plan.tokens";
const PLAN_FILE: &str = "plan.pb";
const OUTPUT: &str = "plan.out";
const ERRORS: &str = "plan.stderr";
/// How long a program may plan: sources may have many files to look at.
const PATIENCE: Duration = Duration::from_secs(300);

/// A program that is to be planned.
#[derive(Debug)]
pub(crate) struct Program {
    /// Where it lies and its plan is written: the container's working directory.
    pub(crate) directory: PathBuf,
    /// Where its output goes.
    pub(crate) log_dir: PathBuf,
    /// Its arguments, as the user gave them.
    pub(crate) args: Vec<String>,
    /// Settings of its jobs.
    pub(crate) config: Vec<(String, String)>,
    /// Hadoop's settings.
    pub(crate) hadoop: Vec<(String, String)>,
    /// Hadoop user.
    pub(crate) user: String,
    /// How long it may take.
    pub(crate) patience: Duration,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// It could not be started, or its files could not be used.
    #[error("failed to {what} to plan the program's jobs")]
    Io {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
    /// It took too long.
    #[error("the program was ended as it did not plan its jobs within {0:?}")]
    TimedOut(Duration),
    /// It says itself why.
    #[error("the program cannot run: {0}")]
    Refused(String),
    /// It ended otherwise.
    #[error("the program could not be planned: it ended with {status}{tail}")]
    Ended { status: ExitStatus, tail: String },
    /// It ended well without a plan.
    #[error(
        "the program ended without a plan: its `main` has to return what `spindle_stream::main` returns"
    )]
    NoPlan(#[source] io::Error),
    /// Its plan is of another version, or broken.
    #[error("the program's plan cannot be read")]
    Decode(#[source] DecodeError),
    /// Its plan makes no sense.
    #[error("the program's plan cannot be run")]
    Invalid(#[source] InvalidJobGraph),
}

impl Program {
    /// The program of this container.
    pub(crate) fn new(
        directory: PathBuf,
        log_dir: PathBuf,
        args: Vec<String>,
        config: Vec<(String, String)>,
        hadoop: Vec<(String, String)>,
        user: String,
    ) -> Self {
        Self {
            directory,
            log_dir,
            args,
            config,
            hadoop,
            user,
            patience: PATIENCE,
        }
    }

    /// Runs it in plan mode. If this is dropped, the program is killed.
    ///
    /// # Errors
    /// If no job graph came of it.
    pub(crate) async fn plan(&self, credentials: &Credentials) -> Result<JobGraph, PlanError> {
        let tokens = self.directory.join(TOKEN_FILE);
        hand_over(&tokens, credentials).map_err(io_error("write the tokens"))?;
        let planned = self.run(&tokens).await;
        if let Err(error) = std::fs::remove_file(&tokens) {
            tracing::debug!(%error, "the plan's tokens stay until the container ends");
        }
        planned
    }

    async fn run(&self, tokens: &Path) -> Result<JobGraph, PlanError> {
        let plan_file = self.directory.join(PLAN_FILE);
        let init = PlanInit {
            plan_file: plan_file.display().to_string(),
            config: self.config.clone(),
            hadoop: self.hadoop.clone(),
            user: self.user.clone(),
        };
        let mut line = serde_json::to_vec(&init).expect("a plan request is plain data");
        line.push(b'\n');
        let log = |name| File::create(self.log_dir.join(name)).map_err(io_error("open the logs"));
        let mut child = Command::new(self.directory.join(JOB_EXECUTABLE))
            .args(&self.args)
            .current_dir(&self.directory)
            .env(MODE_VARIABLE, PLAN_MODE)
            .env(TOKEN_FILE_VARIABLE, tokens)
            .stdin(Stdio::piped())
            .stdout(log(OUTPUT)?)
            .stderr(log(ERRORS)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(io_error("start the program"))?;
        let stdin = child.stdin.take();
        let told_and_ended = async {
            if let Some(mut stdin) = stdin {
                // A program that never reads is reported by its exit, not by the broken pipe.
                drop(stdin.write_all(&line).await);
            }
            child.wait().await
        };
        let status = tokio::time::timeout(self.patience, told_and_ended)
            .await
            .map_err(|_| PlanError::TimedOut(self.patience))?
            .map_err(io_error("wait for the program"))?;
        if !status.success() {
            let reason = std::fs::read_to_string(plan_file.with_extension("pb.error"));
            let reason = reason.unwrap_or_default();
            return Err(match reason.trim() {
                "" => PlanError::Ended {
                    status,
                    tail: last_line(&self.log_dir.join(ERRORS)),
                },
                reason => PlanError::Refused(reason.to_owned()),
            });
        }
        let bytes = std::fs::read(&plan_file).map_err(PlanError::NoPlan)?;
        let graph = spindle_rpc::job_graph::decode_plan(&bytes).map_err(PlanError::Decode)?;
        graph.validate().map_err(PlanError::Invalid)?;
        Ok(graph)
    }
}

const fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> PlanError {
    move |cause| PlanError::Io { what, cause }
}

/// Writes a file that only this user can read, with the tokens that HDFS takes and nothing else.
fn hand_over(path: &Path, credentials: &Credentials) -> io::Result<()> {
    let mut given = Credentials::new();
    for (alias, token) in credentials.tokens() {
        if token.kind == TokenKind::HdfsDelegation {
            given.add_token(alias, token.clone());
        }
    }
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&given.encode())
}

/// The last line that is called an error, else the last with something in it, as the end of a sentence.
fn last_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim);
    let error = lines.clone().rfind(|line| line.starts_with("error"));
    let last = error.or_else(|| lines.rfind(|line| !line.is_empty()));
    last.map_or_else(String::new, |line| {
        let line: String = line.chars().take(400).collect();
        format!(": {line}")
    })
}

#[cfg(test)]
mod tests {
    use spindle_common::id::JobVertexId;
    use spindle_common::job_graph::{
        DEFAULT_SLOT_SHARING_GROUP, JobVertex, OperatorDescriptor, OperatorKind,
    };
    use spindle_hadoop::token::Token;
    use std::collections::BTreeMap;

    use super::*;
    use crate::process::report;

    fn graph() -> JobGraph {
        let operator = OperatorDescriptor {
            uid: "a".to_owned(),
            name: "a".to_owned(),
            kind: OperatorKind::Source,
        };
        JobGraph {
            name: "a job".to_owned(),
            vertices: vec![JobVertex {
                id: JobVertexId::from_bytes([1; 16]),
                parallelism: 1,
                max_parallelism: 1,
                operators: vec![operator],
                splits: vec![Vec::new()],
                staging: Vec::new(),
                slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
            }],
            edges: Vec::new(),
            slot_profiles: BTreeMap::new(),
        }
    }

    fn program(directory: &tempfile::TempDir, script: &str) -> Program {
        // Not a script: one that another thread's child still has open for writing could not be started.
        std::os::unix::fs::symlink("/bin/sh", directory.path().join(JOB_EXECUTABLE)).unwrap();
        let args = ["-c", script, "sh", "--in", "a b"];
        Program::new(
            directory.path().to_owned(),
            directory.path().to_owned(),
            args.map(str::to_owned).to_vec(),
            vec![("parallelism.default".to_owned(), "2".to_owned())],
            Vec::new(),
            "alice".to_owned(),
        )
    }

    fn credentials() -> Credentials {
        let mut credentials = Credentials::new();
        for (alias, kind) in [("", TokenKind::AmRm), ("nn", TokenKind::HdfsDelegation)] {
            let token = Token {
                identifier: vec![1],
                password: vec![2].into(),
                kind,
                service: String::new(),
            };
            credentials.add_token(alias, token);
        }
        credentials.add_secret("spindle.secret", vec![7; 32]);
        credentials
    }

    #[tokio::test]
    async fn a_program_plans_with_hdfs_tokens_and_without_our_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(
            path.join("ready"),
            spindle_rpc::job_graph::encode_plan(&graph()),
        )
        .unwrap();
        let script = "read line; echo \"$line\"; echo \"$SPINDLE_MODE $2\"; \
             cp \"$HADOOP_TOKEN_FILE_LOCATION\" seen; cp ready plan.pb";
        let planned = program(&directory, script).plan(&credentials()).await;
        assert_eq!(planned.unwrap(), graph());
        let said = std::fs::read_to_string(path.join(OUTPUT)).unwrap();
        let (line, rest) = said.split_once('\n').unwrap();
        let init: PlanInit = serde_json::from_str(line).unwrap();
        assert_eq!((init.user.as_str(), init.config.len()), ("alice", 1));
        assert_eq!(rest, "plan a b\n");
        let seen = Credentials::from_file(&path.join("seen")).unwrap();
        assert_eq!(seen.tokens().count(), 1);
        assert!(seen.token_of_kind(&TokenKind::HdfsDelegation).is_some());
        assert_eq!(seen.secret_aliases().count(), 0);
        assert!(!path.join(TOKEN_FILE).exists());
    }

    #[tokio::test]
    async fn what_a_program_says_of_its_failure_is_the_reason() {
        for (script, words) in [
            (
                "echo 'there is no input' > plan.pb.error; exit 2",
                "the program cannot run: there is no input",
            ),
            (
                "echo 'error: no file' >&2; echo usage >&2; exit 2",
                "the program could not be planned: it ended with exit status: 2: error: no file",
            ),
            ("exit 0", "the program ended without a plan"),
            ("echo x > plan.pb", "the program's plan cannot be read"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let planned = program(&directory, script).plan(&credentials()).await;
            let said = report(&planned.unwrap_err());
            assert!(said.starts_with(words), "{said}");
        }
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = program(&directory, "exec sleep 1000");
        program.patience = Duration::from_millis(50);
        let error = program.plan(&credentials()).await.unwrap_err();
        assert!(matches!(error, PlanError::TimedOut(_)), "{error}");
    }
}
