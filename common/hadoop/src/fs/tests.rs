//! The facade on `file://`, and on NameNodes that are not there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;

struct Local {
    _dir: tempfile::TempDir,
    fs: FileSystem,
    root: FsPath,
}

fn local() -> Local {
    let dir = tempfile::tempdir().unwrap();
    let root = FsPath::file(dir.path().to_str().unwrap()).unwrap();
    let fs = FileSystem::new(&Configuration::new(), "ann").unwrap();
    Local {
        _dir: dir,
        fs,
        root,
    }
}

impl Local {
    fn at(&self, relative: &str) -> FsPath {
        self.root.join(relative).unwrap()
    }

    async fn put(&self, relative: &str, text: &'static str) -> FsPath {
        let path = self.at(relative);
        let options = CreateOptions::default();
        let bytes = Bytes::from_static(text.as_bytes());
        self.fs.write(&path, bytes, &options).await.unwrap();
        path
    }

    async fn names(&self, pattern: &str) -> Vec<String> {
        let found = self
            .fs
            .glob(&format!("{}/{pattern}", self.root))
            .await
            .unwrap();
        let prefix = format!("{}/", self.root);
        let names = found
            .iter()
            .map(|status| status.path.to_string().replace(&prefix, ""));
        names.collect()
    }
}

fn on_hdfs() -> FileSystem {
    let conf = Configuration::from_pairs([("fs.defaultFS", "hdfs://nn:9000")]);
    FileSystem::new(&conf, "ann").unwrap()
}

#[test]
fn paths_resolve_against_the_default_file_system_and_the_home() {
    let fs = on_hdfs();
    let resolve = |text: &str| fs.resolve(text).unwrap().to_string();
    assert_eq!(resolve("/a"), "hdfs://nn:9000/a");
    assert_eq!(resolve("a/b"), "hdfs://nn:9000/user/ann/a/b");
    assert_eq!(resolve("hdfs:///a"), "hdfs://nn:9000/a");
    assert_eq!(resolve("hdfs://other/a"), "hdfs://other/a");
    assert_eq!(resolve("file:/a"), "file:///a");
    assert_eq!(resolve("file://localhost/a"), "file:///a");
    assert_eq!(
        fs.home_dir().unwrap().to_string(),
        "hdfs://nn:9000/user/ann"
    );
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    let local = FileSystem::new(&Configuration::new(), "ann").unwrap();
    let reason = |text: &str| local.resolve(text).unwrap_err().to_string();
    assert_eq!(
        reason("s3a://bucket/a"),
        "`s3a://bucket/a`: file system `s3a` is not supported, only hdfs and file are"
    );
    assert_eq!(
        reason("hdfs:///a"),
        "`hdfs:///a` is no path: it names no NameNode, and neither does fs.defaultFS"
    );
    assert!(reason("file://host/a").contains("names no host"));
}

#[test]
fn a_relative_local_path_starts_from_the_working_directory() {
    let local = FileSystem::new(&Configuration::new(), "ann").unwrap();
    let directory = std::env::current_dir().unwrap();
    let expected = format!("file://{}/x", directory.display());
    assert_eq!(local.resolve("x").unwrap().to_string(), expected);
}

#[tokio::test]
async fn what_is_written_is_read_with_its_status() {
    let local = local();
    let path = local.at("deep/er/file");
    let options = CreateOptions::default().permission(0o600);
    let mut writer = local.fs.create(&path, &options).await.unwrap();
    writer.write(b"hello ").await.unwrap();
    writer
        .write_bytes(Bytes::from_static(b"world"))
        .await
        .unwrap();
    writer.hsync().await.unwrap();
    assert_eq!(writer.written(), 11);
    writer.close().await.unwrap();

    let status = local.fs.stat(&path).await.unwrap();
    assert_eq!(
        (status.len, status.is_dir, status.permission),
        (11, false, 0o600)
    );
    assert!(status.mtime_ms > 1_600_000_000_000);
    let reader = local.fs.open(&path).await.unwrap();
    assert_eq!(reader.read_at(6, 100).await.unwrap(), "world");
    assert_eq!(reader.read_at(11, 1).await.unwrap(), "");
    assert_eq!(reader.read_at(1 << 40, 1).await.unwrap(), "");
    assert_eq!(local.fs.read(&path).await.unwrap(), "hello world");
}

#[tokio::test]
async fn without_overwrite_an_existing_file_stays() {
    let local = local();
    let path = local.put("a", "old").await;
    let again = local
        .fs
        .create(&path, &CreateOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        again.to_string(),
        format!("cannot create `{path}`: it already exists")
    );
    let overwrite = CreateOptions::default().overwrite();
    local
        .fs
        .write(&path, Bytes::from_static(b"n"), &overwrite)
        .await
        .unwrap();
    assert_eq!(local.fs.read(&path).await.unwrap(), "n");
}

#[tokio::test]
async fn sequential_reading_gives_every_byte_once_whatever_the_chunk() {
    let local = local();
    let text: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = local.at("data");
    let options = CreateOptions::default();
    local
        .fs
        .write(&path, Bytes::from(text.clone()), &options)
        .await
        .unwrap();
    for chunk in [1_usize << 20, 4096, 999] {
        let mut reader = local.fs.open(&path).await.unwrap().sequential(3, chunk);
        let mut seen = Vec::new();
        let mut few = [0; 10];
        let count = reader.read(&mut few).await.unwrap();
        seen.extend_from_slice(&few[..count]);
        assert_eq!(reader.position(), 13);
        while let Some(piece) = reader.next_chunk().await.unwrap() {
            assert!(piece.len() <= chunk);
            seen.extend_from_slice(&piece);
        }
        assert_eq!(reader.position(), text.len() as u64);
        assert_eq!(reader.read(&mut few).await.unwrap(), 0);
        assert!(seen == text[3..], "chunk {chunk}");
    }
}

#[tokio::test]
async fn a_file_that_shrank_is_corrupt_and_not_short() {
    let local = local();
    let path = local.put("a", "0123456789").await;
    let reader = local.fs.open(&path).await.unwrap();
    let overwrite = CreateOptions::default().overwrite();
    local
        .fs
        .write(&path, Bytes::from_static(b"01"), &overwrite)
        .await
        .unwrap();
    let error = reader.read_at(0, 10).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("data is missing or damaged (2 of 10 bytes at 0)")
    );
}

#[tokio::test]
async fn globs_find_sorted_paths_in_any_component() {
    let local = local();
    for name in [
        "2008/b.csv",
        "2008/a.csv",
        "2007/a.csv",
        "2007/a.txt",
        "other/a.csv",
        "top.csv",
    ] {
        local.put(name, "x").await;
    }
    assert_eq!(
        local.names("200[0-9]/*.csv").await,
        ["2007/a.csv", "2008/a.csv", "2008/b.csv"]
    );
    assert_eq!(
        local.names("{other,2007}/a.csv").await,
        ["2007/a.csv", "other/a.csv"]
    );
    assert_eq!(local.names("*/?.txt").await, ["2007/a.txt"]);
    assert_eq!(
        local.names("{*,top}.csv").await,
        ["top.csv"],
        "each path once"
    );
    assert_eq!(local.names("*").await, ["2007", "2008", "other", "top.csv"]);
    assert_eq!(local.names("top.csv/*").await, Vec::<String>::new());
    assert_eq!(local.names("none/*.csv").await, Vec::<String>::new());
    assert_eq!(local.names("2007/a.csv").await, ["2007/a.csv"]);
}

#[tokio::test]
async fn a_list_is_sorted_and_of_a_file_it_is_the_file() {
    let local = local();
    let (b, a) = (local.put("d/b", "1").await, local.put("d/a", "22").await);
    let found = local.fs.list(&local.at("d")).await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|status| (&status.path, status.len))
        .collect();
    assert_eq!(seen, [(&a, 2), (&b, 1)]);
    assert_eq!(local.fs.list(&a).await.unwrap()[0].path, a);
    assert!(
        local
            .fs
            .list(&local.at("none"))
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn renames_name_the_path_that_is_at_fault() {
    let local = local();
    let (a, b) = (local.put("a", "a").await, local.put("b", "b").await);
    let error = local.fs.rename(&a, &b, false).await.unwrap_err();
    assert!(
        matches!(&error, FsError::AlreadyExists { path, .. } if *path == b),
        "{error}"
    );
    let error = local
        .fs
        .rename(&local.at("none"), &b, false)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FsError::NotFound { path, .. } if *path == local.at("none")),
        "{error}"
    );
    let error = local
        .fs
        .rename(&a, &local.at("no/x"), false)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FsError::NotFound { path, .. } if *path == local.at("no")),
        "{error}"
    );
    local.fs.rename(&a, &b, true).await.unwrap();
    assert!(!local.fs.exists(&a).await.unwrap());
    assert_eq!(local.fs.read(&b).await.unwrap(), "a");
    let other = FsPath::new(Scheme::Hdfs, "nn", "/x").unwrap();
    assert!(local.fs.rename(&b, &other, false).await.is_err());
}

#[tokio::test]
async fn deleting_tells_what_was_there_and_spares_filled_directories() {
    let local = local();
    local.put("d/a", "1").await;
    let directory = local.at("d");
    let error = local.fs.delete(&directory, false).await.unwrap_err();
    assert!(matches!(error, FsError::NotEmpty { .. }), "{error}");
    assert!(local.fs.delete(&directory, true).await.unwrap());
    assert!(!local.fs.delete(&directory, true).await.unwrap());
    let root = FsPath::file("/").unwrap();
    assert!(matches!(
        local.fs.delete(&root, true).await,
        Err(FsError::InvalidPath { .. })
    ));
}

#[tokio::test]
async fn directories_have_the_permission_asked_for_and_opening_one_fails() {
    let local = local();
    let directory = local.at("x/y");
    local.fs.mkdirs(&directory, 0o700).await.unwrap();
    local.fs.mkdirs(&directory, 0o755).await.unwrap();
    let status = local.fs.stat(&directory).await.unwrap();
    assert_eq!((status.is_dir, status.permission), (true, 0o700));
    local.fs.set_permission(&directory, 0o750).await.unwrap();
    assert_eq!(local.fs.stat(&directory).await.unwrap().permission, 0o750);
    let error = local.fs.open(&directory).await.unwrap_err();
    assert!(matches!(error, FsError::IsADirectory { .. }), "{error}");
    let file = local.put("f", "1").await;
    assert!(
        local
            .fs
            .mkdirs(&file.join("sub").unwrap(), 0o755)
            .await
            .is_err()
    );
    assert!(!local.fs.exists(&file.join("sub").unwrap()).await.unwrap());
}

#[tokio::test]
async fn an_upload_reports_length_and_time_of_what_is_there() {
    let local = local();
    let source = local.put("source", "0123456789").await;
    let target = local.at("staging/app/file");
    let options = CreateOptions::default();
    let status = local
        .fs
        .upload(Path::new(source.path()), &target, &options)
        .await
        .unwrap();
    assert_eq!(status, local.fs.stat(&target).await.unwrap());
    assert_eq!(local.fs.read(&target).await.unwrap(), "0123456789");
    let missing = Path::new("/no/such/file");
    let error = local
        .fs
        .upload(missing, &target, &options)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read `file:///no/such/file`: no such file or directory"
    );
}

/// A port that was free a moment ago.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_namenode_that_refuses_is_named_with_its_key_at_once() {
    let port = closed_port().await;
    let mut conf = Configuration::new();
    let site = format!(
        "<configuration>\n<property><name>fs.defaultFS</name><value>hdfs://127.0.0.1:{port}</value></property></configuration>"
    );
    conf.add_site_xml("core-site.xml", site.as_bytes(), &|_| None)
        .unwrap();
    let fs = FileSystem::new(&conf, "ann").unwrap();
    let started = Instant::now();
    let error = fs.stat(&fs.resolve("/a").unwrap()).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot stat `hdfs://127.0.0.1:{port}/a`: no NameNode answers at 127.0.0.1:{port} \
             (from fs.defaultFS, core-site.xml:2)"
        )
    );
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn of_a_nameservice_all_namenodes_are_named() {
    let (a, b) = (closed_port().await, closed_port().await);
    let conf = Configuration::from_pairs([
        ("fs.defaultFS", "hdfs://ns".to_owned()),
        ("dfs.nameservices", "ns".to_owned()),
        ("dfs.ha.namenodes.ns", "n1, n2".to_owned()),
        ("dfs.namenode.rpc-address.ns.n1", format!("127.0.0.1:{a}")),
        ("dfs.namenode.rpc-address.ns.n2", format!("127.0.0.1:{b}")),
    ]);
    let fs = FileSystem::new(&conf, "ann").unwrap();
    let error = fs.list(&fs.resolve("x").unwrap()).await.unwrap_err();
    let FsError::Unreachable { address, key, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(address, format!("127.0.0.1:{a}, 127.0.0.1:{b}"));
    assert_eq!(
        key,
        "dfs.namenode.rpc-address.ns.n1, shipped with the application; \
         dfs.namenode.rpc-address.ns.n2, shipped with the application"
    );
}

#[tokio::test]
async fn a_namenode_that_hangs_up_is_given_up_within_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let uri = format!("hdfs://127.0.0.1:{port}/a");
    let fs = FileSystem::new(&Configuration::new(), "ann").unwrap();
    let started = Instant::now();
    let error = fs.stat(&fs.resolve(&uri).unwrap()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(11));
}
