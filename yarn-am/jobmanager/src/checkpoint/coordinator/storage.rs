//! What the storage is told, and what it answers.

use std::sync::Arc;

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::time::MonoTime;

use super::{
    CheckpointCoordinator, Condemned, CoordinatorEffect, Discovery, Out, Ownership, Pending,
    Persisting, Phase, RETRY,
};
use crate::checkpoint::acknowledged::CompletedCheckpoint;
use crate::checkpoint::resolve::{Observed, resolve};
use crate::message::{CheckpointEffect, CheckpointEvent};

impl CheckpointCoordinator {
    /// Metadata is written one after the other, so that what is complete is so in the order of the numbers.
    pub(super) fn persist_next(&mut self, out: Out<'_, '_>) {
        if !self.is_settled() {
            return;
        }
        let ready = self.pending_where(|pending| matches!(pending, Pending::Ready(_)));
        let Some(&id) = ready.first() else {
            return;
        };
        match self.pending.remove(&id) {
            Some(Pending::Ready(whole)) => {
                let timestamp = self.calendar(whole.head.triggered);
                let completed = CompletedCheckpoint {
                    id,
                    directory: whole.directory.clone(),
                    metadata: whole.metadata(self.job, timestamp),
                };
                out.push(CoordinatorEffect::Storage(
                    CheckpointEffect::PersistMetadata {
                        id,
                        directory: whole.directory,
                        metadata: Arc::clone(&completed.metadata),
                    },
                ));
                let persisting = Persisting {
                    head: whole.head,
                    tasks: whole.tasks,
                    completed,
                    anchor: None,
                };
                self.pending.insert(id, Pending::Persisting(persisting));
            }
            other => self.pending.extend(other.map(|other| (id, other))),
        }
    }

    pub(super) fn event(&mut self, now: MonoTime, event: CheckpointEvent, out: Out<'_, '_>) {
        match event {
            CheckpointEvent::Trigger { request, savepoint } => self.requested(request, savepoint),
            CheckpointEvent::Loaded {
                directory,
                metadata,
            } => self.loaded(directory, metadata, out),
            CheckpointEvent::LoadFailed { reason, lost } => {
                self.not_loaded(now, &reason, lost, out);
            }
            CheckpointEvent::Prepared { id, directory } => {
                self.prepared(now, id, directory, out);
            }
            CheckpointEvent::PrepareFailed { id, reason } => {
                self.abandoned.remove(&id);
                if matches!(self.pending.get(&id), Some(Pending::Preparing(_))) {
                    let why = format!("its directory could not be made: {reason}");
                    self.fail(now, id, &why, true, out);
                }
            }
            CheckpointEvent::MetadataPersisted { id } => self.persisted(now, id, out),
            CheckpointEvent::MetadataFailed { id, reason } => {
                self.not_persisted(now, id, &reason, out);
            }
            CheckpointEvent::Confirmed => {
                if matches!(self.ownership, Ownership::Wanted(None)) {
                    self.ownership = Ownership::Known;
                }
            }
            CheckpointEvent::ConfirmFailed { reason } => {
                if matches!(self.ownership, Ownership::Wanted(None)) {
                    self.ownership = Ownership::Wanted(Some(now + RETRY));
                    let what = format!("cannot look whose the job is, tries again: {reason}");
                    out.push(self.transition(None, what));
                }
            }
            CheckpointEvent::Superseded { reason } => self.superseded(&reason, out),
            CheckpointEvent::Discovered { observed } => self.discovered(&observed, out),
            CheckpointEvent::DiscoverFailed { reason } => {
                if matches!(self.discovery, Discovery::Wanted(_)) {
                    self.discovery = Discovery::Wanted(Some(now + RETRY));
                    let what = format!("cannot look for checkpoints, tries again: {reason}");
                    out.push(self.transition(None, what));
                }
            }
            CheckpointEvent::Discarded { id } => {
                self.condemned.remove(&id);
                self.stats.discarded(id);
                self.persist_next(out);
            }
            CheckpointEvent::DiscardFailed { id, reason } => {
                if let Some(condemned) = self.condemned.get_mut(&id) {
                    condemned.retry = Some(now + RETRY);
                }
                let what = format!("could not be removed: {reason}");
                out.push(self.transition(Some(id), what));
            }
        }
    }

    /// Whether the tasks may commit what no checkpoint holds: not if a later attempt has them do it all again. Asks, if that is not known.
    pub(crate) fn may_commit(&mut self, out: Out<'_, '_>) -> bool {
        let first = self.next_id == self.settings.first_id && !self.settings.discover;
        if first && self.settings.config.interval.is_none() {
            return true;
        }
        match self.ownership {
            Ownership::Assumed => self.ask_for_ownership(out),
            Ownership::Wanted(_) => {}
            Ownership::Known => return true,
        }
        false
    }

    pub(super) fn ask_for_ownership(&mut self, out: Out<'_, '_>) {
        self.ownership = Ownership::Wanted(None);
        let directory = self.settings.directory.clone();
        out.push(CoordinatorEffect::Storage(CheckpointEffect::Confirm {
            directory,
        }));
    }

    /// What this attempt wrote down from here on would be seen by nobody: its tasks are stopped, and the job is left as it is.
    fn superseded(&mut self, reason: &str, out: Out<'_, '_>) {
        if self.superseded || matches!(self.phase, Phase::Over) {
            return;
        }
        self.superseded = true;
        self.condemned.clear();
        out.push(CoordinatorEffect::FailJob(FailureCause {
            class: FailureClass::FailJob,
            operator: None,
            message: format!("a later attempt of the JobManager goes on with the job: {reason}"),
        }));
    }

    pub(super) fn discover(&mut self, out: Out<'_, '_>) {
        self.discovery = Discovery::Wanted(None);
        let directory = self.settings.directory.clone();
        out.push(CoordinatorEffect::Storage(CheckpointEffect::Discover {
            directory,
        }));
    }

    /// What an earlier attempt left is seen: the job starts from the newest that is whole.
    pub(super) fn discovered(&mut self, observed: &Observed, out: Out<'_, '_>) {
        if !matches!(self.discovery, Discovery::Wanted(_)) {
            return;
        }
        self.discovery = Discovery::Done;
        let resolution = resolve(self.job, observed);
        for (id, what) in resolution.skipped {
            out.push(self.transition(id, what));
        }
        for (id, directory) in resolution.condemned {
            let retry = None;
            self.discard(id, directory.clone(), out);
            self.condemned.insert(id, Condemned { directory, retry });
        }
        if let Some(newest) = resolution.complete.back() {
            let what = format!("found complete in {}", newest.directory);
            out.push(self.transition(Some(newest.id), what));
        }
        self.completed = resolution.complete;
        if self.completed.is_empty() {
            self.load(out);
        }
        self.let_go_of_old(out);
    }
}
