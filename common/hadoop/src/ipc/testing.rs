//! What tests share.

mod server;

pub(crate) use server::{Call, Event, FakeServer, Offer, Reply};

/// Bytes from hexadecimal text; blanks and line breaks are skipped.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
