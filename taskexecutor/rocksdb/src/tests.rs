use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use spindle_common::checkpoint::{
    BarrierAlignment, CheckpointBarrier, CheckpointId, OperatorSnapshot, SnapshotKind,
    SubtaskSnapshot,
};
use spindle_common::key_group::{key_group, key_groups_of, key_hash, subtask_of};
use spindle_common::time::{EventTime, MonoTime};
use spindle_dataflow::batch::Batch;
use spindle_dataflow::chain::Clock;
use spindle_dataflow::codec::Malformed;
use spindle_dataflow::collector::{Collector, Control, SideOutputs};
use spindle_dataflow::key::ByValue;
use spindle_dataflow::mailbox::Mailbox;
use spindle_dataflow::operator::{
    FunctionResult, KeyedContext, KeyedProcess, OperatorContext, Scan,
};
use spindle_dataflow::snapshot::{Restored, STORE, Snapshot};
use spindle_dataflow::state::States;
use spindle_dataflow::state::store::{
    Bytes, Changes, EarlierFiles, Entries, Frozen, Manifest, MemoryStores, Opened, StateStores,
};
use spindle_dataflow::task::TaskError;

use super::*;

fn options(table_bytes: usize, incremental: bool) -> RocksDbOptions {
    RocksDbOptions {
        table_bytes,
        block_cache_bytes: 1 << 20,
        write_buffer_bytes: 1 << 16,
        incremental,
    }
}

fn opened(directory: &Path, earlier: Vec<EarlierFiles>) -> Opened {
    let earlier = BTreeMap::from([("uid".to_owned(), earlier)]);
    let stores = RocksDbStores::new(directory, options(0, true), earlier).unwrap();
    stores.open("uid", 0..=127).unwrap()
}

fn all(entries: &dyn Entries) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let each = &mut |key: &[u8], value: &[u8]| {
        all.push((key.to_vec(), value.to_vec()));
        Ok(())
    };
    entries.scan(b"k", each).unwrap();
    all
}

/// Puts the files of a store where another one finds them.
fn copy(frozen: &dyn Frozen, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    for (at, file) in frozen.files().iter().enumerate() {
        std::fs::write(into.join(&file.name), frozen.read(at).unwrap()).unwrap();
    }
}

#[derive(Debug, Clone)]
enum Action {
    Change(Vec<(u8, Option<u16>)>),
    RemoveAll(u8),
    Freeze,
    /// The newest that was frozen is opened instead.
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let change = prop::collection::vec((any::<u8>(), prop::option::of(any::<u16>())), 0..40);
    let action = prop_oneof![
        8 => change.prop_map(Action::Change),
        1 => any::<u8>().prop_map(Action::RemoveAll),
        2 => Just(Action::Freeze),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 0..20)
}

fn append(bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed> {
    move |out| {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_database_is_what_a_map_would_be(actions in actions()) {
        let temporary = tempfile::tempdir().unwrap();
        let mut store = opened(&temporary.path().join("0"), Vec::new()).store;
        let mut model = MemoryStores::new(0).open("uid", 0..=127).unwrap().store;
        let mut frozen: Vec<(Arc<dyn Frozen>, Vec<_>)> = Vec::new();
        for (number, action) in actions.into_iter().enumerate() {
            match action {
                Action::Change(entries) => {
                    let mut changes = Changes::default();
                    for (key, value) in entries {
                        let key = [b'k', key];
                        match value {
                            Some(value) => changes.put(append(&key), append(&value.to_le_bytes())),
                            None => changes.remove(append(&key)),
                        }.unwrap();
                    }
                    store.change(&changes).unwrap();
                    model.change(&changes).unwrap();
                }
                Action::RemoveAll(key) => {
                    store.remove(&[b'k', key]).unwrap();
                    model.remove(&[b'k', key]).unwrap();
                }
                Action::Freeze => frozen.push((store.freeze().unwrap(), all(&*model))),
                Action::Restart => {
                    let Some((newest, then)) = frozen.last() else { continue };
                    let from = temporary.path().join(format!("files-{number}"));
                    copy(&**newest, &from);
                    let earlier = EarlierFiles { manifest: Vec::new(), directory: from };
                    store = opened(&temporary.path().join(format!("{number}")), vec![earlier]).store;
                    model = MemoryStores::new(0).open("uid", 0..=127).unwrap().store;
                    let mut changes = Changes::default();
                    for (key, value) in then {
                        changes.put(append(key), append(value)).unwrap();
                    }
                    model.change(&changes).unwrap();
                }
            }
            prop_assert_eq!(all(&*store), all(&*model));
        }
        let mut keys = Bytes::default();
        (0..=u8::MAX).rev().for_each(|key| keys.push_with(append(&[b'k', key])).unwrap());
        prop_assert_eq!(store.get_many(&keys).unwrap(), model.get_many(&keys).unwrap());
        for (frozen, then) in frozen {
            prop_assert_eq!(all(&*frozen), then);
        }
    }
}

#[test]
fn tables_stay_what_they_are_and_directories_go_with_the_last_user() {
    let temporary = tempfile::tempdir().unwrap();
    let own = temporary.path().join("task");
    let store = opened(&own, Vec::new()).store;
    let put = |key: &[u8]| {
        let mut changes = Changes::default();
        changes.put(append(key), append(b"value")).unwrap();
        store.change(&changes).unwrap();
    };
    put(b"k1");
    let first = store.freeze().unwrap();
    put(b"k2");
    let second = store.freeze().unwrap();
    let tables = |frozen: &Arc<dyn Frozen>| -> BTreeMap<String, Vec<u8>> {
        let files = frozen.files().iter().enumerate();
        let tables = files.filter(|(_, file)| file.immutable);
        tables
            .map(|(at, file)| (file.name.clone(), frozen.read(at).unwrap()))
            .collect()
    };
    let (before, after) = (tables(&first), tables(&second));
    assert_eq!((before.len(), after.len()), (1, 2));
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes));
    drop(store);
    assert_eq!(all(&*first).len(), 1);
    drop(first);
    assert!(own.exists());
    drop(second);
    assert!(!own.exists());
}

type Seen = Arc<Mutex<Vec<String>>>;

struct Tape(Seen);

impl Control for Tape {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }
}

impl Collector<String> for Tape {
    fn push(&mut self, batch: &mut Batch<String>) -> Result<(), TaskError> {
        self.0
            .lock()
            .unwrap()
            .extend(batch.drain().map(|(line, _)| line));
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Job {
    Sums,
    Lists,
}

/// A subtask that keeps something of each key: `n % 1000`.
fn subtask(
    job: Job,
    stores: Option<Arc<dyn StateStores>>,
    subtask: u32,
    parallelism: u32,
) -> (Box<dyn Collector<u64>>, Seen) {
    let context = OperatorContext {
        uid: Arc::from("uid"),
        name: Arc::from("operator"),
        subtask,
        parallelism,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
        mailbox: Mailbox::default(),
        sides: SideOutputs::default(),
        stores,
    };
    let seen = Seen::default();
    let next = Box::new(Tape(Arc::clone(&seen)));
    let selector = Arc::new(ByValue(|n: &u64| n % 1000));
    let operator: Box<dyn Collector<u64>> = match job {
        Job::Sums => {
            let add = |sum: &mut u64, n: u64| {
                *sum += n;
                format!("{n}: {sum}")
            };
            let create = Arc::new(|| 0_u64);
            Box::new(Scan::new(&context, selector, create, Arc::new(add), next))
        }
        Job::Lists => {
            let make = |states: &mut States| {
                let (all, last) = (states.list::<u64>("all"), states.value::<u64>("last"));
                move |n: u64, ctx: &mut KeyedContext<'_, u64, String>| -> FunctionResult {
                    all.push(ctx, n);
                    let sum: u64 = all.iter(ctx).sum();
                    let before = last.get(ctx).copied();
                    if n.is_multiple_of(7) {
                        last.clear(ctx);
                    } else {
                        last.set(ctx, n);
                    }
                    ctx.emit(format!("{n}: {sum} {before:?}"));
                    Ok(())
                }
            };
            Box::new(KeyedProcess::new(&context, selector, make, next))
        }
    };
    (operator, seen)
}

fn feed(subtasks: &mut [(Box<dyn Collector<u64>>, Seen)], numbers: std::ops::Range<u64>) {
    let parallelism = subtasks.len() as u32;
    for (index, (operator, _)) in (0..).zip(subtasks) {
        let owns = |n: &u64| {
            let group = key_group(key_hash(&(n % 1000)), 128);
            subtask_of(group, parallelism, 128) == index
        };
        let own: Vec<u64> = numbers.clone().filter(owns).collect();
        for records in own.chunks(100) {
            operator.push(&mut Batch::from(records.to_vec())).unwrap();
        }
    }
}

fn lines(subtasks: &[(Box<dyn Collector<u64>>, Seen)]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (_, seen) in subtasks {
        all.extend(seen.lock().unwrap().iter().cloned());
    }
    all.sort();
    all
}

fn states(snapshots: Vec<Snapshot>) -> Vec<OperatorSnapshot<Vec<u8>>> {
    let states = snapshots.into_iter().map(|snapshot| {
        let state = snapshot.into_state();
        state.map(|content| content.into_bytes().unwrap())
    });
    states.flat_map(|state| state.operators).collect()
}

/// What of a snapshot is in files that a subtask needs, as the worker fetches it.
fn fetched(
    snapshot: &[OperatorSnapshot<Vec<u8>>],
    into: &Path,
    subtask: u32,
    parallelism: u32,
) -> BTreeMap<String, Vec<EarlierFiles>> {
    let own = key_groups_of(subtask, parallelism, 128);
    let mut earlier = Vec::new();
    for state in snapshot.iter().flat_map(|operator| &operator.states) {
        if state.name != STORE {
            continue;
        }
        let manifest = Manifest::decode(&state.chunks[0].content).unwrap();
        if manifest.groups().end() < own.start() || own.end() < manifest.groups().start() {
            continue;
        }
        let directory = into.join(format!("earlier-{}", earlier.len()));
        std::fs::create_dir_all(&directory).unwrap();
        for (name, chunk) in manifest.files.iter().zip(&state.chunks[1..]) {
            std::fs::write(directory.join(name), &chunk.content).unwrap();
        }
        earlier.push(EarlierFiles {
            manifest: state.chunks[0].content.clone(),
            directory,
        });
    }
    BTreeMap::from([("uid".to_owned(), earlier)])
}

/// What is written at one parallelism in one form goes on at another.
fn goes_on(job: Job, incremental: bool, before: u32, after: u32) {
    let temporary = tempfile::tempdir().unwrap();
    let mut model = vec![subtask(job, None, 0, 1)];
    model[0]
        .0
        .restore(&Restored::new(SubtaskSnapshot::default()))
        .unwrap();
    feed(&mut model, 0..9000);

    let rocksdb = |path: &str, index: u32, earlier| {
        let directory = temporary.path().join(format!("{path}-{index}"));
        let stores = RocksDbStores::new(&directory, options(2000, incremental), earlier);
        Some(Arc::new(stores.unwrap()) as Arc<dyn StateStores>)
    };
    let mut first: Vec<_> = (0..before)
        .map(|index| subtask(job, rocksdb("first", index, BTreeMap::new()), index, before))
        .collect();
    for (operator, _) in &mut first {
        operator
            .restore(&Restored::new(SubtaskSnapshot::default()))
            .unwrap();
    }
    feed(&mut first, 0..5000);
    let barrier = CheckpointBarrier {
        id: CheckpointId(1),
        timestamp_ms: 0,
        alignment: BarrierAlignment::Aligned,
        kind: SnapshotKind::Checkpoint,
        directory: Arc::from("file:///chk-1"),
    };
    let snapshots: Vec<_> = first
        .iter_mut()
        .map(|(operator, _)| {
            let mut snapshot = Snapshot::new(barrier.clone());
            operator.snapshot(&mut snapshot).unwrap();
            snapshot
        })
        .collect();
    let mut out = lines(&first);
    feed(&mut first, 5000..7000);
    let snapshot = states(snapshots);
    drop(first);

    let mut second: Vec<_> = (0..after)
        .map(|index| {
            let into = temporary.path().join(format!("second-{index}"));
            let earlier = fetched(&snapshot, &into, index, after);
            subtask(job, rocksdb("second", index, earlier), index, after)
        })
        .collect();
    let rest = snapshot.iter().cloned().map(|mut operator| {
        operator.states.retain(|state| state.name != STORE);
        operator
    });
    let mut whole: Vec<OperatorSnapshot<Vec<u8>>> = Vec::new();
    for operator in rest {
        match whole.first_mut() {
            None => whole.push(operator),
            Some(all) => {
                for state in operator.states {
                    match all.states.iter_mut().find(|it| it.name == state.name) {
                        Some(it) => it.chunks.extend(state.chunks),
                        None => all.states.push(state),
                    }
                }
            }
        }
    }
    for (operator, _) in &mut second {
        let state = SubtaskSnapshot {
            operators: whole.clone(),
            ..SubtaskSnapshot::default()
        };
        operator.restore(&Restored::new(state)).unwrap();
    }
    feed(&mut second, 5000..9000);
    out.extend(lines(&second));
    out.sort();
    assert!(
        out == lines(&model),
        "{job:?} {incremental} {before} {after}"
    );
    drop(second);
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn sums_go_on_from_files_and_from_entries_at_any_parallelism() {
    for (before, after) in [(1, 1), (2, 2), (2, 3), (3, 1)] {
        goes_on(Job::Sums, true, before, after);
        goes_on(Job::Sums, false, before, after);
    }
}

#[test]
fn states_of_functions_go_on_from_files_and_from_entries_at_any_parallelism() {
    for (before, after) in [(1, 1), (1, 2), (3, 2)] {
        goes_on(Job::Lists, true, before, after);
        goes_on(Job::Lists, false, before, after);
    }
}
