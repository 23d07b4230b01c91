//! Operators that look at one record at a time.

use std::sync::Arc;

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::collector::{Collector, Control, Output};
use crate::task::TaskError;

/// Makes one record of each. The event time stays.
pub struct Map<F, U> {
    name: Arc<str>,
    function: Arc<F>,
    out: Batch<U>,
    next: Box<dyn Collector<U>>,
}

impl<F, U> Map<F, U> {
    /// The operator `name` that applies `function` and feeds `next`.
    pub const fn new(name: Arc<str>, function: Arc<F>, next: Box<dyn Collector<U>>) -> Self {
        Self {
            name,
            function,
            out: Batch {
                records: Vec::new(),
                timestamps: Vec::new(),
            },
            next,
        }
    }
}

impl<F, U> Control for Map<F, U> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(&mut *self.next)
    }
}

impl<T, U, F: Fn(T) -> U> Collector<T> for Map<F, U> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        attribute(&self.name, || {
            self.out.clear();
            std::mem::swap(&mut self.out.timestamps, &mut batch.timestamps);
            self.out.records.extend(
                batch
                    .records
                    .drain(..)
                    .map(|record| (self.function)(record)),
            );
        });
        self.next.push(&mut self.out)
    }
}

/// Hands on the records that satisfy a predicate.
pub struct Filter<F, T> {
    name: Arc<str>,
    predicate: Arc<F>,
    next: Box<dyn Collector<T>>,
}

impl<F, T> Filter<F, T> {
    /// The operator `name` that keeps what satisfies `predicate` and feeds `next`.
    pub const fn new(name: Arc<str>, predicate: Arc<F>, next: Box<dyn Collector<T>>) -> Self {
        Self {
            name,
            predicate,
            next,
        }
    }
}

impl<F, T> Control for Filter<F, T> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(&mut *self.next)
    }
}

impl<T, F: Fn(&T) -> bool> Collector<T> for Filter<F, T> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        attribute(&self.name, || {
            batch.retain(|record| (self.predicate)(record))
        });
        if batch.is_empty() {
            return Ok(());
        }
        self.next.push(batch)
    }
}

/// Makes any number of records of each; they inherit its event time.
pub struct FlatMap<F, U> {
    name: Arc<str>,
    function: Arc<F>,
    out: Output<U>,
}

impl<F, U: 'static> FlatMap<F, U> {
    /// The operator `name` that applies `function` and feeds `next`.
    pub fn new(name: Arc<str>, function: Arc<F>, next: Box<dyn Collector<U>>) -> Self {
        Self {
            name,
            function,
            out: Output::new(next),
        }
    }
}

impl<F, U: 'static> Control for FlatMap<F, U> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }
}

impl<T, U: 'static, I: IntoIterator<Item = U>, F: Fn(T) -> I> Collector<T> for FlatMap<F, U> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        attribute(&self.name, || {
            for (record, timestamp) in batch.drain() {
                for made in (self.function)(record) {
                    self.out.push(made, timestamp)?;
                }
            }
            Ok::<(), TaskError>(())
        })?;
        self.out.hand_on()
    }
}
