use std::fmt::Write as _;

use serde::Serialize;
use spindle_common::PROTOCOL_VERSION;
use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, SnapshotKind, SubtaskCheckpointStats,
    SubtaskSnapshot,
};
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{SlotRequest, TaskCheckpointOutcome};
use spindle_common::gateway::{TaskMetricsSnapshot, WorkerHello};
use spindle_common::id::JobVertexId;
use spindle_common::job_graph::{ProgramArtifact, ProgramSpec};
use spindle_common::resource::ByteSize;

use super::*;

const FINGERPRINT: u64 = 42;
/// What a slot is worth.
const SLOT_MEMORY: u64 = 100 << 20;

/// Inputs and the effects of each, line by line.
struct Story {
    machine: TaskExecutor,
    now: MonoTime,
    text: String,
}

impl Story {
    fn new(slots: u32) -> Self {
        let mut story = Self {
            machine: TaskExecutor::new(
                slots,
                TASK_EXECUTOR_MEMORY.as_bytes() + u64::from(slots) * SLOT_MEMORY,
            ),
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
        self.request_with(allocation, slot, job, None)
    }

    fn request_with(
        &mut self,
        allocation: u64,
        slot: u32,
        job: u8,
        artifact: Option<ProgramArtifact>,
    ) -> &mut Self {
        self.job_manager(ToTaskExecutor::RequestSlot(SlotRequest {
            allocation: AllocationId(allocation),
            slot,
            job: job_id(job),
            program: ProgramSpec {
                executable: "job".to_owned(),
                args: vec!["--x".to_owned()],
                artifact,
            },
            graph_fingerprint: FINGERPRINT,
            config: Vec::new(),
            profile: None,
        }))
    }

    /// A slot of so many MiB.
    fn request_sized(&mut self, allocation: u64, slot: u32, job: u8, mib: u64) -> &mut Self {
        let request = SlotRequest {
            allocation: AllocationId(allocation),
            slot,
            job: job_id(job),
            program: ProgramSpec {
                executable: "job".to_owned(),
                args: Vec::new(),
                artifact: None,
            },
            graph_fingerprint: FINGERPRINT,
            config: Vec::new(),
            profile: Some(SlotProfile::new(0.5, ByteSize::from_mib(mib))),
        };
        self.job_manager(ToTaskExecutor::RequestSlot(request))
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
            restore: None,
        })))
    }

    fn cancel(&mut self, job: u8) -> &mut Self {
        self.job_manager(ToTaskExecutor::CancelTask {
            job: job_id(job),
            execution: task(),
        })
    }

    fn state(&mut self, worker: u64, job: u8, state: ExecutionState) -> &mut Self {
        let update = TaskStateUpdate {
            job: job_id(job),
            execution: task(),
            state,
            cause: None,
            metrics: TaskMetricsSnapshot::default(),
            collected: Vec::new(),
        };
        self.input(Input::Worker(
            WorkerId(worker),
            FromWorker::TaskState(update),
        ))
    }

    fn killed(&mut self, worker: u64) -> &mut Self {
        self.input(Input::WorkerDisconnected(
            WorkerId(worker),
            "the connection was lost".to_owned(),
        ))
        .input(Input::WorkerEnded(
            WorkerId(worker),
            "was killed by signal 9 (SIGKILL)".to_owned(),
        ))
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

/// A program whose hash is one digit, many times.
fn artifact(digit: &str) -> ProgramArtifact {
    ProgramArtifact {
        uri: "hdfs://nn/job".to_owned(),
        size: 7,
        sha256: digit.repeat(64),
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
    for digit in ["a", "b"] {
        text = text.replace(&digit.repeat(64), digit);
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
fn checkpoints_are_passed_on_to_the_jobs_worker_and_back() {
    let checkpoint = CheckpointId(3);
    let mut story = Story::new(1);
    story.request(1, 0, 1).hello(1, 1).submit(1, 1);
    story.job_manager(ToTaskExecutor::TriggerCheckpoint {
        job: job_id(1),
        execution: task(),
        barrier: CheckpointBarrier {
            id: checkpoint,
            timestamp_ms: 7,
            kind: SnapshotKind::Checkpoint,
            directory: "hdfs:///chk-3".into(),
            alignment: BarrierAlignment::Aligned,
        },
    });
    let acknowledged = |job| {
        let done = TaskCheckpoint {
            job,
            execution: task(),
            checkpoint,
            outcome: TaskCheckpointOutcome::Acknowledged {
                snapshot: SubtaskSnapshot::default(),
                stats: SubtaskCheckpointStats::default(),
            },
        };
        Input::Worker(WorkerId(1), FromWorker::TaskCheckpoint(done))
    };
    // Whatever a worker says, it speaks for its own job.
    story.input(acknowledged(job_id(2)));
    story.job_manager(ToTaskExecutor::CheckpointComplete {
        job: job_id(1),
        execution: task(),
        checkpoint,
    });
    story.job_manager(ToTaskExecutor::CheckpointAborted {
        job: job_id(1),
        execution: task(),
        checkpoint: CheckpointId(4),
    });
    // Nobody is left to be told, and what a worker of a former lease says is dropped.
    story.free(1);
    story.job_manager(ToTaskExecutor::CheckpointComplete {
        job: job_id(1),
        execution: task(),
        checkpoint,
    });
    story.input(acknowledged(job_id(1)));
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
fn a_program_cannot_fail_the_cluster() {
    let mut story = Story::new(1);
    story.request(1, 0, 1).hello(1, 1);
    let mut effects = Vec::new();
    let failed = TaskStateUpdate {
        job: job_id(1),
        execution: task(),
        state: ExecutionState::Failed,
        cause: Some(FailureCause {
            class: FailureClass::FailCluster,
            operator: None,
            message: "down with it all".to_owned(),
        }),
        metrics: TaskMetricsSnapshot::default(),
        collected: Vec::new(),
    };
    let input = Input::Worker(WorkerId(1), FromWorker::TaskState(failed));
    story.machine.handle(story.now, input, &mut effects);
    let told = effects.iter().find_map(|effect| {
        if let Effect::Tell(ToJobManager::TaskState(update)) = effect {
            update.cause.as_ref()
        } else {
            None
        }
    });
    assert_eq!(told.map(|cause| cause.class), Some(FailureClass::FailJob));
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

#[test]
fn a_program_is_fetched_once_and_its_workers_start_when_it_is_there() {
    let mut story = Story::new(4);
    story
        .request_with(1, 0, 1, Some(artifact("a")))
        .request_with(2, 1, 1, Some(artifact("a")))
        .request_with(3, 2, 2, Some(artifact("a")));
    story.input(Input::ProgramFetched(artifact("a"), Ok(())));
    story.request_with(4, 3, 3, Some(artifact("a"))).hello(1, 1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_program_that_cannot_be_had_costs_the_slots_of_its_jobs_alone_and_is_tried_again() {
    let mut story = Story::new(3);
    let cause = FailureCause {
        class: FailureClass::Restart,
        operator: None,
        message: "no such file".to_owned(),
    };
    story
        .request_with(1, 0, 1, Some(artifact("a")))
        .request_with(2, 1, 2, Some(artifact("b")))
        .input(Input::ProgramFetched(artifact("a"), Err(cause)))
        .request_with(3, 0, 1, Some(artifact("a")))
        .free(3);
    story.input(Input::ProgramFetched(artifact("a"), Ok(())));
    story.request_with(4, 0, 3, Some(artifact("g")));
    story.job_manager(ToTaskExecutor::ShutDown {
        reason: "the session is over".to_owned(),
    });
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_cancelled_task_that_does_not_stop_takes_its_worker_along_and_no_other() {
    let mut story = Story::new(2);
    story.request(1, 0, 1).hello(1, 1).submit(1, 1);
    story.request(2, 1, 2).hello(2, 2).submit(2, 2);
    story.cancel(1).cancel(2);
    story.state(2, 2, ExecutionState::Canceled);
    story.wait().killed(1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_task_that_had_ended_when_it_was_cancelled_is_not_waited_for() {
    let mut story = Story::new(1);
    story.request(1, 0, 1).hello(1, 1).submit(1, 1);
    story.state(1, 1, ExecutionState::Finished).cancel(1);
    // The next heartbeat.
    assert_eq!(
        story.machine.deadline(),
        Some(MonoTime::from_millis(60_000))
    );
}

#[test]
fn a_worker_may_use_what_its_slots_are_worth_and_is_killed_alone_for_more() {
    let mut story = Story::new(3);
    story.request(1, 0, 1).hello(1, 1);
    story.request(2, 1, 2).hello(2, 2).request(3, 2, 2);
    let memory = |first: u64, second: u64| {
        let resident = [(1, first), (2, second)];
        Input::Memory(resident.map(|(id, mib)| (WorkerId(id), mib << 20)).to_vec())
    };
    story.input(memory(100, 200));
    story.free(3).input(memory(99, 101)).input(memory(99, 102));
    story.request(4, 2, 2).killed(2);
    insta::assert_snapshot!(story.text);
}

#[test]
fn slots_that_say_what_they_have_are_cut_from_what_is_free_and_limit_their_worker() {
    // 300 MiB in three equal parts.
    let mut story = Story::new(3);
    story.request_sized(1, 0, 1, 150).hello(1, 1);
    story.request(2, 1, 2);
    story.request(3, 2, 2);
    story.request_sized(4, 2, 3, 20);
    story.request_sized(5, 5, 1, 30);
    story.input(Input::Memory(vec![(WorkerId(1), 181 << 20)]));
    insta::assert_snapshot!(story.text);
}
