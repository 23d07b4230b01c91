//! What a job comes to, computed from whole inputs as plainly as can be.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::{
    Assigner, FAR, Gather, Job, Meeting, Place, Route, Row, Running, StateKind, Step, Total,
    copies, digest, gap_of, in_order, kept, larger, mapped, paired, rekeyed, restamped,
};

/// A record and its event time.
pub(crate) type Timed = (Row, i64);

/// A job with more records than this anywhere is too large to be worth its time.
const MOST: usize = 4000;

/// All records that come out, in no order; none if it is too large.
pub(crate) fn evaluate(job: &Job) -> Option<Vec<Timed>> {
    let made = match job {
        Job::Source { events, .. } => events
            .iter()
            .map(|event| (event.row(), event.time()))
            .collect(),
        Job::Step { input, step, place } => one(*step, *place, evaluate(input)?),
        Job::Meet {
            first,
            second,
            meeting,
            place,
        } => {
            let first = evaluate(first)?;
            let second = match second {
                Some(second) => evaluate(second)?,
                None => first.clone(),
            };
            two(*meeting, *place, &first, &second)?
        }
    };
    (made.len() <= MOST).then_some(made)
}

fn repeated(rows: &[Timed], times: u32) -> Vec<Timed> {
    (0..times).flat_map(|_| rows.iter().cloned()).collect()
}

/// What comes to all subtasks together.
fn routed(place: Place, rows: Vec<Timed>) -> Vec<Timed> {
    if place.route == Route::Broadcast {
        repeated(&rows, place.parallelism)
    } else {
        rows
    }
}

fn one(step: Step, place: Place, rows: Vec<Timed>) -> Vec<Timed> {
    let each = |function: &dyn Fn(Row, i64) -> Vec<Timed>| -> Vec<Timed> {
        let rows = routed(place, rows.clone()).into_iter();
        rows.flat_map(|(row, time)| function(row, time)).collect()
    };
    match step {
        Step::Map(n) => each(&|row, time| vec![(mapped(n, row), time)]),
        Step::Rekey(n) => each(&|row, time| vec![(rekeyed(n, row), time)]),
        Step::Filter(n) => each(&|row, time| {
            let kept = kept(n, &row);
            if kept { vec![(row, time)] } else { Vec::new() }
        }),
        Step::FlatMap(n) => each(&|row, time| {
            let copies = copies(n, row).into_iter();
            copies.map(|row| (row, time)).collect()
        }),
        Step::Split(n) => each(&|row, time| {
            let kept = kept(n, &row);
            vec![(if kept { row } else { mapped(n, row) }, time)]
        }),
        Step::Stamp => each(&|row, time| vec![(Row::new(row.key, time), time)]),
        Step::Restamp => each(&|row, _| {
            let time = restamped(&row);
            vec![(row, time)]
        }),
        Step::Async { .. } => each(&|row, time| vec![(mapped(1, row), time)]),
        Step::Running(running) => by_key(&rows)
            .into_iter()
            .flat_map(|(key, rows)| {
                let values = || rows.iter().map(|(row, _)| row.value);
                let last = match running {
                    Running::Reduce => values().max().unwrap_or(0),
                    Running::Aggregate => values().sum(),
                    Running::Scan => rows.len() as i64,
                };
                let said = Row::new(key.clone(), rows.len() as i64);
                [(Row::new(key, last), FAR), (said, FAR)]
            })
            .collect(),
        Step::Timers { state, every } => by_key(&rows)
            .into_iter()
            .flat_map(|(key, rows)| timers(state, every, &key, &rows))
            .collect(),
        Step::Window {
            windows, gather, ..
        } => by_key(&rows)
            .into_iter()
            .flat_map(|(key, rows)| {
                let windows = windows_of(windows, &rows).into_iter();
                let fired = windows
                    .map(|(start, end, rows)| (gathered(gather, &key, start, rows), end - 1));
                fired.collect::<Vec<_>>()
            })
            .collect(),
        Step::WindowAll { windows, gather } => windows_of(windows, &rows)
            .into_iter()
            .map(|(start, end, rows)| (gathered(gather, "all", start, rows), end - 1))
            .collect(),
        Step::Total(total) => by_key(&rows)
            .into_iter()
            .filter_map(|(key, rows)| {
                let counted = counted(total, &rows)?;
                Some((Row::new(key, counted), FAR))
            })
            .collect(),
    }
}

fn by_key(rows: &[Timed]) -> BTreeMap<String, Vec<Timed>> {
    let mut keys: BTreeMap<String, Vec<Timed>> = BTreeMap::new();
    for (row, time) in rows {
        let of = keys.entry(row.key.clone()).or_default();
        of.push((row.clone(), *time));
    }
    keys
}

/// The windows that hold records of one key: start, end, records.
fn windows_of(windows: Assigner, rows: &[Timed]) -> Vec<(i64, i64, Vec<Row>)> {
    let mut found: BTreeMap<(i64, i64), Vec<Row>> = BTreeMap::new();
    let sessions = |gap: &dyn Fn(&Row) -> i64| {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|(_, time)| *time);
        let mut sessions: Vec<(i64, i64, Vec<Row>)> = Vec::new();
        for (row, time) in rows {
            let end = time + gap(&row);
            match sessions.last_mut() {
                Some(last) if time <= last.1 => {
                    last.1 = last.1.max(end);
                    last.2.push(row);
                }
                Some(_) | None => sessions.push((time, end, vec![row])),
            }
        }
        sessions
    };
    let (size, slide, offset) = match windows {
        Assigner::Tumbling { size, offset } => (size, size, offset),
        Assigner::Sliding {
            size,
            slide,
            offset,
        } => (size, slide, offset),
        Assigner::Session { gap } => return sessions(&|_| gap),
        Assigner::SessionOf { least } => return sessions(&|row| gap_of(least, row.value)),
    };
    for (row, time) in rows {
        // Each start that is a multiple of the slide behind the offset, and early enough to hold the record.
        let first = (time - size - offset).div_euclid(slide);
        for n in first..=first + size / slide + 2 {
            let start = n * slide + offset;
            if (start..start + size).contains(time) {
                let held = found.entry((start, start + size)).or_default();
                held.push(row.clone());
            }
        }
    }
    found
        .into_iter()
        .map(|((start, end), rows)| (start, end, rows))
        .collect()
}

fn gathered(gather: Gather, key: &str, start: i64, rows: Vec<Row>) -> Row {
    let sum: i64 = rows.iter().map(|row| row.value).sum();
    let count = rows.len() as i64;
    match gather {
        Gather::Reduce => rows
            .into_iter()
            .reduce(larger)
            .expect("a window holds records"),
        Gather::Aggregate => Row::new("of a window", sum * 7 + count),
        Gather::AggregateWith | Gather::AggregateProcess => Row::new(key, start + sum * 7 + count),
        Gather::Process => Row::new(key, start + digest(rows.iter().map(|row| row.value))),
    }
}

/// What a function says that sets a timer at the next multiple after each record, and there says what it has of the time up to then.
fn timers(state: StateKind, every: i64, key: &str, rows: &[Timed]) -> Vec<Timed> {
    let due = |time: i64| (time.div_euclid(every) + 1) * every;
    let timers: BTreeSet<i64> = rows.iter().map(|(_, time)| due(*time)).collect();
    let values = |of: &dyn Fn(i64) -> bool| {
        let of = rows.iter().filter(|(_, time)| of(*time));
        of.map(|(row, _)| row.value).collect::<Vec<_>>()
    };
    match state {
        StateKind::Map | StateKind::List => timers
            .into_iter()
            .map(|at| (Row::new(key, digest(values(&|time| due(time) == at))), at))
            .collect(),
        StateKind::Value => vec![(Row::new(key, rows.len() as i64), FAR)],
        StateKind::Reducing => {
            let largest = values(&|_| true).into_iter().max();
            vec![(Row::new(key, largest.unwrap_or(0)), FAR)]
        }
        StateKind::Aggregating => {
            let sum = values(&|_| true).into_iter().sum::<i64>();
            vec![(Row::new(key, sum * 7 + rows.len() as i64), FAR)]
        }
    }
}

/// How many records are in the firings together; none if there is no firing.
fn counted(total: Total, rows: &[Timed]) -> Option<i64> {
    let all = rows.len() as i64;
    let counted = match total {
        Total::ProcessingTumbling { .. }
        | Total::ProcessingSession { .. }
        | Total::Continuous { .. } => all,
        Total::ProcessingSliding { times, .. } => all * times,
        Total::GlobalCount { records } => all - all % records as i64,
        Total::TumblingCount { size, records } => {
            let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
            for (_, time) in rows {
                *counts.entry(time.div_euclid(size)).or_default() += 1;
            }
            let fired = counts.values().map(|count| count - count % records as i64);
            fired.sum()
        }
        Total::GlobalNever => 0,
    };
    (counted > 0).then_some(counted)
}

fn two(meeting: Meeting, place: Place, first: &[Timed], second: &[Timed]) -> Option<Vec<Timed>> {
    let values = |rows: Option<&Vec<Timed>>| {
        let rows = rows.into_iter().flatten();
        rows.map(|(row, _)| row.value).collect::<Vec<_>>()
    };
    let pairs = |belong: &dyn Fn(&Timed, &Timed) -> bool| {
        let of = |a| {
            second
                .iter()
                .filter(move |b| belong(a, b))
                .map(move |b| (a, b))
        };
        first.iter().flat_map(of).collect::<Vec<_>>()
    };
    let both = |name_first: &dyn Fn(&Row) -> Vec<Row>, name_second: &dyn Fn(&Row) -> Vec<Row>| {
        let first = routed(place, first.to_vec());
        let first = first.iter().flat_map(|(row, time)| {
            let made = name_first(row).into_iter();
            made.map(|row| (row, *time)).collect::<Vec<_>>()
        });
        let second = second.iter().flat_map(|(row, time)| {
            let made = name_second(row).into_iter();
            made.map(|row| (row, *time)).collect::<Vec<_>>()
        });
        first.chain(second).collect::<Vec<_>>()
    };
    let (mine, others) = (by_key(first), by_key(second));
    let keys: BTreeSet<&String> = mine.keys().chain(others.keys()).collect();
    Some(match meeting {
        Meeting::Union => first.iter().chain(second).cloned().collect(),
        Meeting::CoMap | Meeting::CoProcess => both(&|row| vec![mapped(1, row.clone())], &|row| {
            vec![mapped(2, row.clone())]
        }),
        Meeting::CoFlatMap => both(&|row| copies(3, row.clone()), &|row| copies(4, row.clone())),
        Meeting::KeyedCoProcess => keys
            .into_iter()
            .map(|key| {
                let sides = [
                    digest(values(mine.get(key))),
                    digest(values(others.get(key))),
                ];
                (Row::new(key.clone(), in_order(sides)), FAR)
            })
            .collect(),
        Meeting::Join(windows) | Meeting::CoGroup(windows) => {
            let mut made = Vec::new();
            for key in keys {
                // Where a row comes from stands in front of its key; gaps look at the value alone.
                let tag = |rows: Option<&Vec<Timed>>, tag: &str| {
                    let rows = rows.into_iter().flatten();
                    let tagged = |(row, time): &Timed| {
                        let key = tag.to_owned();
                        (
                            Row {
                                key,
                                value: row.value,
                            },
                            *time,
                        )
                    };
                    rows.map(tagged).collect::<Vec<_>>()
                };
                let mut all = tag(mine.get(key), "first");
                all.extend(tag(others.get(key), "second"));
                for (start, end, rows) in windows_of(windows, &all) {
                    let of = |side: &str| {
                        let of = rows.iter().filter(|row| row.key == side);
                        of.map(|row| Row::new(key.clone(), row.value))
                            .collect::<Vec<_>>()
                    };
                    let (first, second) = (of("first"), of("second"));
                    if let Meeting::CoGroup(_) = meeting {
                        let sides =
                            [first, second].map(|rows| digest(rows.iter().map(|row| row.value)));
                        made.push((Row::new(key.clone(), start + in_order(sides)), end - 1));
                        continue;
                    }
                    for a in &first {
                        made.extend(second.iter().map(|b| (paired(a, b), end - 1)));
                    }
                    if made.len() > MOST {
                        return None;
                    }
                }
            }
            made
        }
        Meeting::Interval {
            lower,
            upper,
            exclusive,
        } => {
            let within = |distance: i64| {
                if exclusive {
                    lower < distance && distance < upper
                } else {
                    lower <= distance && distance <= upper
                }
            };
            let pairs = pairs(&|a, b| a.0.key == b.0.key && within(b.1 - a.1));
            let pairs = pairs.into_iter();
            pairs
                .map(|(a, b)| (paired(&a.0, &b.0), a.1.max(b.1)))
                .collect()
        }
        // Each subtask says each rule once.
        Meeting::Broadcast => {
            let mut made = both(&|row| vec![mapped(1, row.clone())], &|_| Vec::new());
            let rules = second
                .iter()
                .map(|(row, time)| (mapped(2, row.clone()), *time));
            made.extend(repeated(&rules.collect::<Vec<_>>(), place.parallelism));
            made
        }
        // The largest value of each key is its rule; all rules are there at the end.
        Meeting::KeyedBroadcast => {
            let largest = |rows: &Vec<Timed>| values(Some(rows)).into_iter().max().unwrap_or(0);
            let rules = in_order(others.values().map(largest));
            let said = |(key, rows): (&String, &Vec<Timed>)| {
                (
                    Row::new(key.clone(), rules + digest(values(Some(rows)))),
                    FAR,
                )
            };
            mine.iter().map(said).collect()
        }
    })
}
