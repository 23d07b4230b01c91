//! A stream of records, and what can be done with it.

use std::cell::RefCell;
use std::fmt::{Debug, Display, Write as _};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use spindle_common::time::EventTime;
use spindle_dataflow::collector::Collector;
use spindle_dataflow::operator::{
    AssignTimestamps, Filter, FlatMap, Map, OperatorContext, WatermarkStrategy,
};
use spindle_dataflow::record::{Key, Record};

use crate::builtin::{CollectSink, PrintSink};
use crate::connector::SinkFactory;
use crate::graph::{Exchange, Graph, Logic, Node, NodeId, TypeOf};
use crate::keyed::KeyedStream;

/// A stream of records of one type, the output of one operator. It may be read several times. Flink: `DataStream`.
pub struct DataStream<T> {
    graph: Rc<RefCell<Graph>>,
    node: NodeId,
    exchange: Exchange,
    records: PhantomData<fn() -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self {
            graph: Rc::clone(&self.graph),
            node: self.node,
            exchange: self.exchange.clone(),
            records: PhantomData,
        }
    }
}

impl<T: Record> DataStream<T> {
    pub(crate) const fn new(graph: Rc<RefCell<Graph>>, node: NodeId) -> Self {
        Self {
            graph,
            node,
            exchange: Exchange::Forward,
            records: PhantomData,
        }
    }

    /// Adds an operator that reads this stream over an exchange.
    pub(crate) fn read_by<U: Record>(
        &self,
        name: &str,
        exchange: Exchange,
        make: impl Fn(&OperatorContext, Box<dyn Collector<U>>) -> Box<dyn Collector<T>>
        + Send
        + Sync
        + 'static,
    ) -> DataStream<U> {
        let node = self.graph.borrow_mut().add(Node {
            name: name.to_owned(),
            uid: None,
            parallelism: None,
            input: Some((self.node, exchange)),
            logic: Logic::transform(make),
            output: Some(Arc::new(TypeOf::<U>((), PhantomData))),
        });
        DataStream::new(Rc::clone(&self.graph), node)
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
        self.read_by("Map", self.exchange.clone(), move |context, next| {
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
        self.read_by("Filter", self.exchange.clone(), move |context, next| {
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
        self.read_by("FlatMap", self.exchange.clone(), move |context, next| {
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
        strategy: WatermarkStrategy,
        timestamp_of: impl Fn(&T) -> EventTime + Send + Sync + 'static,
    ) -> Self {
        let timestamp_of = Arc::new(timestamp_of);
        self.read_by(
            "Timestamps/Watermarks",
            self.exchange.clone(),
            move |context, next| {
                Box::new(AssignTimestamps::new(
                    Arc::clone(&context.name),
                    strategy,
                    Arc::clone(&timestamp_of),
                    next,
                ))
            },
        )
    }

    /// Groups records by a key: what follows sees all records of a key in one subtask.
    pub fn key_by<K: Key>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> KeyedStream<K, T> {
        KeyedStream::new(self.clone(), Arc::new(key))
    }

    /// Has what follows get the records in turn, whichever subtask they come from.
    pub fn rebalance(&self) -> Self {
        Self {
            exchange: Exchange::Rebalance,
            ..self.clone()
        }
    }

    /// Has each subtask of what follows get all records.
    ///
    /// ```
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness.env().generate(3, |n| n).broadcast().map(|n| n).set_parallelism(2).collect("copies");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("copies").len(), 6);
    /// ```
    pub fn broadcast(&self) -> Self {
        Self {
            exchange: Exchange::Broadcast,
            ..self.clone()
        }
    }

    /// Writes the stream to a sink.
    pub fn sink_to(&self, sink: impl SinkFactory<T>) -> DataStreamSink {
        self.sink_named("Sink", sink)
    }

    fn sink_named(&self, name: &str, sink: impl SinkFactory<T>) -> DataStreamSink {
        let node = self.graph.borrow_mut().add(Node {
            name: name.to_owned(),
            uid: None,
            parallelism: None,
            input: Some((self.node, self.exchange.clone())),
            logic: Logic::Sink(Arc::new(TypeOf::<T, _>(sink, PhantomData))),
            output: None,
        });
        DataStreamSink {
            graph: Rc::clone(&self.graph),
            node,
        }
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
        name.clone_into(&mut self.graph.borrow_mut().nodes[self.node].name);
        self
    }

    /// Gives the operator its identity, which has to be unique in the job and stay when the program changes.
    #[must_use]
    pub fn uid(self, uid: &str) -> Self {
        self.graph.borrow_mut().nodes[self.node].uid = Some(uid.to_owned());
        self
    }

    /// Sets the number of subtasks of the operator.
    #[must_use]
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.graph.borrow_mut().nodes[self.node].parallelism = Some(parallelism);
        self
    }
}

/// A sink, to be named. Flink: `DataStreamSink`.
pub struct DataStreamSink {
    graph: Rc<RefCell<Graph>>,
    node: NodeId,
}

impl DataStreamSink {
    /// Names the sink, for people.
    pub fn name(self, name: &str) -> Self {
        name.clone_into(&mut self.graph.borrow_mut().nodes[self.node].name);
        self
    }

    /// Gives the sink its identity, which has to be unique in the job and stay when the program changes.
    pub fn uid(self, uid: &str) -> Self {
        self.graph.borrow_mut().nodes[self.node].uid = Some(uid.to_owned());
        self
    }

    /// Sets the number of subtasks of the sink.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.graph.borrow_mut().nodes[self.node].parallelism = Some(parallelism);
        self
    }
}
