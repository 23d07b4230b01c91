//! Queries over windows of event time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use spindle_stream::{
    AggregateFunction, Count, DataStream, EventTime, Fold, OperatorStates, ProcessContext, Record,
    Session, Sliding, Tumbling,
};

use crate::nexmark::{Auction, Bid, Event, Person};

/// Size of the windows, and the gap between sessions.
pub(super) const SIZE: Duration = Duration::from_secs(10);
/// How often `q5` looks.
pub(super) const SLIDE: Duration = Duration::from_secs(2);

/// What `q5` finds: an auction that had more bids in a window than any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Hot {
    pub(super) end: i64,
    pub(super) auction: u64,
    pub(super) bids: u64,
}

/// The auctions with the most bids in the last ten seconds, every two seconds.
///
/// Bids are counted by auction, in panes of two seconds that the windows share. Then each subtask passes on only what may be the
/// most of a window, and one subtask chooses among these.
pub(crate) fn q5(events: &DataStream<Event>) -> DataStream<Hot> {
    let counts = events
        .flat_map(|event| match event {
            Event::Bid(Bid { auction, .. }) => Some(auction),
            Event::Person(_) | Event::Auction(_) => None,
        })
        .name("auctions bid for")
        .key_by(|auction| *auction)
        .window(Sliding::of(SIZE, SLIDE))
        .aggregate_with(Count, |auction: &u64, window, bids| Hot {
            end: window.end.as_millis(),
            auction: *auction,
            bids,
        })
        .name("count");
    let hottest = counts
        .process(|_: &mut OperatorStates| {
            let mut highest = Highest::default();
            move |hot: Hot, ctx: &mut ProcessContext<'_, Hot>| {
                if highest.admits(hot.end, hot.bids) {
                    ctx.emit(hot);
                }
                Ok(())
            }
        })
        .name("candidates");
    // What comes of a window has the window's last instant: a slide holds one window's.
    most(&hottest, SLIDE, |hot| hot.bids)
}

/// The highest bids of every ten seconds.
///
/// Each subtask passes on only what may be the highest of a window, and one subtask chooses among these.
pub(crate) fn q7(events: &DataStream<Event>) -> DataStream<Bid> {
    let size = SIZE.as_millis() as i64;
    let candidates = events
        .process(move |_: &mut OperatorStates| {
            let mut highest = Highest::default();
            move |event: Event, ctx: &mut ProcessContext<'_, Bid>| {
                if let Event::Bid(bid) = event
                    && highest.admits(bid.time.div_euclid(size), bid.price)
                {
                    ctx.emit(bid);
                }
                Ok(())
            }
        })
        .name("candidates");
    most(&candidates, SIZE, |bid| bid.price)
}

/// The highest value that a subtask has seen of the latest window. It is no state that would have to be kept: a task that has forgotten
/// it only passes more on.
#[derive(Debug, Default)]
struct Highest {
    window: Option<i64>,
    value: u64,
}

impl Highest {
    /// Whether nothing seen of this window is higher. Of a window before the latest anything may be the highest.
    fn admits(&mut self, window: i64, value: u64) -> bool {
        match self.window {
            Some(latest) if window < latest => true,
            Some(latest) if window == latest && value < self.value => false,
            Some(_) | None => {
                (self.window, self.value) = (Some(window), value);
                true
            }
        }
    }
}

/// Of each window the records with the highest value.
fn most<T: Record>(
    records: &DataStream<T>,
    size: Duration,
    value: impl Fn(&T) -> u64 + Send + Sync + 'static,
) -> DataStream<T> {
    records
        .window_all(Tumbling::of(size))
        .aggregate_process(Most(value), |_, most, out| {
            for record in most {
                out.emit(record);
            }
        })
        .name("most")
}

/// Keeps the records with the highest value, all of them if there are several.
struct Most<F>(F);

impl<T: Record, F: Fn(&T) -> u64 + Send + Sync + 'static> AggregateFunction<T> for Most<F> {
    type Accumulator = Vec<T>;
    type Output = Vec<T>;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, most: &mut Vec<T>, record: &T) {
        let value = (self.0)(record);
        match most.first().map(&self.0) {
            Some(highest) if highest > value => return,
            Some(highest) if highest < value => most.clear(),
            Some(_) | None => {}
        }
        most.push(record.clone());
    }

    fn merge(&self, most: &mut Vec<T>, others: &Vec<T>) {
        for record in others {
            self.add(most, record);
        }
    }

    fn result(&self, most: &Vec<T>) -> Vec<T> {
        most.clone()
    }
}

/// What `q8` finds: a person who has registered and sold something in one window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Newcomer {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) start: i64,
}

/// What `q8` joins by the person: one stream of both, so that no event is copied for a second reader.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Activity {
    Registers { id: u64, name: String },
    Sells { id: u64 },
}

/// Persons who have opened auctions in the ten seconds in which they registered.
///
/// A person's name and whether they have sold anything is all that a window keeps of them: how often does not matter.
pub(crate) fn q8(events: &DataStream<Event>) -> DataStream<Newcomer> {
    let activities = |event| match event {
        Event::Person(Person { id, name, .. }) => Some(Activity::Registers { id, name }),
        Event::Auction(Auction { seller, .. }) => Some(Activity::Sells { id: seller }),
        Event::Bid(_) => None,
    };
    let both = Fold::new(
        || (None, false),
        |(name, sells): &mut (Option<String>, bool), activity: &Activity| match activity {
            Activity::Registers { name: new, .. } => *name = Some(new.clone()),
            Activity::Sells { .. } => *sells = true,
        },
        |(name, sells): &mut (Option<String>, bool), other: &(Option<String>, bool)| {
            if other.0.is_some() {
                name.clone_from(&other.0);
            }
            *sells |= other.1;
        },
        |(name, sells): &(Option<String>, bool)| name.clone().filter(|_| *sells),
    );
    events
        .flat_map(activities)
        .name("registrations and sales")
        .key_by(|activity| match activity {
            Activity::Registers { id, .. } | Activity::Sells { id } => *id,
        })
        .window(Tumbling::of(SIZE))
        .aggregate_process(both, |context, name, out| {
            if let Some(name) = name {
                out.emit(Newcomer {
                    id: *context.key,
                    name,
                    start: context.window.start.as_millis(),
                });
            }
        })
        .name("join")
}

/// What `q11` finds: how often somebody has bid without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Visit {
    pub(super) bidder: u64,
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    pub(super) bids: u64,
}

/// Bids of each bidder in sessions that end when ten seconds pass without one.
pub(crate) fn q11(events: &DataStream<Event>) -> DataStream<Visit> {
    events
        .flat_map(|event| match event {
            Event::Bid(Bid { bidder, .. }) => Some(bidder),
            Event::Person(_) | Event::Auction(_) => None,
        })
        .name("bidders")
        .key_by(|bidder| *bidder)
        .window(Session::with_gap(SIZE))
        .aggregate_with(Count, |bidder: &u64, window, bids| Visit {
            bidder: *bidder,
            start: window.start,
            end: window.end,
            bids,
        })
        .name("count")
}
