//! What tells a task's thread that there is something for it to look at, wherever it waits.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

/// What whoever runs a task gives for its [`Mailbox`].
pub trait Signals: Send + Sync {
    /// Whether the task was told to stop.
    fn is_cancelled(&self) -> bool;

    /// Ends a wait of the task's thread in its input gate or in [`Self::park`]; if there is none, the next one. From any thread.
    fn wake(&self);

    /// Has the task's thread, which calls it, wait until it is woken or told to stop, for this long at most if there is a limit. May return early
    /// for no reason.
    fn park(&self, limit: Option<Duration>);
}

/// How what runs beside a task reaches the task's thread. Flink: `MailboxExecutor`, of which only the waking is here: what came lies where
/// the operator finds it, and its [`deadline`](crate::collector::Control::deadline) says that there is something.
#[derive(Clone)]
pub struct Mailbox(Arc<dyn Signals>);

impl Mailbox {
    /// The mailbox of a task that is reached in this way.
    pub fn new(signals: Arc<dyn Signals>) -> Self {
        Self(signals)
    }

    /// See [`Signals::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// See [`Signals::wake`].
    pub fn wake(&self) {
        self.0.wake();
    }

    /// See [`Signals::park`].
    pub fn park(&self, limit: Option<Duration>) {
        self.0.park(limit);
    }
}

impl Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Default for Mailbox {
    /// That of a task which nothing reaches: for operators outside of a task. Whoever waits looks again each millisecond.
    fn default() -> Self {
        Self::new(Arc::new(Nobody))
    }
}

struct Nobody;

impl Signals for Nobody {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn wake(&self) {}

    fn park(&self, limit: Option<Duration>) {
        const LOOK: Duration = Duration::from_millis(1);
        std::thread::sleep(limit.map_or(LOOK, |limit| limit.min(LOOK)));
    }
}
