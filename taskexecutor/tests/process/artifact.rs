//! Programs that are not in the container from the start.

use std::fs::File;

use sha2::{Digest as _, Sha256};
use spindle_common::execution::{ExecutionState, FailureClass};
use spindle_common::gateway::ToJobManager;
use spindle_common::id::AllocationId;
use spindle_common::job_graph::ProgramArtifact;

use crate::support::{Container, JobManager, Lease};

/// This test's executable, as a client would have uploaded it.
fn uploaded() -> ProgramArtifact {
    let path = std::env::current_exe().unwrap();
    let mut hash = Sha256::new();
    let size = std::io::copy(&mut File::open(&path).unwrap(), &mut HashWriter(&mut hash)).unwrap();
    ProgramArtifact {
        uri: format!("file://{}", path.display()),
        size,
        sha256: hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lease(n: u8) -> Lease {
    Lease {
        allocation: u64::from(n),
        slot: u32::from(n) - 1,
        job: n,
    }
}

async fn two_slots() -> JobManager {
    let mut jm = JobManager::start_in(Container {
        slots: 2,
        ..Container::default()
    })
    .await;
    std::fs::remove_file(jm.directory.path().join("job")).unwrap();
    jm.artifact = Some(uploaded());
    jm
}

#[tokio::test]
async fn two_jobs_run_the_program_that_was_fetched_for_both() {
    let mut jm = two_slots().await;
    jm.request(lease(1), "").await;
    jm.request(lease(2), "").await;
    let mut offers = 0;
    let both = |message| {
        offers += u32::from(matches!(message, ToJobManager::OfferSlot { .. }));
        (offers == 2).then_some(())
    };
    jm.next("the offers of both slots", both).await;
    let programs = std::fs::read_dir(jm.directory.path().join("programs")).unwrap();
    let names: Vec<_> = programs.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [jm.artifact.take().unwrap().sha256.as_str()]);
    assert_eq!(jm.log().matches("program fetched").count(), 1);
    jm.shut_down().await;
}

#[tokio::test]
async fn a_program_that_is_not_the_one_submitted_fails_its_job_alone() {
    let mut jm = two_slots().await;
    jm.run_task(lease(2), "").await;
    let right = uploaded();
    let wrong = "0".repeat(64);
    jm.artifact.as_mut().unwrap().sha256.clone_from(&wrong);
    jm.request(lease(1), "").await;
    let (allocation, cause) = jm.refused().await;
    assert_eq!(
        (allocation, cause.class),
        (AllocationId(1), FailureClass::FailJob)
    );
    assert!(
        cause.message.contains(&right.sha256) && cause.message.contains(&wrong),
        "{cause}"
    );
    jm.artifact = Some(right);
    jm.run_task(lease(1), "").await;
    jm.cancel(2).await;
    jm.state_of(2, ExecutionState::Canceled).await;
    jm.shut_down().await;
}
