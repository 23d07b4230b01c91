//! A running value for each key: for each record, what its key has come to.

use std::any::type_name;
use std::sync::Arc;

use spindle_common::key_group::key_hash;

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::codec;
use crate::collector::{Collector, Control, Output};
use crate::key::{KeyScratch, KeySelector};
use crate::operator::OperatorContext;
use crate::operator::aggregate::AggregateFunction;
use crate::operator::groups::Groups;
use crate::operator::stored::StoredTable;
use crate::operator::table::SharedTable;
use crate::record::{Key, Record};
use crate::snapshot::{Restored, Snapshot, StateOwner, schema};
use crate::state::store::StateStores;
use crate::task::TaskError;

/// A value for each key, and where those of a batch's records are.
struct RunningValues<K, T, V> {
    owner: StateOwner,
    name: Arc<str>,
    selector: Arc<dyn KeySelector<K, T>>,
    stores: Option<Arc<dyn StateStores>>,
    table: Table<K, V>,
    keys: KeyScratch<K>,
    /// By record: which of the groups, and the place in it.
    places: Vec<(u32, u32)>,
}

enum Table<K, V> {
    Memory(Groups<SharedTable<K, V>>),
    Stored(Box<StoredTable<K, V>>),
}

/// Where values are, by place.
trait Values<V> {
    fn value(&mut self, place: (u32, u32)) -> &mut V;
}

impl<K: Key, V: Record> Values<V> for Groups<SharedTable<K, V>> {
    #[inline]
    fn value(&mut self, (group, place): (u32, u32)) -> &mut V {
        self.at(group as usize).value(place)
    }
}

impl<K: Key, V: Record> Values<V> for StoredTable<K, V> {
    #[inline]
    fn value(&mut self, (_, place): (u32, u32)) -> &mut V {
        self.value(place)
    }
}

/// Name of the state of a running value.
const VALUES: &str = "values";

impl<K: Key, T, V: Record> RunningValues<K, T, V> {
    fn new(context: &OperatorContext, selector: Arc<dyn KeySelector<K, T>>) -> Self {
        Self {
            owner: StateOwner::of(context),
            name: Arc::clone(&context.name),
            selector,
            stores: context.stores.clone(),
            table: Table::Memory(Groups::of(context)),
            keys: KeyScratch::default(),
            places: Vec::new(),
        }
    }

    /// Finds the places of these records; new keys begin with `create`. All of them first, and only then the values: the look-ups of
    /// a batch do not wait for each other.
    fn find(&mut self, records: &[T], create: impl Fn() -> V) -> Result<(), TaskError> {
        let (keys, hashes) = self.keys.select(&*self.selector, records);
        self.places.clear();
        let groups = match &mut self.table {
            Table::Memory(groups) => groups,
            Table::Stored(table) => return table.find(&keys, hashes, create, &mut self.places),
        };
        for (index, &hash) in hashes.iter().enumerate() {
            let group = groups.place(hash).map_err(|e| e.of(&self.name))?;
            let table = groups.at(group);
            let place = table.place(hash, keys.get(index), &create);
            self.places.push((group as u32, place));
        }
        Ok(())
    }

    /// Calls a function for each record of a batch with the value that [`Self::find`] has found, and pushes what it makes.
    fn each<O: 'static>(
        &mut self,
        batch: &mut Batch<T>,
        out: &mut Output<O>,
        function: impl FnMut(&mut V, T) -> O,
    ) -> Result<(), TaskError> {
        match &mut self.table {
            Table::Memory(groups) => each(groups, &self.places, batch, out, function),
            Table::Stored(table) => {
                each(&mut **table, &self.places, batch, out, function)?;
                table.relieve()
            }
        }
    }

    fn schema() -> String {
        schema("value by key", &[type_name::<K>(), type_name::<V>()])
    }

    fn write(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let groups = match &mut self.table {
            Table::Memory(groups) => groups,
            Table::Stored(table) => return table.write(into),
        };
        into.keyed_later(&self.owner, VALUES, Self::schema(), |group| {
            let table = groups.at(group);
            let (entries, shared) = (table.len() as u64, table.share());
            let write = move |out: &mut Vec<u8>| {
                shared.consume(|entry| {
                    codec::encode(&entry.key, out)?;
                    codec::encode(&entry.value, out)
                })
            };
            (entries, write)
        });
        Ok(())
    }

    /// Takes what [`Self::write`] wrote, whether or not there was a store then.
    fn read(&mut self, from: &Restored) -> Result<(), TaskError> {
        if let Some(stores) = &self.stores {
            let mut table = StoredTable::open(&self.owner, &**stores, VALUES, Self::schema())?;
            table.read(from)?;
            self.table = Table::Stored(Box::new(table));
            return Ok(());
        }
        let groups = match &mut self.table {
            Table::Memory(groups) => groups,
            Table::Stored(_) => unreachable!("there are no stores"),
        };
        from.keyed(&self.owner, VALUES, &Self::schema(), |group, bytes| {
            let key: K = codec::decode(bytes)?;
            let value: V = codec::decode(bytes)?;
            let hash = key_hash(&key);
            groups.at(group).insert(hash, key, value);
            Ok(())
        })
    }
}

fn each<T, V, O: 'static>(
    values: &mut impl Values<V>,
    places: &[(u32, u32)],
    batch: &mut Batch<T>,
    out: &mut Output<O>,
    mut function: impl FnMut(&mut V, T) -> O,
) -> Result<(), TaskError> {
    for (&place, (record, timestamp)) in places.iter().zip(batch.drain()) {
        out.push(function(values.value(place), record), timestamp)?;
    }
    Ok(())
}

/// Hands on one record for each, made from it and the value of its key, which the function may change. The event time is the
/// record's.
pub struct Scan<K, T, V, C, F, O> {
    create: Arc<C>,
    function: Arc<F>,
    values: RunningValues<K, T, V>,
    out: Output<O>,
}

impl<K, T, V, C, F, O> Scan<K, T, V, C, F, O>
where
    K: Key,
    V: Record,
    C: Fn() -> V,
    F: Fn(&mut V, T) -> O,
    O: 'static,
{
    /// The operator that begins each key of `selector` with `create`, applies `function` and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        selector: Arc<dyn KeySelector<K, T>>,
        create: Arc<C>,
        function: Arc<F>,
        next: Box<dyn Collector<O>>,
    ) -> Self {
        Self {
            create,
            function,
            values: RunningValues::new(context, selector),
            out: Output::new(next),
        }
    }

    fn run(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        self.values.find(&batch.records, &*self.create)?;
        self.values.each(batch, &mut self.out, &*self.function)
    }
}

impl<K: Key, T, V: Record, C, F, O: 'static> Control for Scan<K, T, V, C, F, O> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.values.write(into)?;
        self.out.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.values.read(from)?;
        self.out.restore(from)
    }
}

impl<K, T, V, C, F, O> Collector<T> for Scan<K, T, V, C, F, O>
where
    K: Key,
    V: Record,
    C: Fn() -> V,
    F: Fn(&mut V, T) -> O,
    O: 'static,
{
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.values.name);
        attribute(&name, || self.run(batch))?;
        self.out.hand_on()
    }
}

/// Hands on, for each record, the result of all records with its key so far. The event time is the record's.
pub struct RunningAggregate<K, T, A: AggregateFunction<T>> {
    function: Arc<A>,
    values: RunningValues<K, T, A::Accumulator>,
    out: Output<A::Output>,
}

impl<K: Key, T, A: AggregateFunction<T>> RunningAggregate<K, T, A> {
    /// The operator that folds with `function` by the keys of `selector` and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        selector: Arc<dyn KeySelector<K, T>>,
        function: Arc<A>,
        next: Box<dyn Collector<A::Output>>,
    ) -> Self {
        Self {
            function,
            values: RunningValues::new(context, selector),
            out: Output::new(next),
        }
    }

    fn take(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let function = &*self.function;
        self.values.find(&batch.records, || function.create())?;
        self.values
            .each(batch, &mut self.out, |accumulator, record| {
                function.take(accumulator, record);
                function.result(accumulator)
            })
    }

    fn add(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let function = &*self.function;
        let RunningValues {
            name,
            selector,
            table,
            keys,
            ..
        } = &mut self.values;
        let groups = match table {
            Table::Memory(groups) => groups,
            Table::Stored(_) => {
                self.values.find(&batch.records, || function.create())?;
                return self
                    .values
                    .each(batch, &mut self.out, |accumulator, record| {
                        function.add(accumulator, &record);
                        function.result(accumulator)
                    });
            }
        };
        let (keys, hashes) = keys.select(&**selector, &batch.records);
        let times = batch.timestamps.iter().copied().map(Some);
        let times = times.chain(std::iter::repeat(None));
        let records = batch.records.iter().zip(times);
        for ((index, &hash), (record, timestamp)) in hashes.iter().enumerate().zip(records) {
            let group = groups.place(hash).map_err(|e| e.of(name))?;
            let key = keys.get(index);
            let table = groups.at(group);
            let place = table.place(hash, key, || function.create());
            let accumulator = table.value(place);
            function.add(accumulator, record);
            self.out.push(function.result(accumulator), timestamp)?;
        }
        Ok(())
    }
}

impl<K: Key, T, A: AggregateFunction<T>> Control for RunningAggregate<K, T, A> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.values.write(into)?;
        self.out.snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.values.read(from)?;
        self.out.restore(from)
    }
}

impl<K: Key, T, A: AggregateFunction<T>> Collector<T> for RunningAggregate<K, T, A> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.values.name);
        attribute(&name, || {
            if A::KEEPS_RECORDS {
                self.take(batch)
            } else {
                self.add(batch)
            }
        })?;
        self.out.hand_on()
    }
}
