//! The end of a stream.

use std::cell::RefCell;
use std::rc::Rc;

use crate::graph::{Chaining, Graph, Node, NodeId};

/// A sink, to be named. Flink: `DataStreamSink`.
pub struct DataStreamSink {
    graph: Rc<RefCell<Graph>>,
    node: NodeId,
}

impl DataStreamSink {
    pub(crate) const fn new(graph: Rc<RefCell<Graph>>, node: NodeId) -> Self {
        Self { graph, node }
    }

    fn set(self, set: impl FnOnce(&mut Node)) -> Self {
        set(&mut self.graph.borrow_mut().nodes[self.node]);
        self
    }

    /// Names the sink, for people.
    pub fn name(self, name: &str) -> Self {
        self.set(|node| name.clone_into(&mut node.name))
    }

    /// Gives the sink its identity, which has to be unique in the job and stay when the program changes.
    pub fn uid(self, uid: &str) -> Self {
        self.set(|node| node.uid = Some(uid.to_owned()))
    }

    /// Puts the sink into a slot sharing group: see [`DataStream::slot_sharing_group`].
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.set(|node| node.slot_sharing_group = Some(group.to_owned()))
    }

    /// Sets the number of subtasks of the sink.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.set(|node| node.parallelism = Some(parallelism))
    }

    /// Sets the number of key groups of the sink, the most subtasks that it can ever have.
    pub fn set_max_parallelism(self, max_parallelism: u32) -> Self {
        self.set(|node| node.max_parallelism = Some(max_parallelism))
    }

    /// Has the sink run in threads of its own, apart from what it reads.
    pub fn disable_chaining(self) -> Self {
        self.set(|node| node.chaining = Chaining::Never)
    }
}
