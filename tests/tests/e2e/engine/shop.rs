//! Orders and payments of a shop, and what the job has to make of them: a plain model, which sees one record after another.

use std::collections::BTreeMap;

const BOUND_MS: i64 = 10_000;
const GAP_MS: i64 = 20_000;
const PAYMENT_MS: i64 = 30_000;
const MINUTE_MS: i64 = 60_000;

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as i64
    }

    /// How long a record is on its way: one in twenty much longer than the bound.
    fn delay(&mut self) -> i64 {
        if self.below(20) == 0 {
            20_000 + self.below(120_000)
        } else {
            self.below(5000)
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Order {
    order: i64,
    customer: i64,
    cents: i64,
    at: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Payment {
    payment: i64,
    order: i64,
    customer: i64,
    cents: i64,
    at: i64,
}

/// Orders and payments, each in the order in which they arrive.
pub(super) fn shop() -> (Vec<Order>, Vec<Payment>) {
    let mut chance = Chance(5);
    let (mut orders, mut payments) = (Vec::new(), Vec::new());
    for order in 0..6000 {
        let at = 1_000_000 + order * 250;
        let customer = chance.below(60);
        let cents = 100 + chance.below(10_000);
        orders.push((
            at + chance.delay(),
            Order {
                order,
                customer,
                cents,
                at,
            },
        ));
        // Some are not paid, some in two parts, some too late.
        let parts = chance.below(4).min(2);
        for part in 0..parts {
            let at = at + chance.below(PAYMENT_MS + 5000);
            let payment = Payment {
                payment: 2 * order + part,
                order,
                customer,
                cents: cents / parts,
                at,
            };
            payments.push((at + chance.delay(), payment));
        }
    }
    orders.sort_by_key(|(arrives, order)| (*arrives, order.order));
    payments.sort_by_key(|(arrives, payment)| (*arrives, payment.payment));
    let orders = orders.into_iter().map(|(_, order)| order).collect();
    (
        orders,
        payments.into_iter().map(|(_, payment)| payment).collect(),
    )
}

/// Each record with the watermark that stands when it arrives.
fn watermarked<T>(records: &[T], at: impl Fn(&T) -> i64) -> Vec<(&T, i64)> {
    let mut latest = i64::MIN;
    let mut all = Vec::new();
    for record in records {
        all.push((record, latest.saturating_sub(BOUND_MS + 1)));
        latest = latest.max(at(record));
    }
    all
}

/// Rows of CSV, sorted.
pub(super) fn rows<T>(of: impl IntoIterator<Item = T>, row: impl Fn(T) -> String) -> Vec<String> {
    let mut rows: Vec<String> = of.into_iter().map(row).collect();
    rows.sort();
    rows
}

pub(super) fn order_row(order: &Order) -> String {
    let Order {
        order,
        customer,
        cents,
        at,
    } = order;
    format!("{order},{customer},{cents},{at}")
}

pub(super) fn payment_row(payment: &Payment) -> String {
    let Payment {
        payment,
        order,
        customer,
        cents,
        at,
    } = payment;
    format!("{payment},{order},{customer},{cents},{at}")
}

/// The visits, and the orders that came when their visit was over.
fn visits(orders: &[Order]) -> (Vec<String>, Vec<String>) {
    struct Visit {
        from: i64,
        to: i64,
        orders: i64,
        cents: i64,
    }
    let mut open: BTreeMap<i64, Vec<Visit>> = BTreeMap::new();
    let (mut over, mut late) = (Vec::new(), Vec::new());
    for (order, watermark) in watermarked(orders, |order| order.at) {
        let visits = open.entry(order.customer).or_default();
        let mut visit = Visit {
            from: order.at,
            to: order.at + GAP_MS,
            orders: 1,
            cents: order.cents,
        };
        let mut others = Vec::new();
        for other in visits.drain(..) {
            if other.to - 1 <= watermark {
                over.push((order.customer, other));
            } else if other.from <= visit.to && visit.from <= other.to {
                visit.from = visit.from.min(other.from);
                visit.to = visit.to.max(other.to);
                visit.orders += other.orders;
                visit.cents += other.cents;
            } else {
                others.push(other);
            }
        }
        if visit.to - 1 <= watermark {
            late.push(order);
        } else {
            others.push(visit);
        }
        *visits = others;
    }
    for (customer, visits) in open {
        over.extend(visits.into_iter().map(|visit| (customer, visit)));
    }
    let visits = rows(over, |(customer, visit)| {
        let Visit {
            from,
            to,
            orders,
            cents,
        } = visit;
        format!("{customer},{from},{to},{orders},{cents}")
    });
    (visits, rows(late, order_row))
}

/// What the job has to write, by directory.
pub(super) fn expected(
    orders: &[Order],
    payments: &[Payment],
) -> BTreeMap<&'static str, Vec<String>> {
    let (visits, late_orders) = visits(orders);
    let in_time = |at: i64, watermark: i64| at > watermark;
    let timely_orders: Vec<&Order> = watermarked(orders, |order| order.at)
        .into_iter()
        .filter_map(|(order, watermark)| in_time(order.at, watermark).then_some(order))
        .collect();
    let (mut timely_payments, mut late_payments) = (Vec::new(), Vec::new());
    for (payment, watermark) in watermarked(payments, |payment| payment.at) {
        if in_time(payment.at, watermark) {
            timely_payments.push(payment);
        } else {
            late_payments.push(payment);
        }
    }
    let mut paid = Vec::new();
    let mut minutes: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for order in &timely_orders {
        let minute = order.at - order.at % MINUTE_MS;
        minutes.entry((order.customer, minute)).or_default().0 += order.cents;
        for payment in &timely_payments {
            let after = payment.at - order.at;
            if payment.order == order.order && (0..=PAYMENT_MS).contains(&after) {
                paid.push((order, payment, after));
            }
        }
    }
    for payment in &timely_payments {
        let minute = payment.at - payment.at % MINUTE_MS;
        minutes.entry((payment.customer, minute)).or_default().1 += payment.cents;
    }
    let paid = rows(paid, |(order, payment, after)| {
        format!(
            "{},{},{},{},{after}",
            order.order, payment.payment, order.customer, payment.cents
        )
    });
    let minutes = rows(minutes, |((customer, from), (ordered, paid))| {
        format!("{customer},{from},{ordered},{paid}")
    });
    BTreeMap::from([
        ("visits", visits),
        ("late-orders", late_orders),
        ("late-payments", rows(late_payments, payment_row)),
        ("paid", paid),
        ("minutes", minutes),
    ])
}
