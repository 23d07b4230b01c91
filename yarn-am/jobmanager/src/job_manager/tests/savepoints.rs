//! Stories of savepoints: one source and one sink subtask on one TaskManager.

use super::checkpoints::{AGAIN, each_second, running_then};
use super::per_job;
use super::script::check;
use crate::config::JobManagerConfig;
use spindle_common::config::CheckpointConfig;

/// Where the snapshots are, as seen from here.
const STORIES: &str = "stories";

/// None by itself.
fn on_demand() -> JobManagerConfig {
    let config = each_second();
    JobManagerConfig {
        checkpoints: CheckpointConfig {
            interval: None,
            ..config.checkpoints.clone()
        },
        ..config
    }
}

/// A job that is handed in with a snapshot to begin with.
fn begun_with(setting: &str, story: &str) -> String {
    format!(
        "
        quietly
        nodes 3
        submit 1 1 execution.state-recovery.path=hdfs://nn/sp/savepoint-1
        grant c1@n1
        register c1
        {setting}
        loudly
        {story}"
    )
}

story!(
    a_savepoint_is_nobodys_checkpoint_and_what_it_prepared_waits_for_the_next,
    each_second(),
    running_then(&format!(
        "
        trigger 7 save hdfs://nn/sp/
        prepared 1 hdfs://nn/sp/savepoint-010101-0123456789ab
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        wait 1000
        prepared 2
        ack c1 src/0.0 2 at 9
        ack c1 sink/0.0 2 open
        persisted 2
        trigger 8 save hdfs://nn/sp/
        prepared 3 hdfs://nn/sp/savepoint-010101-0123456789ab
        ack c1 src/0.0 3 at 11
        ack c1 sink/0.0 3 open
        persisted 3
        fail c1 sink/0.0 Restart disk is full
        state c1 src/0.0 Canceled
        wait 100
        {AGAIN}
        cancel
        "
    ))
);

story!(
    a_savepoint_without_a_place_is_refused_and_one_that_fails_does_no_harm,
    on_demand(),
    running_then(
        "
        trigger 1 save
        trigger 2 save hdfs://nn/sp
        notprepared 1 permission denied
        trigger 3 save hdfs://nn/sp
        prepared 2 hdfs://nn/sp/savepoint-010101-0123456789ab
        decline c1 sink/0.0 2 the disk is full
        trigger 4 save hdfs://nn/sp
        prepared 3 hdfs://nn/sp/savepoint-010101-0123456789ab
        ack c1 src/0.0 3 at 5
        ack c1 sink/0.0 3 open
        notpersisted 3 the NameNode is away
        checkpoints
        "
    )
);

story!(
    a_job_stops_with_a_savepoint_that_its_next_attempt_would_find,
    each_second(),
    running_then(
        "
        trigger 1 stop hdfs://nn/sp
        trigger 2
        prepared 1 hdfs://nn/sp/savepoint-010101-0123456789ab
        wait 2000
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        persisted 1
        checkpoints
        state c1 src/0.0 Finished
        state c1 sink/0.0 AwaitingCommit
        confirmed
        state c1 sink/0.0 Finished
        checkpoints
        "
    )
);

story!(
    a_job_that_cannot_stop_goes_on_as_before,
    each_second(),
    running_then(
        "
        trigger 1 stop hdfs://nn/sp
        prepared 1 hdfs://nn/sp/savepoint-010101-0123456789ab
        ack c1 src/0.0 1 at 5
        decline c1 sink/0.0 1 the disk is full
        wait 1000
        prepared 2
        checkpoints
        "
    )
);

story!(
    a_job_whose_savepoint_cannot_be_noted_goes_on_as_before,
    each_second(),
    running_then(
        "
        trigger 1 drain hdfs://nn/sp
        prepared 1 hdfs://nn/sp/savepoint-010101-0123456789ab
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        notpersisted 1 the NameNode is away
        discarded 1
        wait 1000
        prepared 2
        checkpoints
        "
    )
);

story!(
    a_job_that_fails_while_it_stops_goes_on_from_the_savepoint,
    on_demand(),
    running_then(&format!(
        "
        trigger 1 stop hdfs://nn/sp
        prepared 1 hdfs://nn/sp/savepoint-010101-0123456789ab
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        persisted 1
        state c1 src/0.0 Finished
        fail c1 sink/0.0 Restart the NameNode is away
        checkpoints
        wait 100
        {AGAIN}
        "
    ))
);

story!(
    a_job_begins_with_a_snapshot_until_it_has_its_own,
    each_second(),
    begun_with(
        "",
        &format!(
            "
            offer c1 1
            notloaded NameNode does not answer
            wait 2000
            loaded hdfs://nn/sp/savepoint-1 src:5 sink:open
            {AGAIN}
            fail c1 sink/0.0 Restart disk is full
            state c1 src/0.0 Canceled
            wait 100
            {AGAIN}
            wait 1000
            prepared 1
            ack c1 src/0.1 1 at 5
            ack c1 sink/0.1 1 open
            persisted 1
            fail c1 sink/0.1 Restart disk is full
            state c1 src/0.1 Canceled
            wait 100
            "
        )
    )
);

story!(
    a_snapshot_that_the_job_claimed_goes_when_it_has_its_own,
    each_second(),
    "
    quietly
    nodes 3
    submit 1 1 execution.state-recovery.path=hdfs://nn/sp/savepoint-1 execution.savepoint-restore-mode=CLAIM
    grant c1@n1
    register c1
    loaded hdfs://nn/sp/savepoint-1 src:5
    offer c1 1
    all Initializing
    all Running
    wait 1000
    prepared 1
    ack c1 src/0.0 1 at 5
    ack c1 sink/0.0 1 open
    loudly
    persisted 1
    "
);

story!(
    a_snapshot_with_state_of_operators_that_are_gone_is_refused,
    per_job_with_checkpoints(),
    begun_with(
        "",
        "
        loaded hdfs://nn/sp/savepoint-1 src:5 count:3
        offer c1 1
        "
    )
);

story!(
    state_of_operators_that_are_gone_is_left_behind_if_allowed,
    per_job_with_checkpoints(),
    "
    quietly
    nodes 3
    submit 1 1 execution.state-recovery.path=hdfs://nn/sp/1 execution.state-recovery.ignore-unclaimed-state=true
    grant c1@n1
    register c1
    loaded hdfs://nn/sp/1 src:5 count:3
    loudly
    offer c1 1
    "
);

story!(
    a_job_whose_snapshot_is_not_there_fails_with_the_reason,
    per_job_with_checkpoints(),
    begun_with(
        "",
        "nosnapshot there is no `_metadata` in hdfs://nn/sp/savepoint-1"
    )
);

fn per_job_with_checkpoints() -> JobManagerConfig {
    let config = per_job();
    JobManagerConfig {
        checkpoints: on_demand().checkpoints,
        ..config
    }
}
