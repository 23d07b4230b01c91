//! The consumer's side of a connection: this worker reads what another worker's tasks produce.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use spindle_common::id::ExecutionAttemptId;
use spindle_dataflow::channel::Buffer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::ChannelId;
use super::frame::{Frame, MAX_FRAME, decode};
use super::queue::{Queue, lock};
use crate::net::{self, Identity};

/// The channels that are read through one connection; usable before the connection is made.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    address: String,
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<u32, Arc<Queue>>,
    last_number: u32,
    outbox: Vec<Frame>,
    broken: bool,
}

impl ClientConnection {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            state: Mutex::default(),
            written: Notify::new(),
        }
    }

    /// Asks for a channel, to be received in `queue`, and numbers it; nothing if the connection is broken.
    pub(crate) fn open(
        &self,
        channel: ChannelId,
        consumer: ExecutionAttemptId,
        queue: &Arc<Queue>,
    ) -> Option<u32> {
        let mut state = lock(&self.state);
        if state.broken {
            return None;
        }
        state.last_number += 1;
        let number = state.last_number;
        state.channels.insert(number, Arc::clone(queue));
        state.outbox.push(Frame::Open {
            number,
            channel,
            consumer,
        });
        drop(state);
        self.written.notify_one();
        Some(number)
    }

    /// This many buffers were taken.
    pub(crate) fn credit(&self, number: u32, credits: u32) {
        let mut state = lock(&self.state);
        if state.channels.contains_key(&number) {
            state.outbox.push(Frame::Credit { number, credits });
            drop(state);
            self.written.notify_one();
        }
    }

    /// No more of this channel is wanted.
    pub(crate) fn close(&self, number: u32) {
        let mut state = lock(&self.state);
        if state.channels.remove(&number).is_some() {
            state.outbox.push(Frame::Close { number });
            drop(state);
            self.written.notify_one();
        }
    }

    fn break_off(&self, reason: &str) {
        let channels = {
            let mut state = lock(&self.state);
            state.broken = true;
            state.outbox.clear();
            std::mem::take(&mut state.channels)
        };
        for queue in channels.into_values() {
            queue.lose_producer(reason);
        }
    }

    /// # Errors
    /// What is wrong with it.
    fn handle(&self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Data {
                number,
                records,
                bytes,
            } => {
                // A channel that was closed here may still be written to there.
                let queue = lock(&self.state).channels.get(&number).cloned();
                queue
                    .map_or(Ok(()), |queue| {
                        queue.receive(Buffer::encoded(bytes, records))
                    })
                    .map_err(|_| "it sent more than its credit".to_owned())
            }
            Frame::End { number } => {
                if let Some(queue) = lock(&self.state).channels.remove(&number) {
                    queue.finish();
                }
                Ok(())
            }
            Frame::Failed { number, reason } => {
                if let Some(queue) = lock(&self.state).channels.remove(&number) {
                    queue.lose_producer(&reason);
                }
                Ok(())
            }
            Frame::Hello { .. }
            | Frame::Welcome { .. }
            | Frame::Proof(_)
            | Frame::Open { .. }
            | Frame::Credit { .. }
            | Frame::Close { .. } => Err("it sent what only a consumer says".to_owned()),
        }
    }
}

/// Connects, then carries frames until the connection breaks; with it all its channels are lost.
pub(crate) async fn run(connection: Arc<ClientConnection>, identity: Arc<Identity>) {
    let reason = match net::connect(&connection.address, &identity).await {
        Ok((stream, rest)) => {
            let (reader, writer) = stream.into_split();
            tokio::select! {
                reason = read(&connection, reader, rest) => reason,
                reason = write(&connection, writer) => reason,
            }
        }
        Err(error) => net::report(&error),
    };
    tracing::debug!(
        address = connection.address,
        reason,
        "connection to another worker ended"
    );
    connection.break_off(&reason);
}

async fn read(
    connection: &ClientConnection,
    mut reader: impl AsyncRead + Unpin,
    mut input: BytesMut,
) -> String {
    loop {
        loop {
            match decode(&mut input, MAX_FRAME) {
                Ok(Some(frame)) => {
                    if let Err(reason) = connection.handle(frame) {
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

async fn write(connection: &ClientConnection, mut writer: impl AsyncWrite + Unpin) -> String {
    let mut out = Vec::new();
    loop {
        out.clear();
        for frame in std::mem::take(&mut lock(&connection.state).outbox) {
            frame.encode(&mut out);
        }
        if out.is_empty() {
            connection.written.notified().await;
        } else if let Err(error) = writer.write_all(&out).await {
            return error.to_string();
        }
    }
}
