//! Damage to the files of RocksDB in incremental checkpoints. This file is a job's executable: it starts itself again.
//!
//! Whatever happens to a file, a job that begins there says which it is, or its answer is right because it does not need it; and a job that has an
//! earlier checkpoint goes back to that.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test with a main of its own"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use spindle_common::program::{MODE_VARIABLE, SETTINGS_VARIABLE};
use spindle_stream::StreamEnvironment;

/// Makes this executable a job instead of a test: where its checkpoints are, and what it does to the newest once there are some.
const JOB_VARIABLE: &str = "SPINDLE_TEST_JOB";
const NOTHING: &str = "nothing";
/// A job that does not fail.
const NEVER: &str = "never";
const CHECKPOINTED: &str = "execution.checkpointing.interval=50 ms";
const RESTARTS: &str = "restart-strategy.type=fixed-delay";
const RECORDS: u64 = 200_000;
const KEYS: u64 = 2_000;
/// The number of a complete checkpoint before the job fails: the newest needs files of those before it.
const CHECKPOINTS: u64 = 4;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    FlipFirst,
    FlipMiddle,
    FlipLast,
    CutLast,
    CutHalf,
    Empty,
    Remove,
}

const HARMS: [Harm; 7] = [
    Harm::FlipFirst,
    Harm::FlipMiddle,
    Harm::FlipLast,
    Harm::CutLast,
    Harm::CutHalf,
    Harm::Empty,
    Harm::Remove,
];

impl Harm {
    fn of(name: &str) -> Option<Self> {
        HARMS.into_iter().find(|harm| format!("{harm:?}") == name)
    }

    fn does(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let length = bytes.len();
        match self {
            Self::FlipFirst => bytes[0] ^= 1,
            Self::FlipMiddle => bytes[length / 2] ^= 1,
            Self::FlipLast => bytes[length - 1] ^= 1,
            Self::CutLast => bytes.truncate(length - 1),
            Self::CutHalf => bytes.truncate(length / 2),
            Self::Empty => bytes.clear(),
            Self::Remove => return std::fs::remove_file(path).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }
}

fn main() -> ExitCode {
    let Ok(job) = std::env::var(JOB_VARIABLE) else {
        each_file_that_is_harmed_is_named_or_not_needed();
        a_job_goes_back_to_the_checkpoint_before_the_one_that_is_harmed();
        return ExitCode::SUCCESS;
    };
    // What the JobManager decides is to be read.
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO);
    let log = log.with_writer(std::io::stderr).finish();
    tracing::subscriber::set_global_default(log).unwrap();
    let (directory, harm) = job.split_once(' ').unwrap();
    let (directory, harm) = (PathBuf::from(directory), harm.to_owned());
    spindle_stream::main("sums", move |env: &mut StreamEnvironment| {
        env.set_parallelism(2);
        let fails = harm != NEVER;
        env.generate(RECORDS, |n| n)
            .map(move |n| {
                if fails && n > RECORDS / 2 {
                    fail_once(&directory, &harm);
                }
                (n % KEYS, n, 1)
            })
            .name("fails")
            .key_by(|(key, _, _)| *key)
            .reduce(|a: (u64, u64, u64), b| (a.0, a.1 + b.1, a.2 + b.2))
            .filter(|(_, _, count)| *count == RECORDS / KEYS)
            .collect("sums");
        Ok(())
    })
}

/// Goes slowly until there are enough checkpoints; then one task harms the newest and panics, but not a second time.
fn fail_once(directory: &Path, harm: &str) {
    let marker = directory.join("failed");
    if marker.exists() {
        return;
    }
    let complete = complete(directory);
    let Some((CHECKPOINTS.., newest)) = complete.last() else {
        // Each record takes a while, so that barriers come through.
        std::thread::park_timeout(Duration::from_micros(500));
        return;
    };
    if std::fs::File::create_new(marker).is_ok() {
        if let Some(harm) = Harm::of(harm) {
            state_files(newest).iter().for_each(|file| harm.does(file));
        }
        panic!("as it was told to");
    }
}

/// Where the one job has its checkpoints.
fn job_directory(directory: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.is_dir() && !path.ends_with("local"))
}

/// The complete checkpoints and their directories, the newest last.
fn complete(directory: &Path) -> Vec<(u64, PathBuf)> {
    let Some(job) = job_directory(directory) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(job).unwrap();
    let number = |path: &Path| {
        path.file_name()?
            .to_str()?
            .strip_prefix("chk-")?
            .parse()
            .ok()
    };
    let checkpoint = |path: PathBuf| Some((number(&path)?, path));
    let mut all: Vec<_> = entries
        .filter_map(|entry| checkpoint(entry.unwrap().path()))
        .filter(|(_, path)| path.join("_metadata").exists())
        .collect();
    all.sort();
    all
}

/// All files in the directory of a checkpoint but its metadata.
fn state_files(checkpoint: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(checkpoint).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| !path.ends_with("_metadata")).collect()
}

fn run(directory: &Path, harm: &str, settings: &[&str]) -> Output {
    let on_disk = [
        "state.backend.type=rocksdb",
        "state.backend.rocksdb.table.size=1k",
        "execution.checkpointing.incremental=true",
        "execution.checkpointing.data-inline-threshold=1",
        "execution.checkpointing.num-retained=2",
        "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION",
    ];
    let place = directory.display();
    let local = [
        format!("execution.checkpointing.dir=file://{place}"),
        format!("state.backend.rocksdb.localdir={place}/local"),
    ];
    let settings = [&on_disk[..], settings, &[&local[0], &local[1]]].concat();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(JOB_VARIABLE, format!("{place} {harm}"))
        .env(SETTINGS_VARIABLE, settings.join("\n"))
        .env_remove(MODE_VARIABLE);
    command.output().unwrap()
}

/// Whether a job has ended with the sums of all its keys.
fn is_right(output: &Output) -> bool {
    let sum = |key: u64| (key..RECORDS).step_by(KEYS as usize).sum::<u64>();
    let expected: BTreeSet<String> = (0..KEYS)
        .map(|key| format!("[{key},{},{}]", sum(key), RECORDS / KEYS))
        .collect();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = told.lines().map(str::to_owned).collect();
    output.status.success()
        && lines.len() == expected.len()
        && lines.into_iter().collect::<BTreeSet<_>>() == expected
}

fn each_file_that_is_harmed_is_named_or_not_needed() {
    let place = tempfile::tempdir().unwrap();
    let once = [CHECKPOINTED, "restart-strategy.type=none"];
    let failed = run(place.path(), NOTHING, &once);
    let told = String::from_utf8_lossy(&failed.stderr);
    assert!(told.contains("as it was told to"), "{failed:?}");
    let (_, newest) = complete(place.path()).pop().unwrap();
    let from = format!("execution.state-recovery.path=file://{}", newest.display());
    let begin = || {
        let elsewhere = tempfile::tempdir().unwrap();
        let output = run(elsewhere.path(), NEVER, &[&from]);
        (is_right(&output), output)
    };
    let (right, whole) = begin();
    assert!(right, "{whole:?}");
    let job = job_directory(place.path()).unwrap();
    let directories = std::fs::read_dir(job).unwrap().map(|it| it.unwrap().path());
    let directories = directories.filter(|path| path.join("_metadata").exists() || path == &newest);
    let mut files: BTreeSet<PathBuf> = directories.flat_map(|it| state_files(&it)).collect();
    files.insert(newest.join("_metadata"));
    let (mut named, mut earlier) = (0, 0);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        for harm in HARMS {
            harm.does(file);
            let (right, output) = begin();
            if !right {
                let told = String::from_utf8_lossy(&output.stderr);
                let name = file.display().to_string();
                assert!(!output.status.success(), "{harm:?} {name}: {output:?}");
                assert!(told.contains(&name), "{harm:?} {name}: {told}");
                named += 1;
                earlier += u32::from(!file.starts_with(&newest));
            }
            std::fs::write(file, &bytes).unwrap();
        }
    }
    println!(
        "{} files, {named} times named, {earlier} times of an earlier checkpoint",
        files.len()
    );
    assert!(
        earlier > 0,
        "the newest checkpoint needs files of earlier ones"
    );
    let (right, whole) = begin();
    assert!(right, "{whole:?}");
}

fn a_job_goes_back_to_the_checkpoint_before_the_one_that_is_harmed() {
    let mut gone_back = 0;
    for harm in HARMS {
        let place = tempfile::tempdir().unwrap();
        let output = run(
            place.path(),
            &format!("{harm:?}"),
            &[
                CHECKPOINTED,
                RESTARTS,
                "restart-strategy.fixed-delay.delay=10 ms",
            ],
        );
        assert!(is_right(&output), "{harm:?}: {output:?}");
        assert!(place.path().join("failed").exists());
        let told = String::from_utf8_lossy(&output.stderr);
        gone_back += u32::from(told.contains("passed over"));
    }
    println!("went back {gone_back} times of {}", HARMS.len());
    // Another may have become complete in the same moment, which does not need what is harmed.
    assert!(gone_back > 0, "none went back");
}
