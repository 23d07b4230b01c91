//! The jobs that have not ended, written down beside the manifest, so that the next attempt of the ApplicationMaster goes on with them.
//! Flink: `ExecutionPlanStore`.
//!
//! ```text
//! <staging>/jobs/<job>.<attempt>           the submission, as that attempt took it; hsynced before anybody is told that it was taken
//! <staging>/jobs/<job>.<attempt>.<state>   of an application's job that is over: its program is not to be planned again
//!
//! magic "SPDLJOB1" · length u64 · CRC-32C u32 · the submission as protobuf
//! ```
//! A record goes before anything else of a job that has ended does: what is removed then is what the job would have to begin with.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use spindle_common::checkpoint::checksum;
use spindle_common::execution::JobStatus;
use spindle_common::id::JobId;
use spindle_common::job_graph::JobSubmission;
use spindle_hadoop::fs::{CreateOptions, FileSystem, FsError, FsPath};
use spindle_rpc::job_graph::{DecodeError, decode_submission, encode_submission};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::process::report;

const DIRECTORY: &str = "jobs";
const DIRECTORY_MODE: u32 = 0o700;
const MAGIC: [u8; 8] = *b"SPDLJOB1";
/// Magic, length and checksum.
const HEAD: usize = 20;
/// How long HDFS may take to close a record that a killed process left open.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const RECOVERY_LOOK: Duration = Duration::from_millis(100);
/// How often, and after what time, the removal of a record is tried again.
const REMOVALS: u32 = 5;
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// HDFS did not give it.
    #[error("failed to read the records of jobs in `{path}`")]
    Read {
        path: FsPath,
        #[source]
        cause: FsError,
    },
    /// It is not what was written.
    #[error(
        "the record `{path}` of a job is damaged: the job cannot go on; cancel the application, and start the job anew with its newest checkpoint"
    )]
    Damaged { path: FsPath },
    /// It is of another release.
    #[error("the record `{path}` of a job cannot be read")]
    Decode {
        path: FsPath,
        #[source]
        cause: DecodeError,
    },
}

/// What earlier attempts have left of jobs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Those that go on.
    pub(crate) open: Vec<JobSubmission>,
    /// Those that are over, and how they ended.
    pub(crate) over: BTreeMap<JobId, JobStatus>,
}

/// The records of an application's jobs.
#[derive(Debug)]
pub(crate) struct JobRecords {
    fs: FileSystem,
    directory: FsPath,
    attempt: u32,
    /// Whether records of jobs that are over stay, with how they ended.
    keeps_ends: bool,
    /// Whether the directory is there.
    made: OnceCell<()>,
    files: Mutex<BTreeMap<JobId, FsPath>>,
    /// Files that are whole but not closed yet.
    closing: Mutex<JoinSet<()>>,
}

impl JobRecords {
    /// Those in a staging directory; nothing is read or written yet.
    pub(crate) fn new(
        fs: FileSystem,
        staging: &str,
        attempt: u32,
        keeps_ends: bool,
    ) -> Result<Self, FsError> {
        let directory = fs.resolve(staging)?.join(DIRECTORY)?;
        Ok(Self {
            fs,
            directory,
            attempt,
            keeps_ends,
            made: OnceCell::new(),
            files: Mutex::default(),
            closing: Mutex::default(),
        })
    }

    /// Whether a job is written down.
    pub(crate) fn has(&self, job: JobId) -> bool {
        lock(&self.files).contains_key(&job)
    }

    /// Writes a job down; returns when no failure makes it forgotten.
    pub(crate) async fn write(&self, submission: &JobSubmission) -> Result<(), FsError> {
        let name = format!("{}.{}", submission.job, self.attempt);
        let file = self.directory.join(&name)?;
        let fresh = self.directory.join(&format!(".{name}.tmp"))?;
        let bytes = frame(&encode_submission(submission));
        let options = CreateOptions::default().overwrite().permission(0o600);
        let made = || self.fs.mkdirs(&self.directory, DIRECTORY_MODE);
        self.made.get_or_try_init(made).await?;
        let mut writer = self.fs.create(&fresh, &options).await?;
        writer.write(&bytes).await?;
        // On a disk from here on. Closing a small file takes half a second, and nothing has to wait for that.
        writer.hsync().await?;
        self.fs.rename(&fresh, &file, true).await?;
        lock(&self.files).insert(submission.job, file);
        let mut closing = lock(&self.closing);
        while closing.try_join_next().is_some() {}
        closing.spawn(async move {
            if let Err(error) = writer.close().await {
                // The job is over, or the application.
                tracing::debug!(error = report(&error), "the record of a job was not closed");
            }
        });
        Ok(())
    }

    /// As [`Self::write`]; a failure is only said: the job runs, and does not survive this process.
    pub(crate) async fn write_or_warn(&self, submission: &JobSubmission) {
        if let Err(error) = self.write(submission).await {
            let job_id = submission.job;
            tracing::warn!(%job_id, error = report(&error), "the job is not written down: it ends with this attempt");
        }
    }

    /// What attempts before this one have left. Their records are this attempt's from here on.
    ///
    /// # Errors
    /// If a record cannot be read: then nobody knows what its job was.
    pub(crate) async fn find(&self) -> Result<Found, RecordError> {
        let read = |cause| RecordError::Read {
            path: self.directory.clone(),
            cause,
        };
        let entries = match self.fs.list(&self.directory).await {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(Found::default()),
            Err(error) => return Err(read(error)),
        };
        let mut found = Found::default();
        let mut open: BTreeMap<JobId, (u32, FsPath)> = BTreeMap::new();
        for entry in entries {
            let Some((job, attempt, end)) = entry.path.name().and_then(parse) else {
                continue;
            };
            match end {
                Some(end) => drop(found.over.insert(job, end)),
                None => {
                    if open.get(&job).is_none_or(|(newest, _)| *newest < attempt) {
                        open.insert(job, (attempt, entry.path));
                    }
                }
            }
        }
        for (job, (_, path)) in open {
            if !found.over.contains_key(&job) {
                found.open.push(self.read(&path).await?);
                lock(&self.files).insert(job, path);
            }
        }
        Ok(found)
    }

    async fn read(&self, path: &FsPath) -> Result<JobSubmission, RecordError> {
        let failed = |cause| RecordError::Read {
            path: path.clone(),
            cause,
        };
        let begun = Instant::now();
        loop {
            let bytes = self.fs.read(path).await.map_err(failed)?;
            match unframe(&bytes) {
                Frame::Whole(body) => {
                    return decode_submission(body).map_err(|cause| RecordError::Decode {
                        path: path.clone(),
                        cause,
                    });
                }
                Frame::Wrong => return Err(RecordError::Damaged { path: path.clone() }),
                // It was renamed when it was whole, and its writer killed before it was closed: its length is not known yet.
                Frame::Short if begun.elapsed() < RECOVERY_LIMIT => {
                    self.fs.recover_lease(path).await.map_err(failed)?;
                    tokio::time::sleep(RECOVERY_LOOK).await;
                }
                Frame::Short => return Err(RecordError::Damaged { path: path.clone() }),
            }
        }
    }

    /// A job is over and does not come back. Answers whether that is certain.
    pub(crate) async fn end(&self, job: JobId, status: JobStatus) -> bool {
        let Some(file) = lock(&self.files).get(&job).cloned() else {
            return true;
        };
        for tries in 1..=REMOVALS {
            let done = if self.keeps_ends {
                self.close(&file, status).await
            } else {
                self.fs.delete(&file, false).await.map(drop)
            };
            match done {
                Ok(()) => {
                    lock(&self.files).remove(&job);
                    return true;
                }
                // Another call was faster.
                Err(error) if error.is_not_found() => return true,
                Err(error) => {
                    tracing::warn!(job_id = %job, tries, error = report(&error), "the record of a job that is over stays");
                }
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        false
    }

    async fn close(&self, file: &FsPath, status: JobStatus) -> Result<(), FsError> {
        let name = file.name().unwrap_or_default();
        let over = self
            .directory
            .join(&format!("{name}.{}", status.rest_name()))?;
        self.fs.rename(file, &over, true).await
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole whoever panicked.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of which job, by which attempt, and how that ended, if it has.
fn parse(name: &str) -> Option<(JobId, u32, Option<JobStatus>)> {
    let mut words = name.split('.');
    let job = words.next()?.parse().ok()?;
    let attempt = words.next()?.parse().ok()?;
    let ends = [JobStatus::Finished, JobStatus::Failed, JobStatus::Canceled];
    let end = match words.next() {
        Some(word) => Some(ends.into_iter().find(|end| end.rest_name() == word)?),
        None => None,
    };
    Some((job, attempt, end))
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&checksum(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[derive(Debug, PartialEq, Eq)]
enum Frame<'a> {
    Whole(&'a [u8]),
    /// Bytes are missing.
    Short,
    Wrong,
}

fn unframe(bytes: &[u8]) -> Frame<'_> {
    let Some((head, body)) = bytes.split_at_checked(HEAD) else {
        return Frame::Short;
    };
    let (magic, numbers) = head.split_at(MAGIC.len());
    let (length, sum) = numbers.split_at(8);
    let length = length.try_into().map(u64::from_le_bytes).unwrap_or(0);
    let sum = sum.try_into().map(u32::from_le_bytes).unwrap_or(0);
    if magic != MAGIC {
        Frame::Wrong
    } else if (body.len() as u64) < length {
        Frame::Short
    } else if body.len() as u64 == length && checksum(body) == sum {
        Frame::Whole(body)
    } else {
        Frame::Wrong
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::id::JobVertexId;
    use spindle_common::job_graph::{
        DEFAULT_SLOT_SHARING_GROUP, JobGraph, JobVertex, OperatorDescriptor, OperatorKind,
        ProgramSpec,
    };
    use spindle_hadoop::conf::Configuration;

    use super::*;

    fn records(directory: &tempfile::TempDir, attempt: u32, keeps_ends: bool) -> JobRecords {
        let conf = Configuration::from_pairs([("fs.defaultFS", "file:///")]);
        let fs = FileSystem::new(&conf, "alice").unwrap();
        let staging = format!("file://{}", directory.path().display());
        JobRecords::new(fs, &staging, attempt, keeps_ends).unwrap()
    }

    fn submission(job: u8, name: &str) -> JobSubmission {
        let operator = OperatorDescriptor {
            uid: "a".to_owned(),
            name: "a".to_owned(),
            kind: OperatorKind::Source,
        };
        JobSubmission {
            job: JobId::from_bytes([job; 16]),
            graph: JobGraph {
                name: name.to_owned(),
                vertices: vec![JobVertex {
                    id: JobVertexId::from_bytes([1; 16]),
                    parallelism: 1,
                    max_parallelism: 1,
                    operators: vec![operator],
                    splits: vec![Vec::new()],
                    staging: Vec::new(),
                    slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
                }],
                edges: Vec::new(),
                slot_profiles: BTreeMap::new(),
            },
            program: ProgramSpec {
                executable: "job".to_owned(),
                args: Vec::new(),
                artifact: None,
            },
            config: vec![(
                "execution.state-recovery.path".to_owned(),
                "hdfs:///s".to_owned(),
            )],
        }
    }

    #[tokio::test]
    async fn the_next_attempt_finds_the_jobs_that_have_not_ended() {
        let directory = tempfile::tempdir().unwrap();
        let first = records(&directory, 1, false);
        assert!(first.find().await.unwrap().open.is_empty());
        for job in 1..=3 {
            first.write(&submission(job, "a job")).await.unwrap();
        }
        let second_job = JobId::from_bytes([2; 16]);
        assert!(first.end(second_job, JobStatus::Finished).await);
        assert!(
            first.end(second_job, JobStatus::Finished).await,
            "it is gone"
        );

        let second = records(&directory, 2, false);
        let found = second.find().await.unwrap();
        assert_eq!(found.open, [submission(1, "a job"), submission(3, "a job")]);
        assert!(
            second
                .end(JobId::from_bytes([1; 16]), JobStatus::Canceled)
                .await
        );
        second
            .write(&submission(3, "handed in again"))
            .await
            .unwrap();

        let found = records(&directory, 3, false).find().await.unwrap();
        assert_eq!(found.open, [submission(3, "handed in again")]);
    }

    #[tokio::test]
    async fn of_an_applications_job_it_stays_known_how_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let first = records(&directory, 1, true);
        first.write(&submission(1, "a job")).await.unwrap();
        let job = JobId::from_bytes([1; 16]);
        assert!(first.end(job, JobStatus::Failed).await);
        let found = records(&directory, 2, true).find().await.unwrap();
        assert!(found.open.is_empty());
        assert_eq!(found.over, BTreeMap::from([(job, JobStatus::Failed)]));
    }

    #[tokio::test]
    async fn a_record_that_is_not_what_was_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let first = records(&directory, 1, false);
        first.write(&submission(1, "a job")).await.unwrap();
        let job = JobId::from_bytes([1; 16]);
        let path = directory.path().join(format!("jobs/{job}.1"));
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = records(&directory, 2, false).find().await.unwrap_err();
        assert!(error.to_string().contains(&format!("{job}.1")), "{error}");
    }

    #[test]
    fn each_truncation_is_found_and_each_changed_byte() {
        let whole = frame(b"a submission");
        assert_eq!(unframe(&whole), Frame::Whole(b"a submission"));
        for length in 0..whole.len() {
            assert_eq!(unframe(&whole[..length]), Frame::Short, "{length}");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            let frame = unframe(&wrong);
            assert!(!matches!(frame, Frame::Whole(_)), "{at}");
        }
    }
}
