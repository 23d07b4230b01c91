//! The Hadoop that the suites run on: brought up by `scripts/local-hadoop`, once for all tests of a run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running cluster: NameNode, DataNode, ResourceManager and two NodeManagers.
pub struct Hadoop {
    directory: PathBuf,
    environment: HashMap<String, String>,
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

/// The cluster of this test run, started if it is not up. Its directory is `SPINDLE_HADOOP_DIR`, or one of the script's own choice.
///
/// # Panics
/// When Hadoop does not come up; what the script said is in the message.
pub fn hadoop() -> &'static Hadoop {
    static HADOOP: OnceLock<Hadoop> = OnceLock::new();
    HADOOP.get_or_init(|| {
        let directory = std::env::var_os("SPINDLE_HADOOP_DIR").map_or_else(
            || std::env::temp_dir().join("spindle-tests-hadoop"),
            PathBuf::from,
        );
        Hadoop::up(directory, 2, &[])
    })
}

/// Runs `scripts/local-hadoop`; what it printed.
fn script(directory: &Path, verb: &str, arguments: &[String]) -> String {
    let output = Command::new(repository().join("scripts/local-hadoop"))
        .args([verb, "--dir"])
        .arg(directory)
        .args(arguments)
        .output()
        .expect("scripts/local-hadoop can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "local-hadoop {verb} failed: {said}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A cluster for one test, with settings of its own; gone when it is dropped.
pub struct OwnHadoop {
    hadoop: Hadoop,
    _directory: tempfile::TempDir,
}

impl OwnHadoop {
    /// Brings it up with one NodeManager and these settings, `key=value`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(settings: &[&str]) -> Self {
        Self::of_nodes(1, settings)
    }

    /// Brings it up with so many NodeManagers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn of_nodes(nodes: u32, settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self {
            hadoop: Hadoop::up(directory.path().to_owned(), nodes, settings),
            _directory: directory,
        }
    }
}

impl std::ops::Deref for OwnHadoop {
    type Target = Hadoop;

    fn deref(&self) -> &Hadoop {
        &self.hadoop
    }
}

impl Drop for OwnHadoop {
    fn drop(&mut self) {
        script(&self.hadoop.directory, "down", &[]);
    }
}

impl Hadoop {
    fn up(directory: PathBuf, nodes: u32, settings: &[&str]) -> Self {
        let mut arguments = vec!["--nodes".to_owned(), nodes.to_string()];
        for setting in settings {
            arguments.extend(["-D".to_owned(), (*setting).to_owned()]);
        }
        script(&directory, "up", &arguments);
        let environment = script(&directory, "env", &[])
            .lines()
            .filter_map(|line| line.trim().strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .collect();
        Self {
            directory,
            environment,
        }
    }

    /// Kills a daemon with -9, such as `datanode`, and starts it again; returns when it is healthy.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn kill_and_start(&self, daemon: &str) {
        for verb in ["kill", "start"] {
            script(&self.directory, verb, &[daemon.to_owned()]);
        }
    }

    /// Address of the ResourceManager's web pages.
    pub fn web(&self) -> &str {
        self.environment["HADOOP_RM_WEB"].trim_end_matches('/')
    }

    /// The directory of its site files.
    pub fn conf_dir(&self) -> PathBuf {
        PathBuf::from(&self.environment["HADOOP_CONF_DIR"])
    }

    /// Runs Hadoop's own file system shell and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn fs(&self, args: &[&str]) -> String {
        let output = self.try_fs(args);
        assert!(
            output.status.success(),
            "fs {args:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs Hadoop's own file system shell.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn try_fs(&self, args: &[&str]) -> std::process::Output {
        Command::new(repository().join("scripts/local-hadoop"))
            .arg("fs")
            .arg("--dir")
            .arg(&self.directory)
            .args(args)
            .output()
            .expect("scripts/local-hadoop can be started")
    }

    /// Puts a local file into HDFS unless one of that name is there. Tests of one suite that want the same file wait for each other.
    pub fn put(&self, local: &Path, remote: &str) {
        static ONE_BY_ONE: Mutex<()> = Mutex::new(());
        let _guard = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.try_fs(&["-test", "-e", remote]).status.success() {
            let parent = remote.rsplit_once('/').map_or("/", |(parent, _)| parent);
            self.fs(&["-mkdir", "-p", parent]);
            self.fs(&["-put", &local.display().to_string(), remote]);
        }
    }

    /// The part files below a directory of HDFS, joined, without the header of each.
    pub fn rows(&self, directory: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for file in self.part_files(directory) {
            rows.extend(self.fs(&["-cat", &file]).lines().skip(1).map(str::to_owned));
        }
        rows.sort();
        rows
    }

    /// Paths of all files below a directory of HDFS; none if it does not exist.
    pub fn part_files(&self, directory: &str) -> Vec<String> {
        let listing = self.try_fs(&["-ls", "-R", directory]);
        let text = String::from_utf8_lossy(&listing.stdout).into_owned();
        text.lines()
            .filter(|line| line.starts_with('-'))
            .filter_map(|line| line.split_whitespace().last())
            .map(str::to_owned)
            .collect()
    }

    /// What the ResourceManager's REST API answers to `GET /ws/v1/cluster/<path>`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn rm(&self, path: &str) -> Value {
        let url = format!("{}/ws/v1/cluster/{path}", self.web());
        let mut response = ureq::get(&url)
            .header("accept", "application/json")
            .call()
            .expect("the ResourceManager answers");
        response
            .body_mut()
            .read_json()
            .expect("the ResourceManager answers with JSON")
    }

    /// The report of one application.
    pub fn app(&self, application: &str) -> Value {
        self.rm(&format!("apps/{application}"))["app"].clone()
    }

    /// Asks the ResourceManager to kill an application.
    ///
    /// # Panics
    /// When it refuses.
    pub fn kill(&self, application: &str) {
        let web = self.web();
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let url = format!("{web}/ws/v1/cluster/apps/{application}/state?user.name={user}");
        let answer = ureq::put(&url).send_json(serde_json::json!({"state": "KILLED"}));
        answer.expect("the ResourceManager takes the kill");
    }

    /// Waits until an application's report has what is wanted.
    ///
    /// # Panics
    /// When it has not after `limit`.
    pub fn wait_app(
        &self,
        application: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        wait(
            limit,
            &format!("{application} to get where the test wants it"),
            || {
                last = self.app(application);
                wanted(&last).then(|| last.clone())
            },
        )
    }
}

/// Looks again and again until there is something.
///
/// # Panics
/// When there is nothing after `limit`.
pub fn wait<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < limit,
            "waited {limit:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
