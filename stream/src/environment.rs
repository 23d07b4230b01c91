//! Where a program begins: sources, and what holds for the whole job.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use spindle_common::resource::SlotProfile;
use spindle_dataflow::record::Record;
use spindle_dataflow::task::Dataflow;

use crate::builtin::{CollectionSource, GeneratorSource};
use crate::connector::Source;
use crate::connectors::socket::SocketSource;
use crate::context::IoContext;
use crate::data_stream::DataStream;
use crate::graph::{BuildError, Graph, Logic, Node, Planning, TypeOf};

/// The job that a program describes. Flink: `StreamExecutionEnvironment`.
pub struct StreamEnvironment {
    pub(crate) graph: Rc<RefCell<Graph>>,
}

impl StreamEnvironment {
    pub(crate) fn new(parallelism: u32, io: Arc<IoContext>) -> Self {
        Self {
            graph: Rc::new(RefCell::new(Graph::new(parallelism, io))),
        }
    }

    /// Sets the parallelism of all operators that set none of their own, over `parallelism.default`.
    pub fn set_parallelism(&mut self, parallelism: u32) {
        self.graph.borrow_mut().parallelism = parallelism;
    }

    /// Number of subtasks of each operator that sets none of its own.
    pub fn parallelism(&self) -> u32 {
        self.graph.borrow().parallelism
    }

    /// Sets the number of key groups, the most subtasks that a keyed operator can ever have.
    pub fn set_max_parallelism(&mut self, max_parallelism: u32) {
        self.graph.borrow_mut().max_parallelism = max_parallelism;
    }

    /// Has each operator run in threads of its own. Over `pipeline.operator-chaining.enabled`.
    pub fn disable_operator_chaining(&mut self) {
        self.graph.borrow_mut().chaining = false;
    }

    /// Says what each slot of a slot sharing group has: memory is the limit of the worker for its share, cores are counted. Groups
    /// of which nothing is said get equal parts of TaskManagers. Embedded, nothing is limited. Flink: `registerSlotSharingGroup`.
    pub fn register_slot_sharing_group(&self, group: &str, profile: SlotProfile) {
        let profiles = &mut self.graph.borrow_mut().slot_profiles;
        profiles.insert(group.to_owned(), profile);
    }

    /// A stream of what a source reads.
    pub fn source<T: Record>(&self, name: &str, source: impl Source<T>) -> DataStream<T> {
        let logic = Logic::Source(Arc::new(TypeOf::<T, _>(source, PhantomData)));
        let output = Arc::new(TypeOf::<T>((), PhantomData));
        let node = Node::new(name, Vec::new(), logic, Some(output));
        let node = self.graph.borrow_mut().add(node);
        DataStream::new(Rc::clone(&self.graph), node)
    }

    /// A stream of these records, read by one subtask unless the stream's parallelism is set.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// harness.env().from_collection([1_u64, 2, 3]).map(|n| n * 2).collect("doubled");
    /// let mut doubled: Vec<u64> = harness.run().unwrap().collected("doubled");
    /// doubled.sort_unstable();
    /// assert_eq!(doubled, [2, 4, 6]);
    /// ```
    pub fn from_collection<T: Record>(
        &self,
        records: impl IntoIterator<Item = T>,
    ) -> DataStream<T> {
        let records = records.into_iter().collect();
        self.source("Collection", CollectionSource::new(records))
            .set_parallelism(1)
    }

    /// A stream of `count` records, each made from its number; each subtask makes a contiguous range of them.
    pub fn generate<T: Record>(
        &self,
        count: u64,
        make: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> DataStream<T> {
        self.source("Generator", GeneratorSource::new(count, make))
    }

    /// A stream of the lines of text that a server sends, read by one subtask; see [`SocketSource`] for retries and more. Flink:
    /// `socketTextStream`.
    pub fn socket_text_stream(&self, host: &str, port: u16) -> DataStream<String> {
        self.source("Socket Stream", SocketSource::new(host, port))
            .set_parallelism(1)
    }

    pub(crate) fn build(&self, name: &str, planning: Planning) -> Result<Dataflow, BuildError> {
        self.graph.borrow().build(name, planning)
    }
}
