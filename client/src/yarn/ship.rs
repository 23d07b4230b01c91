//! Files of this machine that containers get into their working directories (`yarn.ship-files`, `-t`).
//!
//! They are artifacts like the executables: in HDFS by their hash, so that what was shipped before is not uploaded again, and in the
//! manifest of the application. All that can be wrong with them is told before anything is uploaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use spindle_common::config::options;
use spindle_common::deployment::{
    APPLICATION_MASTER_EXECUTABLE, JOB_EXECUTABLE, PROGRAMS_DIRECTORY, SUBMISSION_FILE,
    TASK_EXECUTOR_EXECUTABLE,
};

use super::artifacts::Artifact;
use crate::error::CliError;
use crate::settings::Settings;

/// The launch contexts of all containers name each file, and the ResourceManager keeps that of the ApplicationMaster in memory.
const MAX_FILES: usize = 200;
/// Together; they are read into memory to be hashed.
const MAX_BYTES: u64 = 512 << 20;

/// Names in a container's working directory that have a meaning there.
const TAKEN: [&str; 10] = [
    APPLICATION_MASTER_EXECUTABLE,
    TASK_EXECUTOR_EXECUTABLE,
    JOB_EXECUTABLE,
    PROGRAMS_DIRECTORY,
    SUBMISSION_FILE,
    "container_tokens",
    "launch_container.sh",
    "default_container_executor.sh",
    "default_container_executor_session.sh",
    "tmp",
];

/// Reads what the settings say to ship.
///
/// # Errors
/// If a path cannot be shipped; nothing has been changed.
pub(crate) fn read(settings: &Settings) -> Result<Vec<Artifact>, CliError> {
    let paths = settings.config.get(&options::YARN_SHIP_FILES);
    let origin = settings.config.origin(&options::YARN_SHIP_FILES);
    let wrong =
        |error: CliError| error.hint(format!("shipped because of yarn.ship-files ({origin})"));
    collect(&paths).and_then(read_all).map_err(wrong)
}

/// Names in the working directory, and where the files are.
fn collect(paths: &[String]) -> Result<BTreeMap<String, PathBuf>, CliError> {
    let mut files = BTreeMap::new();
    for text in paths {
        if text.contains("://") && !text.starts_with("file://") {
            return Err(CliError::usage(format!(
                "cannot ship `{text}`: only files of this machine are shipped"
            )));
        }
        let path = Path::new(text.strip_prefix("file://").unwrap_or(text));
        let whole = path
            .canonicalize()
            .map_err(|cause| CliError::usage(format!("cannot ship `{text}`")).because(cause))?;
        let name = whole.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            CliError::usage(format!(
                "cannot ship `{text}`: it has no name that can be written"
            ))
        })?;
        if TAKEN.contains(&name) {
            return Err(CliError::usage(format!(
                "cannot ship `{text}`: containers have a `{name}` of their own"
            )));
        }
        add(&mut files, name.to_owned(), &whole)?;
    }
    Ok(files)
}

/// Adds a file, or all files of a directory.
fn add(files: &mut BTreeMap<String, PathBuf>, name: String, path: &Path) -> Result<(), CliError> {
    let failed =
        |cause| CliError::usage(format!("cannot ship `{}`", path.display())).because(cause);
    // What a link leads to is shipped as what the link is called.
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let mut entries = std::fs::read_dir(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let inner = entry.file_name();
            let inner = inner.to_str().ok_or_else(|| {
                CliError::usage(format!(
                    "cannot ship `{}`: its name cannot be written",
                    entry.path().display()
                ))
            })?;
            add(files, format!("{name}/{inner}"), &entry.path())?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(CliError::usage(format!(
            "cannot ship `{}`: it is neither a file nor a directory",
            path.display()
        )));
    }
    // YARN writes the names into a shell script, in double quotes.
    let unsafe_in_quotes = |c: char| c.is_control() || matches!(c, '"' | '$' | '`' | '\\');
    if name.contains(unsafe_in_quotes) {
        return Err(CliError::usage(format!(
            "cannot ship `{}`: its name has a quote, a dollar, a backslash or a control character",
            path.display()
        )));
    }
    if let Some(other) = files.insert(name.clone(), path.to_owned()) {
        return Err(CliError::usage(format!(
            "cannot ship both `{}` and `{}`: each would be `{name}` in the containers",
            other.display(),
            path.display()
        )));
    }
    if files.len() > MAX_FILES {
        return Err(CliError::usage(format!(
            "more than {MAX_FILES} files are to be shipped: pack them into one, or have the job read them from HDFS"
        )));
    }
    Ok(())
}

fn read_all(files: BTreeMap<String, PathBuf>) -> Result<Vec<Artifact>, CliError> {
    let mut size = 0;
    let read = |(name, path): (String, PathBuf)| {
        let failed =
            |cause| CliError::usage(format!("cannot ship `{}`", path.display())).because(cause);
        size += path.metadata().map_err(failed)?.len();
        if size > MAX_BYTES {
            let mib = MAX_BYTES >> 20;
            return Err(CliError::usage(format!(
                "more than {mib} MiB are to be shipped: have the job read them from HDFS"
            )));
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        Ok(Artifact { name, bytes })
    };
    files.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(paths: &[&Path]) -> Result<Vec<String>, String> {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let files = collect(&paths).map_err(|error| error.message())?;
        Ok(files.into_keys().collect())
    }

    #[test]
    fn a_directory_is_shipped_with_all_its_files_under_its_own_name() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("lib");
        fs::create_dir_all(lib.join("deep")).unwrap();
        fs::write(lib.join("a.txt"), "a").unwrap();
        fs::write(lib.join("deep/b.txt"), "b").unwrap();
        fs::write(root.path().join("model.bin"), "m").unwrap();
        std::os::unix::fs::symlink(root.path().join("model.bin"), lib.join("link")).unwrap();
        let found = names(&[&lib, &root.path().join("model.bin")]).unwrap();
        assert_eq!(
            found,
            ["lib/a.txt", "lib/deep/b.txt", "lib/link", "model.bin"]
        );
        let paths = [lib.display().to_string()];
        let read: Vec<_> = read_all(collect(&paths).unwrap())
            .unwrap()
            .into_iter()
            .map(|artifact| artifact.bytes)
            .collect();
        assert_eq!(read, [b"a", b"b", b"m"]);
    }

    #[test]
    fn what_cannot_be_shipped_is_told_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let missing = names(&[&at("missing")]).unwrap_err();
        assert!(
            missing.contains("cannot ship") && missing.contains("missing"),
            "{missing}"
        );
        fs::write(at("job"), "").unwrap();
        let taken = names(&[&at("job")]).unwrap_err();
        assert!(
            taken.contains("containers have a `job` of their own"),
            "{taken}"
        );
        fs::create_dir(at("one")).unwrap();
        fs::write(at("one/x"), "").unwrap();
        fs::write(at("x"), "").unwrap();
        let twice = names(&[&at("one/x"), &at("x")]).unwrap_err();
        assert!(twice.contains("each would be `x`"), "{twice}");
        let remote = names(&[Path::new("hdfs://nn/lib")]).unwrap_err();
        assert!(remote.contains("only files of this machine"), "{remote}");
        fs::write(at("one/$(id)"), "").unwrap();
        let quoted = names(&[&at("one/$(id)")]).unwrap_err();
        assert!(quoted.contains("its name has"), "{quoted}");
        fs::remove_file(at("one/$(id)")).unwrap();
        let loops = at("one/loop");
        std::os::unix::fs::symlink(&loops, &loops).unwrap();
        assert!(names(&[&at("one")]).is_err());
        fs::create_dir(at("many")).unwrap();
        for n in 0..=MAX_FILES {
            fs::write(at(&format!("many/{n}")), "").unwrap();
        }
        let many = names(&[&at("many")]).unwrap_err();
        assert!(many.contains("more than 200 files"), "{many}");
    }
}
