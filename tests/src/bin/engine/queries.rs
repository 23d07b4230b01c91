//! The Nexmark queries, as jobs.

use serde::{Deserialize, Serialize};
use spindle_stream::{DataStream, StreamEnvironment, WatermarkStrategy};

use crate::measure::{Discard, Numbered, Stopwatch};
use crate::nexmark::{Bid, Event};

/// All events, with their event times and watermarks, whether or not a query needs these.
fn events(env: &StreamEnvironment, records: u64, watch: &Stopwatch) -> DataStream<Event> {
    env.source("events", Numbered::new(records, Event::at, watch))
        .assign_timestamps(WatermarkStrategy::monotonous(), Event::time)
}

/// Passes all events on.
pub(crate) fn q0(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    events(env, records, watch)
        .map(|event| event)
        .name("pass on")
        .sink_to(Discard::new(watch))
        .name("discard");
}

/// Bids with their prices in euros, which cost 0.908 dollars' worth.
pub(crate) fn q1(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    events(env, records, watch)
        .flat_map(|event| match event {
            Event::Bid(bid) => Some(Bid {
                price: bid.price * 908 / 1000,
                ..bid
            }),
            Event::Person(_) | Event::Auction(_) => None,
        })
        .name("to euros")
        .sink_to(Discard::new(watch))
        .name("discard");
}

/// What `q2` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Offer {
    auction: u64,
    price: u64,
}

/// Prices bid for every 123rd auction.
pub(crate) fn q2(env: &StreamEnvironment, records: u64, watch: &Stopwatch) {
    events(env, records, watch)
        .flat_map(|event| match event {
            Event::Bid(Bid { auction, price, .. }) if auction.is_multiple_of(123) => {
                Some(Offer { auction, price })
            }
            Event::Bid(_) | Event::Person(_) | Event::Auction(_) => None,
        })
        .name("some auctions")
        .sink_to(Discard::new(watch))
        .name("discard");
}
