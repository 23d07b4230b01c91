use std::time::{Duration, Instant};

use spindle_common::execution::FailureClass;
use spindle_dataflow::connector::SourceReader;

use super::super::{DirectoryPosition, DirectoryReader, FileSource, MonitoredFiles};
use super::*;

const INTERVAL: Duration = Duration::from_millis(20);

struct Watched<'a> {
    fixture: &'a Fixture,
    reader: DirectoryReader<String>,
    batch: Batch<String>,
}

impl<'a> Watched<'a> {
    fn new(fixture: &'a Fixture, subtask: u32, parallelism: u32) -> Self {
        let source = FileSource::lines(fixture.uri("in")).monitor_continuously(INTERVAL);
        Self::of(fixture, &source, subtask, parallelism)
    }

    fn of(
        fixture: &'a Fixture,
        source: &MonitoredFiles<super::super::Lines>,
        subtask: u32,
        parallelism: u32,
    ) -> Self {
        let mut lists = source.plan(&fixture.plan_context(parallelism)).unwrap();
        let splits = lists.remove(subtask as usize);
        let context = SourceContext {
            io: Arc::clone(&fixture.io),
            subtask,
            parallelism,
        };
        Self {
            fixture,
            reader: source.directory_reader(&splits, context).unwrap(),
            batch: Batch::new(),
        }
    }

    /// Reads once; the source has no end.
    fn step(&mut self) -> Result<(), OperatorError> {
        let status = self.reader.read(&mut self.batch)?;
        assert_eq!(status, SourceStatus::More);
        Ok(())
    }

    /// Reads until so many lines are there.
    fn lines(&mut self, count: usize) -> Vec<String> {
        while self.batch.len() < count {
            self.step().unwrap();
        }
        self.batch.records.split_off(0)
    }

    /// Reads until the directory was looked through this many times more.
    fn looks(&mut self, count: usize) -> Result<(), OperatorError> {
        for _ in 0..count {
            let before = self.reader.looks();
            while self.reader.looks() == before {
                self.step()?;
            }
        }
        Ok(())
    }

    fn failure(&mut self) -> OperatorError {
        loop {
            if let Err(error) = self.step() {
                return error;
            }
        }
    }

    /// Moves a finished file into the directory.
    fn arrive(&self, name: &str, text: &str) {
        self.fixture.write("being-written", text);
        let from = self.fixture.path("being-written");
        std::fs::rename(from, self.fixture.path("in").join(name)).unwrap();
    }
}

fn directory() -> Fixture {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("in")).unwrap();
    fixture
}

#[test]
fn files_are_read_once_as_they_come() {
    let fixture = directory();
    fixture.write("in/a", "a1\na2\n");
    let mut watched = Watched::new(&fixture, 0, 1);
    assert_eq!(watched.lines(2), ["a1", "a2"]);
    watched.arrive("b", "b1\n");
    assert_eq!(watched.lines(1), ["b1"]);
    watched.arrive("c", "c1");
    assert_eq!(watched.lines(1), ["c1"]);
    watched.looks(3).unwrap();
    assert!(watched.batch.is_empty());
    assert_eq!(watched.reader.bytes_read(), 11);
    assert_eq!(watched.reader.progress(), None);
}

#[test]
fn an_empty_directory_is_watched_without_a_record_and_without_spinning() {
    let fixture = directory();
    let source =
        FileSource::lines(fixture.uri("in")).monitor_continuously(Duration::from_secs(3600));
    let mut watched = Watched::of(&fixture, &source, 0, 1);
    watched.looks(1).unwrap();
    let (begin, mut steps) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(400) {
        let asked = Instant::now();
        watched.step().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(5));
        steps += 1;
    }
    assert!(steps < 20, "{steps} steps");
    assert!(watched.batch.is_empty());
}

#[test]
fn hidden_names_directories_and_empty_files_are_not_read() {
    let fixture = directory();
    for name in ["in/.hidden", "in/_SUCCESS", "in/below/a", "in/visible"] {
        fixture.write(name, name);
    }
    fixture.write("in/empty", "");
    let mut watched = Watched::new(&fixture, 0, 1);
    assert_eq!(watched.lines(1), ["in/visible"]);
    watched.looks(3).unwrap();
    assert!(watched.batch.is_empty());
    std::fs::rename(fixture.path("in/.hidden"), fixture.path("in/shown")).unwrap();
    assert_eq!(watched.lines(1), ["in/.hidden"]);
    fixture.write("in/empty", "no more");
    assert_eq!(watched.lines(1), ["no more"]);
}

#[test]
fn a_file_that_grows_between_two_looks_is_waited_for() {
    let fixture = directory();
    let mut watched = Watched::new(&fixture, 0, 1);
    let mut text = String::new();
    for n in 0..5 {
        text += &format!("{n}\n");
        fixture.write("in/growing", &text);
        watched.looks(1).unwrap();
        assert!(watched.batch.is_empty());
    }
    assert_eq!(watched.lines(5), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_file_that_grows_after_it_was_taken_fails_the_job() {
    let fixture = directory();
    let mut watched = Watched::new(&fixture, 0, 1);
    watched.arrive("log", "1\n");
    assert_eq!(watched.lines(1), ["1"]);
    fixture.write("in/log", "1\n2\n");
    let error = watched.failure();
    assert_eq!(error.class, FailureClass::FailJob);
    let uri = fixture.uri("in/log");
    let expected = format!(
        "`{uri}` changed after it was taken for complete: it had 2 bytes and has 4 now; write files"
    );
    assert!(error.message.starts_with(&expected), "{error}");
}

#[test]
fn a_file_that_grows_while_it_is_read_fails_the_job_too() {
    let fixture = directory();
    let text = "x\n".repeat(5000);
    let mut watched = Watched::new(&fixture, 0, 1);
    watched.arrive("log", &text);
    watched.lines(1);
    fixture.write("in/log", text + "y\n");
    let error = watched.failure();
    assert!(
        error
            .message
            .contains("it had 10000 bytes and has 10002 now"),
        "{error}"
    );
}

#[test]
fn a_touched_file_is_not_read_again_and_a_deleted_name_may_come_again() {
    let fixture = directory();
    let mut watched = Watched::new(&fixture, 0, 1);
    watched.arrive("a", "1\n");
    assert_eq!(watched.lines(1), ["1"]);
    watched.arrive("a", "2\n");
    watched.looks(3).unwrap();
    assert!(watched.batch.is_empty());
    std::fs::remove_file(fixture.path("in/a")).unwrap();
    watched.looks(2).unwrap();
    assert_eq!(watched.reader.position(), DirectoryPosition::default());
    watched.arrive("a", "a longer one\n");
    assert_eq!(watched.lines(1), ["a longer one"]);
}

#[test]
fn a_file_that_is_deleted_while_it_is_read_is_read_to_its_end() {
    let fixture = directory();
    let mut watched = Watched::new(&fixture, 0, 1);
    watched.arrive("a", &"x\n".repeat(5000));
    let first = watched.lines(1).len();
    assert!(first < 5000);
    std::fs::remove_file(fixture.path("in/a")).unwrap();
    let mut left = 5000 - first;
    while left > 0 {
        watched.step().unwrap();
        left -= watched.batch.records.split_off(0).len();
    }
    watched.looks(2).unwrap();
}

#[test]
fn a_directory_that_disappears_is_an_error_that_a_restart_may_mend() {
    let fixture = directory();
    let mut watched = Watched::new(&fixture, 0, 1);
    watched.looks(1).unwrap();
    std::fs::remove_dir(fixture.path("in")).unwrap();
    let error = watched.failure();
    let expected = format!(
        "cannot look through `{}` for new files: ",
        fixture.uri("in")
    );
    assert!(error.message.starts_with(&expected), "{error}");
    assert_eq!(error.class, FailureClass::Restart);
}

#[test]
fn only_a_directory_that_is_there_can_be_watched() {
    let fixture = Fixture::new();
    let file = fixture.write("file", "");
    let refusal = |uri: &str| {
        let source = FileSource::lines(uri).monitor_continuously(INTERVAL);
        fixture.refusal(&source).to_string()
    };
    assert!(refusal(&file).ends_with("only a directory can be watched for new files"));
    let refused = refusal(&fixture.uri("nothing"));
    assert!(refused.ends_with("holds `file`"), "{refused}");
}

#[test]
fn each_file_belongs_to_one_subtask() {
    let fixture = directory();
    let names: Vec<_> = (0..40).map(|n| format!("file-{n}")).collect();
    for name in &names {
        fixture.write(&format!("in/{name}"), name);
    }
    fixture.write("in/done", "");
    let source = FileSource::lines(fixture.uri("in"))
        .monitor_continuously(INTERVAL)
        .until("done");
    let lists = source.plan(&fixture.plan_context(3)).unwrap();
    let mut read = Vec::new();
    for (subtask, splits) in (0..).zip(lists) {
        let context = SourceContext {
            io: Arc::clone(&fixture.io),
            subtask,
            parallelism: 3,
        };
        let mut reader = source.directory_reader(&splits, context).unwrap();
        let mut batch = Batch::new();
        while reader.read(&mut batch).unwrap() == SourceStatus::More {}
        assert!(!batch.is_empty(), "subtask {subtask} has nothing");
        read.extend(batch.records);
    }
    read.sort();
    let mut expected = names;
    expected.sort();
    assert_eq!(read, expected);
}

#[test]
fn a_position_leads_on_also_at_another_parallelism() {
    let fixture = directory();
    for n in 0..6 {
        let lines: Vec<_> = (0..3000).map(|line| format!("{n}-{line}\n")).collect();
        fixture.write(&format!("in/{n}"), lines.concat());
    }
    let mut together = DirectoryPosition::default();
    let mut read = Vec::new();
    for subtask in 0..2 {
        let mut watched = Watched::new(&fixture, subtask, 2);
        // One of the two has at least three of the files.
        while watched.batch.len() < 4000 && watched.reader.looks() < 8 {
            watched.step().unwrap();
        }
        read.append(&mut watched.batch.records);
        let DirectoryPosition { done, open } = watched.reader.position();
        together.done.extend(done);
        together.open.extend(open);
    }
    assert!(!together.done.is_empty() && !together.open.is_empty());
    let travelled = serde_json::to_string(&together).unwrap();
    let together: DirectoryPosition = serde_json::from_str(&travelled).unwrap();
    fixture.write("in/done", "");
    let source = FileSource::lines(fixture.uri("in"))
        .monitor_continuously(INTERVAL)
        .until("done");
    for subtask in 0..3 {
        let mut watched = Watched::of(&fixture, &source, subtask, 3);
        watched.reader.go_on(together.clone());
        while watched.reader.read(&mut watched.batch).unwrap() == SourceStatus::More {}
        read.append(&mut watched.batch.records);
    }
    read.sort();
    let mut expected: Vec<_> = (0..6)
        .flat_map(|n| (0..3000).map(move |line| format!("{n}-{line}")))
        .collect();
    expected.sort();
    assert!(
        read == expected,
        "{} of {} lines",
        read.len(),
        expected.len()
    );
}
