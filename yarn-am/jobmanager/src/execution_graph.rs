//! A job graph as it runs: one execution for each parallel subtask, all of the same attempt. Flink: `ExecutionGraph`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    InputChannelDescriptor, InputGateDescriptor, ResultPartitionDescriptor, TaskDeployment,
    TaskMetricsSnapshot,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId, ResourceId};
use spindle_common::job_graph::{JobEdge, JobGraph, JobVertex};
use spindle_common::resource::SlotProfile;
use spindle_common::time::MonoTime;

use crate::message::{TaskLoad, TaskView};
use crate::resource_manager::SlotCounts;

/// The states of an execution whose output is complete.
pub(crate) const DONE: &[ExecutionState] =
    &[ExecutionState::AwaitingCommit, ExecutionState::Finished];

/// The states of an execution that has come to run and has not failed.
pub(crate) const RUN: &[ExecutionState] = &[
    ExecutionState::Running,
    ExecutionState::AwaitingCommit,
    ExecutionState::Finished,
];

/// The states that nothing follows on.
pub(crate) const TERMINAL: &[ExecutionState] = &[
    ExecutionState::Finished,
    ExecutionState::Canceled,
    ExecutionState::Failed,
];

/// After how long without any time measured it is not known any more what a task does with it.
const LOAD_FADES: Duration = Duration::from_secs(10);

/// Attempts of each subtask that are kept beside the current one. Flink: `jobmanager.execution.attempts-history-size`.
const ATTEMPTS_KEPT: usize = 16;
/// Executions of earlier attempts that are kept of all subtasks together.
const EXECUTIONS_KEPT: usize = 4096;

/// A slot that a job holds: its worker runs and can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldSlot {
    pub(crate) allocation: AllocationId,
    /// What it has; without it, it is one of a TaskManager's equal parts.
    pub(crate) profile: Option<SlotProfile>,
    pub(crate) resource: ResourceId,
    pub(crate) data_address: String,
}

/// The current attempt of one subtask.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) id: ExecutionAttemptId,
    pub(crate) state: ExecutionState,
    pub(crate) slot: Option<(AllocationId, ResourceId)>,
    pub(crate) timestamps: BTreeMap<ExecutionState, MonoTime>,
    pub(crate) metrics: TaskMetricsSnapshot,
    pub(crate) load: Option<TaskLoad>,
    /// When the counters were first those that are in `metrics`.
    reported: Option<MonoTime>,
    pub(crate) collected: Vec<(String, Vec<u8>)>,
}

impl Execution {
    fn new(id: ExecutionAttemptId, now: MonoTime) -> Self {
        Self {
            id,
            state: ExecutionState::Created,
            slot: None,
            timestamps: BTreeMap::from([(ExecutionState::Created, now)]),
            metrics: TaskMetricsSnapshot::default(),
            load: None,
            reported: None,
            collected: Vec::new(),
        }
    }

    /// Takes newer counters in. What a task did with its time is known from two reports; until the second it is not.
    pub(crate) fn report(&mut self, now: MonoTime, metrics: TaskMetricsSnapshot) {
        let old = std::mem::replace(&mut self.metrics, metrics);
        let Some(since) = self.reported else {
            self.reported = Some(now);
            return;
        };
        let parts = [
            metrics.busy_ms.saturating_sub(old.busy_ms),
            metrics.idle_ms.saturating_sub(old.idle_ms),
            metrics
                .backpressured_ms
                .saturating_sub(old.backpressured_ms),
        ];
        let all: u64 = parts.iter().sum();
        let measured = metrics.busy_ms + metrics.idle_ms + metrics.backpressured_ms > 0;
        if all > 0 {
            // Of the time that was measured: reports do not come as evenly as the task counts.
            let share = |part: u64| u32::try_from(part * 1000 / all).unwrap_or(1000);
            self.load = Some(TaskLoad {
                busy_ms_per_second: share(parts[0]),
                idle_ms_per_second: share(parts[1]),
                backpressured_ms_per_second: share(parts[2]),
                until: now,
            });
            self.reported = Some(now);
        } else if !measured || now.since(since) > LOAD_FADES {
            self.load = None;
        }
    }

    pub(crate) fn view(&self) -> TaskView {
        TaskView {
            execution: self.id,
            state: self.state,
            resource: self.resource().cloned(),
            timestamps: self.timestamps.clone(),
            metrics: self.metrics,
            load: self.load,
            collected: self
                .collected
                .iter()
                .map(|(sink, lines)| (sink.clone(), lines.len() as u64))
                .collect(),
        }
    }

    /// Where it was sent, if it was.
    pub(crate) fn resource(&self) -> Option<&ResourceId> {
        self.slot.as_ref().map(|(_, resource)| resource)
    }

    /// Whether its output is complete, and perhaps visible.
    fn is_done(&self) -> bool {
        DONE.contains(&self.state)
    }
}

/// The executions of a job.
#[derive(Debug)]
pub(crate) struct ExecutionGraph {
    graph: JobGraph,
    attempt: u32,
    /// By vertex in the order of the graph, then by subtask.
    executions: Vec<Execution>,
    /// Those of earlier attempts that are kept, the newest attempt last.
    past: Arc<Vec<TaskView>>,
    /// How many executions are in each state.
    counts: BTreeMap<ExecutionState, usize>,
    /// Index of the first execution of each vertex.
    first_of: BTreeMap<JobVertexId, usize>,
    /// Index of the first slot of each vertex: slots stand group by group, in the order of the graph.
    first_slot_of: BTreeMap<JobVertexId, usize>,
}

/// Slots that a job needs, by what they have.
pub(crate) fn slot_counts(graph: &JobGraph) -> SlotCounts {
    let mut counts = SlotCounts::new();
    for group in graph.slot_sharing_groups() {
        let count = counts.entry(group.profile).or_default();
        *count = count.saturating_add(group.slots);
    }
    counts
}

impl ExecutionGraph {
    /// `attempt` is the number of the first attempt.
    pub(crate) fn new(graph: JobGraph, attempt: u32, now: MonoTime) -> Self {
        let mut first_of = BTreeMap::new();
        let mut next = 0;
        for vertex in &graph.vertices {
            first_of.insert(vertex.id, next);
            next += vertex.parallelism as usize;
        }
        let mut first_slot_of = BTreeMap::new();
        let mut next = 0;
        for group in graph.slot_sharing_groups() {
            let vertices = graph.vertices.iter();
            for vertex in vertices.filter(|vertex| vertex.slot_sharing_group == group.name) {
                first_slot_of.insert(vertex.id, next);
            }
            next += group.slots as usize;
        }
        let mut this = Self {
            graph,
            attempt,
            executions: Vec::new(),
            past: Arc::default(),
            counts: BTreeMap::new(),
            first_of,
            first_slot_of,
        };
        this.begin_attempt(now);
        this
    }

    fn begin_attempt(&mut self, now: MonoTime) {
        let of_vertex = |vertex: &JobVertex| {
            let (id, attempt) = (vertex.id, self.attempt);
            (0..vertex.parallelism).map(move |subtask| {
                let id = ExecutionAttemptId {
                    vertex: id,
                    subtask,
                    attempt,
                };
                Execution::new(id, now)
            })
        };
        self.executions = self.graph.vertices.iter().flat_map(of_vertex).collect();
        self.counts = BTreeMap::from([(ExecutionState::Created, self.executions.len())]);
    }

    /// Begins the next attempt of all subtasks.
    pub(crate) fn restart(&mut self, now: MonoTime) {
        let kept = ATTEMPTS_KEPT * self.executions.len();
        let kept = kept.min(EXECUTIONS_KEPT / self.executions.len().max(1) * self.executions.len());
        let past = self.past.iter().cloned();
        let ended = self.executions.iter().map(Execution::view);
        let all: Vec<TaskView> = past.chain(ended).collect();
        let surplus = all.len().saturating_sub(kept);
        self.past = Arc::new(all.into_iter().skip(surplus).collect());
        self.attempt += 1;
        self.begin_attempt(now);
    }

    /// Executions of earlier attempts, as far as they are kept.
    pub(crate) fn past(&self) -> Arc<Vec<TaskView>> {
        Arc::clone(&self.past)
    }

    pub(crate) const fn graph(&self) -> &JobGraph {
        &self.graph
    }

    pub(crate) fn executions(&self) -> &[Execution] {
        &self.executions
    }

    pub(crate) fn execution_mut(&mut self, index: usize) -> &mut Execution {
        &mut self.executions[index]
    }

    /// Moves an execution to another state; answers the one before.
    pub(crate) fn enter(
        &mut self,
        now: MonoTime,
        index: usize,
        to: ExecutionState,
    ) -> ExecutionState {
        let execution = &mut self.executions[index];
        let from = std::mem::replace(&mut execution.state, to);
        execution.timestamps.insert(to, now);
        *self.counts.entry(from).or_default() -= 1;
        *self.counts.entry(to).or_default() += 1;
        from
    }

    /// Lets go of what nobody asks of a job that is over.
    pub(crate) fn shrink(&mut self) {
        for vertex in &mut self.graph.vertices {
            vertex.splits = Vec::new();
        }
        for execution in &mut self.executions {
            execution.collected = Vec::new();
            execution.timestamps = BTreeMap::new();
        }
        self.past = Arc::default();
    }

    /// Where the execution with this id stands, if it is of the current attempt.
    pub(crate) fn index_of(&self, id: ExecutionAttemptId) -> Option<usize> {
        let index = self.first_of.get(&id.vertex)? + id.subtask as usize;
        let execution = self.executions.get(index)?;
        (execution.id == id).then_some(index)
    }

    /// Whether every execution is in one of these states.
    pub(crate) fn all_in(&self, states: &[ExecutionState]) -> bool {
        let count = |state| self.counts.get(state).copied().unwrap_or(0);
        states.iter().map(count).sum::<usize>() == self.executions.len()
    }

    /// Gives each slot sharing group its slots; nothing if some are missing.
    pub(crate) fn assign<'a>(
        &self,
        held: impl Iterator<Item = &'a HeldSlot>,
    ) -> Option<Vec<HeldSlot>> {
        let mut free: BTreeMap<Option<SlotProfile>, VecDeque<&HeldSlot>> = BTreeMap::new();
        for slot in held {
            free.entry(slot.profile).or_default().push_back(slot);
        }
        let mut slots = Vec::new();
        for group in self.graph.slot_sharing_groups() {
            let of_profile = free.get_mut(&group.profile)?;
            for _ in 0..group.slots {
                slots.push(of_profile.pop_front()?.clone());
            }
        }
        Some(slots)
    }

    /// Index of the slot that an execution runs in: subtask i in the i-th of its group.
    pub(crate) fn slot_of(&self, id: ExecutionAttemptId) -> usize {
        self.slot_index(id.vertex, id.subtask)
    }

    fn slot_index(&self, vertex: JobVertexId, subtask: u32) -> usize {
        self.first_slot_of[&vertex] + subtask as usize
    }

    /// The deployments of all executions, in topological order, in slots as [`Self::assign`] gives them.
    pub(crate) fn deployments(&self, job: JobId, slots: &[HeldSlot]) -> Vec<TaskDeployment> {
        let deploy = |execution: &Execution| {
            let id = execution.id;
            let vertex = self
                .graph
                .vertex(id.vertex)
                .expect("executions are made from the graph's vertices");
            TaskDeployment {
                job,
                allocation: slots[self.slot_of(id)].allocation,
                execution: id,
                parallelism: vertex.parallelism,
                max_parallelism: vertex.max_parallelism,
                splits: vertex
                    .splits
                    .get(id.subtask as usize)
                    .cloned()
                    .unwrap_or_default(),
                inputs: self
                    .graph
                    .inputs_of(id.vertex)
                    .map(|(edge, e)| self.input_gate(edge, e, id.subtask, slots))
                    .collect(),
                outputs: self
                    .graph
                    .outputs_of(id.vertex)
                    .map(|(edge, e)| {
                        let (producers, consumers) = self.ends(e);
                        let consumers = e
                            .partitioning
                            .consumers_of(id.subtask, producers, consumers);
                        ResultPartitionDescriptor {
                            edge,
                            consumers: consumers.collect(),
                        }
                    })
                    .collect(),
                restore: None,
            }
        };
        self.executions.iter().map(deploy).collect()
    }

    fn input_gate(
        &self,
        index: u32,
        edge: &JobEdge,
        subtask: u32,
        slots: &[HeldSlot],
    ) -> InputGateDescriptor {
        let channel = |producer: u32| InputChannelDescriptor {
            producer: ExecutionAttemptId {
                vertex: edge.source,
                subtask: producer,
                attempt: self.attempt,
            },
            data_address: slots[self.slot_index(edge.source, producer)]
                .data_address
                .clone(),
        };
        let (producers, consumers) = self.ends(edge);
        let producers = edge
            .partitioning
            .producers_of(subtask, producers, consumers);
        InputGateDescriptor {
            edge: index,
            channels: producers.map(channel).collect(),
        }
    }

    /// Number of producers and of consumers of an edge.
    fn ends(&self, edge: &JobEdge) -> (u32, u32) {
        let parallelism = |id| self.graph.vertex(id).map_or(0, |vertex| vertex.parallelism);
        (parallelism(edge.source), parallelism(edge.target))
    }

    /// What the sinks collected, by name, in the order of the subtasks.
    pub(crate) fn collected(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (name, lines) in self.executions.iter().flat_map(|e| &e.collected) {
            all.entry(name.clone()).or_default().extend(lines);
        }
        all
    }

    /// Share of the sources' input that was read, 0 to 1; what does not tell has read nothing until it is done.
    pub(crate) fn source_progress(&self) -> f64 {
        let (mut sum, mut count) = (0.0, 0_u32);
        for vertex in self.graph.vertices.iter().filter(|v| v.is_source()) {
            let first = self.first_of[&vertex.id];
            for execution in &self.executions[first..first + vertex.parallelism as usize] {
                count += 1;
                sum += if execution.is_done() {
                    1.0
                } else {
                    execution.metrics.progress.unwrap_or(0.0).clamp(0.0, 1.0)
                };
            }
        }
        if count == 0 {
            0.0
        } else {
            sum / f64::from(count)
        }
    }
}

#[cfg(test)]
mod tests;
