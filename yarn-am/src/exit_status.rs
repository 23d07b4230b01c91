//! How a container ended, in words. YARN: `ContainerExitStatus`.

use spindle_hadoop::proto::yarn as pb;

/// Longest piece of a container's own words that is repeated, in characters.
const TAIL: usize = 600;
/// Lines of its error log that are repeated.
const TAIL_LINES: usize = 8;

const MEMORY_HINT: &str = "raise taskmanager.memory.process.size";

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// In words.
    pub reason: String,
    /// Whether it is no fault of what ran in it.
    pub platform: bool,
}

/// Reads a completed container's status.
pub fn describe(status: &pb::ContainerStatus) -> Ending {
    let diagnostics = status.diagnostics();
    let tail = tail(diagnostics);
    let with_tail = |text: String| match &tail {
        Some(tail) => format!("{text}: {tail}"),
        None => text,
    };
    let (reason, platform) = match status.exit_status() {
        0 => ("it ended by itself with exit code 0".to_owned(), false),
        -100 if diagnostics.contains("lost") => ("its node was lost".to_owned(), true),
        -100 => ("YARN took it back before it was started".to_owned(), true),
        -101 => ("the disks of its node failed".to_owned(), true),
        -102 => ("it was pre-empted by the scheduler".to_owned(), true),
        -103 => (
            with_tail(format!(
                "it was killed for its virtual memory; {MEMORY_HINT} or yarn.nodemanager.vmem-pmem-ratio"
            )),
            false,
        ),
        -104 => (
            with_tail(format!(
                "it was killed for using more memory than its container has; {MEMORY_HINT}"
            )),
            false,
        ),
        -105 => ("it was stopped by the ApplicationMaster".to_owned(), true),
        -106 => ("it was killed by the ResourceManager".to_owned(), true),
        -107 => ("it was killed as the application is over".to_owned(), true),
        -108 => (
            "it was killed by the scheduler of its node".to_owned(),
            true,
        ),
        -109 => (
            "it was killed for writing too much into its logs".to_owned(),
            false,
        ),
        -1000 => (with_tail("it could not be prepared".to_owned()), false),
        126 => (
            with_tail("its executable cannot be run on that machine (exit code 126)".to_owned()),
            false,
        ),
        127 => (
            with_tail("its executable was not found (exit code 127)".to_owned()),
            false,
        ),
        137 => (
            with_tail(
                "it was killed by signal 9: the kernel, short of memory, or somebody did it"
                    .to_owned(),
            ),
            false,
        ),
        143 => (with_tail("it was ended by signal 15".to_owned()), false),
        154 => (
            "its NodeManager restarted and lost sight of it".to_owned(),
            true,
        ),
        code @ 129..=192 => (
            with_tail(format!("it was ended by signal {}", code - 128)),
            false,
        ),
        code => (with_tail(format!("it ended with exit code {code}")), false),
    };
    Ending { reason, platform }
}

/// What the diagnostics tell beside the code: the end of the error log, else the first sentence that is not YARN's own wrapping.
fn tail(diagnostics: &str) -> Option<String> {
    let logs = diagnostics
        .rfind("Last ")
        .and_then(|at| diagnostics[at..].split_once(":\n"))
        .map(|(_, log)| log)
        .filter(|log| !log.trim().is_empty());
    let text = match logs {
        Some(log) => {
            let lines: Vec<&str> = meaningful(log).collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("; ")
        }
        None => meaningful(diagnostics)
            .find(|line| {
                ![
                    "Exception from container-launch",
                    "Container id:",
                    "Exit code:",
                    "Shell output",
                    "Last ",
                    "N/A",
                ]
                .iter()
                .any(|own| line.starts_with(own))
            })?
            .to_owned(),
    };
    let start = text
        .char_indices()
        .rev()
        .nth(TAIL - 1)
        .map_or(0, |(at, _)| at);
    Some(text[start..].to_owned()).filter(|text| !text.is_empty())
}

/// Lines with something in them, without the time that the NodeManager writes in front.
fn meaningful(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((time, rest)) if time.starts_with(|c: char| c.is_ascii_digit()) => rest,
            Some(_) | None => line,
        };
        Some(line.trim()).filter(|line| !line.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(code: i32, diagnostics: &str) -> Ending {
        describe(&pb::ContainerStatus {
            exit_status: Some(code),
            diagnostics: Some(diagnostics.to_owned()),
            ..Default::default()
        })
    }

    #[test]
    fn the_end_of_the_error_log_is_repeated() {
        let diagnostics = "[2026-01-01 10:00:00.123]Exception from container-launch.\nContainer id: container_1\nExit code: 3\n\n\
            [2026-01-01 10:00:00.124]Container exited with a non-zero exit code 3. Error file: prelaunch.err.\n\
            Last 4096 bytes of prelaunch.err :\nLast 4096 bytes of taskexecutor.stderr :\nerror: cannot connect\n\n  cause: refused\n";
        assert_eq!(
            ending(3, diagnostics),
            Ending {
                reason: "it ended with exit code 3: error: cannot connect; cause: refused"
                    .to_owned(),
                platform: false,
            }
        );
    }

    #[test]
    fn a_container_killed_for_memory_says_so_and_what_to_raise() {
        let diagnostics = "[2026-01-01 10:00:00.123]Container [pid=1] is running 1024B beyond the 'PHYSICAL' memory limit.\nDump of the process-tree";
        let Ending { reason, platform } = ending(-104, diagnostics);
        assert!(!platform);
        assert!(
            reason.contains("more memory than its container has")
                && reason.contains("taskmanager.memory.process.size"),
            "{reason}"
        );
        assert!(
            reason.ends_with("beyond the 'PHYSICAL' memory limit."),
            "{reason}"
        );
    }

    #[test]
    fn what_the_platform_did_is_not_held_against_the_job() {
        for (code, text, words) in [
            (-100, "Container released by application", "took it back"),
            (-100, "Container released on a *lost* node", "node was lost"),
            (-101, "", "disks"),
            (-102, "", "pre-empted"),
            (-106, "", "ResourceManager"),
            (154, "", "NodeManager restarted"),
        ] {
            let ending = ending(code, text);
            assert!(ending.platform, "{code}");
            assert!(ending.reason.contains(words), "{}", ending.reason);
        }
    }

    #[test]
    fn signals_and_failed_preparations_are_told_apart() {
        assert!(ending(137, "").reason.contains("signal 9"));
        assert_eq!(ending(134, "").reason, "it was ended by signal 6");
        assert_eq!(
            ending(
                -1000,
                "[2026-01-01 10:00:00.123]File does not exist: hdfs://nn/x\n\tat java"
            )
            .reason,
            "it could not be prepared: File does not exist: hdfs://nn/x"
        );
        assert_eq!(ending(1, "N/A").reason, "it ended with exit code 1");
    }

    #[test]
    fn a_long_tail_is_cut_at_its_front_between_characters() {
        let reason = ending(
            1,
            &format!("Last 4096 bytes of x.stderr :\n{}end", "é".repeat(2000)),
        )
        .reason;
        assert!(
            reason.ends_with("éend") && reason.chars().count() < TAIL + 40,
            "{reason}"
        );
    }
}
