//! Resident memory of processes, from Linux's `/proc`.

use std::fs;

/// Resident memory of a process in bytes; 0 if it is not there any more.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |status| parse(&status))
}

fn parse(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_size_is_found_among_the_other_lines() {
        assert_eq!(
            parse("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1536 kB\nThreads:\t1\n"),
            1536 * 1024
        );
        assert_eq!(parse("Name:\tzombie\n"), 0);
        assert!(resident_bytes(std::process::id()) > 0);
    }
}
