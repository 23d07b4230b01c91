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

/// Memory of a TaskManager's container that is for the TaskExecutor itself; the rest is for its slots.
pub const TASK_EXECUTOR_MEMORY: ByteSize = ByteSize::from_mib(32);

impl ResourceProfile {
    /// What the slots of a container of this size have together.
    pub const fn for_slots(self) -> SlotProfile {
        let own = TASK_EXECUTOR_MEMORY.as_bytes();
        SlotProfile {
            memory: ByteSize::from_bytes(self.memory.as_bytes().saturating_sub(own)),
            cpu_millis: self.vcores.saturating_mul(1000),
        }
    }
}

/// What a slot has whose slot sharing group says so. Flink: `ResourceProfile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotProfile {
    /// Memory, which the job's worker has as its limit for each such slot.
    pub memory: ByteSize,
    /// Thousandths of a core. They are counted, not enforced.
    pub cpu_millis: u32,
}

impl SlotProfile {
    /// So many cores, at least a thousandth of one, and so much memory.
    pub fn new(cpu_cores: f64, memory: ByteSize) -> Self {
        Self {
            memory,
            // A cast of what is too large gives the largest, of what is no number nothing.
            cpu_millis: ((cpu_cores * 1000.0).round() as u32).max(1),
        }
    }

    /// Cores.
    pub fn cpu_cores(self) -> f64 {
        f64::from(self.cpu_millis) / 1000.0
    }

    /// The container that holds one such slot and nothing else.
    pub const fn made_to_measure(self) -> ResourceProfile {
        let memory = self.memory.as_bytes();
        let memory = memory.saturating_add(TASK_EXECUTOR_MEMORY.as_bytes());
        let vcores = self.cpu_millis.div_ceil(1000);
        ResourceProfile {
            memory: ByteSize::from_bytes(memory),
            vcores: if vcores == 0 { 1 } else { vcores },
        }
    }
}

impl fmt::Display for SlotProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} cores", self.memory, self.cpu_cores())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_made_to_measure_holds_its_slot() {
        for (cores, mib) in [(0.25, 100), (1.0, 512), (2.5, 3000), (0.0, 1)] {
            let slot = SlotProfile::new(cores, ByteSize::from_mib(mib));
            let all = slot.made_to_measure().for_slots();
            assert_eq!(all.memory, slot.memory);
            assert!(all.cpu_millis >= slot.cpu_millis && all.cpu_millis < slot.cpu_millis + 1000);
        }
        let small = SlotProfile::new(0.5, ByteSize::from_mib(256));
        assert_eq!(small.to_string(), "256m and 0.5 cores");
    }

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
