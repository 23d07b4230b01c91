//! The same job in the API.

use std::time::Duration;

use spindle_stream::{
    AggregateFunction, AsyncOptions, BroadcastContext, ContinuousEventTimeTrigger, Count,
    CountTrigger, DataStream, Either, EventTime, Fold, FunctionResult, Global, Key, KeyedStream,
    NeverTrigger, OperatorStates, OutputTag, ProcessContext, PurgingTrigger, Record, Session,
    Sliding, StreamEnvironment, Trigger, Tumbling, Watermark, WatermarkGenerator,
    WatermarkStrategy, WindowedStream, Windows,
};

use crate::functions::{AtTheEnd, Rules, Sides, Timers};
use crate::job::{
    Assigner, Chaining, DISORDER, Event, Gather, Job, Meeting, Place, Route, Row, Running, Step,
    Total, Watermarks, copies, digest, gap_of, in_order, kept, larger, mapped, paired, rekeyed,
    restamped,
};
use crate::paced::Paced;

pub(crate) fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

/// The job's stream, each record with its event time.
pub(crate) fn build_with_times(env: &StreamEnvironment, job: &Job) -> DataStream<(Row, i64)> {
    build(env, job).process(|_: &mut OperatorStates| {
        |row: Row, ctx: &mut ProcessContext<'_, (Row, i64)>| {
            let time = ctx.timestamp().ok_or("a record lost its event time")?;
            ctx.emit((row, time.0));
            Ok(())
        }
    })
}

fn build(env: &StreamEnvironment, job: &Job) -> DataStream<Row> {
    match job {
        Job::Source {
            events,
            subtasks,
            watermarks,
        } => env
            .source("Paced", Paced::new(events.clone()))
            .set_parallelism(*subtasks)
            .assign_timestamps(strategy(*watermarks), |event| EventTime(event.time()))
            .set_parallelism(*subtasks)
            .map(|event| event.row())
            .set_parallelism(*subtasks),
        Job::Step { input, step, place } => one(&build(env, input), *step, *place),
        Job::Meet {
            first,
            second,
            meeting,
            place,
        } => {
            let first = build(env, first);
            let second = match second {
                Some(second) => build(env, second),
                None => first.clone(),
            };
            two(&first, &second, *meeting, *place)
        }
    }
}

/// Follows what all records from now on keep to.
struct Follows;

impl WatermarkGenerator<Event> for Follows {
    fn on_event(&mut self, event: &Event, _: EventTime) -> Option<Watermark> {
        (event.value % 3 == 0).then_some(Watermark(EventTime(event.base - 1)))
    }
}

fn strategy(watermarks: Watermarks) -> WatermarkStrategy<Event> {
    match watermarks {
        Watermarks::Bounded => WatermarkStrategy::bounded_out_of_orderness(millis(DISORDER)),
        Watermarks::PerRecord => WatermarkStrategy::per_record(|event: &Event, _| {
            (event.value % 5 != 0).then_some(Watermark(EventTime(event.base - 1)))
        }),
        Watermarks::Custom => WatermarkStrategy::custom(|| Follows),
    }
}

fn routed(stream: &DataStream<Row>, route: Route) -> DataStream<Row> {
    match route {
        Route::Forward => stream.clone(),
        Route::Rebalance => stream.rebalance(),
        Route::Rescale => stream.rescale(),
        Route::Shuffle => stream.shuffle(),
        Route::Broadcast => stream.broadcast(),
        Route::Global => stream.global(),
        Route::Custom => stream.partition_custom(|row, subtasks| row.value as usize % subtasks),
    }
}

fn placed<T: Record>(stream: DataStream<T>, place: Place) -> DataStream<T> {
    let stream = stream.set_parallelism(place.parallelism);
    match place.chaining {
        Chaining::Default => stream,
        Chaining::Head => stream.start_new_chain(),
        Chaining::Never => stream.disable_chaining(),
    }
}

fn keyed(stream: &DataStream<Row>) -> KeyedStream<String, Row> {
    stream.key_by_ref(|row| &row.key)
}

/// The sum and the number of the values.
pub(crate) struct Sums;

impl AggregateFunction<Row> for Sums {
    type Accumulator = (i64, i64);
    type Output = i64;

    fn create(&self) -> (i64, i64) {
        (0, 0)
    }

    fn add(&self, (sum, count): &mut (i64, i64), row: &Row) {
        *sum += row.value;
        *count += 1;
    }

    fn merge(&self, (sum, count): &mut (i64, i64), more: &(i64, i64)) {
        *sum += more.0;
        *count += more.1;
    }

    fn result(&self, (sum, count): &(i64, i64)) -> i64 {
        sum * 7 + count
    }
}

fn one(input: &DataStream<Row>, step: Step, place: Place) -> DataStream<Row> {
    let stream = routed(input, place.route);
    let made = match step {
        Step::Map(n) => stream.map(move |row| mapped(n, row)),
        Step::Rekey(n) => stream.map(move |row| rekeyed(n, row)),
        Step::Filter(n) => stream.filter(move |row| kept(n, row)),
        Step::FlatMap(n) => stream.flat_map(move |row| copies(n, row)),
        Step::Split(n) => return split(&stream, n, place),
        Step::Stamp => stream.process(|_: &mut OperatorStates| {
            |row: Row, ctx: &mut ProcessContext<'_, Row>| {
                let time = ctx.timestamp().ok_or("a record lost its event time")?;
                ctx.emit(Row::new(row.key, time.0));
                Ok(())
            }
        }),
        Step::Restamp => {
            // The watermark stays behind all until the end, so none is late.
            let strategy = WatermarkStrategy::bounded_out_of_orderness(millis(1 << 40));
            stream.assign_timestamps(strategy, |row| EventTime(restamped(row)))
        }
        Step::Async { ordered, capacity } => {
            let options = if ordered {
                AsyncOptions::ordered()
            } else {
                AsyncOptions::unordered()
            };
            stream.map_async(options.capacity(capacity), |row: Row| async move {
                // Answers overtake each other.
                for _ in 0..row.value % 7 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, std::convert::Infallible>(mapped(1, row))
            })
        }
        Step::Running(running) => return run(&keyed(input), running, place),
        Step::Timers { state, every } => {
            keyed(input).process(move |states| Timers::new(states, state, every))
        }
        Step::Window {
            windows,
            gather,
            lateness,
        } => {
            let windowed = keyed(input).window(windows_of(windows, |row: &Row| row.value));
            gathered(
                &windowed.allowed_lateness(millis(lateness)),
                gather,
                Clone::clone,
            )
        }
        // One subtask, whatever the place says.
        Step::WindowAll { windows, gather } => {
            let windowed = input.window_all(windows_of(windows, |row: &Row| row.value));
            return gathered(&windowed, gather, |()| "all".to_owned());
        }
        Step::Total(total) => {
            return at_the_end(&counted(&keyed(input), total, place), AtTheEnd::sum, place);
        }
    };
    placed(made, place)
}

fn split(stream: &DataStream<Row>, n: i64, place: Place) -> DataStream<Row> {
    let tag = OutputTag::<Row>::new("rest");
    let rest = tag.clone();
    let main = stream.process(move |_: &mut OperatorStates| {
        let rest = rest.clone();
        move |row: Row, ctx: &mut ProcessContext<'_, Row>| {
            if kept(n, &row) {
                ctx.emit(row);
            } else {
                ctx.output(&rest, row);
            }
            Ok(())
        }
    });
    let main = placed(main, place);
    let rest = main.side_output(&tag).map(move |row| mapped(n, row));
    main.union(&[&rest.set_parallelism(place.parallelism)])
}

/// What is said at last of each key, and how often something was said.
fn run(keyed: &KeyedStream<String, Row>, running: Running, place: Place) -> DataStream<Row> {
    let said = match running {
        Running::Reduce => keyed.reduce(larger),
        // What comes of an aggregate does not know its key.
        Running::Aggregate => keyed
            .aggregate(Fold::new(
                || (String::new(), 0_i64),
                |(key, sum): &mut (String, i64), row: &Row| {
                    key.clone_from(&row.key);
                    *sum += row.value;
                },
                |(_, sum): &mut (String, i64), more: &(String, i64)| *sum += more.1,
                |(key, sum): &(String, i64)| (key.clone(), *sum),
            ))
            .map(|(key, value)| Row { key, value }),
        Running::Scan => keyed.scan(
            || 0_i64,
            |count, row| {
                *count += 1;
                Row {
                    key: row.key,
                    value: *count,
                }
            },
        ),
    };
    at_the_end(&placed(said, place), AtTheEnd::last, place)
}

fn at_the_end(
    said: &DataStream<Row>,
    of: fn(&mut spindle_stream::States) -> AtTheEnd,
    place: Place,
) -> DataStream<Row> {
    placed(keyed(said).process(of), place)
}

pub(crate) fn windows_of<T: 'static>(
    windows: Assigner,
    value_of: impl Fn(&T) -> i64 + Send + Sync + 'static,
) -> Windows<T> {
    match windows {
        Assigner::Tumbling { size, offset } => {
            Tumbling::of(millis(size)).offset(millis(offset)).into()
        }
        Assigner::Sliding {
            size,
            slide,
            offset,
        } => Sliding::of(millis(size), millis(slide))
            .offset(millis(offset))
            .into(),
        Assigner::Session { gap } => Session::with_gap(millis(gap)).into(),
        Assigner::SessionOf { least } => {
            Session::with_gap_of(move |record| millis(gap_of(least, value_of(record)))).into()
        }
    }
}

fn gathered<K: Key, Tr: Trigger<Row>>(
    windowed: &WindowedStream<K, Row, Tr>,
    gather: Gather,
    name: fn(&K) -> String,
) -> DataStream<Row> {
    match gather {
        Gather::Reduce => windowed.reduce(larger),
        Gather::Aggregate => windowed
            .aggregate(Sums)
            .map(|sum| Row::new("of a window", sum)),
        Gather::AggregateWith => windowed.aggregate_with(Sums, move |key: &K, window, sum| {
            Row::new(name(key), window.start.0 + sum)
        }),
        Gather::AggregateProcess => windowed.aggregate_process(Sums, move |context, sum, out| {
            let start = context.window.start.0;
            out.emit(Row::new(name(context.key), start + sum));
        }),
        Gather::Process => windowed.process(move |key, window, rows, out| {
            let values = digest(rows.iter().map(|row| row.value));
            out.emit(Row::new(name(key), window.start.0 + values));
        }),
    }
}

fn counted(keyed: &KeyedStream<String, Row>, total: Total, place: Place) -> DataStream<Row> {
    fn counts<Tr: Trigger<Row>>(
        windowed: &WindowedStream<String, Row, Tr>,
        place: Place,
    ) -> DataStream<Row> {
        let row = |key: &String, _, count| Row::new(key.clone(), count as i64);
        placed(windowed.aggregate_with(Count, row), place)
    }
    match total {
        Total::ProcessingTumbling { size } => {
            let windows = Tumbling::of(millis(size)).on_processing_time();
            counts(&keyed.window(windows), place)
        }
        Total::ProcessingSliding { times, slide } => {
            let windows = Sliding::of(millis(times * slide), millis(slide)).on_processing_time();
            counts(&keyed.window(windows), place)
        }
        Total::ProcessingSession { gap } => {
            let windows = Session::with_gap(millis(gap)).on_processing_time();
            counts(&keyed.window(windows), place)
        }
        Total::GlobalCount { records } => {
            let trigger = PurgingTrigger::of(CountTrigger::of(records));
            counts(&keyed.window(Global).trigger(trigger), place)
        }
        Total::TumblingCount { size, records } => {
            let trigger = PurgingTrigger::of(CountTrigger::of(records));
            counts(
                &keyed.window(Tumbling::of(millis(size))).trigger(trigger),
                place,
            )
        }
        Total::Continuous { size, every } => {
            let trigger = PurgingTrigger::of(ContinuousEventTimeTrigger::of(millis(every)));
            counts(
                &keyed.window(Tumbling::of(millis(size))).trigger(trigger),
                place,
            )
        }
        Total::GlobalNever => counts(&keyed.window(Global).trigger(NeverTrigger), place),
    }
}

fn two(
    first: &DataStream<Row>,
    second: &DataStream<Row>,
    meeting: Meeting,
    place: Place,
) -> DataStream<Row> {
    let routed = routed(first, place.route);
    let both = routed.connect(second);
    let joined = |windows| {
        let joined = first.join(second).on(|a| a.key.clone(), |b| b.key.clone());
        joined.window(windows_of(windows, |row: &Either<Row, Row>| match row {
            Either::First(row) | Either::Second(row) => row.value,
        }))
    };
    let made = match meeting {
        Meeting::Union => return first.union(&[second]),
        Meeting::CoMap => both.map(|row| mapped(1, row), |row| mapped(2, row)),
        Meeting::CoFlatMap => both.flat_map(|row| copies(3, row), |row| copies(4, row)),
        Meeting::CoProcess => both.process(|_: &mut OperatorStates| {
            let emit = |n: i64| {
                move |row: Row, ctx: &mut ProcessContext<'_, Row>| -> FunctionResult {
                    ctx.emit(mapped(n, row));
                    Ok(())
                }
            };
            (emit(1), emit(2))
        }),
        Meeting::KeyedCoProcess => keyed(first).connect(&keyed(second)).process(Sides::new),
        Meeting::Join(windows) => joined(windows).apply(paired),
        Meeting::CoGroup(windows) => joined(windows).co_group(|key, window, first, second, out| {
            let sides = [first, second].map(|rows| digest(rows.iter().map(|row| row.value)));
            out.emit(Row::new(key.clone(), window.start.0 + in_order(sides)));
        }),
        Meeting::Interval {
            lower,
            upper,
            exclusive,
        } => {
            let mut joined = keyed(first)
                .interval_join(&keyed(second))
                .between(lower, upper);
            if exclusive {
                joined = joined.lower_bound_exclusive().upper_bound_exclusive();
            }
            joined.process(|a, b, ctx| {
                ctx.emit(paired(a, b));
                Ok(())
            })
        }
        Meeting::Broadcast => routed
            .connect_broadcast(second)
            .process(|_: &mut OperatorStates| {
                (
                    |row: Row, ctx: &mut ProcessContext<'_, Row>| {
                        ctx.emit(mapped(1, row));
                        Ok(())
                    },
                    |rule: Row, ctx: &mut BroadcastContext<'_, Row>| {
                        ctx.emit(mapped(2, rule));
                        Ok(())
                    },
                )
            }),
        Meeting::KeyedBroadcast => keyed(first).connect_broadcast(second).process(Rules::new),
    };
    placed(made, place)
}
