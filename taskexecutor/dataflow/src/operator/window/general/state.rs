//! The open windows as state: what a snapshot has of them.

use std::any::type_name;

use serde::{Deserialize, Serialize};
use spindle_common::key_group::key_hash;

use super::GeneralOperator;
use crate::codec;
use crate::operator::aggregate::AggregateFunction;
use crate::operator::context::WATERMARK;
use crate::operator::window::TimeWindow;
use crate::operator::window::function::WindowFunction;
use crate::operator::window::trigger::{Timers, Trigger};
use crate::record::{Key, Record};
use crate::snapshot::{Restored, Snapshot, schema};
use crate::task::TaskError;

/// Name of the state of the open windows.
const WINDOWS: &str = "windows";

/// An open window of a key. What wakes it follows from its timers.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "A: Serialize, S: Serialize",
    deserialize = "A: Deserialize<'de>, S: Deserialize<'de>"
))]
struct Written<A, S> {
    window: TimeWindow,
    accumulator: Option<A>,
    state: S,
    timers: Timers,
}

impl<K, T, A, W, Tr, O> GeneralOperator<K, T, A, W, Tr, O>
where
    K: Key,
    T: Record,
    A: AggregateFunction<T>,
    W: WindowFunction<K, T, A, O>,
    Tr: Trigger<T>,
    O: 'static,
{
    fn schema() -> String {
        let types = [
            type_name::<K>(),
            type_name::<A::Accumulator>(),
            type_name::<Tr::State>(),
        ];
        schema("windows by key", &types)
    }

    pub(super) fn write(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        let groups = &mut self.groups;
        into.keyed(&self.owner, WINDOWS, Self::schema(), |group, out| {
            let table = groups.at(group);
            let mut entries = 0;
            for slot in 0..table.slots() {
                let Some((key, open)) = table.get(slot) else {
                    continue;
                };
                for open in open.iter() {
                    let written = Written {
                        window: open.window,
                        accumulator: open.accumulator.as_ref(),
                        state: &open.state,
                        timers: open.timers.clone(),
                    };
                    codec::encode(key, out)?;
                    codec::encode(&written, out)?;
                    entries += 1;
                }
            }
            Ok(entries)
        })?;
        into.progress(&self.owner, WATERMARK, &self.now.watermark)
    }

    pub(super) fn read(&mut self, from: &Restored) -> Result<(), TaskError> {
        let Self {
            owner, groups, now, ..
        } = self;
        if let Some(watermark) = from.progress(owner, WATERMARK)? {
            now.watermark = watermark;
        }
        from.keyed(owner, WINDOWS, &Self::schema(), |group, bytes| {
            let key: K = codec::decode(bytes)?;
            let written: Written<A::Accumulator, Tr::State> = codec::decode(bytes)?;
            let table = groups.at(group);
            let (place, _) = table.slot(key_hash(&key), &key);
            let (_, windows) = table.get(place).expect("the key was just put there");
            let mut open = now.open(written.window);
            open.accumulator = written.accumulator;
            open.state = written.state;
            open.timers = written.timers;
            now.queue(&mut open, group as u32, place);
            // They were written in order.
            windows.push(open);
            Ok(())
        })
    }
}
