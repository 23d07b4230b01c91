//! Tasks of a job that stops with a savepoint.

use spindle_common::checkpoint::{BarrierAlignment, CheckpointBarrier, CheckpointId, SnapshotKind};

use super::*;
use crate::task::TaskMail;

/// One record each time, and it can say where it is.
struct Steady(u64);

impl SourceReader<u64> for Steady {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
        self.0 += 1;
        out.push(self.0, None);
        Ok(SourceStatus::More)
    }

    fn snapshot(&mut self) -> Result<Option<Vec<Vec<u8>>>, OperatorError> {
        Ok(Some(vec![vec![self.0 as u8]]))
    }
}

fn steady() -> (SourceTask<u64>, Log) {
    let (first, log) = scribe(false);
    let task = SourceTask::new(
        named("steady"),
        Box::new(Steady(0)),
        first,
        &nothing(),
        TaskParts {
            metrics: Arc::default(),
            clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
            buffer_timeout: Duration::from_secs(3600),
            snapshots: Box::new(NoSnapshots),
        },
    );
    (task.unwrap(), log)
}

fn barrier(kind: SnapshotKind) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(5),
        timestamp_ms: 0,
        kind,
        directory: Arc::from("file:///savepoint"),
        alignment: BarrierAlignment::Aligned,
    }
}

fn trigger(kind: SnapshotKind) -> TaskMail {
    TaskMail::TriggerCheckpoint(barrier(kind))
}

const COMPLETE: TaskMail = TaskMail::CheckpointComplete(CheckpointId(5));
const ABORTED: TaskMail = TaskMail::CheckpointAborted(CheckpointId(5));
const LAST: &str = "watermark 9223372036854775807";

#[test]
fn a_source_reads_nothing_behind_the_barrier_and_ends_without_a_watermark() {
    let (mut task, log) = steady();
    run(&mut task, 1);
    task.handle(trigger(SnapshotKind::StopWithSavepoint))
        .unwrap();
    assert_eq!(run(&mut task, 3), Step::Held);
    task.handle(TaskMail::CheckpointComplete(CheckpointId(4)))
        .unwrap();
    assert_eq!(run(&mut task, 1), Step::Held, "that was another one");
    task.handle(COMPLETE).unwrap();
    assert_eq!(run(&mut task, 2), Step::Finished);
    assert_eq!(*log.lock().unwrap(), ["records [1]", "end"]);
}

#[test]
fn a_source_goes_on_if_the_savepoint_to_stop_with_is_given_up() {
    let (mut task, log) = steady();
    run(&mut task, 1);
    task.handle(trigger(SnapshotKind::StopWithSavepoint))
        .unwrap();
    task.handle(ABORTED).unwrap();
    assert_eq!(run(&mut task, 1), Step::Continue);
    assert_eq!(*log.lock().unwrap(), ["records [1]", "records [2]"]);
}

#[test]
fn a_source_that_is_drained_sends_the_last_watermark_before_the_barrier_and_cannot_go_back() {
    let (mut task, log) = steady();
    task.handle(trigger(SnapshotKind::Drain)).unwrap();
    assert_eq!(*log.lock().unwrap(), [LAST]);
    let error = task.handle(ABORTED).unwrap_err();
    assert!(matches!(error, TaskError::NotStopped { .. }), "{error}");

    let (mut task, log) = steady();
    task.handle(trigger(SnapshotKind::Drain)).unwrap();
    task.handle(COMPLETE).unwrap();
    assert_eq!(run(&mut task, 1), Step::Finished);
    assert_eq!(*log.lock().unwrap(), [LAST, "end"]);
}

#[test]
fn a_savepoint_that_the_job_goes_on_from_holds_nothing_back() {
    let (mut task, _) = steady();
    task.handle(trigger(SnapshotKind::Savepoint)).unwrap();
    assert_eq!(run(&mut task, 1), Step::Continue);
}

#[test]
fn the_ends_of_channels_behind_the_barrier_are_no_sign_of_how_far_time_has_come() {
    let mark = |ms| Watermark(EventTime(ms));
    let stop = || barrier(SnapshotKind::StopWithSavepoint);
    let until_barrier = |ms: i64| {
        buffer(|encoder| {
            encoder.event(Event::Watermark(mark(ms)));
            encoder.event(Event::Barrier(stop()));
        })
    };
    let end = || buffer(|encoder| encoder.event(Event::End));
    let events = vec![
        (0, until_barrier(7)),
        (1, until_barrier(20)),
        // Without the savepoint time would come to 20 here.
        (0, end()),
        (1, end()),
    ];
    let mut fixture = gate_task(events, false);
    assert_eq!(run(&mut fixture.task, 4), Step::Finished);
    assert_eq!(*fixture.log.lock().unwrap(), ["watermark 7", "end"]);
}
