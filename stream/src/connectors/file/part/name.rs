//! What part files are called.

use spindle_common::checkpoint::CheckpointId;
use spindle_common::id::JobId;
use spindle_hadoop::fs::FsPath;

use crate::connectors::file::encode::is_extension;

/// Name of the part file that a subtask has at the end of the job.
pub(super) fn part_name(subtask: u32, extension: &str) -> String {
    format!("part-{subtask:05}.{extension}")
}

/// What a subtask wrote that has a name of its own: no other job, subtask or time has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Before this checkpoint, and after the one before.
    Checkpoint(CheckpointId),
    /// After the last checkpoint.
    End,
}

/// Name of the n-th of the part files that a subtask wrote in this time, from 0.
pub(super) fn numbered_name(
    subtask: u32,
    since: Since,
    n: usize,
    job: JobId,
    extension: &str,
) -> String {
    let since = match since {
        Since::Checkpoint(checkpoint) => checkpoint.to_string(),
        Since::End => "end".to_owned(),
    };
    let number = match n {
        0 => String::new(),
        n => format!("-{n}"),
    };
    format!("part-{subtask:05}-{since}{number}-{job}.{extension}")
}

/// What a part file is called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// `part-00003.csv`
    Last { subtask: u32 },
    /// It has the name of its job in its own.
    OfJob {
        subtask: u32,
        job: JobId,
        since: Since,
    },
}

pub(super) fn part_of(path: &FsPath) -> Option<Part> {
    let name = path.name()?;
    let (part, extension) = name.split_once('.')?;
    if !is_extension(extension) {
        return None;
    }
    let mut fields = part.strip_prefix("part-")?.split('-');
    let subtask = fields.next()?.parse().ok()?;
    let Some(since) = fields.next() else {
        return (name == part_name(subtask, extension)).then_some(Part::Last { subtask });
    };
    let since = match since {
        "end" => Since::End,
        checkpoint => Since::Checkpoint(CheckpointId(checkpoint.parse().ok()?)),
    };
    let (n, job) = match (fields.next()?, fields.next()) {
        (job, None) => (0, job),
        (n, Some(job)) => (n.parse().ok()?, job),
    };
    let job = job.parse().ok()?;
    let same = name == numbered_name(subtask, since, n, job, extension);
    same.then_some(Part::OfJob {
        subtask,
        job,
        since,
    })
}

/// Whether a job of ours may have written this.
pub(in super::super) fn is_part(path: &FsPath) -> bool {
    part_of(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_files_are_known_by_their_names() {
        let part = |name: &str| part_of(&FsPath::file(&format!("/out/{name}")).unwrap());
        let job = JobId::from_bytes([7; 16]);
        for (since, n, extension) in [
            (Since::Checkpoint(CheckpointId(17)), 0, "csv"),
            (Since::Checkpoint(CheckpointId(17)), 12, "txt.gz"),
            (Since::End, 0, "parquet"),
            (Since::End, 1, "jsonl.zst"),
        ] {
            let name = numbered_name(3, since, n, job, extension);
            let known = Part::OfJob {
                subtask: 3,
                job,
                since,
            };
            assert_eq!(part(&name), Some(known), "{name}");
        }
        for last in ["part-00003.csv", "part-00003.csv.zst"] {
            assert_eq!(part(last), Some(Part::Last { subtask: 3 }));
        }
        for other in [
            "part-3.csv",
            "part-00003.xml",
            "part-00003.csv.bz2",
            "part-00003.parquet.gz",
            "part-00003.gz",
            "part-00003-17.csv",
            "part-00003-017-07070707070707070707070707070707.csv",
            "part-00003-17-0-07070707070707070707070707070707.csv",
            "part-00003-17-1-2-07070707070707070707070707070707.csv",
            "part-00003-17-0707.csv",
            "part-00003-end-0707.csv",
            "notes.txt",
        ] {
            assert_eq!(part(other), None, "{other}");
        }
    }
}
