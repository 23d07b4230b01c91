//! Whatever we send reads back as it was; whatever we are sent never panics.

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use prost::Message;
use spindle_common::checkpoint::CheckpointId;
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::*;
use spindle_common::id::*;
use spindle_common::job_graph::*;
use spindle_common::resource::{ByteSize, SlotProfile};

use self::checkpoints::{barrier, restore, task_checkpoint};
use crate::job_graph::{decode_plan, decode_submission, encode_plan, encode_submission};
use crate::proto;

mod checkpoints;

fn text() -> impl Strategy<Value = String> {
    "[a-z:/é ]{0,8}"
}

fn job() -> impl Strategy<Value = JobId> {
    any::<[u8; 16]>().prop_map(JobId::from_bytes)
}

fn vertex_id() -> impl Strategy<Value = JobVertexId> {
    any::<[u8; 16]>().prop_map(JobVertexId::from_bytes)
}

fn execution() -> impl Strategy<Value = ExecutionAttemptId> {
    (vertex_id(), any::<u32>(), any::<u32>()).prop_map(|(vertex, subtask, attempt)| {
        ExecutionAttemptId {
            vertex,
            subtask,
            attempt,
        }
    })
}

fn checkpoint() -> impl Strategy<Value = CheckpointId> {
    any::<u64>().prop_map(CheckpointId)
}

fn allocation() -> impl Strategy<Value = AllocationId> {
    any::<u64>().prop_map(AllocationId)
}

fn cause() -> impl Strategy<Value = FailureCause> {
    let class = prop_oneof![
        Just(FailureClass::Retry),
        Just(FailureClass::Restart),
        Just(FailureClass::Fallback),
        Just(FailureClass::FailJob),
        Just(FailureClass::FailCluster),
    ];
    (class, of(text()), text()).prop_map(|(class, operator, message)| FailureCause {
        class,
        operator,
        message,
    })
}

fn state() -> impl Strategy<Value = ExecutionState> {
    prop_oneof![
        Just(ExecutionState::Created),
        Just(ExecutionState::Scheduled),
        Just(ExecutionState::Deploying),
        Just(ExecutionState::Initializing),
        Just(ExecutionState::Running),
        Just(ExecutionState::AwaitingCommit),
        Just(ExecutionState::Finished),
        Just(ExecutionState::Canceling),
        Just(ExecutionState::Canceled),
        Just(ExecutionState::Failed),
    ]
}

fn metrics() -> impl Strategy<Value = TaskMetricsSnapshot> {
    (any::<[u64; 8]>(), of(any::<i64>()), of(0.0..=1.0)).prop_map(|(n, watermark_ms, progress)| {
        TaskMetricsSnapshot {
            records_in: n[0],
            records_out: n[1],
            bytes_in: n[2],
            bytes_out: n[3],
            late_records_dropped: n[4],
            busy_ms: n[5],
            idle_ms: n[6],
            backpressured_ms: n[7],
            watermark_ms,
            progress,
        }
    })
}

fn task_report() -> impl Strategy<Value = TaskReport> {
    (job(), execution(), metrics()).prop_map(|(job, execution, metrics)| TaskReport {
        job,
        execution,
        metrics,
    })
}

fn task_state() -> impl Strategy<Value = TaskStateUpdate> {
    let collected = vec((text(), vec(any::<u8>(), 0..20)), 0..3);
    (
        job(),
        execution(),
        state(),
        of(cause()),
        metrics(),
        collected,
    )
        .prop_map(
            |(job, execution, state, cause, metrics, collected)| TaskStateUpdate {
                job,
                execution,
                state,
                cause,
                metrics,
                collected,
            },
        )
}

fn split() -> impl Strategy<Value = SourceSplit> {
    (text(), vec(any::<u8>(), 0..20)).prop_map(|(name, payload)| SourceSplit { name, payload })
}

fn deployment() -> impl Strategy<Value = TaskDeployment> {
    let channel =
        (execution(), text()).prop_map(|(producer, data_address)| InputChannelDescriptor {
            producer,
            data_address,
        });
    let gate = (any::<u32>(), vec(channel, 0..3))
        .prop_map(|(edge, channels)| InputGateDescriptor { edge, channels });
    let partition = (any::<u32>(), vec(any::<u32>(), 0..4))
        .prop_map(|(edge, consumers)| ResultPartitionDescriptor { edge, consumers });
    (
        (job(), allocation(), execution()),
        any::<(u32, u32)>(),
        vec(split(), 0..3),
        vec(gate, 0..3),
        vec(partition, 0..3),
        of(restore()),
    )
        .prop_map(
            |(ids, parallelism, splits, inputs, outputs, restore)| TaskDeployment {
                job: ids.0,
                allocation: ids.1,
                execution: ids.2,
                parallelism: parallelism.0,
                max_parallelism: parallelism.1,
                splits,
                inputs,
                outputs,
                restore,
            },
        )
}

fn program() -> impl Strategy<Value = ProgramSpec> {
    (
        text(),
        vec(text(), 0..3),
        of((text(), any::<u64>(), text())),
    )
        .prop_map(|(executable, args, artifact)| ProgramSpec {
            executable,
            args,
            artifact: artifact.map(|(uri, size, sha256)| ProgramArtifact { uri, size, sha256 }),
        })
}

fn settings() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), text()), 0..3)
}

fn graph() -> impl Strategy<Value = JobGraph> {
    let kind = prop_oneof![
        Just(OperatorKind::Source),
        Just(OperatorKind::Transform),
        Just(OperatorKind::Sink),
    ];
    let operator =
        (text(), text(), kind).prop_map(|(uid, name, kind)| OperatorDescriptor { uid, name, kind });
    let vertex = (
        vertex_id(),
        any::<(u32, u32)>(),
        vec(operator, 0..3),
        vec(vec(split(), 0..3), 0..3),
        vec(text(), 0..2),
        text(),
    )
        .prop_map(
            |(id, parallelism, operators, splits, staging, group)| JobVertex {
                id,
                parallelism: parallelism.0,
                max_parallelism: parallelism.1,
                operators,
                splits,
                staging,
                slot_sharing_group: group,
            },
        );
    let partitioning = prop_oneof![
        Just(Partitioning::Forward),
        Just(Partitioning::Hash),
        Just(Partitioning::Rebalance),
        Just(Partitioning::Rescale),
        Just(Partitioning::Shuffle),
        Just(Partitioning::Broadcast),
        Just(Partitioning::Global),
        Just(Partitioning::Custom),
    ];
    let edge =
        (vertex_id(), vertex_id(), partitioning).prop_map(|(source, target, partitioning)| {
            JobEdge {
                source,
                target,
                partitioning,
            }
        });
    let profiles = btree_map(text(), slot_profile(), 0..3);
    (text(), vec(vertex, 0..3), vec(edge, 0..3), profiles).prop_map(
        |(name, vertices, edges, slot_profiles)| JobGraph {
            name,
            vertices,
            edges,
            slot_profiles,
        },
    )
}

fn slot_profile() -> impl Strategy<Value = SlotProfile> {
    any::<(u64, u32)>().prop_map(|(memory, cpu_millis)| SlotProfile {
        memory: ByteSize::from_bytes(memory),
        cpu_millis,
    })
}

fn submission() -> impl Strategy<Value = JobSubmission> {
    (job(), graph(), program(), settings()).prop_map(|(job, graph, program, config)| {
        JobSubmission {
            job,
            graph,
            program,
            config,
        }
    })
}

fn to_job_manager() -> impl Strategy<Value = ToJobManager> {
    let register = (text(), any::<u64>(), text(), text(), 1_u32.., any::<u32>()).prop_map(
        |(resource, fencing, node, host, slots, pid)| TaskExecutorRegistration {
            resource: ResourceId::new(resource),
            fencing: FencingToken(fencing),
            node: NodeName::new(node),
            host,
            slots,
            pid,
        },
    );
    let worker =
        (job(), any::<u32>(), any::<u64>()).prop_map(|(job, pid, resident_bytes)| WorkerReport {
            job,
            pid,
            resident_bytes,
        });
    let heartbeat = (any::<u64>(), vec(worker, 0..3), vec(task_report(), 0..3)).prop_map(
        |(resident_bytes, workers, tasks)| TaskExecutorReport {
            resident_bytes,
            workers,
            tasks,
        },
    );
    prop_oneof![
        register.prop_map(ToJobManager::Register),
        heartbeat.prop_map(ToJobManager::Heartbeat),
        (allocation(), job(), text()).prop_map(|(allocation, job, data_address)| {
            ToJobManager::OfferSlot {
                allocation,
                job,
                data_address,
            }
        }),
        (allocation(), job(), cause()).prop_map(|(allocation, job, cause)| {
            ToJobManager::SlotUnavailable {
                allocation,
                job,
                cause,
            }
        }),
        task_state().prop_map(ToJobManager::TaskState),
        task_checkpoint().prop_map(ToJobManager::TaskCheckpoint),
        (any::<u64>(), answer())
            .prop_map(|(inquiry, answer)| ToJobManager::Inquired { inquiry, answer }),
        (job(), cause()).prop_map(|(job, cause)| ToJobManager::WorkerLost { job, cause }),
    ]
}

fn answer() -> impl Strategy<Value = InquiryAnswer> {
    let file = (text(), any::<(u64, u64)>()).prop_map(|(name, (size, mtime_ms))| LogFile {
        name,
        size,
        mtime_ms,
    });
    let thread = (text(), text()).prop_map(|(name, text)| ThreadDump { name, text });
    prop_oneof![
        vec(file, 0..3).prop_map(InquiryAnswer::Logs),
        (any::<u64>(), vec(any::<u8>(), 0..20))
            .prop_map(|(from, bytes)| InquiryAnswer::LogFile { from, bytes }),
        vec(thread, 0..3).prop_map(InquiryAnswer::Threads),
        text().prop_map(InquiryAnswer::Failed),
    ]
}

fn inquiry() -> impl Strategy<Value = Inquiry> {
    prop_oneof![
        Just(Inquiry::Logs),
        text().prop_map(|name| Inquiry::LogFile { name }),
        Just(Inquiry::Threads),
    ]
}

fn to_task_executor() -> impl Strategy<Value = ToTaskExecutor> {
    let slot = (
        (allocation(), job()),
        any::<(u32, u64)>(),
        program(),
        settings(),
        of(slot_profile()),
    )
        .prop_map(|(ids, numbers, program, config, profile)| SlotRequest {
            allocation: ids.0,
            slot: numbers.0,
            job: ids.1,
            program,
            graph_fingerprint: numbers.1,
            config,
            profile,
        });
    prop_oneof![
        any::<u64>().prop_map(|heartbeat_interval_ms| ToTaskExecutor::Registered {
            heartbeat_interval_ms
        }),
        slot.prop_map(ToTaskExecutor::RequestSlot),
        allocation().prop_map(|allocation| ToTaskExecutor::FreeSlot { allocation }),
        deployment().prop_map(|task| ToTaskExecutor::SubmitTask(Box::new(task))),
        (job(), execution())
            .prop_map(|(job, execution)| ToTaskExecutor::CancelTask { job, execution }),
        (job(), execution())
            .prop_map(|(job, execution)| ToTaskExecutor::CommitTask { job, execution }),
        (job(), execution(), barrier()).prop_map(|(job, execution, barrier)| {
            ToTaskExecutor::TriggerCheckpoint {
                job,
                execution,
                barrier,
            }
        }),
        (job(), execution(), checkpoint()).prop_map(|(job, execution, checkpoint)| {
            ToTaskExecutor::CheckpointComplete {
                job,
                execution,
                checkpoint,
            }
        }),
        (job(), execution(), checkpoint()).prop_map(|(job, execution, checkpoint)| {
            ToTaskExecutor::CheckpointAborted {
                job,
                execution,
                checkpoint,
            }
        }),
        (any::<u64>(), inquiry())
            .prop_map(|(inquiry, what)| ToTaskExecutor::Inquire { inquiry, what }),
        text().prop_map(|reason| ToTaskExecutor::ShutDown { reason }),
    ]
}

fn from_worker() -> impl Strategy<Value = FromWorker> {
    let hello = (
        any::<(u32, u32)>(),
        job(),
        text(),
        prop_oneof![any::<u64>().prop_map(Ok), cause().prop_map(Err)],
    )
        .prop_map(|(numbers, job, data_address, graph)| WorkerHello {
            protocol_version: numbers.0,
            job,
            pid: numbers.1,
            data_address,
            graph,
        });
    prop_oneof![
        hello.prop_map(FromWorker::Hello),
        task_state().prop_map(FromWorker::TaskState),
        task_checkpoint().prop_map(FromWorker::TaskCheckpoint),
        vec(task_report(), 0..3).prop_map(FromWorker::Report),
    ]
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    prop_oneof![
        deployment().prop_map(|task| ToWorker::SubmitTask(Box::new(task))),
        execution().prop_map(|execution| ToWorker::CancelTask { execution }),
        execution().prop_map(|execution| ToWorker::CommitTask { execution }),
        (execution(), barrier())
            .prop_map(|(execution, barrier)| ToWorker::TriggerCheckpoint { execution, barrier }),
        (execution(), checkpoint()).prop_map(|(execution, checkpoint)| {
            ToWorker::CheckpointComplete {
                execution,
                checkpoint,
            }
        }),
        (execution(), checkpoint()).prop_map(|(execution, checkpoint)| {
            ToWorker::CheckpointAborted {
                execution,
                checkpoint,
            }
        }),
        Just(ToWorker::ShutDown),
    ]
}

/// Over the wire form and back.
fn carried<T, P>(message: &T) -> T
where
    T: Clone + TryFrom<P, Error = super::ConvertError>,
    P: From<T> + Message + Default,
{
    let bytes = P::from(message.clone()).encode_to_vec();
    T::try_from(P::decode(&*bytes).unwrap()).unwrap()
}

/// Reads bytes as every message there is, and does not care what comes of it.
fn read_as_anything(bytes: &[u8]) {
    let _ = proto::ToJobManager::decode(bytes).map(ToJobManager::try_from);
    let _ = proto::ToTaskExecutor::decode(bytes).map(ToTaskExecutor::try_from);
    let _ = proto::FromWorker::decode(bytes).map(FromWorker::try_from);
    let _ = proto::ToWorker::decode(bytes).map(ToWorker::try_from);
    let _ = decode_plan(bytes);
    let _ = decode_submission(bytes);
}

proptest! {
    #[test]
    fn what_a_task_executor_and_its_job_manager_say_reads_back(
        up in to_job_manager(),
        down in to_task_executor(),
    ) {
        prop_assert_eq!(&carried::<_, proto::ToJobManager>(&up), &up);
        prop_assert_eq!(&carried::<_, proto::ToTaskExecutor>(&down), &down);
    }

    #[test]
    fn what_a_worker_and_its_task_executor_say_reads_back(up in from_worker(), down in to_worker()) {
        prop_assert_eq!(&carried::<_, proto::FromWorker>(&up), &up);
        prop_assert_eq!(&carried::<_, proto::ToWorker>(&down), &down);
    }

    #[test]
    fn plans_and_submissions_read_back(submission in submission()) {
        prop_assert_eq!(&decode_plan(&encode_plan(&submission.graph)).unwrap(), &submission.graph);
        prop_assert_eq!(&decode_submission(&encode_submission(&submission)).unwrap(), &submission);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        read_as_anything(&bytes);
    }

    #[test]
    fn no_damaged_message_makes_a_reader_panic(
        up in to_job_manager(),
        submission in submission(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        for mut bytes in [
            proto::ToJobManager::from(up).encode_to_vec(),
            encode_submission(&submission),
        ] {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                read_as_anything(&bytes);
                read_as_anything(&bytes[..at]);
            }
        }
    }
}

#[test]
fn what_is_missing_or_out_of_range_is_named() {
    let error = ToJobManager::try_from(proto::ToJobManager { message: None }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "field `message` of `ToJobManager` is missing"
    );
    let report = proto::TaskReport {
        job: vec![0; 3],
        ..Default::default()
    };
    assert_eq!(
        TaskReport::try_from(report).unwrap_err().to_string(),
        "field `job` of `TaskReport` has 3 bytes, expected 16"
    );
    let cause = proto::FailureCause {
        class: 99,
        ..Default::default()
    };
    assert_eq!(
        FailureCause::try_from(cause).unwrap_err().to_string(),
        "field `class` of `FailureCause` has the unknown value 99"
    );
    let metrics = proto::TaskMetrics {
        progress: Some(f64::NAN),
        ..Default::default()
    };
    assert!(TaskMetricsSnapshot::try_from(metrics).is_err());
}
