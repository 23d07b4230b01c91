//! When a run is checkpointed and killed, and what is left of it: the JobManager's part, for threads of one process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spindle_common::checkpoint::{
    CheckpointBarrier, CheckpointId, Distribution, OperatorSnapshot, SnapshotKind, StateChunk,
    StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::job_graph::JobVertex;
use spindle_common::key_group::key_groups_of;
use spindle_dataflow::snapshot::Content;
use spindle_dataflow::task::{SnapshotWriter, TaskError, TaskMail};

use super::local::Waker;

/// By how many steps a subtask of a source may be ahead of another, so that none is at its end when a checkpoint is triggered.
const LEAD: u64 = 2;

/// When a run is killed, and when it is checkpointed before that.
///
/// Both are counted in steps of the sources: in one step each subtask of each source reads a batch. Subtasks run beside each other, so
/// some are a step or two ahead of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    steps: u64,
    checkpoints: BTreeSet<u64>,
    loses_pending: bool,
}

impl Kill {
    /// All tasks are killed after so many steps; if the job has fewer, when it has read and written all, before it commits.
    pub const fn after(steps: u64) -> Self {
        Self {
            steps,
            checkpoints: BTreeSet::new(),
            loses_pending: false,
        }
    }

    /// A checkpoint is triggered after so many steps. More than one can be.
    #[must_use]
    pub fn checkpoint_after(mut self, steps: u64) -> Self {
        self.checkpoints.insert(steps);
        self
    }

    /// The kill does not wait for checkpoints that have been triggered: what is not complete at that moment is lost.
    #[must_use]
    pub const fn losing_pending_checkpoints(mut self) -> Self {
        self.loses_pending = true;
        self
    }
}

/// What is left of a job that was killed: its newest complete checkpoint. Without one, as at the beginning, the job begins anew.
#[derive(Debug, Clone, Default)]
pub struct JobSnapshot {
    checkpoint: Option<CheckpointId>,
    /// The last number that any run has given to a checkpoint, complete or not.
    used: u64,
    /// How often the job was killed.
    pub(super) attempt: u32,
    /// By uid and name, the chunks of all subtasks.
    operators: BTreeMap<String, BTreeMap<String, StateSnapshot<Vec<u8>>>>,
}

impl JobSnapshot {
    /// Which checkpoint it is; none if none was complete.
    pub const fn checkpoint(&self) -> Option<CheckpointId> {
        self.checkpoint
    }

    fn add(&mut self, subtask: SubtaskSnapshot<Vec<u8>>) {
        for operator in subtask.operators {
            let states = self.operators.entry(operator.uid).or_default();
            for state in operator.states {
                match states.get_mut(&state.name) {
                    Some(all) => all.chunks.extend(state.chunks),
                    None => drop(states.insert(state.name.clone(), state)),
                }
            }
        }
    }

    /// What a subtask begins with: see [`spindle_common::checkpoint::TaskRestore`].
    pub(super) fn of(&self, vertex: &JobVertex, subtask: u32) -> SubtaskSnapshot<Vec<u8>> {
        let groups = key_groups_of(subtask, vertex.parallelism, vertex.max_parallelism);
        let dealt = |state: &StateSnapshot<Vec<u8>>| {
            let mut state = state.clone();
            state.chunks.sort_by_key(|chunk| chunk.index);
            match state.distribution {
                Distribution::KeyGroup => state.chunks.retain(|it| groups.contains(&it.index)),
                Distribution::Split | Distribution::Union => {}
                Distribution::Broadcast => state.chunks.truncate(1),
            }
            state
        };
        let of_vertex = vertex.operators.iter().filter_map(|operator| {
            let states = self.operators.get(&operator.uid)?;
            Some(OperatorSnapshot {
                uid: operator.uid.clone(),
                states: states.values().map(dealt).collect(),
            })
        });
        SubtaskSnapshot {
            operators: of_vertex.collect(),
        }
    }
}

struct Pending {
    missing: usize,
    snapshot: JobSnapshot,
    acknowledged: Vec<bool>,
}

struct State {
    /// Of each task, the steps that it has done; none if it reads no source, or has ended.
    steps: Vec<Option<u64>>,
    /// Whether a source has ended: then no checkpoint can be complete any more.
    ended: bool,
    /// When checkpoints are to be triggered.
    due: VecDeque<u64>,
    pending: BTreeMap<CheckpointId, Pending>,
    latest: JobSnapshot,
}

/// The checkpoints of one run, and its end by force.
pub(super) struct Coordination {
    kill: Option<Kill>,
    /// Those of all tasks, in their order.
    wakers: Vec<Arc<Waker>>,
    stopped: Arc<AtomicBool>,
    state: Mutex<State>,
}

impl Coordination {
    /// For tasks of which these read sources.
    pub(super) fn new(
        kill: Option<&Kill>,
        from: &JobSnapshot,
        tasks: Vec<(Arc<Waker>, bool)>,
        stopped: Arc<AtomicBool>,
    ) -> Self {
        let steps = tasks.iter().map(|(_, reads)| reads.then_some(0)).collect();
        let due = kill
            .iter()
            .flat_map(|kill| kill.checkpoints.iter().copied());
        Self {
            state: Mutex::new(State {
                steps,
                ended: false,
                due: due.collect(),
                pending: BTreeMap::new(),
                latest: from.clone(),
            }),
            kill: kill.cloned(),
            wakers: tasks.into_iter().map(|(waker, _)| waker).collect(),
            stopped,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the run is not to come to its end.
    pub(super) const fn kills(&self) -> bool {
        self.kill.is_some()
    }

    /// What is left when all tasks are gone.
    pub(super) fn left(self) -> JobSnapshot {
        let state = self.state.into_inner();
        let mut left = state.unwrap_or_else(PoisonError::into_inner).latest;
        left.attempt += 1;
        left
    }

    /// Whether a task that reads a source may do its next step now. If not, it looks for mail and waits to be woken.
    pub(super) fn may_step(&self, task: usize) -> bool {
        let Some(kill) = &self.kill else {
            return true;
        };
        let mut state = self.state();
        let Some(done) = state.steps[task] else {
            return true;
        };
        if state.due.front().is_some_and(|due| *due <= done) {
            state.due.pop_front();
            self.trigger(&mut state);
            return false;
        }
        if kill.steps <= done {
            if kill.loses_pending || state.pending.is_empty() {
                self.stopped.store(true, Ordering::SeqCst);
                self.wakers.iter().for_each(|waker| waker.unpark());
            }
            return false;
        }
        let slowest = state.steps.iter().flatten().min().copied();
        slowest.is_none_or(|slowest| done <= slowest + LEAD)
    }

    /// A task has done a step, or its last.
    pub(super) fn stepped(&self, task: usize, ended: bool) {
        if self.kill.is_none() {
            return;
        }
        let mut state = self.state();
        let Some(done) = state.steps[task] else {
            return;
        };
        state.steps[task] = (!ended).then_some(done + 1);
        state.ended |= ended;
        if ended {
            let waiting = state.pending.iter();
            let lost: Vec<_> = waiting
                .filter(|(_, pending)| !pending.acknowledged[task])
                .map(|(id, _)| *id)
                .collect();
            for id in lost {
                self.abort(&mut state, id);
            }
        }
        for (waker, _) in self
            .wakers
            .iter()
            .zip(&state.steps)
            .filter(|(_, steps)| steps.is_some())
        {
            waker.unpark();
        }
    }

    fn trigger(&self, state: &mut State) {
        if state.ended {
            return;
        }
        state.latest.used += 1;
        let id = CheckpointId(state.latest.used);
        let pending = Pending {
            missing: self.wakers.len(),
            snapshot: JobSnapshot {
                checkpoint: Some(id),
                ..JobSnapshot::default()
            },
            acknowledged: vec![false; self.wakers.len()],
        };
        state.pending.insert(id, pending);
        let barrier = CheckpointBarrier {
            id,
            timestamp_ms: 0,
            kind: SnapshotKind::Checkpoint,
            directory: Arc::from("file:///checkpoint-of-a-test"),
        };
        for (waker, steps) in self.wakers.iter().zip(&state.steps) {
            if steps.is_some() {
                waker.send(TaskMail::TriggerCheckpoint(barrier.clone()));
            }
        }
    }

    fn abort(&self, state: &mut State, id: CheckpointId) {
        if state.pending.remove(&id).is_some() {
            for waker in &self.wakers {
                waker.send(TaskMail::CheckpointAborted(id));
            }
        }
    }

    fn acknowledge(&self, task: usize, id: CheckpointId, snapshot: SubtaskSnapshot<Vec<u8>>) {
        let mut state = self.state();
        let Some(pending) = state.pending.get_mut(&id) else {
            return;
        };
        pending.snapshot.add(snapshot);
        pending.acknowledged[task] = true;
        pending.missing -= 1;
        // What has come to an end by force is not complete any more.
        if pending.missing > 0 || self.stopped.load(Ordering::SeqCst) {
            return;
        }
        let complete = state.pending.remove(&id).expect("it was just there");
        // Those before it are not needed any more.
        state.pending.retain(|other, _| *other > id);
        state.latest = JobSnapshot {
            used: state.latest.used,
            attempt: state.latest.attempt,
            ..complete.snapshot
        };
        for waker in &self.wakers {
            waker.send(TaskMail::CheckpointComplete(id));
        }
    }
}

/// Where one task puts its state.
pub(super) struct Acknowledging {
    pub(super) task: usize,
    pub(super) coordination: Arc<Coordination>,
}

impl SnapshotWriter for Acknowledging {
    fn write(
        &mut self,
        barrier: &CheckpointBarrier,
        state: SubtaskSnapshot<Content>,
        _: SubtaskCheckpointStats,
    ) {
        match written(state) {
            Ok(state) => self.coordination.acknowledge(self.task, barrier.id, state),
            Err(error) => self.decline(barrier.id, error.to_string()),
        }
    }

    fn decline(&mut self, checkpoint: CheckpointId, _: String) {
        let mut state = self.coordination.state();
        self.coordination.abort(&mut state, checkpoint);
    }
}

/// A task's state with the bytes of all chunks, those that are made later too.
fn written(state: SubtaskSnapshot<Content>) -> Result<SubtaskSnapshot<Vec<u8>>, TaskError> {
    let chunk = |chunk: StateChunk<Content>| {
        Ok(StateChunk {
            index: chunk.index,
            entries: chunk.entries,
            content: chunk.content.into_bytes()?,
        })
    };
    let state_of = |state: StateSnapshot<Content>| {
        let chunks: Result<Vec<_>, TaskError> = state.chunks.into_iter().map(chunk).collect();
        Ok(StateSnapshot {
            name: state.name,
            distribution: state.distribution,
            schema: state.schema,
            chunks: chunks?,
        })
    };
    let operator = |operator: OperatorSnapshot<Content>| {
        let states: Result<Vec<_>, TaskError> = operator.states.into_iter().map(state_of).collect();
        Ok(OperatorSnapshot {
            uid: operator.uid,
            states: states?,
        })
    };
    let operators: Result<Vec<_>, TaskError> = state.operators.into_iter().map(operator).collect();
    Ok(SubtaskSnapshot {
        operators: operators?,
    })
}
