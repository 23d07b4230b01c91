//! A part of a job ends, the rest goes on and is killed: what the part wrote is seen once, and is not written again.

use std::time::Duration;

use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Role, kill_9, with_role};
use spindle_tests::spindle::{Attached, binary, spindle};

use super::{LIMIT, fresh};

const FEW: u64 = 500;
const MANY: u64 = 40_000;
const RATE: u64 = 1000;

/// The rows of part files, in the order of numbers.
fn rows(directory: &str) -> Vec<u64> {
    let text = hadoop().try_fs(&["-cat", &format!("{directory}/part-*")]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let mut rows: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn committed_output_is_right_of_a_job_that_is_killed_after_a_part_of_it_has_ended() {
    let output = fresh("endings");
    let mut command = spindle(&hadoop().conf_dir());
    command
        .args(["run", "-t", "yarn-per-job", "--output", "json", "-p", "2"])
        .args(["-D", "taskmanager.numberOfTaskSlots=2"])
        .args(["-D", "execution.checkpointing.interval=300 ms"])
        .args([
            "-D",
            "execution.checkpointing.tolerable-failed-checkpoints=1000",
        ])
        .args(["-D", "restart-strategy.type=fixed-delay"])
        .args(["-D", "restart-strategy.fixed-delay.attempts=1000"])
        .args(["-D", "restart-strategy.fixed-delay.delay=0 s"])
        .arg(binary("endings"))
        .args(["--few", &FEW.to_string(), "--many", &MANY.to_string()])
        .args(["--rate", &RATE.to_string()])
        .args(["--output", &format!("hdfs://{output}")]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    client.wait_state("RUNNING", LIMIT);
    let few: Vec<u64> = (0..FEW).collect();
    // It is seen though the job goes on: a checkpoint is complete that was begun after the end of its source.
    wait(LIMIT, "what has ended is seen", || {
        (rows(&format!("{output}/few")) == few).then_some(())
    });
    assert!(client.is_running());
    for role in [Role::Worker, Role::TaskExecutor, Role::ApplicationMaster] {
        let victim = wait(LIMIT, "a process to kill", || {
            assert!(
                client.is_running(),
                "the job ended before {role:?} could be killed"
            );
            let there = with_role(&application, role);
            there.first().map(|victim| victim.pid)
        });
        kill_9(victim);
    }
    let (code, events) = client.end(LIMIT + Duration::from_secs(MANY / RATE));
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(rows(&format!("{output}/few")), few);
    let all: Vec<u64> = (0..FEW + MANY).collect();
    assert!(rows(&format!("{output}/all")) == all, "rows differ");
}
