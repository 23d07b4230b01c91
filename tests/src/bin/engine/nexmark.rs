//! The events of the Nexmark queries, each made from its number alone.
//!
//! ```text
//! number in its fifty   0        1 2 3      4 … 49
//! event                 person   auctions   bids
//! ```
//! An event owns its texts, made anew for each. Nothing is left out because a query does not look at it. Texts are written digit
//! by digit, without `format!`.

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use spindle_stream::EventTime;

use crate::measure::Stopwatch;
use crate::words::scatter;

/// Events in a second of event time.
pub(crate) const EVENTS_PER_SECOND: u64 = 100_000;

/// Events after which the kinds repeat.
pub(crate) const ROUND: u64 = 50;
const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;
/// Bids of a round.
pub(crate) const BIDS: u64 = ROUND - PERSONS - AUCTIONS;
/// A bid that is not for the hot auction is for one of the last this many; a new hot auction comes after as many.
const OPEN_AUCTIONS: u64 = 100;
/// Sellers and bidders are among the last this many persons.
const ACTIVE_PERSONS: u64 = 1000;
/// Auctions have one of these.
const CATEGORIES: u64 = 5;

const FIRST_NAMES: [&str; 8] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie",
];
const LAST_NAMES: [&str; 8] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones",
];
const CITIES: [&str; 8] = [
    "Phoenix",
    "Palo Alto",
    "San Mateo",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
];
const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Anything that happens at the auction house.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Somebody registers.
    Person(Person),
    /// Somebody sells something.
    Auction(Auction),
    /// Somebody bids for something.
    Bid(Bid),
}

/// Somebody who sells and bids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) city: String,
    pub(crate) time: i64,
}

/// Something that is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Auction {
    pub(crate) id: u64,
    pub(crate) seller: u64,
    pub(crate) category: u64,
    pub(crate) item: String,
    pub(crate) time: i64,
}

/// What somebody offers for something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Bid {
    pub(crate) auction: u64,
    pub(crate) bidder: u64,
    pub(crate) price: u64,
    pub(crate) channel: String,
    pub(crate) url: String,
    pub(crate) time: i64,
}

impl Event {
    /// The event with this number.
    pub(crate) fn at(index: u64) -> Self {
        let (round, place) = (index / ROUND, index % ROUND);
        let time = (index * 1000 / EVENTS_PER_SECOND) as i64;
        let hash = scatter(index);
        if place < PERSONS {
            return Self::Person(Person {
                id: round,
                name: joined(pick(&FIRST_NAMES, hash), pick(&LAST_NAMES, hash >> 8)),
                city: pick(&CITIES, hash >> 16).to_owned(),
                time,
            });
        }
        if place < PERSONS + AUCTIONS {
            return Self::Auction(Auction {
                id: round * AUCTIONS + place - PERSONS,
                seller: person(hash, round),
                category: (hash >> 40) % CATEGORIES,
                item: with_digits(*b"item 00000000", hash >> 32),
                time,
            });
        }
        // All auctions of this round have begun.
        let latest = round * AUCTIONS + AUCTIONS - 1;
        let auction = if index.is_multiple_of(2) {
            latest - latest % OPEN_AUCTIONS
        } else {
            latest.saturating_sub((hash >> 48) % OPEN_AUCTIONS)
        };
        Self::Bid(Bid {
            auction,
            bidder: person(hash, round),
            price: 100 + (hash >> 20) % 10_000_000,
            channel: pick(&CHANNELS, hash >> 18).to_owned(),
            url: with_digits(
                *b"https://www.nexmark.com/item.htm?query=1&ref=0000000000",
                hash >> 8,
            ),
            time,
        })
    }

    /// When it happened.
    pub(crate) const fn time(&self) -> EventTime {
        EventTime::from_millis(match self {
            Self::Person(person) => person.time,
            Self::Auction(auction) => auction.time,
            Self::Bid(bid) => bid.time,
        })
    }
}

/// One of the persons that are active in a round.
const fn person(hash: u64, round: u64) -> u64 {
    round.saturating_sub(hash % ACTIVE_PERSONS)
}

/// One of a power of two of texts.
fn pick<const N: usize>(texts: &[&'static str; N], hash: u64) -> &'static str {
    texts[hash as usize % N]
}

fn joined(first: &str, last: &str) -> String {
    let mut name = String::with_capacity(first.len() + 1 + last.len());
    name.push_str(first);
    name.push(' ');
    name.push_str(last);
    name
}

/// A text whose zeros at the end are replaced by hexadecimal digits.
fn with_digits<const N: usize>(mut text: [u8; N], mut number: u64) -> String {
    for byte in text.iter_mut().rev().take_while(|byte| **byte == b'0') {
        *byte = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
    let text = std::str::from_utf8(&text).expect("letters and digits are UTF-8");
    text.to_owned()
}

/// Makes this many events and drops them, a batch at a time: what no query can be faster than.
pub(crate) fn make_and_drop(records: u64, watch: &Stopwatch) {
    let made = std::thread::spawn({
        let watch = watch.clone();
        move || {
            let mut batch = Vec::with_capacity(spindle_dataflow::batch::BATCH_RECORDS);
            watch.begin();
            let mut next = 0;
            while next < records {
                let end = records.min(next + spindle_dataflow::batch::BATCH_RECORDS as u64);
                batch.extend((next..end).map(Event::at));
                next = end;
                for event in batch.drain(..) {
                    black_box(&event);
                }
            }
            watch.end(records);
        }
    });
    made.join().expect("making events does not panic");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn events(count: u64) -> impl Iterator<Item = Event> {
        (0..count).map(Event::at)
    }

    #[test]
    fn of_fifty_events_one_is_a_person_three_are_auctions_and_the_rest_are_bids() {
        let mut counts = [0; 3];
        for event in events(5000) {
            counts[match event {
                Event::Person(_) => 0,
                Event::Auction(_) => 1,
                Event::Bid(_) => 2,
            }] += 1;
        }
        assert_eq!(counts, [100, 300, 4600]);
    }

    #[test]
    fn every_other_bid_is_for_the_hot_auction_and_all_are_for_one_that_exists() {
        let (mut hot, mut bids) = (0, 0);
        let mut latest = 0;
        for event in events(500_000) {
            match event {
                Event::Auction(auction) => latest = auction.id,
                Event::Bid(bid) => {
                    assert!(bid.auction <= latest && bid.auction + OPEN_AUCTIONS > latest);
                    bids += 1;
                    hot += u64::from(bid.auction == latest - latest % OPEN_AUCTIONS);
                }
                Event::Person(_) => {}
            }
        }
        assert!(
            (bids / 2..bids * 52 / 100).contains(&hot),
            "{hot} of {bids}"
        );
    }

    #[test]
    fn ids_follow_one_another_and_refer_to_persons_that_exist() {
        let (mut persons, mut auctions) = (0, 0);
        for event in events(100_000) {
            match event {
                Event::Person(person) => {
                    assert_eq!(person.id, persons);
                    persons += 1;
                }
                Event::Auction(auction) => {
                    assert_eq!(auction.id, auctions);
                    assert!(auction.seller < persons && auction.category < CATEGORIES);
                    auctions += 1;
                }
                Event::Bid(bid) => assert!(bid.bidder < persons),
            }
        }
    }

    #[test]
    fn a_bid_names_one_of_four_channels_and_a_url_of_its_own() {
        let (mut channels, mut urls) = (BTreeSet::new(), BTreeSet::new());
        for event in events(5000) {
            if let Event::Bid(bid) = event {
                assert_eq!(bid.url.len(), 55);
                channels.insert(bid.channel);
                assert!(urls.insert(bid.url));
            }
        }
        assert_eq!(channels, CHANNELS.map(str::to_owned).into());
    }

    #[test]
    fn an_event_is_the_same_each_time_and_event_time_never_goes_back() {
        assert!(events(1000).eq(events(1000)));
        let times: Vec<_> = events(500_000).map(|event| event.time()).collect();
        assert!(times.is_sorted());
        assert_eq!(times[300_000], EventTime::from_millis(3000));
    }
}
