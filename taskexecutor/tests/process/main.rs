//! The process itself, against a JobManager made up for the test, over real streams. Its worker is this test's own executable, started
//! again with the test `worker_program` alone.
#![expect(clippy::unwrap_used, reason = "tests, and what they are made of")]

mod artifact;
mod isolation;
mod life;
mod program;
mod support;

use spindle_common::program::{MODE_VARIABLE, WORKER_MODE, WorkerInit};

/// The worker's program, when a TaskExecutor runs it; by itself it shows that its graph is one.
#[test]
fn worker_program() {
    if std::env::var(MODE_VARIABLE).as_deref() != Ok(WORKER_MODE) {
        assert_eq!(program::dataflow("").graph.validate(), Ok(()));
        return;
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let init: WorkerInit = serde_json::from_str(&line).unwrap();
    let behaviour = init
        .config
        .iter()
        .find(|(key, _)| key == program::BEHAVIOUR)
        .map_or_else(String::new, |(_, value)| value.clone());
    if behaviour == "exit" {
        eprintln!("cannot open the flux capacitor");
        std::process::exit(7);
    }
    let ended = spindle_worker::process::run(Ok((program::dataflow(&behaviour), None)), init);
    std::process::exit(i32::from(ended.is_err()));
}
