use std::fmt::Write as _;

use serde::Serialize;
use spindle_common::PROTOCOL_VERSION;
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{TaskMetricsSnapshot, WorkerHello};
use spindle_common::id::JobVertexId;
use spindle_common::job_graph::ProgramSpec;

use super::*;

const FINGERPRINT: u64 = 42;

/// Inputs and the effects of each, line by line.
struct Story {
    machine: TaskExecutor,
    now: MonoTime,
    text: String,
}

impl Story {
    fn new(slots: u32) -> Self {
        let mut story = Self {
            machine: TaskExecutor::new(slots),
            now: MonoTime::ZERO,
            text: String::new(),
        };
        story.job_manager(ToTaskExecutor::Registered {
            heartbeat_interval_ms: 60_000,
        });
        story.input(Input::Tick);
        story.text.clear();
        story
    }

    fn input(&mut self, input: Input) -> &mut Self {
        writeln!(self.text, "{} {}", self.now.as_millis(), shown(&input)).unwrap();
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        for effect in out {
            writeln!(self.text, "    {}", shown(&effect)).unwrap();
        }
        self
    }

    fn job_manager(&mut self, message: ToTaskExecutor) -> &mut Self {
        self.input(Input::JobManager(message))
    }

    fn request(&mut self, allocation: u64, slot: u32, job: u8) -> &mut Self {
        self.job_manager(ToTaskExecutor::RequestSlot(SlotRequest {
            allocation: AllocationId(allocation),
            slot,
            job: job_id(job),
            program: ProgramSpec {
                executable: "job".to_owned(),
                args: vec!["--x".to_owned()],
                artifact: None,
            },
            graph_fingerprint: FINGERPRINT,
            config: Vec::new(),
        }))
    }

    fn free(&mut self, allocation: u64) -> &mut Self {
        self.job_manager(ToTaskExecutor::FreeSlot {
            allocation: AllocationId(allocation),
        })
    }

    fn hello(&mut self, worker: u64, job: u8) -> &mut Self {
        self.hello_with(worker, job, |_| {})
    }

    fn hello_with(
        &mut self,
        worker: u64,
        job: u8,
        change: impl FnOnce(&mut WorkerHello),
    ) -> &mut Self {
        let mut hello = WorkerHello {
            protocol_version: PROTOCOL_VERSION,
            job: job_id(job),
            pid: 100,
            data_address: format!("host:{worker}"),
            graph: Ok(FINGERPRINT),
        };
        change(&mut hello);
        self.input(Input::Worker(WorkerId(worker), FromWorker::Hello(hello)))
    }

    fn submit(&mut self, allocation: u64, job: u8) -> &mut Self {
        self.job_manager(ToTaskExecutor::SubmitTask(Box::new(TaskDeployment {
            job: job_id(job),
            allocation: AllocationId(allocation),
            execution: task(),
            parallelism: 1,
            max_parallelism: 128,
            splits: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        })))
    }

    /// Lets time pass until the machine wants to be asked.
    fn wait(&mut self) -> &mut Self {
        self.now = self.machine.deadline().expect("there is a deadline");
        self.input(Input::Tick)
    }
}

fn job_id(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn task() -> ExecutionAttemptId {
    ExecutionAttemptId {
        vertex: JobVertexId::of_uid("v"),
        subtask: 0,
        attempt: 0,
    }
}

fn shown(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap();
    for n in 1..4 {
        // Ids in JSON are numbers of 128 bits.
        text = text.replace(
            &u128::from_be_bytes([n; 16]).to_string(),
            &format!("job{n}"),
        );
    }
    text.replace(
        &serde_json::to_string(&JobVertexId::of_uid("v")).unwrap(),
        "v",
    )
}

#[test]
fn a_slot_is_offered_when_the_worker_is_ready_and_a_second_one_at_once() {
    let mut story = Story::new(2);
    story
        .request(1, 0, 1)
        .hello(1, 1)
        .request(2, 1, 1)
        .submit(1, 1);
    story.job_manager(ToTaskExecutor::CommitTask {
        job: job_id(1),
        execution: task(),
    });
    story.free(1).free(2).input(Input::WorkerEnded(
        WorkerId(1),
        "exited with code 0".to_owned(),
    ));
    insta::assert_snapshot!(story.text);
}

#[test]
fn both_slots_are_offered_if_they_were_requested_before_the_hello() {
    let mut story = Story::new(2);
    story
        .request(1, 0, 1)
        .request(2, 1, 1)
        .hello(1, 1)
        .hello(1, 1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn what_cannot_be_leased_is_refused_and_unknown_leases_are_dropped() {
    let mut story = Story::new(1);
    story
        .request(1, 1, 1)
        .request(2, 0, 1)
        .request(2, 0, 1)
        .request(3, 0, 2)
        .free(9)
        .submit(9, 1)
        .submit(2, 2);
    story.job_manager(ToTaskExecutor::CancelTask {
        job: job_id(3),
        execution: task(),
    });
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_program_that_is_not_the_one_submitted_is_refused() {
    let mut story = Story::new(2);
    story
        .request(1, 0, 1)
        .hello_with(1, 1, |hello| hello.graph = Ok(7));
    story
        .request(2, 0, 1)
        .hello_with(2, 1, |hello| hello.protocol_version = 99);
    let cause = FailureCause {
        class: FailureClass::FailJob,
        operator: None,
        message: "no such file".to_owned(),
    };
    story
        .request(3, 0, 1)
        .hello_with(3, 1, |hello| hello.graph = Err(cause));
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_worker_that_ends_unasked_is_told_once_and_its_slots_are_free() {
    let mut story = Story::new(2);
    story.request(1, 0, 1).request(2, 1, 1).hello(1, 1);
    story.input(Input::WorkerDisconnected(
        WorkerId(1),
        "the peer ended the stream".to_owned(),
    ));
    story.input(Input::WorkerEnded(
        WorkerId(1),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    story.input(Input::WorkerEnded(
        WorkerId(1),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    story.request(3, 0, 1);
    story.input(Input::WorkerEnded(
        WorkerId(2),
        "exited with code 1".to_owned(),
    ));
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_worker_that_keeps_silent_is_killed() {
    let mut story = Story::new(2);
    story.request(1, 0, 1).wait();
    story.input(Input::WorkerEnded(
        WorkerId(1),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    story.request(2, 0, 1).hello(2, 1);
    story
        .input(Input::WorkerDisconnected(
            WorkerId(2),
            "the connection was lost".to_owned(),
        ))
        .wait();
    story.input(Input::WorkerEnded(
        WorkerId(2),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_worker_that_does_not_end_when_told_is_killed() {
    let mut story = Story::new(1);
    story.request(1, 0, 1).hello(1, 1).free(1).wait();
    story.request(2, 0, 1);
    story.input(Input::WorkerEnded(
        WorkerId(1),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    story.hello(2, 1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn task_states_are_passed_on_and_counters_wait_for_the_heartbeat() {
    let mut story = Story::new(1);
    let metrics = TaskMetricsSnapshot {
        records_in: 5,
        ..TaskMetricsSnapshot::default()
    };
    let state = |state| {
        FromWorker::TaskState(TaskStateUpdate {
            job: job_id(1),
            execution: task(),
            state,
            cause: None,
            metrics,
            collected: Vec::new(),
        })
    };
    let report = FromWorker::Report(vec![TaskReport {
        job: job_id(1),
        execution: task(),
        metrics,
    }]);
    story.request(1, 0, 1).hello(1, 1);
    story.input(Input::Worker(WorkerId(1), state(ExecutionState::Running)));
    story.input(Input::Worker(WorkerId(1), report)).wait();
    story.input(Input::Worker(WorkerId(1), state(ExecutionState::Finished)));
    story
        .free(1)
        .input(Input::Worker(WorkerId(1), state(ExecutionState::Canceled)));
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_shut_down_ends_the_workers_then_the_process() {
    let mut story = Story::new(2);
    story.request(1, 0, 1).request(2, 1, 2).hello(1, 1);
    story.job_manager(ToTaskExecutor::ShutDown {
        reason: "the job is over".to_owned(),
    });
    story.request(3, 0, 3);
    story.input(Input::WorkerEnded(
        WorkerId(2),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    story.wait().input(Input::WorkerEnded(
        WorkerId(1),
        "was killed by signal 9 (SIGKILL)".to_owned(),
    ));
    insta::assert_snapshot!(story.text);
}
