//! What the machine knows of the worker of a job.

use std::collections::BTreeMap;
use std::time::Duration;

use spindle_common::config::parse_duration;
use spindle_common::id::ExecutionAttemptId;
use spindle_common::job_graph::{ProgramArtifact, ProgramSpec};
use spindle_common::time::MonoTime;

use super::WorkerId;

const CANCELLATION_TIMEOUT_KEY: &str = "task.cancellation.timeout";
const DEFAULT_CANCELLATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The worker of a job that has a slot.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) fingerprint: u64,
    /// How long a task may take to stop; as long as it likes if absent.
    pub(super) cancellation: Option<Duration>,
    /// The tasks that it was given and that have not ended; with the time by which one has to that was cancelled.
    pub(super) tasks: BTreeMap<ExecutionAttemptId, Option<MonoTime>>,
    pub(super) state: WorkerState,
}

#[derive(Debug)]
pub(super) enum WorkerState {
    /// Its program is on the way: there is no process yet.
    Fetching {
        artifact: ProgramArtifact,
        program: ProgramSpec,
        config: Vec<(String, String)>,
    },
    Starting {
        until: MonoTime,
    },
    Ready {
        data_address: String,
    },
    /// It ran, but its stream broke; killed if it does not end by itself.
    Disconnected {
        reason: String,
        until: MonoTime,
    },
    /// Killed by us, its process not gone yet.
    Killed {
        why: String,
    },
}

impl Worker {
    /// When it has done something that is still awaited, or is killed.
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        match &self.state {
            WorkerState::Starting { until } | WorkerState::Disconnected { until, .. } => {
                Some(*until)
            }
            WorkerState::Ready { .. } => self.tasks.values().filter_map(|until| *until).min(),
            WorkerState::Fetching { .. } | WorkerState::Killed { .. } => None,
        }
    }

    /// Whether it has a process that was not killed.
    pub(super) fn is_running(&self) -> bool {
        match self.state {
            WorkerState::Starting { .. }
            | WorkerState::Ready { .. }
            | WorkerState::Disconnected { .. } => true,
            WorkerState::Fetching { .. } | WorkerState::Killed { .. } => false,
        }
    }

    /// A task was told to stop. One that has ended already will not say so again.
    pub(super) fn cancel(&mut self, now: MonoTime, execution: ExecutionAttemptId) {
        if let Some(patience) = self.cancellation
            && let Some(until) = self.tasks.get_mut(&execution)
        {
            until.get_or_insert(now + patience);
        }
    }

    /// Why it has to be killed, if it has: its time is over.
    pub(super) fn overdue(&self, now: MonoTime) -> Option<String> {
        match &self.state {
            WorkerState::Disconnected { reason, until } if *until <= now => {
                Some(format!("its stream had broken ({reason})"))
            }
            WorkerState::Ready { .. } => {
                let late = |(_, until): &(_, &Option<MonoTime>)| until.is_some_and(|at| at <= now);
                let (execution, _) = self.tasks.iter().find(late)?;
                let patience = self.cancellation.unwrap_or_default().as_secs_f64();
                Some(format!(
                    "its task {execution} did not stop within {patience} s of being cancelled; {CANCELLATION_TIMEOUT_KEY} leaves no more"
                ))
            }
            WorkerState::Fetching { .. }
            | WorkerState::Starting { .. }
            | WorkerState::Disconnected { .. }
            | WorkerState::Killed { .. } => None,
        }
    }
}

/// How long a cancelled task may take here: less than the JobManager waits, which has nothing smaller to end than the whole container.
pub(super) fn cancellation_patience(config: &[(String, String)]) -> Option<Duration> {
    let last = config
        .iter()
        .rfind(|(key, _)| key == CANCELLATION_TIMEOUT_KEY);
    let timeout = last
        .and_then(|(_, value)| parse_duration(value, Duration::from_millis(1)))
        .unwrap_or(DEFAULT_CANCELLATION_TIMEOUT);
    Some(timeout / 5 * 4).filter(|patience| !patience.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_task_gets_less_time_than_the_job_manager_gives() {
        let of = |values: &[&str]| {
            let pair = |value: &&str| (CANCELLATION_TIMEOUT_KEY.to_owned(), (*value).to_owned());
            cancellation_patience(&values.iter().map(pair).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Some(Duration::from_secs(24)));
        assert_eq!(of(&["1 min", "10 s"]), Some(Duration::from_secs(8)));
        assert_eq!(of(&["0"]), None);
    }
}
