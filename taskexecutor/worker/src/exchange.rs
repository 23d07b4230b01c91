//! Moves buffers from the tasks that produce them to the tasks that consume them, in this process or between two workers.
//!
//! A channel is known by its producing attempt, the edge and the consumer's subtask. Each worker keeps the queues of the channels
//! that its tasks produce ([`registry`]); a consumer in the same worker takes from them directly, one elsewhere through a connection
//! that its worker opens to the producer's ([`client`], [`server`]): one per pair of workers and direction.

pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod partition;
pub(crate) mod queue;
pub(crate) mod ready;
pub(crate) mod registry;
pub(crate) mod server;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spindle_common::gateway::{InputGateDescriptor, ResultPartitionDescriptor};
use spindle_common::id::ExecutionAttemptId;
use spindle_dataflow::task::{TaskError, TaskMetrics};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::client::ClientConnection;
use self::gate::{Channel, Gate};
use self::partition::Partition;
use self::queue::{Peer, Queue, lock};
use self::ready::ReadyList;
use self::registry::Registry;
use crate::net::Identity;
use crate::signal::Signal;
use crate::slot::pause;

/// One channel of the whole job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChannelId {
    /// Who produces.
    pub(crate) producer: ExecutionAttemptId,
    /// Index of the edge in the job graph.
    pub(crate) edge: u32,
    /// Subtask index of the consumer.
    pub(crate) consumer: u32,
}

/// What both ends of all channels of a worker share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Buffers under way in a channel.
    pub(crate) credits: u32,
    /// How long who lost a peer waits to be cancelled.
    pub(crate) grace: Duration,
    /// The start of the clock.
    pub(crate) epoch: Instant,
}

/// The exchange of one worker. Dropping it closes all its connections.
#[derive(Debug)]
pub(crate) struct Exchange {
    limits: Limits,
    registry: Arc<Registry>,
    identity: Arc<Identity>,
    runtime: Handle,
    clients: Mutex<HashMap<String, Arc<ClientConnection>>>,
    connections: Mutex<JoinSet<()>>,
}

impl Exchange {
    pub(crate) fn start(
        listener: TcpListener,
        identity: Identity,
        limits: Limits,
        runtime: &Handle,
    ) -> Self {
        let registry = Arc::new(Registry::new(limits.credits));
        let identity = Arc::new(identity);
        let mut connections = JoinSet::new();
        connections.spawn_on(
            server::accept(listener, Arc::clone(&registry), Arc::clone(&identity)),
            runtime,
        );
        Self {
            limits,
            registry,
            identity,
            runtime: runtime.clone(),
            clients: Mutex::default(),
            connections: Mutex::new(connections),
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The consumer's end of all edges that feed it; none if there are none. A channel that cannot be had is lost from its beginning:
    /// the gate says so when it is read.
    pub(crate) fn gate(
        &self,
        consumer: ExecutionAttemptId,
        inputs: &[InputGateDescriptor],
        signal: &Arc<Signal>,
        metrics: &Arc<TaskMetrics>,
    ) -> Option<Gate> {
        if inputs.is_empty() {
            return None;
        }
        let ready = Arc::new(ReadyList::of_task(Arc::clone(signal)));
        let me = Peer {
            execution: consumer,
            address: self.identity.address.clone(),
        };
        let channels = inputs
            .iter()
            .flat_map(|input| input.channels.iter().map(|channel| (input.edge, channel)));
        let channels = (0_u32..).zip(channels).map(|(key, (edge, channel))| {
            let id = ChannelId {
                producer: channel.producer,
                edge,
                consumer: consumer.subtask,
            };
            let peer = Peer {
                execution: channel.producer,
                address: channel.data_address.clone(),
            };
            if channel.data_address == self.identity.address {
                match self.registry.open(id, me.clone(), &ready, key) {
                    Ok(queue) => Channel::local(queue, peer, Arc::clone(&self.registry), id),
                    Err(reason) => Channel::local(
                        self.lost(&me, &ready, key, &reason),
                        peer,
                        Arc::clone(&self.registry),
                        id,
                    ),
                }
            } else {
                let queue = Arc::new(Queue::new(self.limits.credits));
                queue
                    .attach_consumer(me.clone(), Arc::clone(&ready), key)
                    .expect("a new queue has no consumer");
                let (connection, number) =
                    self.open_remote(&channel.data_address, id, consumer, &queue);
                Channel::remote(queue, peer, connection, number, self.limits.credits)
            }
        });
        let channels = channels.collect();
        Some(Gate::new(
            channels,
            ready,
            Arc::clone(signal),
            Arc::clone(metrics),
            self.limits,
        ))
    }

    /// The producer's end of all its edges.
    pub(crate) fn partitions(
        &self,
        producer: ExecutionAttemptId,
        outputs: &[ResultPartitionDescriptor],
        signal: &Arc<Signal>,
        metrics: &Arc<TaskMetrics>,
    ) -> Vec<Partition> {
        let edges = self.registry.register(producer, outputs, signal);
        edges
            .into_iter()
            .map(|queues| {
                let (signal, metrics) = (Arc::clone(signal), Arc::clone(metrics));
                Partition::new(queues, signal, metrics, self.limits.grace)
            })
            .collect()
    }

    fn lost(&self, me: &Peer, ready: &Arc<ReadyList>, key: u32, reason: &str) -> Arc<Queue> {
        let queue = Arc::new(Queue::new(self.limits.credits));
        queue.lose_producer(reason);
        queue
            .attach_consumer(me.clone(), Arc::clone(ready), key)
            .expect("a new queue has no consumer");
        queue
    }

    fn open_remote(
        &self,
        address: &str,
        channel: ChannelId,
        consumer: ExecutionAttemptId,
        queue: &Arc<Queue>,
    ) -> (Arc<ClientConnection>, u32) {
        let mut clients = lock(&self.clients);
        if let Some(connection) = clients.get(address)
            && let Some(number) = connection.open(channel, consumer, queue)
        {
            return (Arc::clone(connection), number);
        }
        let connection = Arc::new(ClientConnection::new(address.to_owned()));
        let number = connection
            .open(channel, consumer, queue)
            .expect("a new connection is not broken");
        clients.insert(address.to_owned(), Arc::clone(&connection));
        let run = client::run(Arc::clone(&connection), Arc::clone(&self.identity));
        let mut connections = lock(&self.connections);
        while connections.try_join_next().is_some() {}
        connections.spawn_on(run, &self.runtime);
        (connection, number)
    }
}

/// What a task that lost a peer fails with, after it gave its cancellation the time to come.
fn after_loss(signal: &Signal, grace: Duration, peer: &Peer, reason: String) -> TaskError {
    let until = Instant::now() + grace;
    loop {
        if signal.is_cancelled() {
            return TaskError::Cancelled;
        }
        if Instant::now() >= until {
            return TaskError::PeerLost {
                peer: peer.execution,
                address: peer.address.clone(),
                reason,
            };
        }
        pause(signal, Some(until));
    }
}
