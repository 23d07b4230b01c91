//! How a process ended, told from its status and from what it wrote last to its error log.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// How much of the end of a worker's error log is told when it ends.
const TAIL_BYTES: usize = 2048;
/// How much of it is searched for the reason; a backtrace may follow that.
const SEARCHED_BYTES: u64 = 64 * 1024;

/// The end of an error log.
pub(super) struct LastWords(String);

impl LastWords {
    /// Reads the end of a log from `from` on.
    pub(super) fn read(path: &Path, from: u64) -> Self {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            let start = from.max(file.metadata()?.len().saturating_sub(SEARCHED_BYTES));
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(SEARCHED_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        Self(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last of them, whole lines if there is more than one.
    fn tail(&self) -> &str {
        let start = self
            .0
            .ceil_char_boundary(self.0.len().saturating_sub(TAIL_BYTES));
        let text = &self.0[start..];
        let whole = text
            .split_once('\n')
            .filter(|(_, rest)| start > 0 && !rest.trim().is_empty())
            .map_or(text, |(_, rest)| rest);
        whole.trim()
    }

    /// A sentence about `it`: what it did, or what was done to it.
    pub(super) fn tell(&self, status: ExitStatus, memory_limit_bytes: u64) -> String {
        let how = in_words(status);
        let how = match self.reason(status, memory_limit_bytes) {
            Some(reason) => format!("{reason} and {how}"),
            None => how,
        };
        match self.tail() {
            "" => how,
            tail => format!("{how}; its error log ends with: {tail}"),
        }
    }

    /// What made the process end itself. Rust's runtime writes these lines.
    fn reason(&self, status: ExitStatus, memory_limit_bytes: u64) -> Option<String> {
        status.signal()?;
        if self.0.contains("has overflowed its stack") || self.0.contains("stack overflow") {
            return Some("had a stack overflow".to_owned());
        }
        let line = self.0.lines().rfind(|line| {
            line.starts_with("memory allocation of ") && line.ends_with(" bytes failed")
        })?;
        let wanted = line.split(' ').nth(3).unwrap_or("more");
        Some(if memory_limit_bytes == 0 {
            format!("got no memory when it wanted {wanted} bytes more")
        } else {
            format!(
                "wanted {wanted} bytes more than its limit of {} MiB has room for (raise taskmanager.memory.process.size or lower taskmanager.numberOfTaskSlots)",
                memory_limit_bytes >> 20
            )
        })
    }
}

fn in_words(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exited with code {code}");
    }
    let signal = status.signal().unwrap_or(0);
    let name = match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("was killed by signal {signal}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, status: i32) -> String {
        LastWords(text.to_owned()).tell(ExitStatus::from_raw(status), 96 << 20)
    }

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(told("", 101 << 8), "exited with code 101");
        assert_eq!(told("", 9), "was killed by signal 9 (SIGKILL)");
        assert_eq!(
            told("oh\n", 9),
            "was killed by signal 9 (SIGKILL); its error log ends with: oh"
        );
    }

    #[test]
    fn the_reason_is_found_before_a_long_backtrace() {
        let backtrace = "at somewhere\n".repeat(400);
        let memory = told(
            &format!("memory allocation of 7340032 bytes failed\n{backtrace}"),
            6,
        );
        assert!(
            memory.starts_with("wanted 7340032 bytes more than its limit of 96 MiB has room for"),
            "{memory}"
        );
        let stack = told("\nthread 'x' (7) has overflowed its stack\n", 6);
        assert!(
            stack.starts_with("had a stack overflow and was killed by signal 6 (SIGABRT);"),
            "{stack}"
        );
        assert!(told("thread 'x' has overflowed its stack", 0).starts_with("exited with code 0;"));
    }

    #[test]
    fn the_tail_of_a_log_is_the_last_lines_of_this_process_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.err");
        let tail = |from| LastWords::read(&path, from).tail().to_owned();
        assert_eq!(tail(0), "");
        std::fs::write(&path, "of the one before\nfirst\nlast\n").unwrap();
        assert_eq!(tail(18), "first\nlast");
        std::fs::write(&path, format!("{}\nlast\n", "x".repeat(5000))).unwrap();
        assert_eq!(tail(0), "last");
        std::fs::write(&path, "é".repeat(5000)).unwrap();
        assert_eq!(tail(0).len(), 2048);
        std::fs::write(&path, "x".repeat(200_000)).unwrap();
        assert_eq!(LastWords::read(&path, 0).0.len(), 65536);
    }
}
