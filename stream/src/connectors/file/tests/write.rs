use serde::{Deserialize, Serialize};

use spindle_common::execution::FailureClass;
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId};
use spindle_dataflow::connector::Sink;

use super::super::FileSink;
use super::*;
use crate::connector::SinkFactory;
use crate::context::SinkContext;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    name: String,
    size: Option<u32>,
}

fn row(name: &str, size: Option<u32>) -> Row {
    Row {
        name: name.to_owned(),
        size,
    }
}

impl Fixture {
    fn context(&self, job: u8, subtask: u32, attempt: u32, parallelism: u32) -> SinkContext {
        SinkContext {
            io: Arc::clone(&self.io),
            job: JobId::from_bytes([job; 16]),
            execution: ExecutionAttemptId {
                vertex: JobVertexId::of_uid("sink"),
                subtask,
                attempt,
            },
            parallelism,
            restored_from: None,
        }
    }

    /// Writes one line per subtask and finishes: the sinks, ready to be committed.
    fn finished(
        &self,
        sink: &FileSink<super::super::TextLines>,
        job: u8,
        attempt: u32,
        parallelism: u32,
    ) -> Vec<Box<dyn Sink<String>>> {
        (0..parallelism)
            .map(|subtask| {
                let context = self.context(job, subtask, attempt, parallelism);
                let mut sink = sink.sink(context).unwrap();
                let line = format!("job {job} subtask {subtask} attempt {attempt}");
                sink.write(&mut Batch::from(vec![line])).unwrap();
                assert_eq!(sink.finish(), Ok(true));
                sink
            })
            .collect()
    }

    pub(super) fn content(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn remove_staging<T>(&self, sink: &impl SinkFactory<T>) {
        for staging in staging(self, sink) {
            std::fs::remove_dir_all(staging.strip_prefix("file://").unwrap()).unwrap();
        }
    }
}

fn staging<T>(fixture: &Fixture, sink: &impl SinkFactory<T>) -> Vec<String> {
    sink.plan(&fixture.plan_context(2)).unwrap().staging
}

fn refusal<T>(fixture: &Fixture, sink: &impl SinkFactory<T>) -> String {
    match sink.plan(&fixture.plan_context(2)).unwrap_err() {
        PlanError::Input(text) => text.replace(fixture.directory.path().to_str().unwrap(), ""),
        PlanError::Unreachable(text) => panic!("{text}"),
    }
}

#[test]
fn nothing_is_visible_before_the_commit_and_all_of_it_afterwards() {
    let fixture = Fixture::new();
    let sink = FileSink::text(fixture.uri("out"));
    let planned = staging::<String>(&fixture, &sink);
    let mut sinks = fixture.finished(&sink, 1, 0, 2);
    assert_eq!(names(&fixture.path("out")), [".spindle-staging"]);
    for sink in &mut sinks {
        sink.commit().unwrap();
    }
    assert_eq!(
        names(&fixture.path("out")),
        [".spindle-staging", "part-00000.txt", "part-00001.txt"]
    );
    assert_eq!(
        fixture.content("out/part-00001.txt"),
        "job 1 subtask 1 attempt 0\n"
    );
    assert_eq!(planned, [fixture.uri("out/.spindle-staging")]);
    for staging in planned {
        std::fs::remove_dir_all(staging.strip_prefix("file://").unwrap()).unwrap();
    }
    assert_eq!(
        names(&fixture.path("out")),
        ["part-00000.txt", "part-00001.txt"]
    );
}

#[test]
fn csv_parts_have_one_header_each_also_a_part_without_records() {
    let fixture = Fixture::new();
    let sink = FileSink::csv(fixture.uri("out"));
    for subtask in 0..2 {
        let mut sink: Box<dyn Sink<Row>> = sink.sink(fixture.context(1, subtask, 0, 2)).unwrap();
        sink.write(&mut Batch::new()).unwrap();
        if subtask == 0 {
            let unsized_rows = vec![row("a,b", None), row("a,b", None)];
            sink.write(&mut Batch::from(unsized_rows)).unwrap();
            sink.write(&mut Batch::from(vec![row("c", Some(2))]))
                .unwrap();
        }
        sink.finish().unwrap();
        sink.commit().unwrap();
        assert_eq!(sink.bytes_written(), if subtask == 0 { 28 } else { 10 });
    }
    assert_eq!(
        fixture.content("out/part-00000.csv"),
        "name,size\n\"a,b\",\n\"a,b\",\nc,2\n"
    );
    assert_eq!(fixture.content("out/part-00001.csv"), "name,size\n");
}

#[test]
fn a_csv_part_without_records_that_have_no_names_is_empty() {
    let fixture = Fixture::new();
    let sink = FileSink::csv(fixture.uri("out"));
    let mut sink: Box<dyn Sink<(u8, String)>> = sink.sink(fixture.context(1, 0, 0, 1)).unwrap();
    sink.finish().unwrap();
    sink.commit().unwrap();
    assert_eq!(fixture.content("out/part-00000.csv"), "");
}

#[test]
fn large_output_arrives_whole() {
    let fixture = Fixture::new();
    let mut sink = FileSink::text(fixture.uri("out"))
        .sink(fixture.context(1, 0, 0, 1))
        .unwrap();
    let mut expected = String::new();
    for n in 0..200 {
        let lines: Vec<_> = (0..1000).map(|m| n * m).collect();
        expected.extend(lines.iter().map(|line| format!("{line}\n")));
        sink.write(&mut Batch::from(lines)).unwrap();
    }
    sink.finish().unwrap();
    sink.commit().unwrap();
    assert!(fixture.content("out/part-00000.txt") == expected);
}

#[test]
fn a_commit_can_be_repeated_also_when_its_answer_was_lost() {
    let fixture = Fixture::new();
    let sink = FileSink::text(fixture.uri("out"));
    let mut sinks = fixture.finished(&sink, 1, 0, 1);
    // The file was moved, and nobody heard of it.
    let staged = fixture.path(&format!(
        "out/.spindle-staging/{}/0-0/part-00000.txt",
        JobId::from_bytes([1; 16])
    ));
    std::fs::rename(staged, fixture.path("out/part-00000.txt")).unwrap();
    for _ in 0..3 {
        assert_eq!(sinks[0].commit(), Ok(()));
    }
    fixture.remove_staging::<String>(&FileSink::text(fixture.uri("out")).overwrite(true));
    assert_eq!(sinks[0].commit(), Ok(()), "after the job's end");
    assert_eq!(
        fixture.content("out/part-00000.txt"),
        "job 1 subtask 0 attempt 0\n"
    );
}

#[test]
fn lost_output_is_not_mistaken_for_committed_output() {
    let fixture = Fixture::new();
    let sink = FileSink::text(fixture.uri("out"));
    let mut sinks = fixture.finished(&sink, 1, 0, 1);
    fixture.remove_staging::<String>(&sink);
    let error = sinks[0].commit().unwrap_err();
    assert!(
        error.message.contains("part-00000.txt`: no such file"),
        "{error}"
    );
    fixture.write("out/part-00000.txt", "of somebody else\n");
    assert!(sinks[0].commit().is_err());
    assert_eq!(fixture.content("out/part-00000.txt"), "of somebody else\n");
}

#[test]
fn another_attempt_after_a_crash_between_commits_replaces_all() {
    let fixture = Fixture::new();
    let sink = FileSink::text(fixture.uri("out"));
    let mut first = fixture.finished(&sink, 1, 0, 2);
    first[1].commit().unwrap();
    drop(first);
    // An attempt that died while it wrote leaves a file that nobody closed.
    let mut died: Box<dyn Sink<String>> = sink.sink(fixture.context(1, 0, 1, 2)).unwrap();
    died.write(&mut Batch::from(vec!["half".to_owned()]))
        .unwrap();
    drop(died);
    for sink in &mut fixture.finished(&sink, 1, 2, 2) {
        sink.commit().unwrap();
    }
    for subtask in 0..2 {
        assert_eq!(
            fixture.content(&format!("out/part-0000{subtask}.txt")),
            format!("job 1 subtask {subtask} attempt 2\n")
        );
    }
}

#[test]
fn two_sinks_cannot_write_into_one_directory() {
    let fixture = Fixture::new();
    let sink = FileSink::text(fixture.uri("out"));
    let _one: Box<dyn Sink<String>> = sink.sink(fixture.context(1, 0, 0, 1)).unwrap();
    let other: Result<Box<dyn Sink<String>>, _> = sink.sink(fixture.context(1, 0, 0, 1));
    let error = other.err().unwrap();
    assert!(
        error.message.contains("do two sinks of the job write into"),
        "{error}"
    );
    assert_eq!(error.class, FailureClass::FailJob);
}

#[test]
fn output_that_exists_is_refused() {
    let fixture = Fixture::new();
    let uri = fixture.uri("out");
    let plan = |sink: &FileSink<_>| SinkFactory::<String>::plan(sink, &fixture.plan_context(1));
    let (sink, over) = (FileSink::text(&uri), FileSink::text(&uri).overwrite(true));
    assert!(plan(&sink).is_ok());
    fixture.write("out/.hidden", "");
    fixture.write("out/_SUCCESS", "");
    assert!(plan(&sink).is_ok(), "nothing is visible");
    fixture.write("out/part-00000.txt", "old");
    assert_eq!(
        refusal::<String>(&fixture, &sink),
        "output `file:///out` already exists: remove it or choose another"
    );
    assert!(plan(&over).is_ok());
    fixture.write("out/part-1.txt", "a name that we never give");
    assert_eq!(
        refusal::<String>(&fixture, &over),
        "output `file:///out` holds `part-1.txt`, which is no part file of an earlier job: remove it or choose another output"
    );
    let file = FileSink::text(fixture.write("file", ""));
    assert!(refusal::<String>(&fixture, &file).contains("is a file"));
}

#[test]
fn no_part_file_of_an_earlier_job_survives_an_overwrite() {
    let fixture = Fixture::new();
    for name in [
        "part-00000.csv",
        "part-00000.txt",
        "part-00001.txt",
        "part-00002.txt",
        "part-00007.csv",
        "_SUCCESS",
    ] {
        fixture.write(&format!("out/{name}"), "old");
    }
    let sink = FileSink::text(fixture.uri("out")).overwrite(true);
    let mut sinks = fixture.finished(&sink, 2, 0, 2);
    assert_eq!(
        fixture.content("out/part-00000.txt"),
        "old",
        "until the job commits"
    );
    // Whichever commits first.
    for sink in sinks.iter_mut().rev() {
        sink.commit().unwrap();
        sink.commit().unwrap();
    }
    fixture.remove_staging::<String>(&sink);
    assert_eq!(
        names(&fixture.path("out")),
        ["_SUCCESS", "part-00000.txt", "part-00001.txt"]
    );
    assert_eq!(
        fixture.content("out/part-00000.txt"),
        "job 2 subtask 0 attempt 0\n"
    );
}

#[test]
fn a_job_that_is_resumed_adds_to_the_output_of_the_one_before() {
    let fixture = Fixture::new();
    let sink = FileSink::text(fixture.uri("out")).overwrite(true);
    for sink in &mut fixture.finished(&sink, 1, 0, 2) {
        sink.commit().unwrap();
    }
    fixture.remove_staging::<String>(&sink);
    assert_eq!(
        refusal::<String>(&fixture, &FileSink::text(fixture.uri("out"))),
        "output `file:///out` already exists: remove it or choose another"
    );

    let fixture = fixture.resumed();
    let plain = FileSink::text(fixture.uri("out"));
    assert_eq!(staging::<String>(&fixture, &plain).len(), 1, "it may");
    for sink in &mut fixture.finished(&sink, 2, 0, 1) {
        sink.commit().unwrap();
    }
    fixture.remove_staging::<String>(&sink);
    let resumed = format!("part-00000-end-{}.txt", JobId::from_bytes([2; 16]));
    assert_eq!(
        names(&fixture.path("out")),
        [resumed.as_str(), "part-00000.txt", "part-00001.txt"]
    );
    fixture.write("out/notes.txt", "of somebody else\n");
    assert!(refusal::<String>(&fixture, &plain).contains("notes.txt"));
}
