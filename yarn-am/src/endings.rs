//! What follows on the end of a job, in its order: first its record goes, then what it would have to begin with.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use spindle_cluster::{CheckpointFiles, JobDirectories};
use spindle_common::execution::JobStatus;
use spindle_common::id::JobId;
use spindle_jobmanager::message::{CheckpointEffect, FinalStatus, View};
use tokio::sync::watch;

use crate::job_records::{Found, JobRecords};

/// The records of jobs, and what can be seen of their ends.
#[derive(Debug, Clone)]
pub(crate) struct Endings {
    pub(crate) records: Arc<JobRecords>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) directories: JobDirectories,
}

impl Endings {
    /// A job is over, or will be seen to be in a moment: its record goes. Answers whether it is certain that it does not come back.
    pub(crate) async fn settle(mut self, job: JobId) -> bool {
        let ended = self.view.wait_for(|view| {
            let seen = view.jobs.get(&job);
            seen.is_none_or(|seen| seen.ended.is_some())
        });
        let status = match ended.await {
            Ok(view) => view.jobs.get(&job).map(|seen| seen.status),
            Err(_) => None,
        };
        let status = status.unwrap_or(JobStatus::Finished);
        self.is_ours(job).await && self.records.end(job, status).await
    }

    /// Whether a job's end is this attempt's to see to: not if a later one goes on with it, who needs all that would be removed.
    async fn is_ours(&self, job: JobId) -> bool {
        match self.directories.check(job).await {
            Ok(()) => true,
            Err(error) => {
                let reason = error.report();
                tracing::warn!(job_id = %job, reason, "what is left of the job stays: it may be a later attempt's");
                false
            }
        }
    }

    /// Removes the records of all jobs that are over, as long as it is polled.
    pub(crate) async fn watch(mut self) -> Infallible {
        let mut known = BTreeSet::new();
        loop {
            let view = Arc::clone(&self.view.borrow_and_update());
            known.retain(|job| view.jobs.contains_key(job));
            let over = view.jobs.iter().filter(|(_, seen)| seen.ended.is_some());
            for (&job, seen) in over {
                if known.insert(job) && self.is_ours(job).await {
                    self.records.end(job, seen.status).await;
                }
            }
            if self.view.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Has a job's checkpoints stay until its record is gone.
    pub(crate) fn before(self, mut files: CheckpointFiles) -> CheckpointFiles {
        Box::new(move |job, effect| {
            let ends = removes_all_of(job, &effect);
            let done = files(job, effect);
            if !ends {
                return done;
            }
            let endings = self.clone();
            Box::pin(async move {
                if endings.settle(job).await {
                    return done.await;
                }
                tracing::warn!(job_id = %job, "its checkpoints stay, as the next attempt may go on with it");
                None
            })
        })
    }
}

/// Whether the directory that a job has for all its checkpoints is to go, which is the last thing that is done for it.
fn removes_all_of(job: JobId, effect: &CheckpointEffect) -> bool {
    match effect {
        CheckpointEffect::RemoveAll { directory } => {
            let directory = directory.trim_end_matches('/');
            directory.rsplit('/').next() == Some(job.to_string().as_str())
        }
        CheckpointEffect::Prepare { .. }
        | CheckpointEffect::PersistMetadata { .. }
        | CheckpointEffect::PersistAnchor { .. }
        | CheckpointEffect::Load { .. }
        | CheckpointEffect::Discover { .. }
        | CheckpointEffect::Confirm { .. }
        | CheckpointEffect::Discard { .. } => false,
    }
}

/// How an application ends whose jobs an earlier attempt has brought to their end.
pub(crate) fn outcome(found: &Found) -> Option<(FinalStatus, String)> {
    if !found.open.is_empty() {
        return None;
    }
    let (job, status) = found.over.iter().next()?;
    let end = match status {
        JobStatus::Finished => FinalStatus::Succeeded,
        JobStatus::Canceled => FinalStatus::Killed,
        JobStatus::Failed
        | JobStatus::Created
        | JobStatus::Running
        | JobStatus::Restarting
        | JobStatus::Failing
        | JobStatus::Cancelling => FinalStatus::Failed,
    };
    let state = status.rest_name();
    Some((
        end,
        format!("job {job} was {state} when the attempt before this one ended"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_own_directory_is_told_from_a_snapshot_that_it_began_with() {
        let job = JobId::from_bytes([7; 16]);
        let removes =
            |directory: String| removes_all_of(job, &CheckpointEffect::RemoveAll { directory });
        assert!(removes(format!("hdfs:///checkpoints/{job}")));
        assert!(removes(format!("hdfs:///checkpoints/{job}/")));
        assert!(!removes(format!("hdfs:///checkpoints/{job}/chk-3")));
        assert!(!removes("hdfs:///savepoints/savepoint-070707-1".to_owned()));
    }

    #[test]
    fn an_application_whose_job_is_over_ends_as_the_job_did() {
        let job = JobId::from_bytes([7; 16]);
        let over = |status| Found {
            open: Vec::new(),
            over: [(job, status)].into(),
        };
        let ended = |status| outcome(&over(status)).map(|(end, _)| end);
        assert_eq!(ended(JobStatus::Finished), Some(FinalStatus::Succeeded));
        assert_eq!(ended(JobStatus::Canceled), Some(FinalStatus::Killed));
        assert_eq!(outcome(&Found::default()), None);
    }
}
