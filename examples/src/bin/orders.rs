//! What customers of a shop do: when they shop, what they pay, and which records came too late to be counted.
//!
//! The inputs are two directories that are watched for CSV files: orders (`order,customer,cents,at`) and payments
//! (`payment,order,customer,cents,at`), `at` in milliseconds since the epoch, roughly in that order.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use spindle_stream::connectors::file::{FileSink, FileSource};
use spindle_stream::{
    DataStream, EventTime, Fold, OperatorStates, OutputTag, ProcessContext, Record, Session,
    StreamEnvironment, Tumbling, Watermark, WatermarkGenerator, WatermarkStrategy,
};

/// Follows the orders and payments of a shop's customers.
#[derive(Debug, Parser)]
struct Args {
    /// Directory with orders, watched for new files.
    #[arg(long, value_name = "URI")]
    orders: String,
    /// Directory with payments, watched for new files.
    #[arg(long, value_name = "URI")]
    payments: String,
    /// Directory to write five directories of CSV part files into.
    #[arg(long, value_name = "URI")]
    output: String,
    /// End when a file of this name is in both directories; otherwise the job has no end.
    #[arg(long, value_name = "NAME")]
    until: Option<String>,
}

/// How much later than a record that it should stand before a record may come.
const BOUND: Duration = Duration::from_secs(10);
/// A customer who orders nothing for so long has left.
const GAP: Duration = Duration::from_secs(20);
/// An order is paid within this time, or not at all.
const PAYMENT_MS: i64 = 30_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    order: u64,
    customer: u32,
    cents: u64,
    at: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Payment {
    payment: u64,
    order: u64,
    customer: u32,
    cents: u64,
    at: i64,
}

/// An order and a payment for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Paid {
    order: u64,
    payment: u64,
    customer: u32,
    cents: u64,
    after_ms: i64,
}

/// A visit of a customer: orders that follow one another closely.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Visit {
    customer: u32,
    from: i64,
    to: i64,
    orders: u64,
    cents: u64,
}

/// What a customer ordered and paid in a minute.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Minute {
    customer: u32,
    from: i64,
    ordered: u64,
    paid: u64,
}

/// Event time stands behind the latest record at every record, so that what is late does not depend on how records are read.
struct Behind {
    latest: EventTime,
}

impl<T> WatermarkGenerator<T> for Behind {
    fn on_event(&mut self, _: &T, time: EventTime) -> Option<Watermark> {
        self.latest = self.latest.max(time);
        let bound_ms = BOUND.as_millis() as i64;
        Some(Watermark(EventTime(self.latest.0 - bound_ms - 1)))
    }
}

/// Reads the files of a directory one after another, by one subtask: their order counts.
fn watch<T: Record + DeserializeOwned>(
    env: &StreamEnvironment,
    name: &str,
    uri: String,
    until: Option<&String>,
    at: fn(&T) -> i64,
) -> DataStream<T> {
    let mut files = FileSource::csv::<T>(uri).monitor_continuously(Duration::from_millis(200));
    if let Some(name) = until {
        files = files.until(name);
    }
    let strategy = WatermarkStrategy::custom(|| Behind {
        latest: EventTime(0),
    });
    env.source(&format!("read {name}"), files)
        .set_parallelism(1)
        .assign_timestamps(strategy, move |record| EventTime::from_millis(at(record)))
        .set_parallelism(1)
}

/// What is not late, and what is. A join of two streams is as far as the one that lags, and which of them does is for chance to say: told here,
/// each stream by itself, the same records are late in every run.
fn on_time<T: Record>(stream: &DataStream<T>, late: &str) -> (DataStream<T>, DataStream<T>) {
    let late = OutputTag::<T>::new(late);
    let tag = late.clone();
    let in_time = stream
        .process(move |_: &mut OperatorStates| {
            let tag = tag.clone();
            move |record: T, ctx: &mut ProcessContext<'_, T>| {
                if ctx
                    .timestamp()
                    .is_some_and(|time| time <= ctx.watermark().0)
                {
                    ctx.output(&tag, record);
                } else {
                    ctx.emit(record);
                }
                Ok(())
            }
        })
        .name("on time")
        .set_parallelism(1);
    let late = in_time.side_output(&late);
    (in_time, late)
}

/// The number of orders and the sum of their prices, by customer and visit.
fn visits(orders: &DataStream<Order>) -> (DataStream<Visit>, DataStream<Order>) {
    let late = OutputTag::<Order>::new("late for their visit");
    let visits = orders
        .key_by(|order| order.customer)
        .window(Session::with_gap(GAP))
        .side_output_late_data(&late)
        .aggregate_with(
            Fold::new(
                || (0, 0),
                |(orders, cents): &mut (u64, u64), order: &Order| {
                    *orders += 1;
                    *cents += order.cents;
                },
                |(orders, cents): &mut (u64, u64), more: &(u64, u64)| {
                    *orders += more.0;
                    *cents += more.1;
                },
                |tally: &(u64, u64)| *tally,
            ),
            |customer: &u32, window, (orders, cents)| Visit {
                customer: *customer,
                from: window.start.as_millis(),
                to: window.end.as_millis(),
                orders,
                cents,
            },
        )
        .name("visits");
    let late = visits.side_output(&late);
    (visits, late)
}

/// Orders with the payments for them.
fn paid(orders: &DataStream<Order>, payments: &DataStream<Payment>) -> DataStream<Paid> {
    orders
        .key_by(|order| order.order)
        .interval_join(&payments.key_by(|payment| payment.order))
        .between(0, PAYMENT_MS)
        .process(|order, payment, ctx: &mut ProcessContext<'_, Paid>| {
            ctx.emit(Paid {
                order: order.order,
                payment: payment.payment,
                customer: order.customer,
                cents: payment.cents,
                after_ms: payment.at - order.at,
            });
            Ok(())
        })
        .name("paid orders")
}

/// What was ordered and what was paid, by customer and minute, where either was.
fn minutes(orders: &DataStream<Order>, payments: &DataStream<Payment>) -> DataStream<Minute> {
    orders
        .join(payments)
        .on(|order| order.customer, |payment| payment.customer)
        .window(Tumbling::of(Duration::from_secs(60)))
        .co_group(|customer, window, orders, payments, out| {
            out.emit(Minute {
                customer: *customer,
                from: window.start.as_millis(),
                ordered: orders.iter().map(|order| order.cents).sum(),
                paid: payments.iter().map(|payment| payment.cents).sum(),
            });
        })
        .name("minutes")
}

fn main() -> ExitCode {
    let args = Args::parse();
    spindle_stream::main("orders", move |env| {
        let until = args.until.as_ref();
        let orders = watch(env, "orders", args.orders, until, |order: &Order| order.at);
        let payments = watch(
            env,
            "payments",
            args.payments,
            until,
            |payment: &Payment| payment.at,
        );
        let (visits, late_orders) = visits(&orders);
        // The join's late orders are those of the sessions and more; only payments are written.
        let (orders, _) = on_time(&orders, "late orders");
        let (payments, late_payments) = on_time(&payments, "late payments");
        let into = |name: &str| format!("{}/{name}", args.output);
        visits
            .sink_to(FileSink::csv(into("visits")))
            .name("write visits");
        late_orders
            .sink_to(FileSink::csv(into("late-orders")))
            .name("write late orders");
        late_payments
            .sink_to(FileSink::csv(into("late-payments")))
            .name("write late payments");
        paid(&orders, &payments)
            .sink_to(FileSink::csv(into("paid")))
            .name("write paid orders");
        minutes(&orders, &payments)
            .sink_to(FileSink::csv(into("minutes")))
            .name("write minutes");
        Ok(())
    })
}
