//! Hadoop's file systems behind one facade: `hdfs://` and `file://`, chosen by the scheme of a path.
//!
//! Requests to a NameNode end in bounded time, and where an answer was lost the state is looked at. Nothing here
//! retries for longer than seconds; who wants to outlast a failover asks again.

mod error;
mod glob;
mod hdfs;
mod io;
mod local;
mod net;
mod path;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncReadExt;

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
    /// Unix permission bits, default `0o644`; no umask is applied.
    pub permission: u32,
    /// Copies of each block; default: what the server says.
    pub replication: Option<u32>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
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

    /// All paths that match, sorted, each once; none is no error.
    ///
    /// `*`, `?`, `[a-c]`, `[^a]` and `{a,b}` may stand in any component, `\` takes a character's meaning away.
    ///
    /// # Errors
    /// [`FsError::InvalidPath`] for a pattern that is not finished; see [`FsError`].
    pub async fn glob(&self, pattern: &str) -> Result<Vec<FileStatus>, FsError> {
        let resolved = self.resolve(pattern)?;
        let mut found = Vec::new();
        for pattern in glob::parse(resolved.path())? {
            found.extend(self.glob_one(&resolved, &pattern).await?);
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        Ok(found)
    }

    /// Whether [`Self::glob`] would look for more than one path.
    #[must_use]
    pub fn is_glob(text: &str) -> bool {
        glob::has_pattern(text)
    }

    async fn glob_one(
        &self,
        on: &FsPath,
        pattern: &glob::Pattern,
    ) -> Result<Vec<FileStatus>, FsError> {
        // Paths so far; a status where a listing gave one.
        let mut found: Vec<(FsPath, Option<FileStatus>)> =
            vec![(on.with_path("/".to_owned()), None)];
        for component in &pattern.components {
            let mut next = Vec::new();
            for (path, status) in found {
                match component {
                    glob::Component::Literal(name) => next.push((path.child(name), None)),
                    glob::Component::Matching(tokens) => {
                        let directory = match status {
                            Some(status) => status.is_dir,
                            None => self
                                .stat_if_there(&path)
                                .await?
                                .is_some_and(|status| status.is_dir),
                        };
                        if !directory {
                            continue;
                        }
                        let entries = match self.list(&path).await {
                            Ok(entries) => entries,
                            Err(FsError::NotFound { .. }) => continue,
                            Err(error) => return Err(error),
                        };
                        next.extend(entries.into_iter().filter_map(|entry| {
                            let fits = glob::matches(tokens, entry.path.name()?);
                            fits.then(|| (entry.path.clone(), Some(entry)))
                        }));
                    }
                }
            }
            found = next;
        }
        let mut statuses = Vec::new();
        for (path, status) in found {
            match status {
                Some(status) => statuses.push(status),
                None => statuses.extend(self.stat_if_there(&path).await?),
            }
        }
        Ok(statuses)
    }

    async fn stat_if_there(&self, path: &FsPath) -> Result<Option<FileStatus>, FsError> {
        match self.stat(path).await {
            Ok(status) => Ok(Some(status)),
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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

    /// Creates a file, and the directories above it, for writing.
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

    /// The whole content of a small file.
    ///
    /// # Errors
    /// As [`Self::open`] and [`FileReader::read_at`].
    pub async fn read(&self, path: &FsPath) -> Result<Bytes, FsError> {
        let reader = self.open(path).await?;
        let len = usize::try_from(reader.len()).unwrap_or(usize::MAX);
        reader.read_at(0, len).await
    }

    /// Writes a small file in one go.
    ///
    /// # Errors
    /// As [`Self::create`] and [`FileWriter::write`]; a file that failed half way is deleted if it can be.
    pub async fn write(
        &self,
        path: &FsPath,
        bytes: Bytes,
        options: &CreateOptions,
    ) -> Result<(), FsError> {
        let mut writer = self.create(path, options).await?;
        let written = writer.write_bytes(bytes).await;
        self.finish(writer, written).await
    }

    /// Copies a file of this machine to `to` and returns what is there now.
    ///
    /// # Errors
    /// [`FsError::NotFound`] and others naming the local file, else as [`Self::write`].
    pub async fn upload(
        &self,
        from: &Path,
        to: &FsPath,
        options: &CreateOptions,
    ) -> Result<FileStatus, FsError> {
        let source = from.to_str().ok_or_else(|| FsError::InvalidPath {
            text: from.to_string_lossy().into_owned(),
            reason: "it is not UTF-8",
        })?;
        let source = std::path::absolute(source).unwrap_or_else(|_| from.to_owned());
        let source = FsPath::file(&source.to_string_lossy())?;
        let (file, _) = blocking("read", &source, local::open).await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut writer = self.create(to, options).await?;
        let written = loop {
            let mut chunk = Vec::with_capacity(DEFAULT_CHUNK);
            let mut limited = (&mut file).take(DEFAULT_CHUNK as u64);
            match limited.read_to_end(&mut chunk).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(FsError::io("read", &source, error)),
            }
            if let Err(error) = writer.write_bytes(Bytes::from(chunk)).await {
                break Err(error);
            }
        };
        self.finish(writer, written).await?;
        self.stat(to).await
    }

    async fn finish(
        &self,
        writer: FileWriter,
        written: Result<(), FsError>,
    ) -> Result<(), FsError> {
        let path = writer.path().clone();
        let done = match written {
            Ok(()) => writer.close().await,
            Err(error) => {
                drop(writer);
                Err(error)
            }
        };
        if let Err(error) = &done
            && let Err(second) = self.delete(&path, false).await
        {
            tracing::debug!(%path, %error, %second, "half a file could not be deleted");
        }
        done
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
