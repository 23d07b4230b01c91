//! What may happen, and how often.

use std::time::Duration;

use proptest::prelude::*;
use spindle_common::checkpoint::{BarrierAlignment, SnapshotKind};
use spindle_common::config::{
    CheckpointConfig, CheckpointRetention, RestartConfig, StateBackendType,
};

use crate::config::{ClusterMode, JobManagerConfig, ResourceLimits};
use crate::message::SavepointRequest;

/// What chance does next. The number picks one of those that it can happen to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Grant(usize),
    Boot(usize),
    ToManager(usize),
    ToExecutor(usize),
    Work(usize),
    World(usize),
    Wait(u64),
    GrantTooMuch,
    KillContainer(usize),
    KillWorker(usize),
    FailStart(usize),
    HangStart(usize),
    FailTask(usize),
    GoSilent(usize),
    IgnoreCancel(usize),
    RefuseSlots(usize),
    RepeatMessage(usize),
    Impostor(usize),
    IgnoreCommit(usize),
    Cancel(usize),
    /// A task does something about a barrier.
    Barrier(usize),
    /// The storage does something.
    Storage(usize),
    Decline(usize),
    StorageFails(usize),
    StorageDoesInSecret(usize),
    /// Somebody wants a checkpoint.
    Trigger(usize),
    /// Another job with this many subtasks; not in per-job mode. Its sink may have slots of its own.
    Submit(u32, Sink),
}

/// The slot sharing group of a job's sink.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sink {
    Shares,
    HasOwn,
    HasSmall,
    HasLarge,
}

impl Sink {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            3 => Just(Self::Shares),
            1 => Just(Self::HasOwn),
            1 => Just(Self::HasSmall),
            1 => Just(Self::HasLarge),
        ]
    }
}

pub(super) fn benign() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => any::<usize>().prop_map(Action::Grant),
        3 => any::<usize>().prop_map(Action::Boot),
        10 => any::<usize>().prop_map(Action::ToManager),
        8 => any::<usize>().prop_map(Action::ToExecutor),
        8 => any::<usize>().prop_map(Action::Work),
        3 => any::<usize>().prop_map(Action::World),
        8 => any::<usize>().prop_map(Action::Barrier),
        6 => any::<usize>().prop_map(Action::Storage),
        1 => any::<usize>().prop_map(Action::Trigger),
        1 => (0_u64..1500).prop_map(Action::Wait),
        1 => (1_u32..4, Sink::any()).prop_map(|(p, sink)| Action::Submit(p, sink)),
    ]
}

/// What happens while all tasks run.
pub(super) fn checkpointing() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => any::<usize>().prop_map(Action::ToManager),
        12 => any::<usize>().prop_map(Action::ToExecutor),
        14 => any::<usize>().prop_map(Action::Barrier),
        12 => any::<usize>().prop_map(Action::Storage),
        5 => (0_u64..500).prop_map(Action::Wait),
        2 => any::<usize>().prop_map(Action::Work),
        1 => any::<usize>().prop_map(Action::Trigger),
        1 => any::<usize>().prop_map(Action::World),
        1 => any::<usize>().prop_map(Action::Grant),
        1 => any::<usize>().prop_map(Action::Boot),
    ]
}

pub(super) fn fault() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => Just(Action::GrantTooMuch),
        3 => any::<usize>().prop_map(Action::KillContainer),
        3 => any::<usize>().prop_map(Action::KillWorker),
        2 => any::<usize>().prop_map(Action::FailStart),
        1 => any::<usize>().prop_map(Action::HangStart),
        3 => any::<usize>().prop_map(Action::FailTask),
        1 => any::<usize>().prop_map(Action::GoSilent),
        1 => any::<usize>().prop_map(Action::IgnoreCancel),
        1 => any::<usize>().prop_map(Action::RefuseSlots),
        3 => any::<usize>().prop_map(Action::RepeatMessage),
        2 => any::<usize>().prop_map(Action::Impostor),
        1 => any::<usize>().prop_map(Action::IgnoreCommit),
        1 => any::<usize>().prop_map(Action::Cancel),
        2 => any::<usize>().prop_map(Action::Decline),
        3 => any::<usize>().prop_map(Action::StorageFails),
        3 => any::<usize>().prop_map(Action::StorageDoesInSecret),
        1 => (0_u64..20_000).prop_map(Action::Wait),
    ]
}

/// On in most cases.
pub(super) fn checkpoint_config() -> impl Strategy<Value = CheckpointConfig> {
    let retention = prop_oneof![
        Just(CheckpointRetention::Retain),
        Just(CheckpointRetention::DeleteOnCancellation),
        Just(CheckpointRetention::None),
    ];
    let times = (
        prop::option::weighted(0.8, 50_u64..1500),
        0_u64..800,
        1_u64..20,
    );
    let counts = (1_u32..4, 0_u32..4, 1_u32..4);
    (times, counts, retention, prop::bool::weighted(0.9)).prop_map(
        |((interval, pause, timeout), (concurrent, tolerable, retained), retention, on)| {
            CheckpointConfig {
                interval: interval.map(Duration::from_millis),
                min_pause: Duration::from_millis(pause),
                timeout: Duration::from_secs(timeout),
                max_concurrent: concurrent,
                alignment: BarrierAlignment::Aligned,
                tolerable_failures: tolerable,
                retention,
                num_retained: retained,
                directory: on.then(|| "hdfs:///checkpoints".to_owned()),
                backend: StateBackendType::HashMap,
            }
        },
    )
}

pub(super) fn config() -> impl Strategy<Value = JobManagerConfig> {
    let mode = prop_oneof![
        any::<bool>().prop_map(|attached| ClusterMode::PerJob { attached }),
        any::<bool>().prop_map(|attached| ClusterMode::Application { attached }),
        Just(ClusterMode::Session),
        Just(ClusterMode::Session),
    ];
    let limits = prop::option::of(3_u32..8).prop_map(|slots| ResourceLimits {
        slots,
        ..ResourceLimits::default()
    });
    let of_session = (limits, 500_u64..20_000, 1_u32..4, 0.0_f64..6.0);
    let redundant = prop_oneof![2 => Just(0_u32), 1 => 1_u32..3];
    let slots = (1_u32..4, any::<bool>(), redundant, checkpoint_config());
    (mode, slots, 0_u32..4, 0_u64..3000, of_session).prop_map(
        |(mode, slots, attempts, delay, (limits, idle, capacity, rate))| {
            let (slots, spread, redundant, checkpoints) = slots;
            JobManagerConfig {
                mode,
                spread,
                slots_per_task_manager: slots,
                restart: RestartConfig::FixedDelay {
                    attempts,
                    delay: Duration::from_millis(delay),
                },
                checkpoints,
                redundant_task_managers: redundant,
                limits,
                idle_timeout: Duration::from_millis(idle),
                job_store_capacity: capacity,
                start_failure_rate: rate,
                ..JobManagerConfig::default()
            }
        },
    )
}

/// What is asked for: mostly a checkpoint.
pub(super) fn savepoint(n: usize, request: u64) -> Option<SavepointRequest> {
    let kind = match n % 8 {
        5 => SnapshotKind::Savepoint,
        6 => SnapshotKind::StopWithSavepoint,
        7 => SnapshotKind::Drain,
        _ => return None,
    };
    Some(SavepointRequest {
        kind,
        directory: Some("hdfs:///savepoints".to_owned()),
        suffix: format!("{request:012x}"),
    })
}
