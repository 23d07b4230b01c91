//! Operators without their types: the graph holds all kinds side by side, and each knows how to make its typed part of a chain.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use spindle_common::checkpoint::SubtaskSnapshot;
use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::chain::{Port, Replayed, Share, SourceTask, TaskParts, TypedPort};
use spindle_dataflow::channel::ResultPartition;
use spindle_dataflow::collector::{Collector, FanOut, SideOutputs};
use spindle_dataflow::connector::OperatorError;
use spindle_dataflow::exchange::{
    Broadcast, ExchangeWriter, Forward, Global, Partitioner, Rebalance, Shuffle,
};
use spindle_dataflow::operator::{OperatorContext, SinkOperator};
use spindle_dataflow::record::Record;
use spindle_dataflow::snapshot::{Restored, StateOwner};
use spindle_dataflow::task::{Task, TaskContext, TaskError};

use crate::connector::{SinkFactory, SinkPlan, Source};
use crate::context::{PlanContext, PlanError, SinkContext, SourceContext};

/// A `Box<dyn Collector<T>>` or a `Box<dyn Partitioner<T>>`, of the one `T` that the graph's builder saw to.
pub(crate) type Erased = Box<dyn Any>;

const TYPED: &str = "the typed API joins only streams and operators of one type";

fn typed<C: 'static>(erased: Erased) -> C {
    *erased.downcast::<C>().expect(TYPED)
}

/// How records get from one operator to the next.
#[derive(Clone)]
pub(crate) enum Exchange {
    Forward,
    Rebalance,
    Rescale,
    Shuffle,
    Broadcast,
    Global,
    /// Makes the partitioner, given the number of key groups.
    Hash(Arc<dyn Fn(u32) -> Erased + Send + Sync>),
    /// Makes the partitioner.
    Custom(Arc<dyn Fn() -> Erased + Send + Sync>),
}

impl Exchange {
    /// Whether what is under way on it can be part of a snapshot, which may be restored at another parallelism. Flink's rule: not where
    /// subtasks are joined one by one, nor where all get all. What the program's own function chooses, it refuses, and we leave out.
    pub(crate) const fn may_be_unaligned(&self) -> bool {
        match self {
            Self::Forward | Self::Rescale | Self::Broadcast | Self::Custom(_) => false,
            Self::Rebalance | Self::Shuffle | Self::Global | Self::Hash(_) => true,
        }
    }
}

/// Makes an operator in front of a collector.
type TransformLogic = dyn Fn(&OperatorContext, Erased) -> Erased + Send + Sync;

/// Makes an operator with two inputs in front of a collector.
type TwoInputsLogic = dyn Fn(&OperatorContext, Erased) -> [Erased; 2] + Send + Sync;

/// What an operator does.
#[derive(Clone)]
pub(crate) enum Logic {
    Source(Arc<dyn SourceLogic>),
    Transform(Arc<TransformLogic>),
    TwoInputs(Arc<TwoInputsLogic>),
    Sink(Arc<dyn SinkLogic>),
}

impl Logic {
    /// A transformation from the collector of its output to the collector of its input.
    pub(crate) fn transform<T: 'static, U: 'static>(
        make: impl Fn(&OperatorContext, Box<dyn Collector<U>>) -> Box<dyn Collector<T>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::Transform(Arc::new(move |context, next| {
            Box::new(make(context, typed::<Box<dyn Collector<U>>>(next)))
        }))
    }

    /// An operator with two inputs, from the collector of its output to those of its inputs. What concerns the whole operator, such
    /// as watermarks, comes through the first.
    pub(crate) fn two_inputs<A: 'static, B: 'static, U: 'static>(
        make: impl Fn(
            &OperatorContext,
            Box<dyn Collector<U>>,
        ) -> (Box<dyn Collector<A>>, Box<dyn Collector<B>>)
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::TwoInputs(Arc::new(move |context, next| {
            let (first, second) = make(context, typed::<Box<dyn Collector<U>>>(next));
            [Box::new(first), Box::new(second)]
        }))
    }
}

/// The head of a chain that reads a source.
pub(crate) trait SourceLogic: Send + Sync {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError>;

    fn task(
        &self,
        context: &OperatorContext,
        task: TaskContext,
        source: SourceContext,
        first: Erased,
    ) -> Result<Box<dyn Task>, TaskError>;

    fn waits(&self) -> bool;
}

/// The end of a chain that writes a sink.
pub(crate) trait SinkLogic: Send + Sync {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError>;

    fn collector(&self, context: &OperatorContext, sink: SinkContext) -> Result<Erased, TaskError>;

    fn waits(&self) -> bool;
}

/// What has to be known of the type of a stream's records.
pub(crate) trait StreamType: Send + Sync {
    /// One collector that feeds all of these.
    fn fan_out(&self, branches: Vec<Erased>) -> Erased;

    /// The way out over an exchange, to a consumer with this many key groups.
    fn writer(
        &self,
        producer: &OperatorContext,
        partition: Box<dyn ResultPartition>,
        exchange: &Exchange,
        max_parallelism: u32,
    ) -> Erased;

    /// Adds the side output of this name that goes to `next`.
    fn side_output(&self, sides: &mut SideOutputs, name: Arc<str>, next: Erased);

    /// What has to stand in the place of an operator's main output, so that control reaches its side outputs.
    fn beside(&self, sides: &SideOutputs, main: Erased) -> Erased;

    /// Where buffers enter the chain, for the subtask that `first` is of. Of the edges that lead there: how records come over them.
    fn port(
        &self,
        first: Erased,
        edges: &[(usize, &Exchange)],
        reader: &OperatorContext,
    ) -> Box<dyn Port>;

    /// What has to stand before an operator within a chain, so that it works on what was under way to it.
    fn replayed(
        &self,
        reader: &OperatorContext,
        restored: &SubtaskSnapshot<Vec<u8>>,
        next: Erased,
    ) -> Erased;
}

/// The [`StreamType`] of `T`, the [`SourceLogic`] or the [`SinkLogic`] of something with records of type `T`.
pub(crate) struct TypeOf<T, S = ()>(pub(crate) S, pub(crate) PhantomData<fn() -> T>);

impl<T: Record> StreamType for TypeOf<T> {
    fn fan_out(&self, branches: Vec<Erased>) -> Erased {
        let mut branches: Vec<_> = branches
            .into_iter()
            .map(typed::<Box<dyn Collector<T>>>)
            .collect();
        match (branches.pop(), branches.is_empty()) {
            (Some(only), true) => Box::new(only),
            (last, _) => {
                branches.extend(last);
                let all: Box<dyn Collector<T>> = Box::new(FanOut::new(branches));
                Box::new(all)
            }
        }
    }

    fn writer(
        &self,
        producer: &OperatorContext,
        partition: Box<dyn ResultPartition>,
        exchange: &Exchange,
        max_parallelism: u32,
    ) -> Erased {
        let partitioner: Box<dyn Partitioner<T>> = match exchange {
            Exchange::Forward => Box::new(Forward),
            Exchange::Rebalance | Exchange::Rescale => Box::new(Rebalance::new(producer.subtask)),
            Exchange::Shuffle => Box::new(Shuffle::new(producer.subtask)),
            Exchange::Broadcast => Box::new(Broadcast),
            Exchange::Global => Box::new(Global),
            Exchange::Hash(make) => typed(make(max_parallelism)),
            Exchange::Custom(make) => typed(make()),
        };
        let writer: Box<dyn Collector<T>> = Box::new(ExchangeWriter::new(
            Arc::clone(&producer.name),
            partition,
            partitioner,
            Arc::clone(&producer.metrics),
        ));
        Box::new(writer)
    }

    fn side_output(&self, sides: &mut SideOutputs, name: Arc<str>, next: Erased) {
        sides.add::<T>(name, typed(next));
    }

    fn beside(&self, sides: &SideOutputs, main: Erased) -> Erased {
        Box::new(sides.beside::<T>(typed(main)))
    }

    fn port(
        &self,
        first: Erased,
        edges: &[(usize, &Exchange)],
        reader: &OperatorContext,
    ) -> Box<dyn Port> {
        let share = |(edge, exchange): &(usize, &Exchange)| match exchange {
            Exchange::Hash(make) => Some(Share::<T> {
                edge: *edge,
                partitioner: typed(make(reader.max_parallelism)),
                consumers: reader.parallelism as usize,
                subtask: reader.subtask as usize,
            }),
            Exchange::Forward
            | Exchange::Rebalance
            | Exchange::Rescale
            | Exchange::Shuffle
            | Exchange::Broadcast
            | Exchange::Global
            | Exchange::Custom(_) => None,
        };
        let shares = edges.iter().filter_map(share).collect();
        Box::new(TypedPort::sharing(typed(first), shares))
    }

    fn replayed(
        &self,
        reader: &OperatorContext,
        restored: &SubtaskSnapshot<Vec<u8>>,
        next: Erased,
    ) -> Erased {
        let next = typed::<Box<dyn Collector<T>>>(next);
        Box::new(Replayed::before(next, StateOwner::of(reader), restored))
    }
}

impl<T: Record, S: Source<T>> SourceLogic for TypeOf<T, S> {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        self.0.plan(context)
    }

    fn task(
        &self,
        context: &OperatorContext,
        task: TaskContext,
        source: SourceContext,
        first: Erased,
    ) -> Result<Box<dyn Task>, TaskError> {
        let reader = spindle_dataflow::attribution::attribute(&context.name, || {
            self.0.reader(task.splits, source)
        });
        let reader = reader.map_err(|error: OperatorError| error.of(&context.name))?;
        let task = SourceTask::<T>::new(
            StateOwner::of(context),
            reader,
            typed(first),
            &Restored::new(task.restored),
            TaskParts {
                metrics: task.metrics,
                clock: task.clock,
                buffer_timeout: task.buffer_timeout,
                snapshots: task.snapshots,
            },
        )?;
        Ok(Box::new(task))
    }

    fn waits(&self) -> bool {
        self.0.waits()
    }
}

impl<T: Record, S: SinkFactory<T>> SinkLogic for TypeOf<T, S> {
    fn plan(&self, context: &PlanContext) -> Result<SinkPlan, PlanError> {
        self.0.plan(context)
    }

    fn collector(&self, context: &OperatorContext, sink: SinkContext) -> Result<Erased, TaskError> {
        let sink = spindle_dataflow::attribution::attribute(&context.name, || self.0.sink(sink));
        let sink = sink.map_err(|error: OperatorError| error.of(&context.name))?;
        let collector: Box<dyn Collector<T>> = Box::new(SinkOperator::new(context, sink));
        Ok(Box::new(collector))
    }

    fn waits(&self) -> bool {
        self.0.waits()
    }
}
