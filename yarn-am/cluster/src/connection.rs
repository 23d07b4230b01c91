//! The streams of TaskExecutors, by connection. No TaskExecutor can hold the driver up: each has a bounded queue.

use std::collections::BTreeMap;

use spindle_common::gateway::{ToJobManager, ToTaskExecutor};
use spindle_jobmanager::message::{ConnectionId, Input};
use spindle_rpc::{Incoming, StreamEnd, TaskExecutorStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::handle::Event;

/// Messages that may wait for one TaskExecutor; a deployment of a large job is one message a task.
const QUEUE: usize = 8192;

/// Both directions of a TaskExecutor in this process. Dropping either side's sender ends it.
#[derive(Debug)]
pub struct TaskExecutorLink {
    /// What the TaskExecutor says.
    pub incoming: mpsc::Receiver<ToJobManager>,
    /// What it is told.
    pub outgoing: mpsc::Sender<ToTaskExecutor>,
}

/// A TaskExecutor that has just come.
pub(crate) enum Newcomer {
    Link(TaskExecutorLink),
    Stream(TaskExecutorStream),
}

/// All open connections.
#[derive(Default)]
pub(crate) struct Connections {
    next: u64,
    open: BTreeMap<ConnectionId, Connection>,
    tasks: JoinSet<()>,
}

struct Connection {
    queue: mpsc::Sender<ToTaskExecutor>,
    reader: AbortHandle,
}

/// A message did not fit: the peer takes nothing, or is gone.
pub(crate) struct Overflow;

impl Connections {
    /// Begins to read and write; what is read goes to `inbox`.
    pub(crate) fn open(&mut self, newcomer: Newcomer, inbox: mpsc::Sender<Event>) {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let (source, outgoing) = match newcomer {
            Newcomer::Link(link) => (Source::Link(link.incoming), link.outgoing),
            Newcomer::Stream(stream) => {
                tracing::debug!(connection = connection.0, peer = %stream.peer, "stream opened");
                (Source::Stream(stream.incoming), stream.outgoing)
            }
        };
        let (queue, queued) = mpsc::channel(QUEUE);
        let reader = self.tasks.spawn(read(connection, source, inbox));
        self.tasks.spawn(write(queued, outgoing));
        self.open.insert(connection, Connection { queue, reader });
    }

    /// Queues a message; nothing happens if the connection is gone.
    pub(crate) fn send(
        &mut self,
        connection: ConnectionId,
        message: ToTaskExecutor,
    ) -> Result<(), Overflow> {
        let Some(open) = self.open.get(&connection) else {
            return Ok(());
        };
        match open.queue.try_send(message) {
            // A closed queue: the reader tells of the end in its own time.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.close(connection);
                Err(Overflow)
            }
        }
    }

    pub(crate) fn has(&self, connection: ConnectionId) -> bool {
        self.open.contains_key(&connection)
    }

    /// Stops reading; what is queued is still sent, then the stream ends.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        if let Some(closed) = self.open.remove(&connection) {
            closed.reader.abort();
        }
    }

    /// Forgets the tasks that are over.
    pub(crate) fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    /// Ends all, and waits until what is queued was taken.
    pub(crate) async fn drain(mut self) {
        for (_, closed) in std::mem::take(&mut self.open) {
            closed.reader.abort();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

enum Source {
    Link(mpsc::Receiver<ToJobManager>),
    Stream(Incoming<ToJobManager>),
}

impl Source {
    async fn recv(&mut self) -> Result<ToJobManager, String> {
        match self {
            Self::Link(link) => link
                .recv()
                .await
                .ok_or_else(|| "the TaskExecutor ended".to_owned()),
            Self::Stream(stream) => stream.recv().await.map_err(|end| match end {
                // The transport's own words are for the log: they tell nothing of the process behind it.
                StreamEnd::Lost(detail) => {
                    tracing::info!(detail, "a TaskExecutor's connection broke");
                    "its connection broke".to_owned()
                }
                end @ (StreamEnd::Closed | StreamEnd::Malformed(_)) => report(&end),
            }),
        }
    }
}

async fn read(connection: ConnectionId, mut source: Source, inbox: mpsc::Sender<Event>) {
    loop {
        let (input, more) = match source.recv().await {
            Ok(message) => (
                Input::TaskExecutor {
                    connection,
                    message,
                },
                true,
            ),
            Err(reason) => (Input::Disconnected { connection, reason }, false),
        };
        if inbox.send(Event::Input(input)).await.is_err() || !more {
            return;
        }
    }
}

async fn write(mut queued: mpsc::Receiver<ToTaskExecutor>, outgoing: mpsc::Sender<ToTaskExecutor>) {
    while let Some(message) = queued.recv().await {
        if outgoing.send(message).await.is_err() {
            return;
        }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}
