//! The channels that a worker's tasks produce.
//!
//! A channel's queue is made by whoever comes first, its producer or its consumer, and kept until all was taken or one of them is
//! gone: so a consumer may open a channel before its producer is deployed, or after it has finished.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use spindle_common::gateway::ResultPartitionDescriptor;
use spindle_common::id::{ExecutionAttemptId, JobVertexId};

use super::ChannelId;
use super::queue::{Peer, Queue, lock};
use super::ready::ReadyList;
use crate::signal::Signal;

#[derive(Debug)]
pub(crate) struct Registry {
    credits: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<ChannelId, Arc<Queue>>,
    /// The last attempt of each subtask that has ended here: what is not in `queues` of it or of those before never will be.
    ended: HashMap<(JobVertexId, u32), u32>,
}

impl Registry {
    pub(crate) fn new(credits: u32) -> Self {
        Self {
            credits,
            state: Mutex::default(),
        }
    }

    /// Lets a consumer read a channel, whether or not its producer is there yet.
    ///
    /// # Errors
    /// Why not: it is not the consumer's own, another reads it, or its producer is gone.
    pub(crate) fn open(
        &self,
        channel: ChannelId,
        consumer: Peer,
        ready: &Arc<ReadyList>,
        key: u32,
    ) -> Result<Arc<Queue>, String> {
        if channel.consumer != consumer.execution.subtask {
            return Err(format!(
                "the channel is subtask {}'s, not {}'s",
                channel.consumer, consumer.execution.subtask
            ));
        }
        let mut state = lock(&self.state);
        let queue = if let Some(queue) = state.queues.get(&channel) {
            Arc::clone(queue)
        } else {
            if state.has_ended(channel.producer) {
                return Err("the task has ended, and what it produced is gone".to_owned());
            }
            let queue = Arc::new(Queue::new(self.credits));
            state.queues.insert(channel, Arc::clone(&queue));
            queue
        };
        queue.attach_consumer(consumer, Arc::clone(ready), key)?;
        Ok(queue)
    }

    /// The queues of a producer that starts, one list per output edge. Earlier attempts of it are over.
    pub(crate) fn register(
        &self,
        producer: ExecutionAttemptId,
        outputs: &[ResultPartitionDescriptor],
        signal: &Arc<Signal>,
    ) -> Vec<Vec<Arc<Queue>>> {
        let mut state = lock(&self.state);
        state.drop_attempts_before(producer);
        let mut queue = |edge, consumer| {
            let queue = state
                .queues
                .entry(ChannelId {
                    producer,
                    edge,
                    consumer,
                })
                .or_insert_with(|| Arc::new(Queue::new(self.credits)));
            queue.attach_producer(signal);
            Arc::clone(queue)
        };
        outputs
            .iter()
            .map(|output| {
                output
                    .consumers
                    .iter()
                    .map(|&consumer| queue(output.edge, consumer))
                    .collect()
            })
            .collect()
    }

    /// The producer has sent all; what is not yet taken stays.
    pub(crate) fn finish(&self, producer: ExecutionAttemptId) {
        lock(&self.state).end(producer, |queue| {
            queue.finish();
            queue.is_over()
        });
    }

    /// The producer is gone before its end, or nobody wants the rest of what it sent.
    pub(crate) fn lose(&self, producer: ExecutionAttemptId, reason: &str) {
        lock(&self.state).end(producer, |queue| {
            queue.lose_producer(reason);
            true
        });
    }

    /// The consumer is gone.
    pub(crate) fn close(&self, channel: ChannelId, queue: &Queue, reason: &str) {
        let mut state = lock(&self.state);
        let produced = queue.lose_consumer(reason);
        if (!produced || queue.is_over()) && state.is(channel, queue) {
            state.queues.remove(&channel);
        }
    }

    /// The consumer has taken all.
    pub(crate) fn release(&self, channel: ChannelId, queue: &Queue) {
        let mut state = lock(&self.state);
        if queue.is_over() && state.is(channel, queue) {
            state.queues.remove(&channel);
        }
    }

    #[cfg(test)]
    pub(crate) fn channels(&self) -> usize {
        lock(&self.state).queues.len()
    }
}

impl State {
    fn has_ended(&self, producer: ExecutionAttemptId) -> bool {
        self.ended
            .get(&(producer.vertex, producer.subtask))
            .is_some_and(|&attempt| attempt >= producer.attempt)
    }

    fn is(&self, channel: ChannelId, queue: &Queue) -> bool {
        self.queues
            .get(&channel)
            .is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), queue))
    }

    fn end(&mut self, producer: ExecutionAttemptId, over: impl Fn(&Queue) -> bool) {
        let last = self
            .ended
            .entry((producer.vertex, producer.subtask))
            .or_insert(producer.attempt);
        *last = producer.attempt.max(*last);
        let first = ChannelId {
            producer,
            edge: 0,
            consumer: 0,
        };
        let last = ChannelId {
            producer,
            edge: u32::MAX,
            consumer: u32::MAX,
        };
        let gone: Vec<ChannelId> = self
            .queues
            .range(first..=last)
            .filter(|(_, queue)| over(queue))
            .map(|(&channel, _)| channel)
            .collect();
        for channel in gone {
            self.queues.remove(&channel);
        }
    }

    fn drop_attempts_before(&mut self, producer: ExecutionAttemptId) {
        self.queues.retain(|channel, queue| {
            let ExecutionAttemptId {
                vertex,
                subtask,
                attempt,
            } = channel.producer;
            let earlier = vertex == producer.vertex
                && subtask == producer.subtask
                && attempt < producer.attempt;
            if earlier {
                queue.lose_producer("a later attempt of the task runs");
            }
            !earlier
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Taken;
    use super::*;

    fn task(subtask: u32, attempt: u32) -> ExecutionAttemptId {
        ExecutionAttemptId {
            vertex: JobVertexId::of_uid("v"),
            subtask,
            attempt,
        }
    }

    fn open(
        registry: &Registry,
        producer: ExecutionAttemptId,
        consumer: ExecutionAttemptId,
    ) -> Result<Arc<Queue>, String> {
        let ready = Arc::new(ReadyList::of_task(Arc::new(Signal::default())));
        let channel = ChannelId {
            producer,
            edge: 0,
            consumer: 0,
        };
        registry.open(
            channel,
            Peer {
                execution: consumer,
                address: "h:1".into(),
            },
            &ready,
            0,
        )
    }

    fn outputs() -> Vec<ResultPartitionDescriptor> {
        vec![ResultPartitionDescriptor {
            edge: 0,
            consumers: vec![0],
        }]
    }

    #[test]
    fn a_channel_is_the_same_whoever_comes_first() {
        let registry = Registry::new(2);
        let opened = open(&registry, task(0, 0), task(0, 0)).unwrap();
        let registered = registry.register(task(0, 0), &outputs(), &Arc::default());
        assert!(Arc::ptr_eq(&opened, &registered[0][0]));
    }

    #[test]
    fn no_other_attempt_or_subtask_reads_a_channel() {
        let registry = Registry::new(2);
        open(&registry, task(0, 0), task(0, 0)).unwrap();
        let second = open(&registry, task(0, 0), task(0, 1)).unwrap_err();
        assert!(second.contains("already"), "{second}");
        let other = open(&registry, task(1, 0), task(1, 0)).unwrap_err();
        assert!(other.contains("subtask 0's"), "{other}");
    }

    #[test]
    fn what_a_finished_producer_left_stays_until_it_is_taken_and_nothing_of_a_lost_one_does() {
        let registry = Registry::new(2);
        registry.register(task(0, 0), &outputs(), &Arc::default());
        registry.finish(task(0, 0));
        let queue = open(&registry, task(0, 0), task(0, 0)).unwrap();
        assert_eq!(queue.take(), Taken::End);
        registry.release(
            ChannelId {
                producer: task(0, 0),
                edge: 0,
                consumer: 0,
            },
            &queue,
        );
        assert_eq!(registry.channels(), 0);
        assert!(
            open(&registry, task(0, 0), task(0, 0))
                .unwrap_err()
                .contains("ended")
        );
        registry.register(task(0, 1), &outputs(), &Arc::default());
        registry.lose(task(0, 1), "cancelled");
        assert_eq!(registry.channels(), 0);
        assert!(open(&registry, task(0, 1), task(0, 1)).is_err());
        open(&registry, task(0, 2), task(0, 2)).unwrap();
    }

    #[test]
    fn a_later_attempt_ends_the_earlier_ones_channels() {
        let registry = Registry::new(2);
        let earlier = registry.register(task(0, 0), &outputs(), &Arc::default());
        registry.register(task(0, 1), &outputs(), &Arc::default());
        assert!(earlier[0][0].is_over());
        assert_eq!(registry.channels(), 1);
    }

    #[test]
    fn a_consumer_that_leaves_before_its_producer_comes_leaves_nothing() {
        let registry = Registry::new(2);
        let queue = open(&registry, task(0, 0), task(0, 0)).unwrap();
        registry.close(
            ChannelId {
                producer: task(0, 0),
                edge: 0,
                consumer: 0,
            },
            &queue,
            "gone",
        );
        assert_eq!(registry.channels(), 0);
    }
}
