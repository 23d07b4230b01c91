use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spindle_common::execution::{ExecutionState, FailureClass};
use spindle_common::gateway::ToWorker;
use spindle_common::id::{ExecutionAttemptId, JobVertexId};
use spindle_dataflow::channel::GateEvent;
use spindle_dataflow::task::{Step, Task, TaskContext, TaskError, TaskFactory, TaskMail};

use crate::support::{Host, Make, Sum, consumer, dataflow, producer};

/// A task that does these things.
struct Script {
    step: fn() -> Result<Step, TaskError>,
    committed: Arc<AtomicBool>,
}

impl Script {
    fn factory(
        step: fn() -> Result<Step, TaskError>,
        committed: &Arc<AtomicBool>,
    ) -> Arc<dyn TaskFactory> {
        let committed = Arc::clone(committed);
        Arc::new(Make(move |_: TaskContext| {
            Ok(Box::new(Self {
                step,
                committed: Arc::clone(&committed),
            }) as Box<dyn Task>)
        }))
    }
}

impl Task for Script {
    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn step(&mut self) -> Result<Step, TaskError> {
        (self.step)()
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.committed.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

fn run(factory: Arc<dyn TaskFactory>) -> Host {
    let host = Host::start(&dataflow(factory, Sum::factory(|| {})));
    host.submit(producer(0), Vec::new(), Vec::new());
    host
}

#[tokio::test]
async fn output_is_made_visible_only_on_word_from_the_job() {
    let committed = Arc::default();
    let mut host = run(Script::factory(|| Ok(Step::AwaitingCommit), &committed));
    host.state(producer(0), ExecutionState::AwaitingCommit)
        .await;
    assert!(!committed.load(Ordering::SeqCst));
    host.worker.handle(ToWorker::CommitTask {
        execution: producer(0),
    });
    host.state(producer(0), ExecutionState::Finished).await;
    assert!(committed.load(Ordering::SeqCst));
    let expected = [
        ExecutionState::Initializing,
        ExecutionState::Running,
        ExecutionState::AwaitingCommit,
        ExecutionState::Finished,
    ];
    assert_eq!(host.states(producer(0)), expected);
}

#[tokio::test]
async fn a_task_that_awaits_its_commit_can_be_cancelled() {
    let committed = Arc::default();
    let mut host = run(Script::factory(|| Ok(Step::AwaitingCommit), &committed));
    host.state(producer(0), ExecutionState::AwaitingCommit)
        .await;
    host.cancel(producer(0));
    host.state(producer(0), ExecutionState::Canceled).await;
    assert!(!committed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_panic_fails_the_task_with_its_place_and_message() {
    let step = || panic!("division by {}", "zero");
    let mut host = run(Script::factory(step, &Arc::default()));
    let cause = host
        .state(producer(0), ExecutionState::Failed)
        .await
        .cause
        .unwrap();
    assert_eq!(cause.class, FailureClass::Restart);
    assert!(
        cause
            .message
            .starts_with(&format!("panicked at {}:", file!())),
        "{cause}"
    );
    assert!(cause.message.ends_with("division by zero"), "{cause}");
}

#[tokio::test]
async fn a_panic_while_the_task_is_built_fails_it_before_it_runs() {
    let mut host = run(Arc::new(Make(|_| panic!("cannot be built"))));
    let cause = host
        .state(producer(0), ExecutionState::Failed)
        .await
        .cause
        .unwrap();
    assert!(cause.message.ends_with("cannot be built"), "{cause}");
    assert_eq!(
        host.states(producer(0)),
        [ExecutionState::Initializing, ExecutionState::Failed]
    );
}

#[tokio::test]
async fn an_error_is_reported_as_it_is() {
    let step = || {
        Err(TaskError::Operator {
            operator: "read".to_owned(),
            message: "no such file".to_owned(),
            class: FailureClass::FailJob,
        })
    };
    let mut host = run(Script::factory(step, &Arc::default()));
    let cause = host
        .state(producer(0), ExecutionState::Failed)
        .await
        .cause
        .unwrap();
    assert_eq!(cause.to_string(), "operator `read` no such file");
    assert_eq!(cause.class, FailureClass::FailJob);
}

#[tokio::test]
async fn a_task_of_another_program_is_refused() {
    let mut host = run(Script::factory(|| Ok(Step::Continue), &Arc::default()));
    let other = ExecutionAttemptId {
        vertex: JobVertexId::of_uid("other"),
        subtask: 0,
        attempt: 0,
    };
    host.submit(other, Vec::new(), Vec::new());
    let cause = host
        .state(other, ExecutionState::Failed)
        .await
        .cause
        .unwrap();
    assert_eq!(cause.class, FailureClass::FailJob);
}

#[tokio::test]
async fn user_code_that_is_busy_is_cancelled_between_two_steps() {
    let mut host = run(Script::factory(|| Ok(Step::Continue), &Arc::default()));
    host.state(producer(0), ExecutionState::Running).await;
    host.cancel(producer(0));
    host.state(producer(0), ExecutionState::Canceled).await;
}

#[tokio::test]
async fn what_runs_beside_a_task_wakes_it_at_its_gate() {
    let (send, receive) = std::sync::mpsc::channel();
    let factory = Arc::new(Make(move |context: TaskContext| {
        send.send(context.mailbox.clone()).unwrap();
        Ok(Box::new(AtGate(context)) as Box<dyn Task>)
    }));
    let mut host = Host::start(&dataflow(Sum::factory(|| {}), factory));
    // The producer is not there yet.
    host.consume(0, &[&host]);
    host.state(consumer(0), ExecutionState::Running).await;
    let mailbox = receive.recv().unwrap();
    assert!(!mailbox.is_cancelled());
    mailbox.wake();
    host.state(consumer(0), ExecutionState::Finished).await;
}

/// Ends when its gate says that there is mail.
struct AtGate(TaskContext);

impl Task for AtGate {
    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn step(&mut self) -> Result<Step, TaskError> {
        let gate = self.0.gate.as_mut().unwrap();
        match gate.next(None)? {
            GateEvent::Woken => Ok(Step::Finished),
            GateEvent::Buffer(..) | GateEvent::Arrived(..) => Ok(Step::Continue),
        }
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

/// Waits by itself, for nothing.
struct ByItself(TaskContext);

impl Task for ByItself {
    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn step(&mut self) -> Result<Step, TaskError> {
        while !self.0.mailbox.is_cancelled() {
            self.0.mailbox.park(None);
        }
        Err(TaskError::Cancelled)
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

#[tokio::test]
async fn a_task_that_waits_by_itself_is_cancelled_at_once() {
    let make = |context| Ok(Box::new(ByItself(context)) as Box<dyn Task>);
    let mut host = run(Arc::new(Make(make)));
    host.state(producer(0), ExecutionState::Running).await;
    host.cancel(producer(0));
    host.state(producer(0), ExecutionState::Canceled).await;
}
