//! When a run is checkpointed and killed, and what is left of it: the JobManager's part, for threads of one process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, Distribution, OperatorSnapshot,
    SnapshotKind, StateChunk, StateSnapshot, SubtaskCheckpointStats, SubtaskSnapshot,
};
use spindle_common::job_graph::JobVertex;
use spindle_common::key_group::key_groups_of;
use spindle_dataflow::snapshot::Content;
use spindle_dataflow::task::{SnapshotWriter, Step, TaskError, TaskMail};

use super::local::{Waker, wall_ms};

/// By how many steps a subtask of a source may be ahead of another, so that few are at their end when a checkpoint is triggered.
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
    alignment: BarrierAlignment,
}

impl Kill {
    /// All tasks are killed after so many steps; if the job has fewer, when it has read and written all, before it commits.
    pub const fn after(steps: u64) -> Self {
        Self {
            steps,
            checkpoints: BTreeSet::new(),
            loses_pending: false,
            alignment: BarrierAlignment::Aligned,
        }
    }

    /// A checkpoint is triggered after so many steps. More than one can be.
    #[must_use]
    pub fn checkpoint_after(mut self, steps: u64) -> Self {
        self.checkpoints.insert(steps);
        self
    }

    /// Checkpoints never hold a channel back, so that records from behind a barrier may count again: `execution.checkpointing.mode` is
    /// `AT_LEAST_ONCE`.
    #[must_use]
    pub const fn at_least_once(mut self) -> Self {
        self.alignment = BarrierAlignment::AtLeastOnce;
        self
    }

    /// Checkpoints that are not aligned so long after their trigger hold what is under way between tasks:
    /// `execution.checkpointing.unaligned.enabled`.
    #[must_use]
    pub fn unaligned(mut self, aligned_timeout: Duration) -> Self {
        let timeout_ms = u64::try_from(aligned_timeout.as_millis()).unwrap_or(u64::MAX);
        self.alignment = BarrierAlignment::Unaligned { timeout_ms };
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
    /// By uid of an operator that had finished in some: in which subtasks, of how many.
    finished: BTreeMap<String, (BTreeSet<u32>, u32)>,
}

impl JobSnapshot {
    /// Which checkpoint it is; none if none was complete.
    pub const fn checkpoint(&self) -> Option<CheckpointId> {
        self.checkpoint
    }

    /// How many buffers were under way between tasks, of an unaligned checkpoint.
    pub fn buffers_in_flight(&self) -> u64 {
        let states = self.operators.values().flat_map(BTreeMap::values);
        let in_flight = states.filter(|state| state.distribution == Distribution::InFlight);
        let chunks = in_flight.flat_map(|state| &state.chunks);
        chunks.map(|chunk| chunk.entries).sum()
    }

    fn add(&mut self, place: &Place, subtask: SubtaskSnapshot<Vec<u8>>) {
        if subtask.finished {
            for uid in &place.operators {
                let none = || (BTreeSet::new(), place.parallelism);
                let (finished, _) = self.finished.entry(uid.clone()).or_insert_with(none);
                finished.insert(place.subtask);
            }
        }
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

    /// Of what is dealt out by subtask, those that had finished have nothing left, so that the others keep what is theirs.
    fn complete(&mut self) {
        for (uid, (finished, _)) in &self.finished {
            let states = self
                .operators
                .get_mut(uid)
                .into_iter()
                .flat_map(BTreeMap::values_mut);
            for state in states {
                match state.distribution {
                    Distribution::Split | Distribution::Union => {}
                    Distribution::KeyGroup | Distribution::Broadcast | Distribution::InFlight => {
                        continue;
                    }
                }
                let wrote: BTreeSet<u32> = state.chunks.iter().map(|chunk| chunk.index).collect();
                state
                    .chunks
                    .extend(finished.difference(&wrote).map(|&index| StateChunk {
                        index,
                        entries: 0,
                        content: Vec::new(),
                    }));
            }
        }
    }

    /// Whether a subtask had finished; where the parallelism has changed, whether all had.
    fn has_finished(&self, vertex: &JobVertex, subtask: u32) -> bool {
        vertex.operators.iter().all(|operator| {
            let finished = self.finished.get(&operator.uid);
            finished.is_some_and(|(finished, parallelism)| {
                finished.len() == *parallelism as usize
                    || *parallelism == vertex.parallelism && finished.contains(&subtask)
            })
        })
    }

    /// What a subtask begins with: see [`spindle_common::checkpoint::TaskRestore`].
    pub(super) fn of(&self, vertex: &JobVertex, subtask: u32) -> SubtaskSnapshot<Vec<u8>> {
        let groups = key_groups_of(subtask, vertex.parallelism, vertex.max_parallelism);
        let dealt = |state: &StateSnapshot<Vec<u8>>| {
            let mut state = state.clone();
            state.chunks.sort_by_key(|chunk| chunk.index);
            match state.distribution {
                Distribution::KeyGroup => state.chunks.retain(|it| groups.contains(&it.index)),
                Distribution::Split | Distribution::Union | Distribution::InFlight => {}
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
            finished: self.has_finished(vertex, subtask),
        }
    }
}

/// A task, as far as its checkpoints are concerned.
pub(super) struct Place {
    pub(super) waker: Arc<Waker>,
    pub(super) reads_source: bool,
    /// Their uids.
    pub(super) operators: Vec<String>,
    pub(super) subtask: u32,
    pub(super) parallelism: u32,
}

struct Pending {
    missing: usize,
    snapshot: JobSnapshot,
    acknowledged: Vec<bool>,
}

struct State {
    /// Of each task, the steps that it has done; none if it reads no source, or has ended.
    steps: Vec<Option<u64>>,
    /// Of each task, its last step, if it has done that.
    ended: Vec<Option<Step>>,
    /// When checkpoints are to be triggered.
    due: VecDeque<u64>,
    pending: BTreeMap<CheckpointId, Pending>,
    latest: JobSnapshot,
}

/// The checkpoints of one run, and its end by force.
pub(super) struct Coordination {
    kill: Option<Kill>,
    /// All tasks.
    places: Vec<Place>,
    stopped: Arc<AtomicBool>,
    state: Mutex<State>,
}

impl Coordination {
    /// For these tasks.
    pub(super) fn new(
        kill: Option<&Kill>,
        from: &JobSnapshot,
        places: Vec<Place>,
        stopped: Arc<AtomicBool>,
    ) -> Self {
        let steps = places.iter().map(|place| place.reads_source.then_some(0));
        let due = kill
            .iter()
            .flat_map(|kill| kill.checkpoints.iter().copied());
        Self {
            state: Mutex::new(State {
                steps: steps.collect(),
                ended: vec![None; places.len()],
                due: due.collect(),
                pending: BTreeMap::new(),
                latest: from.clone(),
            }),
            kill: kill.cloned(),
            places,
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
                self.wake_all();
            }
            return false;
        }
        let slowest = state.steps.iter().flatten().min().copied();
        slowest.is_none_or(|slowest| done <= slowest + LEAD)
    }

    /// A task has done a step, perhaps its last.
    pub(super) fn stepped(&self, task: usize, step: Step) {
        if self.kill.is_none() {
            return;
        }
        let ended = match step {
            Step::Continue | Step::Held => false,
            Step::AwaitingCommit | Step::Finished => true,
        };
        let mut state = self.state();
        if let Some(done) = state.steps[task] {
            state.steps[task] = (!ended).then_some(done + 1);
        } else if !ended {
            return;
        }
        if ended {
            state.ended[task] = Some(step);
            let waiting = state.pending.iter();
            let waiting = waiting.filter(|(_, pending)| !pending.acknowledged[task]);
            let waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
            for id in waiting {
                self.ask(&mut state, task, id);
            }
            if state.ended.iter().all(Option::is_some) {
                let open: Vec<_> = state.pending.keys().copied().collect();
                for id in open {
                    self.abort(&mut state, id);
                }
                self.wake_all();
            }
        }
        for (place, _) in (self.places.iter().zip(&state.steps)).filter(|(_, it)| it.is_some()) {
            place.waker.unpark();
        }
    }

    /// Whether all tasks have done their last step.
    pub(super) fn all_ended(&self) -> bool {
        self.state().ended.iter().all(Option::is_some)
    }

    fn wake_all(&self) {
        self.places.iter().for_each(|place| place.waker.unpark());
    }

    fn trigger(&self, state: &mut State) {
        if state.steps.iter().all(Option::is_none) {
            return;
        }
        state.latest.used += 1;
        let id = CheckpointId(state.latest.used);
        let pending = Pending {
            missing: self.places.len(),
            snapshot: JobSnapshot {
                checkpoint: Some(id),
                ..JobSnapshot::default()
            },
            acknowledged: vec![false; self.places.len()],
        };
        state.pending.insert(id, pending);
        for task in 0..self.places.len() {
            self.ask(state, task, id);
        }
    }

    /// Whoever gets no barrier from others is told to send some, or to tell what is left to commit; or has finished.
    fn ask(&self, state: &mut State, task: usize, id: CheckpointId) {
        let barrier = CheckpointBarrier {
            id,
            timestamp_ms: wall_ms(),
            kind: SnapshotKind::Checkpoint,
            directory: Arc::from("file:///checkpoint-of-a-test"),
            alignment: self
                .kill
                .as_ref()
                .map_or(BarrierAlignment::Aligned, |kill| kill.alignment),
        };
        let reads = state.steps[task].is_some();
        match state.ended[task] {
            Some(Step::Finished) => self.add(state, task, id, SubtaskSnapshot::of_finished()),
            None if !reads => {}
            Some(Step::AwaitingCommit | Step::Continue | Step::Held) | None => {
                let waker = &self.places[task].waker;
                waker.send(TaskMail::TriggerCheckpoint(barrier));
            }
        }
    }

    fn abort(&self, state: &mut State, id: CheckpointId) {
        if state.pending.remove(&id).is_some() {
            for place in &self.places {
                place.waker.send(TaskMail::CheckpointAborted(id));
            }
        }
    }

    fn acknowledge(&self, task: usize, id: CheckpointId, snapshot: SubtaskSnapshot<Vec<u8>>) {
        self.add(&mut self.state(), task, id, snapshot);
    }

    fn add(
        &self,
        state: &mut State,
        task: usize,
        id: CheckpointId,
        snapshot: SubtaskSnapshot<Vec<u8>>,
    ) {
        let Some(pending) = state.pending.get_mut(&id) else {
            return;
        };
        if pending.acknowledged[task] {
            return;
        }
        pending.snapshot.add(&self.places[task], snapshot);
        pending.acknowledged[task] = true;
        pending.missing -= 1;
        // What has come to an end by force is not complete any more.
        if pending.missing > 0 || self.stopped.load(Ordering::SeqCst) {
            return;
        }
        let mut complete = state.pending.remove(&id).expect("it was just there");
        complete.snapshot.complete();
        // Those before it are not needed any more.
        state.pending.retain(|other, _| *other > id);
        state.latest = JobSnapshot {
            used: state.latest.used,
            attempt: state.latest.attempt,
            ..complete.snapshot
        };
        for place in &self.places {
            place.waker.send(TaskMail::CheckpointComplete(id));
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
    let finished = state.finished;
    let operators: Result<Vec<_>, TaskError> = state.operators.into_iter().map(operator).collect();
    Ok(SubtaskSnapshot {
        operators: operators?,
        finished,
    })
}
