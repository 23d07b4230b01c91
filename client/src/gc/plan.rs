//! Decides what goes and what stays, from what was seen; touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spindle_hadoop::fs::{FileStatus, FsPath};
use spindle_hadoop::yarn::ApplicationId;

use super::manifest::{JobCheckpoints, Manifest, SideEffect};

/// What the ResourceManager says of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It waits or runs.
    Alive,
    /// It waits or runs, and takes jobs at any time: it may need any cached file.
    Session,
    /// It waits or runs, and its type is not ours: it matters only if it has a staging directory all the same.
    Foreign,
    /// It has ended.
    Over,
}

/// A staging directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Staging {
    pub(crate) application: ApplicationId,
    pub(crate) path: FsPath,
    pub(crate) mtime_ms: u64,
    /// Its manifest, if there is one that can be read.
    pub(crate) manifest: Option<Manifest>,
}

/// All that was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) now_ms: u64,
    /// The user's applications that the ResourceManager knows.
    pub(crate) applications: BTreeMap<ApplicationId, Life>,
    pub(crate) stagings: Vec<Staging>,
    /// Files of the cache.
    pub(crate) cache: Vec<FileStatus>,
    /// `host:port` of our ResourceManagers.
    pub(crate) resource_managers: Vec<String>,
    /// Of directories of checkpoints of applications that are not known to live, by their URI: the newest complete one.
    pub(crate) newest: BTreeMap<String, String>,
}

/// From which age on things are rubbish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ages {
    /// Unfinished uploads, and staging of applications that the ResourceManager does not know.
    pub(crate) unfinished: Duration,
    /// Cached files.
    pub(crate) cached: Duration,
}

/// An application whose traces go: the side effects first, the directory that tells of them last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Traces {
    pub(crate) application: ApplicationId,
    pub(crate) reason: String,
    pub(crate) effects: Vec<SideEffect>,
    /// Checkpoints that are not to outlive their jobs.
    pub(crate) checkpoints: Vec<JobCheckpoints>,
    pub(crate) staging: FsPath,
}

/// Something that stays although it might seem to be rubbish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) path: String,
    pub(crate) reason: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    pub(crate) applications: Vec<Traces>,
    /// Files of the cache, and why.
    pub(crate) files: Vec<(FileStatus, String)>,
    pub(crate) kept: Vec<Kept>,
}

/// What goes, what stays.
pub(crate) fn plan(seen: &Observed, ages: Ages) -> Plan {
    let mut plan = Plan::default();
    let mut dead = Vec::new();
    let mut living = Vec::new();
    for staging in &seen.stagings {
        match verdict(seen, ages, staging) {
            Verdict::Alive => living.push(staging),
            Verdict::Kept(reason) => {
                living.push(staging);
                plan.kept.push(Kept {
                    path: staging.path.to_string(),
                    reason,
                });
            }
            Verdict::Dead(reason) => dead.push((staging, reason)),
        }
    }
    let told: Vec<&Manifest> = living
        .iter()
        .filter_map(|staging| staging.manifest.as_ref())
        .collect();
    // A living application whose manifest is not there may use anything.
    let all_told = told.len() == living.len()
        && seen.applications.iter().all(|(application, life)| {
            matches!(life, Life::Over | Life::Foreign)
                || living.iter().any(|one| one.application == *application)
        });
    let in_use: BTreeSet<&str> = told
        .iter()
        .flat_map(|manifest| &manifest.effects)
        .map(|effect| effect.path.trim_end_matches('/'))
        .collect();
    let sessions = |life: &Life| *life == Life::Session;
    let any_session = seen.applications.values().any(sessions);
    let begun_with: Vec<&str> = told
        .iter()
        .flat_map(|manifest| &manifest.begins_with)
        .map(String::as_str)
        .collect();
    for (staging, reason) in dead {
        let mut effects = Vec::new();
        let mut shared = false;
        // What a job can still begin with: what it has prepared is part of that.
        let mut promised = BTreeSet::new();
        let mut checkpoints = Vec::new();
        for of in staging.manifest.iter().flat_map(|one| &one.checkpoints) {
            let used = any_session
                || !all_told
                || begun_with.iter().any(|path| path.starts_with(&of.path));
            match seen.newest.get(&of.path) {
                Some(newest) if of.retained || used => {
                    promised.insert(of.job.as_str());
                    shared = true;
                    plan.kept.push(Kept {
                        path: newest.clone(),
                        reason: if of.retained {
                            "it is the newest checkpoint of a job that has not finished, and its retention keeps it; `spindle run -s` begins with it, and when it is removed gc removes the rest"
                        } else {
                            "a running application may have begun with it"
                        }
                        .to_owned(),
                    });
                }
                Some(_) | None if of.retained => {}
                Some(_) | None => checkpoints.push(of.clone()),
            }
        }
        for effect in staging.manifest.iter().flat_map(|one| &one.effects) {
            if effect
                .job
                .as_deref()
                .is_some_and(|job| promised.contains(job))
            {
                plan.kept.push(Kept {
                    path: effect.path.clone(),
                    reason: "a checkpoint that is kept has prepared output there".to_owned(),
                });
                continue;
            }
            // A job's part is its own; a whole directory may be another application's too.
            let path = effect.path.trim_end_matches('/');
            if effect.job.is_some() || (all_told && !in_use.contains(path)) {
                effects.push(effect.clone());
            } else {
                shared = true;
                plan.kept.push(Kept {
                    path: effect.path.clone(),
                    reason: "a running application may write there too".to_owned(),
                });
            }
        }
        if shared {
            plan.kept.push(Kept {
                path: staging.path.to_string(),
                reason: "it tells of what cannot be removed yet".to_owned(),
            });
        } else {
            plan.applications.push(Traces {
                application: staging.application,
                reason,
                effects,
                checkpoints,
                staging: staging.path.clone(),
            });
        }
    }
    // One that does not tell of its executables may need any.
    let is_known_what_is_used = all_told
        && told.iter().all(|manifest| !manifest.artifacts.is_empty())
        && seen
            .applications
            .values()
            .all(|&life| life != Life::Session);
    let used: BTreeSet<&str> = told
        .iter()
        .flat_map(|manifest| &manifest.artifacts)
        .map(String::as_str)
        .collect();
    for file in &seen.cache {
        let age = age(seen.now_ms, file.mtime_ms);
        let name = file.path.name().unwrap_or_default();
        if let Some((_, upload)) = name.split_once(".tmp-") {
            if !upload.is_empty() && age > ages.unfinished {
                let reason = format!("an upload that was not finished, {} old", words(age));
                plan.files.push((file.clone(), reason));
            }
        } else if is_hash(name) && age > ages.cached {
            if used.contains(file.path.to_string().as_str()) {
                continue;
            }
            if is_known_what_is_used {
                let reason = format!("{} old and in no use", words(age));
                plan.files.push((file.clone(), reason));
            } else {
                plan.kept.push(Kept {
                    path: file.path.to_string(),
                    reason: "a running session, or an application that does not say what it uses, may need it".to_owned(),
                });
            }
        }
    }
    plan
}

enum Verdict {
    Alive,
    Kept(String),
    Dead(String),
}

fn verdict(seen: &Observed, ages: Ages, staging: &Staging) -> Verdict {
    match seen.applications.get(&staging.application) {
        Some(Life::Alive | Life::Session | Life::Foreign) => return Verdict::Alive,
        Some(Life::Over) => return Verdict::Dead("its application is over".to_owned()),
        None => {}
    }
    let theirs = staging
        .manifest
        .as_ref()
        .map_or(&[][..], |manifest| &manifest.resource_managers[..]);
    if !theirs.is_empty() && !theirs.iter().any(|rm| seen.resource_managers.contains(rm)) {
        return Verdict::Kept(format!(
            "it belongs to the cluster of the ResourceManager at {}",
            theirs.join(" or ")
        ));
    }
    let age = age(seen.now_ms, staging.mtime_ms);
    if age > ages.unfinished {
        Verdict::Dead(format!(
            "the ResourceManager does not know its application, and it is {} old",
            words(age)
        ))
    } else {
        Verdict::Kept("its application may be about to be submitted".to_owned())
    }
}

fn age(now_ms: u64, then_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(then_ms))
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A length of time, roughly.
fn words(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 100_000 * HOUR;
    const JOB: &str = "0123456789abcdef0123456789abcdef";
    const AGES: Ages = Ages {
        unfinished: Duration::from_secs(3_600),
        cached: Duration::from_secs(7 * 86_400),
    };

    fn id(id: u32) -> ApplicationId {
        ApplicationId {
            cluster_timestamp: 1,
            id,
        }
    }

    fn file(name: &str, age_ms: u64) -> FileStatus {
        FileStatus {
            path: FsPath::file(&format!("/h/.spindle/cache/{name}")).unwrap(),
            len: 1,
            mtime_ms: NOW - age_ms,
            is_dir: false,
            permission: 0o700,
            owner: "ann".to_owned(),
            group: "ann".to_owned(),
        }
    }

    fn staging(number: u32, age_ms: u64, manifest: Option<Manifest>) -> Staging {
        Staging {
            application: id(number),
            path: FsPath::file(&format!("/h/.spindle/{}", id(number))).unwrap(),
            mtime_ms: NOW - age_ms,
            manifest,
        }
    }

    fn writes(path: &str, job: Option<&str>) -> Manifest {
        Manifest {
            resource_managers: vec!["rm:1".to_owned()],
            artifacts: Vec::new(),
            effects: vec![SideEffect {
                path: path.to_owned(),
                job: job.map(str::to_owned),
            }],
            ..Manifest::default()
        }
    }

    fn checkpointed(retained: bool) -> Manifest {
        Manifest {
            checkpoints: vec![JobCheckpoints {
                path: format!("hdfs://nn/cp/{JOB}"),
                job: JOB.to_owned(),
                retained,
            }],
            ..writes("hdfs://nn/o/.spindle-staging", Some(JOB))
        }
    }

    fn seen(applications: &[(u32, Life)], stagings: Vec<Staging>) -> Observed {
        Observed {
            now_ms: NOW,
            applications: applications
                .iter()
                .map(|&(n, life)| (id(n), life))
                .collect(),
            stagings,
            cache: Vec::new(),
            resource_managers: vec!["rm:1".to_owned()],
            newest: BTreeMap::new(),
        }
    }

    fn gone(plan: &Plan) -> Vec<u32> {
        plan.applications
            .iter()
            .map(|one| one.application.id)
            .collect()
    }

    #[test]
    fn what_is_over_goes_at_once_and_what_lives_stays() {
        let stagings = vec![staging(1, 0, None), staging(2, 99 * HOUR, None)];
        let seen = seen(&[(1, Life::Over), (2, Life::Alive)], stagings);
        assert_eq!(gone(&plan(&seen, AGES)), [1]);
    }

    #[test]
    fn an_unknown_application_is_given_an_hour() {
        let stagings = vec![
            staging(1, HOUR - 1, None),
            staging(2, HOUR, None),
            staging(3, HOUR + 1, None),
        ];
        let plan = plan(&seen(&[], stagings), AGES);
        assert_eq!(gone(&plan), [3]);
        assert_eq!(plan.kept.len(), 2);
    }

    #[test]
    fn a_clock_behind_that_of_hdfs_removes_nothing() {
        let mut staging = staging(1, 0, None);
        staging.mtime_ms = NOW + 5 * HOUR;
        assert!(gone(&plan(&seen(&[], vec![staging]), AGES)).is_empty());
    }

    #[test]
    fn an_application_of_another_cluster_stays_however_old() {
        let mut manifest = writes("hdfs://nn/o/.spindle-staging", Some(JOB));
        manifest.resource_managers = vec!["other:1".to_owned()];
        let plan = plan(
            &seen(&[], vec![staging(1, 99 * HOUR, Some(manifest))]),
            AGES,
        );
        assert!(gone(&plan).is_empty());
        assert!(plan.kept[0].reason.contains("other:1"), "{:?}", plan.kept);
    }

    #[test]
    fn a_whole_directory_that_a_running_application_writes_to_stays_with_what_tells_of_it() {
        let path = "hdfs://nn/o/.spindle-staging";
        let dead = |job| staging(1, 0, Some(writes(path, job)));
        let lives = [(1, Life::Over), (2, Life::Alive)];
        let same = staging(2, 0, Some(writes(&format!("{path}/"), Some(JOB))));
        let other = staging(2, 0, Some(writes("hdfs://nn/p/.spindle-staging", None)));
        let silent = staging(2, 0, None);
        let outcome = |job, living: &Staging| {
            gone(&plan(&seen(&lives, vec![dead(job), living.clone()]), AGES))
        };
        assert!(outcome(None, &same).is_empty());
        assert!(outcome(None, &silent).is_empty());
        assert_eq!(outcome(None, &other), [1]);
        assert_eq!(outcome(Some(JOB), &same), [1], "a job's part is its own");
        // Alive, but without a staging directory that could tell.
        assert!(gone(&plan(&seen(&lives, vec![dead(None)]), AGES)).is_empty());
        let lives = [(1, Life::Over), (2, Life::Foreign)];
        assert_eq!(gone(&plan(&seen(&lives, vec![dead(None)]), AGES)), [1]);
    }

    #[test]
    fn a_checkpoint_that_outlives_its_job_stays_with_the_output_that_it_promises() {
        let path = format!("hdfs://nn/cp/{JOB}");
        let of = |retained, newest: bool, living: Option<Manifest>| {
            let mut stagings = vec![staging(1, 0, Some(checkpointed(retained)))];
            stagings.extend(living.map(|living| staging(2, 0, Some(living))));
            let lives = [(1, Life::Over), (2, Life::Alive)];
            let lives = &lives[..stagings.len()];
            let mut seen = seen(lives, stagings);
            if newest {
                seen.newest.insert(path.clone(), format!("{path}/chk-7"));
            }
            plan(&seen, AGES)
        };
        let kept = of(true, true, None);
        assert!(gone(&kept).is_empty());
        assert!(kept.kept[0].path.ends_with("chk-7"), "{kept:?}");
        // Nobody can begin with it any more.
        let without = of(true, false, None);
        assert_eq!(gone(&without), [1]);
        assert_eq!(without.applications[0].effects.len(), 1);
        assert!(without.applications[0].checkpoints.is_empty());
        for newest in [true, false] {
            let removed = of(false, newest, None);
            assert_eq!(removed.applications[0].checkpoints.len(), 1);
        }
        let mut living = writes("hdfs://nn/p/.spindle-staging", Some(JOB));
        assert_eq!(gone(&of(false, true, Some(living.clone()))), [1]);
        living.begins_with = vec![format!("{path}/chk-7")];
        assert!(gone(&of(false, true, Some(living))).is_empty());
    }

    #[test]
    fn the_cache_loses_old_uploads_and_what_is_old_and_unused() {
        let hash = "ab".repeat(32);
        let other = "cd".repeat(32);
        let mut manifest = writes("hdfs://nn/o/.spindle-staging", Some(JOB));
        manifest.artifacts = vec![file(&hash, 0).path.to_string()];
        let cache = vec![
            file(&hash, 8 * 24 * HOUR),
            file(&other, 8 * 24 * HOUR),
            file(&"ef".repeat(32), 6 * 24 * HOUR),
            file(&format!("{hash}.tmp-1"), HOUR + 1),
            file(&format!("{hash}.tmp-2"), HOUR),
            file("notes.txt", 99 * 24 * HOUR),
        ];
        let removed = |life, living: Option<Manifest>| -> Vec<String> {
            let mut seen = seen(&[(2, life)], vec![staging(2, 0, living)]);
            seen.cache.clone_from(&cache);
            let files = plan(&seen, AGES).files;
            files
                .iter()
                .map(|(file, _)| file.path.name().unwrap().to_owned())
                .collect()
        };
        let upload = format!("{hash}.tmp-1");
        let told = || Some(manifest.clone());
        assert_eq!(removed(Life::Alive, told()), [other, upload.clone()]);
        for (life, manifest) in [
            (Life::Alive, None),
            (Life::Alive, Some(Manifest::default())),
            (Life::Session, told()),
        ] {
            let only = [upload.clone()];
            assert_eq!(
                removed(life, manifest),
                only,
                "who does not tell may use it all"
            );
        }
    }
}
