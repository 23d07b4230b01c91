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
        let mut this = Self {
            graph,
            attempt,
            executions: Vec::new(),
            counts: BTreeMap::new(),
            first_of,
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
            data_address: slots[producer as usize].data_address.clone(),
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
mod tests {
    use spindle_common::job_graph::{OperatorDescriptor, OperatorKind, Partitioning};

    use super::*;

    fn vertex(name: &str, kind: OperatorKind, parallelism: u32) -> JobVertex {
        JobVertex {
            id: JobVertexId::of_uid(name),
            parallelism,
            max_parallelism: 128,
            operators: vec![OperatorDescriptor {
                uid: name.to_owned(),
                name: name.to_owned(),
                kind,
            }],
            splits: Vec::new(),
            staging: Vec::new(),
        }
    }

    /// `a` (2) is joined forward to `b` (2), and all to all to `c` (1), which `b` feeds too.
    fn graph() -> ExecutionGraph {
        let a = vertex("a", OperatorKind::Source, 2);
        let b = vertex("b", OperatorKind::Transform, 2);
        let c = vertex("c", OperatorKind::Sink, 1);
        let edge = |source: &JobVertex, target: &JobVertex, partitioning| JobEdge {
            source: source.id,
            target: target.id,
            partitioning,
        };
        let edges = vec![
            edge(&b, &c, Partitioning::Rebalance),
            edge(&a, &b, Partitioning::Forward),
            edge(&a, &c, Partitioning::Broadcast),
        ];
        let graph = JobGraph {
            name: "job".to_owned(),
            vertices: vec![a, b, c],
            edges,
        };
        ExecutionGraph::new(graph, 0, MonoTime::ZERO)
    }

    #[test]
    fn a_forward_edge_has_one_channel_and_the_others_have_one_to_each() {
        let slot = |n: u64| HeldSlot {
            allocation: AllocationId(n),
            resource: ResourceId::new(format!("tm{n}")),
            data_address: format!("host{n}:1"),
        };
        let job = JobId::from_bytes([1; 16]);
        let tasks = graph().deployments(job, &[slot(5), slot(6)]);
        let order: Vec<_> = tasks.iter().map(|task| task.execution).collect();
        let id = |uid, subtask| ExecutionAttemptId {
            vertex: JobVertexId::of_uid(uid),
            subtask,
            attempt: 0,
        };
        assert_eq!(
            order,
            [id("a", 0), id("a", 1), id("b", 0), id("b", 1), id("c", 0)]
        );

        let outputs: Vec<_> = tasks[1].outputs.iter().collect();
        assert_eq!((outputs[0].edge, &outputs[0].consumers[..]), (1, &[1][..]));
        assert_eq!((outputs[1].edge, &outputs[1].consumers[..]), (2, &[0][..]));

        let channels = |gate: &InputGateDescriptor| -> Vec<_> {
            let channels = gate.channels.iter();
            channels
                .map(|c| (c.producer, c.data_address.clone()))
                .collect()
        };
        let (first, second) = ("host5:1".to_owned(), "host6:1".to_owned());
        assert_eq!(
            channels(&tasks[3].inputs[0]),
            [(id("a", 1), second.clone())]
        );
        let edges: Vec<u32> = tasks[4].inputs.iter().map(|gate| gate.edge).collect();
        assert_eq!(edges, [0, 2]);
        assert_eq!(
            channels(&tasks[4].inputs[0]),
            [(id("b", 0), first), (id("b", 1), second)]
        );
        assert_eq!(tasks[4].allocation, AllocationId(5));
    }

    #[test]
    fn an_execution_of_another_attempt_is_not_found() {
        let mut graph = graph();
        let id = graph.executions()[3].id;
        assert_eq!(graph.index_of(id), Some(3));
        graph.restart(MonoTime::ZERO);
        assert_eq!(graph.index_of(id), None);
        assert_eq!(graph.executions()[3].id.attempt, 1);
    }

    #[test]
    fn progress_is_the_mean_of_the_sources() {
        let mut graph = graph();
        graph.execution_mut(0).metrics.progress = Some(0.5);
        graph.execution_mut(2).metrics.progress = Some(1.0);
        assert_eq!(graph.source_progress(), 0.25);
        graph.enter(MonoTime::ZERO, 1, ExecutionState::Finished);
        assert_eq!(graph.source_progress(), 0.75);
    }
}
