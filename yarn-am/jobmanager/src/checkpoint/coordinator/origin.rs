//! The snapshot that a job is started with.

use std::sync::Arc;

use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::config::ClaimMode;
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::time::MonoTime;

use super::{CheckpointCoordinator, CoordinatorEffect, Discovery, Out, RETRY};
use crate::checkpoint::acknowledged::CompletedCheckpoint;
use crate::message::CheckpointEffect;

impl CheckpointCoordinator {
    /// Asks for it, if there is one.
    pub(super) fn load(&mut self, out: Out<'_, '_>) {
        match &self.settings.savepoints.recovery {
            Some(recovery) => {
                self.discovery = Discovery::Loading(None);
                let path = recovery.path.clone();
                out.push(CoordinatorEffect::Storage(CheckpointEffect::Load { path }));
            }
            None => self.discovery = Discovery::Done,
        }
    }

    /// It is there.
    pub(super) fn loaded(
        &mut self,
        directory: String,
        metadata: Arc<SnapshotMetadata>,
        out: Out<'_, '_>,
    ) {
        if !matches!(self.discovery, Discovery::Loading(_)) {
            return;
        }
        self.discovery = Discovery::Done;
        let what = format!(
            "of job {} in {directory} is what the job begins with",
            metadata.job
        );
        out.push(self.transition(Some(metadata.checkpoint), what));
        self.origin = Some(CompletedCheckpoint {
            id: metadata.checkpoint,
            directory,
            metadata,
        });
    }

    /// It could not be read.
    pub(super) fn not_loaded(&mut self, now: MonoTime, reason: &str, lost: bool, out: Out<'_, '_>) {
        if !matches!(self.discovery, Discovery::Loading(_)) {
            return;
        }
        if !lost {
            self.discovery = Discovery::Loading(Some(now + RETRY));
            let what = format!("cannot read the snapshot to begin with, tries again: {reason}");
            out.push(self.transition(None, what));
            return;
        }
        self.discovery = Discovery::Done;
        out.push(CoordinatorEffect::FailJob(FailureCause {
            class: FailureClass::FailJob,
            operator: None,
            message: format!(
                "the snapshot that the job was to begin with cannot be used: {reason}"
            ),
        }));
    }

    /// The job has checkpoints of its own: what it began with is not needed any more.
    pub(super) fn let_go_of_origin(&mut self, out: Out<'_, '_>) {
        let enough = match self.claim() {
            ClaimMode::NoClaim => 1,
            ClaimMode::Claim => self.settings.config.num_retained as usize,
        };
        let needed = |origin: &CompletedCheckpoint| self.is_needed(origin);
        if self.completed.len() < enough || self.origin.as_ref().is_none_or(needed) {
            return;
        }
        self.remove_origin(out);
    }

    /// It goes with the job's own.
    pub(super) fn remove_origin(&mut self, out: Out<'_, '_>) {
        let Some(origin) = self.origin.take() else {
            return;
        };
        if self.claim() == ClaimMode::Claim {
            let directory = origin.directory;
            out.push(CoordinatorEffect::Storage(CheckpointEffect::RemoveAll {
                directory,
            }));
        }
    }

    fn claim(&self) -> ClaimMode {
        let recovery = self.settings.savepoints.recovery.as_ref();
        recovery.map_or(ClaimMode::NoClaim, |recovery| recovery.claim)
    }
}
