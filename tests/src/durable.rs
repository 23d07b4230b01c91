//! What the job `durable` has to write, by arithmetic.

/// Keys of both streams.
pub const KEYS: u64 = 50;
/// Length of a window, in milliseconds of event time.
pub const WINDOW_MS: u64 = 1000;
/// How much later than an ask a bid may be to be joined with it, in milliseconds of event time.
pub const REACH_MS: u64 = 100;

/// The key of a number in the stream of bids.
pub const fn bid_key(n: u64) -> u64 {
    n * 7 % KEYS
}

/// Rows of the windows, as CSV has them, in the order of text: how many of so many numbers have a key in each second.
pub fn counts(records: u64) -> Vec<String> {
    let mut rows = Vec::new();
    for start in (0..records).step_by(WINDOW_MS as usize) {
        let end = records.min(start + WINDOW_MS);
        for key in 0..KEYS {
            let count = (start..end).filter(|n| n % KEYS == key).count();
            if count > 0 {
                rows.push(format!("{key},{start},{count}"));
            }
        }
    }
    rows.sort();
    rows
}

/// Rows of the join, likewise: each ask with each bid of its key that comes within reach.
pub fn pairs(records: u64) -> Vec<String> {
    let mut rows = Vec::new();
    for ask in 0..records {
        let reach = records.min(ask + REACH_MS + 1);
        let bids = (ask..reach).filter(|bid| bid_key(*bid) == ask % KEYS);
        rows.extend(bids.map(|bid| format!("{ask},{bid}")));
    }
    rows.sort();
    rows
}
