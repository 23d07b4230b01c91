//! The storage of checkpoints, which may be slow, fail, or do as told and not say so. It outlives attempts of the JobManager, and several that
//! run at the same time share it.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use spindle_common::checkpoint::metadata::SnapshotMetadata;
use spindle_common::checkpoint::{CheckpointId, SnapshotKind};
use spindle_common::id::{ExecutionAttemptId, FencingToken, JobId};

use crate::checkpoint::Observed;
use crate::message::{CheckpointEffect, CheckpointEvent};

/// How the storage does what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Does,
    Fails,
    /// It does, and the answer is lost.
    DoesInSecret,
}

pub(super) type Id = (JobId, CheckpointId);

/// What is durable, and what all attempts of the JobManager have done so far.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The directories that are there.
    directories: BTreeSet<Id>,
    /// The metadata that is there.
    pub(super) durable: BTreeMap<Id, Arc<SnapshotMetadata>>,
    /// The highest attempt that has looked into a job's directory: lower ones change nothing there any more.
    owners: BTreeMap<JobId, FencingToken>,
    /// The jobs that are over, and which attempt says so.
    ended: BTreeMap<JobId, FencingToken>,
    /// What tasks have said, as it was delivered while they ran.
    pub(super) acknowledged: BTreeMap<Id, BTreeSet<ExecutionAttemptId>>,
    /// The newest attempt whose tasks were sent, and what they began with.
    pub(super) deployed: BTreeMap<JobId, (u32, Option<CheckpointId>)>,
    /// The newest that a task was told of, or began with.
    pub(super) committed: BTreeMap<JobId, CheckpointId>,
    /// What attempts were kept from since there is a higher one, and how often.
    pub(super) refused: BTreeMap<&'static str, u32>,
}

/// Of one attempt: the way to the storage, and what it was told and has not done.
#[derive(Debug)]
pub(super) struct Store {
    world: Rc<RefCell<World>>,
    fencing: FencingToken,
    wanted: Vec<(JobId, CheckpointEffect)>,
}

impl Store {
    pub(super) fn new(fencing: FencingToken) -> Self {
        Self {
            world: Rc::default(),
            fencing,
            wanted: Vec::new(),
        }
    }

    /// The same storage for a higher attempt.
    pub(super) fn of_next(&self) -> Self {
        Self {
            world: Rc::clone(&self.world),
            fencing: FencingToken(self.fencing.0 + 1),
            wanted: Vec::new(),
        }
    }

    pub(super) fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    pub(super) fn want(&mut self, job: JobId, effect: CheckpointEffect) {
        self.wanted.push((job, effect));
    }

    /// Whether a higher attempt has looked into the directory of a job.
    pub(super) fn is_shut_out(&self, job: JobId) -> bool {
        let owner = self.world().owners.get(&job).copied();
        owner.is_some_and(|owner| self.fencing < owner)
    }

    /// A job is over, as this attempt says. That is written down unless the job is another's.
    pub(super) fn ends(&self, job: JobId) {
        if !self.is_shut_out(job) {
            self.world().ended.entry(job).or_insert(self.fencing);
        }
    }

    /// Whether it is written down that a lower attempt has brought a job to its end.
    pub(super) fn has_ended_elsewhere(&self, job: JobId) -> bool {
        let ended = self.world().ended.get(&job).copied();
        ended.is_some_and(|by| by < self.fencing)
    }

    /// Number of things the storage has to do.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// The attempt that wanted these is gone. They may come to be or not.
    pub(super) fn abandon(&mut self, n: usize) {
        for at in 0..self.wanted.len() {
            let does = n >> (at % 64) & 1 == 0;
            self.act(
                0,
                if does {
                    Storage::DoesInSecret
                } else {
                    Storage::Fails
                },
            );
        }
    }

    /// The storage does one thing, in any order; what it answers.
    pub(super) fn act(&mut self, n: usize, how: Storage) -> Option<(JobId, CheckpointEvent)> {
        if self.wanted.is_empty() {
            return None;
        }
        let (job, effect) = self.wanted.remove(n % self.wanted.len());
        let event = self.world.borrow_mut().act(job, effect, how, self.fencing);
        event.map(|event| (job, event))
    }
}

impl World {
    fn act(
        &mut self,
        job: JobId,
        effect: CheckpointEffect,
        how: Storage,
        by: FencingToken,
    ) -> Option<CheckpointEvent> {
        let does = how != Storage::Fails;
        let tells = how == Storage::Does;
        let reason = "the NameNode does not answer".to_owned();
        if self.owners.get(&job).is_some_and(|owner| by < *owner)
            && let Some(what) = changes(&effect)
        {
            *self.refused.entry(what).or_default() += 1;
            let reason = "there is a higher one".to_owned();
            let removes = matches!(effect, CheckpointEffect::RemoveAll { .. });
            return (tells && !removes).then_some(CheckpointEvent::Superseded { reason });
        }
        Some(match effect {
            CheckpointEffect::Prepare { id, directory } if tells => {
                self.directories.insert((job, id));
                CheckpointEvent::Prepared { id, directory }
            }
            CheckpointEffect::Prepare { id, .. } => CheckpointEvent::PrepareFailed { id, reason },
            CheckpointEffect::Load { .. } => unreachable!("no job begins with a savepoint"),
            CheckpointEffect::PersistMetadata { id, metadata, .. }
                if metadata.kind != SnapshotKind::Checkpoint =>
            {
                if tells {
                    CheckpointEvent::MetadataPersisted { id }
                } else {
                    CheckpointEvent::MetadataFailed { id, reason }
                }
            }
            CheckpointEffect::PersistMetadata { id, metadata, .. }
            | CheckpointEffect::PersistAnchor { id, metadata, .. } => {
                if does {
                    self.comes_to_be((job, id), metadata);
                }
                if tells {
                    CheckpointEvent::MetadataPersisted { id }
                } else {
                    CheckpointEvent::MetadataFailed { id, reason }
                }
            }
            CheckpointEffect::Discard { id, .. } => {
                if does {
                    self.durable.remove(&(job, id));
                    self.directories.remove(&(job, id));
                }
                if tells {
                    CheckpointEvent::Discarded { id }
                } else {
                    CheckpointEvent::DiscardFailed { id, reason }
                }
            }
            CheckpointEffect::Discover { .. } => {
                if does {
                    self.owners.insert(job, by);
                }
                let observed = Box::new(self.observed(job));
                if tells {
                    CheckpointEvent::Discovered { observed }
                } else {
                    CheckpointEvent::DiscoverFailed { reason }
                }
            }
            CheckpointEffect::Confirm { .. } if tells => CheckpointEvent::Confirmed,
            CheckpointEffect::Confirm { .. } => CheckpointEvent::ConfirmFailed { reason },
            CheckpointEffect::RemoveAll { .. } => {
                self.directories.retain(|(of, _)| *of != job);
                self.durable.retain(|(of, _), _| *of != job);
                return None;
            }
        })
    }

    fn comes_to_be(&mut self, (job, id): Id, metadata: Arc<SnapshotMetadata>) {
        let of_attempt = self.acknowledged.get(&(job, id)).into_iter().flatten();
        if let Some(attempt) = of_attempt.map(|task| task.attempt).max() {
            let deployed = self.deployed.get(&job).map(|(attempt, _)| *attempt);
            assert_eq!(
                Some(attempt),
                deployed,
                "checkpoint {id} comes to be after tasks began without it"
            );
        }
        self.durable.insert((job, id), metadata);
    }

    /// What is in the directory of a job.
    fn observed(&self, job: JobId) -> Observed {
        let of_job = self.durable.iter().filter(|((of, _), _)| *of == job);
        let complete = of_job.map(|((_, id), metadata)| {
            let directory = format!("hdfs:///checkpoints/{job}/chk-{id}");
            (directory, Arc::clone(metadata))
        });
        let of_job = self.directories.iter().filter(|(of, _)| *of == job);
        let incomplete = of_job.filter(|id| !self.durable.contains_key(id));
        Observed {
            complete: complete.collect(),
            damaged: Vec::new(),
            incomplete: incomplete
                .map(|(_, id)| format!("hdfs:///checkpoints/{job}/chk-{id}"))
                .collect(),
        }
    }

    /// The newest checkpoint of a job.
    pub(super) fn newest(&self, job: JobId) -> Option<(CheckpointId, Arc<SnapshotMetadata>)> {
        let of_job = self.durable.range((job, CheckpointId(0))..);
        let newest = of_job.take_while(|((of, _), _)| *of == job).last();
        newest.map(|((_, id), metadata)| (*id, Arc::clone(metadata)))
    }

    /// Never back behind what was committed; and what tasks commit that have been replaced is in what the others began with.
    pub(super) fn commits(&mut self, job: JobId, id: CheckpointId, attempt: u32) {
        match self.deployed.get(&job) {
            Some((newest, began)) if attempt < *newest => {
                assert!(
                    Some(id) <= *began,
                    "{id} is committed by tasks whose work others do again, who began with {began:?}"
                );
            }
            Some(_) | None => {
                let before = self.committed.insert(job, id);
                assert!(before <= Some(id), "{id} is committed after {before:?}");
            }
        }
    }
}

/// What is refused to those that are not the highest attempt.
pub(super) const REFUSED: &[&str] = &["completing", "looking", "committing", "removing"];

/// Which of these it is.
fn changes(effect: &CheckpointEffect) -> Option<&'static str> {
    match effect {
        CheckpointEffect::PersistMetadata { metadata, .. }
            if metadata.kind != SnapshotKind::Checkpoint =>
        {
            None
        }
        CheckpointEffect::PersistMetadata { .. } | CheckpointEffect::PersistAnchor { .. } => {
            Some(REFUSED[0])
        }
        CheckpointEffect::Discover { .. } => Some(REFUSED[1]),
        CheckpointEffect::Confirm { .. } => Some(REFUSED[2]),
        CheckpointEffect::Discard { .. } | CheckpointEffect::RemoveAll { .. } => Some(REFUSED[3]),
        // A directory that nothing is put into is in nobody's way.
        CheckpointEffect::Prepare { .. } | CheckpointEffect::Load { .. } => None,
    }
}
