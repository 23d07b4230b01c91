use std::path::Path;

use spindle_hadoop::conf::Configuration;

use super::*;

const JOB: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

async fn run(root: &Path, applications: &[(&str, Life)], dry_run: bool) -> Vec<Done> {
    let fs = FileSystem::new(&Configuration::new(), "ann").unwrap();
    let known = Known {
        base: FsPath::file(root.join("home/.spindle").to_str().unwrap()).unwrap(),
        applications: applications
            .iter()
            .map(|(id, life)| (id.parse().unwrap(), *life))
            .collect(),
        resource_managers: Vec::new(),
        // Everything is older than it can be.
        now_ms: u64::MAX,
        ages: Ages {
            unfinished: Duration::from_secs(3_600),
            cached: Duration::from_secs(7 * 86_400),
        },
        dry_run,
    };
    let mut done = Vec::new();
    sweep(&fs, known, &mut |one| done.push(one)).await.unwrap();
    done
}

const DEAD: &str = "application_1_0001";
const ALIVE: &str = "application_1_0002";
const LIVES: [(&str, Life); 2] = [(DEAD, Life::Over), (ALIVE, Life::Alive)];

fn lay_out(root: &Path) {
    let staging = format!("file://{}/out/.spindle-staging", root.display());
    let user = format!("file://{}/out", root.display());
    let lines = format!(
        "{{\"path\":\"{staging}\",\"job\":\"{JOB}\"}}\n{{\"path\":\"{user}\",\"job\":\"{JOB}\"}}\n"
    );
    put(root, &format!("home/.spindle/{DEAD}/manifest"), &lines);
    put(root, &format!("home/.spindle/{DEAD}/secret"), "s");
    put(root, &format!("home/.spindle/{ALIVE}/secret"), "s");
    put(
        root,
        &format!("home/.spindle/cache/{}", "ab".repeat(32)),
        "x",
    );
    put(root, "home/.spindle/cache/abc.tmp-1", "x");
    put(root, "home/.spindle/mine", "x");
    put(root, &format!("out/.spindle-staging/{JOB}/0-0/part"), "x");
    put(root, &format!("out/.spindle-staging/{OTHER}/0-0/part"), "x");
    put(root, "out/part-00000", "x");
}

#[tokio::test]
async fn only_the_dead_applications_traces_go() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out(root);
    let done = run(root, &LIVES, false).await;
    let there = |path: &str| root.join(path).exists();
    assert!(!there(&format!("home/.spindle/{DEAD}")), "{done:?}");
    assert!(!there(&format!("out/.spindle-staging/{JOB}")));
    assert!(!there("home/.spindle/cache/abc.tmp-1"));
    assert!(there(&format!("out/.spindle-staging/{OTHER}/0-0/part")));
    assert!(there(&format!("home/.spindle/{ALIVE}/secret")));
    assert!(there(&format!("home/.spindle/cache/{}", "ab".repeat(32))));
    assert!(there("home/.spindle/mine"));
    assert!(there("out/part-00000"), "a user's data");
}

#[tokio::test]
async fn a_staging_directory_goes_with_its_last_job() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out(root);
    std::fs::remove_dir_all(root.join("out/.spindle-staging").join(OTHER)).unwrap();
    run(root, &LIVES, false).await;
    assert!(!root.join("out/.spindle-staging").exists());
    assert!(root.join("out/part-00000").exists());
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_removes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out(root);
    let would = run(root, &LIVES, true).await;
    assert!(root.join("home/.spindle").join(DEAD).exists());
    assert_eq!(would, run(root, &LIVES, false).await);
    let again = run(root, &LIVES, false).await;
    let removed = |done: &[Done]| {
        let is_removed = |one: &&Done| matches!(one, Done::Removed { .. });
        done.iter().filter(is_removed).count()
    };
    assert_eq!((removed(&would), removed(&again)), (3, 0), "{would:?}");
}

#[tokio::test]
async fn clearing_one_application_takes_its_jobs_part_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out(root);
    let fs = FileSystem::new(&Configuration::new(), "ann").unwrap();
    let staging = root.join("home/.spindle").join(DEAD);
    let path = FsPath::file(staging.to_str().unwrap()).unwrap();
    clear(&fs, &path).await.unwrap();
    clear(&fs, &path).await.unwrap();
    let there = |path: &str| root.join(path).exists();
    assert!(!staging.exists());
    assert!(!there(&format!("out/.spindle-staging/{JOB}")));
    assert!(there(&format!("out/.spindle-staging/{OTHER}/0-0/part")));
    assert!(there("out/part-00000"), "a user's data");
}

fn lay_out_checkpoints(root: &Path, retained: bool) {
    lay_out(root);
    let path = format!("file://{}/cp/{JOB}", root.display());
    let manifest = root.join(format!("home/.spindle/{DEAD}/manifest"));
    let text = std::fs::read_to_string(&manifest).unwrap();
    let line =
        format!("{{\"checkpoints\":\"{path}\",\"job\":\"{JOB}\",\"retained\":{retained}}}\n");
    std::fs::write(manifest, text + &line).unwrap();
    for name in ["chk-7/_metadata", "chk-7/state", "chk-8/state"] {
        put(root, &format!("cp/{JOB}/{name}"), "x");
    }
    put(root, &format!("cp/{OTHER}/chk-1/_metadata"), "x");
    // It tells that it uses nothing of that.
    put(
        root,
        &format!("home/.spindle/{ALIVE}/manifest"),
        "{\"artifact\":\"a\"}\n",
    );
}

#[tokio::test]
async fn checkpoints_that_are_not_retained_go_with_their_application() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out_checkpoints(root, false);
    let done = run(root, &LIVES, false).await;
    assert!(!root.join("cp").join(JOB).exists(), "{done:?}");
    assert!(!root.join("home/.spindle").join(DEAD).exists());
    assert!(root.join("cp").join(OTHER).join("chk-1").exists());
}

#[tokio::test]
async fn a_retained_checkpoint_stays_with_all_that_it_needs_until_it_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out_checkpoints(root, true);
    let done = run(root, &LIVES, false).await;
    let there = |path: &str| root.join(path).exists();
    assert!(there(&format!("cp/{JOB}/chk-7/state")), "{done:?}");
    assert!(there(&format!("out/.spindle-staging/{JOB}/0-0/part")));
    assert!(there(&format!("home/.spindle/{DEAD}/manifest")));
    std::fs::remove_dir_all(root.join(format!("cp/{JOB}/chk-7"))).unwrap();
    let done = run(root, &LIVES, false).await;
    assert!(!there(&format!("out/.spindle-staging/{JOB}")), "{done:?}");
    assert!(!there(&format!("home/.spindle/{DEAD}")));
}

#[tokio::test]
async fn clearing_leaves_an_application_with_a_checkpoint_to_the_sweep() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    lay_out_checkpoints(root, false);
    let fs = FileSystem::new(&Configuration::new(), "ann").unwrap();
    let staging = root.join("home/.spindle").join(DEAD);
    let path = FsPath::file(staging.to_str().unwrap()).unwrap();
    clear(&fs, &path).await.unwrap();
    assert!(staging.exists());
    std::fs::remove_file(root.join(format!("cp/{JOB}/chk-7/_metadata"))).unwrap();
    clear(&fs, &path).await.unwrap();
    assert!(!staging.exists());
}

#[tokio::test]
async fn without_a_directory_there_is_nothing_to_do() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(run(root.path(), &[], false).await, []);
}
