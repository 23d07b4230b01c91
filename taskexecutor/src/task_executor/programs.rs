//! Which programs are in the working directory, and which are on their way.

use std::collections::BTreeSet;

use spindle_common::job_graph::ProgramArtifact;

/// Characters of a SHA-256 in hexadecimal.
const SHA256_CHARACTERS: usize = 64;

/// The programs of all jobs. One that has come stays as long as the container.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// By SHA-256.
    present: BTreeSet<String>,
    /// Few, one for each job at most.
    fetching: Vec<ProgramArtifact>,
}

/// What a job that needs a program has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it is there.
    Present,
    /// Wait for it.
    Wait,
    /// Fetch it.
    Fetch,
}

impl Programs {
    pub(super) const fn new() -> Self {
        Self {
            present: BTreeSet::new(),
            fetching: Vec::new(),
        }
    }

    pub(super) fn need(&mut self, artifact: &ProgramArtifact) -> Need {
        if self.present.contains(&artifact.sha256) {
            Need::Present
        } else if self.fetching.contains(artifact) {
            Need::Wait
        } else {
            self.fetching.push(artifact.clone());
            Need::Fetch
        }
    }

    pub(super) fn fetched(&mut self, artifact: &ProgramArtifact, success: bool) {
        self.fetching.retain(|fetching| fetching != artifact);
        if success {
            self.present.insert(artifact.sha256.clone());
        }
    }
}

/// Whether it may become the name of a file.
pub(super) fn is_sha256(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == SHA256_CHARACTERS && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hash_can_be_the_name_of_a_program() {
        assert!(is_sha256(&"0123456789abcdef".repeat(4)));
        assert!(!is_sha256(&"0123456789abcdef".repeat(3)));
        assert!(!is_sha256(&"0123456789abcde/".repeat(4)));
        assert!(!is_sha256(&"0123456789ABCDEF".repeat(4)));
    }
}
