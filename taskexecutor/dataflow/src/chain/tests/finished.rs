//! Tasks that have come to their end while the job goes on, and those that begin with what such a task left.

use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, SnapshotKind, StateChunk, SubtaskSnapshot,
};

use super::*;
use crate::connector::Sink;
use crate::operator::SinkOperator;
use crate::snapshot::Content;
use crate::task::TaskMail;

/// What a task told of its checkpoints.
type Told = Arc<Mutex<Vec<Result<SubtaskSnapshot<Vec<u8>>, String>>>>;

struct Teller(Told);

impl SnapshotWriter for Teller {
    fn write(
        &mut self,
        _: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
        _: SubtaskCheckpointStats,
    ) {
        let state = state.map(|content| content.into_bytes().unwrap());
        self.0.lock().unwrap().push(Ok(state));
    }

    fn decline(&mut self, _: CheckpointId, reason: String) {
        self.0.lock().unwrap().push(Err(reason));
    }
}

/// Leaves a file at its end, if it writes any, and can say so, if it `tells`.
struct Files {
    log: Log,
    records: Vec<u64>,
    tells: bool,
}

impl Files {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

impl Sink<u64> for Files {
    fn write(&mut self, batch: &mut Batch<u64>) -> Result<(), OperatorError> {
        self.records.append(&mut batch.records);
        Ok(())
    }

    fn commit_prepared(&mut self, prepared: &[Vec<u8>]) -> Result<(), OperatorError> {
        self.note(format!("see {prepared:?}"));
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        self.note("finish".to_owned());
        Ok(!self.records.is_empty())
    }

    fn prepare_finished(&mut self, _: CheckpointId) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        if !self.tells {
            return Ok(None);
        }
        let records = std::mem::take(&mut self.records);
        let file: Vec<u8> = records.iter().map(|record| *record as u8).collect();
        Ok(Some(if file.is_empty() {
            Vec::new()
        } else {
            vec![file]
        }))
    }

    fn commit(&mut self) -> Result<(), OperatorError> {
        self.note(format!("commit {:?}", self.records));
        Ok(())
    }
}

struct Run {
    task: SourceTask<u64>,
    log: Log,
    told: Told,
}

impl Run {
    /// A source of two records and its sink.
    fn begin(tells: bool, restored: SubtaskSnapshot<Vec<u8>>) -> Self {
        let (log, told) = (Log::default(), Told::default());
        let sink = Files {
            log: Arc::clone(&log),
            records: Vec::new(),
            tells,
        };
        let context = context(0, 1);
        let sink = SinkOperator::new(&context, Box::new(sink));
        let task = SourceTask::new(
            named("countdown"),
            Box::new(Countdown(2)),
            Box::new(sink),
            &Restored::new(restored),
            TaskParts {
                metrics: Arc::default(),
                clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
                buffer_timeout: Duration::from_secs(3600),
                snapshots: Box::new(Teller(Arc::clone(&told))),
            },
        );
        Self {
            task: task.unwrap(),
            log,
            told,
        }
    }

    fn checkpoint(&mut self, id: u64) -> Option<Result<SubtaskSnapshot<Vec<u8>>, String>> {
        self.task
            .handle(TaskMail::TriggerCheckpoint(barrier(id)))
            .unwrap();
        self.told.lock().unwrap().pop()
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn barrier(id: u64) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: 0,
        kind: SnapshotKind::Checkpoint,
        directory: Arc::from("file:///chk"),
        alignment: BarrierAlignment::Aligned,
    }
}

fn contents(snapshot: &SubtaskSnapshot<Vec<u8>>, state: &str) -> Vec<StateChunk<Vec<u8>>> {
    let states = snapshot.operators.iter().flat_map(|it| &it.states);
    let of_name = states.filter(|it| it.name == state);
    of_name.flat_map(|it| it.chunks.clone()).collect()
}

#[test]
fn what_an_ended_task_has_to_commit_is_part_of_checkpoints_until_one_is_complete() {
    let mut run = Run::begin(true, SubtaskSnapshot::default());
    assert_eq!(super::run(&mut run.task, 2), Step::AwaitingCommit);
    for id in 1..3 {
        let told = run.checkpoint(id).unwrap().unwrap();
        assert!(told.finished);
        assert_eq!(contents(&told, "prepared")[0].entries, 1);
        assert_eq!(run.checkpoint(id), None, "it was asked twice");
    }
    run.task
        .handle(TaskMail::CheckpointComplete(CheckpointId(2)))
        .unwrap();
    assert_eq!(run.log(), ["finish", "see [[2, 1]]"]);
    let told = run.checkpoint(3).unwrap().unwrap();
    assert_eq!(contents(&told, "prepared")[0].entries, 0);
    run.task.commit().unwrap();
    assert_eq!(run.log(), ["commit []"]);
}

#[test]
fn a_sink_that_cannot_say_what_it_left_is_part_of_no_checkpoint() {
    let mut run = Run::begin(false, SubtaskSnapshot::default());
    super::run(&mut run.task, 2);
    let why = run.checkpoint(1).unwrap().unwrap_err();
    assert!(why.contains("the sink `operator` has finished"), "{why}");
    run.task.commit().unwrap();
    assert_eq!(run.log(), ["finish", "commit [2, 1]"]);
}

#[test]
fn who_begins_with_what_an_ended_task_left_commits_that_and_does_nothing_else() {
    let mut before = Run::begin(true, SubtaskSnapshot::default());
    super::run(&mut before.task, 2);
    let left = before.checkpoint(1).unwrap().unwrap();
    for asked_first in [false, true] {
        let mut run = Run::begin(true, left.clone());
        if asked_first {
            assert!(run.checkpoint(2).unwrap().unwrap().finished);
        }
        assert_eq!(super::run(&mut run.task, 2), Step::Finished);
        run.task.commit().unwrap();
        assert_eq!(run.log(), ["see [[2, 1]]"]);
    }
}

#[test]
fn a_task_whose_input_has_finished_hands_on_the_end_alone() {
    let (first, log) = scribe(false);
    let end = || {
        buffer(|encoder| {
            encoder.event(Event::Watermark(Watermark::MAX));
            encoder.event(Event::End);
        })
    };
    let gate = Script {
        events: [(0, end()), (1, end())].into(),
        waits: Arc::default(),
    };
    let mut task = GateTask::new(
        Inputs {
            gate: Box::new(gate),
            ports: vec![Box::new(TypedPort::new(first))],
            ports_of_edges: vec![0],
            edges: vec![0, 0],
            owner: named("reader"),
            unaligned: true,
        },
        &Restored::new(SubtaskSnapshot::of_finished()),
        TaskParts {
            metrics: Arc::default(),
            clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
            buffer_timeout: Duration::from_secs(3600),
            snapshots: Box::new(NoSnapshots),
        },
    )
    .unwrap();
    assert_eq!(super::run(&mut task, 2), Step::Finished);
    assert_eq!(*log.lock().unwrap(), ["end again"]);
}
