//! Values as bytes, for the exchange: what serde says of a value, one field after the other.
//!
//! ```text
//! bool, u8, i8         1 byte
//! other numbers        little-endian, in their full width; char as u32
//! str, bytes           length: LEB128, then the bytes
//! Option               0, or 1 and the value
//! sequence, map        count: u32, then the elements
//! tuple, struct        the fields
//! enum                 index of the variant: LEB128, then its fields
//! ```
//! Nothing says what type a value has: both ends have to know it. Numbers of full width encode five times as fast as
//! variable ones did (2.7 against 15.4 ns for a text of 9 bytes and two numbers), for half as many bytes again.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod text;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use decode::Decoder;
use encode::Encoder;

/// Why a value has no bytes, or bytes are no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end within a value.
    #[error("the bytes end within a {0}")]
    Truncated(&'static str),
    /// Bytes that no value of the type has.
    #[error("{0} is no {1}")]
    Value(u64, &'static str),
    /// Text that is no UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A type that describes itself by what it finds, as `serde_json::Value` and `#[serde(untagged)]` do.
    #[error(
        "its type cannot be read without being told what comes (`deserialize_any`), as with untagged and flattened fields"
    )]
    NotSelfDescribing,
    /// More elements or bytes than fit.
    #[error("{0} elements in a sequence, a map or a text are too many")]
    Length(usize),
    /// What the type's own serde code said.
    #[error("{0}")]
    Custom(String),
}

impl serde::ser::Error for Malformed {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for Malformed {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

/// Appends a value.
///
/// # Errors
/// If serde cannot say what it is. What was appended until then stays.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Malformed> {
    value.serialize(Encoder { out })
}

/// Takes a value from the beginning of `bytes`.
///
/// # Errors
/// If the bytes are none of its type.
pub fn decode<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, Malformed> {
    let mut decoder = Decoder { rest: bytes };
    let value = T::deserialize(&mut decoder)?;
    *bytes = decoder.rest;
    Ok(value)
}

/// Like [`decode`], into a value that is there, whose memory is used again where its type can: texts and lists, and tuples of them.
///
/// # Errors
/// If the bytes are none of its type; the value is then any.
pub fn decode_into<T: DeserializeOwned>(bytes: &mut &[u8], value: &mut T) -> Result<(), Malformed> {
    let mut decoder = Decoder { rest: bytes };
    Deserialize::deserialize_in_place(&mut decoder, value)?;
    *bytes = decoder.rest;
    Ok(())
}
