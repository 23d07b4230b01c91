//! Processes die at any instant of a job with checkpoints, which is stopped, rescaled and resumed meanwhile: its committed output is what it
//! would have been.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use spindle_tests::durable::{counts, pairs};
use spindle_tests::hadoop::{Hadoop, OwnHadoop, hadoop};
use spindle_tests::process::{Role, kill_9, with_role};
use spindle_tests::spindle::{Attached, binary, run, spindle};

use super::fresh;

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

/// Where jobs run.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    /// Each in an application of its own.
    Alone,
    /// All on this session.
    Session(&'a str),
}

/// A job that runs, and where it writes.
struct Patient {
    client: Attached,
    output: String,
    application: String,
    job: String,
}

/// How much of a job happens at one parallelism: so many kills, then it is stopped, and resumed at the next.
type Phases = [(u32, usize)];

/// What is done to the jobs of a test, and has been.
struct Ward<'a> {
    hadoop: &'a Hadoop,
    place: Place<'a>,
    seed: u64,
    chances: Chances,
    victims: &'a [Victim],
    /// Settings of its jobs beside [`SETTINGS`].
    settings: &'a [&'a str],
    killed: BTreeMap<Victim, usize>,
    records: u64,
    /// How long anything may take.
    limit: Duration,
    /// Savepoints that were asked for and did not come about, since something was killed meanwhile.
    savepoints_lost: usize,
}

impl<'a> Ward<'a> {
    fn new(
        hadoop: &'a Hadoop,
        place: Place<'a>,
        seed: u64,
        records: u64,
        victims: &'a [Victim],
    ) -> Self {
        Self {
            hadoop,
            place,
            seed,
            chances: Chances::new(seed),
            victims,
            settings: &[],
            killed: BTreeMap::new(),
            records,
            limit: Duration::from_secs(420) + Duration::from_secs(records / RATE),
            savepoints_lost: 0,
        }
    }

    fn with(self, settings: &'a [&'a str]) -> Self {
        Self { settings, ..self }
    }

    /// Submits a job and waits until it runs.
    fn admit(&self, parallelism: u32, output: &str, from: Option<&str>) -> Patient {
        let mut command = spindle(&self.hadoop.conf_dir());
        command.args(["run", "--output", "json", "-p", &parallelism.to_string()]);
        match self.place {
            Place::Alone => command.args([
                "-t",
                "yarn-per-job",
                "-D",
                "taskmanager.numberOfTaskSlots=2",
            ]),
            Place::Session(session) => command.args(["-t", "yarn-session", "-yid", session]),
        };
        for setting in SETTINGS.iter().chain(self.settings) {
            command.args(["-D", setting]);
        }
        command.args(from.iter().flat_map(|path| ["-s", path]));
        command.arg(binary("durable")).args([
            "--records",
            &self.records.to_string(),
            "--rate",
            &RATE.to_string(),
            "--output",
            &format!("hdfs://{output}"),
        ]);
        let mut client = Attached::start(&mut command);
        let submitted = client.wait_for(self.limit, "the submission", |event| {
            event["event"] == "submitted"
        });
        client.wait_state("RUNNING", self.limit);
        let text = |name: &str| submitted[name].as_str().unwrap().to_owned();
        Patient {
            client,
            output: output.to_owned(),
            application: text("application_id"),
            job: text("job_id"),
        }
    }

    /// Kills something, if it is there to be killed.
    fn strike(&mut self, application: &str) {
        let victim = self.victims[self.chances.below(self.victims.len() as u64) as usize];
        let role = match victim {
            Victim::Worker => Role::Worker,
            Victim::TaskExecutor => Role::TaskExecutor,
            Victim::ApplicationMaster => Role::ApplicationMaster,
            Victim::DataNode => {
                self.hadoop.kill_and_start("datanode");
                *self.killed.entry(victim).or_insert(0) += 1;
                return;
            }
            Victim::NameNode => {
                self.hadoop.kill_and_start("namenode");
                *self.killed.entry(victim).or_insert(0) += 1;
                return;
            }
        };
        let there = with_role(application, role);
        if !there.is_empty() {
            kill_9(there[self.chances.below(there.len() as u64) as usize].pid);
            *self.killed.entry(victim).or_insert(0) += 1;
        }
    }

    fn kills(&self) -> usize {
        self.killed.values().sum()
    }

    /// Kills so many processes at random instants.
    fn strike_often(&mut self, kills: usize, patients: &mut [Patient]) {
        let enough = self.kills() + kills;
        while self.kills() < enough {
            for patient in &mut *patients {
                let Patient { client, job, .. } = patient;
                assert!(
                    client.is_running(),
                    "seed {}: job {job} ended after {:?}: {:#?}",
                    self.seed,
                    self.killed,
                    client.seen.last()
                );
            }
            // The schedule of the faults, not a condition that is waited for.
            std::thread::sleep(Duration::from_millis(200 + self.chances.below(2000)));
            self.strike(&patients[0].application);
        }
    }

    /// Stops a job with a savepoint, while something is killed: where it lies.
    fn stop(&mut self, mut patient: Patient) -> String {
        let savepoints = fresh("savepoints");
        let begun = Instant::now();
        let mut first = true;
        loop {
            let mut command = spindle(&self.hadoop.conf_dir());
            command.args(["stop", "--output", "json", "-yid", &patient.application]);
            command.args(["-p", &savepoints, &patient.job]);
            let outcome = std::thread::scope(|scope| {
                let stopping = scope.spawn(|| run(&mut command));
                if std::mem::take(&mut first) {
                    std::thread::sleep(Duration::from_millis(self.chances.below(400)));
                    self.strike(&patient.application);
                }
                stopping.join().expect("the verb is waited for")
            });
            if outcome.code == 0 {
                let said: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
                let (code, events) = patient.client.end(self.limit);
                assert_eq!(code, 0, "seed {}: {events:#?}", self.seed);
                return said["path"].as_str().unwrap().to_owned();
            }
            // It was not to be, and the job goes on.
            self.savepoints_lost += 1;
            assert!(
                patient.client.is_running(),
                "seed {}: {outcome:?}",
                self.seed
            );
            assert!(
                begun.elapsed() < self.limit,
                "seed {}: {outcome:?}",
                self.seed
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes jobs, of which the first is stopped and resumed between these phases, to their ends, and compares what they have committed with
    /// what it should be. Says what was done.
    fn survive(mut self, jobs: usize, phases: &Phases) -> String {
        let begun = Instant::now();
        let mut patients: Vec<Patient> = (0..jobs)
            .map(|_| self.admit(phases[0].0, &fresh("durable"), None))
            .collect();
        for (n, (_, kills)) in phases.iter().enumerate() {
            self.strike_often(*kills, &mut patients);
            if let Some((parallelism, _)) = phases.get(n + 1) {
                let patient = patients.remove(0);
                let output = patient.output.clone();
                let savepoint = self.stop(patient);
                patients.insert(0, self.admit(*parallelism, &output, Some(&savepoint)));
            }
        }
        let mut files = 0;
        for Patient { client, output, .. } in patients {
            let (code, events) = client.end(self.limit);
            assert_eq!(
                code, 0,
                "seed {}, {:?}: {events:#?}",
                self.seed, self.killed
            );
            self.is_right(&output);
            files += self.hadoop.part_files(&output).len();
        }
        format!(
            "seed {}, phases {phases:?}: killed {:?} in {:.1} s, {} savepoints lost, {files} part files",
            self.seed,
            self.killed,
            begun.elapsed().as_secs_f64(),
            self.savepoints_lost,
        )
    }

    fn is_right(&self, output: &str) {
        let rows = |name: &str, header: &str| {
            let text = self
                .hadoop
                .fs(&["-cat", &format!("{output}/{name}/part-*")]);
            let rows = text.lines().filter(|line| *line != header);
            let mut rows: Vec<String> = rows.map(str::to_owned).collect();
            rows.sort();
            rows
        };
        let seed = self.seed;
        assert!(
            rows("counts", "key,start,count") == counts(self.records),
            "seed {seed}: counts differ"
        );
        assert!(
            rows("pairs", "ask,bid") == pairs(self.records),
            "seed {seed}: pairs differ"
        );
    }
}

const PROCESSES: [Victim; 2] = [Victim::Worker, Victim::TaskExecutor];
/// Those and HDFS.
const ALL: [Victim; 5] = [
    Victim::Worker,
    Victim::Worker,
    Victim::TaskExecutor,
    Victim::DataNode,
    Victim::NameNode,
];

fn is_long() -> bool {
    std::env::var_os("SPINDLE_LONG").is_some()
}

/// The seed of this run: another one on request (`SPINDLE_SEED`).
fn seed(usual: u64) -> u64 {
    let other = std::env::var("SPINDLE_SEED").ok();
    other.map_or(usual, |text| {
        text.parse().expect("SPINDLE_SEED is a number")
    })
}

/// The long form, on request (`SPINDLE_LONG=1`), kills thirty times and more, HDFS's own daemons among them.
#[test]
fn committed_output_is_right_whatever_is_killed_also_while_a_job_is_stopped_and_rescaled() {
    let done = if is_long() {
        let own = OwnHadoop::of_nodes(2, &[]);
        let ward = Ward::new(&own, Place::Alone, seed(7), 300_000, &ALL);
        ward.survive(1, &[(4, 12), (2, 10), (4, 10)])
    } else {
        let ward = Ward::new(hadoop(), Place::Alone, seed(1), 40_000, &PROCESSES);
        ward.survive(1, &[(4, 2), (2, 1), (4, 2)])
    };
    println!("{done}");
}

#[test]
fn committed_output_is_right_with_unaligned_checkpoints() {
    let ward = Ward::new(hadoop(), Place::Alone, seed(5), 30_000, &PROCESSES);
    let unaligned = ["execution.checkpointing.unaligned.enabled=true"];
    println!("{}", ward.with(&unaligned).survive(1, &[(4, 5)]));
}

/// With so little memory that most of the state is on disk, and checkpoints of its files.
#[cfg(feature = "rocksdb")]
#[test]
fn committed_output_is_right_with_state_on_disk_whatever_is_killed() {
    let settings = [
        "state.backend.type=rocksdb",
        "execution.checkpointing.incremental=true",
        "state.backend.rocksdb.table.size=1k",
        "state.backend.rocksdb.writebuffer.size=1m",
    ];
    let victims = [Victim::Worker, Victim::TaskExecutor];
    let ward = Ward::new(hadoop(), Place::Alone, seed(2), 30_000, &victims);
    println!("{}", ward.with(&settings).survive(1, &[(4, 5)]));
}

#[test]
fn committed_output_is_right_when_the_application_master_is_killed() {
    let victims = [Victim::ApplicationMaster];
    let ward = Ward::new(hadoop(), Place::Alone, seed(1), 20_000, &victims);
    println!("{}", ward.survive(1, &[(4, 1)]));
}

/// In the long form one of them is stopped, rescaled and resumed meanwhile, and HDFS's daemons are killed, too.
#[test]
fn committed_output_is_right_of_all_jobs_of_a_session_that_loses_processes() {
    let own = is_long().then(|| OwnHadoop::of_nodes(2, &[]));
    let hadoop = own.as_deref().unwrap_or_else(|| hadoop());
    let mut start = spindle(&hadoop.conf_dir());
    start.args(["session", "start", "-d", "-nm", "durable", "-s", "2"]);
    let started = run(start.args(["-jm", "256m", "-tm", "512m"]));
    assert_eq!(started.code, 0, "{started:?}");
    let words = started
        .stdout
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let session = words
        .into_iter()
        .find(|word| word.starts_with("application_"))
        .expect("the application's id is printed");
    let place = Place::Session(session);
    let done = if is_long() {
        let ward = Ward::new(hadoop, place, seed(3), 600_000, &ALL);
        ward.survive(3, &[(4, 12), (2, 10), (4, 10)])
    } else {
        let ward = Ward::new(hadoop, place, seed(3), 24_000, &PROCESSES);
        ward.survive(3, &[(4, 4)])
    };
    println!("{done}");
    let mut stop = spindle(&hadoop.conf_dir());
    let stopped = run(stop.args(["session", "stop", "-id", session]));
    assert_eq!(stopped.code, 0, "{stopped:?}");
}
