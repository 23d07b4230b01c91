use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use spindle_common::checkpoint::{BarrierAlignment, SnapshotKind};
use spindle_common::time::{EventTime, MonoTime};
use spindle_dataflow::batch::Batch;
use spindle_dataflow::chain::Clock;
use spindle_dataflow::collector::{Collector, Control, SideOutputs};
use spindle_dataflow::key::ByValue;
use spindle_dataflow::mailbox::Mailbox;
use spindle_dataflow::operator::{OperatorContext, Scan};
use spindle_dataflow::snapshot::{Restored, Snapshot};
use spindle_dataflow::state::store::MemoryStores;
use spindle_dataflow::task::TaskError;

use super::*;

struct Nowhere;

impl Control for Nowhere {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }
}

impl Collector<u64> for Nowhere {
    fn push(&mut self, _: &mut Batch<u64>) -> Result<(), TaskError> {
        Ok(())
    }
}

/// An operator whose store has one file, which is another one after each change.
fn operator() -> Box<dyn Collector<u64>> {
    let context = OperatorContext {
        uid: Arc::from("uid"),
        name: Arc::from("operator"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: Clock::new(|| MonoTime::ZERO, || EventTime(0)),
        mailbox: Mailbox::default(),
        sides: SideOutputs::default(),
        stores: Some(Arc::new(MemoryStores::new(0).incremental())),
    };
    let add = |sum: &mut u64, n: u64| {
        *sum += n;
        *sum
    };
    let mut operator = Scan::new(
        &context,
        Arc::new(ByValue(|n: &u64| *n)),
        Arc::new(|| 0_u64),
        Arc::new(add),
        Box::new(Nowhere),
    );
    let nothing = Restored::new(SubtaskSnapshot::default());
    operator.restore(&nothing).unwrap();
    Box::new(operator)
}

fn barrier(id: u64) -> CheckpointBarrier {
    CheckpointBarrier {
        id: CheckpointId(id),
        timestamp_ms: 0,
        alignment: BarrierAlignment::Aligned,
        kind: SnapshotKind::Checkpoint,
        directory: Arc::from(format!("hdfs://nn/job/chk-{id}")),
    }
}

/// Writes a snapshot as the storage does.
fn stored(state: SubtaskSnapshot<Content>) -> SubtaskSnapshot {
    let mut offset = 0;
    state.map(|content| {
        let length = content.into_bytes().unwrap().len() as u64;
        if length == 0 {
            return StateHandle::Inline(Vec::new());
        }
        offset += length;
        StateHandle::File(FileRange {
            path: "file".to_owned(),
            offset: offset - length,
            length,
            checksum: 0,
        })
    })
}

/// The checkpoints whose directories a snapshot refers to.
fn directories(id: u64, snapshot: &SubtaskSnapshot) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let _ = snapshot.clone().map(|handle| {
        if let StateHandle::File(range) = &handle {
            let path = absolute(range, &format!("hdfs://nn/job/chk-{id}")).path;
            all.insert(path.trim_end_matches("/file").to_owned());
        }
    });
    all
}

#[derive(Debug, Clone)]
enum Action {
    Change,
    Checkpoint,
    /// One that is under way becomes complete, and all before it are void; the task hears of it later.
    Complete(usize),
    Abort(usize),
    /// The task hears of what became complete.
    Hear,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        2 => Just(Action::Change),
        4 => Just(Action::Checkpoint),
        2 => any::<usize>().prop_map(Action::Complete),
        1 => any::<usize>().prop_map(Action::Abort),
        2 => Just(Action::Hear),
    ];
    prop::collection::vec(action, 1..60)
}

proptest! {
    #[test]
    fn whatever_becomes_complete_refers_to_nothing_that_was_removed(actions in actions()) {
        let (mut operator, mut files) = (operator(), Files::default());
        let mut under_way: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        let mut there: BTreeSet<String> = BTreeSet::new();
        let (mut last, mut unheard) = (0, Vec::new());
        for action in actions {
            match action {
                Action::Change => operator.push(&mut Batch::from(vec![last])).unwrap(),
                Action::Checkpoint => {
                    last += 1;
                    let barrier = barrier(last);
                    let mut snapshot = Snapshot::new(barrier.clone());
                    operator.snapshot(&mut snapshot).unwrap();
                    let (state, plan) = files.plan(&barrier, snapshot.into_state());
                    let (snapshot, _) = files.written(&barrier, plan, stored(state));
                    there.insert(barrier.directory.to_string());
                    under_way.insert(last, directories(last, &snapshot));
                }
                Action::Complete(which) if !under_way.is_empty() => {
                    let id = *under_way.keys().nth(which % under_way.len()).unwrap();
                    let refers = under_way.remove(&id).unwrap();
                    prop_assert!(refers.is_subset(&there), "checkpoint {id}: {refers:?} of {there:?}");
                    under_way = under_way.split_off(&id);
                    // The JobManager does not know yet what those under way refer to.
                    let open: BTreeSet<_> = under_way.keys().map(|id| barrier(*id).directory.to_string()).collect();
                    there.retain(|directory| refers.contains(directory) || open.contains(directory));
                    unheard.push(id);
                }
                Action::Abort(which) if !under_way.is_empty() => {
                    let id = *under_way.keys().nth(which % under_way.len()).unwrap();
                    under_way.remove(&id);
                    there.remove(&*barrier(id).directory);
                    files.abort(CheckpointId(id));
                }
                Action::Hear => unheard.drain(..).for_each(|id| files.complete(CheckpointId(id))),
                Action::Complete(_) | Action::Abort(_) => {}
            }
        }
    }
}

#[test]
fn a_file_that_a_complete_checkpoint_has_is_not_written_again() {
    let (mut operator, mut files) = (operator(), Files::default());
    operator.push(&mut Batch::from(vec![1, 2, 3])).unwrap();
    let take = |id, files: &mut Files, operator: &mut Box<dyn Collector<u64>>| {
        let barrier = barrier(id);
        let mut snapshot = Snapshot::new(barrier.clone());
        operator.snapshot(&mut snapshot).unwrap();
        let (state, plan) = files.plan(&barrier, snapshot.into_state());
        let (snapshot, referred) = files.written(&barrier, plan, stored(state));
        (referred > 0, directories(id, &snapshot))
    };
    let own = |id: u64| format!("hdfs://nn/job/chk-{id}");
    assert_eq!(
        take(1, &mut files, &mut operator),
        (false, BTreeSet::from([own(1)]))
    );
    // It is not known to be complete.
    assert_eq!(
        take(2, &mut files, &mut operator),
        (false, BTreeSet::from([own(2)]))
    );
    files.abort(CheckpointId(2));
    files.complete(CheckpointId(1));
    let both = BTreeSet::from([own(1), own(3)]);
    assert_eq!(take(3, &mut files, &mut operator), (true, both));
    files.complete(CheckpointId(3));
    operator.push(&mut Batch::from(vec![4])).unwrap();
    assert_eq!(
        take(4, &mut files, &mut operator),
        (false, BTreeSet::from([own(4)]))
    );
}
