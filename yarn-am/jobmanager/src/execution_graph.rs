//! A job graph as it runs: one execution for each parallel subtask, all of the same attempt. Flink: `ExecutionGraph`.

use std::collections::{BTreeMap, VecDeque};

use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    InputChannelDescriptor, InputGateDescriptor, ResultPartitionDescriptor, TaskDeployment,
    TaskMetricsSnapshot,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId, ResourceId};
use spindle_common::job_graph::{JobEdge, JobGraph, JobVertex};
use spindle_common::resource::SlotProfile;
use spindle_common::time::MonoTime;

use crate::resource_manager::SlotCounts;

/// The states of an execution whose output is complete.
pub(crate) const DONE: &[ExecutionState] =
    &[ExecutionState::AwaitingCommit, ExecutionState::Finished];

/// The states that nothing follows on.
pub(crate) const TERMINAL: &[ExecutionState] = &[
    ExecutionState::Finished,
    ExecutionState::Canceled,
    ExecutionState::Failed,
];

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
            collected: Vec::new(),
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
        self.attempt += 1;
        self.begin_attempt(now);
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

    /// Lets go of what only tasks that are still to be sent need.
    pub(crate) fn shrink(&mut self) {
        for vertex in &mut self.graph.vertices {
            vertex.splits = Vec::new();
        }
        for execution in &mut self.executions {
            execution.collected = Vec::new();
        }
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
