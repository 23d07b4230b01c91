//! The producer's side of connections: other workers read what this worker's tasks produce.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use spindle_dataflow::channel::Buffer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::ChannelId;
use super::frame::{Frame, MAX_FRAME, decode};
use super::queue::{Peer, Queue, Taken, lock};
use super::ready::ReadyList;
use super::registry::Registry;
use crate::net::{self, Identity};

/// Buffers are gathered up to this many bytes for one write; one buffer may exceed it.
const WRITE_BYTES: usize = 64 * 1024;
/// A connection may not have more channels than this open.
const MAX_CHANNELS: usize = 1 << 16;
/// Connections that have not proved anything yet. One more ends the oldest of them: so strangers neither use the descriptors of
/// the worker up nor keep another worker out.
const MOST_STRANGERS: usize = 256;
/// What a write buffer that grew for a large record is cut back to.
const KEEP_BYTES: usize = 256 * 1024;

/// Answers other workers until it is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    registry: Arc<Registry>,
    identity: Arc<Identity>,
) {
    let mut connections = JoinSet::new();
    let mut strangers: VecDeque<(Proved, AbortHandle)> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    strangers.retain(|(proved, task)| {
                        !proved.load(Ordering::Relaxed) && !task.is_finished()
                    });
                    if strangers.len() >= MOST_STRANGERS
                        && let Some((_, oldest)) = strangers.pop_front()
                    {
                        oldest.abort();
                    }
                    let proved = Proved::default();
                    let (registry, identity) = (Arc::clone(&registry), Arc::clone(&identity));
                    let serve = serve(stream, registry, identity, Arc::clone(&proved));
                    strangers.push_back((proved, connections.spawn(serve)));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection of another worker");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Whether the other side of a connection has proved that it has the secret.
type Proved = Arc<AtomicBool>;

async fn serve(
    stream: TcpStream,
    registry: Arc<Registry>,
    identity: Arc<Identity>,
    proved: Proved,
) {
    let from = stream
        .peer_addr()
        .map_or_else(|_| "unknown".to_owned(), |address| address.to_string());
    let (stream, rest, address) = match net::welcome(stream, &identity).await {
        Ok(welcomed) => welcomed,
        Err(error) => {
            let reason = net::report(&error);
            // Whoever only knocks shall not fill the log.
            if error.is_of_ours() {
                tracing::warn!(from, reason, "refused a connection to the data plane");
            } else {
                tracing::debug!(from, reason, "refused a connection to the data plane");
            }
            return;
        }
    };
    proved.store(true, Ordering::Relaxed);
    let connection = Connection {
        address,
        registry,
        ready: Arc::new(ReadyList::of_connection()),
        state: Mutex::default(),
    };
    let (reader, writer) = stream.into_split();
    let reason = tokio::select! {
        reason = connection.read(reader, rest) => reason,
        reason = connection.write(writer) => reason,
    };
    tracing::debug!(
        address = connection.address,
        reason,
        "connection of another worker ended"
    );
    connection.break_off(&reason);
}

/// The channels that one other worker reads.
struct Connection {
    address: String,
    registry: Arc<Registry>,
    ready: Arc<ReadyList>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: HashMap<u32, (ChannelId, Arc<Queue>)>,
    /// Answers that come from no queue.
    outbox: Vec<Frame>,
}

impl Connection {
    async fn read(&self, mut reader: impl AsyncRead + Unpin, mut input: BytesMut) -> String {
        loop {
            loop {
                match decode(&mut input, MAX_FRAME) {
                    Ok(Some(frame)) => {
                        if let Err(reason) = self.handle(frame) {
                            return reason;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error.to_string(),
                }
            }
            match reader.read_buf(&mut input).await {
                Ok(0) => return "its worker closed the connection".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }

    fn handle(&self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Open {
                number,
                channel,
                consumer,
            } => {
                let peer = Peer {
                    execution: consumer,
                    address: self.address.clone(),
                };
                let mut state = lock(&self.state);
                if state.channels.len() >= MAX_CHANNELS {
                    return Err(format!("it opened more than {MAX_CHANNELS} channels"));
                }
                let Entry::Vacant(entry) = state.channels.entry(number) else {
                    return Err(format!("it opened channel {number} twice"));
                };
                match self.registry.open(channel, peer, &self.ready, number) {
                    Ok(queue) => {
                        entry.insert((channel, queue));
                    }
                    Err(reason) => {
                        state.outbox.push(Frame::Failed { number, reason });
                        drop(state);
                        self.ready.wake();
                    }
                }
                Ok(())
            }
            Frame::Credit { number, credits } => {
                let queue = lock(&self.state)
                    .channels
                    .get(&number)
                    .map(|(_, queue)| Arc::clone(queue));
                if let Some(queue) = queue {
                    queue.grant(credits);
                }
                Ok(())
            }
            Frame::Close { number } => {
                let closed = lock(&self.state).channels.remove(&number);
                if let Some((channel, queue)) = closed {
                    self.registry
                        .close(channel, &queue, "the task ended or was stopped");
                }
                Ok(())
            }
            Frame::Hello { .. }
            | Frame::Welcome { .. }
            | Frame::Proof(_)
            | Frame::Data { .. }
            | Frame::End { .. }
            | Frame::Failed { .. } => Err("it sent what only a producer says".to_owned()),
        }
    }

    async fn write(&self, mut writer: impl AsyncWrite + Unpin) -> String {
        let mut out = Vec::new();
        loop {
            out.clear();
            out.shrink_to(KEEP_BYTES);
            self.gather(&mut out);
            if out.is_empty() {
                self.ready.woken().await;
            } else if let Err(error) = writer.write_all(&out).await {
                return error.to_string();
            }
        }
    }

    /// Encodes what is there to send, from each channel in turn.
    fn gather(&self, out: &mut Vec<u8>) {
        for frame in std::mem::take(&mut lock(&self.state).outbox) {
            frame.encode(out);
        }
        while out.len() < WRITE_BYTES
            && let Some(number) = self.ready.pop()
        {
            let Some((channel, queue)) = lock(&self.state)
                .channels
                .get(&number)
                .map(|(id, queue)| (*id, Arc::clone(queue)))
            else {
                continue;
            };
            match queue.take() {
                Taken::Buffer(buffer, more) => {
                    if more {
                        self.ready.push_back_quietly(number);
                    }
                    let Buffer { records, bytes, .. } = buffer;
                    Frame::Data {
                        number,
                        records,
                        bytes,
                    }
                    .encode(out);
                }
                Taken::Empty => {}
                Taken::End => {
                    lock(&self.state).channels.remove(&number);
                    self.registry.release(channel, &queue);
                    Frame::End { number }.encode(out);
                }
                Taken::Lost(reason) => {
                    lock(&self.state).channels.remove(&number);
                    Frame::Failed { number, reason }.encode(out);
                }
            }
        }
    }

    fn break_off(&self, reason: &str) {
        let channels = std::mem::take(&mut lock(&self.state).channels);
        for (channel, queue) in channels.into_values() {
            self.registry.close(channel, &queue, reason);
        }
    }
}
