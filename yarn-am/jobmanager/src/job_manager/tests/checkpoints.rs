//! Stories of checkpoints: one source and one sink subtask on one TaskManager, unless they say otherwise.

use std::time::Duration;

use spindle_common::config::{CheckpointConfig, CheckpointRetention, RestartConfig};
use spindle_common::id::FencingToken;

use super::per_job;
use super::script::check;
use crate::config::JobManagerConfig;

/// Where the snapshots are, as seen from here.
const STORIES: &str = "stories";

/// One every second, of which one may fail.
pub(super) fn each_second() -> JobManagerConfig {
    let config = per_job();
    JobManagerConfig {
        checkpoints: CheckpointConfig {
            interval: Some(Duration::from_secs(1)),
            min_pause: Duration::from_millis(200),
            timeout: Duration::from_secs(10),
            tolerable_failures: 1,
            directory: Some("hdfs:///cp/".to_owned()),
            ..config.checkpoints.clone()
        },
        restart: RestartConfig::FixedDelay {
            attempts: 3,
            delay: Duration::from_millis(100),
        },
        epoch_ms: 1_000_000,
        // Nobody in these stories reports.
        heartbeat_timeout: Duration::from_secs(3600),
        ..config
    }
}

fn with(change: impl FnOnce(&mut CheckpointConfig)) -> JobManagerConfig {
    let mut config = each_second();
    change(&mut config.checkpoints);
    config
}

pub(super) fn running_then(story: &str) -> String {
    format!(
        "
        quietly
        nodes 3
        submit 1
        grant c1@n1
        register c1
        offer c1 1
        all Initializing
        all Running
        loudly
        {story}"
    )
}

/// The tasks of the next attempt run.
pub(super) const AGAIN: &str = "
    quietly
    all Initializing
    all Running
    loudly";

story!(
    a_checkpoint_is_complete_only_when_its_metadata_is_durable,
    each_second(),
    running_then(
        "
        wait 999
        wait 1
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        wait 500
        persisted 1
        persisted 1
        wait 1000
        prepared 2
        ack c1 sink/0.0 2 open
        ack c1 src/0.0 2 at 9
        persisted 2
        discarded 1
        "
    )
);

story!(
    a_job_that_fails_begins_with_the_newest_complete_checkpoint,
    each_second(),
    running_then(&format!(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        wait 1000
        prepared 2
        ack c1 src/0.0 2 at 9
        fail c1 sink/0.0 Restart disk is full
        ack c1 sink/0.0 2 late
        state c1 src/0.0 Canceled
        wait 100
        ack c1 sink/0.0 2 late
        {AGAIN}
        wait 1000
        prepared 3
        ack c1 src/0.0 3 of the attempt before
        ack c1 src/0.1 3 at 8
        "
    ))
);

story!(
    a_job_does_not_restart_before_it_is_known_whether_its_last_checkpoint_is_complete,
    each_second(),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        fail c1 sink/0.0 Restart disk is full
        state c1 src/0.0 Canceled
        wait 5000
        persisted 1
        "
    )
);

story!(
    a_checkpoint_that_may_be_complete_though_it_failed_is_gone_before_the_job_restarts,
    each_second(),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        fail c1 sink/0.0 Restart disk is full
        state c1 src/0.0 Canceled
        notpersisted 1 the NameNode does not answer
        wait 1000
        notdiscarded 1 the NameNode does not answer
        wait 2000
        discarded 1
        "
    )
);

story!(
    failures_are_told_in_words_and_too_many_in_a_row_restart_the_job,
    each_second(),
    running_then(
        "
        wait 1000
        notprepared 1 permission denied
        wait 1000
        prepared 2
        ack c1 src/0.0 2 at 5
        ack c1 sink/0.0 2 open
        persisted 2
        wait 1000
        prepared 3
        decline c1 sink/0.0 3 the disk is full
        ack c1 src/0.0 3 at 5
        wait 1000
        prepared 4
        ack c1 src/0.0 4 at 5
        wait 10000
        "
    )
);

story!(
    no_checkpoint_is_begun_once_all_sources_are_done,
    with(|config| config.retention = CheckpointRetention::Retain),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        state c1 src/0.0 Finished
        wait 5000
        ack c1 sink/0.0 1 open
        state c1 sink/0.0 AwaitingCommit
        confirmed
        state c1 sink/0.0 Finished
        persisted 1
        "
    )
);

story!(
    what_is_kept_of_a_job_that_is_cancelled_is_what_was_asked_for,
    with(|config| config.retention = CheckpointRetention::Retain),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        wait 1000
        prepared 2
        cancel by a user
        all Canceled
        "
    )
);

story!(
    the_next_attempt_starts_from_what_the_one_before_left,
    JobManagerConfig {
        fencing: FencingToken(2),
        ..each_second()
    },
    "
    nodes 3
    submit 1
    grant c1@n1
    register c1 fencing=2
    notdiscovered the NameNode does not answer
    offer c1 1
    wait 2000
    discovered 7 6 damaged 8 incomplete 9
    wait 1000
    discarded 9
    quietly
    all Initializing
    all Running
    loudly
    wait 1000
    "
);

story!(
    a_job_falls_back_to_the_checkpoint_before_a_damaged_one_and_fails_if_there_is_none,
    JobManagerConfig {
        fencing: FencingToken(2),
        ..with(|config| config.num_retained = 2)
    },
    "
    quietly
    nodes 3
    submit 1
    grant c1@n1
    register c1 fencing=2
    discovered 6 7
    offer c1 1
    loudly
    fail c1 src/0.65536 Fallback part-1 of chk-7 is damaged
    fail c1 sink/0.65536 Fallback part-2 of chk-7 is damaged
    wait 100
    fail c1 src/0.65537 Fallback part-1 of chk-6 is damaged
    state c1 sink/0.65537 Canceled
    "
);

story!(
    a_checkpoint_is_taken_when_somebody_asks_for_it,
    with(|config| config.interval = None),
    running_then(
        "
        wait 60000
        trigger 7
        prepared 1
        trigger 8
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        prepared 2
        wait 10000
        "
    )
);

/// Two source and two sink subtasks.
fn two_running_then(edge: &str, story: &str) -> String {
    format!(
        "
        quietly
        nodes 3
        submit 2 1 edge={edge}
        grant c1@n1 c2@n2
        register c1
        register c2
        offer c1 1
        offer c2 2
        all Initializing
        all Running
        loudly
        {story}"
    )
}

story!(
    checkpoints_go_on_when_a_source_has_finished_and_its_subtask_stays_so,
    each_second(),
    two_running_then(
        "hash",
        &format!(
            "
        wait 1000
        prepared 1
        ack c2 src/1.0 1 at 5
        state c1 src/0.0 Finished
        ack c1 sink/0.0 1 open
        ack c2 sink/1.0 1 open
        persisted 1
        wait 1000
        prepared 2
        ack c2 src/1.0 2 at 9
        ack c1 sink/0.0 2 open
        ack c2 sink/1.0 2 open
        persisted 2
        fail c2 sink/1.0 Restart disk is full
        state c1 sink/0.0 Canceled
        state c2 src/1.0 Canceled
        wait 100
        {AGAIN}
        state c1 src/0.1 Finished
        "
        )
    )
);

story!(
    a_task_that_came_to_its_end_before_its_barrier_is_asked_for_what_it_has_to_commit,
    each_second(),
    two_running_then(
        "forward",
        &format!(
            "
        wait 1000
        prepared 1
        state c1 src/0.0 Finished
        ack c2 src/1.0 1 at 5
        ack c2 sink/1.0 1 open
        state c1 sink/0.0 AwaitingCommit
        ended c1 sink/0.0 1 part of the end
        persisted 1
        wait 1000
        prepared 2
        ended c1 sink/0.0 2 nothing more
        ack c2 src/1.0 2 at 9
        decline c2 sink/1.0 2 the disk is full
        fail c2 sink/1.0 Restart the disk is full
        state c1 sink/0.0 Canceled
        state c2 src/1.0 Canceled
        wait 100
        {AGAIN}
        state c1 src/0.1 Finished
        state c1 sink/0.1 Finished
        wait 1000
        prepared 3
        "
        )
    )
);

story!(
    a_job_of_which_a_part_had_ended_before_the_rest_came_to_run_is_checkpointed,
    each_second(),
    "
    quietly
    nodes 3
    submit 2
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Initializing
    state c1 src/0.0 Finished
    state c1 sink/0.0 Running
    state c2 sink/1.0 Running
    loudly
    state c2 src/1.0 Running
    wait 1000
    prepared 1
    ack c2 src/1.0 1 at 5
    ack c1 sink/0.0 1 open
    ack c2 sink/1.0 1 open
    "
);

story!(
    what_no_task_answers_any_more_is_given_up_when_all_are_done,
    each_second(),
    two_running_then(
        "hash",
        "
        wait 1000
        prepared 1
        state c1 src/0.0 Finished
        state c2 src/1.0 Finished
        trigger 7
        state c1 sink/0.0 AwaitingCommit
        state c2 sink/1.0 AwaitingCommit
        ended c1 sink/0.0 1 late
        "
    )
);
