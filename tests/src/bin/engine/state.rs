//! Counts by key under full load, with and without checkpoints in turn, in one run of one job.
//!
//! The sources make numbers as fast as they are taken, first each key once, then keys at random. When all keys are there, stretches
//! without checkpoints and stretches with them alternate, so that a machine that slows down slows both. What this process does of a
//! JobManager is in [`cluster`]; the workers are those of any job, and write to where a job would.
//!
//! Each subtask's thread tells when it finished a batch, by two clocks: the wall's, which also runs while another thread has the core, and
//! the thread's own. A stall is the longest time between two batches.

mod cluster;
mod job;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use spindle_common::checkpoint::CheckpointId;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::FileSystem;
use spindle_storage::SnapshotStorage;
use spindle_worker::StateBackend;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::state::cluster::{Cluster, Taken};
use crate::state::job::Probe;

/// How often the memory of the process is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// All keys are there, or a restored task goes on, within this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the case `state` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Of `state`: directory for checkpoints, as a URI; Hadoop's configuration is that of HADOOP_CONF_DIR.
    #[arg(long, default_value = "file:///tmp/spindle-bench-state")]
    directory: String,
    /// Of `state`: milliseconds from one checkpoint to the next.
    #[arg(long, default_value_t = 1000)]
    interval_ms: u64,
    /// Of `state`: checkpoints in a stretch with checkpoints; one without is as long.
    #[arg(long, default_value_t = 5)]
    checkpoints: u32,
    /// Of `state`: where the counts are, `hashmap` or `rocksdb`.
    #[arg(long, default_value = "hashmap")]
    backend: String,
    /// Of `state`: checkpoints are the files of the store.
    #[arg(long)]
    incremental: bool,
    /// Of `state`: once all keys are there, so many of them are counted. Without it all.
    #[arg(long)]
    hot: Option<u64>,
    /// Of `state`: stretches of either kind.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// The figures of a run. Times are in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// Records a second, by stretch.
    without: Stretches,
    with: Stretches,
    /// By checkpoint: from before its directory is made until it is complete.
    complete_ms: Vec<f64>,
    /// By checkpoint: the longest time in which a subtask's thread did nothing else.
    sync_ms: Vec<f64>,
    /// By checkpoint: the longest time in which a subtask's state was written.
    async_ms: Vec<f64>,
    /// Of the last checkpoint.
    bytes: u64,
    /// By checkpoint: bytes that were written for it.
    written: Vec<u64>,
    /// From the deployment of the tasks to the first record that one of them hands on.
    restore_ms: f64,
}

/// What was seen in the stretches of one kind.
#[derive(Debug, Clone, Default, Serialize)]
struct Stretches {
    records_per_second: Vec<f64>,
    /// What the threads that count took of the cores for a record, by stretch.
    task_cpu_ns_per_record: Vec<f64>,
    /// What the process took of the cores for a record, by stretch.
    cpu_ns_per_record: Vec<f64>,
    /// Longest time between two batches, by stretch.
    stall_ms: Vec<f64>,
    /// The same by the clock of the thread.
    stall_cpu_ms: Vec<f64>,
    /// Most memory of the process at any time.
    memory_mb: f64,
}

/// Runs the job.
pub(crate) fn run(keys: u64, parallelism: u32, options: &Options) -> Result<Figures, String> {
    if keys == 0 || options.interval_ms == 0 || options.checkpoints == 0 || options.rounds == 0 {
        return Err(
            "there have to be keys, checkpoints with a time between them, and rounds".to_owned(),
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    runtime.block_on(Box::pin(measure(keys, parallelism, options)))
}

async fn measure(keys: u64, parallelism: u32, options: &Options) -> Result<Figures, String> {
    let conf = Configuration::discover(&|name| std::env::var(name).ok());
    let conf = conf.map_err(|error| format!("cannot read Hadoop's configuration: {error}"))?;
    let user = spindle_hadoop::user::current().map_err(|error| error.to_string())?;
    let fs = FileSystem::new(&conf, &user).map_err(|error| error.to_string())?;
    let storage = SnapshotStorage::new(fs);
    let probe = Arc::new(Probe::default());
    let hot = options.hot.unwrap_or(keys);
    let dataflow = job::counting(keys, hot, parallelism, &probe)?;
    let mut figures = Figures::default();
    let backend = backend(options)?;
    let start = |dataflow| {
        let directory = &options.directory;
        Cluster::start(dataflow, &storage, parallelism, directory, backend.as_ref())
    };
    let mut cluster = start(&dataflow)?;
    cluster.deploy(None)?;
    reached(&probe, keys).await?;
    let interval = Duration::from_millis(options.interval_ms);
    let mut last: Option<Taken> = None;
    for _ in 0..options.rounds {
        let stretch = Stretch::begin(&probe);
        sleep(interval * options.checkpoints).await;
        stretch.end(&probe, &mut figures.without).await;

        let stretch = Stretch::begin(&probe);
        for n in 0..options.checkpoints {
            let id = CheckpointId(last.as_ref().map_or(1, |last| last.id.0 + 1));
            let taken = cluster.checkpoint(id).await?;
            figures.complete_ms.push(ms(taken.took));
            figures.sync_ms.push(taken.sync_us as f64 / 1e3);
            figures.async_ms.push(taken.async_us as f64 / 1e3);
            figures.bytes = taken.bytes;
            figures.written.push(taken.written);
            if let Some(before) = &last {
                cluster.discard(before, &taken);
            }
            last = Some(taken);
            let next = stretch.began + interval * (n + 1);
            sleep_until(next.into()).await;
        }
        stretch.end(&probe, &mut figures.with).await;
    }
    let last = last.ok_or("no checkpoint was taken")?;
    cluster.stop().await;
    storage.settle().await;

    let probe = Arc::new(Probe::default());
    let dataflow = job::counting(keys, hot, parallelism, &probe)?;
    let cluster = start(&dataflow)?;
    let began = Instant::now();
    cluster.deploy(Some(&last))?;
    reached(&probe, 1).await?;
    figures.restore_ms = ms(began.elapsed());
    cluster.stop().await;
    let removed = storage.discard(&options.directory).await;
    removed.map_err(|error| error.report())?;
    Ok(figures)
}

/// Where the counts are; none if in memory.
#[cfg(not(feature = "rocksdb"))]
fn backend(options: &Options) -> Result<Option<StateBackend>, String> {
    match &*options.backend {
        "hashmap" => Ok(None),
        other => Err(format!(
            "there is no backend `{other}` in this build: `rocksdb` needs the feature `rocksdb`"
        )),
    }
}

#[cfg(feature = "rocksdb")]
fn backend(options: &Options) -> Result<Option<StateBackend>, String> {
    use spindle_state_rocksdb::{RocksDbOptions, RocksDbStores};
    match &*options.backend {
        "hashmap" => return Ok(None),
        "rocksdb" => {}
        other => return Err(format!("there is no backend `{other}`")),
    }
    // As a job has it that says nothing else.
    let settings = RocksDbOptions {
        table_bytes: 64 << 20,
        block_cache_bytes: 32 << 20,
        write_buffer_bytes: 64 << 20,
        incremental: options.incremental,
    };
    let make = move |directory: &std::path::Path, earlier| {
        let stores = RocksDbStores::new(directory, settings.clone(), earlier)?;
        Ok(Arc::new(stores) as Arc<dyn spindle_dataflow::state::store::StateStores>)
    };
    Ok(Some(StateBackend::new(&std::env::temp_dir(), make)))
}

/// Waits until this many records were counted.
async fn reached(probe: &Probe, records: u64) -> Result<(), String> {
    let began = Instant::now();
    while probe.records.load(Ordering::Relaxed) < records {
        if began.elapsed() > PATIENCE {
            return Err(format!(
                "{records} records were not counted within {} s",
                PATIENCE.as_secs()
            ));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// A time in which the job is watched.
struct Stretch {
    began: Instant,
    records: u64,
    task_cpu_ns: u64,
    cpu: Duration,
    over: Arc<AtomicBool>,
    memory: JoinSet<f64>,
}

impl Stretch {
    fn begin(probe: &Probe) -> Self {
        probe.stall_ns.store(0, Ordering::Relaxed);
        probe.stall_cpu_ns.store(0, Ordering::Relaxed);
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let mut memory = JoinSet::new();
        memory.spawn(async move {
            let mut most = 0.0_f64;
            while !seen.load(Ordering::Relaxed) {
                most = most.max(resident_mb());
                sleep(LOOK).await;
            }
            most
        });
        Self {
            began: Instant::now(),
            records: probe.records.load(Ordering::Relaxed),
            task_cpu_ns: probe.cpu_ns.load(Ordering::Relaxed),
            cpu: cpu(ClockId::ProcessCPUTime),
            over,
            memory,
        }
    }

    async fn end(mut self, probe: &Probe, into: &mut Stretches) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let records = (read(&probe.records) - self.records) as f64;
        let task_cpu_ns = read(&probe.cpu_ns) - self.task_cpu_ns;
        let process = cpu(ClockId::ProcessCPUTime).saturating_sub(self.cpu);
        let took = self.began.elapsed().as_secs_f64();
        into.records_per_second.push(records / took);
        into.task_cpu_ns_per_record
            .push(task_cpu_ns as f64 / records);
        into.cpu_ns_per_record
            .push(process.as_nanos() as f64 / records);
        into.stall_ms.push(read(&probe.stall_ns) as f64 / 1e6);
        into.stall_cpu_ms
            .push(read(&probe.stall_cpu_ns) as f64 / 1e6);
        self.over.store(true, Ordering::Relaxed);
        while let Some(Ok(memory)) = self.memory.join_next().await {
            into.memory_mb = into.memory_mb.max(memory);
        }
    }
}

/// What a clock of the processor shows.
fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0 / 1e6
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
