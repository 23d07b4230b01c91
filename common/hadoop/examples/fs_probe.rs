//! Tries every operation of the file system facade on a real HDFS and prints what it saw.
//!
//! `fs_probe [URI]`: works in a directory of its own below the user's home on `URI`, default `fs.defaultFS` of
//! `HADOOP_CONF_DIR`, and deletes it afterwards. Exit code 1 with the first thing that was not as it should be.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{CreateOptions, FileSystem, FsError, FsPath};

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED: {error}"));
            let mut cause = error.source();
            while let Some(error) = cause {
                say(&format!("  because: {error}"));
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome {
    let conf = Configuration::discover(&|name| std::env::var(name).ok())?;
    // As a container has it: shipped settings, no directory.
    let conf = Configuration::from_pairs(conf.to_pairs());
    let user = spindle_hadoop::user::current()?;
    let fs = FileSystem::new(&conf, &user)?;
    let base = match std::env::args().nth(1) {
        Some(uri) => fs.resolve(&uri)?,
        None => fs.home_dir()?,
    };
    let directory = base.join(&format!("fs-probe-{}", std::process::id()))?;
    say(&format!("as {user} in {directory}"));
    let outcome = probe(&fs, &directory).await;
    let started = Instant::now();
    let deleted = fs.delete(&directory, true).await;
    outcome?;
    report("delete", started);
    check(deleted?, "the directory was there to be deleted")?;
    check(!fs.delete(&directory, true).await?, "and is gone")
}

async fn probe(fs: &FileSystem, directory: &FsPath) -> Outcome {
    let started = Instant::now();
    check(
        !fs.exists(directory).await?,
        "a fresh directory does not exist",
    )?;
    report("first stat", started);
    fs.mkdirs(directory, 0o750).await?;
    fs.mkdirs(directory, 0o750).await?;
    let status = fs.stat(directory).await?;
    check(
        status.is_dir && status.permission == 0o750,
        "mkdirs sets the permission",
    )?;
    files(fs, directory).await?;
    renames(fs, directory).await?;
    refusals(fs, directory).await?;
    open_files(fs, directory).await
}

async fn files(fs: &FileSystem, directory: &FsPath) -> Outcome {
    let path = directory.join("d1/data.csv")?;
    let content: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    let started = Instant::now();
    let mut writer = fs.create(&path, &CreateOptions::default()).await?;
    for piece in content.chunks(700_000) {
        writer.write(piece).await?;
    }
    report("create and write 6 MB", started);
    let started = Instant::now();
    writer.hsync().await?;
    report("hsync", started);
    let started = Instant::now();
    writer.close().await?;
    report("close", started);
    let status = fs.stat(&path).await?;
    check(
        status.len == content.len() as u64 && !status.is_dir,
        "stat knows the length",
    )?;
    check(status.permission == 0o644, "the default permission is 0644")?;

    let started = Instant::now();
    let reader = fs.open(&path).await?;
    check(
        reader.read_at(5, 7).await? == content[5..12],
        "read_at reads inside",
    )?;
    check(
        reader.read_at(status.len, 1).await?.is_empty(),
        "and nothing beyond the end",
    )?;
    let mut reader = reader.sequential(1, 1 << 20);
    let mut seen = vec![content[0]];
    while let Some(chunk) = reader.next_chunk().await? {
        seen.extend_from_slice(&chunk);
    }
    report("open and read 6 MB", started);
    check(seen == content, "reading on gives every byte")?;

    for name in ["d1/b.csv", "d2/c.csv", "d2/c.txt"] {
        fs.create(&directory.join(name)?, &CreateOptions::default())
            .await?
            .close()
            .await?;
    }
    let found = fs
        .glob(&format!("{directory}/d[1-2]/{{b,c,data}}.c?v"))
        .await?;
    let names: Vec<_> = found
        .iter()
        .filter_map(|status| status.path.name())
        .collect();
    check(
        names == ["b.csv", "data.csv", "c.csv"],
        "glob finds and sorts",
    )?;
    let listed = fs.list(&directory.join("d2")?).await?;
    check(
        listed.len() == 2 && listed[1].path == directory.join("d2/c.txt")?,
        "list is sorted",
    )?;
    let of_file = fs.list(&path).await?;
    check(
        of_file.len() == 1 && of_file[0].path == path,
        "a list of a file is the file",
    )?;
    let uploaded = fs
        .upload(
            &std::env::current_exe()?,
            &directory.join("up/exe")?,
            &CreateOptions::default(),
        )
        .await?;
    let local = std::fs::metadata(std::env::current_exe()?)?;
    check(
        uploaded.len == local.len() && uploaded.mtime_ms > 0,
        "an upload is complete",
    )
}

async fn renames(fs: &FileSystem, directory: &FsPath) -> Outcome {
    let (a, b) = (directory.join("ra")?, directory.join("rb")?);
    for path in [&a, &b] {
        fs.create(path, &CreateOptions::default())
            .await?
            .close()
            .await?;
    }
    let refused = fs.rename(&a, &b, false).await;
    check(
        matches!(&refused, Err(FsError::AlreadyExists { path, .. }) if *path == b),
        &format!("rename onto a file is refused: {refused:?}"),
    )?;
    let missing = directory.join("none")?;
    let refused = fs.rename(&missing, &b, true).await;
    check(
        matches!(&refused, Err(FsError::NotFound { path, .. }) if *path == missing),
        &format!("rename of nothing names it: {refused:?}"),
    )?;
    let refused = fs.rename(&a, &missing.join("x")?, false).await;
    check(
        matches!(&refused, Err(FsError::NotFound { path, .. }) if *path == missing),
        &format!("rename into nothing names the directory: {refused:?}"),
    )?;
    let started = Instant::now();
    fs.rename(&a, &b, true).await?;
    report("rename", started);
    check(
        !fs.exists(&a).await? && fs.exists(&b).await?,
        "rename moved it",
    )
}

async fn refusals(fs: &FileSystem, directory: &FsPath) -> Outcome {
    let file = directory.join("rb")?;
    let again = fs.create(&file, &CreateOptions::default()).await;
    check(
        matches!(again, Err(FsError::AlreadyExists { .. })),
        "create does not overwrite",
    )?;
    let below = fs.stat(&file.join("x")?).await;
    check(
        matches!(
            below,
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. })
        ),
        &format!("nothing is below a file: {below:?}"),
    )?;
    check(
        !fs.exists(&file.join("x")?).await?,
        "nothing exists below a file",
    )?;
    let made = fs.mkdirs(&file.join("x")?, 0o755).await;
    check(
        matches!(made, Err(FsError::NotADirectory { .. })),
        &format!("no directory below a file: {made:?}"),
    )?;
    let opened = fs.open(directory).await;
    check(
        matches!(opened, Err(FsError::IsADirectory { .. })),
        &format!("a directory is not opened: {opened:?}"),
    )?;
    let missing = directory.join("none")?;
    for outcome in [
        fs.open(&missing).await.map(drop),
        fs.list(&missing).await.map(drop),
    ] {
        check(
            matches!(outcome, Err(FsError::NotFound { .. })),
            &format!("missing is not found: {outcome:?}"),
        )?;
    }
    let filled = fs.delete(&directory.join("d1")?, false).await;
    check(
        matches!(filled, Err(FsError::NotEmpty { .. })),
        &format!("a filled directory stays: {filled:?}"),
    )?;
    fs.set_permission(&file, 0o600).await?;
    check(
        fs.stat(&file).await?.permission == 0o600,
        "set_permission does",
    )?;

    let eve = Configuration::from_pairs(
        Configuration::discover(&|name| std::env::var(name).ok())?.to_pairs(),
    );
    let eve = FileSystem::new(&eve, "fs-probe-eve")?;
    let denied = eve
        .create(&directory.join("eve")?, &CreateOptions::default())
        .await;
    check(
        matches!(denied, Err(FsError::PermissionDenied { .. })),
        &format!("others are refused: {denied:?}"),
    )?;
    if let Err(error) = denied {
        say(&format!("refused as it should be: {error}"));
    }
    Ok(())
}

async fn open_files(fs: &FileSystem, directory: &FsPath) -> Outcome {
    let path = directory.join("left-open")?;
    let mut writer = fs.create(&path, &CreateOptions::default()).await?;
    writer.write_bytes(Bytes::from_static(b"synced")).await?;
    writer.hsync().await?;
    drop(writer);
    check(
        fs.read(&path).await?.is_empty(),
        "an open block is not visible",
    )?;
    let started = Instant::now();
    while !fs.recover_lease(&path).await? {
        check(
            started.elapsed() < Duration::from_secs(60),
            "the lease is recovered in a minute",
        )?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report("recover the lease", started);
    check(fs.read(&path).await? == "synced", "and then it is")
}

fn check(right: bool, what: &str) -> Outcome {
    if right { Ok(()) } else { Err(what.into()) }
}

fn report(what: &str, started: Instant) {
    say(&format!("{what}: {} ms", started.elapsed().as_millis()));
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn say(text: &str) {
    println!("{text}");
}
