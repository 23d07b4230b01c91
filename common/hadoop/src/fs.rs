//! Hadoop's file systems behind one facade: `hdfs://` and `file://`, chosen by the scheme of a path.
//!
//! Requests to a NameNode end in bounded time, and where an answer was lost the state is looked at. Nothing here
//! retries for longer than seconds; who wants to outlast a failover asks again.

mod error;
mod find;
mod glob;
mod hdfs;
mod io;
mod local;
mod net;
mod path;
mod whole;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use error::FsError;
use hdfs::Hdfs;
pub use io::{DEFAULT_CHUNK, FileReader, FileWriter, SequentialReader};
use local::blocking;
pub use path::{FsPath, Scheme};

use crate::conf::{Configuration, DefaultFs};

/// What a file system knows of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// The full path.
    pub path: FsPath,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Last modification, milliseconds since the epoch, exactly as a YARN LocalResource needs it.
    pub mtime_ms: u64,
    /// It is a directory.
    pub is_dir: bool,
    /// Unix permission bits such as `0o644`.
    pub permission: u32,
    /// Owner's name; `file`: the numeric user id.
    pub owner: String,
    /// Group's name; `file`: the numeric group id.
    pub group: String,
}

/// How to create a file.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Replace a file that exists; HDFS takes it away even from a writer that has it open.
    pub overwrite: bool,
    /// Create the directories above it that are missing, default true. Else that is [`FsError::NotFound`].
    pub parents: bool,
    /// Unix permission bits, default `0o644`; no umask is applied.
    pub permission: u32,
    /// Copies of each block; default: what the server says.
    pub replication: Option<u32>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            parents: true,
            permission: 0o644,
            replication: None,
        }
    }
}

impl CreateOptions {
    /// Replace a file that exists.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Only in a directory that is there.
    #[must_use]
    pub fn in_directory(mut self) -> Self {
        self.parents = false;
        self
    }

    /// Unix permission bits such as `0o600`.
    #[must_use]
    pub fn permission(mut self, permission: u32) -> Self {
        self.permission = permission;
        self
    }
}

/// All file systems of one configuration as one user; cheap to clone, with one client for each authority.
#[derive(Debug, Clone)]
pub struct FileSystem {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    conf: Configuration,
    user: String,
    default: DefaultFs,
    clients: Mutex<BTreeMap<String, Arc<Hdfs>>>,
}

impl FileSystem {
    /// Opens no connection. `user` is who we are to HDFS and whose home relative paths start from.
    ///
    /// # Errors
    /// [`FsError::Conf`] if `fs.defaultFS` is no URI.
    pub fn new(conf: &Configuration, user: &str) -> Result<Self, FsError> {
        let default = conf.default_fs()?;
        Ok(Self {
            inner: Arc::new(Inner {
                conf: conf.clone(),
                user: user.to_owned(),
                default,
                clients: Mutex::default(),
            }),
        })
    }

    /// The full path that `text` means: with a scheme as it says, else on `fs.defaultFS`, and there from the user's home
    /// (`file`: from the working directory) unless it starts with `/`.
    ///
    /// # Errors
    /// [`FsError::InvalidPath`], [`FsError::UnsupportedScheme`].
    pub fn resolve(&self, text: &str) -> Result<FsPath, FsError> {
        let default = &self.inner.default;
        let written = path::split(text)?;
        let name = written.scheme.as_deref().unwrap_or(&default.scheme);
        let scheme = match name {
            "hdfs" => Scheme::Hdfs,
            "file" => Scheme::File,
            other => {
                return Err(FsError::UnsupportedScheme {
                    uri: text.to_owned(),
                    scheme: other.to_owned(),
                });
            }
        };
        let invalid = |reason| FsError::InvalidPath {
            text: text.to_owned(),
            reason,
        };
        let authority = match (scheme, written.authority) {
            (Scheme::File, None | Some("localhost")) => "",
            (Scheme::File, Some(_)) => {
                return Err(invalid("a file:// path names no host, write file:///path"));
            }
            (Scheme::Hdfs, Some(authority)) => authority,
            (Scheme::Hdfs, None) if default.scheme == "hdfs" => &default.authority,
            (Scheme::Hdfs, None) => {
                return Err(invalid(
                    "it names no NameNode, and neither does fs.defaultFS",
                ));
            }
        };
        if written.path.starts_with('/') {
            return FsPath::new(scheme, authority, written.path);
        }
        match scheme {
            Scheme::Hdfs => self.home_on(authority)?.join(written.path),
            Scheme::File => {
                let directory = std::env::current_dir().ok();
                let directory = directory.as_deref().and_then(Path::to_str);
                FsPath::file(
                    directory.ok_or_else(|| invalid("the working directory has no name"))?,
                )?
                .join(written.path)
            }
        }
    }

    /// The user's home on the default file system, where staging directories belong; it need not exist.
    ///
    /// # Errors
    /// [`FsError::UnsupportedScheme`] if the default file system is neither HDFS nor local.
    pub fn home_dir(&self) -> Result<FsPath, FsError> {
        let default = &self.inner.default;
        match default.scheme.as_str() {
            "hdfs" => self.home_on(&default.authority),
            "file" => {
                let home = std::env::home_dir();
                match home.as_deref().and_then(Path::to_str) {
                    Some(home) if home.starts_with('/') => FsPath::file(home),
                    Some(_) | None => FsPath::file("/"),
                }
            }
            other => Err(FsError::UnsupportedScheme {
                uri: default.to_string(),
                scheme: other.to_owned(),
            }),
        }
    }

    fn home_on(&self, authority: &str) -> Result<FsPath, FsError> {
        let prefix = self.inner.conf.get("dfs.user.home.dir.prefix");
        let prefix = prefix.map_or_else(|| "/user".to_owned(), |value| value.text);
        FsPath::new(
            Scheme::Hdfs,
            authority,
            &format!("{prefix}/{}", self.inner.user),
        )
    }

    /// Status of one path.
    ///
    /// # Errors
    /// [`FsError::NotFound`]; see [`FsError`].
    pub async fn stat(&self, path: &FsPath) -> Result<FileStatus, FsError> {
        match self.client(path)? {
            Some(hdfs) => hdfs.stat(path).await,
            None => blocking("stat", path, local::stat).await,
        }
    }

    /// Whether the path exists.
    ///
    /// # Errors
    /// See [`FsError`].
    pub async fn exists(&self, path: &FsPath) -> Result<bool, FsError> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            // Below a file there is nothing.
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The entries of a directory sorted by path, or the one entry of a file.
    ///
    /// # Errors
    /// [`FsError::NotFound`]; see [`FsError`].
    pub async fn list(&self, path: &FsPath) -> Result<Vec<FileStatus>, FsError> {
        let mut found = match self.client(path)? {
            Some(hdfs) => hdfs.list(path).await?,
            None => blocking("list", path, local::list).await?,
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Makes a directory and those above it; one that exists stays as it is.
    ///
    /// # Errors
    /// [`FsError::AlreadyExists`] or [`FsError::NotADirectory`] if a file is in the way; see [`FsError`].
    pub async fn mkdirs(&self, path: &FsPath, permission: u32) -> Result<(), FsError> {
        match self.client(path)? {
            Some(hdfs) => hdfs.mkdirs(path, permission).await,
            None => blocking("create", path, move |path| local::mkdirs(path, permission)).await,
        }
    }

    /// Creates a file, and the directories above it if it may, for writing.
    ///
    /// # Errors
    /// [`FsError::AlreadyExists`] without `overwrite`, decided atomically; see [`FsError`].
    pub async fn create(
        &self,
        path: &FsPath,
        options: &CreateOptions,
    ) -> Result<FileWriter, FsError> {
        match self.client(path)? {
            Some(hdfs) => {
                let writer = Box::pin(hdfs.create(path, options)).await?;
                Ok(FileWriter::hdfs(path.clone(), hdfs, writer))
            }
            None => {
                let options = options.clone();
                let file =
                    blocking("create", path, move |path| local::create(path, &options)).await?;
                Ok(FileWriter::local(path.clone(), file))
            }
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::IsADirectory`]; see [`FsError`].
    pub async fn open(&self, path: &FsPath) -> Result<FileReader, FsError> {
        match self.client(path)? {
            Some(hdfs) => {
                let reader = Box::pin(hdfs.open(path)).await?;
                Ok(FileReader::hdfs(path.clone(), hdfs, reader))
            }
            None => {
                let (file, len) = blocking("read", path, local::open).await?;
                Ok(FileReader::local(path.clone(), file, len))
            }
        }
    }

    /// Moves a file or directory; `to` is the new path itself, also where a directory of that name exists.
    ///
    /// Atomic. With `overwrite` a file or an empty directory at `to` is replaced.
    ///
    /// # Errors
    /// [`FsError::NotFound`] naming the source or the missing directory of the target, [`FsError::AlreadyExists`] naming
    /// the target; see [`FsError`].
    pub async fn rename(&self, from: &FsPath, to: &FsPath, overwrite: bool) -> Result<(), FsError> {
        if (from.scheme(), from.authority()) != (to.scheme(), to.authority()) {
            return Err(FsError::InvalidPath {
                text: to.to_string(),
                reason: "a rename cannot leave its file system",
            });
        }
        let renamed = match self.client(from)? {
            Some(hdfs) => hdfs.rename(from, to, overwrite).await,
            None => {
                let target = to.clone();
                blocking("rename", from, move |from| {
                    local::rename(from, &target, overwrite)
                })
                .await
            }
        };
        match renamed {
            Err(FsError::NotFound { op, path }) if self.exists(from).await? => {
                Err(FsError::NotFound {
                    op,
                    path: to.parent().unwrap_or(path),
                })
            }
            Err(FsError::AlreadyExists { op, .. }) => Err(FsError::AlreadyExists {
                op,
                path: to.clone(),
            }),
            renamed => renamed,
        }
    }

    /// Deletes a file or directory; false if there was none.
    ///
    /// # Errors
    /// [`FsError::NotEmpty`] for a filled directory without `recursive`, [`FsError::InvalidPath`] for the root; see
    /// [`FsError`].
    pub async fn delete(&self, path: &FsPath, recursive: bool) -> Result<bool, FsError> {
        if path.is_root() {
            return Err(FsError::InvalidPath {
                text: path.to_string(),
                reason: "the root is never deleted",
            });
        }
        match self.client(path)? {
            Some(hdfs) => hdfs.delete(path, recursive).await,
            None => blocking("delete", path, move |path| local::delete(path, recursive)).await,
        }
    }

    /// Sets Unix permission bits such as `0o700`.
    ///
    /// # Errors
    /// See [`FsError`].
    pub async fn set_permission(&self, path: &FsPath, permission: u32) -> Result<(), FsError> {
        match self.client(path)? {
            Some(hdfs) => hdfs.set_permission(path, permission).await,
            None => {
                let work = move |path: &FsPath| local::set_permission(path, permission);
                blocking("change the permission of", path, work).await
            }
        }
    }

    /// Returns once what was made or renamed in a directory survives a loss of power: on HDFS, where an answer says as much, at once.
    ///
    /// # Errors
    /// See [`FsError`].
    pub async fn sync_directory(&self, path: &FsPath) -> Result<(), FsError> {
        match path.scheme() {
            Scheme::Hdfs => Ok(()),
            Scheme::File => blocking("sync", path, local::sync_directory).await,
        }
    }

    /// Closes a file that a dead writer left open; true once it is closed, else ask again. Fences the writer.
    ///
    /// # Errors
    /// See [`FsError`].
    pub async fn recover_lease(&self, path: &FsPath) -> Result<bool, FsError> {
        match self.client(path)? {
            Some(hdfs) => hdfs.recover_lease(path).await,
            None => self.stat(path).await.map(|_| true),
        }
    }

    /// The HDFS client for a path; nothing for a local one.
    fn client(&self, path: &FsPath) -> Result<Option<Arc<Hdfs>>, FsError> {
        match path.scheme() {
            Scheme::File => Ok(None),
            Scheme::Hdfs => {
                let inner = &self.inner;
                let mut clients = inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(client) = clients.get(path.authority()) {
                    return Ok(Some(Arc::clone(client)));
                }
                let client = Arc::new(Hdfs::new(&inner.conf, &inner.user, path)?);
                clients.insert(path.authority().to_owned(), Arc::clone(&client));
                Ok(Some(client))
            }
        }
    }
}

#[cfg(test)]
mod tests;
