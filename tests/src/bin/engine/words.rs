//! The words that are counted, and how their numbers are drawn. The reference includes this very file (`tests/peers`), so that both
//! sides make the same words at the same cost.

/// Number of different words.
pub(crate) const VOCABULARY: u64 = 10_000;

/// The word at a place of the stream: nine characters in a String of its own, made by `format!`.
pub(crate) fn word(index: u64) -> String {
    format!("word{:05}", scatter(index) % VOCABULARY)
}

/// Spreads numbers evenly over all of `u64`, the same way each time (the finalizer of SplitMix64).
pub(crate) const fn scatter(index: u64) -> u64 {
    let mut hash = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
