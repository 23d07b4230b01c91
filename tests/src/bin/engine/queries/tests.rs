//! Each query against a plain evaluation of the same events, on one subtask and on two.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use spindle_stream::EventTime;
use spindle_stream::testing::Harness;

use super::keyed::{Average, CATEGORY, CITIES, OPEN_MS, Suggestion};
use super::windowed::{Hot, Newcomer, SIZE, SLIDE, Visit};
use super::*;
use crate::nexmark::{Auction, Person};

const EVENTS: u64 = 50_000;
const SIZE_MS: i64 = SIZE.as_millis() as i64;
const SLIDE_MS: i64 = SLIDE.as_millis() as i64;

/// An event of a house where everything takes this many times as long, and bids are round sums: few events fill many windows, and
/// there is more than one highest bid.
fn slow(index: u64, times: i64) -> Event {
    let mut event = Event::at(index);
    match &mut event {
        Event::Person(Person { time, .. }) | Event::Auction(Auction { time, .. }) => *time *= times,
        Event::Bid(bid) => {
            bid.time *= times;
            bid.price -= bid.price % 100_000;
        }
    }
    event
}

/// Checks what a query finds, whatever the order, against what is expected of the events.
fn check<O: Record + Ord + std::fmt::Debug + DeserializeOwned>(
    times: i64,
    query: impl Fn(&DataStream<Event>) -> DataStream<O>,
    expected: impl FnOnce(&[Event]) -> Vec<O>,
) {
    let events: Vec<_> = (0..EVENTS).map(|index| slow(index, times)).collect();
    let mut expected = expected(&events);
    expected.sort_unstable();
    assert!(expected.len() > 3, "the events are no test: {expected:?}");
    for parallelism in [1, 2] {
        assert!(found(parallelism, times, &query) == expected);
    }
}

/// What a query finds, sorted.
fn found<O: Record + Ord + DeserializeOwned>(
    parallelism: u32,
    times: i64,
    query: impl Fn(&DataStream<Event>) -> DataStream<O>,
) -> Vec<O> {
    let mut harness = Harness::new(parallelism);
    let source = Numbered::new(
        EVENTS,
        move |index| slow(index, times),
        &Stopwatch::default(),
    );
    query(&timed(harness.env(), source)).collect("found");
    let mut found = harness.run().unwrap().collected("found");
    found.sort_unstable();
    found
}

fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        Event::Person(_) | Event::Auction(_) => None,
    })
}

fn auctions(events: &[Event]) -> impl Iterator<Item = &Auction> {
    events.iter().filter_map(|event| match event {
        Event::Auction(auction) => Some(auction),
        Event::Person(_) | Event::Bid(_) => None,
    })
}

fn persons(events: &[Event]) -> impl Iterator<Item = &Person> {
    events.iter().filter_map(|event| match event {
        Event::Person(person) => Some(person),
        Event::Auction(_) | Event::Bid(_) => None,
    })
}

#[test]
fn q2_finds_the_prices_of_some_auctions() {
    check(1, q2, |events| {
        let some = bids(events).filter(|bid| bid.auction % 123 == 0);
        some.map(|bid| Offer {
            auction: bid.auction,
            price: bid.price,
        })
        .collect()
    });
}

#[test]
fn q3_joins_auctions_with_their_sellers() {
    check(1, q3, |events| {
        let sellers: BTreeMap<_, _> = persons(events)
            .filter(|person| CITIES.contains(&&*person.city))
            .map(|person| (person.id, person))
            .collect();
        auctions(events)
            .filter(|auction| auction.category == CATEGORY)
            .filter_map(|auction| {
                let seller = sellers.get(&auction.seller)?;
                Some(Suggestion {
                    name: seller.name.clone(),
                    city: seller.city.clone(),
                    auction: auction.id,
                })
            })
            .collect()
    });
}

#[test]
fn q4_averages_the_highest_bids_that_came_in_time() {
    let events: Vec<_> = (0..EVENTS).map(|index| slow(index, 1)).collect();
    let mut paid: BTreeMap<u64, u64> = BTreeMap::new();
    let open: BTreeMap<_, _> = auctions(&events)
        .map(|auction| (auction.id, auction))
        .collect();
    let mut late = 0;
    for bid in bids(&events) {
        if bid.time <= open[&bid.auction].time + OPEN_MS {
            let highest = paid.entry(bid.auction).or_default();
            *highest = bid.price.max(*highest);
        } else {
            late += 1;
        }
    }
    assert!(late > 1000, "{late}");
    let mut by_category: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (auction, price) in &paid {
        by_category
            .entry(open[auction].category)
            .or_default()
            .push(*price);
    }
    let expected: Vec<_> = by_category
        .iter()
        .map(|(category, prices)| Average {
            category: *category,
            closed: prices.len() as u64,
            price: prices.iter().sum::<u64>() / prices.len() as u64,
        })
        .collect();
    for parallelism in [1, 2] {
        let found: Vec<Average> = found(parallelism, 1, q4);
        assert_eq!(found.len(), paid.len());
        // In which order auctions close at two subtasks is for chance to say, but not where it ends.
        let ends = found.chunk_by(|a, b| a.category == b.category);
        assert_eq!(
            ends.filter_map(<[_]>::last).copied().collect::<Vec<_>>(),
            expected
        );
    }
}

/// The ends of the sliding windows that hold this instant.
fn ends(time: i64) -> impl Iterator<Item = i64> {
    let first = time - time % SLIDE_MS + SLIDE_MS;
    (0..SIZE_MS / SLIDE_MS).map(move |n| first + n * SLIDE_MS)
}

#[test]
fn q5_finds_the_auctions_with_the_most_bids_in_each_window() {
    check(100, q5, |events| {
        let mut windows: BTreeMap<i64, BTreeMap<u64, u64>> = BTreeMap::new();
        for bid in bids(events) {
            for end in ends(bid.time) {
                *windows
                    .entry(end)
                    .or_default()
                    .entry(bid.auction)
                    .or_default() += 1;
            }
        }
        let most = |(end, counts): (i64, BTreeMap<u64, u64>)| {
            let most = counts.values().copied().max();
            let hot = counts
                .into_iter()
                .filter(move |(_, bids)| Some(*bids) == most);
            hot.map(move |(auction, bids)| Hot { end, auction, bids })
        };
        windows.into_iter().flat_map(most).collect()
    });
}

#[test]
fn q7_finds_all_the_highest_bids_of_each_window() {
    check(100, q7, |events| {
        let mut windows: BTreeMap<i64, Vec<&Bid>> = BTreeMap::new();
        for bid in bids(events) {
            windows.entry(bid.time / SIZE_MS).or_default().push(bid);
        }
        let mut all = Vec::new();
        for bids in windows.values() {
            let most = bids.iter().map(|bid| bid.price).max();
            all.extend(
                bids.iter()
                    .filter(|bid| Some(bid.price) == most)
                    .map(|bid| (*bid).clone()),
            );
        }
        assert!(all.len() > 2 * windows.len(), "no two bids are the highest");
        all
    });
}

#[test]
fn q8_finds_persons_who_registered_and_sold_in_one_window() {
    check(100, q8, |events| {
        let sold: BTreeSet<_> = auctions(events)
            .map(|auction| (auction.seller, auction.time / SIZE_MS))
            .collect();
        persons(events)
            .filter(|person| sold.contains(&(person.id, person.time / SIZE_MS)))
            .map(|person| Newcomer {
                id: person.id,
                name: person.name.clone(),
                start: person.time / SIZE_MS * SIZE_MS,
            })
            .collect()
    });
}

#[test]
fn q11_counts_bids_until_a_bidder_pauses() {
    // No pause takes ten seconds to the millisecond: whether that is one is for chance to say, as the watermark may come between.
    check(1001, q11, |events| {
        let mut bidders: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for bid in bids(events) {
            bidders.entry(bid.bidder).or_default().push(bid.time);
        }
        let mut visits = Vec::new();
        for (bidder, times) in &bidders {
            for visit in times.chunk_by(|earlier, later| later - earlier < SIZE_MS) {
                visits.push(Visit {
                    bidder: *bidder,
                    start: EventTime::from_millis(visit[0]),
                    end: EventTime::from_millis(visit[visit.len() - 1] + SIZE_MS),
                    bids: visit.len() as u64,
                });
            }
        }
        assert!(visits.len() > 2 * bidders.len(), "nobody pauses");
        visits
    });
}
