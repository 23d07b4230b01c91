//! The processes of workers and the programs that they run: what is under way for each.

use std::path::Path;
use std::sync::Arc;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{TaskExecutorReport, TaskReport, WorkerReport};
use spindle_common::id::JobId;
use spindle_common::job_graph::{ProgramArtifact, ProgramSpec};
use spindle_common::program::WorkerInit;
use tokio::task::{self, JoinError};
use tokio::time::timeout;

use super::{Fetched, KILL_PATIENCE, Shell, Supervised, report};
use crate::memory::resident_bytes;
use crate::program;
use crate::task_executor::{Input, WorkerId};
use crate::worker_process::{Supervision, WorkerProcess};

impl Shell {
    pub(super) fn start(
        &mut self,
        worker: WorkerId,
        job: JobId,
        program: &ProgramSpec,
        config: Vec<(String, String)>,
        memory_limit_bytes: u64,
    ) {
        let init = WorkerInit {
            secret: self.secret.to_hex(),
            task_executor: self.workers_at.clone(),
            fencing: self.spec.fencing,
            host: self.spec.host.clone(),
            job,
            config,
            hadoop: self.spec.hadoop.clone(),
            user: self.spec.user.clone(),
        };
        let process = match WorkerProcess::start(program, &init, &self.log_dir) {
            Ok(process) => process,
            Err(error) => {
                let how = report(&error);
                self.processes
                    .spawn(async move { (worker, format!("could not be started: {how}")) });
                return;
            }
        };
        let pid = process.pid().unwrap_or_default();
        tracing::info!(worker = worker.0, %job, pid, memory_limit_bytes, "worker started");
        let supervision = Arc::new(Supervision::default());
        // It does nothing before it is told what it is for.
        supervision.limit(pid, memory_limit_bytes);
        self.workers.insert(
            worker,
            Supervised {
                job,
                pid,
                supervision: Arc::clone(&supervision),
                outgoing: None,
            },
        );
        self.processes
            .spawn(async move { (worker, process.ended(supervision).await) });
    }

    pub(super) fn fetch(&mut self, artifact: ProgramArtifact) {
        let (hadoop, user) = (self.spec.hadoop.clone(), self.spec.user.clone());
        let wanted = artifact.clone();
        let fetch = async move {
            program::fetch(&wanted, &hadoop, &user, Path::new("."))
                .await
                .map_err(program::FetchError::into_cause)
        };
        let id = self.fetches.spawn(fetch).id();
        self.fetching.insert(id, artifact);
    }

    pub(super) fn fetched(
        &mut self,
        fetched: Result<(task::Id, Fetched), JoinError>,
    ) -> Option<Input> {
        let (id, result) = fetched.unwrap_or_else(|error| {
            let cause = FailureCause {
                class: FailureClass::Restart,
                operator: None,
                message: format!("failed to fetch the program: {error}"),
            };
            (error.id(), Err(cause))
        });
        let artifact = self.fetching.remove(&id)?;
        Some(Input::ProgramFetched(artifact, result))
    }

    pub(super) fn memory(&self) -> Input {
        let resident = |(&id, worker): (&WorkerId, &Supervised)| (id, resident_bytes(worker.pid));
        Input::Memory(self.workers.iter().map(resident).collect())
    }

    pub(super) fn report(&self, tasks: Vec<TaskReport>) -> TaskExecutorReport {
        let workers = self.workers.values().map(|worker| WorkerReport {
            job: worker.job,
            pid: worker.pid,
            resident_bytes: resident_bytes(worker.pid),
        });
        TaskExecutorReport {
            resident_bytes: resident_bytes(std::process::id()),
            workers: workers.collect(),
            tasks,
        }
    }

    /// Kills all workers and waits until they are gone.
    pub(super) async fn kill_all(mut self) {
        for worker in self.workers.values() {
            worker.supervision.kill();
        }
        let gone = async { while self.processes.join_next().await.is_some() {} };
        if timeout(KILL_PATIENCE, gone).await.is_err() {
            tracing::warn!("some workers were killed but are not gone");
        }
    }
}
