//! Queries that join by key and keep state for it, without windows.

use serde::{Deserialize, Serialize};
use spindle_stream::{
    DataStream, EventTime, FunctionResult, KeyedContext, KeyedProcessFunction, States, Timer,
    ValueState,
};

use crate::nexmark::{Auction, Bid, Event, Person};

/// The category that `q3` asks for.
pub(super) const CATEGORY: u64 = 0;
/// The cities of the persons that `q3` asks for: those in Oregon, Idaho and California.
pub(super) const CITIES: [&str; 5] = ["Palo Alto", "San Mateo", "Boise", "Portland", "Bend"];
/// Milliseconds for which an auction is open. Bids for it come for some 17 ms, so that a part of them is too late.
pub(super) const OPEN_MS: i64 = 15;

/// What `q3` finds: who sells what where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Suggestion {
    pub(super) name: String,
    pub(super) city: String,
    pub(super) auction: u64,
}

/// What `q3` joins by the person: one stream of both, so that no event is copied for a second reader.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Local {
    Person { id: u64, name: String, city: String },
    Auction { seller: u64, id: u64 },
}

/// Auctions of a category by persons of some cities, as soon as both are known.
pub(crate) fn q3(events: &DataStream<Event>) -> DataStream<Suggestion> {
    let local = |event| match event {
        Event::Person(Person { id, name, city, .. }) if CITIES.contains(&&*city) => {
            Some(Local::Person { id, name, city })
        }
        Event::Auction(Auction {
            id,
            seller,
            category: CATEGORY,
            ..
        }) => Some(Local::Auction { seller, id }),
        Event::Person(_) | Event::Auction(_) | Event::Bid(_) => None,
    };
    events
        .flat_map(local)
        .name("local persons and auctions")
        .key_by(|local| match local {
            Local::Person { id, .. } => *id,
            Local::Auction { seller, .. } => *seller,
        })
        .process(|states: &mut States| {
            let person = states.value::<(String, String)>("person");
            let waiting = states.list::<u64>("waiting");
            move |local: Local, ctx: &mut KeyedContext<'_, u64, Suggestion>| {
                let found = |(name, city): &(String, String), auction| Suggestion {
                    name: name.clone(),
                    city: city.clone(),
                    auction,
                };
                match local {
                    Local::Person { name, city, .. } => {
                        let known = (name, city);
                        for auction in waiting.take(ctx) {
                            ctx.emit(found(&known, auction));
                        }
                        person.set(ctx, known);
                    }
                    Local::Auction { id, .. } => {
                        match person.get(ctx).map(|known| found(known, id)) {
                            Some(suggestion) => ctx.emit(suggestion),
                            None => waiting.push(ctx, id),
                        }
                    }
                }
                Ok(())
            }
        })
        .name("join")
}

/// What `q4` finds each time an auction closes: what has been paid in its category on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Average {
    pub(super) category: u64,
    /// Auctions of the category that have closed with a bid.
    pub(super) closed: u64,
    pub(super) price: u64,
}

/// What `q4` joins by the auction.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Trade {
    Auction { id: u64, category: u64, time: i64 },
    Bid { auction: u64, price: u64, time: i64 },
}

/// The average closing price of each category so far: of each auction the highest bid that came while it was open.
pub(crate) fn q4(events: &DataStream<Event>) -> DataStream<Average> {
    let trades = |event| match event {
        Event::Auction(Auction {
            id, category, time, ..
        }) => Some(Trade::Auction { id, category, time }),
        Event::Bid(Bid {
            auction,
            price,
            time,
            ..
        }) => Some(Trade::Bid {
            auction,
            price,
            time,
        }),
        Event::Person(_) => None,
    };
    let closing = |states: &mut States| Closing {
        sale: states.value("sale"),
    };
    events
        .flat_map(trades)
        .name("auctions and bids")
        .key_by(|trade| match trade {
            Trade::Auction { id, .. } => *id,
            Trade::Bid { auction, .. } => *auction,
        })
        .process(closing)
        .name("closing price")
        .key_by(|(category, _)| *category)
        .scan(
            || (0, 0),
            |(sum, closed): &mut (u64, u64), (category, price)| {
                *sum += price;
                *closed += 1;
                Average {
                    category,
                    closed: *closed,
                    price: *sum / *closed,
                }
            },
        )
        .name("average")
}

/// Hands on category and price of an auction that closes.
struct Closing {
    sale: ValueState<Sale>,
}

/// What is known of an auction.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Sale {
    /// Price and time of bids that came before the auction did: subtasks of the source are not in step.
    Early(Vec<(u64, i64)>),
    /// The auction is open until `closes`.
    Open {
        category: u64,
        closes: i64,
        highest: Option<u64>,
    },
}

impl KeyedProcessFunction<u64, Trade, (u64, u64)> for Closing {
    fn process(
        &mut self,
        trade: Trade,
        ctx: &mut KeyedContext<'_, u64, (u64, u64)>,
    ) -> FunctionResult {
        match trade {
            Trade::Auction { category, time, .. } => {
                let closes = time + OPEN_MS;
                let early = match self.sale.get(ctx) {
                    Some(Sale::Early(bids)) => &bids[..],
                    Some(Sale::Open { .. }) | None => &[],
                };
                let in_time = early.iter().filter(|(_, time)| *time <= closes);
                let open = Sale::Open {
                    category,
                    closes,
                    highest: in_time.map(|(price, _)| *price).max(),
                };
                self.sale.set(ctx, open);
                ctx.register_event_time_timer(EventTime::from_millis(closes));
            }
            Trade::Bid { price, time, .. } => {
                let passed = ctx.watermark().0.as_millis() >= time;
                match self.sale.get_mut(ctx) {
                    Some(Sale::Open {
                        closes, highest, ..
                    }) => {
                        if time <= *closes {
                            *highest = Some(price).max(*highest);
                        }
                    }
                    // Its timer is set already. Where this bid is in time, a higher one before it is too.
                    Some(Sale::Early(bids)) => {
                        if bids
                            .last()
                            .is_none_or(|last| price > last.0 || time < last.1)
                        {
                            bids.push((price, time));
                        }
                    }
                    // An auction that began before the bid would be here: it is over.
                    None if passed => {}
                    None => {
                        self.sale.set(ctx, Sale::Early(vec![(price, time)]));
                        ctx.register_event_time_timer(EventTime::from_millis(time));
                    }
                }
            }
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u64, (u64, u64)>,
    ) -> FunctionResult {
        let now = timer.time.as_millis();
        match self.sale.get_mut(ctx) {
            Some(Sale::Open {
                category,
                closes,
                highest,
            }) if *closes <= now => {
                let closed = highest.map(|price| (*category, price));
                self.sale.clear(ctx);
                if let Some(closed) = closed {
                    ctx.emit(closed);
                }
            }
            Some(Sale::Early(bids)) => {
                // The auctions of the others are over.
                bids.retain(|(_, time)| *time > now);
                match bids.first().copied() {
                    Some((_, next)) => {
                        ctx.register_event_time_timer(EventTime::from_millis(next));
                    }
                    None => self.sale.clear(ctx),
                }
            }
            Some(Sale::Open { .. }) | None => {}
        }
        Ok(())
    }
}
