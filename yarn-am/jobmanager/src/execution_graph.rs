//! A job graph as it runs: one execution for each parallel subtask, all of the same attempt. Flink: `ExecutionGraph`.

use std::collections::BTreeMap;

use spindle_common::execution::ExecutionState;
use spindle_common::gateway::{
    InputChannelDescriptor, InputGateDescriptor, ResultPartitionDescriptor, TaskDeployment,
    TaskMetricsSnapshot,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId, ResourceId};
use spindle_common::job_graph::{JobEdge, JobGraph, JobVertex};
use spindle_common::time::MonoTime;

/// A slot that a job holds: its worker runs and can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldSlot {
    pub(crate) allocation: AllocationId,
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

    /// Whether it stands there, its output complete and perhaps visible.
    const fn is_done(&self) -> bool {
        matches!(
            self.state,
            ExecutionState::AwaitingCommit | ExecutionState::Finished
        )
    }
}

/// The executions of a job.
#[derive(Debug)]
pub(crate) struct ExecutionGraph {
    graph: JobGraph,
    attempt: u32,
    /// By vertex in the order of the graph, then by subtask.
    executions: Vec<Execution>,
    /// Index of the first execution of each vertex.
    first_of: BTreeMap<JobVertexId, usize>,
}

impl ExecutionGraph {
    pub(crate) fn new(graph: JobGraph, now: MonoTime) -> Self {
        let mut first_of = BTreeMap::new();
        let mut next = 0;
        for vertex in &graph.vertices {
            first_of.insert(vertex.id, next);
            next += vertex.parallelism as usize;
        }
        let mut this = Self {
            graph,
            attempt: 0,
            executions: Vec::new(),
            first_of,
        };
        this.executions = this.fresh(now);
        this
    }

    fn fresh(&self, now: MonoTime) -> Vec<Execution> {
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
        self.graph.vertices.iter().flat_map(of_vertex).collect()
    }

    /// Begins the next attempt of all subtasks.
    pub(crate) fn restart(&mut self, now: MonoTime) {
        self.attempt += 1;
        self.executions = self.fresh(now);
    }

    pub(crate) const fn graph(&self) -> &JobGraph {
        &self.graph
    }

    pub(crate) fn executions(&self) -> &[Execution] {
        &self.executions
    }

    pub(crate) fn executions_mut(&mut self) -> &mut [Execution] {
        &mut self.executions
    }

    /// Where the execution with this id stands, if it is of the current attempt.
    pub(crate) fn index_of(&self, id: ExecutionAttemptId) -> Option<usize> {
        let index = self.first_of.get(&id.vertex)? + id.subtask as usize;
        let execution = self.executions.get(index)?;
        (execution.id == id).then_some(index)
    }

    pub(crate) fn all_done(&self) -> bool {
        self.executions.iter().all(Execution::is_done)
    }

    pub(crate) fn all_in(&self, state: ExecutionState) -> bool {
        self.executions.iter().all(|e| e.state == state)
    }

    pub(crate) fn all_terminal(&self) -> bool {
        self.executions.iter().all(|e| e.state.is_terminal())
    }

    /// The deployments of all executions, in topological order: subtask i of every vertex in slot i.
    pub(crate) fn deployments(&self, job: JobId, slots: &[HeldSlot]) -> Vec<TaskDeployment> {
        let deploy = |execution: &Execution| {
            let id = execution.id;
            let vertex = self
                .graph
                .vertex(id.vertex)
                .expect("executions are made from the graph's vertices");
            TaskDeployment {
                job,
                allocation: slots[id.subtask as usize].allocation,
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
                    .map(|(edge, e)| ResultPartitionDescriptor {
                        edge,
                        consumers: self.peers(e, e.target, id.subtask),
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
            data_address: slots[producer as usize].data_address.clone(),
        };
        InputGateDescriptor {
            edge: index,
            channels: self
                .peers(edge, edge.source, subtask)
                .into_iter()
                .map(channel)
                .collect(),
        }
    }

    /// Subtasks at the `end` of an edge that the subtask at its other end has a channel with.
    fn peers(&self, edge: &JobEdge, end: JobVertexId, subtask: u32) -> Vec<u32> {
        if edge.partitioning.is_all_to_all() {
            let vertex = self.graph.vertex(end);
            (0..vertex.map_or(0, |vertex| vertex.parallelism)).collect()
        } else {
            vec![subtask]
        }
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
