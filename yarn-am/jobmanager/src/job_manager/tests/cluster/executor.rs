//! A TaskExecutor with its workers, as far as the JobManager can tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spindle_common::checkpoint::CheckpointId;
use spindle_common::execution::{ExecutionState, FailureCause, FailureClass};
use spindle_common::gateway::{
    TaskCheckpoint, TaskCheckpointOutcome, TaskExecutorRegistration, TaskExecutorReport,
    TaskMetricsSnapshot, TaskStateUpdate, ToJobManager, ToTaskExecutor,
};
use spindle_common::id::{AllocationId, ExecutionAttemptId, JobId, JobVertexId, ResourceId};
use spindle_common::resource::{ByteSize, SlotProfile};

use super::checkpoints::acknowledgement;

pub(super) struct Executor {
    pub(super) resource: ResourceId,
    pub(super) alive: bool,
    /// Nothing goes in or out any more, though the stream is open.
    pub(super) silent: bool,
    pub(super) ignores_cancel: bool,
    pub(super) ignores_commit: bool,
    /// Its tasks have much to do.
    pub(super) lingers: bool,
    /// How many slot requests it will refuse.
    pub(super) refusals: u32,
    pub(super) inbox: VecDeque<ToTaskExecutor>,
    outbox: VecDeque<ToJobManager>,
    slots: BTreeMap<u32, (AllocationId, JobId)>,
    /// What its slots have together at most, and what one has that does not say.
    memory: ByteSize,
    equal_part: ByteSize,
    leased: BTreeMap<AllocationId, ByteSize>,
    tasks: BTreeMap<(JobId, ExecutionAttemptId), (AllocationId, ExecutionState)>,
    /// Barriers that have come to its tasks, as far as they have done nothing about them.
    barriers: BTreeSet<(JobId, ExecutionAttemptId, CheckpointId)>,
    /// Those that they have done something about.
    answered: BTreeSet<(JobId, ExecutionAttemptId, CheckpointId)>,
    /// Tasks that began with what others left that had finished.
    restored_as_finished: BTreeSet<(JobId, ExecutionAttemptId)>,
}

impl Executor {
    pub(super) fn new(
        resource: ResourceId,
        registration: TaskExecutorRegistration,
        memory: ByteSize,
        equal_part: ByteSize,
    ) -> Self {
        Self {
            resource,
            memory,
            equal_part,
            alive: true,
            silent: false,
            ignores_cancel: false,
            ignores_commit: false,
            lingers: true,
            refusals: 0,
            inbox: VecDeque::new(),
            outbox: VecDeque::from([ToJobManager::Register(registration)]),
            slots: BTreeMap::new(),
            leased: BTreeMap::new(),
            tasks: BTreeMap::new(),
            barriers: BTreeSet::new(),
            answered: BTreeSet::new(),
            restored_as_finished: BTreeSet::new(),
        }
    }

    /// What it has sent before its death may still arrive; what was sent to it will not.
    pub(super) fn die(&mut self) {
        self.alive = false;
        self.inbox.clear();
    }

    /// The JobManager has ended the stream.
    pub(super) fn cut(&mut self) {
        self.silent = true;
    }

    pub(super) fn can_send(&self) -> bool {
        !self.silent && !self.outbox.is_empty()
    }

    pub(super) fn can_receive(&self) -> bool {
        self.alive && !self.silent && !self.inbox.is_empty()
    }

    pub(super) fn send(&mut self) -> Option<ToJobManager> {
        self.outbox.pop_front()
    }

    pub(super) fn heartbeat(&mut self) {
        let registered = !matches!(self.outbox.front(), Some(ToJobManager::Register(_)));
        if self.alive && !self.silent && registered {
            let report = TaskExecutorReport::default();
            self.outbox.push_back(ToJobManager::Heartbeat(report));
        }
    }

    /// Handles one message; answers whether it was told to end.
    pub(super) fn receive(&mut self) -> bool {
        match self.inbox.pop_front() {
            Some(ToTaskExecutor::RequestSlot(request)) => {
                let (allocation, job) = (request.allocation, request.job);
                let before = self.slots.get(&request.slot);
                assert_eq!(before, None, "slot {} is leased twice", request.slot);
                self.check_memory(allocation, request.profile);
                self.outbox.push_back(if self.refusals > 0 {
                    self.refusals -= 1;
                    ToJobManager::SlotUnavailable {
                        allocation,
                        job,
                        cause: lost("the worker does not start"),
                    }
                } else {
                    self.slots.insert(request.slot, (allocation, job));
                    ToJobManager::OfferSlot {
                        allocation,
                        job,
                        data_address: format!("{}:1", self.resource),
                    }
                });
            }
            Some(ToTaskExecutor::FreeSlot { allocation }) => {
                self.slots.retain(|_, (held, _)| *held != allocation);
                self.tasks.retain(|_, (held, _)| *held != allocation);
            }
            Some(ToTaskExecutor::SubmitTask(task)) => {
                // Else its worker was lost while the task was on its way.
                let slot = (task.allocation, task.job);
                if self.slots.values().any(|held| *held == slot) {
                    let state = ExecutionState::Deploying;
                    let place = |job, id: ExecutionAttemptId| (job, id.vertex, id.subtask);
                    let runs = self.tasks.iter().any(|((job, id), (_, state))| {
                        place(*job, *id) == place(task.job, task.execution) && !state.is_terminal()
                    });
                    assert!(!runs, "two attempts of one subtask run: {}", task.execution);
                    let key = (task.job, task.execution);
                    if task.restore.is_some_and(|restore| restore.finished) {
                        self.restored_as_finished.insert(key);
                    }
                    self.tasks.insert(key, (task.allocation, state));
                }
            }
            Some(ToTaskExecutor::CancelTask { job, execution }) => {
                if !self.ignores_cancel {
                    self.enter((job, execution), ExecutionState::Canceled, None);
                }
            }
            Some(ToTaskExecutor::CommitTask { job, execution }) => {
                if let Some((_, state)) = self.tasks.get(&(job, execution)) {
                    let ended = state.is_terminal();
                    assert!(
                        ended || *state == ExecutionState::AwaitingCommit,
                        "{execution} is to commit though it is {state:?}"
                    );
                    if !self.ignores_commit {
                        self.enter((job, execution), ExecutionState::Finished, None);
                    }
                }
            }
            Some(ToTaskExecutor::TriggerCheckpoint {
                job,
                execution,
                barrier,
            }) => {
                let state = self.tasks.get(&(job, execution)).map(|(_, state)| *state);
                let asked = state == Some(ExecutionState::AwaitingCommit);
                if asked && !self.answered.contains(&(job, execution, barrier.id)) {
                    self.barriers.insert((job, execution, barrier.id));
                }
                self.barrier(job, execution, barrier.id);
            }
            Some(ToTaskExecutor::ShutDown { .. }) => return true,
            Some(
                ToTaskExecutor::Registered { .. }
                | ToTaskExecutor::CheckpointComplete { .. }
                | ToTaskExecutor::CheckpointAborted { .. }
                | ToTaskExecutor::Inquire { .. },
            )
            | None => {}
        }
        false
    }

    /// No slot takes memory that another one has.
    fn check_memory(&mut self, allocation: AllocationId, profile: Option<SlotProfile>) {
        let held: BTreeSet<_> = self.slots.values().map(|(held, _)| *held).collect();
        self.leased.retain(|lease, _| held.contains(lease));
        let memory = profile.map_or(self.equal_part, |profile| profile.memory);
        self.leased.insert(allocation, memory);
        let all: u64 = self.leased.values().map(|memory| memory.as_bytes()).sum();
        let most = self.memory.as_bytes();
        assert!(
            all <= most,
            "{all} of {most} bytes of {} are leased",
            self.resource
        );
    }

    fn enter(
        &mut self,
        (job, execution): (JobId, ExecutionAttemptId),
        state: ExecutionState,
        cause: Option<FailureCause>,
    ) {
        let Some((_, old)) = self.tasks.get_mut(&(job, execution)) else {
            return;
        };
        if old.is_terminal() {
            return;
        }
        *old = state;
        self.outbox
            .push_back(ToJobManager::TaskState(TaskStateUpdate {
                job,
                execution,
                state,
                cause,
                metrics: TaskMetricsSnapshot::default(),
                collected: Vec::new(),
            }));
    }

    /// A barrier has come to a task, if it runs here.
    pub(super) fn barrier(&mut self, job: JobId, task: ExecutionAttemptId, id: CheckpointId) {
        if let Some((_, ExecutionState::Running)) = self.tasks.get(&(job, task)) {
            self.barriers.insert((job, task, id));
        }
    }

    /// The tasks that run here and get their barriers from others.
    pub(super) fn sinks(&self) -> Vec<(JobId, ExecutionAttemptId)> {
        let sink = JobVertexId::of_uid("sink");
        let running = self.running().into_iter();
        running
            .map(|(task, _)| task)
            .filter(|(_, task)| task.vertex == sink)
            .collect()
    }

    /// One task does something about a barrier; answers where it was, for those behind it.
    pub(super) fn pass_barrier(
        &mut self,
        n: usize,
        declines: bool,
    ) -> Option<(JobId, ExecutionAttemptId, CheckpointId)> {
        let all: Vec<_> = self.barriers.iter().copied().collect();
        let (job, task, id) = *all.get(n % all.len().max(1))?;
        self.barriers.remove(&(job, task, id));
        let state = self.tasks.get(&(job, task)).map(|(_, state)| *state);
        let state = state.filter(|state| !state.is_terminal() && self.alive)?;
        self.answered.insert((job, task, id));
        let finished = state == ExecutionState::AwaitingCommit
            || self.restored_as_finished.contains(&(job, task));
        self.outbox.push_back(if declines {
            ToJobManager::TaskCheckpoint(TaskCheckpoint {
                job,
                execution: task,
                checkpoint: id,
                outcome: TaskCheckpointOutcome::Declined {
                    reason: "the disk is full".to_owned(),
                },
            })
        } else {
            acknowledgement(job, task, id, finished)
        });
        Some((job, task, id))
    }

    fn running(&self) -> Vec<((JobId, ExecutionAttemptId), ExecutionState)> {
        let tasks = self.tasks.iter().map(|(id, (_, state))| (*id, *state));
        tasks.filter(|(_, state)| !state.is_terminal()).collect()
    }

    /// Its sources that have read all.
    pub(super) fn ended_sources(&self) -> impl Iterator<Item = (JobId, ExecutionAttemptId)> + '_ {
        let source = JobVertexId::of_uid("src");
        let tasks = self.tasks.iter();
        tasks
            .filter(move |((_, id), (_, state))| {
                id.vertex == source && *state == ExecutionState::Finished
            })
            .map(|(task, _)| *task)
    }

    /// One task goes one state on. A sink ends when `all_read` says that all its sources have, behind all barriers that have come to it.
    pub(super) fn work(&mut self, n: usize, all_read: &dyn Fn(JobId, ExecutionAttemptId) -> bool) {
        let running = self.running();
        if running.is_empty() {
            return;
        }
        let (task, state) = running[n % running.len()];
        let is_sink = task.1.vertex == JobVertexId::of_uid("sink");
        let restored = self.restored_as_finished.contains(&task);
        let mut barriers = self.barriers.iter();
        let reads = is_sink
            && (!all_read(task.0, task.1) || barriers.any(|(job, id, _)| (*job, *id) == task));
        let next = match state {
            ExecutionState::Deploying => ExecutionState::Initializing,
            ExecutionState::Initializing => ExecutionState::Running,
            ExecutionState::Running if reads => return,
            ExecutionState::Running if restored => ExecutionState::Finished,
            ExecutionState::Running if self.lingers && n % 24 != 23 => return,
            ExecutionState::Running if is_sink => ExecutionState::AwaitingCommit,
            ExecutionState::Running => ExecutionState::Finished,
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::AwaitingCommit
            | ExecutionState::Finished
            | ExecutionState::Canceling
            | ExecutionState::Canceled
            | ExecutionState::Failed => return,
        };
        self.enter(task, next, None);
    }

    pub(super) fn work_on_all(&mut self, all_read: &dyn Fn(JobId, ExecutionAttemptId) -> bool) {
        for n in 0..self.tasks.len() {
            self.work(n, all_read);
        }
    }

    pub(super) fn fail_task(&mut self, n: usize, cause: FailureCause) {
        let running = self.running();
        if !running.is_empty() {
            let (task, _) = running[n % running.len()];
            self.enter(task, ExecutionState::Failed, Some(cause));
        }
    }

    /// One of its jobs loses its worker.
    pub(super) fn lose_worker(&mut self, n: usize) {
        if self.slots.is_empty() {
            return;
        }
        let slots: Vec<_> = self.slots.values().collect();
        let (_, job) = *slots[n % slots.len()];
        self.slots.retain(|_, (_, of)| *of != job);
        self.tasks.retain(|(of, _), _| *of != job);
        self.outbox.push_back(ToJobManager::WorkerLost {
            job,
            cause: lost("killed by signal 9"),
        });
    }
}

fn lost(message: &str) -> FailureCause {
    FailureCause {
        class: FailureClass::Restart,
        operator: None,
        message: message.to_owned(),
    }
}
