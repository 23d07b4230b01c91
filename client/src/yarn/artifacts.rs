//! The executables that an application's containers run: in HDFS by their hash, uploaded once.
//!
//! An artifact is `.spindle/cache/<sha256>` in the user's home. It is written under a name of its own and renamed when it is
//! whole, so whatever stands under a hash is complete; whoever comes second finds it there.

use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use sha2::{Digest, Sha256};
use spindle_common::deployment::{
    APPLICATION_MASTER_EXECUTABLE, ArtifactSpec, TASK_EXECUTOR_EXECUTABLE,
};
use spindle_hadoop::fs::{CreateOptions, FileStatus, FsPath};

use super::cluster::Cluster;
use crate::error::CliError;
use crate::settings::Settings;

/// A file for containers.
pub(crate) struct Artifact {
    /// Its name in the container's working directory.
    pub(crate) name: String,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}

/// What is in HDFS now.
#[derive(Debug)]
pub(crate) struct Uploaded {
    /// In the order of the artifacts.
    pub(crate) artifacts: Vec<ArtifactSpec>,
    /// Files that were not there before.
    pub(crate) files: usize,
    /// Bytes that were not there before.
    pub(crate) bytes: u64,
}

impl Uploaded {
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &ArtifactSpec> {
        self.artifacts
            .iter()
            .filter(move |artifact| artifact.name == name)
    }

    pub(crate) fn all_but(&self, name: &str) -> impl Iterator<Item = &ArtifactSpec> {
        self.artifacts
            .iter()
            .filter(move |artifact| artifact.name != name)
    }
}

/// Spindle's own executables for containers; they lie beside this one.
pub(crate) fn own() -> Result<Vec<Artifact>, CliError> {
    let directory = std::env::current_exe()
        .and_then(std::fs::canonicalize)
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("."));
    [APPLICATION_MASTER_EXECUTABLE, TASK_EXECUTOR_EXECUTABLE]
        .into_iter()
        .map(|name| {
            let path = directory.join(name);
            let bytes = std::fs::read(&path).map_err(|cause| {
                CliError::usage(format!("cannot read `{}`, which containers run", path.display()))
                    .because(cause)
                    .hint("the executables spindle, spindle-yarn-am and spindle-taskexecutor belong into one directory")
            })?;
            Ok(Artifact { name: name.to_owned(), bytes })
        })
        .collect()
}

/// Brings all artifacts that are not there yet into HDFS, side by side.
pub(crate) async fn upload(
    cluster: &Cluster,
    settings: &Settings,
    artifacts: Vec<Artifact>,
) -> Result<Uploaded, CliError> {
    let cache = cluster
        .base(settings)?
        .join("cache")
        .map_err(|cause| cannot_upload("the cache", cause))?;
    let hashed = tokio::task::spawn_blocking(move || {
        let hash = |artifact: Artifact| (digest(&artifact.bytes), artifact);
        artifacts.into_iter().map(hash).collect::<Vec<_>>()
    })
    .await
    .map_err(|cause| CliError::usage("hashing the executables was interrupted").because(cause))?;

    let each = hashed
        .into_iter()
        .map(|(hash, artifact)| upload_one(cluster, &cache, hash, artifact));
    let mut uploaded = Uploaded {
        artifacts: Vec::new(),
        files: 0,
        bytes: 0,
    };
    for (spec, was_new) in try_join_all(each).await? {
        if was_new {
            uploaded.files += 1;
            uploaded.bytes += spec.size;
        }
        uploaded.artifacts.push(spec);
    }
    Ok(uploaded)
}

/// SHA-256, hexadecimal: the name of a file in the cache.
fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a file is in the cache.
pub(crate) enum Cached {
    /// It is.
    There(ArtifactSpec),
    /// It has to be uploaded.
    Missing(Artifact),
}

/// Looks for a file in the cache; changes nothing.
pub(crate) async fn find(
    cluster: &Cluster,
    settings: &Settings,
    artifact: Artifact,
) -> Result<Cached, CliError> {
    let (hash, artifact) = tokio::task::spawn_blocking(move || (digest(&artifact.bytes), artifact))
        .await
        .map_err(|cause| CliError::usage("hashing the job was interrupted").because(cause))?;
    let path = cluster
        .base(settings)?
        .join(&format!("cache/{hash}"))
        .map_err(|cause| cannot_upload("the cache", cause))?;
    match cluster.fs.stat(&path).await {
        Ok(status) if status.len == artifact.bytes.len() as u64 => {
            Ok(Cached::There(spec(&artifact.name, &status)?))
        }
        Ok(_) => Ok(Cached::Missing(artifact)),
        Err(error) if error.is_not_found() => Ok(Cached::Missing(artifact)),
        Err(error) => Err(CliError::cluster("HDFS cannot be used").because(error)),
    }
}

async fn upload_one(
    cluster: &Cluster,
    cache: &FsPath,
    hash: String,
    artifact: Artifact,
) -> Result<(ArtifactSpec, bool), CliError> {
    let fs = &cluster.fs;
    let name = artifact.name;
    let failed = |cause| cannot_upload(&name, cause);
    let size = artifact.bytes.len() as u64;
    let target = cache.join(&hash).map_err(failed)?;
    let whole = |status: &FileStatus| status.len == size;
    match fs.stat(&target).await {
        Ok(status) if whole(&status) => return Ok((spec(&name, &status)?, false)),
        Ok(_) => {
            // Only somebody's own hands can have made it: what we write is renamed when it is whole.
            fs.delete(&target, false).await.map_err(failed)?;
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(failed(error)),
    }
    fs.mkdirs(cache, 0o700).await.map_err(failed)?;
    let temporary = cache
        .join(&format!("{hash}.tmp-{}", uuid::Uuid::new_v4()))
        .map_err(failed)?;
    let options = CreateOptions::default().permission(0o700);
    let moved = match fs.write(&temporary, artifact.bytes.into(), &options).await {
        Ok(()) => fs.rename(&temporary, &target, false).await,
        Err(error) => Err(error),
    };
    if let Err(error) = moved {
        // The first error counts; a file that cannot be removed now is found by its name later.
        drop(fs.delete(&temporary, false).await);
        if !error.is_already_exists() {
            return Err(failed(error));
        }
    }
    let status = fs.stat(&target).await.map_err(failed)?;
    Ok((spec(&name, &status)?, true))
}

fn spec(name: &str, status: &FileStatus) -> Result<ArtifactSpec, CliError> {
    let mtime_ms = i64::try_from(status.mtime_ms).map_err(|cause| {
        CliError::cluster(format!(
            "{} has a modification time beyond all reason",
            status.path
        ))
        .because(cause)
    })?;
    Ok(ArtifactSpec {
        name: name.to_owned(),
        uri: status.path.to_string(),
        size: status.len,
        mtime_ms,
    })
}

fn cannot_upload(name: &str, cause: spindle_hadoop::fs::FsError) -> CliError {
    CliError::cluster(format!("cannot bring {name} into HDFS")).because(cause)
}
