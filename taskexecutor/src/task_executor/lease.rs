//! Leasing slots: the worker that comes with a job's first one, its program, and the memory that its slots are worth.

use std::collections::BTreeMap;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{SlotRequest, ToJobManager};
use spindle_common::id::{AllocationId, JobId};
use spindle_common::job_graph::{ProgramArtifact, ProgramSpec};
use spindle_common::resource::SlotProfile;
use spindle_common::time::MonoTime;

use super::programs::{Need, is_sha256};
use super::worker::{Worker, WorkerState, cancellation_patience};
use super::{Allocation, Effect, HELLO_TIMEOUT, TaskExecutor, WorkerId};

impl TaskExecutor {
    pub(super) fn handle_request(
        &mut self,
        now: MonoTime,
        request: SlotRequest,
        out: &mut Vec<Effect>,
    ) {
        let SlotRequest {
            allocation,
            slot,
            job,
            program,
            graph_fingerprint,
            config,
            profile,
        } = request;
        if self.allocations.contains_key(&allocation) {
            tracing::warn!(%allocation, "slot was requested twice");
            return;
        }
        if let Err(cause) = self.check_request(slot, profile, &program) {
            out.push(Effect::Tell(ToJobManager::SlotUnavailable {
                allocation,
                job,
                cause,
            }));
            return;
        }
        let leased = Allocation { slot, job, profile };
        self.allocations.insert(allocation, leased);
        let Some(worker) = self.workers.get(&job) else {
            return self.begin_worker(now, job, program, graph_fingerprint, config, out);
        };
        if worker.is_running() {
            self.limit(job, worker.id, out);
        }
        // Offered when it is ready; lost with the worker if it never is.
        if let WorkerState::Ready { data_address } = &worker.state {
            let data_address = data_address.clone();
            out.push(Effect::Tell(ToJobManager::OfferSlot {
                allocation,
                job,
                data_address,
            }));
        }
    }

    fn check_request(
        &self,
        slot: u32,
        profile: Option<SlotProfile>,
        program: &ProgramSpec,
    ) -> Result<(), FailureCause> {
        let refuse = |class, message| {
            Err(FailureCause {
                class,
                operator: None,
                message,
            })
        };
        if self.shutting_down.is_some() {
            let message = "the TaskExecutor is shutting down".to_owned();
            return refuse(FailureClass::Retry, message);
        }
        let mut slots = self.allocations.values().map(|held| held.profile);
        let only_equal_parts = profile.is_none() && slots.all(|of| of.is_none());
        if only_equal_parts && slot >= self.slots {
            let message = format!(
                "there is no slot {slot}: the TaskExecutor has {}",
                self.slots
            );
            return refuse(FailureClass::Retry, message);
        }
        if let Some(held) = self.allocations.values().find(|held| held.slot == slot) {
            let message = format!("slot {slot} is leased to job {}", held.job);
            return refuse(FailureClass::Retry, message);
        }
        let leased = self.allocations.values().map(|held| held.profile);
        let leased: u64 = leased.map(|profile| self.slot_memory(profile)).sum();
        let (free, wanted) = (
            self.memory_bytes.saturating_sub(leased),
            self.slot_memory(profile),
        );
        if self.memory_bytes > 0 && wanted > free {
            let message = format!(
                "there is no room for slot {slot} of {} MiB: the TaskExecutor has {} MiB that no slot has",
                wanted >> 20,
                free >> 20
            );
            return refuse(FailureClass::Retry, message);
        }
        if let Some(artifact) = &program.artifact
            && !is_sha256(&artifact.sha256)
        {
            let message = format!(
                "the program `{}` was submitted with `{}`, which is no SHA-256 in hexadecimal",
                artifact.uri, artifact.sha256
            );
            return refuse(FailureClass::FailJob, message);
        }
        Ok(())
    }

    /// Gives a job its worker: at once, if the program is there.
    fn begin_worker(
        &mut self,
        now: MonoTime,
        job: JobId,
        program: ProgramSpec,
        fingerprint: u64,
        config: Vec<(String, String)>,
        out: &mut Vec<Effect>,
    ) {
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        let artifact = program.artifact.clone();
        let need = artifact
            .as_ref()
            .map_or(Need::Present, |artifact| self.programs.need(artifact));
        let cancellation = cancellation_patience(&config);
        let state = match (artifact, need) {
            (Some(artifact), Need::Wait | Need::Fetch) => {
                if need == Need::Fetch {
                    out.push(Effect::FetchProgram(artifact.clone()));
                }
                WorkerState::Fetching {
                    artifact,
                    program,
                    config,
                }
            }
            (_, Need::Present) | (None, _) => {
                out.push(Effect::StartWorker {
                    worker: id,
                    job,
                    program,
                    config,
                    memory_limit_bytes: self.memory_limit(job),
                });
                let until = now + HELLO_TIMEOUT;
                WorkerState::Starting { until }
            }
        };
        let worker = Worker {
            id,
            fingerprint,
            cancellation,
            tasks: BTreeMap::new(),
            state,
        };
        self.workers.insert(job, worker);
    }

    pub(super) fn handle_program(
        &mut self,
        now: MonoTime,
        artifact: &ProgramArtifact,
        result: Result<(), FailureCause>,
        out: &mut Vec<Effect>,
    ) {
        self.programs.fetched(artifact, result.is_ok());
        let waiting = |worker: &Worker| matches!(&worker.state, WorkerState::Fetching { artifact: wanted, .. } if wanted == artifact);
        let jobs: Vec<JobId> = self
            .workers
            .iter()
            .filter(|(_, worker)| waiting(worker))
            .map(|(&job, _)| job)
            .collect();
        for job in jobs {
            if let Err(cause) = &result {
                self.workers.remove(&job);
                self.refuse_slots(job, cause, out);
                continue;
            }
            let memory_limit_bytes = self.memory_limit(job);
            let Some(worker) = self.workers.get_mut(&job) else {
                continue;
            };
            let until = now + HELLO_TIMEOUT;
            let starting = WorkerState::Starting { until };
            if let WorkerState::Fetching {
                program, config, ..
            } = std::mem::replace(&mut worker.state, starting)
            {
                out.push(Effect::StartWorker {
                    worker: worker.id,
                    job,
                    program,
                    config,
                    memory_limit_bytes,
                });
            }
        }
    }

    /// What a slot is worth; 0 if nothing is known.
    fn slot_memory(&self, profile: Option<SlotProfile>) -> u64 {
        match profile {
            _ if self.memory_bytes == 0 => 0,
            Some(profile) => profile.memory.as_bytes(),
            None => self
                .memory_bytes
                .checked_div(u64::from(self.slots))
                .unwrap_or(0),
        }
    }

    /// What the job's worker may use; 0 sets no limit.
    fn memory_limit(&self, job: JobId) -> u64 {
        let slots = self.allocations.values().filter(|held| held.job == job);
        slots.map(|held| self.slot_memory(held.profile)).sum()
    }

    fn limit(&self, job: JobId, worker: WorkerId, out: &mut Vec<Effect>) {
        if self.memory_bytes > 0 {
            out.push(Effect::LimitWorker {
                worker,
                memory_limit_bytes: self.memory_limit(job),
            });
        }
    }

    pub(super) fn handle_memory(&mut self, resident: &[(WorkerId, u64)], out: &mut Vec<Effect>) {
        for &(id, used) in resident {
            let Some((job, _)) = self.worker_mut(id) else {
                continue;
            };
            let limit = self.memory_limit(job);
            let running = self.workers.get(&job).is_some_and(Worker::is_running);
            if running && limit > 0 && used > limit {
                let mut slots = self.allocations.values().filter(|held| held.job == job);
                let advice = if slots.any(|held| held.profile.is_some()) {
                    "raise what the job's slot sharing group wants for its slots"
                } else {
                    "raise taskmanager.memory.process.size or lower taskmanager.numberOfTaskSlots"
                };
                let why = format!(
                    "it used {} MiB of its limit of {} MiB; {advice}",
                    used.div_ceil(1 << 20),
                    limit >> 20
                );
                if let Some((_, worker)) = self.worker_mut(id) {
                    worker.state = WorkerState::Killed { why };
                    out.push(Effect::KillWorker(id));
                }
            }
        }
    }

    pub(super) fn handle_free(
        &mut self,
        now: MonoTime,
        allocation: AllocationId,
        out: &mut Vec<Effect>,
    ) {
        let Some(Allocation { job, .. }) = self.allocations.remove(&allocation) else {
            tracing::debug!(%allocation, "dropped the end of an unknown lease");
            return;
        };
        if self.allocations.values().any(|held| held.job == job) {
            if let Some(worker) = self.workers.get(&job).filter(|worker| worker.is_running()) {
                self.limit(job, worker.id, out);
            }
        } else if let Some(worker) = self.workers.remove(&job) {
            self.stop(now, &worker, out);
        }
    }
}
