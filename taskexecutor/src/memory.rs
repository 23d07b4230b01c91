//! Memory of processes: how much one has, from Linux's `/proc`, and how much it may ask for.

use std::fs;
use std::io;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// What a process may ask for beyond what it may use: stacks of threads and the gaps of an allocator are asked for and not used.
const UNUSED: u64 = 64 << 20;

/// Resident memory of a process in bytes; 0 if it is not there any more.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let page = rustix::param::page_size() as u64;
    fs::read_to_string(format!("/proc/{pid}/statm")).map_or(0, |statm| pages(&statm) * page)
}

fn pages(statm: &str) -> u64 {
    let second = statm.split_ascii_whitespace().nth(1);
    second.and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Lets a process that may use `bytes` ask for not much more, so that one that suddenly wants too much fails by itself, before it
/// takes the memory of others. 0 changes nothing.
///
/// # Errors
/// If it is not there any more, or the system does not allow it.
pub(crate) fn limit(pid: u32, bytes: u64) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if bytes == 0 || pid.is_none() {
        return Ok(());
    }
    let current = Some(bytes.saturating_add(bytes / 4).saturating_add(UNUSED));
    let maximum = rustix::process::getrlimit(Resource::Data).maximum;
    let current = current.min(maximum.or(current));
    prlimit(pid, Resource::Data, Rlimit { current, maximum })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_size_is_the_second_number_in_pages() {
        assert_eq!(pages("900 384 300 1 0 200 0\n"), 384);
        assert_eq!(pages(""), 0);
        assert!(resident_bytes(std::process::id()) > 1 << 20);
        assert_eq!(resident_bytes(u32::MAX), 0);
    }
    #[test]
    fn a_process_may_ask_for_a_little_more_than_it_may_use_and_later_for_more_than_before() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let limited = |bytes: u64| {
            limit(child.id(), bytes).unwrap();
            let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
            let data = limits
                .lines()
                .find_map(|line| line.strip_prefix("Max data size"));
            let soft = data.unwrap().split_ascii_whitespace().next().unwrap();
            soft.parse::<u64>().unwrap() >> 20
        };
        let (first, second) = (limited(100 << 20), limited(200 << 20));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((first, second), (125 + 64, 250 + 64));
    }
}
