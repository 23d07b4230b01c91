//! A stream of records, and what can be done with it.

use std::cell::RefCell;
use std::fmt::{Debug, Display, Write as _};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use spindle_common::time::EventTime;
use spindle_dataflow::collector::{Collector, OutputTag};
use spindle_dataflow::exchange::{Custom, Partitioner};
use spindle_dataflow::key::{ByRef, ByValue};
use spindle_dataflow::operator::{
    AssignTimestamps, Filter, FlatMap, Map, OperatorContext, WatermarkStrategy, Windows,
};
use spindle_dataflow::record::{Key, Record};

use crate::builtin::{CollectSink, PrintSink};
use crate::connector::SinkFactory;
use crate::context::IoContext;
use crate::data_stream_sink::DataStreamSink;
use crate::graph::{
    Chaining, Exchange, Graph, Input, Logic, Node, NodeId, NodeOutput, TypeOf, Upstream,
};
use crate::joined::JoinedStreams;
use crate::keyed::KeyedStream;
use crate::windowed::WindowedStream;

/// A stream of records of one type: an output of one operator, or the union of several. It may be read several times. Flink: `DataStream`.
pub struct DataStream<T> {
    graph: Rc<RefCell<Graph>>,
    from: Vec<Upstream>,
    records: PhantomData<fn() -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self {
            graph: Rc::clone(&self.graph),
            from: self.from.clone(),
            records: PhantomData,
        }
    }
}

impl<T: Record> DataStream<T> {
    /// The main output of an operator.
    pub(crate) fn new(graph: Rc<RefCell<Graph>>, node: NodeId) -> Self {
        Self {
            graph,
            from: vec![Upstream {
                node,
                output: 0,
                exchange: Exchange::Forward,
            }],
            records: PhantomData,
        }
    }

    /// What an operator that reads this stream through one of its inputs reads.
    pub(crate) fn inputs(&self, port: usize) -> impl Iterator<Item = Input> {
        self.from.iter().map(move |from| Input {
            from: from.clone(),
            port,
        })
    }

    /// Access to the outside.
    pub(crate) fn io(&self) -> Arc<IoContext> {
        Arc::clone(&self.graph.borrow().io)
    }

    pub(crate) fn add_operator<U: Record>(
        &self,
        name: &str,
        inputs: Vec<Input>,
        logic: Logic,
    ) -> DataStream<U> {
        let output = Arc::new(TypeOf::<U>((), PhantomData));
        let node = Node::new(name, inputs, logic, Some(output));
        let node = self.graph.borrow_mut().add(node);
        DataStream::new(Rc::clone(&self.graph), node)
    }

    /// Adds an operator that reads this stream.
    pub(crate) fn read_by<U: Record>(
        &self,
        name: &str,
        make: impl Fn(&OperatorContext, Box<dyn Collector<U>>) -> Box<dyn Collector<T>>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<U> {
        self.add_operator(name, self.inputs(0).collect(), Logic::transform(make))
    }

    /// Adds an operator that reads this stream and another.
    pub(crate) fn read_with<B: Record, U: Record>(
        &self,
        other: &DataStream<B>,
        name: &str,
        make: impl Fn(
            &OperatorContext,
            Box<dyn Collector<U>>,
        ) -> (Box<dyn Collector<T>>, Box<dyn Collector<B>>)
        + Send
        + Sync
        + 'static,
    ) -> DataStream<U> {
        let inputs = self.inputs(0).chain(other.inputs(1)).collect();
        self.add_operator(name, inputs, Logic::two_inputs(make))
    }

    /// The same stream, whose records get to their reader in another way.
    pub(crate) fn over(&self, exchange: &Exchange) -> Self {
        let mut stream = self.clone();
        for from in &mut stream.from {
            from.exchange = exchange.clone();
        }
        stream
    }

    /// The records of this stream and of others, in no order among each other.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let low = harness.env().from_collection([1_u64, 2]);
    /// let high = harness.env().from_collection([10_u64, 20]);
    /// low.union(&[&high]).map(|n| n + 1).collect("all");
    /// let mut all: Vec<u64> = harness.run().unwrap().collected("all");
    /// all.sort_unstable();
    /// assert_eq!(all, [2, 3, 11, 21]);
    /// ```
    #[must_use]
    pub fn union(&self, others: &[&Self]) -> Self {
        let mut stream = self.clone();
        for other in others {
            stream.from.extend(other.from.iter().cloned());
        }
        stream
    }

    /// What the operator that made this stream put into a side output. Flink: `getSideOutput`.
    ///
    /// # Panics
    /// If this is a union of several streams, or the tag is read as another type elsewhere.
    pub fn side_output<S: Record>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let node = self.operator();
        let output = {
            let outputs = &mut self.graph.borrow_mut().nodes[node].outputs;
            let known = (1..)
                .zip(outputs.iter().skip(1))
                .find(|(_, output)| *output.name == *tag.name())
                .map(|(index, _)| index);
            known.unwrap_or_else(|| {
                outputs.push(NodeOutput {
                    name: Arc::from(tag.name()),
                    records: Arc::new(TypeOf::<S>((), PhantomData)),
                });
                outputs.len() - 1
            })
        };
        DataStream {
            graph: Rc::clone(&self.graph),
            from: vec![Upstream {
                node,
                output,
                exchange: Exchange::Forward,
            }],
            records: PhantomData,
        }
    }

    /// The operator whose output this is.
    fn operator(&self) -> NodeId {
        let [from] = &self.from[..] else {
            panic!(
                "a union of streams is no operator: set this on each of the streams, or on what reads them"
            );
        };
        from.node
    }

    pub(crate) fn set(self, set: impl FnOnce(&mut Node)) -> Self {
        let node = self.operator();
        set(&mut self.graph.borrow_mut().nodes[node]);
        self
    }

    /// Makes one record of each.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().generate(4, |n| n).map(|n| n * n).collect("squares");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("squares"), [0, 1, 4, 9]);
    /// ```
    pub fn map<U: Record>(
        &self,
        function: impl Fn(T) -> U + Send + Sync + 'static,
    ) -> DataStream<U> {
        let function = Arc::new(function);
        self.read_by("Map", move |context, next| {
            Box::new(Map::new(
                Arc::clone(&context.name),
                Arc::clone(&function),
                next,
            ))
        })
    }

    /// Keeps the records that satisfy a predicate.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().generate(6, |n| n).filter(|n| n % 2 == 1).collect("odd");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("odd"), [1, 3, 5]);
    /// ```
    pub fn filter(&self, predicate: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        let predicate = Arc::new(predicate);
        self.read_by("Filter", move |context, next| {
            Box::new(Filter::new(
                Arc::clone(&context.name),
                Arc::clone(&predicate),
                next,
            ))
        })
    }

    /// Makes any number of records of each.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let lines = harness.env().from_collection(["to be".to_owned(), String::new()]);
    /// lines
    ///     .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    ///     .collect("words");
    /// assert_eq!(harness.run().unwrap().collected::<String>("words"), ["to", "be"]);
    /// ```
    pub fn flat_map<U: Record, I: IntoIterator<Item = U>>(
        &self,
        function: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> DataStream<U> {
        let function = Arc::new(function);
        self.read_by("FlatMap", move |context, next| {
            Box::new(FlatMap::new(
                Arc::clone(&context.name),
                Arc::clone(&function),
                next,
            ))
        })
    }

    /// Gives each record its event time, and the stream its watermarks.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// use std::time::Duration;
    /// use spindle_stream::{EventTime, Tumbling, WatermarkStrategy};
    ///
    /// let late_by_a_second = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1));
    /// harness
    ///     .env()
    ///     .from_collection([2000_i64, 1500, 3000])
    ///     .assign_timestamps(late_by_a_second, |ms| EventTime::from_millis(*ms))
    ///     .key_by(|_| ())
    ///     .window(Tumbling::of(Duration::from_secs(1)))
    ///     .reduce(i64::max)
    ///     .collect("latest");
    /// assert_eq!(harness.run().unwrap().collected::<i64>("latest"), [1500, 2000, 3000]);
    /// ```
    pub fn assign_timestamps(
        &self,
        strategy: WatermarkStrategy<T>,
        timestamp_of: impl Fn(&T) -> EventTime + Send + Sync + 'static,
    ) -> Self {
        let timestamp_of = Arc::new(timestamp_of);
        self.read_by("Timestamps/Watermarks", move |context, next| {
            Box::new(AssignTimestamps::new(
                context,
                &strategy,
                Arc::clone(&timestamp_of),
                next,
            ))
        })
    }

    /// Groups records by a key, which the function makes of each: what follows sees all records of a key in one subtask.
    pub fn key_by<K: Key>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> KeyedStream<K, T> {
        KeyedStream::new(self.clone(), Arc::new(ByValue(key)))
    }

    /// Groups records by a key that is a part of each. No key is made for a record: for texts and other keys that own memory.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection(["a", "b", "a"].map(str::to_owned))
    ///     .key_by_ref(|word| word)
    ///     .scan(|| 0_u64, |count, word| { *count += 1; (word, *count) })
    ///     .collect("counts");
    /// let counts: Vec<(String, u64)> = harness.run().unwrap().collected("counts");
    /// assert_eq!(counts, [("a", 1), ("b", 1), ("a", 2)].map(|(word, n)| (word.to_owned(), n)));
    /// ```
    pub fn key_by_ref<K: Key>(
        &self,
        key: impl Fn(&T) -> &K + Send + Sync + 'static,
    ) -> KeyedStream<K, T> {
        KeyedStream::new(self.clone(), Arc::new(ByRef(key)))
    }

    /// Divides all records into windows, whatever their key, in one subtask. The key that window functions are told is `()`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::{Count, EventTime, Tumbling, WatermarkStrategy};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// harness
    ///     .env()
    ///     .generate(100, |n| n as i64)
    ///     .assign_timestamps(WatermarkStrategy::monotonous(), |ms| EventTime::from_millis(*ms))
    ///     .window_all(Tumbling::of(Duration::from_millis(50)))
    ///     .aggregate_with(Count, |(), window, count| (window.start.as_millis(), count))
    ///     .collect("counts");
    /// assert_eq!(harness.run().unwrap().collected::<(i64, u64)>("counts"), [(0, 50), (50, 50)]);
    /// ```
    pub fn window_all(&self, windows: impl Into<Windows<T>>) -> WindowedStream<(), T> {
        WindowedStream::all(&self.key_by(|_| ()), windows.into())
    }

    /// Pairs the records of this stream with those of another, by key and window: see [`crate::WindowedJoin`]. Flink: `join`, `coGroup`.
    pub fn join<B: Record>(&self, other: &DataStream<B>) -> JoinedStreams<T, B> {
        JoinedStreams {
            first: self.clone(),
            second: other.clone(),
        }
    }

    /// Has what follows get the records in turn, whichever subtask they come from.
    #[must_use]
    pub fn rebalance(&self) -> Self {
        self.over(&Exchange::Rebalance)
    }

    /// Has what follows get the records in turn, each subtask from its share of the subtasks here: fewer connections than [`Self::rebalance`] makes.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let numbers = harness.env().generate(8, |n| n).set_parallelism(2);
    /// numbers.rescale().map(|n| n).set_parallelism(4).collect("all").set_parallelism(4);
    /// let mut all: Vec<u64> = harness.run().unwrap().collected("all");
    /// all.sort_unstable();
    /// assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
    /// ```
    #[must_use]
    pub fn rescale(&self) -> Self {
        self.over(&Exchange::Rescale)
    }

    /// Has what follows get each record in a subtask that is chosen by chance.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// harness.env().generate(100, |n| n).shuffle().map(|n| n).collect("all");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("all").len(), 100);
    /// ```
    #[must_use]
    pub fn shuffle(&self) -> Self {
        self.over(&Exchange::Shuffle)
    }

    /// Has each subtask of what follows get all records.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().generate(3, |n| n).broadcast().map(|n| n).set_parallelism(2).collect("copies");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("copies").len(), 6);
    /// ```
    #[must_use]
    pub fn broadcast(&self) -> Self {
        self.over(&Exchange::Broadcast)
    }

    /// Has the first subtask of what follows get all records.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// let numbers = harness.env().generate(10, |n| n);
    /// numbers.global().key_by(|_| ()).reduce(|a, b| a + b).collect("sums");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("sums").len(), 10);
    /// ```
    #[must_use]
    pub fn global(&self) -> Self {
        self.over(&Exchange::Global)
    }

    /// Has the function choose, given a record and the number of subtasks of what follows, which of them gets it, from 0.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(2);
    /// let numbers = harness.env().generate(10, |n| n);
    /// numbers.partition_custom(|n, subtasks| *n as usize % subtasks).map(|n| n).collect("all");
    /// let all: Vec<u64> = harness.run().unwrap().collected("all");
    /// assert!(all[..5].iter().all(|n| n % 2 == 0) && all[5..].iter().all(|n| n % 2 == 1));
    /// ```
    #[must_use]
    pub fn partition_custom(
        &self,
        choose: impl Fn(&T, usize) -> usize + Send + Sync + 'static,
    ) -> Self {
        let choose = Arc::new(choose);
        self.over(&Exchange::Custom(Arc::new(move || {
            let partitioner: Box<dyn Partitioner<T>> = Box::new(Custom(Arc::clone(&choose)));
            Box::new(partitioner)
        })))
    }

    /// Writes the stream to a sink.
    pub fn sink_to(&self, sink: impl SinkFactory<T>) -> DataStreamSink {
        self.sink_named("Sink", sink)
    }

    fn sink_named(&self, name: &str, sink: impl SinkFactory<T>) -> DataStreamSink {
        let logic = Logic::Sink(Arc::new(TypeOf::<T, _>(sink, PhantomData)));
        let node = Node::new(name, self.inputs(0).collect(), logic, None);
        let node = self.graph.borrow_mut().add(node);
        DataStreamSink::new(Rc::clone(&self.graph), node)
    }

    /// Writes each record as a line to the standard output of the process that its subtask runs in, behind the number of the
    /// subtask (`2> `) if there are several.
    pub fn print(&self) -> DataStreamSink
    where
        T: Display,
    {
        self.print_with(|record, line| write!(line, "{record}"))
    }

    /// Like [`Self::print`], for what has only [`Debug`].
    pub fn print_debug(&self) -> DataStreamSink
    where
        T: Debug,
    {
        self.print_with(|record, line| write!(line, "{record:?}"))
    }

    fn print_with(&self, format: fn(&T, &mut String) -> std::fmt::Result) -> DataStreamSink {
        self.sink_named("Print", PrintSink::new(format))
    }

    /// Gathers the records for whoever submitted the job, under a name. For small results: see [`crate::MAX_COLLECTED_BYTES`].
    pub fn collect(&self, name: &str) -> DataStreamSink {
        self.sink_named(&format!("Collect {name}"), CollectSink::new(name))
    }

    /// Names the operator, for people.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.set(|node| name.clone_into(&mut node.name))
    }

    /// Gives the operator its identity, which has to be unique in the job and stay when the program changes.
    #[must_use]
    pub fn uid(self, uid: &str) -> Self {
        self.set(|node| node.uid = Some(uid.to_owned()))
    }

    /// Sets the number of subtasks of the operator.
    #[must_use]
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.set(|node| node.parallelism = Some(parallelism))
    }

    /// Sets the number of key groups of the operator, the most subtasks that it can ever have.
    #[must_use]
    pub fn set_max_parallelism(self, max_parallelism: u32) -> Self {
        self.set(|node| node.max_parallelism = Some(max_parallelism))
    }

    /// Has the operator run in threads of its own, apart from what it reads and from what reads it.
    #[must_use]
    pub fn disable_chaining(self) -> Self {
        self.set(|node| node.chaining = Chaining::Never)
    }

    /// Has the operator run in another thread than what it reads.
    #[must_use]
    pub fn start_new_chain(self) -> Self {
        self.set(|node| node.chaining = Chaining::Head)
    }

    /// Sets the longest that a record of the operator waits in a buffer that is not full; of chained operators the shortest counts.
    /// Zero has each batch of records go at once. Without it, `execution.buffer-timeout` counts.
    #[must_use]
    pub fn set_buffer_timeout(self, timeout: Duration) -> Self {
        self.set(|node| node.buffer_timeout = Some(timeout))
    }

    /// Puts the operator, and those after it that say nothing else, into a slot sharing group: subtasks of one group share slots,
    /// those of different groups never do. Without it, an operator is in the group of what it reads, a source in `default`.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// use spindle_stream::{ByteSize, SlotProfile};
    ///
    /// let env = harness.env();
    /// env.register_slot_sharing_group("heavy", SlotProfile::new(1.0, ByteSize::from_mib(512)));
    /// env.generate(3, |n| n).map(|n| n + 1).slot_sharing_group("heavy").collect("more");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("more"), [1, 2, 3]);
    /// ```
    #[must_use]
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.set(|node| node.slot_sharing_group = Some(group.to_owned()))
    }
}
