//! The rules that checkpoints have to keep, whichever attempt of the JobManager takes them.

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

use super::storage::{Id, Store};
use crate::checkpoint::{CheckpointStatus, TriggerView};
use crate::message::{CheckpointEffect, CheckpointEvent, Effect, Input, Transition, View};

/// What is looked at, each as it is counted.
pub(super) const RULES: &[&str] = &[
    "metadata is what its tasks acknowledged",
    "a complete checkpoint is discarded",
    "a source had finished",
    "a sink had finished",
    "a commit is told",
    "a task begins with a checkpoint",
    "the end is committed",
];

#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) store: Store,
    /// What each is for, as it was written last.
    kinds: BTreeMap<Id, SnapshotKind>,
    /// Savepoints that the JobManager knows of and that no job begins with.
    savepoints: BTreeMap<JobId, BTreeSet<CheckpointId>>,
    /// Checkpoints of those that are durable that the JobManager knows of.
    complete: BTreeMap<JobId, BTreeSet<CheckpointId>>,
    /// The tasks that have read and written all, as the JobManager was told.
    ended: BTreeSet<(JobId, ExecutionAttemptId)>,
    /// The tasks that run, as the JobManager was told.
    running: BTreeSet<(JobId, ExecutionAttemptId)>,
    /// The newest barrier that each source was to send.
    barriers: BTreeMap<(JobId, ExecutionAttemptId), CheckpointId>,
    /// The newest attempt of its tasks.
    deployed: BTreeMap<JobId, u32>,
    /// The newest number that was begun.
    begun: BTreeMap<JobId, CheckpointId>,
    /// Those that were seen, and seen to be over.
    triggered: BTreeSet<Id>,
    over: BTreeSet<Id>,
    last_end: BTreeMap<JobId, MonoTime>,
    /// The jobs that it knows to be another attempt's.
    superseded: BTreeSet<JobId>,
    /// The jobs whose tasks run and that were found to be its own since they began.
    confirmed: BTreeSet<JobId>,
    /// Whether that is asked of each job.
    asks: bool,
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
    pub(super) fn new(config: &CheckpointConfig, store: Store) -> Self {
        let mut complete = BTreeMap::<_, BTreeSet<_>>::new();
        for (job, id) in store.world().durable.keys() {
            complete.entry(*job).or_default().insert(*id);
        }
        Self {
            store,
            kinds: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            complete,
            ended: BTreeSet::new(),
            running: BTreeSet::new(),
            barriers: BTreeMap::new(),
            deployed: BTreeMap::new(),
            begun: BTreeMap::new(),
            triggered: BTreeSet::new(),
            over: BTreeSet::new(),
            last_end: BTreeMap::new(),
            superseded: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            asks: config.interval.is_some() && config.directory.is_some(),
            max_concurrent: config.max_concurrent as usize,
            min_pause: config.min_pause,
            one_to_one: false,
            seen: BTreeMap::new(),
        }
    }

    fn count(&mut self, rule: &'static str) {
        *self.seen.entry(rule).or_default() += 1;
    }

    pub(super) fn before(&mut self, input: &Input) {
        if let Input::Checkpoint {
            job,
            event: CheckpointEvent::Superseded { .. },
        } = input
        {
            self.superseded.insert(*job);
        }
        if let Input::Checkpoint {
            job,
            event: CheckpointEvent::Confirmed,
        } = input
        {
            self.confirmed.insert(*job);
        }
        if let Input::Checkpoint {
            job,
            event: CheckpointEvent::Discovered { observed },
        } = input
        {
            let found = observed.complete.iter().map(|(_, it)| it.checkpoint);
            self.complete.insert(*job, found.collect());
        }
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
            let mut world = self.store.world();
            world
                .acknowledged
                .entry(id)
                .or_default()
                .insert(done.execution);
        }
    }

    pub(super) fn effect(&mut self, effect: &Effect) {
        self.check_superseded(effect);
        match effect {
            Effect::Checkpoint { job, effect } => {
                self.check_wanted(*job, effect);
                self.store.want(*job, effect.clone());
            }
            Effect::Send { message, .. } => self.sent(message),
            Effect::Transition(Transition::Task {
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
            Effect::Transition(Transition::Job { job, to, .. }) if to.is_terminal() => {
                self.store.ends(*job);
            }
            Effect::Disconnect { .. }
            | Effect::Resource(_)
            | Effect::RemoveStaging { .. }
            | Effect::KeepStaging { .. }
            | Effect::Transition(_)
            | Effect::Terminate { .. } => {}
        }
    }

    /// Who knows that another attempt has the job neither starts its tasks nor ends it.
    fn check_superseded(&mut self, effect: &Effect) {
        let job = match effect {
            Effect::Send { message, .. } => match message {
                ToTaskExecutor::SubmitTask(task) => task.job,
                ToTaskExecutor::CommitTask { job, .. } => {
                    self.count("the end is committed");
                    let asked = self.confirmed.contains(job);
                    assert!(
                        asked || !self.asks,
                        "{effect:?} before it is asked whose it is"
                    );
                    *job
                }
                ToTaskExecutor::CheckpointComplete { job, .. } => *job,
                ToTaskExecutor::Registered { .. }
                | ToTaskExecutor::RequestSlot(_)
                | ToTaskExecutor::FreeSlot { .. }
                | ToTaskExecutor::CancelTask { .. }
                | ToTaskExecutor::TriggerCheckpoint { .. }
                | ToTaskExecutor::CheckpointAborted { .. }
                | ToTaskExecutor::Inquire { .. }
                | ToTaskExecutor::ShutDown { .. } => return,
            },
            Effect::Checkpoint { job, effect } => match effect {
                CheckpointEffect::Prepare { .. }
                | CheckpointEffect::PersistMetadata { .. }
                | CheckpointEffect::RemoveAll { .. } => *job,
                CheckpointEffect::PersistAnchor { .. }
                | CheckpointEffect::Load { .. }
                | CheckpointEffect::Discover { .. }
                | CheckpointEffect::Confirm { .. }
                | CheckpointEffect::Discard { .. } => return,
            },
            Effect::RemoveStaging { job, .. } => *job,
            // A savepoint is nobody's checkpoint.
            Effect::KeepStaging { .. }
            | Effect::Disconnect { .. }
            | Effect::Resource(_)
            | Effect::Transition(_)
            | Effect::Terminate { .. } => return,
        };
        assert!(
            !self.superseded.contains(&job),
            "{effect:?} though another attempt has the job"
        );
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
            | CheckpointEffect::Confirm { .. }
            | CheckpointEffect::RemoveAll { .. } => {}
        }
    }

    /// Each task of one attempt wrote its part, for this checkpoint, or had finished before.
    fn check_metadata(&mut self, job: JobId, id: CheckpointId, metadata: &SnapshotMetadata) {
        let attempt = self.deployed[&job];
        let tasks = self.store.world().acknowledged.get(&(job, id)).cloned();
        let tasks = tasks.unwrap_or_default();
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
                    self.complete[job].contains(checkpoint),
                    "a commit is told for {checkpoint} before it is known to be durable"
                );
                let is_shut_out = self.store.is_shut_out(*job);
                let mut world = self.store.world();
                assert!(
                    is_shut_out || world.durable.contains_key(&id),
                    "a commit is told for {checkpoint}, which is not durable"
                );
                assert!(
                    world.acknowledged[&id].contains(execution),
                    "{execution} is to commit {checkpoint}, which it has not acknowledged"
                );
                world.commits(*job, *checkpoint, execution.attempt);
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

    /// A task begins with the newest checkpoint that is durable, whether or not anybody was told.
    fn deployed(&mut self, task: &TaskDeployment) {
        let (job, attempt) = (task.job, task.execution.attempt);
        self.deployed.insert(job, attempt);
        self.confirmed.remove(&job);
        let restore = task.restore.as_ref();
        let began = restore.map(|restore| restore.checkpoint);
        if self.store.is_shut_out(job) {
            // What they write is never shown.
            return;
        }
        let mut world = self.store.world();
        let newest = world.newest(job);
        assert_eq!(
            began,
            newest.as_ref().map(|(id, _)| *id),
            "{} does not begin with the newest checkpoint",
            task.execution
        );
        world.deployed.insert(job, (attempt, began));
        let (Some(restore), Some((id, metadata))) = (restore, newest) else {
            assert_eq!(world.committed.get(&job), None, "{}", task.execution);
            return;
        };
        world.commits(job, id, attempt);
        drop(world);
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
        for task in &self.store.world().acknowledged[&(job, id)] {
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
