//! The threads of a worker: one for the tasks of a slot that wait for nothing but each other, and one for each task that waits for the outside.
//!
//! ```text
//! slot thread    task 2 ── task 1 ── task 0 ── task 2 ── …        a step of each that has something to do, those downstream first
//!                           │ no credit in the midst of a step
//!                           └── task 2 ── task 3 …                others go on until there is
//! ```
//! A slot is worth a core: its tasks take turns on it, so that what one writes for another of the same slot stays in the caches and is never freed
//! by another thread. Hazelcast Jet calls it cooperative threads, timely dataflow has a worker for all operators.
//!
//! A task that waits in the midst of a step, [`pause`], lets the others of its thread go on meanwhile. It cannot be in its own way: it waits for
//! tasks downstream, and of those that wait so the one farthest downstream waits for one that does not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Instant;

use spindle_common::id::{AllocationId, ExecutionAttemptId};
use spindle_dataflow::apart;

use crate::exchange::queue::lock;
use crate::signal::Signal;
use crate::task_run::{NewTask, TaskRun, Turn};

/// Which thread a task runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// With the others of its slot.
    Slot(AllocationId),
    /// Alone.
    Own(ExecutionAttemptId),
}

/// The threads of a worker.
#[derive(Default)]
pub(crate) struct Slots {
    threads: Arc<Mutex<HashMap<Place, Inbox>>>,
}

/// Tasks that a thread has not yet taken over.
struct Inbox {
    tasks: Vec<NewTask>,
    thread: Thread,
}

impl Slots {
    /// Has a task run; a thread that it has for itself gets its name.
    ///
    /// # Errors
    /// If there is no thread for it, and none can be started.
    pub(crate) fn run(&self, place: Place, name: String, task: NewTask) -> std::io::Result<()> {
        let mut threads = lock(&self.threads);
        match threads.entry(place) {
            Entry::Occupied(mut entry) => {
                let inbox = entry.get_mut();
                inbox.tasks.push(task);
                inbox.thread.unpark();
            }
            Entry::Vacant(entry) => {
                let shared = Arc::clone(&self.threads);
                let run = move || SlotThread::run(place, shared);
                let name = match place {
                    Place::Slot(allocation) => format!("slot {allocation}"),
                    Place::Own(_) => name,
                };
                // It looks for its inbox, and so waits for the lock that is held here.
                let spawned = thread::Builder::new().name(name).spawn(run)?;
                entry.insert(Inbox {
                    tasks: vec![task],
                    thread: spawned.thread().clone(),
                });
            }
        }
        Ok(())
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<SlotThread>>> = const { RefCell::new(None) };
}

/// Waits in the midst of a task's step until the task is woken or `until` at the latest; may return early for no reason. The other tasks of the thread
/// go on meanwhile.
pub(crate) fn pause(signal: &Signal, until: Option<Instant>) {
    let current = CURRENT.with_borrow(Clone::clone);
    let Some(slot) = current else {
        return signal.park(until);
    };
    loop {
        if signal.take_woken_midway() || until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        if !apart(|| slot.round()) {
            let next = slot.next_due().into_iter().chain(until).min();
            signal.park(next);
        }
    }
}

/// One of the threads, while it runs.
struct SlotThread {
    place: Place,
    threads: Arc<Mutex<HashMap<Place, Inbox>>>,
    /// Those downstream first.
    tasks: RefCell<Vec<Seat>>,
}

/// A task and what it waits for.
struct Seat {
    execution: ExecutionAttemptId,
    vertex: usize,
    signal: Arc<Signal>,
    /// Absent while it is in the midst of a step.
    task: Option<TaskRun>,
    waits: Waits,
}

#[derive(Debug, Clone, Copy)]
enum Waits {
    /// It has something to do.
    No,
    /// Until it is woken, or for so long.
    Until(Option<Instant>),
}

impl SlotThread {
    fn run(place: Place, threads: Arc<Mutex<HashMap<Place, Inbox>>>) {
        let slot = Rc::new(Self {
            place,
            threads,
            tasks: RefCell::default(),
        });
        CURRENT.set(Some(Rc::clone(&slot)));
        loop {
            if slot.round() {
                continue;
            }
            if slot.tasks.borrow().is_empty() {
                let mut threads = lock(&slot.threads);
                let inbox = threads.get(&place);
                if inbox.is_none_or(|inbox| inbox.tasks.is_empty()) {
                    threads.remove(&place);
                    return;
                }
                continue;
            }
            match slot.next_due() {
                None => thread::park(),
                Some(due) => thread::park_timeout(due.saturating_duration_since(Instant::now())),
            }
        }
    }

    /// Gives a turn to each task that has something to do and is not in the midst of one. Returns whether there was any.
    fn round(&self) -> bool {
        self.take_over();
        let mut ran = false;
        let mut at = 0;
        while let Some((execution, mut task)) = self.next_from(at) {
            ran = true;
            let turn = task.turn();
            let mut tasks = self.tasks.borrow_mut();
            // Others may have come and gone meanwhile.
            let seat = tasks.iter().position(|seat| seat.execution == execution);
            let seat = seat.expect("a task leaves after its turn");
            let missed = tasks[seat].signal.take_missed();
            match turn {
                // What it was woken for in its midst may be what it had looked for before.
                Turn::Rest(until) if !missed => tasks[seat].waits = Waits::Until(until),
                Turn::Again | Turn::Rest(_) => tasks[seat].waits = Waits::No,
                Turn::Over => {
                    tasks.remove(seat);
                    at = seat;
                    continue;
                }
            }
            if tasks.len() > 1 {
                task.stand_by();
            }
            tasks[seat].task = Some(task);
            at = seat + 1;
        }
        ran
    }

    /// Takes the next task that has something to do from its seat, at this one or behind it.
    fn next_from(&self, at: usize) -> Option<(ExecutionAttemptId, TaskRun)> {
        let mut tasks = self.tasks.borrow_mut();
        let found = tasks.iter_mut().skip(at).find(|seat| seat.is_due())?;
        let task = found.task.take()?;
        Some((found.execution, task))
    }

    /// Takes over the tasks that have come.
    fn take_over(&self) {
        let mut threads = lock(&self.threads);
        let Some(inbox) = threads.get_mut(&self.place) else {
            return;
        };
        if inbox.tasks.is_empty() {
            return;
        }
        let came = std::mem::take(&mut inbox.tasks);
        drop(threads);
        let mut tasks = self.tasks.borrow_mut();
        let seat = |new| {
            let task = TaskRun::new(new);
            Seat {
                execution: task.execution(),
                vertex: task.vertex(),
                signal: Arc::clone(task.signal()),
                task: Some(task),
                waits: Waits::No,
            }
        };
        tasks.extend(came.into_iter().map(seat));
        tasks.sort_by_key(|seat| std::cmp::Reverse(seat.vertex));
    }

    /// When the first of those that wait has waited long enough.
    fn next_due(&self) -> Option<Instant> {
        let tasks = self.tasks.borrow();
        let waiting = tasks.iter().filter(|seat| seat.task.is_some());
        let due = waiting.filter_map(|seat| match seat.waits {
            Waits::No => None,
            Waits::Until(until) => until,
        });
        due.min()
    }
}

impl Seat {
    fn is_due(&self) -> bool {
        if self.task.is_none() {
            return false;
        }
        let woken = self.signal.take_woken();
        match self.waits {
            Waits::No => true,
            Waits::Until(until) => woken || until.is_some_and(|until| Instant::now() >= until),
        }
    }
}
