//! A naive job around the file sink: checkpoints that become complete or do not, kills at every instant, other parallelisms. What is
//! visible is compared with what has to be.

use std::fmt;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use spindle_common::checkpoint::CheckpointId;
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId};
use spindle_dataflow::connector::Sink;

use super::super::{FileSink, FileSource, Packing, PlainFormat, RollingPolicy};
use super::*;
use crate::connector::SinkFactory;
use crate::context::SinkContext;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Number {
    n: u64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.n)
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Text(Option<Packing>),
    Csv(Option<Packing>),
    Json(Option<Packing>),
    #[cfg(feature = "parquet")]
    Parquet,
}

/// How the sink is asked to write.
#[derive(Debug, Clone, Copy)]
struct Manner {
    form: Form,
    overwrite: bool,
    part_size: Option<u64>,
    every_batch: bool,
}

impl Manner {
    fn rolling(&self) -> RollingPolicy {
        let mut policy = RollingPolicy::on_checkpoint();
        if let Some(bytes) = self.part_size {
            policy = policy.part_size(bytes);
        }
        if self.every_batch {
            policy = policy.rollover_interval(std::time::Duration::ZERO);
        }
        policy
    }

    fn plain<F: PlainFormat>(
        &self,
        sink: FileSink<F>,
        packing: Option<Packing>,
    ) -> Box<dyn SinkFactory<Number>>
    where
        FileSink<F>: SinkFactory<Number>,
    {
        let sink = sink.overwrite(self.overwrite).rolling(self.rolling());
        Box::new(match packing {
            Some(packing) => sink.packed(packing),
            None => sink,
        })
    }

    fn factory(&self, uri: String) -> Box<dyn SinkFactory<Number>> {
        match self.form {
            Form::Text(packing) => self.plain(FileSink::text(uri), packing),
            Form::Csv(packing) => self.plain(FileSink::csv(uri), packing),
            Form::Json(packing) => self.plain(FileSink::json_lines(uri), packing),
            #[cfg(feature = "parquet")]
            Form::Parquet => {
                let sink = FileSink::parquet(uri);
                Box::new(sink.overwrite(self.overwrite).rolling(self.rolling()))
            }
        }
    }

    /// The numbers that can be seen, in their order.
    fn visible(&self, fixture: &Fixture) -> Vec<u64> {
        let parts = names(&fixture.path("out"));
        if parts.iter().all(|name| name.starts_with('.')) {
            return Vec::new();
        }
        let uri = fixture.uri("out");
        let of = |read: Result<Vec<Vec<Number>>, OperatorError>| {
            let read = read.unwrap().concat();
            read.into_iter().map(|number| number.n).collect()
        };
        let mut seen: Vec<u64> = match self.form {
            Form::Text(_) => {
                let lines = fixture.read(&FileSource::lines(uri), 1).unwrap().concat();
                lines.iter().map(|line| line.parse().unwrap()).collect()
            }
            Form::Csv(_) => of(fixture.read(&FileSource::csv::<Number>(uri), 1)),
            Form::Json(_) => of(fixture.read(&FileSource::json_lines::<Number>(uri), 1)),
            #[cfg(feature = "parquet")]
            Form::Parquet => of(fixture.read(&FileSource::parquet::<Number>(uri), 1)),
        };
        seen.sort_unstable();
        seen
    }
}

/// A subtask, with what the task keeps for its sink.
struct Task {
    sink: Box<dyn Sink<Number>>,
    prepared: Vec<(CheckpointId, Vec<Vec<u8>>)>,
}

impl Task {
    fn commit_until(&mut self, checkpoint: CheckpointId) {
        while let Some((of, _)) = self.prepared.first()
            && *of <= checkpoint
        {
            let (_, prepared) = self.prepared.remove(0);
            self.sink.commit_prepared(&prepared).unwrap();
        }
    }
}

/// What a complete checkpoint holds.
#[derive(Debug, Clone, Default)]
struct Complete {
    next: u64,
    prepared: Vec<Vec<u8>>,
    /// None if it is of another job.
    checkpoint: Option<CheckpointId>,
}

/// The job, which writes 0, 1, 2, … once each.
struct Job<'a> {
    fixture: &'a Fixture,
    manner: Manner,
    io: Arc<IoContext>,
    id: u8,
    attempt: u32,
    tasks: Vec<Task>,
    next: u64,
    checkpoint: u64,
    complete: Complete,
    /// The one before.
    before: Complete,
}

impl<'a> Job<'a> {
    fn start(fixture: &'a Fixture, manner: Manner, parallelism: u32) -> Self {
        Self::of(1, fixture, manner, parallelism)
    }

    fn of(id: u8, fixture: &'a Fixture, manner: Manner, parallelism: u32) -> Self {
        let mut job = Self {
            fixture,
            manner,
            io: Arc::clone(&fixture.io),
            id,
            attempt: 0,
            tasks: Vec::new(),
            next: 0,
            checkpoint: 0,
            complete: Complete::default(),
            before: Complete::default(),
        };
        job.deploy(parallelism);
        job
    }

    /// Starts the tasks with what the newest complete checkpoint holds, which is dealt out.
    fn deploy(&mut self, parallelism: u32) {
        self.tasks.clear();
        let factory = self.manner.factory(self.fixture.uri("out"));
        self.next = self.complete.next;
        for subtask in 0..parallelism {
            let context = SinkContext {
                io: Arc::clone(&self.io),
                job: JobId::from_bytes([self.id; 16]),
                execution: ExecutionAttemptId {
                    vertex: JobVertexId::of_uid("sink"),
                    subtask,
                    attempt: self.attempt,
                },
                parallelism,
                restored_from: self.complete.checkpoint,
            };
            let mut sink = factory.sink(context).unwrap();
            let prepared = self.complete.prepared.iter().skip(subtask as usize);
            let prepared: Vec<_> = prepared.step_by(parallelism as usize).cloned().collect();
            if !prepared.is_empty() {
                sink.commit_prepared(&prepared).unwrap();
            }
            let prepared = Vec::new();
            self.tasks.push(Task { sink, prepared });
        }
    }

    /// All tasks die, and others take their place.
    fn crash(&mut self) {
        self.checkpoint += 1;
        self.attempt += 1;
        self.deploy(self.tasks.len() as u32);
    }

    /// All tasks die, once what was told is done, and the newest checkpoint is damaged.
    fn damage(&mut self) {
        for task in &mut self.tasks {
            // It waits for what is on the way; a file that moves while its task is dead is none that the next one can see.
            task.sink.finish().unwrap();
        }
        self.complete = self.before.clone();
        self.crash();
    }

    /// The job is over; another begins with its newest checkpoint.
    fn resume(&mut self, parallelism: u32) {
        self.io = self.fixture.io_of_resumed();
        self.id += 1;
        self.attempt = 0;
        self.checkpoint = 0;
        self.complete.checkpoint = None;
        self.before = self.complete.clone();
        self.deploy(parallelism);
    }

    fn write(&mut self, subtask: usize, count: u64) {
        let numbers = (self.next..self.next + count).map(|n| Number { n });
        let subtask = subtask % self.tasks.len();
        let mut batch = Batch::from(numbers.collect::<Vec<_>>());
        self.tasks[subtask].sink.write(&mut batch).unwrap();
        self.next += count;
    }

    /// A barrier reaches the first so many tasks.
    fn prepare(&mut self, tasks: usize) {
        self.checkpoint += 1;
        let checkpoint = CheckpointId(self.checkpoint);
        for task in self.tasks.iter_mut().take(tasks) {
            let prepared = task.sink.prepare_commit(checkpoint).unwrap();
            if !prepared.is_empty() {
                task.prepared.push((checkpoint, prepared));
            }
        }
    }

    /// A checkpoint becomes complete, and some tasks hear of it.
    fn checkpoint(&mut self, told: u8) {
        self.prepare(usize::MAX);
        let all = self.tasks.iter().flat_map(|task| &task.prepared);
        let complete = Complete {
            next: self.next,
            prepared: all.flat_map(|(_, prepared)| prepared).cloned().collect(),
            checkpoint: Some(CheckpointId(self.checkpoint)),
        };
        self.before = std::mem::replace(&mut self.complete, complete);
        for (n, task) in self.tasks.iter_mut().enumerate() {
            if told >> n & 1 == 1 {
                task.commit_until(CheckpointId(self.checkpoint));
            }
        }
    }

    /// The end of input, and of the first so many tasks.
    fn end(&mut self, tasks: usize) {
        let ends: Vec<bool> = self
            .tasks
            .iter_mut()
            .map(|task| task.sink.finish().unwrap() || !task.prepared.is_empty())
            .collect();
        for (task, needs_commit) in self.tasks.iter_mut().zip(ends).take(tasks) {
            if needs_commit {
                task.commit_until(CheckpointId(u64::MAX));
                task.sink.commit().unwrap();
                task.sink.commit().unwrap();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Write(usize, u64),
    /// It is complete, and these tasks hear of it.
    Checkpoint(u8),
    /// The barrier reaches so many tasks, and no more comes of it.
    Abort(usize),
    Crash,
    /// All input is read and so many tasks have committed; then all die.
    CrashAtTheEnd(usize),
    /// All die, and the newest checkpoint is damaged.
    Damage,
    Resume(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 1_u64..60).prop_map(|(subtask, count)| Step::Write(subtask, count)),
        4 => prop_oneof![Just(0xff_u8), any::<u8>()].prop_map(Step::Checkpoint),
        2 => (0_usize..4).prop_map(Step::Abort),
        2 => Just(Step::Crash),
        1 => (0_usize..4).prop_map(Step::CrashAtTheEnd),
        1 => Just(Step::Damage),
        1 => (1_u32..4).prop_map(Step::Resume),
    ]
}

fn form() -> impl Strategy<Value = Form> {
    let packing = || {
        prop_oneof![
            Just(None),
            Just(Some(Packing::Gzip)),
            Just(Some(Packing::Zstd))
        ]
    };
    #[cfg(feature = "parquet")]
    let parquet = prop_oneof![Just(Form::Parquet)];
    #[cfg(not(feature = "parquet"))]
    let parquet = packing().prop_map(Form::Text);
    prop_oneof![
        packing().prop_map(Form::Text),
        packing().prop_map(Form::Csv),
        packing().prop_map(Form::Json),
        parquet,
    ]
}

fn manner() -> impl Strategy<Value = Manner> {
    let part_size = prop::option::of(1_u64..400);
    (form(), any::<bool>(), part_size, any::<bool>()).prop_map(
        |(form, overwrite, part_size, every_batch)| Manner {
            form,
            overwrite,
            part_size,
            every_batch,
        },
    )
}

/// Part files of an earlier job, of all kinds of names, for a job that may replace them.
fn earlier_job(fixture: &Fixture, manner: Manner) {
    let mut job = Job::of(99, fixture, manner, 3);
    for n in 0..6 {
        job.write(n, 50);
        if n == 2 {
            job.checkpoint(0xff);
        }
    }
    job.end(usize::MAX);
    assert_eq!(manner.visible(fixture), Vec::from_iter(0..300));
}

/// Takes the job through these steps and to its end.
fn run(manner: Manner, parallelism: u32, steps: &[Step]) {
    let fixture = Fixture::new();
    if manner.overwrite {
        earlier_job(&fixture, manner);
    }
    let mut job = Job::start(&fixture, manner, parallelism);
    // What another job has left goes with the first commit of ours, what an end has left that was none with the next.
    let mut is_pure = !manner.overwrite;
    for step in steps {
        match *step {
            Step::Write(subtask, count) => job.write(subtask, count),
            Step::Checkpoint(told) => job.checkpoint(told),
            Step::Abort(tasks) => job.prepare(tasks),
            Step::Crash => job.crash(),
            Step::CrashAtTheEnd(tasks) => {
                job.end(tasks);
                is_pure = false;
                job.crash();
            }
            Step::Damage => {
                is_pure = false;
                job.damage();
            }
            // From nothing but the beginning a job does not go on, nor with what an end has left.
            Step::Resume(_) if job.complete.next == 0 || !is_pure => job.crash(),
            Step::Resume(parallelism) => job.resume(parallelism),
        }
        if is_pure {
            let visible = manner.visible(&fixture);
            assert!(visible.is_sorted_by(|a, b| a < b), "twice: {visible:?}");
            let last = visible.last().copied();
            assert!(
                last.is_none_or(|last| last < job.complete.next),
                "{visible:?} of {}",
                job.complete.next
            );
        }
    }
    job.end(usize::MAX);
    assert_eq!(manner.visible(&fixture), Vec::from_iter(0..job.next));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn each_number_is_visible_once_whatever_dies_when(
        manner in manner(),
        parallelism in 1_u32..4,
        steps in prop::collection::vec(step(), 0..24),
    ) {
        run(manner, parallelism, &steps);
    }
}

const PLAIN: Manner = Manner {
    form: Form::Text(None),
    overwrite: false,
    part_size: None,
    every_batch: false,
};

#[test]
fn what_an_aborted_checkpoint_has_prepared_goes_with_the_next() {
    let fixture = Fixture::new();
    let mut job = Job::start(&fixture, PLAIN, 1);
    job.write(0, 10);
    job.prepare(1);
    job.write(0, 10);
    assert!(PLAIN.visible(&fixture).is_empty());
    job.checkpoint(0);
    job.crash();
    job.end(1);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..20));
}

#[test]
fn what_an_end_that_was_none_has_shown_of_an_aborted_checkpoint_is_void() {
    let fixture = Fixture::new();
    let mut job = Job::start(&fixture, PLAIN, 2);
    job.write(0, 10);
    job.prepare(2);
    job.end(1);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..10));
    job.crash();
    job.write(1, 10);
    job.end(2);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..10));
}

#[test]
fn what_was_shown_for_a_checkpoint_that_is_damaged_is_void() {
    let fixture = Fixture::new();
    let mut job = Job::start(&fixture, PLAIN, 2);
    for _ in 0..2 {
        job.write(0, 10);
        job.checkpoint(3);
    }
    job.damage();
    job.write(1, 10);
    job.checkpoint(3);
    job.end(2);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..20));
}

#[test]
fn what_a_later_attempt_of_the_job_manager_has_shown_stays() {
    let fixture = Fixture::new();
    let mut job = Job::start(&fixture, PLAIN, 1);
    job.write(0, 10);
    job.checkpoint(1);
    let id = JobId::from_bytes([1; 16]);
    let part = |checkpoint: u64| format!("part-00000-{checkpoint}-{id}.txt");
    for shown in [9, 1_000_001, 2_000_001] {
        std::fs::write(fixture.path("out").join(part(shown)), "").unwrap();
    }
    job.crash();
    job.write(0, 10);
    job.checkpoint(1);
    let there = names(&fixture.path("out"));
    assert!(!there.contains(&part(9)), "{there:?}");
    for shown in [1, 1_000_001, 2_000_001] {
        assert!(there.contains(&part(shown)), "{there:?}");
    }
}

#[test]
fn what_was_shown_before_a_job_went_back_to_the_snapshot_of_another_is_void() {
    let fixture = Fixture::new();
    let mut job = Job::start(&fixture, PLAIN, 1);
    job.write(0, 10);
    job.checkpoint(1);
    job.resume(1);
    job.write(0, 10);
    // The first of this job, as the snapshot that it was begun with is the first of the other.
    job.checkpoint(1);
    job.damage();
    job.write(0, 5);
    job.end(1);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..15));
}

#[test]
fn what_was_moved_at_an_end_that_was_none_goes_before_it_is_written_again() {
    let fixture = Fixture::new();
    let mut job = Job::start(&fixture, PLAIN, 2);
    job.write(0, 10);
    job.checkpoint(3);
    job.write(0, 10);
    job.end(1);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..20));
    job.crash();
    // The other subtask writes the same numbers, and before the end.
    job.write(1, 10);
    job.checkpoint(3);
    job.end(2);
    assert_eq!(PLAIN.visible(&fixture), Vec::from_iter(0..20));
}

#[test]
fn a_last_part_file_of_an_earlier_job_goes_though_the_new_one_has_none() {
    let fixture = Fixture::new();
    let over = Manner {
        overwrite: true,
        ..PLAIN
    };
    earlier_job(&fixture, over);
    let mut job = Job::start(&fixture, over, 2);
    job.write(0, 10);
    job.write(1, 10);
    job.checkpoint(3);
    job.end(2);
    assert_eq!(over.visible(&fixture), Vec::from_iter(0..20));
}

#[test]
fn a_full_part_file_is_followed_by_another_and_all_become_visible_at_once() {
    let fixture = Fixture::new();
    let manner = Manner {
        part_size: Some(20),
        ..PLAIN
    };
    let mut job = Job::start(&fixture, manner, 1);
    for _ in 0..3 {
        job.write(0, 10);
    }
    assert_eq!(names(&fixture.path("out")), [".spindle-staging"]);
    job.checkpoint(1);
    for _ in 0..2 {
        job.write(0, 10);
    }
    job.write(0, 1);
    job.end(1);
    let id = JobId::from_bytes([1; 16]);
    let parts = names(&fixture.path("out"));
    let of = |since: &str| format!("part-00000-{since}-{id}.txt");
    let expected = [
        ".spindle-staging".to_owned(),
        of("1-1"),
        of("1-2"),
        of("1"),
        of("end-1"),
        of("end-2"),
        "part-00000.txt".to_owned(),
    ];
    let mut sorted = expected.to_vec();
    sorted.sort();
    assert_eq!(parts, sorted);
    assert_eq!(
        fixture.content(&format!("out/{}", of("1"))).lines().count(),
        10
    );
    assert_eq!(fixture.content("out/part-00000.txt"), "50\n");
}

#[test]
fn part_files_of_parquet_are_full_by_what_they_would_have() {
    #[cfg(feature = "parquet")]
    {
        let fixture = Fixture::new();
        let manner = Manner {
            form: Form::Parquet,
            part_size: Some(8 << 10),
            ..PLAIN
        };
        let mut job = Job::start(&fixture, manner, 1);
        for _ in 0..100 {
            job.write(0, 512);
        }
        job.end(1);
        let parts = names(&fixture.path("out"));
        assert!((3..60).contains(&parts.len()), "{parts:?}");
        assert_eq!(manner.visible(&fixture), Vec::from_iter(0..51_200));
    }
}
