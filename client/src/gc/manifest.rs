//! The manifest of an application: what it makes outside its staging directory and its containers, told before it is made.
//!
//! `<staging>/manifest` has JSON objects, one a line. `{"path": uri, "job": id}` is a directory in which output waits to be
//! committed; without a job the whole directory is the application's. `{"artifact": uri}` is a file in the cache that its
//! containers need, `{"resource_managers": ["host:port"]}` is the cluster that can tell whether it is over.
//! `{"checkpoints": uri, "job": id, "retained": bool}` is the directory of a job's checkpoints, and whether its newest ones outlive a job that
//! has not finished; `{"begins_with": uri}` is the snapshot that a job began with. Other lines are for other versions.

use serde::{Deserialize, Serialize};
use spindle_common::config::{CheckpointRetention, Config};
use spindle_common::id::JobId;
use spindle_common::job_graph::JobSubmission;
use spindle_hadoop::fs::{FileSystem, FsPath};

/// Name of the file in a staging directory.
pub(crate) const MANIFEST: &str = "manifest";

/// Names that a directory of uncommitted output bears. Nothing of another name is ever removed.
const STAGING_NAMES: [&str; 1] = [".spindle-staging"];

/// Something that an application leaves outside its staging directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SideEffect {
    /// A directory, as a URI.
    pub(crate) path: String,
    /// The job whose part of it is the application's; without, all of it is.
    pub(crate) job: Option<String>,
}

/// Where a job puts its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobCheckpoints {
    /// The job's own directory, as a URI.
    pub(crate) path: String,
    pub(crate) job: String,
    /// Whether the newest stay when the job has not finished.
    pub(crate) retained: bool,
}

/// What an application said that it makes and needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Manifest {
    /// `host:port` of each ResourceManager of its cluster.
    pub(crate) resource_managers: Vec<String>,
    /// URIs of cached files.
    pub(crate) artifacts: Vec<String>,
    /// What it may leave behind.
    pub(crate) effects: Vec<SideEffect>,
    pub(crate) checkpoints: Vec<JobCheckpoints>,
    /// The snapshots that its jobs began with, as URIs.
    pub(crate) begins_with: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_managers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoints: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retained: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begins_with: Option<String>,
}

impl Manifest {
    /// That of an application that runs one job.
    pub(crate) fn of_job(
        submission: &JobSubmission,
        artifacts: impl IntoIterator<Item = String>,
        resource_managers: Vec<String>,
    ) -> Self {
        let vertices = submission.graph.vertices.iter();
        let job = submission.job.to_string();
        Self {
            resource_managers,
            artifacts: artifacts.into_iter().collect(),
            effects: vertices
                .flat_map(|vertex| &vertex.staging)
                .map(|path| SideEffect {
                    path: path.clone(),
                    job: Some(job.clone()),
                })
                .collect(),
            checkpoints: Vec::new(),
            begins_with: Vec::new(),
        }
    }

    /// With where its job takes checkpoints, below `directory`, and what it begins with.
    pub(crate) fn with_snapshots(
        mut self,
        job: JobId,
        directory: &FsPath,
        config: &Config,
    ) -> Self {
        let retained = match config.checkpoints().retention {
            CheckpointRetention::None => false,
            CheckpointRetention::Retain | CheckpointRetention::DeleteOnCancellation => true,
        };
        self.checkpoints.push(JobCheckpoints {
            path: format!("{}/{job}", directory.to_string().trim_end_matches('/')),
            job: job.to_string(),
            retained,
        });
        let recovery = config.savepoints().recovery;
        self.begins_with.extend(recovery.map(|from| from.path));
        self
    }

    pub(crate) fn encode(&self) -> String {
        let cluster = Line {
            resource_managers: Some(self.resource_managers.clone()),
            ..Line::default()
        };
        let effects = self.effects.iter().map(|effect| Line {
            path: Some(effect.path.clone()),
            job: effect.job.clone(),
            ..Line::default()
        });
        let artifacts = self.artifacts.iter().map(|artifact| Line {
            artifact: Some(artifact.clone()),
            ..Line::default()
        });
        let checkpoints = self.checkpoints.iter().map(|of| Line {
            checkpoints: Some(of.path.clone()),
            job: Some(of.job.clone()),
            retained: Some(of.retained),
            ..Line::default()
        });
        let begins_with = self.begins_with.iter().map(|path| Line {
            begins_with: Some(path.clone()),
            ..Line::default()
        });
        std::iter::once(cluster)
            .chain(effects)
            .chain(checkpoints)
            .chain(begins_with)
            .chain(artifacts)
            .map(|line| serde_json::to_string(&line).expect("a line is plain data") + "\n")
            .collect()
    }

    /// Reads what can be read: a writer that was killed leaves a line torn, a newer one writes others.
    pub(crate) fn decode(text: &str) -> Self {
        let mut manifest = Self::default();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Line>(line) else {
                tracing::debug!(line, "a line of a manifest is not understood");
                continue;
            };
            manifest
                .resource_managers
                .extend(line.resource_managers.unwrap_or_default());
            manifest.artifacts.extend(line.artifact);
            manifest.begins_with.extend(line.begins_with);
            let job = line.job;
            if let (Some(path), Some(job)) = (line.checkpoints, &job) {
                manifest.checkpoints.push(JobCheckpoints {
                    path,
                    job: job.clone(),
                    // What is not said to go stays.
                    retained: line.retained.unwrap_or(true),
                });
            }
            let effect = line.path.map(|path| SideEffect { path, job });
            manifest.effects.extend(effect);
        }
        manifest
    }
}

/// What may be removed for a side effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The directory with all that is in it.
    Whole(FsPath),
    /// The job's part, and the directory itself only if that leaves it empty.
    Part { part: FsPath, directory: FsPath },
}

/// Whether this may be removed at all: a staging directory by its name, in HDFS as `base` is, inside some other directory.
///
/// A manifest is a file that anything may have written to, so it is believed only as far as the harm of a lie goes.
pub(crate) fn target(
    effect: &SideEffect,
    fs: &FileSystem,
    base: &FsPath,
) -> Result<Target, String> {
    let path = plain(&effect.path, fs, base)?;
    let name = path.name().unwrap_or_default();
    if !STAGING_NAMES.contains(&name) {
        return Err(format!(
            "only directories named {} are removed",
            STAGING_NAMES.join(", ")
        ));
    }
    match &effect.job {
        None => Ok(Target::Whole(path)),
        Some(job) if is_job_id(job) => Ok(Target::Part {
            part: path.join(job).map_err(|error| error.to_string())?,
            directory: path,
        }),
        Some(job) => Err(format!("`{job}` is no job id")),
    }
}

/// The directory of a job's checkpoints, if it may be looked into at all: it bears the job's id, which nothing of a user's does.
pub(crate) fn checkpoints(
    of: &JobCheckpoints,
    fs: &FileSystem,
    base: &FsPath,
) -> Result<FsPath, String> {
    let path = plain(&of.path, fs, base)?;
    if !is_job_id(&of.job) || path.name() != Some(of.job.as_str()) {
        return Err("it does not bear the id of its job".to_owned());
    }
    Ok(path)
}

/// A path inside some directory, in HDFS as `base` is, that is what it looks like.
fn plain(text: &str, fs: &FileSystem, base: &FsPath) -> Result<FsPath, String> {
    if !text.contains("://") {
        return Err("it is no full path".to_owned());
    }
    if text
        .split('/')
        .any(|part| part == ".." || part == "." || part.trim() != part)
        || text.chars().any(char::is_control)
    {
        return Err("it is not written plainly".to_owned());
    }
    let path = fs.resolve(text).map_err(|error| error.to_string())?;
    if path.scheme() != base.scheme() {
        return Err(format!("it is not on {}://", base.scheme()));
    }
    if path.parent().is_none_or(|parent| parent.is_root()) {
        return Err("it lies directly below the root".to_owned());
    }
    Ok(path)
}

fn is_job_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use spindle_hadoop::conf::Configuration;

    use super::*;

    const JOB: &str = "0123456789abcdef0123456789abcdef";

    fn guarded(path: &str, job: Option<&str>) -> Result<Target, String> {
        let conf = Configuration::from_pairs([("fs.defaultFS", "hdfs://nn:8020")]);
        let fs = FileSystem::new(&conf, "ann").unwrap();
        let base = fs.resolve("/user/ann/.spindle").unwrap();
        let effect = SideEffect {
            path: path.to_owned(),
            job: job.map(str::to_owned),
        };
        target(&effect, &fs, &base)
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = Manifest {
            resource_managers: vec!["rm:8032".to_owned()],
            artifacts: vec!["hdfs://nn/c/abc".to_owned()],
            effects: vec![SideEffect {
                path: "hdfs://nn/out/.spindle-staging".to_owned(),
                job: Some(JOB.to_owned()),
            }],
            checkpoints: vec![JobCheckpoints {
                path: format!("hdfs://nn/checkpoints/{JOB}"),
                job: JOB.to_owned(),
                retained: false,
            }],
            begins_with: vec!["hdfs://nn/sp/1".to_owned()],
        };
        assert_eq!(Manifest::decode(&manifest.encode()), manifest);
    }

    #[test]
    fn torn_and_unknown_lines_hide_no_others() {
        let text = "{\"path\":\"hdfs://nn/a/.spindle-staging\"}\n{\"topic\":\"t\"}\nnoise\n{\"path\":\"hdfs://n";
        let manifest = Manifest::decode(text);
        assert_eq!(manifest.effects.len(), 1, "{manifest:?}");
        assert_eq!(manifest.effects[0].path, "hdfs://nn/a/.spindle-staging");
    }

    #[test]
    fn a_staging_directory_may_go_whole_or_in_part() {
        let Ok(Target::Whole(path)) = guarded("hdfs://nn:8020/out/.spindle-staging", None) else {
            panic!("refused");
        };
        assert_eq!(path.to_string(), "hdfs://nn:8020/out/.spindle-staging");
        let Ok(Target::Part { part, directory }) =
            guarded("hdfs://nn:8020/out/.spindle-staging/", Some(JOB))
        else {
            panic!("refused");
        };
        assert_eq!(directory, path);
        assert_eq!(part, path.join(JOB).unwrap());
    }

    #[test]
    fn nothing_of_a_user_is_ever_removed() {
        for path in [
            "",
            "/",
            "hdfs://nn:8020",
            "hdfs://nn:8020/",
            "hdfs://nn:8020/user/ann",
            "hdfs://nn:8020/out",
            "hdfs://nn:8020/.spindle-staging",
            "hdfs://nn:8020/out/.spindle-staging/..",
            "hdfs://nn:8020/out/.spindle-staging/../.spindle-staging",
            "hdfs://nn:8020/out/.spindle-staging/.",
            "hdfs://nn:8020/out/.spindle-staging/part-00000",
            "hdfs://nn:8020/out/.spindle-staging2",
            "hdfs://nn:8020/out/x.spindle-staging",
            "hdfs://nn:8020/out/.SPINDLE-STAGING",
            "hdfs://nn:8020/out/.spindle-staging ",
            "hdfs://nn:8020/out/ .spindle-staging",
            "hdfs://nn:8020/out/*/.spindle-stagin?",
            "hdfs://nn:8020/out/.spindle-staging\n",
            "hdfs://nn:8020/user/ann/.spindle",
            "hdfs://nn:8020/user/ann/.Trash",
            "hdfs://nn:8020/out/.hidden",
            "/out/.spindle-staging",
            "out/.spindle-staging",
            "file:///out/.spindle-staging",
            "s3a://bucket/out/.spindle-staging",
            "../.spindle-staging",
            "hdfs:///../.spindle-staging",
        ] {
            for job in [None, Some(JOB)] {
                let allowed = guarded(path, job);
                assert!(allowed.is_err(), "{path:?}: {allowed:?}");
            }
        }
        let upper = JOB.to_uppercase();
        for job in ["", "..", "a", "../../user", upper.as_str(), &JOB[1..]] {
            let allowed = guarded("hdfs://nn:8020/out/.spindle-staging", Some(job));
            assert!(allowed.is_err(), "{job:?}: {allowed:?}");
        }
    }
    #[test]
    fn checkpoints_are_known_by_the_id_of_their_job() {
        let conf = Configuration::from_pairs([("fs.defaultFS", "hdfs://nn:8020")]);
        let fs = FileSystem::new(&conf, "ann").unwrap();
        let base = fs.resolve("/user/ann/.spindle").unwrap();
        let of = |path: &str, job: &str| {
            let of = JobCheckpoints {
                path: path.to_owned(),
                job: job.to_owned(),
                retained: false,
            };
            checkpoints(&of, &fs, &base).is_ok()
        };
        assert!(of(&format!("hdfs://nn:8020/cp/{JOB}"), JOB));
        let upper = JOB.to_uppercase();
        for (path, job) in [
            (format!("hdfs://nn:8020/{JOB}"), JOB),
            (format!("hdfs://nn:8020/cp/../{JOB}"), JOB),
            (format!("/cp/{JOB}"), JOB),
            (format!("file:///cp/{JOB}"), JOB),
            ("hdfs://nn:8020/user/ann".to_owned(), "ann"),
            ("hdfs://nn:8020/user/ann".to_owned(), JOB),
            (format!("hdfs://nn:8020/cp/{upper}"), upper.as_str()),
        ] {
            assert!(!of(&path, job), "{path}");
        }
    }
}
