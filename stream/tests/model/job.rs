//! What a random job is: a tree of steps over one type of record, and the functions that both sides call.
//!
//! All of a job's answers are determined, though its records race each other through threads:
//!
//! - No record is late: a watermark follows from a bound that the collection keeps (late records are the matter of `ordered.rs`).
//! - Event times are even, and sessions last an odd number of milliseconds. So no record comes at the very end of a session, where it
//!   would depend on the progress of the watermark whether it still finds the session to grow it.
//! - What a running aggregate has said in between depends on the order of arrival: only what it says at last, and how often, goes on.
//! - What windows hold is compared as a set.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The event time of what is said at the end of input; even.
pub(crate) const FAR: i64 = 1_000_000;

/// What flows. It owns memory, so that exchanges cannot copy it flat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) value: i64,
}

impl Row {
    pub(crate) fn new(key: impl Into<String>, value: i64) -> Self {
        Self {
            key: key.into(),
            value: value.rem_euclid(9973),
        }
    }
}

/// What a source has. Its event time is `base + jitter`; `base` never falls, so no later record is earlier than it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: u8,
    pub(crate) value: i64,
    pub(crate) base: i64,
    pub(crate) jitter: i64,
}

impl Event {
    pub(crate) fn row(&self) -> Row {
        Row::new(format!("key {}", self.key), self.value)
    }

    pub(crate) fn time(&self) -> i64 {
        self.base + self.jitter
    }
}

/// No event of a collection is this much earlier than one before it.
pub(crate) const DISORDER: i64 = 60;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Watermarks {
    /// From the highest event time of each subtask.
    Bounded,
    /// From some of the records, between records.
    PerRecord,
    /// By a generator of the program's own.
    Custom,
}

/// How records come to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Route {
    Forward,
    Rebalance,
    Rescale,
    Shuffle,
    Broadcast,
    Global,
    Custom,
}

/// Where an operator runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Not looked at by what has a key.
    pub(crate) route: Route,
    pub(crate) parallelism: u32,
    pub(crate) chaining: Chaining,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Chaining {
    Default,
    Head,
    Never,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Job {
    Source {
        events: Vec<Event>,
        subtasks: u32,
        watermarks: Watermarks,
    },
    Step {
        input: Box<Self>,
        step: Step,
        place: Place,
    },
    Meet {
        first: Box<Self>,
        /// None: the first, read twice.
        second: Option<Box<Self>>,
        meeting: Meeting,
        place: Place,
    },
}

/// An operator with one input.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Step {
    Map(i64),
    /// Another key, from the value.
    Rekey(i64),
    Filter(i64),
    FlatMap(i64),
    /// A part to the side, and back.
    Split(i64),
    /// The event time into the value.
    Stamp,
    /// Another event time from the value, and watermarks anew.
    Restamp,
    Async {
        ordered: bool,
        capacity: usize,
    },
    Running(Running),
    /// A keyed process function with a kind of state, and timers at each multiple of this.
    Timers {
        state: StateKind,
        every: i64,
    },
    Window {
        windows: Assigner,
        gather: Gather,
        /// Nothing is late, but another operator does it.
        lateness: i64,
    },
    WindowAll {
        windows: Assigner,
        gather: Gather,
    },
    Total(Total),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Running {
    Reduce,
    Aggregate,
    Scan,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum StateKind {
    Value,
    List,
    Map,
    Reducing,
    Aggregating,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Gather {
    Reduce,
    Aggregate,
    AggregateWith,
    AggregateProcess,
    Process,
}

/// Windows of event time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Assigner {
    Tumbling {
        size: i64,
        offset: i64,
    },
    Sliding {
        size: i64,
        slide: i64,
        offset: i64,
    },
    Session {
        gap: i64,
    },
    /// A gap from this on, by the record.
    SessionOf {
        least: i64,
    },
}

/// The gap of a record that says its own.
pub(crate) fn gap_of(least: i64, value: i64) -> i64 {
    least + value % 20 * 2
}

/// Windows of which each record is in a known number of firings, though not known in which.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Total {
    ProcessingTumbling {
        size: i64,
    },
    /// The size is a multiple of the slide.
    ProcessingSliding {
        times: i64,
        slide: i64,
    },
    ProcessingSession {
        gap: i64,
    },
    /// Purged at each so many records.
    GlobalCount {
        records: u64,
    },
    TumblingCount {
        size: i64,
        records: u64,
    },
    /// Purged at each multiple, and at the end.
    Continuous {
        size: i64,
        every: i64,
    },
    GlobalNever,
}

/// An operator with two inputs, or a union.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Meeting {
    Union,
    CoMap,
    CoFlatMap,
    CoProcess,
    KeyedCoProcess,
    Join(Assigner),
    CoGroup(Assigner),
    Interval {
        lower: i64,
        upper: i64,
        exclusive: bool,
    },
    Broadcast,
    KeyedBroadcast,
}

pub(crate) fn mapped(n: i64, row: Row) -> Row {
    Row::new(row.key, row.value * 31 + n)
}

pub(crate) fn rekeyed(n: i64, row: Row) -> Row {
    Row::new(format!("key {}", row.value % n), row.value)
}

pub(crate) fn kept(n: i64, row: &Row) -> bool {
    row.value % n != 0
}

pub(crate) fn copies(n: i64, row: Row) -> Vec<Row> {
    let count = row.value % n;
    let copy = |at| Row::new(row.key.clone(), row.value + at);
    (0..count).map(copy).collect()
}

/// Even.
pub(crate) fn restamped(row: &Row) -> i64 {
    row.value % 700 * 2
}

/// The larger value, under the smaller key: any order comes to the same.
pub(crate) fn larger(a: Row, b: Row) -> Row {
    Row {
        key: a.key.min(b.key),
        value: a.value.max(b.value),
    }
}

/// A number of values in any order.
pub(crate) fn digest(values: impl IntoIterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.into_iter().collect();
    values.sort_unstable();
    in_order(values)
}

/// A number of values in this order.
pub(crate) fn in_order(values: impl IntoIterator<Item = i64>) -> i64 {
    let step = |sum: i64, value: i64| (sum * 31 + value + 7).rem_euclid(999_983);
    values.into_iter().fold(1, step)
}

pub(crate) fn paired(a: &Row, b: &Row) -> Row {
    Row::new(a.key.clone(), a.value * 17 + b.value)
}

impl Job {
    /// The same job at another parallelism, wherever its answer does not depend on that.
    pub(crate) fn rescaled(&self, by: u32) -> Self {
        let other = |parallelism: u32| (parallelism - 1 + by) % 4 + 1;
        let placed = |place: &Place| match place.route {
            // All subtasks get all.
            Route::Broadcast => *place,
            Route::Forward
            | Route::Rebalance
            | Route::Rescale
            | Route::Shuffle
            | Route::Global
            | Route::Custom => Place {
                parallelism: other(place.parallelism),
                ..*place
            },
        };
        match self {
            Self::Source {
                events,
                subtasks,
                watermarks,
            } => Self::Source {
                events: events.clone(),
                subtasks: other(*subtasks),
                watermarks: *watermarks,
            },
            Self::Step { input, step, place } => Self::Step {
                input: Box::new(input.rescaled(by)),
                step: *step,
                place: placed(place),
            },
            Self::Meet {
                first,
                second,
                meeting,
                place,
            } => Self::Meet {
                first: Box::new(first.rescaled(by)),
                second: second.as_ref().map(|it| Box::new(it.rescaled(by))),
                meeting: *meeting,
                place: if matches!(meeting, Meeting::Broadcast) {
                    *place
                } else {
                    placed(place)
                },
            },
        }
    }
}

fn assigner() -> impl Strategy<Value = Assigner> {
    let offset = || (0_i64..40).prop_map(|n| n * 2 + 1);
    prop_oneof![
        (1_i64..100, offset()).prop_map(|(size, offset)| Assigner::Tumbling {
            size: size * 2,
            offset
        }),
        (2_i64..60, 4_i64..60, offset()).prop_map(|(size, slide, offset)| Assigner::Sliding {
            size: size * 2,
            slide: slide * 2,
            offset
        }),
        (0_i64..40).prop_map(|gap| Assigner::Session { gap: gap * 2 + 1 }),
        (0_i64..20).prop_map(|least| Assigner::SessionOf {
            least: least * 2 + 1
        }),
    ]
}

fn gather() -> impl Strategy<Value = Gather> {
    prop::sample::select(vec![
        Gather::Reduce,
        Gather::Aggregate,
        Gather::AggregateWith,
        Gather::AggregateProcess,
        Gather::Process,
    ])
}

fn total() -> impl Strategy<Value = Total> {
    prop_oneof![
        (1_i64..9).prop_map(|size| Total::ProcessingTumbling { size }),
        (1_i64..5, 1_i64..9).prop_map(|(times, slide)| Total::ProcessingSliding { times, slide }),
        (1_i64..9).prop_map(|gap| Total::ProcessingSession { gap }),
        (1_u64..9).prop_map(|records| Total::GlobalCount { records }),
        (1_i64..200, 1_u64..5).prop_map(|(size, records)| Total::TumblingCount { size, records }),
        (1_i64..200, 1_i64..90).prop_map(|(size, every)| Total::Continuous { size, every }),
        Just(Total::GlobalNever),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let running = prop::sample::select(vec![Running::Reduce, Running::Aggregate, Running::Scan]);
    let state = prop::sample::select(vec![
        StateKind::Value,
        StateKind::List,
        StateKind::Map,
        StateKind::Reducing,
        StateKind::Aggregating,
    ]);
    prop_oneof![
        2 => (0_i64..99).prop_map(Step::Map),
        2 => (1_i64..20).prop_map(Step::Rekey),
        2 => (1_i64..9).prop_map(Step::Filter),
        2 => (1_i64..5).prop_map(Step::FlatMap),
        2 => (1_i64..5).prop_map(Step::Split),
        1 => Just(Step::Stamp),
        1 => Just(Step::Restamp),
        2 => (any::<bool>(), 1_usize..20)
            .prop_map(|(ordered, capacity)| Step::Async { ordered, capacity }),
        2 => running.prop_map(Step::Running),
        4 => (state, 1_i64..60).prop_map(|(state, n)| Step::Timers { state, every: n * 2 }),
        6 => (assigner(), gather(), prop_oneof![Just(0_i64), 1_i64..50])
            .prop_map(|(windows, gather, lateness)| Step::Window { windows, gather, lateness }),
        2 => (assigner(), gather())
            .prop_map(|(windows, gather)| Step::WindowAll { windows, gather }),
        3 => total().prop_map(Step::Total),
    ]
}

fn meeting() -> impl Strategy<Value = Meeting> {
    prop_oneof![
        Just(Meeting::Union),
        Just(Meeting::CoMap),
        Just(Meeting::CoFlatMap),
        Just(Meeting::CoProcess),
        Just(Meeting::KeyedCoProcess),
        assigner().prop_map(Meeting::Join),
        assigner().prop_map(Meeting::CoGroup),
        (-60_i64..60, 2_i64..60, any::<bool>()).prop_map(|(lower, length, exclusive)| {
            Meeting::Interval {
                lower,
                upper: lower + length,
                exclusive,
            }
        }),
        Just(Meeting::Broadcast),
        Just(Meeting::KeyedBroadcast),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    let route = prop::sample::select(vec![
        Route::Forward,
        Route::Rebalance,
        Route::Rescale,
        Route::Shuffle,
        Route::Broadcast,
        Route::Global,
        Route::Custom,
    ]);
    let chaining = prop_oneof![
        6 => Just(Chaining::Default), 1 => Just(Chaining::Head), 1 => Just(Chaining::Never),
    ];
    (route, 1_u32..5, chaining).prop_map(|(route, parallelism, chaining)| Place {
        route,
        parallelism,
        chaining,
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0_u8..9, 0_i64..9973, 0_i64..8, 0_i64..DISORDER / 2);
    // Most collections are one batch; some are several.
    let count = prop_oneof![8 => 0_usize..60, 1 => 600_usize..1500];
    let start = (-200_i64..200).prop_map(|start| start * 2);
    (
        start,
        count.prop_flat_map(move |count| prop::collection::vec(event.clone(), count)),
    )
        .prop_map(|(mut base, events)| {
            let event = |(key, value, step, jitter): (u8, i64, i64, i64)| {
                base += step * 2;
                let jitter = jitter * 2;
                Event {
                    key,
                    value,
                    base,
                    jitter,
                }
            };
            events.into_iter().map(event).collect()
        })
}

pub(crate) fn job() -> impl Strategy<Value = Job> {
    let watermarks = prop::sample::select(vec![
        Watermarks::Bounded,
        Watermarks::PerRecord,
        Watermarks::Custom,
    ]);
    let source =
        (events(), 1_u32..5, watermarks).prop_map(|(events, subtasks, watermarks)| Job::Source {
            events,
            subtasks,
            watermarks,
        });
    source.prop_recursive(8, 32, 2, |inner| {
        let inner = inner.prop_map(Box::new);
        prop_oneof![
            3 => (inner.clone(), step(), place())
                .prop_map(|(input, step, place)| Job::Step { input, step, place }),
            2 => (inner.clone(), prop::option::weighted(0.8, inner), meeting(), place())
                .prop_map(|(first, second, meeting, place)| Job::Meet { first, second, meeting, place }),
        ]
    })
}
