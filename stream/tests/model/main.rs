//! The engine against a plain model: random jobs over random inputs, at random parallelism and disorder, come to the same.
//!
//! `job.rs` says what a random job is, `model.rs` what it comes to, `build.rs` how it is written in the API.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod build;
mod functions;
mod job;
mod model;
mod ordered;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, ExitCode};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use spindle_stream::testing::Harness;

use crate::job::Job;
use crate::model::Timed;

/// Names the file with the job that this executable is to run instead of tests.
const JOB_VARIABLE: &str = "SPINDLE_TEST_MODEL_JOB";

fn run(job: &Job) -> Vec<Timed> {
    let mut harness = Harness::new(2);
    build::build_with_times(harness.env(), job).collect("out");
    let finished = harness.run().unwrap();
    assert_eq!(finished.late_records_dropped(), 0);
    let mut out = finished.collected("out");
    out.sort_unstable();
    out
}

/// Runs the job as people do: as a program, on the cluster within. This executable is the program.
fn run_as_program(job: &Job) -> Vec<Timed> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&mut file, job).unwrap();
    file.flush().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program", "--nocapture"])
        .env(JOB_VARIABLE, file.path())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{said}");
    // The frame of the test prints, too.
    let rows = printed.lines().filter(|line| line.starts_with("[{"));
    let mut out: Vec<Timed> = rows
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    out.sort_unstable();
    out
}

/// The program that [`run_as_program`] starts; among the other tests it has no job, and nothing to do.
#[test]
fn the_program() {
    let Ok(path) = std::env::var(JOB_VARIABLE) else {
        return;
    };
    let job: Job = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let exit = spindle_stream::main("random job", |env| {
        build::build_with_times(env, &job).collect("out");
        Ok(())
    });
    assert_eq!(exit, ExitCode::SUCCESS);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn any_job_comes_to_what_the_model_says(job in job::job()) {
        let expected = model::evaluate(&job);
        prop_assume!(expected.is_some());
        let mut expected = expected.unwrap();
        expected.sort_unstable();
        prop_assert_eq!(run(&job), expected);
    }

    #[test]
    fn what_depends_on_order_comes_to_what_the_model_says(
        operator in ordered::operator(), elements in ordered::elements(), parallelism in 1_u32..5,
    ) {
        let expected = ordered::model(operator, &elements);
        prop_assert_eq!(ordered::run(operator, elements, parallelism), expected);
    }
}

/// Of each enum that a job is made of, its variants; a description of a job names those that are in it.
const OPERATORS: &str = "Map Rekey Filter FlatMap Split Stamp Restamp Async Running Timers Window WindowAll Total \
    Reduce Aggregate Scan Value List Map Reducing Aggregating AggregateWith AggregateProcess Process \
    Tumbling Sliding Session SessionOf ProcessingTumbling ProcessingSliding ProcessingSession GlobalCount TumblingCount Continuous GlobalNever \
    Union CoMap CoFlatMap CoProcess KeyedCoProcess Join CoGroup Interval Broadcast KeyedBroadcast \
    Forward Rebalance Rescale Shuffle Global Custom Bounded PerRecord Default Head Never";

#[test]
fn jobs_have_every_operator_and_mostly_an_answer() {
    let mut runner = TestRunner::deterministic();
    let mut missing: BTreeSet<&str> = OPERATORS.split_whitespace().collect();
    let (mut operators, mut rows) = (0, 0);
    for _ in 0..300 {
        let job = job::job().new_tree(&mut runner).unwrap().current();
        let text = format!("{job:?}");
        let words = text.split(|c: char| !c.is_alphanumeric());
        let words: BTreeSet<&str> = words.collect();
        missing.retain(|name| !words.contains(name));
        operators += text.matches("place:").count();
        rows += usize::from(model::evaluate(&job).is_some_and(|rows| !rows.is_empty()));
    }
    assert!(missing.is_empty(), "no job has {missing:?}");
    assert!(operators >= 600, "{operators} operators in 300 jobs");
    assert!(rows >= 150, "{rows} of 300 jobs have an answer");
}

proptest! {
    // Each case starts a process and a cluster.
    #![proptest_config(ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn any_program_comes_to_what_the_model_says(job in job::job()) {
        let expected = model::evaluate(&job);
        prop_assume!(expected.is_some());
        let mut expected = expected.unwrap();
        expected.sort_unstable();
        prop_assert_eq!(run_as_program(&job), expected);
    }
}
