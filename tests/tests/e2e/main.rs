//! The whole of Spindle on a real HDFS and YARN: what a user types, what a user and an admin see, and what is left behind.

#![expect(
    clippy::unwrap_used,
    reason = "what is wrong in a test ends it; its helpers are part of it"
)]

mod attempts;
mod containers;
mod doors;
mod endings;
mod engine;
mod faults;
mod flights;
mod labels;
mod leftovers;
mod locks;
mod recovery;
mod refusals;
mod savepoints;
mod sessions;
mod storage;
mod yarn;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use spindle_tests::hadoop::hadoop;
use spindle_tests::spindle::{binary, spindle};

/// Long enough for a small job on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// `spindle run -t yarn-per-job --output json` on the suite's cluster.
fn run_json() -> Command {
    let mut command = spindle(&hadoop().conf_dir());
    command.args(["run", "-t", "yarn-per-job", "--output", "json"]);
    command
}

/// The job with faults on demand.
fn trial() -> PathBuf {
    binary("trial")
}

/// A directory of HDFS that no other test uses; it does not exist yet.
fn fresh(name: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!(
        "/tests/{name}-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

/// What an application's master answers through YARN's proxy, to its owner.
fn proxied(application: &str, path: &str) -> (u16, String) {
    let web = hadoop().web();
    let url = format!("{web}/proxy/{application}{path}?user.name={}", user());
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent.get(&url).call().expect("the proxy answers");
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), text)
}

/// The user that the tests run as.
fn user() -> String {
    let output = Command::new("id")
        .arg("-un")
        .output()
        .expect("id can be started");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
