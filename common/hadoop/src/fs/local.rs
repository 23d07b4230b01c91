//! `file://`: the file system of this machine, with HDFS's rules for what exists already.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{CreateOptions, FileStatus, FsError, FsPath};

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    op: &'static str,
    path: &FsPath,
    work: impl FnOnce(&FsPath) -> io::Result<T> + Send + 'static,
) -> Result<T, FsError> {
    let own = path.clone();
    tokio::task::spawn_blocking(move || work(&own))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| FsError::io(op, path, error))
}

pub(super) fn stat(path: &FsPath) -> io::Result<FileStatus> {
    let metadata = fs::metadata(path.path())?;
    Ok(status(path.clone(), &metadata))
}

pub(super) fn list(path: &FsPath) -> io::Result<Vec<FileStatus>> {
    let metadata = fs::metadata(path.path())?;
    if !metadata.is_dir() {
        return Ok(vec![status(path.clone(), &metadata)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path.path())? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match fs::metadata(entry.path()) {
            Ok(metadata) => found.push(status(path.child(&name), &metadata)),
            // Deleted since, or a link to nothing: not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn status(path: FsPath, metadata: &Metadata) -> FileStatus {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    FileStatus {
        path,
        len: if metadata.is_dir() { 0 } else { metadata.len() },
        mtime_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        is_dir: metadata.is_dir(),
        permission: metadata.mode() & 0o7777,
        owner: metadata.uid().to_string(),
        group: metadata.gid().to_string(),
    }
}

pub(super) fn mkdirs(path: &FsPath, permission: u32) -> io::Result<()> {
    let target = PathBuf::from(path.path());
    let existed = target.is_dir();
    fs::create_dir_all(&target)?;
    if !existed {
        fs::set_permissions(&target, Permissions::from_mode(permission))?;
    }
    Ok(())
}

pub(super) fn create(path: &FsPath, options: &CreateOptions) -> io::Result<File> {
    if options.parents
        && let Some(parent) = path.parent()
    {
        fs::create_dir_all(parent.path())?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .create_new(!options.overwrite)
        .truncate(options.overwrite)
        .mode(options.permission)
        .open(path.path())?;
    file.set_permissions(Permissions::from_mode(options.permission))?;
    Ok(file)
}

pub(super) fn open(path: &FsPath) -> io::Result<(File, u64)> {
    let file = File::open(path.path())?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((file, metadata.len()))
}

pub(super) fn rename(from: &FsPath, to: &FsPath, overwrite: bool) -> io::Result<()> {
    if overwrite {
        return fs::rename(from.path(), to.path());
    }
    match renameat_with(CWD, from.path(), CWD, to.path(), RenameFlags::NOREPLACE) {
        // A file system without the flag: look first, which is not atomic.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if fs::symlink_metadata(to.path()).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from.path(), to.path())
        }
        renamed => Ok(renamed?),
    }
}

pub(super) fn sync_directory(path: &FsPath) -> io::Result<()> {
    File::open(path.path())?.sync_all()
}

pub(super) fn delete(path: &FsPath, recursive: bool) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path.path()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match (metadata.is_dir(), recursive) {
        (true, true) => fs::remove_dir_all(path.path())?,
        (true, false) => fs::remove_dir(path.path())?,
        (false, _) => fs::remove_file(path.path())?,
    }
    Ok(true)
}

pub(super) fn set_permission(path: &FsPath, permission: u32) -> io::Result<()> {
    fs::set_permissions(path.path(), Permissions::from_mode(permission))
}
