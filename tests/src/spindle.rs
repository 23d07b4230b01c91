//! The programs under test, from the release build.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Path of a program of the release build.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    let target = own
        .ancestors()
        .nth(3)
        .expect("a test lies in <target>/<profile>/deps")
        .join("release");
    let path = std::env::var_os("SPINDLE_BIN_DIR")
        .map_or(target, PathBuf::from)
        .join(name);
    assert!(
        path.is_file(),
        "{} is missing: run ./scripts/test, or cargo build --release first",
        path.display()
    );
    path
}

/// A `spindle` command against a Hadoop configuration, with nothing of the caller's own settings.
pub fn spindle(conf_dir: &Path) -> Command {
    let mut command = Command::new(binary("spindle"));
    command
        .env("HADOOP_CONF_DIR", conf_dir)
        .env_remove("YARN_CONF_DIR")
        .env_remove("SPINDLE_CONF_DIR")
        .stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or was ended by a signal.
pub fn run(command: &mut Command) -> Outcome {
    let output = command.output().expect("the command can be started");
    Outcome {
        code: output.status.code().expect("the command exits by itself"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// An attached `spindle run --output json` that is watched event by event.
pub struct Attached {
    child: Child,
    events: mpsc::Receiver<Value>,
    /// All events so far.
    pub seen: Vec<Value>,
}

impl Attached {
    /// Starts it. `command` is `spindle run …`; `--output json` has to be among its arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the command can be started");
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            events,
            seen: Vec::new(),
        }
    }

    /// Waits for an event and returns it.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    pub fn wait_for(
        &mut self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let start = Instant::now();
        loop {
            match self
                .events
                .recv_timeout(limit.saturating_sub(start.elapsed()))
            {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(_) => panic!(
                    "waited {limit:?} in vain for {what}; events so far: {:#?}",
                    self.seen
                ),
            }
        }
    }

    /// Waits for the application to be submitted and returns its id.
    pub fn application(&mut self) -> String {
        let event = self.wait_for(Duration::from_secs(30), "the submission", |event| {
            event["event"] == "submitted"
        });
        event["application_id"]
            .as_str()
            .expect("an application id is text")
            .to_owned()
    }

    /// Waits for the job to be in a state.
    pub fn wait_state(&mut self, state: &str, limit: Duration) {
        self.wait_for(limit, state, |event| {
            event["event"] == "job_state" && event["state"] == state
        });
    }

    /// Waits for the client to end and returns its exit code; all events are then in `seen`.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub fn end(mut self, limit: Duration) -> (i32, Vec<Value>) {
        let start = Instant::now();
        loop {
            match self
                .events
                .recv_timeout(limit.saturating_sub(start.elapsed()))
            {
                Ok(event) => self.seen.push(event),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!(
                    "the client did not end within {limit:?}; events: {:#?}",
                    self.seen
                ),
            }
        }
        let status = self.child.wait().expect("the client can be waited for");
        (
            status.code().expect("the client exits by itself"),
            std::mem::take(&mut self.seen),
        )
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Process id of the client.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // A failing test must not leave the client behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
