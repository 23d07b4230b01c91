//! Functions with state and timers, for the API's side of a job.

use spindle_stream::{
    AggregatingState, BroadcastState, EventTime, FunctionResult, KeyedBroadcastContext,
    KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction,
    ListState, MapState, ReducingState, States, Timer, ValueState,
};

use crate::build::Sums;
use crate::job::{FAR, Row, StateKind, digest, in_order};

type Context<'a> = KeyedContext<'a, String, Row>;

fn say(value: i64, ctx: &mut Context<'_>) {
    let row = Row::new(ctx.key().clone(), value);
    ctx.emit(row);
}

/// Says at the end what comes of the values of each key.
pub(crate) struct AtTheEnd {
    sum: bool,
    /// What came of them, and how many there were.
    so_far: ValueState<(i64, i64)>,
}

impl AtTheEnd {
    /// Their sum.
    pub(crate) fn sum(states: &mut States) -> Self {
        Self {
            sum: true,
            so_far: states.value("so far"),
        }
    }

    /// The last of values that never fall, and how many there were.
    pub(crate) fn last(states: &mut States) -> Self {
        Self {
            sum: false,
            so_far: states.value("so far"),
        }
    }
}

impl KeyedProcessFunction<String, Row, Row> for AtTheEnd {
    fn process(&mut self, row: Row, ctx: &mut Context<'_>) -> FunctionResult {
        let (value, count) = self.so_far.get(ctx).copied().unwrap_or((0, 0));
        let value = if self.sum {
            value + row.value
        } else {
            value.max(row.value)
        };
        self.so_far.set(ctx, (value, count + 1));
        ctx.register_event_time_timer(EventTime(FAR));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut Context<'_>) -> FunctionResult {
        let (value, count) = self
            .so_far
            .take(ctx)
            .ok_or("a key without a value has a timer")?;
        say(value, ctx);
        if !self.sum {
            say(count, ctx);
        }
        Ok(())
    }
}

/// Keeps the values of each key in a kind of state, and says what they are when a timer fires: see `StateKind`.
pub(crate) struct Timers {
    every: i64,
    kept: Kept,
}

enum Kept {
    Value(ValueState<i64>),
    /// The timer that a value waits for, and the value.
    List(ListState<(i64, i64)>),
    Map(MapState<i64, Vec<i64>>),
    Reducing(ReducingState<i64>),
    Aggregating(AggregatingState<Row, Sums>),
}

impl Timers {
    pub(crate) fn new(states: &mut States, state: StateKind, every: i64) -> Self {
        let kept = match state {
            StateKind::Value => Kept::Value(states.value("kept")),
            StateKind::List => Kept::List(states.list("kept")),
            StateKind::Map => Kept::Map(states.map("kept")),
            StateKind::Reducing => Kept::Reducing(states.reducing("kept", i64::max)),
            StateKind::Aggregating => Kept::Aggregating(states.aggregating("kept", Sums)),
        };
        Self { every, kept }
    }
}

impl KeyedProcessFunction<String, Row, Row> for Timers {
    fn process(&mut self, row: Row, ctx: &mut Context<'_>) -> FunctionResult {
        let time = ctx.timestamp().ok_or("a record lost its event time")?;
        let due = (time.0.div_euclid(self.every) + 1) * self.every;
        let at = match &self.kept {
            Kept::Value(kept) => {
                *kept.get_or_insert_with(ctx, || 0) += 1;
                FAR
            }
            Kept::List(kept) => {
                kept.push(ctx, (due, row.value));
                due
            }
            Kept::Map(kept) => {
                kept.get_or_insert_with(ctx, due, Vec::new).push(row.value);
                due
            }
            Kept::Reducing(kept) => {
                kept.add(ctx, row.value);
                FAR
            }
            Kept::Aggregating(kept) => {
                kept.add(ctx, row);
                FAR
            }
        };
        ctx.register_event_time_timer(EventTime(at));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut Context<'_>) -> FunctionResult {
        let at = timer.time.0;
        let found = match &self.kept {
            Kept::Value(kept) => kept.take(ctx),
            Kept::List(kept) => {
                let due = kept.iter(ctx).filter(|(due, _)| *due == at);
                let said = digest(due.map(|(_, value)| *value));
                kept.retain(ctx, |(due, _)| *due != at);
                Some(said)
            }
            Kept::Map(kept) => kept.remove(ctx, &at).map(digest),
            Kept::Reducing(kept) => kept.get(ctx).copied(),
            Kept::Aggregating(kept) => kept.get(ctx),
        };
        say(found.ok_or("a key without a value has a timer")?, ctx);
        Ok(())
    }
}

/// Says at the end what values of each key came from either side.
pub(crate) struct Sides {
    first: ListState<i64>,
    second: ListState<i64>,
}

impl Sides {
    pub(crate) fn new(states: &mut States) -> Self {
        Self {
            first: states.list("first"),
            second: states.list("second"),
        }
    }
}

impl KeyedCoProcessFunction<String, Row, Row, Row> for Sides {
    fn process1(&mut self, row: Row, ctx: &mut Context<'_>) -> FunctionResult {
        self.first.push(ctx, row.value);
        ctx.register_event_time_timer(EventTime(FAR));
        Ok(())
    }

    fn process2(&mut self, row: Row, ctx: &mut Context<'_>) -> FunctionResult {
        self.second.push(ctx, row.value);
        ctx.register_event_time_timer(EventTime(FAR));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut Context<'_>) -> FunctionResult {
        let sides = [digest(self.first.take(ctx)), digest(self.second.take(ctx))];
        say(in_order(sides), ctx);
        Ok(())
    }
}

/// Says at the end what values each key has, and what rules there are: of each key the largest value.
pub(crate) struct Rules {
    rules: BroadcastState<String, i64>,
    values: ListState<i64>,
}

impl Rules {
    pub(crate) fn new(states: &mut States) -> Self {
        Self {
            rules: states.broadcast("rules"),
            values: states.list("values"),
        }
    }
}

impl KeyedBroadcastProcessFunction<String, Row, Row, Row> for Rules {
    fn process(&mut self, row: Row, ctx: &mut Context<'_>) -> FunctionResult {
        self.values.push(ctx, row.value);
        ctx.register_event_time_timer(EventTime(FAR));
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: Row,
        ctx: &mut KeyedBroadcastContext<'_, String, Row>,
    ) -> FunctionResult {
        let known = self.rules.get(ctx, &rule.key).copied().unwrap_or(0);
        self.rules.insert(ctx, rule.key, known.max(rule.value));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut Context<'_>) -> FunctionResult {
        let rules = in_order(self.rules.iter(ctx).map(|(_, rule)| *rule));
        let values = digest(self.values.take(ctx));
        say(rules + values, ctx);
        Ok(())
    }
}
