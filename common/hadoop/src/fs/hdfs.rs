//! `hdfs://` through hdfs-native: bounded waiting, and a look at the state where an answer was lost.

use std::future::Future;
use std::io;
use std::time::Duration;

use hdfs_native::file::{FileReader, FileWriter};
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{CreateOptions, FileStatus, FsError, FsPath, net};
use crate::conf::{Configuration, HostPort, Origin, TimeUnit};

/// The longest wait for the NameNode's answer to one request.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest look at the state after an answer was lost: the NameNode had its time already.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);
/// Closing waits for DataNodes to report; the client gives up by itself after 15.5 s of that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// One NameNode or nameservice, as one user.
#[derive(Debug)]
pub(super) struct Hdfs {
    client: Client,
    namenodes: Vec<HostPort>,
    /// Filled once a NameNode accepted a connection.
    reachable: OnceCell<()>,
}

impl Hdfs {
    /// A client for `path`'s authority; opens no connection.
    pub(super) fn new(conf: &Configuration, user: &str, path: &FsPath) -> Result<Self, FsError> {
        let authority = path.authority();
        let namenodes = conf.namenodes(authority)?;
        let secure = conf
            .get("hadoop.security.authentication")
            .is_some_and(|value| !value.text.eq_ignore_ascii_case("simple"));
        let mut properties: Vec<(String, String)> = conf.to_pairs();
        // An empty value counts as set over there, and is not for Hadoop.
        properties.retain(|(_, value)| !value.is_empty());
        properties.extend(bounded_retries(conf, namenodes.len())?);
        let ids = conf.get_list(&format!("dfs.ha.namenodes.{authority}"))?;
        let url = if ids.is_empty() {
            // The library knows no default port.
            format!("hdfs://{}", connect_address(&namenodes[0]))
        } else {
            properties.push((format!("dfs.ha.namenodes.{authority}"), ids.join(",")));
            for (id, namenode) in ids.iter().zip(&namenodes) {
                let key = format!("dfs.namenode.rpc-address.{authority}.{id}");
                properties.push((key, connect_address(namenode)));
            }
            format!("hdfs://{authority}")
        };
        let mut builder = ClientBuilder::new()
            // Else the library would read HADOOP_CONF_DIR by itself, with other rules.
            .with_config_dir("/dev/null")
            .with_config(properties)
            .with_url(url);
        if !secure {
            builder = builder.with_user(user);
        }
        let client = builder.build().map_err(|error| FsError::Other {
            op: "reach",
            path: path.clone(),
            source: Box::new(error),
        })?;
        Ok(Self {
            client,
            namenodes,
            reachable: OnceCell::new(),
        })
    }

    pub(super) async fn stat(&self, path: &FsPath) -> Result<FileStatus, FsError> {
        let found = self
            .call("stat", path, self.client.get_file_info(path.path()))
            .await?;
        Ok(status(path.clone(), &found))
    }

    /// What is at `path` after an answer was lost; `Ok(None)` means surely nothing.
    async fn look(&self, path: &FsPath) -> Result<Option<FileStatus>, Trouble> {
        match bounded(LOOK_TIMEOUT, self.client.get_file_info(path.path())).await {
            Ok(found) => Ok(Some(status(path.clone(), &found))),
            Err(Trouble::Answered(HdfsError::FileNotFound(_))) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    pub(super) async fn list(&self, path: &FsPath) -> Result<Vec<FileStatus>, FsError> {
        let found = self
            .call("list", path, self.client.list_status(path.path(), false))
            .await?;
        Ok(found
            .iter()
            .map(|entry| status(path.with_path(entry.path.clone()), entry))
            .collect())
    }

    pub(super) async fn mkdirs(&self, path: &FsPath, permission: u32) -> Result<(), FsError> {
        let work = || self.client.mkdirs(path.path(), permission, true);
        match self.try_call("create", path, work()).await? {
            // Making a directory twice does no harm.
            Err(trouble) if trouble.may_repeat() => self.call("create", path, work()).await,
            done => self.settle("create", path, done),
        }
    }

    pub(super) async fn set_permission(
        &self,
        path: &FsPath,
        permission: u32,
    ) -> Result<(), FsError> {
        let work = || self.client.set_permission(path.path(), permission);
        match self
            .try_call("change the permission of", path, work())
            .await?
        {
            Err(trouble) if trouble.may_repeat() => {
                self.call("change the permission of", path, work()).await
            }
            done => self.settle("change the permission of", path, done),
        }
    }

    pub(super) async fn create(
        &self,
        path: &FsPath,
        options: &CreateOptions,
    ) -> Result<FileWriter, FsError> {
        let mut write = WriteOptions::default()
            .overwrite(options.overwrite)
            .create_parent(options.parents)
            .permission(options.permission);
        write.replication = options.replication;
        let work = || Box::pin(self.client.create(path.path(), write.clone()));
        match self.try_call("create", path, work()).await? {
            // The file may be there, and then it is empty and ours: only an overwriting create may be repeated.
            Err(trouble) if trouble.may_repeat() => {
                if options.overwrite || matches!(self.look(path).await, Ok(None)) {
                    self.call("create", path, work()).await
                } else {
                    self.settle("create", path, Err(trouble))
                }
            }
            done => self.settle("create", path, done),
        }
    }

    pub(super) async fn open(&self, path: &FsPath) -> Result<FileReader, FsError> {
        self.call("read", path, Box::pin(self.client.read(path.path())))
            .await
    }

    pub(super) async fn rename(
        &self,
        from: &FsPath,
        to: &FsPath,
        overwrite: bool,
    ) -> Result<(), FsError> {
        let work = self.client.rename(from.path(), to.path(), overwrite);
        match self.try_call("rename", from, work).await? {
            Err(Trouble::Lost(error)) => {
                let gone = matches!(self.look(from).await, Ok(None));
                if gone && matches!(self.look(to).await, Ok(Some(_))) {
                    return Ok(());
                }
                self.settle("rename", from, Err(Trouble::Lost(error)))
            }
            done => self.settle("rename", from, done),
        }
    }

    pub(super) async fn delete(&self, path: &FsPath, recursive: bool) -> Result<bool, FsError> {
        let work = self.client.delete(path.path(), recursive);
        match self.try_call("delete", path, work).await? {
            Err(Trouble::Lost(error)) => match self.look(path).await {
                Ok(None) => Ok(true),
                Ok(Some(_)) | Err(_) => self.settle("delete", path, Err(Trouble::Lost(error))),
            },
            done => self.settle("delete", path, done),
        }
    }

    pub(super) async fn recover_lease(&self, path: &FsPath) -> Result<bool, FsError> {
        self.call(
            "recover the lease of",
            path,
            self.client.recover_lease(path.path()),
        )
        .await
    }

    /// Completes the file; `written` bytes went in, of which `synced` are visible already.
    pub(super) async fn close(
        &self,
        path: &FsPath,
        writer: &mut FileWriter,
        written: u64,
        synced: u64,
    ) -> Result<(), FsError> {
        let closed = bounded(CLOSE_TIMEOUT, Box::pin(writer.close())).await;
        if let Err(Trouble::Lost(_)) = &closed
            && written != synced
            && matches!(self.look(path).await, Ok(Some(seen)) if seen.len == written)
        {
            // Only completing makes the last bytes visible: it was done, the answer was lost.
            return Ok(());
        }
        closed.map_err(|trouble| self.data_error("close", path, trouble))
    }

    /// The error of a running read or write.
    pub(super) fn transfer_error(
        &self,
        op: &'static str,
        path: &FsPath,
        error: HdfsError,
    ) -> FsError {
        self.data_error(op, path, Trouble::of(error))
    }

    /// As [`Self::error`], where a broken connection is more likely one to a DataNode.
    fn data_error(&self, op: &'static str, path: &FsPath, trouble: Trouble) -> FsError {
        let source = match trouble {
            Trouble::Lost(source) => source,
            Trouble::Answered(HdfsError::DataTransferError(text)) => {
                io::Error::other(short_transfer_error(&text))
            }
            trouble @ Trouble::Answered(_) => return self.error(op, path, trouble),
        };
        FsError::Transfer {
            op,
            path: path.clone(),
            source,
        }
    }

    async fn call<T>(
        &self,
        op: &'static str,
        path: &FsPath,
        work: impl Future<Output = Result<T, HdfsError>>,
    ) -> Result<T, FsError> {
        let done = self.try_call(op, path, work).await?;
        self.settle(op, path, done)
    }

    /// Does `work` in bounded time; fails at once if no NameNode was ever reached and none can be.
    async fn try_call<T>(
        &self,
        op: &'static str,
        path: &FsPath,
        work: impl Future<Output = Result<T, HdfsError>>,
    ) -> Result<Result<T, Trouble>, FsError> {
        self.reachable
            .get_or_try_init(|| net::any_reachable(&self.namenodes))
            .await
            .map_err(|source| self.unreachable(op, path, source))?;
        Ok(bounded(METADATA_TIMEOUT, work).await)
    }

    fn settle<T>(
        &self,
        op: &'static str,
        path: &FsPath,
        done: Result<T, Trouble>,
    ) -> Result<T, FsError> {
        done.map_err(|trouble| self.error(op, path, trouble))
    }

    fn unreachable(&self, op: &'static str, path: &FsPath, source: io::Error) -> FsError {
        let addresses: Vec<_> = self.namenodes.iter().map(HostPort::to_string).collect();
        let keys: Vec<_> = self.namenodes.iter().map(describe_key).collect();
        FsError::Unreachable {
            op,
            path: path.clone(),
            address: addresses.join(", "),
            key: keys.join("; "),
            source,
        }
    }

    fn error(&self, op: &'static str, path: &FsPath, trouble: Trouble) -> FsError {
        let error = match trouble {
            Trouble::Lost(source) => return self.unreachable(op, path, source),
            Trouble::Answered(error) => error,
        };
        let own = path.clone();
        // hdfs-native's errors: what is not listed keeps its cause and reads as it does.
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "hdfs_native::HdfsError is not ours and grows"
        )]
        match error {
            HdfsError::FileNotFound(_) => FsError::NotFound { op, path: own },
            HdfsError::AlreadyExists(_) => FsError::AlreadyExists { op, path: own },
            HdfsError::IsADirectoryError(_) => FsError::IsADirectory { op, path: own },
            HdfsError::ChecksumError => FsError::Corrupt {
                op,
                path: own,
                detail: "checksums do not match".to_owned(),
            },
            HdfsError::BlocksNotFound(detail) => FsError::Corrupt {
                op,
                path: own,
                detail,
            },
            HdfsError::RPCError(exception, message)
            | HdfsError::FatalRPCError(exception, message) => {
                FsError::remote(op, path, exception, &message)
            }
            error => FsError::Other {
                op,
                path: own,
                source: Box::new(error),
            },
        }
    }
}

/// How a request went wrong.
#[derive(Debug)]
enum Trouble {
    /// The NameNode said no, or the library did.
    Answered(HdfsError),
    /// No answer: the request may or may not have been carried out.
    Lost(io::Error),
}

impl Trouble {
    /// The connection broke: unlike after silence or a refusal, a second try can go better at once.
    fn may_repeat(&self) -> bool {
        match self {
            Self::Lost(error) => !matches!(
                error.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused
            ),
            Self::Answered(_) => false,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "hdfs_native::HdfsError is not ours and grows"
    )]
    fn of(error: HdfsError) -> Self {
        match error {
            HdfsError::IOError(error) => Self::Lost(error),
            error => Self::Answered(error),
        }
    }
}

async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HdfsError>>,
) -> Result<T, Trouble> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Trouble::of),
        Err(_) => Err(Trouble::Lost(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", limit.as_secs()),
        ))),
    }
}

/// The library's own retries: its defaults sleep for minutes. What a site file sets explicitly is kept, in milliseconds.
fn bounded_retries(
    conf: &Configuration,
    namenodes: usize,
) -> Result<Vec<(String, String)>, FsError> {
    let rounds = u64::try_from(namenodes.max(1)).unwrap_or(1) * 2;
    let mut settings = Vec::new();
    for (key, ours) in [
        ("dfs.client.failover.max.attempts", rounds),
        ("dfs.client.failover.sleep.base.millis", 200),
        ("dfs.client.failover.sleep.max.millis", 1000),
    ] {
        let value = match conf.get(key) {
            Some(value) if value.origin != Origin::Default => conf.get_u64(key, ours)?,
            Some(_) | None => ours,
        };
        settings.push((key.to_owned(), value.to_string()));
    }
    let key = "dfs.client.socket-timeout";
    let socket = conf.get_duration(key, Duration::from_secs(60), TimeUnit::Milliseconds)?;
    settings.push((key.to_owned(), socket.as_millis().to_string()));
    Ok(settings)
}

/// The library prints all it knows of each DataNode; their addresses will do.
fn short_transfer_error(text: &str) -> String {
    let quoted = |part: &str, key: &str, end: char| {
        let value = &part[part.find(key)? + key.len()..];
        Some(value[..value.find(end)?].to_owned())
    };
    let datanodes: Vec<String> = text
        .split("DatanodeInfoProto {")
        .skip(1)
        .filter_map(|part| {
            let host = quoted(part, "host_name: \"", '"')?;
            let port = quoted(part, "xfer_port: ", ',')?;
            Some(format!("{host}:{port}"))
        })
        .collect();
    let head = text.split('[').next().unwrap_or(text).trim();
    if datanodes.is_empty() {
        text.to_owned()
    } else {
        format!("{head} {}", datanodes.join(", "))
    }
}

fn connect_address(namenode: &HostPort) -> String {
    let host = namenode.connect_host();
    if host.contains(':') {
        format!("[{host}]:{}", namenode.port)
    } else {
        format!("{host}:{}", namenode.port)
    }
}

fn describe_key(namenode: &HostPort) -> String {
    match &namenode.origin {
        Origin::File { .. } | Origin::Shipped | Origin::Default => {
            format!("{}, {}", namenode.key, namenode.origin)
        }
        Origin::Program => namenode.key.clone(),
    }
}

fn status(path: FsPath, found: &hdfs_native::client::FileStatus) -> FileStatus {
    FileStatus {
        path,
        len: if found.isdir {
            0
        } else {
            u64::try_from(found.length).unwrap_or(u64::MAX)
        },
        mtime_ms: found.modification_time,
        is_dir: found.isdir,
        permission: u32::from(found.permission),
        owner: found.owner.clone(),
        group: found.group.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_failed_datanodes_only_the_addresses_are_kept() {
        let text = "All DataNodes failed: [DatanodeInfoProto { id: DatanodeIdProto { ip_addr: \"10.0.0.1\", \
                    host_name: \"d1\", datanode_uuid: \"x\", xfer_port: 9866, info_port: 1 } }, \
                    DatanodeInfoProto { id: DatanodeIdProto { host_name: \"d2\", xfer_port: 1, } }]";
        assert_eq!(
            short_transfer_error(text),
            "All DataNodes failed: d1:9866, d2:1"
        );
        assert_eq!(short_transfer_error("other [text]"), "other [text]");
    }

    #[test]
    fn retries_are_bounded_unless_a_site_file_says_otherwise() {
        let settings = |conf: &Configuration| -> Vec<String> {
            let found = bounded_retries(conf, 2).unwrap();
            found.into_iter().map(|(_, value)| value).collect()
        };
        let mut conf = Configuration::new();
        assert_eq!(settings(&conf), ["4", "200", "1000", "60000"]);
        conf.set("dfs.client.failover.max.attempts", "9");
        conf.set("dfs.client.socket-timeout", "30s");
        assert_eq!(settings(&conf), ["9", "200", "1000", "30000"]);
    }

    #[test]
    fn only_a_broken_connection_is_tried_again() {
        let lost = |kind: io::ErrorKind| Trouble::Lost(kind.into()).may_repeat();
        assert!(lost(io::ErrorKind::ConnectionReset) && lost(io::ErrorKind::UnexpectedEof));
        assert!(!lost(io::ErrorKind::TimedOut) && !lost(io::ErrorKind::ConnectionRefused));
        assert!(!Trouble::Answered(HdfsError::ChecksumError).may_repeat());
    }
}
