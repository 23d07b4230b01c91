//! Sizes and resource profiles.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Reads `512`, `512b`, `64k`, `256m`, `2g`, `1t` (units of 1024, as Flink's `MemorySize`; also `mb`, `MiB`, …).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ByteSize(u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: expected a number with a unit, such as 512m or 2g")]
pub struct ParseByteSizeError(pub String);

impl ByteSize {
    /// This many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The number of mebibytes, rounded up: what is asked of YARN.
    pub const fn as_mib_ceil(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [
            (1 << 40, "t"),
            (1 << 30, "g"),
            (1 << 20, "m"),
            (1 << 10, "k"),
        ];
        for (unit, name) in UNITS {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}b", self.0)
    }
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, ParseByteSizeError> {
        let wrong = || ParseByteSizeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = trimmed[..digits].parse().map_err(|_| wrong())?;
        let shift = match trimmed[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" | "bytes" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

/// What a container has or needs. Flink: `WorkerResourceSpec`; YARN: `Resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceProfile {
    /// Memory of all its processes together.
    pub memory: ByteSize,
    /// Virtual cores.
    pub vcores: u32,
}

impl fmt::Display for ResourceProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB, {} vcores",
            self.memory.as_mib_ceil(),
            self.vcores
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 64 << 10),
            ("256m", 256 << 20),
            ("2 GB", 2 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
        assert_eq!(ByteSize::from_mib(1536).to_string(), "1536m");
        assert_eq!(ByteSize::from_mib(2048).to_string(), "2g");
        assert_eq!(ByteSize::from_bytes(1).to_string(), "1b");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "m", "1.5g", "-1m", "1x", "99999999999999t"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
