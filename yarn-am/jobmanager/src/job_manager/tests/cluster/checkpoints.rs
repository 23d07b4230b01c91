//! The storage of checkpoints, which may be slow, fail, or do as told and not say so; and the rules that checkpoints have to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{
    CheckpointId, Distribution, OperatorSnapshot, SnapshotKind, StateChunk, StateHandle,
    StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::config::CheckpointConfig;
use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    TaskCheckpoint, TaskCheckpointOutcome, TaskDeployment, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId};
use spindle_common::time::MonoTime;

use crate::checkpoint::{CheckpointStatus, Observed, TriggerView};
use crate::message::{CheckpointEffect, CheckpointEvent, Effect, Input, View};

/// What is looked at, each as it is counted.
pub(super) const RULES: &[&str] = &[
    "metadata is what its tasks acknowledged",
    "a complete checkpoint is discarded",
    "a source had finished",
    "a sink had finished",
    "a commit is told",
    "a task begins with a checkpoint",
];

/// How the storage does what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Does,
    Fails,
    /// It does, and the answer is lost.
    DoesInSecret,
}

type Id = (JobId, CheckpointId);

#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// What the storage was told and has not done.
    wanted: Vec<(JobId, CheckpointEffect)>,
    /// The directories that are there.
    directories: BTreeSet<Id>,
    /// The metadata that is there.
    durable: BTreeMap<Id, Arc<SnapshotMetadata>>,
    /// What each is for, as it was written last.
    kinds: BTreeMap<Id, SnapshotKind>,
    /// Savepoints that the JobManager knows of and that no job begins with.
    savepoints: BTreeMap<JobId, BTreeSet<CheckpointId>>,
    /// Checkpoints of those that are durable that the JobManager knows of.
    complete: BTreeMap<JobId, BTreeSet<CheckpointId>>,
    /// What tasks have said, as it was delivered while they ran.
    acknowledged: BTreeMap<Id, BTreeSet<ExecutionAttemptId>>,
    /// The tasks that have read and written all, as the JobManager was told.
    ended: BTreeSet<(JobId, ExecutionAttemptId)>,
    /// The tasks that run, as the JobManager was told.
    running: BTreeSet<(JobId, ExecutionAttemptId)>,
    /// The newest barrier that each source was to send.
    barriers: BTreeMap<(JobId, ExecutionAttemptId), CheckpointId>,
    /// The newest attempt whose tasks were sent.
    deployed: BTreeMap<JobId, u32>,
    /// The newest number that was begun.
    begun: BTreeMap<JobId, CheckpointId>,
    /// The newest that a task was told of, or began with.
    committed: BTreeMap<JobId, CheckpointId>,
    /// Those that were seen, and seen to be over.
    triggered: BTreeSet<Id>,
    over: BTreeSet<Id>,
    last_end: BTreeMap<JobId, MonoTime>,
    max_concurrent: usize,
    min_pause: Duration,
    /// Whether each sink subtask reads one source subtask.
    pub(super) one_to_one: bool,
    /// How often each rule had something to say, so that none is vacuous.
    pub(super) seen: BTreeMap<&'static str, u32>,
}

/// What a task writes at a barrier: its own name and the number, so that everything can be told from everything else.
pub(super) fn content(task: ExecutionAttemptId, id: CheckpointId) -> Vec<u8> {
    format!("{task} at {id}").into_bytes()
}

/// A task acknowledges a checkpoint.
pub(super) fn acknowledgement(
    job: JobId,
    task: ExecutionAttemptId,
    checkpoint: CheckpointId,
    finished: bool,
) -> ToJobManager {
    let sink = task.vertex == JobVertexId::of_uid("sink");
    let snapshot = SubtaskSnapshot {
        operators: vec![OperatorSnapshot {
            uid: if sink { "sink" } else { "src" }.to_owned(),
            states: vec![StateSnapshot {
                name: "state".to_owned(),
                distribution: Distribution::Union,
                schema: "progress<name>".to_owned(),
                chunks: vec![StateChunk {
                    index: task.subtask,
                    entries: 1,
                    content: StateHandle::Inline(content(task, checkpoint)),
                }],
            }],
        }],
        finished,
    };
    ToJobManager::TaskCheckpoint(TaskCheckpoint {
        job,
        execution: task,
        checkpoint,
        outcome: TaskCheckpointOutcome::Acknowledged {
            snapshot,
            stats: SubtaskCheckpointStats::default(),
        },
    })
}

impl Checkpoints {
    pub(super) fn new(config: &CheckpointConfig) -> Self {
        Self {
            max_concurrent: config.max_concurrent as usize,
            min_pause: config.min_pause,
            ..Self::default()
        }
    }

    /// Number of things the storage has to do.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// The storage does one thing, in any order; what it answers.
    pub(super) fn act(&mut self, n: usize, how: Storage) -> Option<Input> {
        if self.wanted.is_empty() {
            return None;
        }
        let (job, effect) = self.wanted.remove(n % self.wanted.len());
        let does = how != Storage::Fails;
        let tells = how == Storage::Does;
        let reason = "the NameNode does not answer".to_owned();
        let event = match effect {
            CheckpointEffect::Prepare { id, directory } if tells => {
                self.directories.insert((job, id));
                CheckpointEvent::Prepared { id, directory }
            }
            CheckpointEffect::Prepare { id, .. } => CheckpointEvent::PrepareFailed { id, reason },
            CheckpointEffect::Load { .. } => unreachable!("no job begins with a savepoint"),
            CheckpointEffect::PersistMetadata { id, metadata, .. }
                if metadata.kind != SnapshotKind::Checkpoint =>
            {
                if tells {
                    CheckpointEvent::MetadataPersisted { id }
                } else {
                    CheckpointEvent::MetadataFailed { id, reason }
                }
            }
            CheckpointEffect::PersistMetadata { id, metadata, .. }
            | CheckpointEffect::PersistAnchor { id, metadata, .. } => {
                if does {
                    let of_attempt = self.acknowledged.get(&(job, id)).into_iter().flatten();
                    if let Some(attempt) = of_attempt.map(|task| task.attempt).max() {
                        assert_eq!(
                            Some(attempt),
                            self.deployed.get(&job).copied(),
                            "checkpoint {id} comes to be after tasks began without it"
                        );
                    }
                    self.durable.insert((job, id), metadata);
                }
                if tells {
                    CheckpointEvent::MetadataPersisted { id }
                } else {
                    CheckpointEvent::MetadataFailed { id, reason }
                }
            }
            CheckpointEffect::Discard { id, .. } => {
                if does {
                    self.durable.remove(&(job, id));
                    self.directories.remove(&(job, id));
                }
                if tells {
                    CheckpointEvent::Discarded { id }
                } else {
                    CheckpointEvent::DiscardFailed { id, reason }
                }
            }
            CheckpointEffect::Discover { .. } if !tells => {
                CheckpointEvent::DiscoverFailed { reason }
            }
            CheckpointEffect::Discover { .. } => {
                let observed = Box::new(self.observed(job));
                CheckpointEvent::Discovered { observed }
            }
            CheckpointEffect::RemoveAll { .. } => {
                self.durable.retain(|(of, _), _| *of != job);
                return None;
            }
        };
        Some(Input::Checkpoint { job, event })
    }

    /// What is in the directory of a job.
    fn observed(&self, job: JobId) -> Observed {
        let of_job = self.durable.iter().filter(|((of, _), _)| *of == job);
        let complete = of_job.map(|((_, id), metadata)| {
            let directory = format!("hdfs:///checkpoints/{job}/chk-{id}");
            (directory, Arc::clone(metadata))
        });
        let of_job = self.directories.iter().filter(|(of, _)| *of == job);
        let incomplete = of_job.filter(|id| !self.durable.contains_key(id));
        Observed {
            complete: complete.collect(),
            damaged: Vec::new(),
            incomplete: incomplete
                .map(|(_, id)| format!("hdfs:///checkpoints/{job}/chk-{id}"))
                .collect(),
        }
    }

    /// The JobManager has died, and all tasks with it. What it had told the storage may come to be or not.
    pub(super) fn after_crash(mut self, n: usize) -> Self {
        for at in 0..self.wanted.len() {
            let does = n >> (at % 64) & 1 == 0;
            self.act(
                0,
                if does {
                    Storage::DoesInSecret
                } else {
                    Storage::Fails
                },
            );
        }
        self.running.clear();
        self.triggered.clear();
        self.over.clear();
        self.last_end.clear();
        self.barriers.clear();
        self.complete.clear();
        self.savepoints.clear();
        for (job, id) in self.durable.keys() {
            self.complete.entry(*job).or_default().insert(*id);
        }
        self
    }

    fn count(&mut self, rule: &'static str) {
        *self.seen.entry(rule).or_default() += 1;
    }

    pub(super) fn before(&mut self, input: &Input) {
        if let Input::Checkpoint {
            job,
            event: CheckpointEvent::MetadataPersisted { id },
        } = input
        {
            // A savepoint that the job stops with is one of its own only when it has its second metadata.
            let known = match self.kinds.get(&(*job, *id)) {
                Some(SnapshotKind::Savepoint) => &mut self.savepoints,
                Some(SnapshotKind::Checkpoint) => &mut self.complete,
                Some(SnapshotKind::StopWithSavepoint | SnapshotKind::Drain) | None => return,
            };
            known.entry(*job).or_default().insert(*id);
        }
        if let Input::TaskExecutor {
            message: ToJobManager::TaskCheckpoint(done),
            ..
        } = input
            && let TaskCheckpointOutcome::Acknowledged { snapshot, .. } = &done.outcome
            && self.running.contains(&(done.job, done.execution))
        {
            let id = (done.job, done.checkpoint);
            if snapshot.finished {
                self.ended.insert((done.job, done.execution));
            }
            self.acknowledged
                .entry(id)
                .or_default()
                .insert(done.execution);
        }
    }

    pub(super) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Checkpoint { job, effect } => {
                self.check_wanted(*job, effect);
                self.wanted.push((*job, effect.clone()));
            }
            Effect::Send { message, .. } => self.sent(message),
            Effect::Transition(crate::message::Transition::Task {
                job, execution, to, ..
            }) => {
                if *to == ExecutionState::Finished {
                    self.ended.insert((*job, *execution));
                }
                if to.is_terminal() || *to == ExecutionState::Canceling {
                    self.running.remove(&(*job, *execution));
                } else if *to == ExecutionState::Running {
                    self.running.insert((*job, *execution));
                }
            }
            Effect::Disconnect { .. }
            | Effect::Resource(_)
            | Effect::RemoveStaging { .. }
            | Effect::KeepStaging { .. }
            | Effect::Transition(_)
            | Effect::Terminate { .. } => {}
        }
    }

    fn check_wanted(&mut self, job: JobId, effect: &CheckpointEffect) {
        match effect {
            CheckpointEffect::Prepare { id, .. } => {
                let before = self.begun.insert(job, *id);
                assert!(before < Some(*id), "number {id} comes after {before:?}");
            }
            CheckpointEffect::PersistMetadata { id, metadata, .. }
            | CheckpointEffect::PersistAnchor { id, metadata, .. } => {
                self.kinds.insert((job, *id), metadata.kind);
                self.count("metadata is what its tasks acknowledged");
                self.check_metadata(job, *id, metadata);
            }
            CheckpointEffect::Discard { id, .. } => {
                let complete = self.complete.get(&job);
                let newest = complete.and_then(|complete| complete.last());
                assert_ne!(newest, Some(id), "the newest complete one is discarded");
                if complete.is_some_and(|complete| complete.contains(id)) {
                    self.count("a complete checkpoint is discarded");
                }
            }
            CheckpointEffect::Load { .. }
            | CheckpointEffect::Discover { .. }
            | CheckpointEffect::RemoveAll { .. } => {}
        }
    }

    /// Each task of one attempt wrote its part, for this checkpoint, or had finished before.
    fn check_metadata(&mut self, job: JobId, id: CheckpointId, metadata: &SnapshotMetadata) {
        let attempt = self.deployed[&job];
        let none = BTreeSet::new();
        let tasks = self.acknowledged.get(&(job, id)).unwrap_or(&none);
        let tasks = tasks.iter().filter(|task| task.attempt == attempt);
        let mut covered: BTreeSet<_> = tasks
            .clone()
            .map(|task| (task.vertex, task.subtask))
            .collect();
        let of = |uid: &str| metadata.operators.iter().find(|one| one.uid == uid);
        for operator in &metadata.operators {
            let vertex = JobVertexId::of_uid(&operator.uid);
            for &subtask in &operator.finished {
                let task = ExecutionAttemptId {
                    vertex,
                    subtask,
                    attempt,
                };
                assert!(self.ended.contains(&(job, task)), "{task} has not finished");
                covered.insert((vertex, subtask));
            }
        }
        let parallelism = metadata.operators[0].parallelism;
        for uid in ["src", "sink"] {
            let all = (0..parallelism).map(|subtask| (JobVertexId::of_uid(uid), subtask));
            let missing: Vec<_> = all.filter(|task| !covered.contains(task)).collect();
            assert_eq!(missing, [], "tasks that are no part of checkpoint {id}");
        }
        let finished = |uid| of(uid).map_or(0, |operator| operator.finished.len());
        let of_sources = of("src").map_or(&[][..], |operator| &operator.finished);
        for sink in of("sink")
            .into_iter()
            .flat_map(|operator| &operator.finished)
        {
            let mut producers = (0..parallelism).filter(|it| !self.one_to_one || it == sink);
            assert!(
                producers.all(|source| of_sources.contains(&source)),
                "sink {sink} of checkpoint {id} has finished before its sources"
            );
        }
        let mut expected: Vec<Vec<u8>> = tasks.map(|task| content(*task, id)).collect();
        let mut found = contents(metadata.operators.iter().flat_map(|o| &o.states));
        expected.sort();
        found.sort();
        let (sources, sinks) = (finished("src"), finished("sink"));
        if sources > 0 {
            self.count("a source had finished");
        }
        if sinks > 0 {
            self.count("a sink had finished");
        }
        assert_eq!(found, expected, "what checkpoint {id} says");
    }

    fn sent(&mut self, message: &ToTaskExecutor) {
        match message {
            ToTaskExecutor::CheckpointComplete {
                job,
                execution,
                checkpoint,
            } => {
                self.count("a commit is told");
                let id = (*job, *checkpoint);
                assert!(
                    self.durable.contains_key(&id),
                    "a commit is told for {checkpoint}, which is not durable"
                );
                assert!(
                    self.complete[job].contains(checkpoint),
                    "a commit is told for {checkpoint} before it is known to be durable"
                );
                assert!(
                    self.acknowledged[&id].contains(execution),
                    "{execution} is to commit {checkpoint}, which it has not acknowledged"
                );
                self.commits(*job, *checkpoint);
            }
            ToTaskExecutor::CheckpointAborted {
                job, checkpoint, ..
            } => {
                let complete = self.complete.get(job);
                let complete = complete.is_some_and(|all| all.contains(checkpoint));
                assert!(!complete, "complete checkpoint {checkpoint} is aborted");
            }
            ToTaskExecutor::TriggerCheckpoint {
                job,
                execution,
                barrier,
            } => {
                let before = self.barriers.insert((*job, *execution), barrier.id);
                let id = barrier.id;
                assert!(before <= Some(id), "barrier {id} leaves after {before:?}");
            }
            ToTaskExecutor::SubmitTask(task) => self.deployed(task),
            ToTaskExecutor::Registered { .. }
            | ToTaskExecutor::RequestSlot(_)
            | ToTaskExecutor::FreeSlot { .. }
            | ToTaskExecutor::CancelTask { .. }
            | ToTaskExecutor::CommitTask { .. }
            | ToTaskExecutor::Inquire { .. }
            | ToTaskExecutor::ShutDown { .. } => {}
        }
    }

    /// Never back behind what was committed.
    fn commits(&mut self, job: JobId, id: CheckpointId) {
        let before = self.committed.insert(job, id);
        assert!(before <= Some(id), "{id} is committed after {before:?}");
    }

    /// A task begins with the newest checkpoint that is durable, whether or not anybody was told.
    fn deployed(&mut self, task: &TaskDeployment) {
        let job = task.job;
        self.deployed.insert(job, task.execution.attempt);
        let of_job = self.durable.range((job, CheckpointId(0))..);
        let newest = of_job.take_while(|((of, _), _)| *of == job).last();
        let newest = newest.map(|((_, id), metadata)| (*id, Arc::clone(metadata)));
        let restore = task.restore.as_ref();
        assert_eq!(
            restore.map(|restore| restore.checkpoint),
            newest.as_ref().map(|(id, _)| *id),
            "{} does not begin with the newest checkpoint",
            task.execution
        );
        let (Some(restore), Some((id, metadata))) = (restore, newest) else {
            assert_eq!(self.committed.get(&job), None, "{}", task.execution);
            return;
        };
        self.count("a task begins with a checkpoint");
        let sink = task.execution.vertex == JobVertexId::of_uid("sink");
        let uid = if sink { "sink" } else { "src" };
        let operators = metadata.operators.iter().filter(|o| o.uid == uid);
        let written = contents(operators.flat_map(|o| &o.states));
        let given = contents(restore.operators.iter().flat_map(|o| &o.states));
        assert_eq!(given, written, "what {} begins with", task.execution);
        let operator = metadata.operators.iter().find(|o| o.uid == uid).unwrap();
        let had_finished = operator.finished.contains(&task.execution.subtask);
        assert_eq!(
            restore.finished, had_finished,
            "whether {} has finished",
            task.execution
        );
        self.commits(job, id);
    }

    pub(super) fn after(&mut self, now: MonoTime, input: &Input, effects: &[Effect], view: &View) {
        if let Input::Checkpoint {
            job,
            event: CheckpointEvent::MetadataPersisted { id },
        } = input
            && self.complete.get(job).is_some_and(|all| all.contains(id))
        {
            self.check_told(*job, *id, effects);
        }
        let mut ended = Vec::new();
        for (job, seen) in &view.jobs {
            let Some(seen) = &seen.checkpoints else {
                continue;
            };
            let open = |c: &&Arc<_>| matches_open(c);
            let under_way = seen.history.iter().filter(open).count();
            assert!(
                under_way <= self.max_concurrent,
                "{under_way} are under way"
            );
            assert_eq!(under_way as u64, seen.counts.in_progress);
            for one in &seen.history {
                let id = (*job, one.id);
                if self.triggered.insert(id) {
                    let requested = TriggerView::InProgress(one.id);
                    let requested = seen.triggers.values().any(|trigger| *trigger == requested);
                    if let Some(end) = self.last_end.get(job).filter(|_| !requested) {
                        let pause = one.triggered.since(*end);
                        assert!(pause >= self.min_pause, "{pause:?} between checkpoints");
                    }
                }
                if one.status != CheckpointStatus::InProgress && self.over.insert(id) {
                    ended.push(*job);
                    assert_eq!(
                        one.failure.is_some(),
                        one.status == CheckpointStatus::Failed,
                        "a checkpoint that failed has a reason"
                    );
                    let complete = self.complete.get(job);
                    assert_eq!(
                        one.status == CheckpointStatus::Completed,
                        complete.is_some_and(|all| all.contains(&one.id))
                            || (self.savepoints.get(job)).is_some_and(|all| all.contains(&one.id)),
                        "{one:?} is complete exactly if its metadata is known to be durable"
                    );
                }
            }
        }
        for job in ended {
            self.last_end.insert(job, now);
        }
    }

    /// Each task that acknowledged a checkpoint and still runs is told.
    fn check_told(&mut self, job: JobId, id: CheckpointId, effects: &[Effect]) {
        let mut told = BTreeSet::new();
        for effect in effects {
            if let Effect::Send {
                message:
                    ToTaskExecutor::CheckpointComplete {
                        execution,
                        checkpoint,
                        ..
                    },
                ..
            } = effect
                && *checkpoint == id
            {
                told.insert(*execution);
            }
        }
        for task in &self.acknowledged[&(job, id)] {
            let runs = self.running.contains(&(job, *task));
            assert!(!runs || told.contains(task), "{task} is not told of {id}");
        }
    }
}

fn matches_open(one: &Arc<crate::checkpoint::CheckpointView>) -> bool {
    one.status == CheckpointStatus::InProgress
}

fn contents<'a>(states: impl Iterator<Item = &'a StateSnapshot>) -> Vec<Vec<u8>> {
    let chunks = states.flat_map(|state| &state.chunks);
    // Of those that had finished it is said that they have nothing.
    let chunks = chunks.filter(|chunk| chunk.entries > 0);
    chunks
        .map(|chunk| match &chunk.content {
            StateHandle::Inline(bytes) => bytes.clone(),
            StateHandle::File(range) => panic!("{range:?} was never written"),
        })
        .collect()
}
