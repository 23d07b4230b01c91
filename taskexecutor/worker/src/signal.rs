//! What a task waits on: its mailbox, and whatever wakes it from outside.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use spindle_dataflow::mailbox::Signals;
use spindle_dataflow::task::TaskMail;

use crate::exchange::queue::lock;
use crate::slot::pause;

const CANCEL: u8 = 1;
const COMMIT: u8 = 2;
const MAIL: u8 = 4;

/// One per task. All may set and wake; only the thread that the task runs on waits.
///
/// Who waits looks at its condition, then at whether it was woken, then parks; who changes the condition wakes after that. An unpark before the park
/// makes the park return at once, so none is lost.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    thread: OnceLock<Thread>,
    flags: AtomicU8,
    /// Whether the task was woken since it began to look.
    woken: AtomicBool,
    /// Whether it was woken in the midst of its turn, where it waited: that may have been for what it looked at before.
    missed: AtomicBool,
    /// Set by the task's gate, for whoever gives it its turns: it has nothing to do before it is woken, or until then.
    rest: Mutex<Option<Option<Instant>>>,
    letters: Mutex<Letters>,
    /// How many of the task's outputs have used their credits up.
    full_outputs: AtomicU32,
}

/// Messages for the task itself, in the order in which they came. Few: so many at most as there are checkpoints under way.
#[derive(Debug, Default)]
struct Letters {
    waiting: Vec<TaskMail>,
    /// The task will not look any more.
    closed: bool,
}

impl Signal {
    /// Makes the calling thread the one that waits. Before this, nothing waits and nothing is woken.
    pub(crate) fn attach(&self) {
        let _ = self.thread.set(thread::current());
    }

    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Whether it was woken since the last time.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::SeqCst)
    }

    /// Whether it was woken since the last time, in the midst of its turn.
    pub(crate) fn take_woken_midway(&self) -> bool {
        let woken = self.take_woken();
        if woken {
            self.missed.store(true, Ordering::Relaxed);
        }
        woken
    }

    /// Whether it was woken in the midst of its turn.
    pub(crate) fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// The task has nothing to do in this turn.
    pub(crate) fn rest(&self, until: Option<Instant>) {
        *lock(&self.rest) = Some(until);
    }

    /// Whether it had nothing to do, and until when.
    pub(crate) fn take_rest(&self) -> Option<Option<Instant>> {
        lock(&self.rest).take()
    }

    /// Whether both belong to tasks of one thread. Once so, always so.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        let thread = |it: &Self| it.thread.get().map(Thread::id);
        thread(self).is_some_and(|id| thread(other) == Some(id))
    }

    pub(crate) fn cancel(&self) {
        self.flags.fetch_or(CANCEL | MAIL, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn commit(&self) {
        self.flags.fetch_or(COMMIT | MAIL, Ordering::SeqCst);
        self.wake();
    }

    /// One more of the outputs has no credit left.
    pub(crate) fn output_is_full(&self) {
        self.full_outputs.fetch_add(1, Ordering::SeqCst);
    }

    /// One of those has credit again. Who says so wakes the task.
    pub(crate) fn output_has_room(&self) {
        self.full_outputs.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether all outputs have credit. Without it the task begins nothing that may have to wait in its midst.
    pub(crate) fn has_room(&self) -> bool {
        self.full_outputs.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & CANCEL != 0
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & COMMIT != 0
    }

    /// Has the task's thread hand this to the task before its next step.
    ///
    /// # Errors
    /// The message, if the task has ended.
    pub(crate) fn post(&self, mail: TaskMail) -> Result<(), TaskMail> {
        {
            let mut letters = lock(&self.letters);
            if letters.closed {
                return Err(mail);
            }
            letters.waiting.push(mail);
        }
        self.flags.fetch_or(MAIL, Ordering::SeqCst);
        self.wake();
        Ok(())
    }

    /// What was posted since the last time. To be called after [`Self::clear_mail`], so that what comes later is seen later.
    pub(crate) fn take_letters(&self) -> Vec<TaskMail> {
        std::mem::take(&mut lock(&self.letters).waiting)
    }

    /// What nobody will look at, of what was posted; nothing can be posted any more.
    pub(crate) fn close_letters(&self) -> Vec<TaskMail> {
        let mut letters = lock(&self.letters);
        letters.closed = true;
        std::mem::take(&mut letters.waiting)
    }

    /// Whether the task has mail that [`Self::clear_mail`] has not yet seen.
    pub(crate) fn has_mail(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & MAIL != 0
    }

    /// Returns whether it had.
    pub(crate) fn clear_mail(&self) -> bool {
        self.flags.fetch_and(!MAIL, Ordering::SeqCst) & MAIL != 0
    }

    /// Waits to be woken, until `until` at the latest; may return early for no reason.
    #[expect(
        clippy::unused_self,
        reason = "only the thread that the signal belongs to may wait, so it is asked for"
    )]
    pub(crate) fn park(&self, until: Option<Instant>) {
        match until {
            None => thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    thread::park_timeout(left);
                }
            }
        }
    }
}

impl Signals for Signal {
    fn is_cancelled(&self) -> bool {
        Self::is_cancelled(self)
    }

    fn wake(&self) {
        // A gate that was about to wait sees the mail; one that waits is woken to see it.
        self.flags.fetch_or(MAIL, Ordering::SeqCst);
        Self::wake(self);
    }

    fn park(&self, limit: Option<Duration>) {
        if !Self::is_cancelled(self) {
            pause(self, limit.map(|limit| Instant::now() + limit));
        }
    }
}
