use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, Distribution, OperatorSnapshot,
    SnapshotKind, StateChunk, StateHandle, StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
    TaskRestore,
};
use spindle_common::execution::{ExecutionState, FailureClass};
use spindle_common::gateway::{TaskCheckpointOutcome, ToWorker};
use spindle_dataflow::snapshot::Content;
use spindle_dataflow::task::{Step, Task, TaskContext, TaskError, TaskFactory, TaskMail};

use crate::support::{Host, Make, Sum, dataflow, eventually, job, producer};

/// More than stays inline.
const LARGE: usize = 100_000;

/// What a [`Stateful`] did, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A task whose state is so many bytes, written at each trigger.
struct Stateful {
    context: TaskContext,
    log: Log,
    bytes: usize,
    then: fn() -> Step,
}

impl Stateful {
    /// `then` is what each step gives, once a message came.
    fn factory(bytes: usize, log: &Log, then: fn() -> Step) -> Arc<dyn TaskFactory> {
        let log = Arc::clone(log);
        Arc::new(Make(move |context: TaskContext| {
            let restored = &context.restored.operators;
            let restored = restored.iter().map(size).sum::<usize>();
            log.lock().unwrap().push(format!("restored {restored}"));
            Ok(Box::new(Self {
                context,
                log: Arc::clone(&log),
                bytes,
                then,
            }) as Box<dyn Task>)
        }))
    }
}

fn size(operator: &OperatorSnapshot<Vec<u8>>) -> usize {
    let states = operator.states.iter();
    let chunks = states.flat_map(|state| &state.chunks);
    chunks.map(|chunk| chunk.content.len()).sum()
}

impl Task for Stateful {
    fn step(&mut self) -> Result<Step, TaskError> {
        if self.log.lock().unwrap().len() > 1 {
            let step = (self.then)();
            if step != Step::Continue {
                return Ok(step);
            }
        }
        self.context.mailbox.park(None);
        Ok(Step::Continue)
    }

    fn handle(&mut self, mail: TaskMail) -> Result<(), TaskError> {
        let told = match mail {
            TaskMail::TriggerCheckpoint(barrier) => {
                let stats = SubtaskCheckpointStats {
                    sync_us: 7,
                    ..SubtaskCheckpointStats::default()
                };
                let state = state(vec![5; self.bytes]);
                let state = state.map(Content::Bytes);
                self.context.snapshots.write(&barrier, state, stats);
                format!("trigger {}", barrier.id)
            }
            TaskMail::CheckpointComplete(id) => format!("complete {id}"),
            TaskMail::CheckpointAborted(id) => format!("aborted {id}"),
        };
        self.log.lock().unwrap().push(told);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

fn state(content: Vec<u8>) -> SubtaskSnapshot<Vec<u8>> {
    SubtaskSnapshot {
        operators: vec![OperatorSnapshot {
            uid: "source".to_owned(),
            states: vec![StateSnapshot {
                name: "position".to_owned(),
                distribution: Distribution::Split,
                schema: "list<u8>".to_owned(),
                chunks: vec![StateChunk {
                    index: 0,
                    entries: 1,
                    content,
                }],
            }],
        }],
        finished: false,
    }
}

/// One task, and a directory for its snapshots.
struct Run {
    host: Host,
    log: Log,
    directory: tempfile::TempDir,
}

impl Run {
    async fn start(bytes: usize, then: fn() -> Step) -> Self {
        let log = Log::default();
        let factory = Stateful::factory(bytes, &log, then);
        let mut host = Host::start(&dataflow(factory, Sum::factory(|| {})));
        host.submit(producer(0), Vec::new(), Vec::new());
        host.state(producer(0), ExecutionState::Running).await;
        Self {
            host,
            log,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn uri(&self) -> String {
        format!("file://{}", self.directory.path().display())
    }

    /// The file that the task writes.
    fn file(&self) -> PathBuf {
        let name = format!("{}-0-0", producer(0).vertex);
        self.directory.path().join(name)
    }

    fn trigger(&self, id: u64, directory: &str) {
        self.host.worker.handle(ToWorker::TriggerCheckpoint {
            execution: producer(0),
            barrier: barrier(id, directory),
        });
    }

    fn abort(&self, id: u64) {
        self.host.worker.handle(ToWorker::CheckpointAborted {
            execution: producer(0),
            checkpoint: CheckpointId(id),
        });
    }

    fn complete(&self, id: u64) {
        self.host.worker.handle(ToWorker::CheckpointComplete {
            execution: producer(0),
            checkpoint: CheckpointId(id),
        });
    }

    async fn acknowledged(&mut self, id: u64) -> (SubtaskSnapshot, SubtaskCheckpointStats) {
        match self.host.checkpoint(producer(0), id).await {
            TaskCheckpointOutcome::Acknowledged { snapshot, stats } => (snapshot, stats),
            TaskCheckpointOutcome::Declined { reason } => panic!("{reason}"),
        }
    }

    async fn declined(&mut self, id: u64) -> String {
        match self.host.checkpoint(producer(0), id).await {
            TaskCheckpointOutcome::Acknowledged { snapshot, .. } => panic!("{snapshot:?}"),
            TaskCheckpointOutcome::Declined { reason } => reason,
        }
    }

    async fn logged(&self, expected: &[&str]) {
        eventually(&format!("the task did {expected:?}"), || {
            *self.log.lock().unwrap() == expected
        })
        .await;
    }
}

fn barrier(id: u64, directory: &str) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: 0,
        kind: SnapshotKind::Checkpoint,
        directory: directory.into(),
        alignment: BarrierAlignment::Aligned,
    }
}

fn on() -> Step {
    Step::Continue
}

/// A NameNode that takes all connections and never says a word.
struct Silent {
    listener: std::net::TcpListener,
}

impl Silent {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { listener }
    }

    fn uri(&self) -> String {
        format!("hdfs://{}/chk", self.listener.local_addr().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_written_where_the_acknowledgement_says() {
    let mut run = Run::start(LARGE, on).await;
    run.trigger(1, &run.uri());
    let (snapshot, stats) = run.acknowledged(1).await;
    let StateHandle::File(range) = &snapshot.operators[0].states[0].chunks[0].content else {
        panic!("{snapshot:?}");
    };
    assert_eq!(run.directory.path().join(&range.path), run.file());
    assert_eq!((range.offset, range.length), (0, LARGE as u64));
    assert_eq!(std::fs::read(run.file()).unwrap(), vec![5; LARGE]);
    let bytes = (stats.state_bytes, stats.written_bytes);
    assert_eq!(bytes, (LARGE as u64, LARGE as u64));
    assert_eq!(stats.sync_us, 7);
    assert!(stats.async_us > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_state_travels_with_the_acknowledgement() {
    let mut run = Run::start(100, on).await;
    run.trigger(1, &run.uri());
    let (snapshot, _) = run.acknowledged(1).await;
    let content = &snapshot.operators[0].states[0].chunks[0].content;
    assert_eq!(*content, StateHandle::Inline(vec![5; 100]));
    assert!(!run.file().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_the_task_between_its_steps_in_their_order() {
    let mut run = Run::start(1, on).await;
    let uri = run.uri();
    run.trigger(1, &uri);
    run.trigger(2, &uri);
    run.complete(1);
    run.abort(2);
    run.trigger(3, &uri);
    let expected = [
        "restored 0",
        "trigger 1",
        "trigger 2",
        "complete 1",
        "aborted 2",
        "trigger 3",
    ];
    run.logged(&expected).await;
    run.acknowledged(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_a_task_that_awaits_its_commit() {
    let mut run = Run::start(1, || Step::AwaitingCommit).await;
    run.complete(1);
    let execution = producer(0);
    run.host
        .state(execution, ExecutionState::AwaitingCommit)
        .await;
    run.trigger(2, &run.uri());
    run.acknowledged(2).await;
    run.complete(2);
    let expected = ["restored 0", "complete 1", "trigger 2", "complete 2"];
    run.logged(&expected).await;
    run.host.worker.handle(ToWorker::CommitTask { execution });
    run.host.state(execution, ExecutionState::Finished).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_does_not_run_is_part_of_no_checkpoint() {
    let mut run = Run::start(1, on).await;
    run.host.cancel(producer(0));
    run.host.state(producer(0), ExecutionState::Canceled).await;
    run.complete(1);
    run.abort(1);
    run.trigger(2, &run.uri());
    let reason = run.declined(2).await;
    assert_eq!(reason, format!("task {} does not run", producer(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_task_wrote_before_its_end_is_told_before_it() {
    let mut run = Run::start(LARGE, || Step::Finished).await;
    run.trigger(1, &run.uri());
    run.host.state(producer(0), ExecutionState::Finished).await;
    let told = run.host.checkpoints();
    assert!(
        matches!(&told[0].outcome, TaskCheckpointOutcome::Acknowledged { .. }),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_away_fails_the_checkpoint_and_not_the_task() {
    let mut run = Run::start(LARGE, on).await;
    run.trigger(1, "hdfs://127.0.0.1:1/chk");
    let reason = run.declined(1).await;
    assert!(
        reason.contains("no NameNode answers at 127.0.0.1:1"),
        "{reason}"
    );
    run.trigger(2, &run.uri());
    run.acknowledged(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_storage_holds_up_neither_the_task_nor_other_checkpoints_and_has_a_bound() {
    let silent = Silent::start();
    let mut run = Run::start(LARGE, on).await;
    run.trigger(1, &silent.uri());
    run.trigger(2, &run.uri());
    run.acknowledged(2).await;
    for id in 3..6 {
        run.trigger(id, &silent.uri());
    }
    run.trigger(6, &run.uri());
    let reason = run.declined(6).await;
    assert!(reason.contains("the oldest for checkpoint 1"), "{reason}");
    run.abort(1);
    run.trigger(7, &run.uri());
    run.acknowledged(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_killed_while_its_snapshot_is_written() {
    let silent = Silent::start();
    let mut run = Run::start(LARGE, on).await;
    run.trigger(1, &silent.uri());
    run.logged(&["restored 0", "trigger 1"]).await;
    run.host.cancel(producer(0));
    run.host.state(producer(0), ExecutionState::Canceled).await;
    assert_eq!(run.host.checkpoints(), []);
    eventually("its thread is gone", || {
        run.host.worker.running_tasks() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_finishes_into_a_slow_storage_can_be_cancelled() {
    let silent = Silent::start();
    let mut run = Run::start(LARGE, || Step::Finished).await;
    run.trigger(1, &silent.uri());
    run.logged(&["restored 0", "trigger 1"]).await;
    run.host.cancel(producer(0));
    run.host.state(producer(0), ExecutionState::Canceled).await;
}

/// A file whose opening waits until it is let go.
struct Stuck {
    other_name: PathBuf,
}

impl Stuck {
    fn at(path: &PathBuf) -> Self {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
        let other_name = path.with_extension("other");
        std::fs::hard_link(path, &other_name).unwrap();
        Self { other_name }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Both ends are there now.
        let options = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.other_name);
        drop(options);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_an_aborted_checkpoint_is_removed() {
    let mut run = Run::start(LARGE, on).await;
    let stuck = Stuck::at(&run.file());
    run.trigger(1, &run.uri());
    run.logged(&["restored 0", "trigger 1"]).await;
    run.abort(1);
    let file = run.file();
    eventually("the file is gone", || !file.exists()).await;
    run.trigger(2, &run.uri());
    run.acknowledged(2).await;
    drop(stuck);
}

/// A task that begins with what another wrote.
async fn restored(run: &mut Run) -> (TaskRestore, Host, Log) {
    run.trigger(1, &run.uri());
    let (snapshot, _) = run.acknowledged(1).await;
    let log = Log::default();
    let factory = Stateful::factory(1, &log, on);
    let host = Host::start(&dataflow(factory, Sum::factory(|| {})));
    let restore = TaskRestore {
        job: job(),
        checkpoint: CheckpointId(1),
        directory: run.uri(),
        operators: snapshot.operators,
        finished: false,
    };
    (restore, host, log)
}

fn submit(host: &Host, restore: TaskRestore) {
    host.submit_restored(producer(0), Vec::new(), Vec::new(), Some(restore));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_begins_with_what_was_written() {
    let mut run = Run::start(LARGE, on).await;
    let (restore, mut host, log) = restored(&mut run).await;
    submit(&host, restore);
    host.state(producer(0), ExecutionState::Running).await;
    assert_eq!(*log.lock().unwrap(), [format!("restored {LARGE}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_does_not_begin_with_damage_but_names_it() {
    let mut run = Run::start(LARGE, on).await;
    let (restore, mut host, log) = restored(&mut run).await;
    let mut bytes = std::fs::read(run.file()).unwrap();
    bytes[LARGE / 2] ^= 1;
    std::fs::write(run.file(), bytes).unwrap();
    submit(&host, restore);
    let failed = host.state(producer(0), ExecutionState::Failed).await;
    let cause = failed.cause.unwrap();
    let expected = format!(
        "failed to restore from checkpoint 1: state `position` of operator `source` is damaged: file `{}/{}` has other bytes",
        run.uri(),
        run.file().file_name().unwrap().display()
    );
    assert!(cause.to_string().starts_with(&expected), "{cause}");
    assert_eq!(cause.class, FailureClass::Fallback);
    assert!(log.lock().unwrap().is_empty(), "it was not built");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_away_when_a_task_begins_calls_for_a_restart() {
    let mut run = Run::start(LARGE, on).await;
    let (mut restore, mut host, _) = restored(&mut run).await;
    restore.directory = "hdfs://127.0.0.1:1/chk".to_owned();
    submit(&host, restore);
    let failed = host.state(producer(0), ExecutionState::Failed).await;
    let cause = failed.cause.unwrap();
    assert!(cause.to_string().contains("no NameNode answers"), "{cause}");
    assert_eq!(cause.class, FailureClass::Restart);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_waits_for_its_state_can_be_cancelled() {
    let silent = Silent::start();
    let mut run = Run::start(LARGE, on).await;
    let (mut restore, mut host, log) = restored(&mut run).await;
    restore.directory = silent.uri();
    submit(&host, restore);
    host.state(producer(0), ExecutionState::Initializing).await;
    host.cancel(producer(0));
    host.state(producer(0), ExecutionState::Canceled).await;
    assert!(log.lock().unwrap().is_empty(), "it was not built");
}
