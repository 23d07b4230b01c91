//! What can be seen of a job's checkpoints. Flink: `CheckpointStatsTracker`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointId, SnapshotKind, SubtaskCheckpointStats,
};
use spindle_common::config::{CheckpointConfig, CheckpointRetention, StateBackendType};
use spindle_common::id::JobVertexId;
use spindle_common::job_graph::JobGraph;
use spindle_common::time::MonoTime;

use super::acknowledged::CompletedCheckpoint;
use super::pending::{Acknowledgements, Head};

/// Checkpoints that are over and still shown. Flink: `web.checkpoints.history`.
const HISTORY: usize = 10;
/// Requests whose outcome is kept.
const TRIGGERS: usize = 100;

/// All that can be seen of a job's checkpoints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckpointsView {
    /// How many there were.
    pub counts: CheckpointCounts,
    /// The newest checkpoint that is complete.
    pub latest_completed: Option<Arc<CheckpointView>>,
    /// The newest savepoint that is complete.
    pub latest_savepoint: Option<Arc<CheckpointView>>,
    /// The newest that failed.
    pub latest_failed: Option<Arc<CheckpointView>>,
    /// What the tasks began with at their newest start, if it was a snapshot.
    pub restored: Option<RestoredView>,
    /// Those under way and the last that ended, the newest first.
    pub history: VecDeque<Arc<CheckpointView>>,
    /// What became of checkpoints that somebody asked for, by the number of the request.
    pub triggers: BTreeMap<u64, TriggerView>,
    /// How they are taken.
    pub settings: CheckpointSettingsView,
}

/// How checkpoints of a job are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckpointSettingsView {
    /// Time between the begins of two, in milliseconds, if any is begun by itself.
    pub interval_ms: Option<u64>,
    /// How long one may take, in milliseconds.
    pub timeout_ms: u64,
    /// Time between the end of one and the begin of the next at least, in milliseconds.
    pub min_pause_ms: u64,
    /// How many may be under way.
    pub max_concurrent: u32,
    /// What tasks do until all barriers are there.
    pub alignment: BarrierAlignment,
    /// How many may fail in a row.
    pub tolerable_failures: u32,
    /// Whether the newest are kept if the job fails.
    pub externalized: bool,
    /// Whether they are removed if it is cancelled.
    pub delete_on_cancellation: bool,
    /// The job's own directory, as a URI.
    pub directory: String,
    /// Whether the state that they are of is in RocksDB, and not in memory.
    pub rocksdb: bool,
}

/// How many checkpoints a job had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckpointCounts {
    /// Starts from a snapshot.
    pub restored: u64,
    /// Begun.
    pub total: u64,
    /// Under way.
    pub in_progress: u64,
    /// Complete.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// How a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointStatus {
    /// Under way.
    InProgress,
    /// Its metadata is durable.
    Completed,
    /// It never will be.
    Failed,
}

/// One checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// Which.
    pub id: CheckpointId,
    /// What it is for.
    pub kind: SnapshotKind,
    /// How it stands.
    pub status: CheckpointStatus,
    /// When it was begun.
    pub triggered: MonoTime,
    /// When the newest acknowledgement came.
    pub latest_acknowledgement: Option<MonoTime>,
    /// When it was complete or failed.
    pub ended: Option<MonoTime>,
    /// Where it is, once it has a directory.
    pub directory: Option<String>,
    /// Whether that was removed since.
    pub discarded: bool,
    /// All bytes that it refers to, of those that have acknowledged it.
    pub state_bytes: u64,
    /// Those of them that were written for it.
    pub written_bytes: u64,
    /// Those of them that were under way between tasks.
    pub persisted_bytes: u64,
    /// Bytes that tasks worked on between their first barrier and their last.
    pub processed_bytes: u64,
    /// Whether some task wrote its state before all its barriers were there.
    pub unaligned: bool,
    /// Tasks that are to acknowledge it.
    pub subtasks: u32,
    /// Those that have.
    pub acknowledged: u32,
    /// Why it failed.
    pub failure: Option<String>,
    /// How each subtask got through it, by vertex, once it is over.
    pub vertices: BTreeMap<JobVertexId, Vec<Option<SubtaskView>>>,
}

/// How one subtask got through a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskView {
    /// When its acknowledgement came.
    pub acknowledged: MonoTime,
    /// What it says of itself.
    pub stats: SubtaskCheckpointStats,
}

/// A start from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredView {
    /// Which.
    pub id: CheckpointId,
    /// When.
    pub at: MonoTime,
    /// Where it is.
    pub directory: String,
    /// Whether it is a savepoint.
    pub is_savepoint: bool,
}

/// What became of a checkpoint that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TriggerView {
    /// It waits for its turn.
    Waiting,
    /// It is under way.
    InProgress(CheckpointId),
    /// The savepoint is complete, and the job is ending.
    Stopping {
        /// Which.
        id: CheckpointId,
        /// Where it is.
        directory: String,
    },
    /// It is complete, and if the job was to stop with it, that is over.
    Completed {
        /// Which.
        id: CheckpointId,
        /// Where it is.
        directory: String,
    },
    /// There is none: why.
    Failed(String),
}

/// Keeps what can be seen.
#[derive(Debug)]
pub(super) struct CheckpointStats {
    view: Arc<CheckpointsView>,
}

impl CheckpointStats {
    pub(super) fn new(config: &CheckpointConfig, directory: &str) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let settings = CheckpointSettingsView {
            interval_ms: config.interval.map(millis),
            timeout_ms: millis(config.timeout),
            min_pause_ms: millis(config.min_pause),
            max_concurrent: config.max_concurrent,
            alignment: config.alignment,
            tolerable_failures: config.tolerable_failures,
            externalized: config.retention != CheckpointRetention::None,
            delete_on_cancellation: config.retention != CheckpointRetention::Retain,
            directory: directory.to_owned(),
            rocksdb: config.backend == StateBackendType::RocksDb,
        };
        let view = CheckpointsView {
            settings,
            ..CheckpointsView::default()
        };
        Self {
            view: Arc::new(view),
        }
    }

    pub(super) fn view(&self) -> Arc<CheckpointsView> {
        Arc::clone(&self.view)
    }

    pub(super) fn begun(&mut self, head: &Head, subtasks: usize) {
        let view = Arc::make_mut(&mut self.view);
        view.counts.total += 1;
        view.counts.in_progress += 1;
        view.history.push_front(Arc::new(CheckpointView {
            id: head.id,
            kind: head.kind,
            status: CheckpointStatus::InProgress,
            triggered: head.triggered,
            latest_acknowledgement: None,
            ended: None,
            directory: None,
            discarded: false,
            state_bytes: 0,
            written_bytes: 0,
            persisted_bytes: 0,
            processed_bytes: 0,
            unaligned: false,
            subtasks: u32::try_from(subtasks).unwrap_or(u32::MAX),
            acknowledged: 0,
            failure: None,
            vertices: BTreeMap::new(),
        }));
        let over = |c: &Arc<CheckpointView>| c.status != CheckpointStatus::InProgress;
        while view.history.iter().filter(|c| over(c)).count() > HISTORY {
            let oldest = view.history.iter().rposition(over);
            oldest.and_then(|at| view.history.remove(at));
        }
        if let Some(request) = head.request {
            self.answer(request, TriggerView::InProgress(head.id));
        }
    }

    fn change(&mut self, id: CheckpointId, change: impl Fn(&mut CheckpointView)) {
        let view = Arc::make_mut(&mut self.view);
        let latest = [
            &mut view.latest_completed,
            &mut view.latest_savepoint,
            &mut view.latest_failed,
        ];
        let shown = view.history.iter_mut();
        for one in shown.chain(latest.into_iter().flatten()) {
            if one.id == id {
                change(Arc::make_mut(one));
            }
        }
    }

    pub(super) fn prepared(&mut self, id: CheckpointId, directory: &str) {
        self.change(id, |c| c.directory = Some(directory.to_owned()));
    }

    pub(super) fn acknowledged(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        stats: SubtaskCheckpointStats,
    ) {
        self.change(id, |c| {
            c.acknowledged += 1;
            c.latest_acknowledgement = Some(now);
            c.state_bytes += stats.state_bytes;
            c.written_bytes += stats.written_bytes;
            c.persisted_bytes += stats.persisted_bytes;
            c.processed_bytes += stats.processed_bytes;
            c.unaligned |= stats.unaligned;
        });
    }

    /// How each subtask got through a checkpoint.
    pub(super) fn subtasks(&mut self, graph: &JobGraph, id: CheckpointId, of: &Acknowledgements) {
        let mut vertices: BTreeMap<JobVertexId, Vec<Option<SubtaskView>>> = graph
            .vertices
            .iter()
            .map(|vertex| (vertex.id, vec![None; vertex.parallelism as usize]))
            .collect();
        for (task, done) in of {
            let subtasks = vertices.get_mut(&task.vertex);
            let slot = subtasks.and_then(|subtasks| subtasks.get_mut(task.subtask as usize));
            if let Some(slot) = slot {
                *slot = done.as_ref().map(|done| SubtaskView {
                    acknowledged: done.at,
                    stats: done.stats,
                });
            }
        }
        self.change(id, |c| c.vertices.clone_from(&vertices));
    }

    pub(super) fn completed(&mut self, now: MonoTime, head: &Head, directory: &str) {
        self.end(now, head.id, CheckpointStatus::Completed, None);
        let stops = match head.kind {
            SnapshotKind::Checkpoint | SnapshotKind::Savepoint => false,
            SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => true,
        };
        if let Some(request) = head.request.filter(|_| !stops) {
            let (id, directory) = (head.id, directory.to_owned());
            self.answer(request, TriggerView::Completed { id, directory });
        }
    }

    pub(super) fn failed(&mut self, now: MonoTime, head: &Head, reason: &str) {
        self.end(now, head.id, CheckpointStatus::Failed, Some(reason));
        if let Some(request) = head.request {
            let what = match head.kind {
                SnapshotKind::Checkpoint => "checkpoint",
                SnapshotKind::Savepoint | SnapshotKind::StopWithSavepoint | SnapshotKind::Drain => {
                    "savepoint"
                }
            };
            let why = format!("{what} {} failed: {reason}", head.id);
            self.answer(request, TriggerView::Failed(why));
        }
    }

    fn end(
        &mut self,
        now: MonoTime,
        id: CheckpointId,
        status: CheckpointStatus,
        failure: Option<&str>,
    ) {
        self.change(id, |c| {
            c.status = status;
            c.ended = Some(now);
            c.failure = failure.map(str::to_owned);
        });
        let view = Arc::make_mut(&mut self.view);
        view.counts.in_progress -= 1;
        let ended = view.history.iter().find(|c| c.id == id).cloned();
        match status {
            CheckpointStatus::Completed => {
                view.counts.completed += 1;
                let is_savepoint = |c: &Arc<CheckpointView>| c.kind != SnapshotKind::Checkpoint;
                if ended.as_ref().is_some_and(is_savepoint) {
                    view.latest_savepoint = ended;
                } else {
                    view.latest_completed = ended;
                }
            }
            CheckpointStatus::Failed => {
                view.counts.failed += 1;
                view.latest_failed = ended;
            }
            CheckpointStatus::InProgress => {}
        }
    }

    pub(super) fn discarded(&mut self, id: CheckpointId) {
        self.change(id, |c| c.discarded = true);
    }

    pub(super) fn restored(&mut self, now: MonoTime, from: &CompletedCheckpoint) {
        let view = Arc::make_mut(&mut self.view);
        view.counts.restored += 1;
        view.restored = Some(RestoredView {
            id: from.id,
            at: now,
            directory: from.directory.clone(),
            is_savepoint: !from.is_own(),
        });
    }

    pub(super) fn answer(&mut self, request: u64, answer: TriggerView) {
        let view = Arc::make_mut(&mut self.view);
        view.triggers.insert(request, answer);
        while view.triggers.len() > TRIGGERS {
            view.triggers.pop_first();
        }
    }
}
