//! The picture of the house, proven: who may depend on whom, and what each file has to look like.

#![expect(
    clippy::unwrap_used,
    reason = "a check that cannot look at the tree has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may use of ours, in what it builds. Arrows point down only; `spindle-tests` may use all, and nothing uses it.
const ARROWS: [(&str, &[&str]); 14] = [
    ("spindle-common", &[]),
    ("spindle-rpc", &["spindle-common"]),
    ("spindle-hadoop", &[]),
    ("spindle-storage", &["spindle-common", "spindle-hadoop"]),
    ("spindle-jobmanager", &["spindle-common"]),
    ("spindle-dataflow", &["spindle-common"]),
    (
        "spindle-cluster",
        &[
            "spindle-common",
            "spindle-rpc",
            "spindle-storage",
            "spindle-jobmanager",
        ],
    ),
    (
        "spindle-worker",
        &[
            "spindle-common",
            "spindle-rpc",
            "spindle-storage",
            "spindle-dataflow",
        ],
    ),
    (
        "spindle-state-rocksdb",
        &["spindle-common", "spindle-dataflow"],
    ),
    (
        "spindle-yarn-am",
        &[
            "spindle-common",
            "spindle-rpc",
            "spindle-hadoop",
            "spindle-storage",
            "spindle-jobmanager",
            "spindle-cluster",
        ],
    ),
    // Hadoop for the credentials file alone.
    (
        "spindle-taskexecutor",
        &["spindle-common", "spindle-rpc", "spindle-hadoop"],
    ),
    (
        "spindle-client",
        &[
            "spindle-common",
            "spindle-rpc",
            "spindle-hadoop",
            "spindle-storage",
        ],
    ),
    // The embedded cluster is the JobManager's own.
    (
        "spindle-stream",
        &[
            "spindle-common",
            "spindle-rpc",
            "spindle-hadoop",
            "spindle-storage",
            "spindle-jobmanager",
            "spindle-cluster",
            "spindle-dataflow",
            "spindle-worker",
            "spindle-state-rocksdb",
        ],
    ),
    ("spindle-examples", &["spindle-stream"]),
];

/// Crates of decisions and data.
const PURE: [&str; 3] = ["spindle-common", "spindle-jobmanager", "spindle-dataflow"];

/// What brings a runtime, a socket or a file system along.
const IMPURE: [&str; 8] = [
    "axum",
    "hdfs-native",
    "hyper",
    "mio",
    "reqwest",
    "socket2",
    "tokio",
    "tonic",
];

/// Beyond this a file is two files. At 500 is where to look for the seam.
const MOST_LINES: usize = 700;

/// ARCHITECTURE.md is read in one sitting.
const MOST_LINES_OF_ARCHITECTURE: usize = 250;

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().to_owned()
}

/// Standard output of a cargo command that neither downloads anything nor touches the lock file.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--frozen")
        .current_dir(root())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo {arguments:?} failed: {words}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<serde_json::Value> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// All files of the checkout that people write, without what is hidden or built.
fn files() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') || name == "target" || name == "__pycache__" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    assert!(found.contains(&root().join("Cargo.toml")));
    found
}

fn files_ending(endings: &[&str]) -> Vec<PathBuf> {
    let wanted = |path: &PathBuf| {
        let ending = path.extension().unwrap_or_default();
        endings.iter().any(|wanted| ending == *wanted)
    };
    let found: Vec<PathBuf> = files().into_iter().filter(wanted).collect();
    assert!(
        !found.is_empty(),
        "there are no files ending in {endings:?}"
    );
    found
}

/// A path as people know it.
fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn arrows_between_crates_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into();
    let mut faults = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let used: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            // What only a crate's own tests use may stand above it.
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|used| used.starts_with("spindle-"))
            .collect();
        if name == "spindle-tests" {
            continue;
        }
        let Some(may) = allowed.get(name) else {
            faults.push(format!("{name} has no place in the picture"));
            continue;
        };
        for used in used.into_iter().filter(|used| !may.contains(used)) {
            faults.push(format!("{name} -> {used}"));
        }
    }
    none("arrows that the picture does not have", &faults);
}

#[test]
fn pure_crates_bring_no_runtime_and_no_socket_along() {
    let mut faults = Vec::new();
    for name in PURE {
        let tree = cargo(&[
            "tree",
            "--package",
            name,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]);
        let used: BTreeSet<&str> = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(used.contains(name), "cargo tree does not show {name}");
        for impure in IMPURE.iter().filter(|impure| used.contains(*impure)) {
            faults.push(format!("{name} -> {impure}"));
        }
    }
    none("pure crates that are not", &faults);
}

#[test]
fn every_crate_opens_with_what_it_does() {
    let mut faults = Vec::new();
    let packages = packages();
    for target in packages
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap())
    {
        let kinds = target["kind"].as_array().unwrap();
        if !kinds.iter().any(|kind| kind == "lib" || kind == "bin") {
            continue;
        }
        let path = Path::new(target["src_path"].as_str().unwrap());
        if !std::fs::read_to_string(path).unwrap().starts_with("//! ") {
            faults.push(shown(path));
        }
    }
    none("files that do not open with `//!`", &faults);
}

#[test]
fn no_module_is_a_file_named_mod() {
    let named = files_ending(&["rs"])
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "mod.rs"));
    let faults: Vec<String> = named.map(|path| shown(&path)).collect();
    none("`foo.rs` beside `foo/` is the house's way", &faults);
}

#[test]
fn no_source_file_is_too_long_to_read() {
    let mut faults = Vec::new();
    for path in files_ending(&["rs", "py"]) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        if lines > MOST_LINES {
            faults.push(format!("{}: {lines} lines", shown(&path)));
        }
    }
    none(
        &format!("files over {MOST_LINES} lines (at 500, look for the seam)"),
        &faults,
    );
}

#[test]
fn no_test_is_ignored() {
    // In two parts, so that this file is not found itself.
    let attribute = ["#[", "ignore"].concat();
    let mut faults = Vec::new();
    for path in files_ending(&["rs"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, _) in (1..)
            .zip(text.lines())
            .filter(|(_, line)| line.contains(&attribute))
        {
            faults.push(format!("{}:{number}", shown(&path)));
        }
    }
    none("tests that nobody runs", &faults);
}

#[test]
fn sockets_are_opened_where_they_are_looked_for() {
    // The TaskExecutor has one, on loopback, and a file for it would hold nothing else.
    let known = root().join("taskexecutor/src/shell.rs");
    let doors = [
        "TcpListener::bind",
        "TcpStream::connect",
        "TcpSocket::new",
        "UdpSocket::bind",
        "UnixListener::bind",
        "UnixStream::connect",
    ];
    let mut seen = 0;
    let mut faults = Vec::new();
    for path in files_ending(&["rs"]) {
        let in_tests = |part: &std::ffi::OsStr| {
            ["tests", "tests.rs", "testing"]
                .iter()
                .any(|name| part == *name)
        };
        if path.strip_prefix(root()).unwrap().iter().any(in_tests) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let (code, _) = text
            .split_once("\n#[cfg(test)]\nmod tests")
            .unwrap_or((&text, ""));
        if !doors.iter().any(|door| code.contains(door)) {
            continue;
        }
        seen += 1;
        if path.file_name().is_none_or(|name| name != "net.rs") && path != known {
            faults.push(shown(&path));
        }
    }
    assert!(seen > 1, "no crate opens a socket");
    none("sockets that are opened outside of a `net.rs`", &faults);
}

#[cfg(unix)]
#[test]
fn every_script_can_be_run() {
    use std::os::unix::fs::PermissionsExt;

    let scripts = root().join("scripts");
    let mut seen = 0;
    let mut faults = Vec::new();
    for path in files()
        .into_iter()
        .filter(|path| path.starts_with(&scripts))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        // What a user calls has no ending; what is sourced or run by an interpreter has one.
        let called = path.parent() == Some(&scripts) && path.extension().is_none();
        if called && !text.starts_with("#!") {
            faults.push(format!("{} does not say what runs it", shown(&path)));
        }
        if text.starts_with("#!") {
            seen += 1;
            if path.metadata().unwrap().permissions().mode() & 0o111 != 0o111 {
                faults.push(format!("{} is not executable", shown(&path)));
            }
        }
    }
    assert!(seen > 0, "there are no scripts");
    none("scripts that cannot be run", &faults);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let (root, mut seen, mut faults) = (root(), 0, Vec::new());
    for path in files_ending(&["md"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let aimed = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            seen += 1;
            if !aimed.exists() {
                faults.push(format!("{} -> {target}", shown(&path)));
            } else if !heading.is_empty() && !headings(&aimed).contains(heading) {
                faults.push(format!("{} -> {target}: no such heading", shown(&path)));
            }
        }
    }
    let linked = |name: &str| links(&std::fs::read_to_string(root.join(name)).unwrap()).count() > 0;
    assert!(seen > 0 && linked("README.md") && linked("ARCHITECTURE.md"));
    none("links that lead nowhere", &faults);
}

#[test]
fn the_architecture_is_read_in_one_sitting() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let lines = text.lines().count();
    assert!(
        lines <= MOST_LINES_OF_ARCHITECTURE,
        "ARCHITECTURE.md has {lines} lines, not {MOST_LINES_OF_ARCHITECTURE}"
    );
}

#[test]
fn the_program_in_the_readme_is_the_example_that_compiles() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, shown) = readme.split_once("```rust\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let path = root().join("examples/src/bin/wordcount.rs");
    let example = std::fs::read_to_string(&path).unwrap();
    // Comments may be left out, nothing else may differ.
    let code = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        let kept = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        kept.map(str::to_owned).collect()
    };
    let (shown, example) = (code(shown), code(&example));
    assert!(
        !shown.is_empty() && example.windows(shown.len()).any(|part| part == shown),
        "the program in README.md is not a part of {}",
        path.display()
    );
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Where the links of a document lead.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

/// The names by which the headings of a document are linked.
fn headings(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let anchor = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(&text)
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect()
}

#[test]
fn links_and_headings_are_found_outside_of_code() {
    let text = "# A b, c!\nsee [x](y.md#z) and [u](v)\n```\n[no](where)\n# no\n```\n";
    assert_eq!(links(text).collect::<Vec<_>>(), ["y.md#z", "v"]);
    assert_eq!(prose(text).count(), 2);
}
