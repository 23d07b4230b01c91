//! A running value for each key: for each record, what its key has come to.

use std::sync::Arc;

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control, Output};
use crate::key::{KeyScratch, KeySelector};
use crate::operator::OperatorContext;
use crate::operator::groups::Groups;
use crate::operator::table::KeyTable;
use crate::record::Key;
use crate::task::TaskError;

/// Hands on one record for each, made from it and the value of its key, which the function may change. The event time is the
/// record's.
pub struct Scan<K, T, V, C, F, O> {
    name: Arc<str>,
    selector: Arc<dyn KeySelector<K, T>>,
    create: Arc<C>,
    function: Arc<F>,
    groups: Groups<KeyTable<K, V>>,
    keys: KeyScratch<K>,
    /// Where the value of each record's key is: which of the groups, and the place in it.
    places: Vec<(u32, u32)>,
    out: Output<O>,
}

impl<K, T, V, C, F, O> Scan<K, T, V, C, F, O>
where
    K: Key,
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
            name: Arc::clone(&context.name),
            selector,
            create,
            function,
            groups: Groups::of(context),
            keys: KeyScratch::default(),
            places: Vec::new(),
            out: Output::new(next),
        }
    }

    fn run(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let (keys, hashes) = self.keys.select(&*self.selector, &batch.records);
        self.places.clear();
        for (index, &hash) in hashes.iter().enumerate() {
            let group = self.groups.place(hash).map_err(|e| e.of(&self.name))?;
            let table = self.groups.at(group);
            let place = table.place(hash, keys.get(index), || (self.create)());
            self.places.push((group as u32, place));
        }
        for (&(group, place), (record, timestamp)) in self.places.iter().zip(batch.drain()) {
            let value = self.groups.at(group as usize).value(place);
            self.out.push((self.function)(value, record), timestamp)?;
        }
        Ok(())
    }
}

impl<K, T, V, C, F, O: 'static> Control for Scan<K, T, V, C, F, O> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }
}

impl<K, T, V, C, F, O> Collector<T> for Scan<K, T, V, C, F, O>
where
    K: Key,
    C: Fn() -> V,
    F: Fn(&mut V, T) -> O,
    O: 'static,
{
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || self.run(batch))?;
        self.out.hand_on()
    }
}
