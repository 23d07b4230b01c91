//! The application's manifest: what its jobs make outside its staging directory and its containers, written down before it is made,
//! so that whoever cleans up after it, however it ended, knows where to look.
//!
//! One JSON object a line. `{"path": uri, "job": id}` is a directory of which the part with the job's name is the job's. The client
//! has written lines of other kinds, which stay. It has written a per-job cluster's only path too.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use spindle_common::id::JobId;
use spindle_common::job_graph::JobGraph;
use spindle_hadoop::fs::{CreateOptions, FileSystem, FsError, FsPath};
use tokio::task::JoinSet;

use crate::process::report;
use crate::staging::Leftover;

const NAME: &str = "manifest";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    path: String,
    /// Hexadecimal.
    job: Option<String>,
}

/// The manifest of an application.
#[derive(Debug)]
pub(crate) struct Manifest {
    fs: FileSystem,
    staging: FsPath,
    file: FsPath,
    entries: Mutex<Entries>,
    /// Held while the file is written.
    written: tokio::sync::Mutex<Written>,
}

#[derive(Debug, Default)]
struct Entries {
    version: u64,
    jobs: BTreeMap<JobId, Vec<String>>,
}

#[derive(Debug, Default)]
struct Written {
    /// What the file holds at least.
    version: u64,
    /// Lines of other kinds, once they have been read.
    others: Option<Vec<u8>>,
    /// Files that are whole but not closed yet.
    closing: JoinSet<()>,
}

impl Manifest {
    /// The manifest in a staging directory; nothing is read or written yet.
    pub(crate) fn new(fs: FileSystem, staging: &str) -> Result<Self, FsError> {
        let staging = fs.resolve(staging)?;
        Ok(Self {
            fs,
            file: staging.join(NAME)?,
            staging,
            entries: Mutex::default(),
            written: tokio::sync::Mutex::default(),
        })
    }

    /// Takes up what a job will make; [`Self::write`] brings it into the file.
    pub(crate) fn note(&self, job: JobId, graph: &JobGraph) {
        let vertices = graph.vertices.iter();
        let paths: Vec<String> = vertices
            .flat_map(|vertex| vertex.staging.iter().cloned())
            .collect();
        if !paths.is_empty() {
            let mut entries = self.entries();
            entries.version += 1;
            entries.jobs.insert(job, paths);
        }
    }

    /// What is noted is in the file already: the client wrote it.
    pub(crate) async fn is_written(&self) {
        let version = self.entries().version;
        self.written.lock().await.version = version;
    }

    /// Returns when all that was noted before is in the file; what several jobs bring meanwhile is written together.
    pub(crate) async fn write(&self) -> Result<(), FsError> {
        let wanted = self.entries().version;
        let mut written = self.written.lock().await;
        if written.version >= wanted {
            return Ok(());
        }
        let mut text = match written.others.take() {
            Some(others) => others,
            None => other_lines(&self.read().await?),
        };
        written.others = Some(text.clone());
        let version = {
            let entries = self.entries();
            encode(&entries.jobs, &mut text);
            entries.version
        };
        let fresh = self.staging.join(&format!("{NAME}.tmp-{version}"))?;
        let options = CreateOptions::default().overwrite().permission(0o600);
        let mut writer = self.fs.create(&fresh, &options).await?;
        writer.write(&text).await?;
        // On a disk from here on. Closing a small file takes half a second, and nothing has to wait for that.
        writer.hsync().await?;
        self.fs.rename(&fresh, &self.file, true).await?;
        written.version = version;
        while written.closing.try_join_next().is_some() {}
        written.closing.spawn(async move {
            if let Err(error) = writer.close().await {
                // A newer manifest, or the end of the application, has taken its place.
                tracing::debug!(error = report(&error), "a manifest was not closed");
            }
        });
        Ok(())
    }

    /// As [`Self::write`]; a failure is only said, for the job's own end removes what it made.
    pub(crate) async fn write_or_warn(&self) {
        if let Err(error) = self.write().await {
            tracing::warn!(error = report(&error), "the manifest was not written");
        }
    }

    /// From here on nothing is written: the staging directory is to be removed, and a late file would bring it back.
    pub(crate) async fn close(&self) {
        self.written.lock().await.version = u64::MAX;
    }

    /// What a job made is not to be removed by anybody: it is out of the file with [`Self::write`].
    pub(crate) fn keep(&self, job: JobId) {
        let mut entries = self.entries();
        if entries.jobs.remove(&job).is_some() {
            entries.version += 1;
        }
    }

    /// What a job made is gone. The next writing leaves it out.
    pub(crate) fn forget(&self, job: JobId) {
        self.entries().jobs.remove(&job);
    }

    /// All that may be there now.
    pub(crate) fn leftovers(&self) -> Vec<Leftover> {
        let entries = self.entries();
        let jobs = entries.jobs.iter();
        jobs.flat_map(|(job, paths)| Leftover::of_job(*job, paths.iter().cloned()))
            .collect()
    }

    /// What an attempt before this one, or the client, wrote down.
    pub(crate) async fn left_by_others(&self) -> Result<Vec<Leftover>, FsError> {
        Ok(decode(&self.read().await?))
    }

    async fn read(&self) -> Result<Vec<u8>, FsError> {
        for recover in [true, false] {
            match self.fs.read(&self.file).await {
                // Whoever wrote it may have been killed before it was closed.
                Ok(text) if text.is_empty() && recover => {
                    self.fs.recover_lease(&self.file).await?;
                }
                Ok(text) => return Ok(text.to_vec()),
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        // What is inside is whole whoever panicked.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(jobs: &BTreeMap<JobId, Vec<String>>, text: &mut Vec<u8>) {
    for (&job, paths) in jobs {
        for path in paths {
            let line = Line {
                path: path.clone(),
                job: Some(job.to_string()),
            };
            serde_json::to_writer(&mut *text, &line).expect("text has a form in JSON");
            text.push(b'\n');
        }
    }
}

/// A line that was cut off names nothing that was made.
fn decode(text: &[u8]) -> Vec<Leftover> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
        .filter_map(|Line { path, job }| match job {
            Some(job) => Some(Leftover::Part {
                directory: path,
                job: job.parse().ok()?,
            }),
            None => Some(Leftover::Whole(path)),
        })
        .collect()
}

/// Whole lines that are about something else than what was made.
fn other_lines(text: &[u8]) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter(|line| {
            let known = serde_json::from_slice::<serde_json::Value>(line);
            known.is_ok_and(|line| line.get("path").is_none())
        })
        .flat_map(|line| {
            line.iter()
                .copied()
                .filter(|byte| *byte != b'\n')
                .chain([b'\n'])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use spindle_common::id::JobVertexId;
    use spindle_common::job_graph::{DEFAULT_SLOT_SHARING_GROUP, JobVertex};
    use spindle_hadoop::conf::Configuration;

    use super::*;

    fn manifest(directory: &tempfile::TempDir) -> Manifest {
        let mut conf = Configuration::new();
        conf.set("fs.defaultFS", "file:///");
        let fs = FileSystem::new(&conf, "alice").unwrap();
        let staging = format!("file://{}", directory.path().display());
        Manifest::new(fs, &staging).unwrap()
    }

    fn job(number: u8) -> JobId {
        JobId::from_bytes([number; 16])
    }

    fn graph(staging: &[&str]) -> JobGraph {
        JobGraph {
            name: "j".to_owned(),
            vertices: vec![JobVertex {
                id: JobVertexId::from_bytes([1; 16]),
                parallelism: 1,
                max_parallelism: 1,
                operators: Vec::new(),
                splits: Vec::new(),
                staging: staging.iter().map(|path| (*path).to_owned()).collect(),
                slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
            }],
            edges: Vec::new(),
            slot_profiles: BTreeMap::new(),
        }
    }

    fn part(number: u8, path: &str) -> Leftover {
        Leftover::Part {
            directory: path.to_owned(),
            job: job(number),
        }
    }

    #[tokio::test]
    async fn the_next_attempt_finds_what_this_one_wrote_down_and_what_the_client_did() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(NAME);
        let told = "{\"resource_managers\":[\"rm:1\"]}\n{\"artifact\":\"hdfs://nn/c/a\"}";
        std::fs::write(&file, format!("{told}\n{{\"pa")).unwrap();
        let first = manifest(&directory);
        let (a, b) = ("file:///out/a \"x\"", "file:///out/b");
        first.note(job(1), &graph(&[a]));
        first.note(job(2), &graph(&[b]));
        let written = tokio::join!(first.write(), first.write());
        written.0.and(written.1).unwrap();
        let found = manifest(&directory).left_by_others().await.unwrap();
        assert_eq!(found, [part(1, a), part(2, b)]);
        first.forget(job(1));
        first.note(job(3), &graph(&["file:///c"]));
        first.write().await.unwrap();
        let found = manifest(&directory).left_by_others().await.unwrap();
        assert_eq!(found, [part(2, b), part(3, "file:///c")]);
        assert_eq!(first.leftovers(), found);
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "no temporary file stays");
        let text = std::fs::read_to_string(&file).unwrap();
        let job = "03".repeat(16);
        let newest = format!("{{\"path\":\"file:///c\",\"job\":\"{job}\"}}\n");
        let whole = text.starts_with(&format!("{told}\n")) && text.ends_with(&newest);
        assert!(whole, "{text}");
    }

    #[tokio::test]
    async fn what_comes_without_paths_or_after_the_end_costs_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = manifest(&directory);
        manifest.note(job(1), &graph(&[]));
        manifest.write().await.unwrap();
        assert!(manifest.left_by_others().await.unwrap().is_empty());
        manifest.close().await;
        manifest.note(job(2), &graph(&["file:///c"]));
        manifest.write().await.unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_line_that_was_cut_off_is_passed_over() {
        let whole = Leftover::Whole("a".to_owned());
        assert_eq!(decode(b"{\"path\":\"a\"}\n{\"path\":\"b"), [whole]);
    }
}
