//! Hadoop's `Writable` encoding, as far as tokens use it: variable-length integers and byte strings behind their length.

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no valid {what} at byte {offset}")]
pub struct Malformed {
    /// What was expected.
    pub what: &'static str,
    /// Where, counted from the start of the bytes.
    pub offset: usize,
}

/// Appends a `vlong` (a `vint` is the same).
///
/// One byte holds -112..=127; otherwise the first byte tells sign and length of the big-endian rest.
pub fn put_vlong(out: &mut Vec<u8>, value: i64) {
    if let Ok(small @ -112..=127) = i8::try_from(value) {
        out.push(small.cast_unsigned());
        return;
    }
    let (magnitude, base) = if value < 0 {
        (!value, -120i8)
    } else {
        (value, -112i8)
    };
    let bytes = magnitude.to_be_bytes();
    // Beyond one byte there is at least one byte of magnitude, even if it is zero (-113).
    let skip = bytes.iter().take_while(|&&b| b == 0).count().min(7);
    let length = i8::try_from(8 - skip).expect("a length of 1 to 8");
    out.push((base - length).cast_unsigned());
    out.extend_from_slice(&bytes[skip..]);
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_vlong(
        out,
        i64::try_from(bytes.len()).expect("a slice is no longer than i64::MAX"),
    );
    out.extend_from_slice(bytes);
}

/// Takes `Writable` items off the front of a slice; never allocates.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
        }
    }

    /// Bytes taken so far.
    pub const fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed {
            what,
            offset: self.offset(),
        }
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// At the end.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| self.malformed("byte"))?;
        self.rest = rest;
        Ok(first)
    }

    /// Takes a `vlong`.
    ///
    /// # Errors
    /// When the bytes end before it does.
    pub fn vlong(&mut self) -> Result<i64, Malformed> {
        let first = self.byte()?.cast_signed();
        if first >= -112 {
            return Ok(i64::from(first));
        }
        let (length, negative) = if first < -120 {
            (-120 - i32::from(first), true)
        } else {
            (-112 - i32::from(first), false)
        };
        let length = usize::try_from(length).expect("1 to 8 by the ranges above");
        let magnitude = self
            .take(length, "vlong")?
            .iter()
            .fold(0u64, |value, &byte| value << 8 | u64::from(byte))
            .cast_signed();
        Ok(if negative { !magnitude } else { magnitude })
    }

    /// Takes a count of items that follow; each takes at least one byte, which bounds it.
    ///
    /// # Errors
    /// When it is negative, or more than the bytes that are left.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let at = self.malformed("count");
        let count = usize::try_from(self.vlong()?).map_err(|_| at.clone())?;
        if count > self.rest.len() {
            Err(at)
        } else {
            Ok(count)
        }
    }

    /// Takes bytes behind their length.
    ///
    /// # Errors
    /// When the length is negative, or more than what is left.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let at = self.malformed("length");
        let count = usize::try_from(self.vlong()?).map_err(|_| at)?;
        self.take(count, "byte string")
    }

    /// Takes UTF-8 text behind its length.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and when it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let at = self.malformed("text");
        std::str::from_utf8(self.bytes()?).map_err(|_| at)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub const fn expect_end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("end"))
        }
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vlongs_are_hadoops() {
        let golden: [(i64, &[u8]); 9] = [
            (0, &[0x00]),
            (127, &[0x7f]),
            (128, &[0x8f, 0x80]),
            (255, &[0x8f, 0xff]),
            (256, &[0x8e, 0x01, 0x00]),
            (-1, &[0xff]),
            (-112, &[0x90]),
            (-113, &[0x87, 0x70]),
            (
                1_690_672_432_660,
                &[0x8a, 0x01, 0x89, 0xa3, 0xee, 0x06, 0x14],
            ),
        ];
        for (value, bytes) in golden {
            let mut out = Vec::new();
            put_vlong(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(Reader::new(bytes).vlong(), Ok(value));
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_where_it_stands() {
        let mut reader = Reader::new(&[0x8c, 0x7f, 0xff, 0xff, 0xff, 1]);
        assert_eq!(
            reader.bytes(),
            Err(Malformed {
                what: "byte string",
                offset: 5
            })
        );
        assert_eq!(
            Reader::new(&[0xff]).bytes(),
            Err(Malformed {
                what: "length",
                offset: 0
            })
        );
    }

    proptest! {
        #[test]
        fn every_vlong_survives(value: i64) {
            let mut out = Vec::new();
            put_vlong(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.vlong(), Ok(value));
            prop_assert!(reader.is_empty());
        }
    }
}
