//! Functions that do what they like with each record: with state and timers where there is a key.

use std::sync::Arc;

use spindle_dataflow::operator::{KeyedProcess, KeyedProcessFunction, Process, ProcessFunction};
use spindle_dataflow::record::{Key, Record};
use spindle_dataflow::state::{OperatorStates, States};

use crate::data_stream::DataStream;
use crate::keyed::KeyedStream;

#[cfg(test)]
mod tests;

impl<T: Record> DataStream<T> {
    /// Applies to each record a function that may hand on any number of records, put others into side outputs, and look at the time. `make`
    /// makes the function of each subtask, and declares the state that it keeps. Flink: `process`.
    ///
    /// ```
    /// use spindle_stream::{OperatorStates, ProcessContext};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection(["1", "x", "3"].map(str::to_owned))
    ///     .process(|_: &mut OperatorStates| {
    ///         let mut bad = 0;
    ///         move |text: String, ctx: &mut ProcessContext<'_, u64>| {
    ///             match text.parse() {
    ///                 Ok(n) => ctx.emit(n),
    ///                 Err(_) if bad < 10 => bad += 1,
    ///                 Err(error) => return Err(error.into()),
    ///             }
    ///             Ok(())
    ///         }
    ///     })
    ///     .collect("numbers");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("numbers"), [1, 3]);
    /// ```
    pub fn process<O: Record, F: ProcessFunction<T, O>>(
        &self,
        make: impl Fn(&mut OperatorStates) -> F + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.read_by("Process", move |context, next| {
            Box::new(Process::new(context, &make, next))
        })
    }
}

impl<K: Key, T: Record> KeyedStream<K, T> {
    /// Applies to each record a function that has state of the record's key, and timers; see [`KeyedProcessFunction`] for these. `make` makes
    /// the function of each subtask, and declares its state. Flink: `process`.
    ///
    /// ```
    /// use spindle_stream::{KeyedContext, States};
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// harness
    ///     .env()
    ///     .from_collection(["a", "b", "a"].map(str::to_owned))
    ///     .key_by_ref(|word| word)
    ///     .process(|states: &mut States| {
    ///         let count = states.value::<u64>("count");
    ///         move |word: String, ctx: &mut KeyedContext<'_, String, (String, u64)>| {
    ///             let n = count.get(ctx).copied().unwrap_or(0) + 1;
    ///             count.set(ctx, n);
    ///             ctx.emit((word, n));
    ///             Ok(())
    ///         }
    ///     })
    ///     .collect("counts");
    /// let counts: Vec<(String, u64)> = harness.run().unwrap().collected("counts");
    /// assert_eq!(counts, [("a", 1), ("b", 1), ("a", 2)].map(|(word, n)| (word.to_owned(), n)));
    /// ```
    pub fn process<O: Record, F: KeyedProcessFunction<K, T, O>>(
        &self,
        make: impl Fn(&mut States) -> F + Send + Sync + 'static,
    ) -> DataStream<O> {
        let selector = self.selector();
        self.stream()
            .read_by("Keyed Process", move |context, next| {
                let selector = Arc::clone(&selector);
                Box::new(KeyedProcess::new(context, selector, &make, next))
            })
    }
}
