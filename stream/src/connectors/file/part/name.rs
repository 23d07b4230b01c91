//! What part files are called.

use spindle_common::checkpoint::CheckpointId;
use spindle_common::id::JobId;
use spindle_hadoop::fs::FsPath;

use crate::connectors::file::encode::EXTENSIONS;

/// Name of the part file that a subtask has at the end of the job.
pub(super) fn part_name(subtask: u32, extension: &str) -> String {
    format!("part-{subtask:05}.{extension}")
}

/// The same of a job that goes on with the output of another: that of no other job or subtask.
pub(super) fn resumed_part_name(subtask: u32, job: JobId, extension: &str) -> String {
    format!("part-{subtask:05}-end-{job}.{extension}")
}

/// Name of the part file that a subtask closed at a checkpoint: that of no other job, subtask or checkpoint.
pub(super) fn rolled_name(
    subtask: u32,
    checkpoint: CheckpointId,
    job: JobId,
    extension: &str,
) -> String {
    format!("part-{subtask:05}-{checkpoint}-{job}.{extension}")
}

/// What a part file is called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Last {
        subtask: u32,
    },
    /// It has the name of its job in its own.
    OfJob {
        job: String,
    },
}

pub(super) fn part_of(path: &FsPath) -> Option<Part> {
    let name = path.name()?;
    let (part, extension) = name.split_once('.')?;
    if !EXTENSIONS.contains(&extension) {
        return None;
    }
    let mut fields = part.strip_prefix("part-")?.split('-');
    let subtask = fields.next()?.parse().ok()?;
    match (fields.next(), fields.next(), fields.next()) {
        (None, ..) => (name == part_name(subtask, extension)).then_some(Part::Last { subtask }),
        (Some("end"), Some(job), None) => {
            let id = job.parse().ok()?;
            let same = name == resumed_part_name(subtask, id, extension);
            same.then(|| Part::OfJob {
                job: job.to_owned(),
            })
        }
        (Some(checkpoint), Some(job), None) => {
            let checkpoint = CheckpointId(checkpoint.parse().ok()?);
            let id = job.parse().ok()?;
            let same = name == rolled_name(subtask, checkpoint, id, extension);
            same.then(|| Part::OfJob {
                job: job.to_owned(),
            })
        }
        (Some(_), ..) => None,
    }
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
        let rolled = rolled_name(3, CheckpointId(17), job, "csv");
        assert_eq!(
            part(&rolled),
            Some(Part::OfJob {
                job: job.to_string()
            })
        );
        let resumed = resumed_part_name(3, job, "csv");
        assert_eq!(
            part(&resumed),
            Some(Part::OfJob {
                job: job.to_string()
            })
        );
        assert_eq!(part("part-00003.csv"), Some(Part::Last { subtask: 3 }));
        for other in [
            "part-3.csv",
            "part-00003.xml",
            "part-00003-17.csv",
            "part-00003-017-07070707070707070707070707070707.csv",
            "part-00003-17-0707.csv",
            "part-00003-end-0707.csv",
            "notes.txt",
        ] {
            assert_eq!(part(other), None, "{other}");
        }
    }
}
