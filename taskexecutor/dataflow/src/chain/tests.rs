mod finished;
mod stop;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use spindle_common::checkpoint::SubtaskSnapshot;
use spindle_common::time::EventTime;

use super::*;
use crate::batch::Batch;
use crate::channel::Buffer;
use crate::channel::{GateEvent, InputGate};
use crate::collector::Collector;
use crate::collector::Control;
use crate::connector::OperatorError;
use crate::connector::{SourceReader, SourceStatus};
use crate::exchange::{Encoder, Event};
use crate::operator::OperatorContext;
use crate::operator::tests::context;
use crate::snapshot::{Restored, StateOwner};
use crate::task::{NoSnapshots, Task};

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what reaches it.
struct Scribe {
    log: Log,
    needs_commit: bool,
}

impl Scribe {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

impl Control for Scribe {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.note(format!("watermark {}", watermark.0.0));
        Ok(())
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.note(format!("idle {idle}"));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.note("flush".to_owned());
        Ok(())
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.note("end".to_owned());
        Ok(())
    }

    fn end_again(&mut self) -> Result<(), TaskError> {
        self.note("end again".to_owned());
        Ok(())
    }

    fn needs_commit(&mut self) -> bool {
        self.needs_commit
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.note("commit".to_owned());
        Ok(())
    }
}

impl Collector<u64> for Scribe {
    fn push(&mut self, batch: &mut Batch<u64>) -> Result<(), TaskError> {
        self.note(format!("records {:?}", batch.records));
        batch.clear();
        Ok(())
    }
}

fn scribe(needs_commit: bool) -> (Box<dyn Collector<u64>>, Log) {
    let log = Log::default();
    let scribe = Scribe {
        log: Arc::clone(&log),
        needs_commit,
    };
    (Box::new(scribe), log)
}

/// Gives what it was given, then nothing; notes how long it was allowed to wait.
struct Script {
    events: VecDeque<(usize, Buffer)>,
    waits: Arc<Mutex<Vec<Option<MonoTime>>>>,
}

impl InputGate for Script {
    fn channels(&self) -> usize {
        2
    }

    fn next(&mut self, until: Option<MonoTime>) -> Result<GateEvent, TaskError> {
        self.waits.lock().unwrap().push(until);
        Ok(match self.events.pop_front() {
            Some((channel, buffer)) => GateEvent::Buffer(channel, buffer),
            None => GateEvent::Woken,
        })
    }

    fn block(&mut self, _: usize) {}

    fn resume(&mut self) {}
}

fn buffer(fill: impl FnOnce(&mut Encoder)) -> Buffer {
    let mut encoder = Encoder::default();
    fill(&mut encoder);
    encoder.take().unwrap()
}

fn nothing() -> Restored {
    Restored::new(SubtaskSnapshot::default())
}

/// The source of this name.
fn named(name: &str) -> StateOwner {
    StateOwner::of(&OperatorContext {
        name: Arc::from(name),
        ..context(0, 1)
    })
}

struct Fixture {
    task: GateTask,
    log: Log,
    waits: Arc<Mutex<Vec<Option<MonoTime>>>>,
    now_ms: Arc<AtomicU64>,
    metrics: Arc<TaskMetrics>,
}

fn gate_task(events: Vec<(usize, Buffer)>, needs_commit: bool) -> Fixture {
    let (first, log) = scribe(needs_commit);
    let waits = Arc::default();
    let gate = Script {
        events: events.into(),
        waits: Arc::clone(&waits),
    };
    let now_ms = Arc::new(AtomicU64::new(1000));
    let time = Arc::clone(&now_ms);
    let clock = Clock::new(
        move || MonoTime::from_millis(time.load(Ordering::Relaxed)),
        || EventTime(0),
    );
    let metrics: Arc<TaskMetrics> = Arc::default();
    let timeout = Duration::from_millis(100);
    let task = GateTask::new(
        Inputs {
            gate: Box::new(gate),
            ports: vec![Box::new(TypedPort::new(first))],
            ports_of_edges: vec![0],
            edges: vec![0, 0],
            owner: named("reader"),
            unaligned: true,
        },
        &nothing(),
        TaskParts {
            metrics: Arc::clone(&metrics),
            clock,
            buffer_timeout: timeout,
            snapshots: Box::new(NoSnapshots),
        },
    )
    .unwrap();
    Fixture {
        task,
        log,
        waits,
        now_ms,
        metrics,
    }
}

fn run(task: &mut dyn Task, steps: usize) -> Step {
    let mut step = Step::Continue;
    for _ in 0..steps {
        step = task.step().unwrap();
    }
    step
}

#[test]
fn channels_are_merged_and_the_task_ends_with_the_last() {
    let mark = |ms| Watermark(EventTime(ms));
    let first = buffer(|encoder| {
        encoder.record(&1_u64, None).unwrap();
        encoder.event(Event::Watermark(mark(10)));
    });
    let second = buffer(|encoder| {
        encoder.event(Event::Watermark(mark(7)));
        encoder.record(&2_u64, None).unwrap();
        encoder.event(Event::End);
    });
    let third = buffer(|encoder| {
        encoder.event(Event::Idle(true));
        encoder.event(Event::Idle(false));
        encoder.event(Event::End);
    });
    let mut fixture = gate_task(vec![(0, first), (1, second), (0, third)], true);
    assert_eq!(run(&mut fixture.task, 2), Step::Continue);
    assert_eq!(run(&mut fixture.task, 1), Step::AwaitingCommit);
    assert_eq!(run(&mut fixture.task, 1), Step::AwaitingCommit);
    fixture.task.commit().unwrap();
    assert_eq!(
        *fixture.log.lock().unwrap(),
        [
            "records [1]",
            "watermark 7",
            "records [2]",
            "watermark 10",
            "idle true",
            "idle false",
            "watermark 9223372036854775807",
            "end",
            "commit",
        ]
    );
    assert_eq!(fixture.metrics.snapshot().records_in, 2);
}

#[test]
fn a_buffer_that_waited_the_timeout_is_flushed_and_nothing_is_while_nothing_waits() {
    let one = buffer(|encoder| {
        encoder.record(&1_u64, None).unwrap();
    });
    let mut fixture = gate_task(vec![(0, one)], false);
    assert_eq!(run(&mut fixture.task, 2), Step::Continue);
    fixture.now_ms.store(1099, Ordering::Relaxed);
    run(&mut fixture.task, 1);
    assert_eq!(*fixture.log.lock().unwrap(), ["records [1]"]);
    fixture.now_ms.store(1100, Ordering::Relaxed);
    run(&mut fixture.task, 2);
    assert_eq!(*fixture.log.lock().unwrap(), ["records [1]", "flush"]);
    let due = Some(MonoTime::from_millis(1100));
    assert_eq!(*fixture.waits.lock().unwrap(), [None, due, due, due, None]);
}

#[test]
fn bytes_that_make_no_sense_are_an_error() {
    let garbage = Buffer::encoded(vec![99], 0);
    let mut fixture = gate_task(vec![(1, garbage)], false);
    let error = fixture.task.step().unwrap_err();
    assert!(matches!(error, TaskError::Codec { .. }));
    assert!(error.to_string().contains("tag 99"), "{error}");
}

#[test]
fn what_comes_after_the_end_of_a_channel_is_an_error() {
    let ended = || buffer(|encoder| encoder.event(Event::End));
    let mut fixture = gate_task(vec![(0, ended()), (0, ended())], false);
    fixture.task.step().unwrap();
    assert!(matches!(fixture.task.step(), Err(TaskError::Codec { .. })));
}

struct Countdown(u64);

impl SourceReader<u64> for Countdown {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
        if self.0 == 7 {
            return Err(OperatorError::permanent("seven is no number"));
        }
        out.push(self.0, None);
        self.0 -= 1;
        Ok(match self.0 {
            0 => SourceStatus::EndOfInput,
            _ => SourceStatus::More,
        })
    }

    fn progress(&self) -> Option<f64> {
        Some(1.0 - self.0 as f64 / 4.0)
    }

    fn bytes_read(&self) -> u64 {
        (4 - self.0) * 8
    }
}

fn source_task(from: u64) -> (SourceTask<u64>, Log, Arc<TaskMetrics>) {
    let (first, log) = scribe(false);
    let metrics: Arc<TaskMetrics> = Arc::default();
    let task = SourceTask::new(
        named("countdown"),
        Box::new(Countdown(from)),
        first,
        &nothing(),
        TaskParts {
            metrics: Arc::clone(&metrics),
            clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
            buffer_timeout: Duration::ZERO,
            snapshots: Box::new(NoSnapshots),
        },
    )
    .unwrap();
    (task, log, metrics)
}

#[test]
fn a_source_is_read_to_its_end_and_counted() {
    let (mut task, log, metrics) = source_task(2);
    assert_eq!(run(&mut task, 1), Step::Continue);
    assert_eq!(metrics.snapshot().progress, Some(0.75));
    assert_eq!(run(&mut task, 1), Step::Finished);
    // A buffer timeout of zero flushes after each batch.
    assert_eq!(
        *log.lock().unwrap(),
        [
            "records [2]",
            "flush",
            "records [1]",
            "watermark 9223372036854775807",
            "end"
        ]
    );
    let metrics = metrics.snapshot();
    assert_eq!((metrics.records_in, metrics.bytes_in), (2, 32));
    assert_eq!(metrics.progress, Some(1.0));
}

#[test]
fn a_sources_error_bears_its_name() {
    let (mut task, _, _) = source_task(7);
    let cause = task.step().unwrap_err().into_cause();
    assert_eq!(cause.to_string(), "operator `countdown` seven is no number");
}

/// A record, and nothing twice, again and again.
struct Now(u64);

impl SourceReader<u64> for Now {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
        if self.0.is_multiple_of(3) {
            out.push(self.0, None);
        }
        self.0 += 1;
        Ok(SourceStatus::More)
    }
}

#[test]
fn a_source_that_has_nothing_more_for_now_lets_go_what_waits() {
    let (first, log) = scribe(false);
    let mut task = SourceTask::new(
        named("now and then"),
        Box::new(Now(0)),
        first,
        &nothing(),
        TaskParts {
            metrics: Arc::default(),
            clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
            buffer_timeout: Duration::from_secs(3600),
            snapshots: Box::new(NoSnapshots),
        },
    )
    .unwrap();
    let mut after = |steps| {
        run(&mut task, steps);
        std::mem::take(&mut *log.lock().unwrap())
    };
    assert_eq!(after(1), ["records [0]"]);
    assert_eq!(after(1), ["flush"]);
    assert_eq!(after(1), Vec::<String>::new());
    assert_eq!(after(3), ["records [3]", "flush"]);
}
