//! The Nexmark queries, as jobs: what they read, and what they make of it.
//!
//! They are those of the suite as Flink and Beam have them, with what the events here have: an auction has no date at which it
//! expires, so each is open for [`OPEN_MS`]; persons have a city and no state, so `q3` names the cities of its three states; of the
//! categories the first stands for the one that `q3` asks for.

mod keyed;
#[cfg(test)]
mod tests;
mod windowed;

use serde::{Deserialize, Serialize};
use spindle_stream::{DataStream, Record, StreamEnvironment, WatermarkStrategy};

use crate::measure::{Discard, Numbered, Stopwatch};
use crate::nexmark::{Bid, Event};

pub(crate) use keyed::{q3, q4};
pub(crate) use windowed::{q5, q7, q8, q11};

/// Runs a query over this many events, and drops what it finds.
pub(crate) fn run<O: Record>(
    env: &StreamEnvironment,
    records: u64,
    watch: &Stopwatch,
    query: impl FnOnce(&DataStream<Event>) -> DataStream<O>,
) {
    let events = timed(env, Numbered::new(records, Event::at, watch));
    query(&events).sink_to(Discard::new(watch)).name("discard");
}

/// All events, with their event times and watermarks, whether or not a query needs these.
fn timed<F>(env: &StreamEnvironment, source: Numbered<F>) -> DataStream<Event>
where
    F: Fn(u64) -> Event + Send + Sync + 'static,
{
    env.source("events", source)
        .assign_timestamps(WatermarkStrategy::monotonous(), Event::time)
}

/// Passes all events on.
pub(crate) fn q0(events: &DataStream<Event>) -> DataStream<Event> {
    events.map(|event| event).name("pass on")
}

/// Bids with their prices in euros, which cost 0.908 dollars' worth.
pub(crate) fn q1(events: &DataStream<Event>) -> DataStream<Bid> {
    let euros = |event| match event {
        Event::Bid(bid) => Some(Bid {
            price: bid.price * 908 / 1000,
            ..bid
        }),
        Event::Person(_) | Event::Auction(_) => None,
    };
    events.flat_map(euros).name("to euros")
}

/// What `q2` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Offer {
    auction: u64,
    price: u64,
}

/// Prices bid for every 123rd auction.
pub(crate) fn q2(events: &DataStream<Event>) -> DataStream<Offer> {
    let offers = |event| match event {
        Event::Bid(Bid { auction, price, .. }) if auction.is_multiple_of(123) => {
            Some(Offer { auction, price })
        }
        Event::Bid(_) | Event::Person(_) | Event::Auction(_) => None,
    };
    events.flat_map(offers).name("some auctions")
}
