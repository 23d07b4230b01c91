//! The engine against a plain model: random jobs over random inputs, at random parallelism and disorder, come to the same.
//!
//! `job.rs` says what a random job is, `model.rs` what it comes to, `build.rs` how it is written in the API.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod build;
mod functions;
mod job;
mod model;
mod ordered;
mod paced;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use spindle_stream::testing::{Harness, JobSnapshot, Kill};

use crate::job::Job;
use crate::model::Timed;

/// Names the file with the job that this executable is to run instead of tests.
const JOB_VARIABLE: &str = "SPINDLE_TEST_MODEL_JOB";

fn run(job: &Job) -> Vec<Timed> {
    run_killed(job, &[])
}

/// Runs the job, kills it each time, and goes on from what is left, the job rescaled by so much.
fn run_killed(job: &Job, kills: &[(Kill, u32)]) -> Vec<Timed> {
    let mut left = JobSnapshot::default();
    let mut job = job.clone();
    let harness = |job: &Job| {
        let mut harness = Harness::new(2);
        build::build_with_times(harness.env(), job).collect("out");
        harness
    };
    for (kill, rescaled_by) in kills {
        left = harness(&job).run_until_killed(&left, kill).unwrap();
        job = job.rescaled(*rescaled_by);
    }
    let finished = harness(&job).run_from(&left).unwrap();
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
    #![proptest_config(ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::with_cases(1000) })]

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

/// How long checkpoints are aligned; none if always.
fn aligned() -> impl Strategy<Value = Option<u64>> {
    Just(None)
}

/// Most time-outs are over before all barriers are there.
fn unaligned() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(Some(0)), 1 => (1_u64..4).prop_map(Some)]
}

/// After which steps to checkpoint, and to kill. Most kills find their checkpoints complete.
fn kill(timeout: impl Strategy<Value = Option<u64>>) -> impl Strategy<Value = Kill> {
    let steps = prop_oneof![1 => 0..=paced::STEPS, 2 => paced::STEPS / 2..=paced::STEPS];
    let checkpoints = prop::collection::vec(0..paced::STEPS / 2, 1..4);
    let loses = prop::bool::weighted(0.2);
    (steps, checkpoints, timeout, loses).prop_map(|(steps, checkpoints, timeout, loses)| {
        let kill = checkpoints
            .into_iter()
            .fold(Kill::after(steps), Kill::checkpoint_after);
        let kill = match timeout {
            Some(ms) => kill.unaligned(Duration::from_millis(ms)),
            None => kill,
        };
        if loses {
            kill.losing_pending_checkpoints()
        } else {
            kill
        }
    })
}

/// One to three, with a number below four for each.
fn kills(timeout: impl Strategy<Value = Option<u64>>) -> impl Strategy<Value = Vec<(Kill, u32)>> {
    let by = prop_oneof![1 => Just(0_u32), 1 => 1_u32..4];
    prop::collection::vec((kill(timeout), by), 1..=3)
}

/// Kills, each with the parallelism of the run that it ends, and the parallelism of the last run. What an unaligned checkpoint holds of a channel
/// keeps its place between watermarks, which have come to another instant in each subtask: so order is kept at the same parallelism.
fn kills_in_order() -> impl Strategy<Value = (Vec<(Kill, u32)>, u32)> {
    let one_up = |(kill, n): (Kill, u32)| (kill, n + 1);
    let rescaled = (kills(aligned()), 1_u32..5);
    let rescaled =
        rescaled.prop_map(move |(kills, last)| (kills.into_iter().map(one_up).collect(), last));
    let same = (kills(unaligned()), 1_u32..5);
    let same = same.prop_map(|(kills, all)| {
        let kills = kills.into_iter().map(|(kill, _)| (kill, all));
        (kills.collect(), all)
    });
    prop_oneof![1 => rescaled, 2 => same]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_job_that_is_killed_and_restored_comes_to_the_same(
        job in job::job(), kills in kills(prop_oneof![1 => aligned(), 2 => unaligned()]),
    ) {
        let expected = model::evaluate(&job);
        prop_assume!(expected.is_some());
        let mut expected = expected.unwrap();
        expected.sort_unstable();
        prop_assert_eq!(run_killed(&job, &kills), expected);
    }

    #[test]
    fn what_depends_on_order_comes_to_the_same_after_kills(
        operator in ordered::operator(), elements in ordered::elements(), (kills, parallelism) in kills_in_order(),
    ) {
        let (out, late, _) = ordered::model(operator, &elements);
        let (made, made_late, _) = ordered::run_killed(operator, &elements, &kills, parallelism);
        prop_assert_eq!((made, made_late), (out, late));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::with_cases(50) })]

    #[test]
    fn what_counts_at_least_once_may_count_again_but_is_not_lost(
        kills in kills(aligned()), parallelism in 1_u32..4,
    ) {
        const COUNT: u64 = 12_000;
        let harness = |parallelism: u32| {
            let mut harness = Harness::new(parallelism);
            // As many steps for each of the two that read as a kill counts.
            let numbers = harness.env().generate(COUNT, |n| n).set_parallelism(2).rebalance();
            let counted = numbers.map(|n| n).key_by(|n| *n).scan(|| 0_u64, |seen, n| {
                *seen += 1;
                (n, *seen)
            });
            counted.collect("counted");
            harness
        };
        let (mut left, mut now) = (JobSnapshot::default(), parallelism);
        for (kill, rescaled_by) in kills {
            left = harness(now).run_until_killed(&left, &kill.at_least_once()).unwrap();
            now = (now - 1 + rescaled_by) % 4 + 1;
        }
        let finished = harness(now).run_from(&left).unwrap();
        let counted = finished.collected::<(u64, u64)>("counted");
        let numbers: BTreeSet<u64> = counted.iter().map(|(n, _)| *n).collect();
        prop_assert!(numbers.into_iter().eq(0..COUNT));
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

#[test]
fn kills_mostly_leave_a_checkpoint() {
    let mut runner = TestRunner::deterministic();
    let (mut kills, mut left, mut in_flight) = (0, 0, 0);
    while kills < 100 {
        let job = job::job().new_tree(&mut runner).unwrap().current();
        let kill = kill(unaligned()).new_tree(&mut runner).unwrap().current();
        let mut harness = Harness::new(2);
        build::build_with_times(harness.env(), &job).collect("out");
        let snapshot = harness.run_until_killed(&JobSnapshot::default(), &kill);
        let snapshot = snapshot.unwrap();
        kills += 1;
        left += usize::from(snapshot.checkpoint().is_some());
        in_flight += usize::from(snapshot.buffers_in_flight() > 0);
    }
    assert!(left >= 50, "{left} of {kills} kills left a checkpoint");
    assert!(in_flight >= 10, "{in_flight} had something under way");
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
