//! Removes from HDFS what belongs to applications that are over: looks, plans, removes.
//!
//! Nothing is removed before the ResourceManager has answered. What cannot be removed keeps the staging directory that tells
//! of it, so that the next run finds it again.

pub(crate) mod manifest;
mod plan;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use spindle_hadoop::fs::{FileStatus, FileSystem, FsError, FsPath};
use spindle_hadoop::yarn::ApplicationId;
use spindle_storage::METADATA_FILE;

use manifest::{JobCheckpoints, MANIFEST, Manifest, Target};
pub(crate) use plan::{Ages, Life};
use plan::{Observed, Staging};

/// How long a dead writer's manifest is waited for.
const LEASE_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LEASE_PAUSE: Duration = Duration::from_millis(250);

/// What is known before looking into HDFS.
pub(crate) struct Known {
    /// `.spindle` of the user.
    pub(crate) base: FsPath,
    /// The user's applications that the ResourceManager knows.
    pub(crate) applications: BTreeMap<ApplicationId, Life>,
    /// `host:port` of the ResourceManagers.
    pub(crate) resource_managers: Vec<String>,
    /// Milliseconds since the epoch.
    pub(crate) now_ms: u64,
    pub(crate) ages: Ages,
    /// Only tell.
    pub(crate) dry_run: bool,
}

/// What was done about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    Removed {
        path: String,
        reason: String,
        bytes: u64,
    },
    Kept {
        path: String,
        reason: String,
    },
    Failed {
        path: String,
        cause: String,
    },
}

/// Removes what is rubbish; each thing done is told as it happens.
///
/// # Errors
/// When the user's directory cannot be listed. What cannot be removed is told, and is no error.
pub(crate) async fn sweep(
    fs: &FileSystem,
    known: Known,
    tell: &mut dyn FnMut(Done),
) -> Result<(), FsError> {
    let seen = observe(fs, &known).await?;
    let plan = plan::plan(&seen, known.ages);
    for kept in plan.kept {
        let (path, reason) = (kept.path, kept.reason);
        tell(Done::Kept { path, reason });
    }
    let mut sweeper = Sweeper {
        fs,
        dry_run: known.dry_run,
        tell,
    };
    for traces in plan.applications {
        let mut clean = true;
        for of in &traces.checkpoints {
            match manifest::checkpoints(of, fs, &known.base) {
                Ok(directory) => clean &= sweeper.checkpoints(&directory, &traces.reason).await,
                Err(why) => (sweeper.tell)(Done::Kept {
                    path: of.path.clone(),
                    reason: format!("it is not Spindle's to remove: {why}"),
                }),
            }
        }
        for effect in &traces.effects {
            match manifest::target(effect, fs, &known.base) {
                Ok(target) => clean &= sweeper.effect(&target, &traces.reason).await,
                // It stays for ever: no reason to keep what tells of it.
                Err(why) => (sweeper.tell)(Done::Kept {
                    path: effect.path.clone(),
                    reason: format!("it is not Spindle's to remove: {why}"),
                }),
            }
        }
        if clean {
            sweeper.tree(&traces.staging, &traces.reason).await;
        }
    }
    for (file, reason) in plan.files {
        sweeper.remove(&file.path, false, &reason, file.len).await;
    }
    if !known.dry_run {
        let cache = known.base.join("cache")?;
        for directory in [cache, known.base] {
            remove_if_empty(fs, &directory, tell).await;
        }
    }
    Ok(())
}

/// HDFS refuses to remove a directory that somebody has put something into meanwhile.
async fn remove_if_empty(fs: &FileSystem, directory: &FsPath, tell: &mut dyn FnMut(Done)) {
    match fs.delete(directory, false).await {
        Ok(true) => tell(Done::Removed {
            path: directory.to_string(),
            reason: "it is empty".to_owned(),
            bytes: 0,
        }),
        Ok(false) | Err(FsError::NotEmpty { .. }) => {}
        Err(error) => tracing::debug!(%directory, %error, "not removed"),
    }
}

/// Removes the traces of one application that is over, if somebody else has not: what its jobs made, then its staging directory.
///
/// # Errors
/// When the staging directory cannot be removed. It stays, for the next sweep, where something else could not be, or where there is a
/// checkpoint that somebody may want to begin with.
pub(crate) async fn clear(fs: &FileSystem, staging: &FsPath) -> Result<(), FsError> {
    if !fs.exists(staging).await? {
        return Ok(());
    }
    let mut sweeper = Sweeper {
        fs,
        dry_run: false,
        tell: &mut |done| tracing::debug!(?done, "cleared"),
    };
    let manifest = read_manifest(fs, staging, true).await.unwrap_or_default();
    for of in &manifest.checkpoints {
        if newest(fs, of, staging).await.is_some() {
            return Ok(());
        }
    }
    for of in manifest.checkpoints.iter().filter(|of| !of.retained) {
        if let Ok(directory) = manifest::checkpoints(of, fs, staging)
            && !sweeper
                .checkpoints(&directory, "its application is over")
                .await
        {
            return Ok(());
        }
    }
    for effect in &manifest.effects {
        match manifest::target(effect, fs, staging) {
            Ok(part @ Target::Part { .. }) => {
                if !sweeper.effect(&part, "its application is over").await {
                    return Ok(());
                }
            }
            // Whether others write there is known to a sweep only.
            Ok(Target::Whole(_)) => return Ok(()),
            Err(why) => tracing::debug!(path = effect.path, why, "not removed"),
        }
    }
    fs.delete(staging, true).await.map(drop)
}

async fn observe(fs: &FileSystem, known: &Known) -> Result<Observed, FsError> {
    let entries = list(fs, &known.base).await?;
    let mut cache = Vec::new();
    let mut stagings = Vec::new();
    for entry in entries {
        let name = entry.path.name().unwrap_or_default().to_owned();
        if name == "cache" && entry.is_dir {
            let files = list(fs, &entry.path).await?;
            cache.extend(files.into_iter().filter(|file| !file.is_dir));
        } else if let (true, Ok(application)) = (entry.is_dir, name.parse::<ApplicationId>()) {
            stagings.push((application, entry));
        }
    }
    let stagings = join_all(stagings.into_iter().map(|(application, entry)| async move {
        let life = known.applications.get(&application);
        let is_dead = matches!(life, Some(Life::Over));
        let manifest = read_manifest(fs, &entry.path, is_dead).await;
        Staging {
            application,
            path: entry.path,
            mtime_ms: entry.mtime_ms,
            manifest,
        }
    }))
    .await;
    let mut newest_of = BTreeMap::new();
    for staging in &stagings {
        let checkpoints = staging.manifest.iter().flat_map(|one| &one.checkpoints);
        match known.applications.get(&staging.application) {
            Some(Life::Alive | Life::Session | Life::Foreign) => {}
            Some(Life::Over) | None => {
                for of in checkpoints {
                    let found = newest(fs, of, &known.base).await;
                    newest_of.extend(found.map(|newest| (of.path.clone(), newest)));
                }
            }
        }
    }
    Ok(Observed {
        newest: newest_of,
        now_ms: known.now_ms,
        applications: known.applications.clone(),
        stagings,
        cache,
        resource_managers: known.resource_managers.clone(),
    })
}

/// The newest complete checkpoint of a job; where that cannot be told, the directory, for there may be one.
async fn newest(fs: &FileSystem, of: &JobCheckpoints, base: &FsPath) -> Option<String> {
    let directory = manifest::checkpoints(of, fs, base).ok()?;
    let Ok(entries) = list(fs, &directory).await else {
        return Some(directory.to_string());
    };
    let mut numbered: Vec<(u64, FsPath)> = entries
        .into_iter()
        .filter_map(|entry| Some((checkpoint_number(&entry)?, entry.path)))
        .collect();
    numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    for (_, path) in numbered {
        let metadata = path.join(METADATA_FILE).ok()?;
        if !matches!(fs.exists(&metadata).await, Ok(false)) {
            return Some(path.to_string());
        }
    }
    None
}

/// The number of a directory called `chk-<n>`.
fn checkpoint_number(entry: &FileStatus) -> Option<u64> {
    let number = entry.path.name()?.strip_prefix("chk-")?.parse().ok()?;
    entry.is_dir.then_some(number)
}

async fn list(fs: &FileSystem, path: &FsPath) -> Result<Vec<FileStatus>, FsError> {
    match fs.list(path).await {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        listed => listed,
    }
}

/// A manifest whose writer was killed is still open: nobody can read it before its lease is taken back.
async fn read_manifest(fs: &FileSystem, staging: &FsPath, is_dead: bool) -> Option<Manifest> {
    let file = staging.join(MANIFEST).ok()?;
    fs.stat(&file).await.ok()?;
    if is_dead {
        recover(fs, &file).await;
    }
    let bytes = fs.read(&file).await.ok()?;
    if bytes.is_empty() {
        return None;
    }
    Some(Manifest::decode(&String::from_utf8_lossy(&bytes)))
}

/// Takes the lease back, until the NameNode knows the length.
async fn recover(fs: &FileSystem, file: &FsPath) {
    let start = Instant::now();
    while start.elapsed() < LEASE_WAIT {
        match fs.recover_lease(file).await {
            Ok(true) => return,
            Ok(false) => {}
            // The application itself has removed it meanwhile.
            Err(error) if error.is_not_found() => return,
            // Recovery that is under way may be an error, too.
            Err(error) => tracing::debug!(%error, "the lease is not recovered"),
        }
        tokio::time::sleep(LEASE_PAUSE).await;
    }
}

struct Sweeper<'a> {
    fs: &'a FileSystem,
    dry_run: bool,
    tell: &'a mut dyn FnMut(Done),
}

impl Sweeper<'_> {
    /// Whether it is gone.
    async fn effect(&mut self, target: &Target, reason: &str) -> bool {
        match target {
            Target::Whole(directory) => self.tree(directory, reason).await,
            Target::Part { part, directory } => {
                if !self.tree(part, reason).await {
                    return false;
                }
                // Other jobs' parts stay.
                match self.fs.list(directory).await {
                    Ok(left) if left.is_empty() => self.remove(directory, false, reason, 0).await,
                    Ok(_) | Err(_) => true,
                }
            }
        }
    }

    /// Removes a job's checkpoints, and its directory if nothing else is in it. Whether they are gone.
    async fn checkpoints(&mut self, directory: &FsPath, reason: &str) -> bool {
        let entries = match list(self.fs, directory).await {
            Ok(entries) => entries,
            Err(error) => {
                (self.tell)(Done::Failed {
                    path: directory.to_string(),
                    cause: crate::error::report(&error),
                });
                return false;
            }
        };
        let mut others = false;
        for entry in entries {
            if checkpoint_number(&entry).is_none() {
                others = true;
            } else if !self.tree(&entry.path, reason).await {
                return false;
            }
        }
        others || self.remove(directory, false, reason, 0).await
    }

    async fn tree(&mut self, path: &FsPath, reason: &str) -> bool {
        let bytes = match self.fs.list(path).await {
            Ok(entries) => entries.iter().map(|entry| entry.len).sum(),
            Err(error) if error.is_not_found() => return true,
            Err(_) => 0,
        };
        self.remove(path, true, reason, bytes).await
    }

    async fn remove(&mut self, path: &FsPath, recursive: bool, reason: &str, bytes: u64) -> bool {
        let removed = if self.dry_run {
            Ok(true)
        } else {
            self.fs.delete(path, recursive).await
        };
        match removed {
            Ok(true) => (self.tell)(Done::Removed {
                path: path.to_string(),
                reason: reason.to_owned(),
                bytes,
            }),
            Ok(false) => {}
            Err(error) => {
                (self.tell)(Done::Failed {
                    path: path.to_string(),
                    cause: crate::error::report(&error),
                });
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
