//! What this process tells of itself and its workers when it is asked: log files and threads.
//!
//! A file is read only if a listing of the log directory names it as a regular file: no name leads elsewhere.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use spindle_common::gateway::{Inquiry, InquiryAnswer, LogFile, MAX_SHOWN_LOG, ThreadDump};

/// Threads that are told of at most, of all processes together.
const MAX_THREADS: usize = 2000;

/// The answer to a question. Reads files and `/proc`; `processes` are those whose threads are of interest, with what they are.
pub(crate) fn answer(what: &Inquiry, log_dir: &Path, processes: &[(u32, String)]) -> InquiryAnswer {
    let answer = match what {
        Inquiry::Logs => list(log_dir).map(InquiryAnswer::Logs),
        Inquiry::LogFile { name } => show(log_dir, name),
        Inquiry::Threads => Ok(InquiryAnswer::Threads(threads(processes))),
    };
    answer.unwrap_or_else(InquiryAnswer::Failed)
}

/// Regular files only: a link may lead anywhere.
fn entries(log_dir: &Path) -> Result<impl Iterator<Item = DirEntry>, String> {
    let entries = fs::read_dir(log_dir)
        .map_err(|error| format!("the directory of the logs cannot be read: {error}"))?;
    let regular = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    Ok(entries.filter_map(Result::ok).filter(regular))
}

fn list(log_dir: &Path) -> Result<Vec<LogFile>, String> {
    let file = |entry: DirEntry| {
        let metadata = entry.metadata().ok()?;
        let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(LogFile {
            name: entry.file_name().into_string().ok()?,
            size: metadata.len(),
            mtime_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        })
    };
    let mut files: Vec<LogFile> = entries(log_dir)?.filter_map(file).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn show(log_dir: &Path, name: &str) -> Result<InquiryAnswer, String> {
    let entry = entries(log_dir)?.find(|entry| entry.file_name().to_str() == Some(name));
    let Some(entry) = entry else {
        return Err(format!("there is no log file `{name}`"));
    };
    let read = || -> io::Result<InquiryAnswer> {
        let mut file = File::open(entry.path())?;
        let from = file.metadata()?.len().saturating_sub(MAX_SHOWN_LOG);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(MAX_SHOWN_LOG).read_to_end(&mut bytes)?;
        Ok(InquiryAnswer::LogFile { from, bytes })
    };
    read().map_err(|error| format!("`{name}` cannot be read: {error}"))
}

/// What Linux tells of the threads of these processes; those that have ended meanwhile are left out.
fn threads(processes: &[(u32, String)]) -> Vec<ThreadDump> {
    let of = |(pid, what): &(u32, String)| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        let threads = tasks.filter_map(|task| thread(&task.ok()?.path(), what));
        threads.collect::<Vec<_>>()
    };
    processes.iter().flat_map(of).take(MAX_THREADS).collect()
}

fn thread(path: &Path, what: &str) -> Option<ThreadDump> {
    let read = |name: &str| fs::read_to_string(path.join(name)).ok();
    let name = read("comm")?.trim().to_owned();
    let id = path.file_name()?.to_str()?.to_owned();
    let stat = read("stat")?;
    let (state, user, system) = parse_stat(&stat)?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let ms = |n: u64| n * 1000 / ticks;
    let mut text = format!(
        "\"{name}\" Id={id} {} of {what}\n\tcpu: {} ms user, {} ms system\n",
        state_name(state),
        ms(user),
        ms(system)
    );
    // Where in the kernel it waits; `0` if it runs, or if nobody may know.
    if let Some(place) = read("wchan").filter(|place| !matches!(place.as_str(), "" | "0")) {
        text += &format!("\tat kernel.{place}\n");
    }
    Some(ThreadDump { name, text })
}

/// State, and time in ticks in user and in kernel mode. The name before them may hold anything, parentheses too.
fn parse_stat(stat: &str) -> Option<(char, u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let user = fields.nth(10)?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((state, user, system))
}

/// In the words of Flink's thread dumps, which are Java's.
const fn state_name(state: char) -> &'static str {
    match state {
        'R' => "RUNNABLE",
        'S' => "WAITING",
        'D' => "BLOCKED",
        'T' | 't' => "STOPPED",
        'Z' | 'X' => "TERMINATED",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_log_directory_are_shown_and_of_long_ones_the_end() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let logs = outside.path().join("logs");
        fs::create_dir(&logs).unwrap();
        fs::write(logs.join("b.log"), "two").unwrap();
        let mut long = vec![b'x'; MAX_SHOWN_LOG as usize];
        long.extend(b"end");
        fs::write(logs.join("a.log"), &long).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), logs.join("link")).unwrap();
        fs::create_dir(logs.join("folder")).unwrap();

        let InquiryAnswer::Logs(files) = answer(&Inquiry::Logs, &logs, &[]) else {
            panic!("no list");
        };
        let names: Vec<_> = files
            .iter()
            .map(|file| (file.name.as_str(), file.size))
            .collect();
        assert_eq!(names, [("a.log", long.len() as u64), ("b.log", 3)]);
        let file = |name: &str| {
            let name = name.to_owned();
            answer(&Inquiry::LogFile { name }, &logs, &[])
        };
        let bytes = b"two".to_vec();
        assert_eq!(file("b.log"), InquiryAnswer::LogFile { from: 0, bytes });
        let InquiryAnswer::LogFile { from: 3, bytes } = file("a.log") else {
            panic!("not its end");
        };
        assert!(bytes.len() as u64 == MAX_SHOWN_LOG && bytes.ends_with(b"end"));
        for name in [
            "link",
            "folder",
            "../secret",
            "",
            ".",
            "/etc/passwd",
            "c.log",
        ] {
            let InquiryAnswer::Failed(reason) = file(name) else {
                panic!("{name} is shown");
            };
            assert!(reason.contains(name), "{reason}");
        }
    }

    #[test]
    fn threads_are_told_by_their_names() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (started, running) = std::sync::mpsc::channel();
        let waiting = std::thread::Builder::new()
            .name("a (b) c".to_owned())
            .spawn(move || {
                started.send(()).unwrap();
                stopped.recv()
            });
        running.recv().unwrap();
        let processes = [
            (std::process::id(), "this test".to_owned()),
            (u32::MAX, String::new()),
        ];
        let InquiryAnswer::Threads(threads) = answer(&Inquiry::Threads, Path::new("."), &processes)
        else {
            panic!("no threads");
        };
        let found = threads.iter().find(|thread| thread.name == "a (b) c");
        let text = &found.unwrap().text;
        assert!(
            text.contains("of this test") && text.contains("ms user"),
            "{text}"
        );
        drop(stop);
        waiting.unwrap().join().unwrap().unwrap_err();
    }

    #[test]
    fn the_state_and_times_stand_behind_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20";
        assert_eq!(parse_stat(stat), Some(('S', 150, 25)));
        assert_eq!(parse_stat(""), None);
    }
}
