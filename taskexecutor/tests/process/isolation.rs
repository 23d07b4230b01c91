//! Jobs that come to a bad end, each beside another in the same TaskExecutor, which goes on and ends right.

use spindle_common::execution::{ExecutionState, FailureClass};

use crate::program::{BEGIN, FINISH};
use crate::support::{Container, JobManager, Lease, gone};

const SICK: Lease = Lease {
    allocation: 1,
    slot: 0,
    job: 1,
};
const WELL: Lease = Lease {
    allocation: 2,
    slot: 1,
    job: 2,
};
/// What a job may use in its one slot.
const SHARE: u64 = 96 << 20;

/// A TaskExecutor with two jobs.
struct Neighbours {
    jm: JobManager,
    sick: u32,
    well: u32,
}

impl Neighbours {
    async fn start(behaviour: &str) -> Self {
        let mut jm = JobManager::start_in(Container {
            slots: 2,
            memory_bytes: (32 << 20) + 2 * SHARE,
        })
        .await;
        jm.config
            .push(("task.cancellation.timeout".to_owned(), "1 s".to_owned()));
        let well = jm.run_task(WELL, "until told").await;
        let sick = jm.run_task(SICK, behaviour).await;
        std::fs::write(jm.directory.path().join(BEGIN), "").unwrap();
        Self { jm, sick, well }
    }

    /// Waits until the sick job's worker is lost and its process gone; returns what is told.
    async fn loss(&mut self) -> String {
        let cause = self.jm.lost(SICK.job).await;
        assert_eq!(cause.class, FailureClass::Restart);
        gone(self.sick).await;
        cause.message
    }

    /// The other job was not touched, and the slot can be leased again.
    async fn others_go_on(mut self) {
        assert_eq!(self.jm.pid_of(WELL.job).await, self.well);
        std::fs::write(self.jm.directory.path().join(FINISH), "").unwrap();
        self.jm.state_of(WELL.job, ExecutionState::Finished).await;
        let next = Lease {
            allocation: 3,
            ..SICK
        };
        let again = self.jm.run_task(next, "").await;
        assert_ne!(again, self.sick);
        self.jm.shut_down().await;
    }
}

#[tokio::test]
async fn a_job_that_eats_memory_is_killed_at_its_share() {
    let mut both = Neighbours::start("eats memory").await;
    let told = both.loss().await;
    assert!(
        told.contains("was killed: it used")
            && told.contains("MiB of its limit of 96 MiB; raise taskmanager.memory.process.size"),
        "{told}"
    );
    both.others_go_on().await;
}

#[tokio::test]
async fn a_job_that_wants_too_much_memory_at_once_does_not_get_it() {
    let mut both = Neighbours::start("wants too much at once").await;
    let told = both.loss().await;
    assert!(
        told.contains("wanted 1073741824 bytes more than its limit of 96 MiB has room for"),
        "{told}"
    );
    both.others_go_on().await;
}

#[tokio::test]
async fn a_job_that_aborts_is_told_with_the_signal() {
    let mut both = Neighbours::start("aborts").await;
    let told = both.loss().await;
    assert!(told.contains("was killed by signal 6 (SIGABRT)"), "{told}");
    both.others_go_on().await;
}

#[tokio::test]
async fn a_job_that_overflows_its_stack_is_told_so() {
    let mut both = Neighbours::start("overflows its stack").await;
    let told = both.loss().await;
    assert!(
        told.contains("had a stack overflow and was killed by signal 6 (SIGABRT)")
            && told.contains("only (1/1)#0"),
        "{told}"
    );
    both.others_go_on().await;
}

#[tokio::test]
async fn a_job_that_exits_by_itself_is_told_with_its_code_and_last_words() {
    let mut both = Neighbours::start("exits").await;
    let told = both.loss().await;
    assert!(
        told.contains("exited with code 0") && told.ends_with("that is all"),
        "{told}"
    );
    both.others_go_on().await;
}

#[tokio::test]
async fn a_job_that_panics_fails_its_task_and_keeps_its_worker() {
    let mut both = Neighbours::start("panics").await;
    let failed = both.jm.state_of(SICK.job, ExecutionState::Failed).await;
    let cause = failed.cause.unwrap();
    assert_eq!(cause.class, FailureClass::Restart);
    assert!(cause.message.ends_with(": out of cheese"), "{cause}");
    assert_eq!(both.jm.pid_of(SICK.job).await, both.sick);
    both.jm.free(SICK.allocation).await;
    gone(both.sick).await;
    both.others_go_on().await;
}

#[tokio::test]
async fn a_task_that_does_not_listen_when_it_is_cancelled_takes_its_worker_along() {
    let mut both = Neighbours::start("deaf").await;
    both.jm.cancel(SICK.job).await;
    let told = both.loss().await;
    assert!(
        told.contains("did not stop within 0.8 s of being cancelled"),
        "{told}"
    );
    both.others_go_on().await;
}

#[tokio::test]
async fn a_task_that_spins_in_its_destructor_takes_its_worker_along() {
    let mut both = Neighbours::start("spins in its destructor").await;
    both.jm.cancel(SICK.job).await;
    let told = both.loss().await;
    assert!(
        told.contains("did not stop within 0.8 s of being cancelled"),
        "{told}"
    );
    both.others_go_on().await;
}

#[tokio::test]
async fn threads_that_a_job_leaks_end_with_its_worker() {
    let mut both = Neighbours::start("leaks a thread").await;
    both.jm.state_of(SICK.job, ExecutionState::Finished).await;
    assert_eq!(both.jm.pid_of(SICK.job).await, both.sick);
    both.jm.free(SICK.allocation).await;
    gone(both.sick).await;
    both.others_go_on().await;
}
