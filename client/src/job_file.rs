//! Is this file a Spindle job that can run here? Told from its bytes; it is not started for it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use spindle_common::PROTOCOL_VERSION;
use spindle_common::program::MARKER;

use crate::error::CliError;

/// Why a file is no job that can be submitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAJob {
    #[error("it is not an executable of this platform (ELF): its first bytes are {first:02x?}")]
    NotElf { first: Vec<u8> },
    #[error("it was built for {found}, the cluster's client runs on {wanted}")]
    OtherPlatform { found: String, wanted: &'static str },
    #[error("it is a library or an object file, not a program")]
    NotAProgram,
    #[error("it is an executable, but no Spindle job: a job calls `spindle_stream::main`")]
    NoJob,
    #[error(
        "it was built against protocol version {found} of spindle-stream, this client speaks {PROTOCOL_VERSION}"
    )]
    OtherVersion { found: String },
}

/// Looks at the bytes of an executable.
pub(crate) fn inspect(bytes: &[u8]) -> Result<(), NotAJob> {
    const MACHINES: [(u16, &str); 6] = [
        (3, "x86"),
        (40, "arm"),
        (62, "x86_64"),
        (183, "aarch64"),
        (243, "riscv64"),
        (21, "powerpc64"),
    ];
    let wanted = std::env::consts::ARCH;
    if bytes.len() < 20 || !bytes.starts_with(b"\x7fELF") {
        let found = match bytes {
            [b'M', b'Z', ..] => "Windows",
            [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "macOS",
            _ => {
                return Err(NotAJob::NotElf {
                    first: bytes.iter().take(4).copied().collect(),
                });
            }
        };
        return Err(NotAJob::OtherPlatform {
            found: found.to_owned(),
            wanted,
        });
    }
    let half = |at: usize| {
        let pair = [bytes[at], bytes[at + 1]];
        if bytes[5] == 2 {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        }
    };
    let machine = MACHINES
        .iter()
        .find(|(number, _)| *number == half(18))
        .map_or("an unknown machine", |(_, name)| name);
    if machine != wanted {
        return Err(NotAJob::OtherPlatform {
            found: machine.to_owned(),
            wanted,
        });
    }
    const EXECUTABLE: u16 = 2;
    const SHARED_OR_PIE: u16 = 3;
    if ![EXECUTABLE, SHARED_OR_PIE].contains(&half(16)) {
        return Err(NotAJob::NotAProgram);
    }
    let marker = MARKER.concat();
    let Some(at) = memchr::memmem::find(bytes, marker.as_bytes()) else {
        return Err(NotAJob::NoJob);
    };
    let version: String = bytes[at + marker.len()..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .map(|&b| char::from(b))
        .collect();
    if version != PROTOCOL_VERSION.to_string() {
        return Err(NotAJob::OtherVersion { found: version });
    }
    Ok(())
}

/// Reads and inspects a job's executable.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let shown = path.display();
    let unreadable = |cause: std::io::Error| {
        CliError::usage(format!("cannot read the job `{shown}`")).because(cause)
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(CliError::usage(format!("the job `{shown}` is not a file"))
            .hint("name the job's executable"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    inspect(&bytes).map_err(|cause| {
        CliError::usage(format!("`{shown}` cannot be run as a job"))
            .because(cause)
            .hint("build the job with `cargo build --release` for the cluster's platform and name the executable")
    })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(
                CliError::usage(format!("the job `{shown}` is not executable"))
                    .hint(format!("chmod +x {shown}")),
            );
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, kind: u16, tail: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(machine.to_le_bytes());
        bytes.extend(tail);
        bytes
    }

    fn here() -> u16 {
        if cfg!(target_arch = "x86_64") {
            62
        } else {
            183
        }
    }

    fn marked(version: &str) -> Vec<u8> {
        format!("{}{version}\0", MARKER.concat()).into_bytes()
    }

    #[test]
    fn a_marked_executable_of_this_machine_is_a_job() {
        let version = PROTOCOL_VERSION.to_string();
        assert_eq!(inspect(&elf(here(), 3, &marked(&version))), Ok(()));
    }

    #[test]
    fn other_files_are_told_apart() {
        let other = if here() == 62 {
            (183, "aarch64")
        } else {
            (62, "x86_64")
        };
        assert_eq!(
            inspect(b"#!/bin/sh\n"),
            Err(NotAJob::NotElf {
                first: b"#!/b".to_vec()
            })
        );
        assert_eq!(inspect(b""), Err(NotAJob::NotElf { first: Vec::new() }));
        assert!(
            matches!(inspect(&elf(other.0, 3, &marked("1"))), Err(NotAJob::OtherPlatform { found, .. }) if found == other.1)
        );
        assert!(
            matches!(inspect(b"MZ\x90\0"), Err(NotAJob::OtherPlatform { found, .. }) if found == "Windows")
        );
        assert_eq!(
            inspect(&elf(here(), 1, &marked("1"))),
            Err(NotAJob::NotAProgram)
        );
        assert_eq!(
            inspect(&elf(here(), 3, b"some program")),
            Err(NotAJob::NoJob)
        );
        assert_eq!(
            inspect(&elf(here(), 2, &marked("77"))),
            Err(NotAJob::OtherVersion {
                found: "77".to_owned()
            })
        );
    }
}
