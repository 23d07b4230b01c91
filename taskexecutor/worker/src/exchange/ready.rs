//! What a consumer is to look after: which of its channels have something.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::queue::lock;
use crate::signal::Signal;

/// The keys of a consumer's channels that have something, served in turn, and whom to wake when there is one.
///
/// A consumer is a task's thread with the channels of a gate, or a connection with the channels that are read through it.
#[derive(Debug)]
pub(crate) struct ReadyList {
    keys: Mutex<Keys>,
    wake: Wake,
}

#[derive(Debug, Default)]
struct Keys {
    ready: VecDeque<u32>,
    /// Of channels in which a barrier has arrived. For tasks.
    arrived: VecDeque<u32>,
}

/// What a consumer is to look after next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A barrier has arrived in this channel.
    Arrived(u32),
    /// This channel has something to take.
    Ready(u32),
}

#[derive(Debug)]
enum Wake {
    Task(Arc<Signal>),
    Connection(Notify),
}

impl ReadyList {
    pub(crate) fn of_task(signal: Arc<Signal>) -> Self {
        Self {
            keys: Mutex::default(),
            wake: Wake::Task(signal),
        }
    }

    pub(crate) fn of_connection() -> Self {
        Self {
            keys: Mutex::default(),
            wake: Wake::Connection(Notify::new()),
        }
    }

    pub(crate) fn pop(&self) -> Option<u32> {
        lock(&self.keys).ready.pop_front()
    }

    /// For tasks: barriers first, and nothing to take unless the task `takes`.
    pub(crate) fn next(&self, takes: bool) -> Option<Next> {
        let mut keys = lock(&self.keys);
        if let Some(key) = keys.arrived.pop_front() {
            return Some(Next::Arrived(key));
        }
        let ready = if takes { keys.ready.pop_front() } else { None };
        ready.map(Next::Ready)
    }

    pub(crate) fn push(&self, key: u32) {
        lock(&self.keys).ready.push_back(key);
        self.wake();
    }

    /// A barrier has arrived in this channel. Who is told of the channel otherwise too is woken for that.
    pub(super) fn push_arrived(&self, key: u32) {
        lock(&self.keys).arrived.push_back(key);
        self.wake();
    }

    /// Puts a channel at the end of those to serve, by the consumer itself.
    pub(crate) fn push_back_quietly(&self, key: u32) {
        lock(&self.keys).ready.push_back(key);
    }

    pub(crate) fn wake(&self) {
        match &self.wake {
            Wake::Task(signal) => signal.wake(),
            Wake::Connection(notify) => notify.notify_one(),
        }
    }

    /// Whether the consumer is a task of this process.
    pub(super) const fn is_of_task(&self) -> bool {
        self.signal().is_some()
    }

    /// That of the consumer, if it is a task of this process.
    pub(super) const fn signal(&self) -> Option<&Arc<Signal>> {
        match &self.wake {
            Wake::Task(signal) => Some(signal),
            Wake::Connection(_) => None,
        }
    }

    /// Waits to be woken. For connections.
    pub(crate) async fn woken(&self) {
        match &self.wake {
            Wake::Task(_) => std::future::pending().await,
            Wake::Connection(notify) => notify.notified().await,
        }
    }
}
