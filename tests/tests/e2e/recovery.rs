//! Processes die at any instant of a job with checkpoints: its committed output is what it would have been.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use spindle_tests::durable::{counts, pairs};
use spindle_tests::hadoop::{Hadoop, OwnHadoop, hadoop};
use spindle_tests::process::{Role, kill_9, with_role};
use spindle_tests::spindle::{Attached, binary, spindle};

use super::fresh;
use super::sessions::Session;

/// Numbers of each stream a second.
const RATE: u64 = 2000;

/// Chances that can be had again by their seed (xorshift).
struct Chances(u64);

impl Chances {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % limit
    }
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Worker,
    TaskExecutor,
    ApplicationMaster,
    DataNode,
    NameNode,
}

/// Settings of a job that gets over anything.
const SETTINGS: [&str; 6] = [
    "execution.checkpointing.interval=300 ms",
    "execution.checkpointing.tolerable-failed-checkpoints=1000",
    "execution.checkpointing.num-retained=2",
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=0 s",
];

/// A job that runs, and where it writes.
struct Patient {
    client: Attached,
    output: String,
}

impl Patient {
    /// Submits one of so many records with these arguments of `spindle`.
    fn start(hadoop: &Hadoop, arguments: &[&str], records: u64) -> Self {
        let output = fresh("durable");
        let mut command = spindle(&hadoop.conf_dir());
        command
            .args(arguments)
            .args(["--output", "json", "-p", "4"]);
        for setting in SETTINGS {
            command.args(["-D", setting]);
        }
        command.arg(binary("durable")).args([
            "--records",
            &records.to_string(),
            "--rate",
            &RATE.to_string(),
            "--output",
            &format!("hdfs://{output}"),
        ]);
        Self {
            client: Attached::start(&mut command),
            output,
        }
    }
}

/// One job, in an application of its own.
fn alone(hadoop: &Hadoop, records: u64) -> (String, Vec<Patient>) {
    let two_slots = "taskmanager.numberOfTaskSlots=2";
    let arguments = ["run", "-t", "yarn-per-job", "-D", two_slots];
    let mut patient = Patient::start(hadoop, &arguments, records);
    (patient.client.application(), vec![patient])
}

/// Has a seeded schedule kill so many processes of an application, then compares what its jobs have committed with what it should be. Says
/// what was done.
fn survive(
    hadoop: &Hadoop,
    (application, mut patients): (String, Vec<Patient>),
    seed: u64,
    kills: usize,
    records: u64,
    victims: &[Victim],
) -> String {
    let limit = Duration::from_secs(120 + 10 * kills as u64 + records / RATE);
    for patient in &mut patients {
        patient.client.wait_state("RUNNING", limit);
    }
    let mut chances = Chances::new(seed);
    let mut killed = BTreeMap::new();
    let begun = Instant::now();
    while killed.values().sum::<usize>() < kills
        && patients
            .iter_mut()
            .all(|patient| patient.client.is_running())
    {
        // The schedule of the faults, not a condition that is waited for.
        std::thread::sleep(Duration::from_millis(200 + chances.below(2000)));
        let victim = victims[chances.below(victims.len() as u64) as usize];
        let role = match victim {
            Victim::Worker => Role::Worker,
            Victim::TaskExecutor => Role::TaskExecutor,
            Victim::ApplicationMaster => Role::ApplicationMaster,
            Victim::DataNode => {
                hadoop.kill_and_start("datanode");
                *killed.entry(victim).or_insert(0) += 1;
                continue;
            }
            Victim::NameNode => {
                hadoop.kill_and_start("namenode");
                *killed.entry(victim).or_insert(0) += 1;
                continue;
            }
        };
        let there = with_role(&application, role);
        if !there.is_empty() {
            kill_9(there[chances.below(there.len() as u64) as usize].pid);
            *killed.entry(victim).or_insert(0) += 1;
        }
    }
    let mut files = 0;
    for Patient { client, output } in patients {
        let (code, events) = client.end(limit);
        assert_eq!(code, 0, "seed {seed}, {killed:?}: {events:#?}");
        let rows = |name: &str, header: &str| {
            let text = hadoop.fs(&["-cat", &format!("{output}/{name}/part-*")]);
            let rows = text.lines().filter(|line| *line != header);
            let mut rows: Vec<String> = rows.map(str::to_owned).collect();
            rows.sort();
            rows
        };
        assert!(
            rows("counts", "key,start,count") == counts(records),
            "seed {seed}: counts differ"
        );
        assert!(
            rows("pairs", "ask,bid") == pairs(records),
            "seed {seed}: pairs differ"
        );
        files += hadoop.part_files(&output).len();
    }
    let done = format!(
        "seed {seed}: killed {killed:?} in {:.1} s, {files} part files",
        begun.elapsed().as_secs_f64(),
    );
    assert_eq!(
        killed.values().sum::<usize>(),
        kills,
        "a job ended early: {done}"
    );
    done
}

/// The long form, on request (`SPINDLE_LONG=1`), kills thirty times, HDFS's own daemons among them.
#[test]
fn committed_output_is_right_whatever_is_killed() {
    let done = if std::env::var_os("SPINDLE_LONG").is_some() {
        let own = OwnHadoop::of_nodes(2, &[]);
        let victims = [
            Victim::Worker,
            Victim::Worker,
            Victim::TaskExecutor,
            Victim::DataNode,
            Victim::NameNode,
        ];
        survive(&own, alone(&own, 300_000), 7, 30, 300_000, &victims)
    } else {
        let victims = [Victim::Worker, Victim::TaskExecutor];
        survive(hadoop(), alone(hadoop(), 30_000), 1, 5, 30_000, &victims)
    };
    println!("{done}");
}

#[test]
fn committed_output_is_right_when_the_application_master_is_killed() {
    let job = alone(hadoop(), 20_000);
    let done = survive(hadoop(), job, 1, 1, 20_000, &[Victim::ApplicationMaster]);
    println!("{done}");
}

#[test]
fn committed_output_is_right_of_all_jobs_of_a_session_that_loses_processes() {
    let (kills, records) = match std::env::var_os("SPINDLE_LONG") {
        Some(_) => (30, 150_000),
        None => (4, 24_000),
    };
    let session = Session::start("durable", &[]);
    let arguments = ["run", "-t", "yarn-session", "-yid", &session.application];
    let patients = (0..3).map(|_| Patient::start(hadoop(), &arguments, records));
    let jobs = (session.application.clone(), patients.collect());
    let victims = [Victim::Worker, Victim::TaskExecutor];
    println!("{}", survive(hadoop(), jobs, 3, kills, records, &victims));
    assert_eq!(session.stop().code, 0);
}
